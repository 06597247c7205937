//! Keeps secrets out of what is shown. The job's secrets go in, and text in pieces; the same text comes out with `***` for each
//! form of a secret, in one pass, whatever the number of forms. A form that is cut by the end of a piece is held back until the next
//! piece tells what it is. Newlines stay, so that lines keep their numbers.

mod forms;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use vmjob_logs::{Begun, Finder, FinderState};

use self::forms::forms;

const STARS: &[u8] = b"***";
/// Of a form that the end of a text cuts off, so many letters are not shown.
const MIN_CUT_BYTES: usize = 4;

/// All forms of the secrets. It has no `Debug` and no `Display`.
pub struct Masker(Finder);

impl Masker {
    /// So much can be masked, in bytes of secrets that differ: what they turn into takes some fifty times as much memory.
    pub const MAX_BYTES: usize = 512 * 1024;

    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let distinct: BTreeSet<&str> = secrets.into_iter().collect();
        Self(Finder::new(distinct.into_iter().flat_map(forms).collect()))
    }

    /// A whole text, masked.
    pub fn mask(&self, text: &str) -> String {
        let mut course = Course::default();
        course.take(&self.0, text.as_bytes());
        let mut masked = Vec::new();
        course.pass(&self.0, text.as_bytes(), true, &mut masked);
        // Whole characters were replaced by whole ones: every form is UTF-8.
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// Whether a secret is long enough to be told from other text.
    pub fn can_mask(secret: &str) -> bool {
        forms::is_long_enough(secret.trim())
    }
}

/// How far the masking of a stream has come.
#[derive(Default)]
struct Course {
    state: FinderState,
    /// The beginning of some form, held back until it is known whether the rest comes.
    held: Vec<u8>,
    /// What is hidden and has not been passed on, from where to where in the stream: apart from one another, and in order.
    hidden: VecDeque<(u64, u64)>,
    /// Whether the line ends with stars so far, which stand for whatever hidden bytes follow.
    is_starred: bool,
}

impl Course {
    /// Looks through the next piece.
    fn take(&mut self, finder: &Finder, piece: &[u8]) {
        let Self { state, hidden, .. } = self;
        finder.find(state, piece, &mut |from, to| hide(hidden, from, to));
    }

    /// Whether nothing is hidden or held back.
    fn is_clear(&self, finder: &Finder) -> bool {
        self.hidden.is_empty() && self.held.is_empty() && finder.begun(&self.state).next().is_none()
    }

    /// Appends what can be shown after `piece` was taken, or with `is_end` after all of it.
    fn pass(&mut self, finder: &Finder, piece: &[u8], is_end: bool, shown: &mut Vec<u8>) {
        let mut joined = std::mem::take(&mut self.held);
        let text = if joined.is_empty() {
            piece
        } else {
            joined.extend_from_slice(piece);
            &joined
        };
        let taken = self.state.taken();
        let base = taken - text.len() as u64;
        let begun = finder.begun(&self.state);
        let until = if is_end {
            let cut = begun.filter(|begun| begun.letters.len() >= MIN_CUT_BYTES).map(|begun| begun.from).min();
            if let Some(from) = cut {
                hide(&mut self.hidden, from, taken);
            }
            taken
        } else {
            begun.map(|begun| begun.from).min().unwrap_or(taken)
        };

        let place = |at: u64| usize::try_from(at.saturating_sub(base)).unwrap_or(usize::MAX).min(text.len());
        let mut from = base;
        while let Some((start, end)) = self.hidden.pop_front_if(|(start, _)| *start < until) {
            self.show(&text[place(from)..place(start)], shown);
            from = end.min(until);
            self.hide(&text[place(start)..place(from)], shown);
            if end > until {
                self.hidden.push_front((until, end));
            }
        }
        self.show(&text[place(from)..place(until)], shown);
        self.held = text[place(until)..].to_vec();
    }

    fn show(&mut self, text: &[u8], shown: &mut Vec<u8>) {
        if !text.is_empty() {
            shown.extend_from_slice(text);
            self.is_starred = false;
        }
    }

    fn hide(&mut self, text: &[u8], shown: &mut Vec<u8>) {
        for byte in text {
            if *byte == b'\n' {
                shown.push(b'\n');
                self.is_starred = false;
            } else if !std::mem::replace(&mut self.is_starred, true) {
                shown.extend_from_slice(STARS);
            }
        }
    }
}

/// Adds what is hidden now to what was.
fn hide(hidden: &mut VecDeque<(u64, u64)>, mut from: u64, to: u64) {
    while let Some((before, _)) = hidden.pop_back_if(|(_, end)| from <= *end) {
        from = from.min(before);
    }
    hidden.push_back((from, to));
}

/// The job's two streams as they may be shown: with the secrets masked or, where they are not known, not at all.
pub struct Masks {
    masker: Option<Arc<Masker>>,
    courses: [Course; 2],
    shown: Vec<u8>,
}

/// Where a restarted agent goes on with the masking: no byte of a secret is in it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MaskPlace([CoursePlace; 2]);

/// What is held back are the letters of a form, which are not in here, and what is between them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct CoursePlace {
    state: FinderState,
    held_bytes: usize,
    between: Vec<u8>,
    hidden: VecDeque<(u64, u64)>,
    is_starred: bool,
}

impl CoursePlace {
    fn of(course: &Course, finder: &Finder) -> Self {
        let Course { state, held, hidden, is_starred } = course;
        let begun = first_begun(finder, state);
        let base = state.taken() - held.len() as u64;
        let is_between = |at: u64| begun.as_ref().is_none_or(|begun| letter_at(begun, at).is_none());
        let between = (base..).zip(held).filter(|(at, _)| is_between(*at)).map(|(_, byte)| *byte).collect();
        let (state, hidden) = (state.clone(), hidden.clone());
        Self { state, held_bytes: held.len(), between, hidden, is_starred: *is_starred }
    }

    fn restored(self, finder: &Finder) -> Course {
        let Self { state, held_bytes, between, hidden, is_starred } = self;
        let state = finder.checked(state);
        let begun = first_begun(finder, &state);
        let base = state.taken().saturating_sub(held_bytes as u64);
        let mut between = between.into_iter();
        let letter = |at| begun.as_ref().and_then(|begun| letter_at(begun, at));
        let held = (base..state.taken()).map_while(|at| letter(at).or_else(|| between.next())).collect();
        Course { state, held, hidden, is_starred }
    }
}

/// What of a stream is held back.
fn first_begun<'a>(finder: &'a Finder, state: &'a FinderState) -> Option<Begun<'a>> {
    finder.begun(state).min_by_key(|begun| begun.from)
}

/// One that a line break has parted from the others counts as being where they begin: the last of those there is.
fn letter_at(begun: &Begun<'_>, at: u64) -> Option<u8> {
    begun.starts.iter().zip(begun.letters).rev().find(|(start, _)| **start == at).map(|(_, letter)| *letter)
}

impl Masks {
    /// Masks what `masker` knows; without one, shows nothing but the ends of lines.
    pub fn new(masker: Option<Arc<Masker>>, place: MaskPlace) -> Self {
        let courses = place.0.map(|place| masker.as_ref().map_or_else(Course::default, |m| place.restored(&m.0)));
        Self { masker, courses, shown: Vec::new() }
    }

    /// What hides the secrets in a text that is put together of what was shown.
    pub fn masker(&self) -> Option<Arc<Masker>> {
        self.masker.clone()
    }

    /// Whether there is something to be shown.
    pub fn shows_text(&self) -> bool {
        self.masker.is_some()
    }

    /// What can be shown of one of the two streams after its next piece: mostly just that.
    pub fn push<'a>(&'a mut self, stream: usize, piece: &'a [u8]) -> &'a [u8] {
        let Self { masker, courses, shown } = self;
        shown.clear();
        let Some(Masker(finder)) = masker.as_deref() else {
            shown.extend(piece.iter().filter(|byte| **byte == b'\n'));
            return shown;
        };
        let course = &mut courses[stream];
        course.take(finder, piece);
        if course.is_clear(finder) {
            course.is_starred &= piece.is_empty();
            return piece;
        }
        course.pass(finder, piece, false, shown);
        shown
    }

    /// What can be shown of it when no more will come.
    pub fn finish(&mut self, stream: usize) -> &[u8] {
        self.shown.clear();
        if let Some(Masker(finder)) = self.masker.as_deref() {
            self.courses[stream].pass(finder, b"", true, &mut self.shown);
        }
        &self.shown
    }

    pub fn place(&self) -> MaskPlace {
        let place = |course| self.masker.as_ref().map_or_else(CoursePlace::default, |m| CoursePlace::of(course, &m.0));
        MaskPlace(self.courses.each_ref().map(place))
    }
}

#[cfg(test)]
mod tests;
