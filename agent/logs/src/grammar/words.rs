//! Words by which the kind of a line is told.

/// Up to 64 parts of lines, for which a line is searched at once.
pub(super) struct Parts {
    /// For each two bytes, by their last five bits, whether a part begins with them.
    begins: [u32; 32],
    parts: &'static [&'static str],
}

impl Parts {
    const fn new(parts: &'static [&'static str]) -> Self {
        assert!(parts.len() <= 64);
        let (mut begins, mut at) = ([0; 32], 0);
        while at < parts.len() {
            let part = parts[at].as_bytes();
            begins[(part[0] % 32) as usize] |= 1 << (part[1] % 32);
            at += 1;
        }
        Self { begins, parts }
    }

    /// A bit for each of the parts that `text` has.
    pub(super) fn found_in(&self, text: &[u8]) -> u64 {
        let mut found = 0;
        for (at, two) in text.windows(2).enumerate() {
            if self.begins[usize::from(two[0] % 32)] >> (two[1] % 32) & 1 == 0 {
                continue;
            }
            for (number, part) in self.parts.iter().enumerate() {
                let part = part.as_bytes();
                if part[..2] == *two && text[at..].starts_with(part) {
                    found |= 1 << number;
                }
            }
        }
        found
    }
}

/// Words that begin a clause without being of it.
#[rustfmt::skip]
pub(super) const ARTICLES: &[&[u8]] = &[
    b"there", b"is", b"a", b"an", b"the", b"some", b"this", b"error", b"fatal", b"warn", b"warning", b"err",
    b"info", b"severe", b"critical", b"and", b"was", b"e", b"f", b"w",
];

/// Behind them a clause is a condition, a wish or part of a story.
#[rustfmt::skip]
pub(super) const CONDITIONS: &[&[u8]] = &[
    b"if", b"when", b"unless", b"whether", b"because", b"so", b"should", b"would", b"may", b"might", b"who",
    b"which", b"while", b"i", b"he", b"she", b"they", b"we", b"until",
];

/// And those that only begin one.
pub(super) const FIRST_CONDITIONS: &[&[u8]] = &[b"once", b"where", b"as", b"since"];

/// Whether a word is of every text.
pub(super) fn is_stop_word(word: &[u8]) -> bool {
    // Most words are told by their length or their first letter.
    STOP_WORDS.iter().any(|stop| stop.len() == word.len() && stop[0] == word[0] && *stop == word)
}

#[rustfmt::skip]
const STOP_WORDS: &[&[u8]] = &[
    b"the", b"of", b"and", b"a", b"to", b"in", b"that", b"is", b"it", b"for", b"as", b"with", b"was", b"be",
    b"on", b"this", b"by", b"or", b"are", b"from", b"an", b"at", b"which", b"not", b"he", b"his", b"she",
    b"had", b"have", b"i", b"but", b"they", b"were", b"so", b"when", b"if",
];

#[rustfmt::skip]
pub(super) const LINKS: &[&str] = &[
    "at ", "in ", "on ", "for ", "with ", "by ", "to ", "while ", "due ", "because ", "after ", "during ",
    "when ", "from ", "(", "[", "- ", "-- ", "of ", "trying ", "waiting ", "as ", "between ",
];

/// What follows a word that means nothing then.
#[rustfmt::skip]
pub(super) const NOTHING: &[&[u8]] = &[
    b"", b"0", b"none", b"null", b"nil", b"no", b"false", b"n/a", b"-", b"ok", b"success", b"[]", b"{}", b"()",
    b"nan", b"off",
];

#[rustfmt::skip]
pub(super) const HARMLESS_BEGINNINGS: &[&str] = &[
    "task [", "ok ", "ok\t", "ok:", "pass ", "pass:", "pass\t", "passed", "--- pass", "=== run", "✓", "✔", "√",
    "[ run", "[       ok", "checking ", "-- looking", "-- performing", "-- could not find", "+ ", "skipping: ", "not uninstalling ",
    "collecting ", "compiling ", "note: ", "-rw", "drwx", "lrwx", "description", "license:", "title:",
    "ii  ", "rc  ", "summary:", "package:", "author:", "debconf: ",
];

#[rustfmt::skip]
pub(super) static CALM: Parts = Parts::new(&[
    " yet,", "retrying", "will retry", "retry of", "ignored", "ignoring", "skip", "falling back", "fallback",
    "using default", "using the default", "fixed in", "fixed by", "fixed a", "fixed the", "fixed bug", "fixed issue", " is fixed", " been fixed", " was fixed", " fixes ", "* fix ", "- fix ", "+ handle", "handle error",
    "recovered", "not an error", "no error", "0 errors", "without error", "e.g.", "for example", "such as",
    "error handling", "deprecated", "optional", "xfail", "cache miss", "succeeded", "already satisfied",
    "closes:", "continuing", "harmless", "policy-rc.d", "invoke-rc.d", "condition check", "so not removed",
    "non-fatal", "nonfatal",
]);

pub(super) static FAILED: Parts = Parts::new(&[" failed", " failing", " failure", " errors", " error"]);

pub(super) static NONE_FAILED: Parts = Parts::new(&[" 0 fail", " 0 tests fail", " no fail"]);

#[rustfmt::skip]
pub(super) static CHATTER: Parts = Parts::new(&[
    "level\":\"info", "level\": \"info", "level\":\"debug", "level\": \"debug", "\"level\":30", "\"level\":20",
    "severity\":\"info", "severity\": \"info", "severity\":\"notice", "severity\":\"debug", "level=info",
    "level=debug", "level=trace", "lvl=info", "lvl=dbug", "lvl=debug", "npm verb", "npm silly", "[info]",
    "[debug]", "[trace]", "[notice]",
]);

#[rustfmt::skip]
pub(super) const CODE_BEGINNINGS: &[&str] = &[
    "//", "/*", "* ", "#include", "#define", "#if", "#error", "#warning", "<!--", "def ", "return ", "raise ",
    "throw ", "case ", "print", "echo ", "import ", "from .", "assert ", "const ", "let ", "var ", "func ", "fn ",
    "class ", "static ", "public ", "private ", "$ ", ">>> ", "msgstr ", "msgid ", "<p", "<div", "trap ", "export ",
    "\"\"\"",
];

/// In small letters: texts have these at the beginning of a sentence too.
pub(super) const CLAUSE_BEGINNINGS: &[&str] = &["if ", "elif ", "else", "for ", "while ", "except ", "with "];

#[rustfmt::skip]
pub(super) static CODE: Parts = Parts::new(&[
    "(\"", "('", "%s", "%d", "%v", "{}", "\\n\"", "&&", "||", " == ", " != ", " = ", " => ", " -> ", "\");",
    ");", "</", "$(", "${", "console.", "log.", ".into()", "f\"", "errors.",
]);

/// What follows `error` in the names of other things.
#[rustfmt::skip]
pub(super) const NOT_AN_ERROR: &[&[u8]] = &[
    b"handling", b"handler", b"handlers", b"rate", b"rates", b"correction", b"bars", b"bar", b"analysis",
    b"messages", b"message", b"log", b"logs", b"logging", b"reporting", b"reports", b"tracking", b"count",
    b"counts", b"codes", b"tolerance", b"margin", b"estimation", b"estimate", b"estimates", b"function",
    b"functions", b"budget", b"page", b"pages", b"recovery", b"detection", b"checking", b"propagation", b"free",
    b"metrics", b"metric", b"is", b"was", b"were", b"are", b"of", b"term", b"terms", b"class", b"classes",
    b"types", b"type", b"if", b"from",
];

/// Beginnings of words for what it is good to have none of, or tells nothing.
#[rustfmt::skip]
pub(super) const GOOD_TO_LACK: &[&str] = &[
    "error", "warning", "issue", "problem", "change", "update", "upgrade", "vulnerab", "difference", "conflict",
    "need", "more", "further", "other", "longer", "broken", "new", "additional", "action", "op", "known",
    "significant", "outdated", "unused", "duplicate", "fail", "lint", "leak", "regression", "violation", "obsolete",
    "loss", "migration", "one", "matter", "doubt", "special", "previous", "extra", "user sessions", "symbol",
    "work", "exception", "effect", "impact",
];

pub(super) const HARMLESS_ENDS: [&str; 7] =
    [": already exists", " ok", " passed", " ... ignored", " succeeded", "should panic", "... yes"];
