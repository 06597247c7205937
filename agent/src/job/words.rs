//! A command line split into words as a POSIX shell splits it, with nothing expanded.
//!
//! In: one command, which may go on over several lines. Out: its words; or, where a shell would have replaced
//! something or run more than one command, an error that says so: in silence the job would be another one.
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html> (2.2 and 2.6)

use std::borrow::Cow;

use super::error::{Problem, quote};

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

/// `doubts` gets the patterns, which are passed on as they stand.
pub(super) fn split<'a>(text: &'a str, doubts: &mut Vec<String>) -> Result<Vec<Cow<'a, str>>, Problem> {
    let mut words = Vec::new();
    // `None` between words: an empty word is one that was written as ''.
    let mut word: Option<Word<'a>> = None;
    let mut chars = Chars { text, at: 0 };
    let mut is_over = false;
    while let Some((at, c)) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {
                words.extend(word.take().map(|word| word.end(doubts)));
                is_over |= c == '\n' && !words.is_empty();
            }
            '#' if word.is_none() => drop(chars.until(|byte| byte == b'\n')),
            _ if is_over => {
                return Err(error_at(text, at, "this line begins another command")
                    .fix("end the line before with \\ as its very last character, or remove this one"));
            }
            '\\' => match chars.next() {
                None | Some((_, '\n')) => {}
                Some((_, '\r')) if chars.next_if(|c| c == '\n').is_some() => {}
                Some((_, c)) => word.get_or_insert_default().text.to_mut().push(c),
            },
            '\'' => single_quoted(text, at, &mut chars, &mut word.get_or_insert_default().text)?,
            '"' => double_quoted(text, at, &mut chars, word.get_or_insert_default().text.to_mut())?,
            '$' | '`' if expands(text, at, false) => return Err(expansion(text, at)),
            '~' if word.is_none() => return Err(expansion(text, at)),
            '|' | ';' | '&' | '<' | '>' | '(' | ')' => {
                let problem = format!("\"{c}\" does nothing here: the line is not given to a shell");
                return Err(error_at(text, at, &problem).fix("quote it, or run sh -c '…' in the container"));
            }
            c => {
                let word = word.get_or_insert_default();
                word.pattern |= matches!(c, '*' | '?');
                chars.until(is_special);
                word.text += &text[at..chars.at];
            }
        }
    }
    words.extend(word.map(|word| word.end(doubts)));
    Ok(words)
}

impl<'a> Word<'a> {
    fn end(self, doubts: &mut Vec<String>) -> Cow<'a, str> {
        if self.pattern {
            doubts.push(format!("{} is passed on as it stands: no shell expands it", quote(&self.text)));
        }
        self.text
    }
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
    let problem = format!("\"{}\" is not replaced: the line is not given to a shell", &rest[..name_end]);
    error_at(text, at, &problem)
        .fix("write the value itself, put it into '…' to pass it on as it stands, or run sh -c '…' in the container")
}

fn unclosed(text: &str, at: usize) -> Problem {
    error_at(text, at, &format!("the quote {} that opens here is never closed", &text[at..=at]))
}

fn error_at(text: &str, at: usize, problem: &str) -> Problem {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Problem::new(format!("line {line}, column {column}: {problem}"))
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
            assert_eq!(
                split(text, &mut Vec::new()).as_deref(),
                Ok(&words.iter().map(|word| Cow::Borrowed(*word)).collect::<Vec<_>>()[..]),
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
            ("a \"x${B}\"", "line 1, column 5: \"$\" is not replaced"),
            ("a $(b)", "\"$\" is not replaced"),
            ("a `b`", "\"`b\" is not replaced"),
            ("a \"`b`\"", "\"`b\" is not replaced"),
            ("a $\\\nb", "\"$\" is not replaced"),
            ("a $'b'", "\"$\" is not replaced"),
            ("a -v ~/x:/x", "\"~\" is not replaced"),
            ("a | b", "\"|\" does nothing here"),
            ("a && b", "\"&\" does nothing here"),
            ("a; b", "\";\" does nothing here"),
            ("a 2>&1", "\">\" does nothing here"),
            ("a # c \\\n b", "line 2, column 2: this line begins another command"),
            ("a \\ \n b", "line 2, column 2: this line begins another command"),
        ];
        for (text, error) in cases {
            let found = split(text, &mut Vec::new()).unwrap_err().at("x", "").to_string();
            assert!(found.contains(error), "{text}: {found}");
        }
    }

    #[test]
    fn patterns_are_passed_on_with_a_warning() {
        let mut doubts = Vec::new();
        assert_eq!(split("ls *.csv '*' [ -f x ] ", &mut doubts).unwrap()[1], "*.csv");
        assert_eq!(doubts, [r#""*.csv" is passed on as it stands: no shell expands it"#]);
    }
}
