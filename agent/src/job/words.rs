//! A command line split into words as a POSIX shell splits it, with nothing expanded.
//!
//! In: one command, which may go on over several lines. Out: its words; or, where a shell would have replaced
//! something or run more than one command, an error that says so: in silence the job would be another one.
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html> (2.2 and 2.6)

use std::borrow::Cow;

use super::discreet;
use super::error::{Problem, quote};
use super::odd_chars::{self, Odd};

/// A text, and how far it has been read.
struct Chars<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Chars<'a> {
    fn next(&mut self) -> Option<(usize, char)> {
        self.next_if(|_| true)
    }

    fn next_if(&mut self, is_wanted: impl FnOnce(char) -> bool) -> Option<(usize, char)> {
        let (at, c) = (self.at, self.text[self.at..].chars().next()?);
        is_wanted(c).then(|| {
            self.at += c.len_utf8();
            (at, c)
        })
    }

    /// What comes before the next ASCII character that `ends` it: most of a long line goes by here.
    fn until(&mut self, ends: impl FnMut(u8) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let run = &rest[..rest.bytes().position(ends).unwrap_or(rest.len())];
        self.at += run.len();
        run
    }
}

#[derive(Default)]
struct Word<'a> {
    /// A slice of the line, unless it is put together of several: a long one has ten thousand words.
    text: Cow<'a, str>,
    /// Whether a shell would have looked for files with such names.
    pattern: bool,
}

/// A text as far as it is one command.
#[derive(Debug, Default)]
pub(super) struct Line<'a> {
    pub(super) words: Vec<Cow<'a, str>>,
    /// Outside quotes; the first [`MOST_ODDS`].
    pub(super) odds: Vec<Odd>,
    /// Where the first word begins, as a byte of the text.
    pub(super) begins_at: usize,
    /// Why the text is not read further, if so.
    pub(super) stop: Option<Problem>,
}

/// More are not looked at: a text in another script has one in each line.
const MOST_ODDS: usize = 1000;

/// `doubts` gets the patterns, which are passed on as they stand.
pub(super) fn split<'a>(text: &'a str, doubts: &mut Vec<String>) -> Line<'a> {
    let mut line = Line::default();
    // `None` between words: an empty word is one that was written as ''.
    let mut word: Option<Word<'a>> = None;
    let mut chars = Chars { text, at: 0 };
    line.stop = line.read(text, &mut chars, &mut word, doubts).err();
    line.add(word.take(), doubts);
    line
}

impl<'a> Line<'a> {
    fn read(
        &mut self,
        text: &'a str,
        chars: &mut Chars<'a>,
        word: &mut Option<Word<'a>>,
        doubts: &mut Vec<String>,
    ) -> Result<(), Problem> {
        let mut is_over = false;
        while let Some((at, c)) = chars.next() {
            if self.words.is_empty() && word.is_none() {
                self.begins_at = at;
            }
            match c {
                ' ' | '\t' | '\r' | '\n' => {
                    self.add(word.take(), doubts);
                    is_over |= c == '\n' && !self.words.is_empty();
                }
                '#' if word.is_none() => drop(chars.until(|byte| byte == b'\n')),
                _ if is_over => return Err(another_command(text, at)),
                '\\' => match chars.next() {
                    None | Some((_, '\n')) => {}
                    Some((_, '\r')) if chars.next_if(|c| c == '\n').is_some() => {}
                    Some((_, c)) => word.get_or_insert_default().text.to_mut().push(c),
                },
                '\'' => single_quoted(text, at, chars, &mut word.get_or_insert_default().text)?,
                '"' => double_quoted(text, at, chars, word.get_or_insert_default().text.to_mut())?,
                '`' if text[at..].starts_with("```") => {
                    return Err(error_at(text, at, "the ``` is a mark of a block of code").fix("leave it out"));
                }
                '`' if text[at + 1..].trim_start_matches('\r').starts_with('\n') => {
                    return Err(error_at(text, at, "only PowerShell takes ` for a line that goes on")
                        .fix("end the line with \\ as its very last character"));
                }
                '$' | '`' if expands(text, at, false) => return Err(expansion(text, at)),
                '~' if word.is_none() => return Err(expansion(text, at)),
                '|' | ';' | '&' | '<' | '>' | '(' | ')' => return Err(operator(text, at, c)),
                c => {
                    if let Some(kind) = odd_chars::kind(c).filter(|_| self.odds.len() < MOST_ODDS) {
                        let before = word.as_ref().and_then(|word| word.text.chars().next_back());
                        let after = text[chars.at..].chars().next().filter(|c| !c.is_ascii_whitespace());
                        self.odds.push(Odd {
                            c,
                            kind,
                            word: self.words.len(),
                            at,
                            is_first: word.is_none(),
                            is_last: after.is_none(),
                            before,
                            after,
                        });
                    }
                    let word = word.get_or_insert_default();
                    word.pattern |= matches!(c, '*' | '?');
                    chars.until(is_special);
                    word.text += &text[at..chars.at];
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, word: Option<Word<'a>>, doubts: &mut Vec<String>) {
        let Some(Word { text, pattern }) = word else { return };
        if pattern {
            // Names of files with a pattern in them have a dot or a slash, and a password has a letter or digit more.
            let is_of_files = text.contains(['.', '/'])
                && text.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'*' | b'?' | b'.' | b'/' | b'_' | b'-'));
            let may_be_secret = !is_of_files
                || text.starts_with('-')
                || self.words.last().is_some_and(|before| before.starts_with('-'));
            let shown = match discreet::up_to_equals(&text) {
                shown if shown.ends_with("=…") => quote(&shown),
                _ if may_be_secret => "a word with * or ?".to_owned(),
                shown => quote(&shown),
            };
            doubts.push(format!("{shown} is passed on as it stands: no shell expands it"));
        }
        self.words.push(text);
    }
}

/// What begins at `at` is on a line of its own, after a command that was complete.
fn another_command(text: &str, at: usize) -> Problem {
    const PROBLEM: &str = "this line begins another command";
    let rest = &text[at..];
    let all_before = text[..at].trim_end();
    let before = all_before.rsplit('\n').next().unwrap_or_default();
    let begins = |words: &[&str]| words.iter().any(|word| rest.starts_with(word));
    let is_comment = |line: &&str| line.trim_start().starts_with('#');
    let comments = all_before.rsplit('\n').take_while(is_comment).count();
    let goes_on = all_before.rsplit('\n').nth(comments).is_some_and(|line| line.trim_end().ends_with('\\'));
    let is_inline =
        before.split('#').next().is_some_and(|code| code.len() < before.len() && code.trim_end().ends_with('\\'));
    if comments > 0 && goes_on || is_inline {
        let problem = format!("{PROBLEM}, as the comment before it ends the first");
        return error_at(text, at, &problem).fix("take the comment away, the whole of it");
    }
    let follows = text[all_before.len()..].trim_start_matches('\r');
    if before.ends_with('\\') && follows.starts_with('\n') {
        let problem = format!("{PROBLEM}, as an empty line follows the \\ before it");
        return error_at(text, at, &problem).fix("take the empty line away");
    }
    if before.ends_with('\\') {
        let problem = format!("{PROBLEM}, as a space follows the \\ of the line before");
        return error_at(text, at, &problem).fix("end that line with \\ as its very last character");
    }
    if before.ends_with('^') {
        let problem = format!("{PROBLEM}: only cmd.exe takes ^ for a line that goes on");
        return error_at(text, at, &problem).fix("end the line before with \\ as its very last character");
    }
    if begins(&["docker ", "podman ", "sudo "]) {
        return error_at(text, at, &format!("{PROBLEM}, and a job is one"))
            .fix("remove it, and give each command a job of its own");
    }
    error_at(text, at, PROBLEM).fix("end the line before with \\ as its very last character, or remove this one")
}

/// What only a shell does, outside quotes.
fn operator(text: &str, at: usize, c: char) -> Problem {
    let rest = &text[at..];
    let is_placeholder = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b' '))
    });
    if is_placeholder {
        return error_at(text, at, "the <…> is a placeholder").fix("write what it stands for");
    }
    let problem = error_at(text, at, &format!("\"{c}\" does nothing here: the line is not given to a shell"));
    let is_last = rest[1..].trim().is_empty();
    problem.fix(match c {
        '&' | ';' if is_last => "leave it out: vmjob waits for the job to end",
        '&' if !rest.starts_with("&&") => "leave it out, or quote it",
        '&' | ';' => "a job is one command: leave the other out, quote it, or run sh -c '…' in the container",
        '>' if text[..at].trim().is_empty() => "leave it out: it is a terminal's prompt",
        '<' | '>' => "leave it out (vmjob keeps the output), quote it, or run sh -c '…' in the container",
        _ => "quote it, or run sh -c '…' in the container",
    })
}

/// Whether a character in the middle of a word may be more than itself.
fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t'
            | b'\r'
            | b'\n'
            | b'\x0c'
            | b'\\'
            | b'\''
            | b'"'
            | b'$'
            | b'`'
            | b'|'
            | b';'
            | b'&'
            | b'<'
            | b'>'
            | b'('
            | b')'
            | b'*'
            | b'?'
            | 0x80..
    )
}

/// Everything up to the next single quote stands for itself.
fn single_quoted<'a>(
    text: &'a str,
    opened_at: usize,
    chars: &mut Chars<'a>,
    word: &mut Cow<'a, str>,
) -> Result<(), Problem> {
    *word += chars.until(|byte| byte == b'\'');
    chars.next().map(drop).ok_or_else(|| unclosed(text, opened_at))
}

fn double_quoted(text: &str, opened_at: usize, chars: &mut Chars, word: &mut String) -> Result<(), Problem> {
    loop {
        word.push_str(chars.until(|byte| matches!(byte, b'"' | b'$' | b'`' | b'\\')));
        let Some((at, c)) = chars.next() else { return Err(unclosed(text, opened_at)) };
        match c {
            '"' => return Ok(()),
            '$' | '`' if expands(text, at, true) => return Err(expansion(text, at)),
            // Within double quotes a backslash is special before these only.
            '\\' => match chars.next_if(|c| matches!(c, '$' | '`' | '"' | '\\' | '\n')) {
                Some((_, '\n')) => {}
                Some((_, c)) => word.push(c),
                None => word.push('\\'),
            },
            c => word.push(c),
        }
    }
}

/// Whether a shell would have replaced what begins with the `$` or `` ` `` at `at`.
fn expands(text: &str, at: usize, in_quotes: bool) -> bool {
    let mut rest = &text[at + 1..];
    // A shell joins lines before it looks at anything else.
    while let Some(after) = rest.strip_prefix("\\\n") {
        rest = after;
    }
    text[at..].starts_with('`')
        || rest.starts_with(|next: char| {
            next.is_ascii_alphanumeric()
                || matches!(next, '_' | '{' | '(' | '?' | '!' | '#' | '@' | '*' | '-' | '$')
                || (!in_quotes && matches!(next, '\'' | '"'))
        })
}

fn expansion(text: &str, at: usize) -> Problem {
    let rest = &text[at..];
    let name_end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(rest.len(), |end| end + 1);
    let shown = match rest.as_bytes() {
        [b'$', b'(', ..] => "$(…)",
        [b'$', b'{', ..] => "${…}",
        [b'`', ..] => "`…`",
        // Behind anything else it may be a part of a password.
        _ => {
            let is_first =
                text[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '/' | ':'));
            let is_name = rest[1..name_end].bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            if is_first && is_name { &rest[..name_end] } else { "$…" }
        }
    };
    let problem = format!("\"{shown}\" is not replaced: the line is not given to a shell");
    error_at(text, at, &problem)
        .fix("write the value itself, put it into '…' to pass it on as it stands, or run sh -c '…' in the container")
}

fn unclosed(text: &str, at: usize) -> Problem {
    error_at(text, at, &format!("the quote {} that opens here is never closed", &text[at..=at]))
}

pub(super) fn error_at(text: &str, at: usize, problem: &str) -> Problem {
    at_line(text, at, Problem::new(problem))
}

/// The problem with the place of the byte `at` in front.
pub(super) fn at_line(text: &str, at: usize, problem: Problem) -> Problem {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    problem.in_place(&format!("line {line}, column {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let cases: [(&str, &[&str]); 13] = [
            ("docker run  alpine\n\n", &["docker", "run", "alpine"]),
            ("\n a \\\n  b\\\r\n c \\", &["a", "b", "c"]),
            (r#"a'b c'"d e"f"#, &["ab cd ef"]),
            (r#"'' """#, &["", ""]),
            (r"a\ b \' \\", &["a b", "'", r"\"]),
            (r"'a\b$HOME`x`|;'", &[r"a\b$HOME`x`|;"]),
            (r#""\$HOME \" \\ \n \`""#, &[r#"$HOME " \ \n `"#]),
            ("\"a\\\nb\"", &["ab"]),
            (r#"5$ $ "$" "a$""#, &["5$", "$", "$", "a$"]),
            (r"\$HOME a\;b \~", &["$HOME", "a;b", "~"]),
            ("a~ b=~/x {} a#b", &["a~", "b=~/x", "{}", "a#b"]),
            ("#!/bin/sh\n# 'c\na '#b' \\#c # d\n\n # e", &["a", "#b", "#c"]),
            ("é'ü'", &["éü"]),
        ];
        for (text, words) in cases {
            let line = split(text, &mut Vec::new());
            assert_eq!(
                (line.words, line.stop),
                (words.iter().map(|word| Cow::Borrowed(*word)).collect(), None),
                "{text}"
            );
        }
    }

    #[test]
    fn what_only_a_shell_could_do_is_an_error() {
        let cases = [
            ("a 'b", "line 1, column 3: the quote ' that opens here is never closed"),
            ("a \\\n é\"b c", "line 2, column 3: the quote \" that opens here is never closed"),
            ("a $HOME/x", "line 1, column 3: \"$HOME\" is not replaced"),
            ("a \"x${B}\"", "line 1, column 5: \"${…}\" is not replaced"),
            ("a $(b)", "\"$(…)\" is not replaced"),
            ("a `b`", "\"`…`\" is not replaced"),
            ("a \"`b`\"", "\"`…`\" is not replaced"),
            ("a $\\\nb", "\"$\" is not replaced"),
            ("a $'b'", "\"$\" is not replaced"),
            ("a -v ~/x:/x", "\"~\" is not replaced"),
            ("a | b", "\"|\" does nothing here"),
            ("a && b", "\"&\" does nothing here"),
            ("a; b", "\";\" does nothing here"),
            ("a 2>&1", "\">\" does nothing here"),
            ("a # c \\\n b", "line 2, column 2: this line begins another command"),
            ("a \\ \n b", "line 2, column 2: this line begins another command, as a space follows the \\"),
            ("a \\\n # c\n b", "line 3, column 2: this line begins another command, as the comment before it"),
            ("a \\\n # -c \\\n# d\n b", "line 4, column 2: this line begins another command, as the comment before it"),
            ("a \\ # c\n b", "line 2, column 2: this line begins another command, as the comment before it"),
            ("a \\\n\n b", "line 3, column 2: this line begins another command, as an empty line follows"),
            ("a\n# c\n b", "line 3, column 2: this line begins another command"),
            ("a ^\n b", "line 2, column 2: this line begins another command: only cmd.exe"),
            ("a `\n b", "line 1, column 3: only PowerShell"),
            ("a\ndocker b", "line 2, column 1: this line begins another command, and a job is one"),
            ("a <IMAGE>", "the <…> is a placeholder"),
            ("```\na", "line 1, column 1: the ``` is a mark"),
        ];
        for (text, error) in cases {
            let found = split(text, &mut Vec::new()).stop.unwrap().at("x", "").to_string();
            assert!(found.contains(error), "{text}: {found}");
        }
    }

    #[test]
    fn patterns_are_passed_on_with_a_warning() {
        let mut doubts = Vec::new();
        assert_eq!(split("ls *.csv '*' [ -f x ] ", &mut doubts).words[1], "*.csv");
        split("cp hunter2Hunter* ?word data/*.py", &mut doubts);
        assert_eq!(doubts[1..3], ["a word with * or ? is passed on as it stands: no shell expands it"; 2]);
        assert_eq!(doubts.split_off(3), [r#""data/*.py" is passed on as it stands: no shell expands it"#]);
        doubts.truncate(1);
        assert_eq!(doubts, [r#""*.csv" is passed on as it stands: no shell expands it"#]);
    }
}
