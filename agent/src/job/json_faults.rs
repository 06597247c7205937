//! What people write that is not JSON, named: a comment, a curly or single quote, a comma too many or too few.
//!
//! In: a text that was refused. Out: what is wrong with it and where, and what to write. Only called for such a text.
//! <https://www.rfc-editor.org/rfc/rfc8259>

use super::error::Problem;
use super::odd_chars::{self, Kind};
use super::words::error_at;

/// The parser goes no deeper, and says so itself.
const DEEPEST: usize = 127;

/// What other languages have for values that JSON has, or has not.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("True", "write true"),
    ("TRUE", "write true"),
    ("yes", "write true"),
    ("False", "write false"),
    ("FALSE", "write false"),
    ("no", "write false"),
    ("None", "write null, or leave the field out"),
    ("nil", "write null, or leave the field out"),
    ("undefined", "write null, or leave the field out"),
    ("NaN", "leave the field out: JSON has no such number"),
    ("nan", "leave the field out: JSON has no such number"),
    ("Infinity", "leave the field out: JSON has no such number"),
];

/// The first thing in the text that JSON does not have; `None` where it is none of what is known here.
pub(super) fn find(text: &str) -> Option<Problem> {
    not_even_begun(text).or_else(|| Reader { text, at: 0, open: Vec::new(), odd_string: None }.read().err())
}

/// Whether the text is one that somebody types at a terminal.
pub(super) fn is_command_line(text: &str) -> bool {
    let is_skipped = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let first = text.lines().find(|line| !is_skipped(line)).unwrap_or_default().trim_start();
    !first.starts_with(['{', '[', '"', '\''])
        && first.split([' ', '\t', '=']).any(|word| matches!(word, "docker" | "podman"))
}

/// Whether the text is meant to be JSON, or is what people give in its place.
pub(crate) fn is_meant_as_spec(text: &str) -> bool {
    let is_note = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let first = text.lines().find(|line| !is_note(line)).unwrap_or(text).trim_start();
    let begins = ["{", "[", "\"", "'{", "“", "//", "/*"].iter().any(|start| first.starts_with(start));
    first.is_empty() && !text.contains("docker")
        || begins
        || (!text.contains("docker ") && not_even_begun(first).is_some())
}

const FILE: (&str, &str) = ("this is the name of a file, not its contents", "use --metadata-from-file job-spec=FILE");
const YAML: (&str, &str) = ("this is YAML, not JSON", "write it as JSON, for example with yq -o=json");
const SHELL: (&str, &str) = ("this is to be replaced by a shell, and no shell reads it", "give the document itself");

/// How texts of another kind begin, what they are, and what to do.
const BEGINNINGS: [(&[&str], (&str, &str)); 9] = [
    (&["---", "- ", "%YAML"], YAML),
    (&["<<"], SHELL),
    (&["<"], ("this is HTML or XML, not JSON", "look where the text came from: it may be the error page of a server")),
    (&["$(", "${", "@"], SHELL),
    (&["eyJ"], ("this is JSON in base64", "give the document itself")),
    (&["/", "./", "gs://", "http://", "https://", "file://"], FILE),
    (&["'{", "'["], ("the document is in quotes", "leave the ' at both ends out")),
    (&["```"], ("the ``` is a mark of a block of code", "leave it out, at both ends")),
    (&["job-spec="], ("the text begins with the attribute's own name", "give the value alone")),
];

/// Texts of quite another kind.
fn not_even_begun(text: &str) -> Option<Problem> {
    let start = text.trim_start();
    let first_line = start.lines().next().unwrap_or_default().trim();
    let begins = |words: &[&str]| words.iter().any(|word| start.starts_with(word));
    if begins(&["//", "/*"]) {
        return None;
    }
    let key = first_line.split(':').next().unwrap_or_default();
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b' '));
    let is_yaml = is_key && first_line.contains(':') && !first_line.contains("://");
    let is_file =
        first_line.len() < 100 && first_line.strip_suffix(".json").is_some_and(|name| !name.contains(['{', '"']));
    let known = BEGINNINGS.iter().find(|(words, _)| begins(words)).map(|(_, known)| *known);
    let (what, fix) = known.or(is_yaml.then_some(YAML)).or(is_file.then_some(FILE))?;
    Some(Problem::new(format!("line 1, column 1: {what}")).fix(fix))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Where the objects and lists begin that are not closed yet.
    open: Vec<usize>,
    /// A curly quote in the string before: it may be meant to end it.
    odd_string: Option<(usize, char)>,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), Problem> {
        // Where the comma was after which a value or a key has to follow.
        let mut comma: Option<usize> = None;
        'value: loop {
            if self.open.len() > DEEPEST {
                return Ok(());
            }
            match self.peek()? {
                b'{' => {
                    self.open.push(self.at);
                    self.at += 1;
                    if self.peek()? != b'}' {
                        self.key()?;
                        continue;
                    }
                    self.open.pop();
                    self.at += 1;
                }
                b'[' => {
                    self.open.push(self.at);
                    self.at += 1;
                    comma = None;
                    if self.peek()? != b']' {
                        continue;
                    }
                    self.open.pop();
                    self.at += 1;
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b']' | b'}' => return Err(self.needless_comma(comma)),
                _ => self.word()?,
            }
            // After a value.
            loop {
                let Some(&open_at) = self.open.last() else {
                    return self.end();
                };
                let is_object = self.text.as_bytes()[open_at] == b'{';
                match self.peek()? {
                    b',' => {
                        comma = Some(self.at);
                        self.at += 1;
                        if !is_object {
                            continue 'value;
                        }
                        if self.peek()? == b'}' {
                            return Err(self.needless_comma(comma));
                        }
                        self.key()?;
                        comma = None;
                        continue 'value;
                    }
                    b'}' if is_object => self.at += 1,
                    b']' if !is_object => self.at += 1,
                    b'}' | b']' => {
                        let (wrong, open) = if is_object { (']', '{') } else { ('}', '[') };
                        let problem = format!("the {wrong} does not close the {open} of {}", self.place_of(open_at));
                        return Err(self.error(&problem));
                    }
                    _ => return Err(self.unexpected("a comma is missing before this", "write a , before it")),
                }
                self.open.pop();
            }
        }
    }

    fn end(&mut self) -> Result<(), Problem> {
        self.skip_space()?;
        if self.at == self.text.len() {
            return Ok(());
        }
        let fix = if self.text.as_bytes()[self.at] == b'{' { "a job-spec is one" } else { "leave it out" };
        Err(self.unexpected("the document ends before this", fix))
    }

    fn key(&mut self) -> Result<(), Problem> {
        match self.peek()? {
            b'"' => self.string()?,
            b',' => return Err(self.error("there is a comma too many").fix("leave one out")),
            c if c.is_ascii_alphabetic() || c == b'_' => {
                return Err(self.error("a key stands without quotes").fix(format!("write \"{}\"", self.name())));
            }
            _ => return Err(self.unexpected("expected a key in double quotes", "write \"key\": value")),
        }
        match self.peek()? {
            b':' => self.at += 1,
            b'=' => return Err(self.error("a = stands between key and value").fix("write :")),
            _ => return Err(self.unexpected("a : is missing before this", "write \"key\": value")),
        }
        Ok(())
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Result<u8, Problem> {
        self.skip_space()?;
        if let Some(byte) = self.text.as_bytes().get(self.at) {
            return Ok(*byte);
        }
        let Some(open_at) = self.open.last() else { return Err(Problem::new("the text is empty")) };
        let open = &self.text[*open_at..=*open_at];
        let problem = format!("the text ends, and the {open} of {} is not closed", self.place_of(*open_at));
        Err(self
            .error(&problem)
            .fix("give the whole JSON document; gcloud's --metadata ends a value at a comma: use --metadata-from-file"))
    }

    fn skip_space(&mut self) -> Result<(), Problem> {
        let rest = &self.text[self.at..];
        self.at = self.text.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        let rest = &self.text[self.at..];
        if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') {
            return Err(self.error("a comment begins here, and JSON has none").fix("leave it out"));
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Problem> {
        let begin = self.at;
        self.odd_string = None;
        let mut chars = self.text[begin + 1..].char_indices();
        let unclosed = |reader: &mut Self, what: &str| {
            reader.at = begin;
            Err(reader.error(what).fix("close it with \"; within a string a line break is \\n"))
        };
        while let Some((at, c)) = chars.next() {
            self.at = begin + 1 + at;
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(());
                }
                '\n' | '\r' => return unclosed(self, "the string that begins here is not closed on its line"),
                c if c < ' ' => {
                    let problem = format!("{} stands in a string", odd_chars::name(c));
                    return Err(self.error(&problem).fix("write it as an escape, such as \\t"));
                }
                '\\' => {
                    let escaped = chars.next().map(|(_, c)| c);
                    let hex = self.text.get(self.at + 2..self.at + 6);
                    let is_good = match escaped {
                        Some('u') => hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())),
                        Some(c) => "\"\\/bfnrt".contains(c),
                        None => return unclosed(self, "the string that begins here is never closed"),
                    };
                    if !is_good {
                        return Err(self
                            .error("the \\ in a string begins no escape")
                            .fix("write \\\\ for a backslash"));
                    }
                }
                c if odd_chars::kind(c) == Some(Kind::DoubleQuote) && self.odd_string.is_none() => {
                    self.odd_string = Some((self.at, c));
                }
                _ => {}
            }
        }
        if let Some((at, c)) = self.odd_string {
            return Err(self.odd(at, c));
        }
        unclosed(self, "the string that begins here is never closed")
    }

    fn number(&mut self) -> Result<(), Problem> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_')));
        let number = &rest[..end.unwrap_or(rest.len())];
        if serde_json::from_str::<serde_json::Number>(number).is_err() {
            let fix = match number.strip_prefix('-') {
                Some("Infinity") => "leave the field out: JSON has no such number",
                _ => "write for example 8 or 0.5, and what has a unit in double quotes: \"8g\"",
            };
            return Err(self.error("this is no number of JSON").fix(fix));
        }
        self.at += number.len();
        Ok(())
    }

    fn word(&mut self) -> Result<(), Problem> {
        let name = self.name();
        if matches!(name, "true" | "false" | "null") {
            self.at += name.len();
            return Ok(());
        }
        if let Some((_, fix)) = OTHER_WORDS.iter().find(|(word, _)| *word == name) {
            return Err(self.error(&format!("JSON has no {name}")).fix(*fix));
        }
        if name.is_empty() {
            return Err(
                self.unexpected("expected a value", "write a text in double quotes, a number, true, false or null")
            );
        }
        Err(self.error("a text stands without quotes").fix("write it in double quotes"))
    }

    fn name(&self) -> &str {
        let rest = &self.text[self.at..];
        &rest[..rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())]
    }

    fn needless_comma(&mut self, comma: Option<usize>) -> Problem {
        match comma {
            Some(at) => {
                self.at = at;
                self.error("a comma stands before the end of a list or an object").fix("leave it out")
            }
            None => self.error("a value is missing before this").fix("write one, or leave the key out"),
        }
    }

    /// What stands here and is not expected: by its name, where it has one.
    fn unexpected(&self, problem: &str, fix: &str) -> Problem {
        // A string that a curly quote was to end goes on up to the next key.
        if let Some((at, c)) = self.odd_string {
            return self.odd(at, c);
        }
        match self.text[self.at..].chars().next() {
            Some('\'') => self.error("a ' stands where JSON has \"").fix("write \""),
            Some('`') => self.error("a ` stands where JSON has \"").fix("write \""),
            Some('\\') if self.text[self.at + 1..].starts_with('"') => self
                .error("a \\ stands before the quotes: the text was escaped once too often")
                .fix("leave each \\ before a \" out"),
            // As in "echo "hi"".
            Some(c) if self.text[..self.at].ends_with('"') && (c.is_alphanumeric() || "$/.-_%".contains(c)) => {
                self.error("the string ended at the \" before this").fix("write \\\" for a quote within a string")
            }
            Some(c) if odd_chars::kind(c).is_some() => self.odd(self.at, c),
            _ => self.error(problem).fix(fix),
        }
    }

    fn odd(&self, at: usize, c: char) -> Problem {
        let kind = odd_chars::kind(c).unwrap_or(Kind::Invisible);
        let (what, fix) = match kind {
            Kind::DoubleQuote | Kind::SingleQuote => ("is no quote to JSON", "write \" instead".to_owned()),
            Kind::Space => ("is no space to JSON", odd_chars::instead(kind)),
            _ => ("has no meaning in JSON", odd_chars::instead(kind)),
        };
        error_at(self.text, at, &format!("{} {what}", odd_chars::name(c))).fix(fix)
    }

    fn error(&self, problem: &str) -> Problem {
        error_at(self.text, self.at, problem)
    }

    fn place_of(&self, at: usize) -> String {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        format!("line {line}, column {}", before.chars().rev().take_while(|c| *c != '\n').count() + 1)
    }
}

#[cfg(test)]
mod tests;
