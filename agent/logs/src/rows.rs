//! The last rows of a stream as a terminal has them, while its cursor moves: what is written over, and what is erased.
//!
//! In: text and moves. Out: rows that can no longer change, as they scroll off the top. A row has no right edge: text does not wrap.

mod extent;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use self::extent::Extent;
use crate::{
    errors::MAX_LINE_BYTES,
    screen::Move,
    text::{cut_character, is_shown},
    width::{TAB, columns, is_simple, offset},
};

/// What a row has in place of invalid bytes.
const REPLACEMENT: &str = "\u{fffd}";
/// How many rows a terminal has.
pub(crate) const ROWS: usize = 100;
/// How far to the right the cursor moves without text.
const MAX_COLUMN: usize = 256;

/// A line as it is shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    /// UTF-8.
    #[serde(with = "crate::base64_bytes")]
    pub(crate) text: Vec<u8>,
    /// Number of the log line that started this row.
    pub(crate) number: u64,
    /// How much of the log was shown when it was last written.
    pub(crate) at: u64,
    /// What ended it: nothing yet, or `\n` or `\r\n`.
    pub(crate) end: String,
    /// Whether it is as it was when it was looked at for errors.
    pub(crate) is_known: bool,
    /// Whether the cursor came here in another way than by writing: then spaces at its end are nothing.
    pub(crate) is_moved: bool,
}

impl Row {
    /// What is shown of it.
    pub(crate) fn shown(&self) -> &[u8] {
        let blank = self.text.iter().rev().take_while(|byte| self.is_moved && **byte == b' ').count();
        &self.text[..self.text.len() - blank]
    }

    /// Invalid bytes would join with others that the cursor brings beside them.
    fn replace_invalid(&mut self) {
        if let Cow::Owned(text) = String::from_utf8_lossy(&self.text) {
            self.text = text.into_bytes();
        }
    }

    fn is_nothing(&self) -> bool {
        self.shown().is_empty() && (self.end.is_empty() || self.is_moved)
    }

    fn write(&mut self, column: usize, text: &[u8]) {
        self.is_known = false;
        if is_simple(&self.text) && is_simple(text) {
            let (over, rest) = text.split_at(text.len().min(self.text.len().saturating_sub(column)));
            self.text.resize(self.text.len().max(column), b' ');
            self.text[column..column + over.len()].copy_from_slice(over);
            self.text.extend_from_slice(rest);
            return;
        }
        let length = columns(&self.text, 0);
        if column < length {
            let start = self.cut(column);
            let end = self.cut(column + columns(text, column));
            self.text.splice(start..end, text.iter().copied());
        } else {
            self.text.resize(self.text.len() + column - length, b' ');
            self.text.extend_from_slice(text);
        }
    }

    /// Where a column begins in the text: what is wider and would be cut there becomes spaces.
    fn cut(&mut self, column: usize) -> usize {
        let (start, end, missing) = offset(&self.text, column);
        if missing > 0 {
            let width = columns(&self.text[start..end], column - missing);
            self.text.splice(start..end, std::iter::repeat_n(b' ', width));
            return start + missing;
        }
        start
    }

    fn erase(&mut self, from: usize, to: usize) {
        (self.is_known, self.is_moved) = (false, true);
        let length = columns(&self.text, 0);
        if from < to.min(length) {
            let (start, end) = (self.cut(from), self.cut(to.min(length)));
            self.text.splice(start..end, std::iter::repeat_n(b' ', to.min(length) - from));
            if to >= length {
                self.text.truncate(start);
            }
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Rows {
    all: Vec<Row>,
    /// Where the cursor is.
    row: usize,
    column: usize,
    saved: (usize, usize),
    /// The last row of those that scroll, where others below stay.
    bottom: Option<usize>,
    /// How many rows were ended since the cursor was last moved.
    quiet: usize,
    /// Whether the first row is the top of the screen: the screen was cleared, or the cursor was put somewhere on it.
    is_page: bool,
    /// How long the row may have become since the cursor was last moved.
    #[serde(default)]
    extent: Option<Extent>,
    /// The beginning of a character.
    #[serde(with = "crate::base64_bytes")]
    partial: Vec<u8>,
}

impl Rows {
    /// The cursor is at the end of this line.
    pub(crate) fn begin(mut row: Row) -> Self {
        row.replace_invalid();
        Self { column: columns(&row.text, 0), all: vec![row], ..Self::default() }
    }

    /// All rows, without those at the end that show nothing.
    pub(crate) fn into_rows(mut self) -> Vec<Row> {
        self.complete();
        while self.all.pop_if(|row| row.is_nothing()).is_some() {}
        self.all
    }

    pub(crate) fn rows_mut(&mut self) -> &mut [Row] {
        &mut self.all
    }

    /// Whether the rows are an ordinary log's, and nothing of the last is written yet.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet >= ROWS && self.row + 1 == self.all.len() && self.column == 0 && self.all[self.row].text.is_empty()
    }

    /// How many rows above the first a move goes to.
    pub(crate) fn missing(&self, moved: Move) -> usize {
        let up = match moved {
            Move::Control(b'A' | b'F', [n, _]) => usize::from(n.max(1)),
            Move::Escape(b'M') => 1,
            _ => 0,
        };
        if self.is_page { 0 } else { up.saturating_sub(self.row).min(ROWS - self.all.len().min(ROWS)) }
    }

    /// Puts back rows that were there before the first.
    pub(crate) fn put_back(&mut self, mut rows: Vec<Row>) {
        rows.iter_mut().for_each(Row::replace_invalid);
        (self.row, self.saved.0) = (self.row + rows.len(), self.saved.0 + rows.len());
        self.all.splice(..0, rows);
    }

    /// Writes text of the line `number` at the cursor; `at`: how much of the log was shown by then. Returns how much of it there is
    /// room for.
    pub(crate) fn write(&mut self, text: &[u8], number: u64, at: u64) -> usize {
        let row = &mut self.all[self.row];
        let extent = self.extent.get_or_insert_with(|| Extent::of(&row.text, self.column));
        let length = extent.add(text);
        let text = &text[..length];
        row.at = at;
        if row.text.is_empty() {
            row.number = number;
        }
        // Without an end at the first that is none, several are looked at at once.
        let is_plain = text.iter().fold(true, |is_plain, byte| is_plain & (0x20..0x7f).contains(byte));
        if self.partial.is_empty() && is_plain {
            row.write(self.column, text);
            self.column += text.len();
        } else {
            self.write_any(text);
        }
        length
    }

    /// Writes text that has more than plain characters in it.
    fn write_any(&mut self, text: &[u8]) {
        let mut text = [&std::mem::take(&mut self.partial)[..], text].concat();
        self.partial = text.split_off(text.len() - cut_character(&text));
        let text: String = String::from_utf8_lossy(&text).chars().filter(|c| is_shown(*c)).collect();
        for (index, part) in text.as_bytes().split(|byte| *byte == b'\t').enumerate() {
            let row = &mut self.all[self.row];
            if index > 0 {
                let next = (self.column / TAB + 1) * TAB;
                if self.column >= columns(&row.text, 0) {
                    row.write(self.column, b"\t");
                }
                self.column = next;
            }
            if !part.is_empty() {
                row.write(self.column, part);
                self.column += columns(part, self.column);
            }
        }
    }

    /// Whether the row is too long to be kept.
    pub(crate) fn is_long(&self) -> bool {
        self.extent.is_some_and(|extent| extent.bytes() > MAX_LINE_BYTES)
    }

    /// What looks like the beginning of a character is none.
    fn complete(&mut self) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.all[self.row].write(self.column, REPLACEMENT.as_bytes());
            self.column += 1;
        }
    }

    /// Ends the line. A row that scrolls off is returned.
    pub(crate) fn feed(&mut self, end: &str) -> Option<Row> {
        self.complete();
        end.clone_into(&mut self.all[self.row].end);
        self.quiet = if self.row + 1 == self.all.len() { self.quiet + 1 } else { 0 };
        (self.column, self.extent) = (0, None);
        self.index()
    }

    fn index(&mut self) -> Option<Row> {
        if self.bottom == Some(self.row) {
            self.all.insert(self.row + 1, Row::default());
            return Some(self.all.remove(0));
        }
        self.row += 1;
        if self.row < self.all.len() {
            return None;
        }
        self.all.push(Row::default());
        (self.all.len() > ROWS).then(|| {
            self.row -= 1;
            self.saved.0 = self.saved.0.saturating_sub(1);
            self.all.remove(0)
        })
    }

    /// Moves the cursor, or erases something. Rows that are no longer on the screen are returned.
    pub(crate) fn apply(&mut self, moved: Move) -> Vec<Row> {
        self.complete();
        (self.quiet, self.extent) = (0, None);
        let mut gone = Vec::new();
        match moved {
            Move::Nothing => return gone,
            Move::Return => self.column = 0,
            Move::Back => self.column = self.column.saturating_sub(1),
            Move::Escape(b'7') => self.saved = (self.row, self.column),
            Move::Escape(b'8') => self.go_to(self.saved.0, self.saved.1),
            Move::Escape(b'D') => gone.extend(self.index()),
            Move::Escape(b'E') => gone.extend(self.feed("\n")),
            Move::Escape(b'M') => self.row = self.row.saturating_sub(1),
            Move::Escape(_) => {
                gone = self.clear();
                self.go_to(0, 0);
            }
            Move::Control(last, numbers) => gone = self.control(last, numbers),
        }
        self.all[self.row].is_moved = true;
        gone
    }

    fn control(&mut self, last: u8, [n, m]: [u16; 2]) -> Vec<Row> {
        let count = usize::from(n.max(1));
        let (row, column) = (self.row, self.column);
        match last {
            b'A' => self.row = row.saturating_sub(count),
            b'F' => (self.row, self.column) = (row.saturating_sub(count), 0),
            b'B' | b'e' => self.go_to(row + count, column),
            b'E' => self.go_to(row + count, 0),
            b'C' | b'a' => self.go_to(row, column + count),
            b'D' => self.column = column.saturating_sub(count),
            b'G' | b'`' => self.go_to(row, count - 1),
            b's' => self.saved = (row, column),
            b'u' => self.go_to(self.saved.0, self.saved.1),
            b'H' | b'f' | b'd' => {
                let gone = self.begin_page();
                self.go_to(count - 1, if last == b'd' { column } else { usize::from(m.max(1)) - 1 });
                return gone;
            }
            b'r' => {
                self.bottom = (usize::from(m) > 1 && usize::from(m) < ROWS).then(|| usize::from(m) - 1);
                let gone = self.begin_page();
                self.go_to(0, 0);
                return gone;
            }
            b'J' => return self.erase_display(n),
            b'K' => match n {
                0 => self.all[row].erase(column, usize::MAX),
                1 => self.all[row].erase(0, column + 1),
                _ => self.all[row].erase(0, usize::MAX),
            },
            b'X' => self.all[row].erase(column, column + count),
            b'P' => {
                let (start, end) = (self.all[row].cut(column), self.all[row].cut(column + count));
                self.all[row].text.drain(start..end);
            }
            b'@' => {
                let start = self.all[row].cut(column);
                let room = MAX_LINE_BYTES.saturating_sub(self.all[row].text.len());
                let spaces = std::iter::repeat_n(b' ', count.min(MAX_COLUMN).min(room));
                self.all[row].text.splice(start..start, spaces);
            }
            b'L' => {
                let count = count.min(ROWS - self.all.len().min(ROWS));
                self.all.splice(row..row, std::iter::repeat_n(Row::default(), count));
            }
            b'M' => {
                self.all.drain(row..self.all.len().min(row + count));
                self.all.resize_with(self.all.len().max(row + 1), Row::default);
            }
            // Scrolls.
            b'S' => {
                let gone: Vec<Row> = self.all.drain(..count.min(self.all.len())).collect();
                self.all.resize_with(row + 1, Row::default);
                return gone;
            }
            _ => {}
        }
        Vec::new()
    }

    /// Rows that are not there yet are made.
    fn go_to(&mut self, row: usize, column: usize) {
        self.row = row.min(ROWS - 1);
        if self.all.len() <= self.row {
            self.all.resize_with(self.row + 1, Row::default);
        }
        let length = columns(&self.all[self.row].text, 0);
        self.column = column.min(length.max(MAX_COLUMN));
    }

    fn erase_display(&mut self, what: u16) -> Vec<Row> {
        match what {
            0 => {
                self.all[self.row].erase(self.column, usize::MAX);
                if self.row + 1 < self.all.len() {
                    self.all.truncate(self.row + 1);
                    self.all[self.row].end.clear();
                }
                Vec::new()
            }
            1 => {
                self.all[..self.row].iter_mut().for_each(|row| row.erase(0, usize::MAX));
                self.all[self.row].erase(0, self.column + 1);
                Vec::new()
            }
            _ => self.clear(),
        }
    }

    /// Clears the screen. What was there when it was first cleared is kept: a job's own lines are not to be lost.
    fn clear(&mut self) -> Vec<Row> {
        let (row, column) = (self.row, self.column);
        let gone = self.begin_page();
        if gone.is_empty() {
            self.all.clear();
            self.go_to(row, column);
        }
        gone
    }

    /// From here on the first row is the screen's; what was there before cannot change any more.
    fn begin_page(&mut self) -> Vec<Row> {
        if std::mem::replace(&mut self.is_page, true) {
            return Vec::new();
        }
        (self.row, self.column, self.saved) = (0, 0, (0, 0));
        let mut gone = std::mem::replace(&mut self.all, vec![Row::default()]);
        while gone.pop_if(|row| row.is_nothing()).is_some() {}
        gone
    }
}

#[cfg(test)]
mod tests;
