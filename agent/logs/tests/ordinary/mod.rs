//! Ordinary logs of many kinds, made from templates; the same for the same seed.

use std::fmt::Write;

const WORDS: &str = "alpha bravo store reader model queue shard cache index tensor batch worker parser ledger router bucket vector \
                     orders users images frames kernel python stream filter codec proxy agent metric report config";

/// A kind of log, and its templates.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    templates: Vec<&'static str>,
}

pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for line in include_str!("../../testdata/ordinary.txt").lines() {
        // A comment of shell code is a line like any other.
        match line.strip_prefix("# ").filter(|name| !name.contains(' ')) {
            Some(name) => kinds.push(Kind { name, templates: Vec::new() }),
            None => kinds.last_mut().into_iter().for_each(|kind| kind.templates.push(line)),
        }
    }
    kinds
}

/// Lines of one kind, without end.
pub(crate) struct Lines<'a> {
    kind: &'a Kind,
    words: Vec<&'static str>,
    random: u64,
    count: u64,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(kind: &'a Kind, seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { kind, words: WORDS.split_whitespace().collect(), random, count: 0 }
    }

    /// A number below `end`, by xorshift.
    fn random(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).map_or(0, |number| number % end)
    }

    /// The next lines.
    pub(crate) fn take(&mut self, lines: usize) -> String {
        let mut log = String::new();
        for _ in 0..lines {
            let mut template = self.kind.templates[self.random(self.kind.templates.len())];
            self.count += 1;
            while let Some(at) = template.find('{') {
                log.push_str(&template[..at]);
                let wide = self.random(10_000);
                let (count, words) = (self.count, self.words.len());
                let written = match template.as_bytes().get(at + 1..at + 3) {
                    Some(b"i}") => write!(log, "{count}"),
                    Some(b"n}") => write!(log, "{wide}"),
                    Some(b"p}") => write!(log, "{}", 1 + wide % 98),
                    Some(b"x}") => write!(log, "{:08x}", self.random >> 32),
                    Some(b"w}") => write!(log, "{}", self.words[wide % words]),
                    Some(b"f}") => write!(log, "{}_{}", self.words[wide % words], wide % 100),
                    Some(b"t}") => {
                        write!(log, "{:02}:{:02}:{:02}", count / 3600 % 24, count / 60 % 60, count % 60)
                    }
                    _ => {
                        log.push('{');
                        template = &template[at + 1..];
                        continue;
                    }
                };
                written.expect("a String takes all");
                template = &template[at + 3..];
            }
            log.push_str(template);
            log.push('\n');
        }
        log
    }
}
