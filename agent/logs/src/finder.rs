//! Finds known forms in a stream, in one pass: the time is linear in the stream, and the memory in the forms. Escape sequences and
//! other invisible bytes between a form's letters do not hide it, nor do line breaks where a form may be broken into lines.
//!
//! The first [`HEAD`] bytes of all forms are an automaton (Aho and Corasick, 1975). What follows a longer form's head is compared as it
//! comes, by narrowing a range of the sorted forms.

mod lane;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use self::lane::{Lane, LaneState};

/// So many bytes of a longer form are enough to know it by: they are found even where the rest does not follow.
pub(crate) const HEAD: usize = 32;
/// More invisible bytes than this between two letters end a form: what is held back is bounded.
const MAX_GAP: u32 = 128;

/// What is looked for. No shorter than two bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    pub bytes: Vec<u8>,
    /// Also found where it is broken into lines.
    pub in_lines: bool,
}

/// All forms.
pub struct Finder {
    /// Of forms in one piece, and of those in lines.
    lanes: [Lane; 2],
    /// For each two bytes, whether a form may begin with them: a quick look that nearly all text ends at.
    begins: Vec<u64>,
}

/// How far a stream has come. No byte of a form is in it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FinderState {
    /// How many bytes have been taken.
    taken: u64,
    sequence: Sequence,
    gap: u32,
    lanes: [LaneState; 2],
}

/// Where in an escape sequence the stream is. Source: ECMA-48, 5.3 and 5.4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Sequence {
    #[default]
    None,
    Begun,
    Control,
}

const ESC: u8 = 0x1b;

impl Sequence {
    /// Whether `byte` belongs to a sequence. What a string sequence holds (a title, a link) counts as text: it may be a form.
    fn takes(&mut self, byte: u8) -> bool {
        let (next, is_taken) = match (*self, byte) {
            (_, ESC) | (Self::Begun, 0x20..=0x2f) => (Self::Begun, true),
            (Self::Begun, b'[') | (Self::Control, 0x20..=0x3f) => (Self::Control, true),
            (Self::Begun, 0x30..=0x7e) | (Self::Control, 0x40..=0x7e) => (Self::None, true),
            _ => (Self::None, false),
        };
        *self = next;
        is_taken
    }
}

/// Whether a terminal shows nothing for this byte, and does not move by lines or columns either.
fn is_invisible(byte: u8) -> bool {
    matches!(byte, 0..=0x08 | 0x0b | 0x0c | 0x0e..=0x1f | 0x7f)
}

/// `text` without what [`Finder::find`] passes over.
pub fn visible(text: &[u8]) -> Vec<u8> {
    let mut sequence = Sequence::default();
    text.iter().copied().filter(|byte| !sequence.takes(*byte) && !is_invisible(*byte)).collect()
}

impl Finder {
    pub fn new(forms: Vec<Form>) -> Self {
        let (in_lines, in_one_piece): (Vec<Form>, Vec<Form>) = forms.into_iter().partition(|form| form.in_lines);
        let lanes = [Lane::new(in_one_piece, false), Lane::new(in_lines, true)];
        let mut begins = vec![0; 1 << 10];
        let mut set = |first: u8, second: u8| {
            let (word, bit) = place_of(first, second);
            begins[word] |= bit;
        };
        for second in 0..=u8::MAX {
            set(ESC, second);
        }
        for lane in &lanes {
            for (first, second) in lane.beginnings() {
                set(first, second);
                (0..=u8::MAX).filter(|byte| lane.passes_over(*byte)).for_each(|byte| set(first, byte));
            }
        }
        Self { lanes, begins }
    }

    /// Takes the next piece of a stream. `hide` is called with the beginning and the end of each find, counted from the stream's
    /// beginning, in the order of their ends.
    #[inline(never)]
    pub fn find(&self, state: &mut FinderState, piece: &[u8], hide: &mut dyn FnMut(u64, u64)) {
        let base = state.taken;
        let mut at = 0;
        while at < piece.len() {
            if state.sequence == Sequence::None && state.lanes.iter().all(LaneState::is_idle) {
                state.gap = 0;
                // The very last byte may be a beginning too.
                let pair = piece[at..].windows(2).position(|pair| {
                    let (word, bit) = place_of(pair[0], pair[1]);
                    self.begins[word] & bit != 0
                });
                at = pair.map_or(piece.len() - 1, |offset| at + offset);
            }
            self.take(state, base + at as u64, piece[at], hide);
            at += 1;
        }
        state.taken = base + piece.len() as u64;
    }

    fn take(&self, state: &mut FinderState, at: u64, byte: u8, hide: &mut dyn FnMut(u64, u64)) {
        if state.sequence.takes(byte) || is_invisible(byte) {
            state.gap += 1;
            if state.gap > MAX_GAP {
                state.lanes.iter_mut().for_each(LaneState::reset);
            }
            return;
        }
        state.gap = 0;
        for (lane, state) in self.lanes.iter().zip(&mut state.lanes) {
            lane.take(state, at, byte, hide);
        }
    }

    /// What may still become a find, and is not one so far.
    pub fn begun<'a>(&'a self, state: &'a FinderState) -> impl Iterator<Item = Begun<'a>> {
        self.lanes.iter().zip(&state.lanes).flat_map(|(lane, lane_state)| lane.begun(lane_state, state.taken))
    }

    /// `state`, or a new one where it is of another finder.
    pub fn checked(&self, state: FinderState) -> FinderState {
        let fits = self.lanes.iter().zip(&state.lanes).all(|(lane, state)| lane.knows(state));
        if fits { state } else { FinderState { taken: state.taken, ..FinderState::default() } }
    }
}

/// The beginning of a form at the end of a stream, or what no form's letters are in: that which comes after a letter of one that may go on.
pub struct Begun<'a> {
    pub from: u64,
    pub letters: &'a [u8],
    /// Where each of them is in the stream.
    pub starts: &'a VecDeque<u64>,
}

impl FinderState {
    /// How many bytes of the stream have been taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

/// Where `begins` has the bit of these two bytes.
fn place_of(first: u8, second: u8) -> (usize, u64) {
    let pair = usize::from(first) << 8 | usize::from(second);
    (pair / 64, 1 << (pair % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(finder: &Finder, text: &[u8]) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        finder.find(&mut FinderState::default(), text, &mut |from, to| found.push((from, to)));
        found
    }

    fn form(text: &str, in_lines: bool) -> Form {
        Form { bytes: text.into(), in_lines }
    }

    #[test]
    fn what_is_between_the_letters_does_not_hide_a_form() {
        let finder = Finder::new(vec![form("secret", false)]);
        for text in [
            "secret",
            "s\x1b[01;31m\x1b[Kecre\x1b[m\x1b[Kt",
            "s\x1b(Becret",
            "s\0e\0c\0r\0e\0t",
            "\x1b]0;secret",
            "\x1b[31msecret",
        ] {
            let whole = text.len() as u64;
            assert!(found(&finder, text.as_bytes()).iter().any(|(_, to)| *to == whole), "{text:?}");
        }
        for text in ["se\ncret", "sec ret", &format!("sec{}ret", "\0".repeat(200))] {
            assert_eq!(found(&finder, text.as_bytes()), [], "{text:?}");
        }
    }

    #[test]
    fn a_long_form_is_found_by_its_head_and_as_far_as_it_goes_on() {
        let long = (10..40).map(|number| number.to_string()).collect::<Vec<_>>().join("-");
        let finder = Finder::new(vec![form(&long, false), form(&long.replace("20-", "xx-"), false)]);
        for cut in [HEAD, HEAD + 1, 60, 61, 75, long.len()] {
            let text = format!("{}|", &long[..cut]);
            let to = found(&finder, text.as_bytes()).last().unwrap().1;
            assert_eq!(to, cut as u64);
        }
        assert_eq!(found(&finder, &long.as_bytes()[..HEAD - 1]), []);
    }

    /// Forms that are alike for long, and text that is alike with itself: the worst for a search that goes back.
    #[test]
    fn the_time_is_linear_in_the_text() {
        let alike = (0..5500).map(|number| form(&format!("{}{number:05}", "x".repeat(40)), number % 2 == 0));
        let finder = Finder::new(alike.chain([form(&"x".repeat(60_000), false)]).collect());
        let text = "x".repeat(2_000_000);
        // The least of three: another process may have had the core meanwhile.
        let time_of = |text: &str| {
            let runs = (0..3).map(|_| {
                let began = std::time::Instant::now();
                assert!(found(&finder, text.as_bytes()).last().unwrap().1 == text.len() as u64);
                began.elapsed().as_secs_f64()
            });
            runs.fold(f64::INFINITY, f64::min)
        };
        let (short, long) = (time_of(&text[..text.len() / 8]), time_of(&text));
        // Eight times as long: 8 times the time, where a quadratic search takes 64 times.
        assert!(long < 24.0 * short, "{long} s, {short} s for an eighth");
    }
}
