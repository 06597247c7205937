//! Keeps secrets out of what is shown. The job's secrets go in, and text in pieces; the same text comes out with `***` for each
//! form of a secret, in one pass, whatever the number of forms. A form that is cut by the end of a piece is held back until the next
//! piece tells what it is. Newlines stay, so that lines keep their numbers.

mod form;
mod forms;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::{
    form::{Form, Met, Wrap},
    forms::forms,
};

const STARS: &[u8] = b"***";
/// Of a form that the end of a text cuts off, so many bytes are not shown.
const MIN_CUT_BYTES: usize = 4;

/// All forms of the secrets. It has no `Debug` and no `Display`.
pub struct Masker {
    /// In order. None is shorter than two bytes.
    forms: Vec<Form>,
    /// For each two bytes, whether a form begins with them: a quick look that nearly all text ends at.
    begins: Vec<u64>,
}

/// What a text has at some place.
struct Here {
    /// How much of it the longest form takes that begins there.
    whole: usize,
    /// Whether a longer one begins there, as far as the text goes.
    is_cut: bool,
}

impl Masker {
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<Form> = secrets.into_iter().flat_map(forms).collect();
        forms.sort_unstable();
        forms.dedup_by(|form, before| form.bytes == before.bytes);
        let mut begins = vec![0; 1 << 10];
        for form in &forms {
            let (word, bit) = place_of(form.bytes[0], form.bytes[1]);
            begins[word] |= bit;
        }
        Self { forms, begins }
    }

    /// A whole text, masked.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = Vec::new();
        self.pass(&mut Course::default(), text.as_bytes(), true, &mut masked);
        // Whole characters were replaced by whole ones: every form is UTF-8.
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// Whether a secret is long enough to be told from other text.
    pub fn can_mask(secret: &str) -> bool {
        secret.trim().len() >= forms::MIN_SECRET_BYTES
    }

    /// What begins at this place.
    fn here(&self, text: &[u8]) -> Here {
        let mut here = Here { whole: 0, is_cut: false };
        let start = &text[..text.len().min(2)];
        let from = self.forms.partition_point(|form| form.bytes.as_slice() < start);
        for form in self.forms[from..].iter().take_while(|form| form.bytes.starts_with(start)) {
            match form.meet(text) {
                Met::Whole(bytes) => here.whole = here.whole.max(bytes),
                Met::Cut(_) => here.is_cut = true,
                Met::Nothing => {}
            }
        }
        here
    }

    /// The next place, from `at` on, where a form begins, whole or cut.
    fn next(&self, text: &[u8], mut at: usize) -> Option<(usize, Here)> {
        let begins = |pair: &[u8]| {
            let (word, bit) = place_of(pair[0], pair[1]);
            self.begins[word] & bit != 0
        };
        loop {
            let pair = text.get(at..)?.windows(2).position(begins).map(|offset| at + offset);
            // The very last byte may be a beginning too.
            let place = pair.or_else(|| text.len().checked_sub(1).filter(|last| *last >= at))?;
            let here = self.here(&text[place..]);
            if here.whole > 0 || here.is_cut {
                return Some((place, here));
            }
            at = place + 1;
        }
    }

    /// Takes the next piece of a text, or with `is_end` its last, and appends what can be shown.
    fn pass(&self, course: &mut Course, piece: &[u8], is_end: bool, shown: &mut Vec<u8>) {
        let mut joined = std::mem::take(&mut course.held);
        let text = if joined.is_empty() {
            piece
        } else {
            joined.extend_from_slice(piece);
            &joined
        };
        let mut hidden = vec![(0, course.covered)];
        let mut hide = |from: usize, to: usize| match hidden.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => hidden.push((from, to)),
        };
        let (mut at, mut until) = (0, text.len());
        while let Some((place, here)) = self.next(text, at) {
            if here.whole > 0 {
                hide(place, place + here.whole);
            }
            if here.is_cut && !is_end {
                until = place;
                break;
            }
            if here.is_cut && text.len() - place >= MIN_CUT_BYTES {
                hide(place, text.len());
            }
            at = place + 1;
        }

        let mut from = 0;
        for (start, end) in hidden.iter().map(|(start, end)| (*start.min(&until), *end.min(&until))) {
            course.show(&text[from..start], shown);
            course.hide(&text[start..end], shown);
            from = end;
        }
        course.show(&text[from..until], shown);
        course.covered = hidden.last().map_or(0, |(_, end)| end.saturating_sub(until));
        if until < text.len() {
            course.held = text[until..].to_vec();
        }
    }
}

/// Where `begins` has the bit of these two bytes.
fn place_of(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair / 64, 1 << (pair % 64))
}

/// How far the masking of a stream has come.
#[derive(Default)]
struct Course {
    /// The beginning of some form, held back until it is known whether the rest comes.
    held: Vec<u8>,
    /// How much of it is part of a secret already.
    covered: usize,
    /// Whether the line ends with stars so far, which stand for whatever hidden bytes follow.
    is_starred: bool,
}

impl Course {
    fn show(&mut self, text: &[u8], shown: &mut Vec<u8>) {
        if !text.is_empty() {
            shown.extend_from_slice(text);
            self.is_starred = false;
        }
    }

    fn hide(&mut self, text: &[u8], shown: &mut Vec<u8>) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if line != b"\n" && !self.is_starred {
                shown.extend_from_slice(STARS);
                self.is_starred = true;
            }
            if line.ends_with(b"\n") {
                shown.push(b'\n');
                self.is_starred = false;
            }
        }
    }
}

/// The job's two streams as they may be shown: with the secrets masked or, where they are not known, not at all.
pub struct Masks {
    masker: Option<Arc<Masker>>,
    courses: [Course; 2],
    shown: Vec<u8>,
}

/// Where a restarted agent goes on with the masking: no byte of a secret is in it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct MaskPlace([CoursePlace; 2]);

/// What is held back is the beginning of a form: of which one, broken how, and how long.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct CoursePlace {
    form: usize,
    #[serde(default)]
    wrap: Wrap,
    held_bytes: usize,
    covered: usize,
    is_starred: bool,
}

impl Masks {
    /// Masks what `masker` knows; without one, shows nothing but the ends of lines.
    pub fn new(masker: Option<Arc<Masker>>, place: MaskPlace) -> Self {
        let held = |CoursePlace { form, wrap, held_bytes, .. }| {
            Some(masker.as_ref()?.forms.get(form)?.beginning(wrap, held_bytes))
        };
        let courses = place.0.map(|place| Course {
            held: held(place).unwrap_or_default(),
            covered: place.covered,
            is_starred: place.is_starred,
        });
        Self { masker, courses, shown: Vec::new() }
    }

    /// Whether there is something to be shown.
    pub fn shows_text(&self) -> bool {
        self.masker.is_some()
    }

    /// What can be shown of one of the two streams after its next piece: mostly just that.
    pub fn push<'a>(&'a mut self, stream: usize, piece: &'a [u8]) -> &'a [u8] {
        let course = &mut self.courses[stream];
        let is_between = course.held.is_empty() && course.covered == 0;
        if is_between && self.masker.as_ref().is_some_and(|masker| masker.next(piece, 0).is_none()) {
            course.is_starred &= piece.is_empty();
            return piece;
        }
        self.pass(stream, piece, false)
    }

    /// What can be shown of it when no more will come.
    pub fn finish(&mut self, stream: usize) -> &[u8] {
        self.pass(stream, b"", true)
    }

    fn pass(&mut self, stream: usize, piece: &[u8], is_end: bool) -> &[u8] {
        self.shown.clear();
        match &self.masker {
            Some(masker) => masker.pass(&mut self.courses[stream], piece, is_end, &mut self.shown),
            None => self.shown.extend(piece.iter().filter(|byte| **byte == b'\n')),
        }
        &self.shown
    }

    pub fn place(&self) -> MaskPlace {
        let forms = self.masker.as_ref().map_or(&[][..], |masker| &masker.forms);
        MaskPlace([0, 1].map(|stream| {
            let Course { held, covered, is_starred } = &self.courses[stream];
            let known = forms.iter().enumerate().find_map(|(index, form)| match form.meet(held) {
                Met::Cut(wrap) => Some((index, wrap)),
                _ => None,
            });
            let (form, wrap) = known.unwrap_or_default();
            CoursePlace { form, wrap, held_bytes: held.len(), covered: *covered, is_starred: *is_starred }
        }))
    }
}

#[cfg(test)]
mod tests;
