//! Facts that are to be told of an attempt however it ends: kept in the record as they come up, and put into the evidence.

use super::Run;
use crate::outcome::Outcome;

/// Of an attempt.
const MAX_FACTS: usize = 16;
const MAX_FACT_BYTES: usize = 500;

/// How many of a list are named.
const MAX_NAMES: usize = 3;

/// The first few names, and how many there are besides.
pub(super) fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_NAMES);
    let first = names.take(MAX_NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

impl Run<'_> {
    /// Keeps a fact, which may have come from outside, once; whether it is new. It gets to the disk with the next save.
    pub(super) fn note(&mut self, fact: &str) -> bool {
        let mut fact: String = fact.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        fact = self.gate.mask(&fact).into_owned();
        fact.truncate(fact.floor_char_boundary(MAX_FACT_BYTES));
        let noted = &mut self.record.attempt.noted;
        let is_new = noted.len() < MAX_FACTS && !noted.contains(&fact);
        if is_new {
            noted.push(fact);
        }
        is_new
    }

    /// Puts the facts so far into the evidence.
    pub(super) fn tell_noted(&mut self, outcome: &mut Outcome) {
        outcome.evidence.append(&mut self.record.attempt.noted);
    }
}
