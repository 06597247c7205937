//! The record of one server's requests. Bounded, oldest out first.

use std::collections::VecDeque;

use crate::recorded::{Answer, Recorded};

/// Requests kept for each server.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of bodies kept for each server.
const MAX_BYTES: usize = 64 << 20;

/// The requests of one server.
#[derive(Debug, Default)]
pub(crate) struct Record {
    entries: VecDeque<Recorded>,
    next_id: u64,
    bytes: usize,
}

impl Record {
    /// Adds a request under the next id, and returns that.
    pub(crate) fn push(&mut self, mut request: Recorded) -> u64 {
        request.id = self.next_id;
        self.next_id += 1;
        self.bytes += request.body.len();
        self.entries.push_back(request);
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.body.len();
        }
        self.next_id - 1
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Recorded> {
        let first = self.entries.front()?.id;
        self.entries.get_mut(usize::try_from(id.checked_sub(first)?).ok()?)
    }

    /// Nobody answers any more what is not answered yet.
    pub(crate) fn close_pending(&mut self) {
        for request in self.entries.iter_mut().filter(|request| request.answer == Answer::Pending) {
            request.answer = Answer::Reset;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Recorded> {
        self.entries.iter()
    }
}
