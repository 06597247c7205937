//! The forms of one kind, and how far a stream has come with them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Begun, Form, HEAD, is_invisible};

/// How many longer forms are followed at a time, from different beginnings: text that has more of them has them one in another.
const MAX_FOLLOWED: usize = 8;
/// A form that is broken sooner is known from the next line on: many a line ends with some form's first letter, and would be held
/// back until the next one comes.
const MIN_BEFORE_BREAK: usize = 2;
/// Lines that are this far apart are not of one form.
const MAX_BREAK_BYTES: u32 = 8;
const ROOT: u32 = 0;

pub(super) struct Lane {
    /// Sorted.
    forms: Vec<Box<[u8]>>,
    nodes: Vec<Node>,
    /// The root's children, by their byte.
    roots: Box<[u32; 256]>,
    breaks_lines: bool,
}

/// The beginning of a form, of up to [`HEAD`] bytes.
struct Node {
    byte: u8,
    depth: u8,
    /// The longest form, or head of one, that ends here, in bytes.
    found: u8,
    /// 0 where there is none.
    first_child: u32,
    next_sibling: u32,
    /// The node of the longest other beginning that this one ends with.
    fallback: u32,
    /// The first form that begins so.
    form: u32,
    /// Behind the last form that is longer than this head; only at the depth of [`HEAD`].
    forms_end: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LaneState {
    node: u32,
    /// Where each letter of the node is in the stream.
    starts: VecDeque<u64>,
    followed: Vec<Followed>,
    /// Behind the last letter.
    end: u64,
    /// After a backslash, which an `n` makes a line break of JSON.
    is_escaping: bool,
    /// How many bytes of line breaks came since the last letter.
    break_bytes: u32,
}

/// Forms that were met beyond their head: a range of those that are sorted, which are alike so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Followed {
    from: u32,
    to: u32,
    bytes: u32,
}

impl LaneState {
    pub(super) fn is_idle(&self) -> bool {
        self.node == ROOT && self.followed.is_empty()
    }

    pub(super) fn reset(&mut self) {
        self.node = ROOT;
        self.starts.clear();
        self.followed.clear();
        (self.is_escaping, self.break_bytes) = (false, 0);
    }

    /// Whether the byte is part of a line break: for a program, on a terminal, or in JSON.
    fn take_break(&mut self, at: u64, byte: u8) -> bool {
        if self.is_idle() {
            return false;
        }
        match (byte, std::mem::replace(&mut self.is_escaping, byte == b'\\')) {
            (b'\\' | b'\n' | b'\r', _) | (b'n', true) => self.break_bytes += 1,
            // The backslash was one of its own.
            (_, true) => {
                self.reset();
                return false;
            }
            (_, false) => return false,
        }
        if self.break_bytes > MAX_BREAK_BYTES {
            self.reset();
        } else if byte != b'\\' && self.starts.len() < MIN_BEFORE_BREAK {
            for start in &mut self.starts {
                *start = at + 1;
            }
        }
        true
    }
}

impl Lane {
    pub(super) fn new(forms: Vec<Form>, breaks_lines: bool) -> Self {
        let mut forms: Vec<Box<[u8]>> = forms.into_iter().map(|form| form.bytes.into_boxed_slice()).collect();
        forms.sort_unstable();
        // One that another begins with says nothing more, if its head is known.
        forms.dedup_by(|form, before| {
            let is_beginning = *form == *before || (before.len() >= HEAD && form.starts_with(before));
            if is_beginning {
                std::mem::swap(form, before);
            }
            is_beginning
        });
        let root =
            Node { byte: 0, depth: 0, found: 0, first_child: 0, next_sibling: 0, fallback: 0, form: 0, forms_end: 0 };
        let mut lane = Self { forms: Vec::new(), nodes: vec![root], roots: Box::new([0; 256]), breaks_lines };
        for (number, form) in (0_u32..).zip(&forms) {
            lane.plant(number, form);
        }
        lane.forms = forms;
        lane.link();
        lane
    }

    fn plant(&mut self, number: u32, form: &[u8]) {
        let mut node = ROOT;
        for (byte, depth) in form.iter().take(HEAD).zip(1..) {
            let mut child = self.child(node, *byte);
            if child == 0 {
                child = u32::try_from(self.nodes.len()).expect("forms are far smaller than 4 GiB");
                let next_sibling = std::mem::replace(&mut self.nodes[node as usize].first_child, child);
                let new = Node {
                    byte: *byte,
                    depth,
                    found: 0,
                    first_child: 0,
                    next_sibling,
                    fallback: 0,
                    form: number,
                    forms_end: 0,
                };
                self.nodes.push(new);
                if node == ROOT {
                    self.roots[usize::from(*byte)] = child;
                }
            }
            node = child;
        }
        let last = &mut self.nodes[node as usize];
        last.found = last.depth;
        if form.len() > HEAD {
            last.forms_end = number + 1;
        }
    }

    /// Finds each node's fallback, those of fewer bytes first.
    fn link(&mut self) {
        let mut queue: VecDeque<u32> = self.roots.iter().copied().filter(|node| *node > 0).collect();
        while let Some(parent) = queue.pop_front() {
            let mut child = self.nodes[parent as usize].first_child;
            while child > 0 {
                let fallback = self.next(self.nodes[parent as usize].fallback, self.nodes[child as usize].byte);
                let found = self.nodes[fallback as usize].found;
                let node = &mut self.nodes[child as usize];
                node.fallback = fallback;
                node.found = node.found.max(found);
                queue.push_back(child);
                child = node.next_sibling;
            }
        }
    }

    fn child(&self, node: u32, byte: u8) -> u32 {
        if node == ROOT {
            return self.roots[usize::from(byte)];
        }
        let mut child = self.nodes[node as usize].first_child;
        while child > 0 && self.nodes[child as usize].byte != byte {
            child = self.nodes[child as usize].next_sibling;
        }
        child
    }

    fn next(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            let child = self.child(node, byte);
            if child > 0 || node == ROOT {
                return child;
            }
            node = self.nodes[node as usize].fallback;
        }
    }

    /// The first two bytes of each form.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = (u8, u8)> {
        self.forms.iter().map(|form| (form[0], form[1]))
    }

    pub(super) fn passes_over(&self, byte: u8) -> bool {
        is_invisible(byte) || (self.breaks_lines && matches!(byte, b'\n' | b'\r' | b'\\'))
    }

    pub(super) fn take(&self, state: &mut LaneState, at: u64, byte: u8, hide: &mut dyn FnMut(u64, u64)) {
        if self.breaks_lines && state.take_break(at, byte) {
            return;
        }
        if !state.followed.is_empty() {
            state.followed.retain_mut(|followed| followed.narrow(&self.forms, byte));
            if !state.followed.is_empty() {
                hide(state.end, at + 1);
            }
        }
        state.node = self.next(state.node, byte);
        let node = &self.nodes[state.node as usize];
        state.starts.push_back(at);
        while state.starts.len() > usize::from(node.depth) {
            state.starts.pop_front();
        }
        if node.found > 0 {
            hide(state.starts[state.starts.len() - usize::from(node.found)], at + 1);
        }
        if node.forms_end > 0 && state.followed.len() < MAX_FOLLOWED {
            state.followed.push(Followed { from: node.form, to: node.forms_end, bytes: u32::from(node.depth) });
        }
        (state.end, state.break_bytes) = (at + 1, 0);
    }

    /// The state of a stream after its first `taken` bytes.
    pub(super) fn begun<'a>(&'a self, state: &'a LaneState, taken: u64) -> impl Iterator<Item = Begun<'a>> {
        let node = &self.nodes[state.node as usize];
        let letters = self.forms.get(node.form as usize).map_or(&[][..], |form| &form[..usize::from(node.depth)]);
        let begun = state.starts.front().map(|from| Begun { from: *from, letters, starts: &state.starts });
        let is_followed = !state.followed.is_empty() && state.end < taken;
        let between = is_followed.then_some(Begun { from: state.end, letters: &[], starts: &state.starts });
        begun.into_iter().chain(between)
    }

    /// Whether it can be a state of this lane's.
    pub(super) fn knows(&self, state: &LaneState) -> bool {
        let fits = |followed: &Followed| followed.from < followed.to && followed.to as usize <= self.forms.len();
        let node = self.nodes.get(state.node as usize);
        node.is_some_and(|node| usize::from(node.depth) == state.starts.len()) && state.followed.iter().all(fits)
    }
}

impl Followed {
    /// Keeps the forms that go on with `byte`; false if there is none.
    fn narrow(&mut self, forms: &[Box<[u8]>], byte: u8) -> bool {
        let range = &forms[self.from as usize..self.to as usize];
        let at = self.bytes as usize;
        if let [form] = range {
            self.bytes += 1;
            return form.get(at) == Some(&byte);
        }
        let before = range.partition_point(|form| form.get(at).is_none_or(|other| *other < byte));
        let until = range.partition_point(|form| form.get(at).is_none_or(|other| *other <= byte));
        #[expect(clippy::cast_possible_truncation, reason = "both are within the range, whose ends are `u32`")]
        let (before, until) = (before as u32, until as u32);
        (self.from, self.to, self.bytes) = (self.from + before, self.from + until, self.bytes + 1);
        before < until
    }
}
