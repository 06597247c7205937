//! `*` in the names that a job gives its inputs and outputs.
//!
//! In: a name as written. Out: its directory, and what the names in that have to look like.

use super::error::{Problem, quote};

/// What a name's last component has to look like, if there is a `*` in it: the texts around each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard(pub(super) Vec<String>);

impl Wildcard {
    /// Whether a name of one component does.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let (Some((last, middle)), Some(mut name)) = (rest.split_last(), name.strip_prefix(first.as_str())) else {
            return false;
        };
        for text in middle {
            let Some((star, after)) = name.split_once(text.as_str()) else { return false };
            if star.contains('/') {
                return false;
            }
            name = after;
        }
        name.strip_suffix(last.as_str()).is_some_and(|star| !star.contains('/'))
    }

    /// What all names that match begin with.
    pub fn prefix(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        self.0.join("*")
    }
}

/// Cuts a `*` in the last component off its directory, which keeps its slash.
pub(super) fn cut(name: &str) -> Result<(String, Option<Wildcard>), Problem> {
    let (dir, last) = name.split_at(name.rfind('/').map_or(0, |slash| slash + 1));
    if dir.contains('*') {
        return Err(Problem::new(format!("{} has a * before its last component", quote(name)))
            .fix("write a * for a part of the last component only"));
    }
    if !last.contains('*') {
        return Ok((name.to_owned(), None));
    }
    Ok((dir.to_owned(), Some(Wildcard(last.split('*').map(str::to_owned).collect()))))
}

/// A name in which no `*` may be.
pub(super) fn without_wildcard(name: &str) -> Result<(), Problem> {
    if name.contains('*') {
        let problem = Problem::new(format!("{} has a * in it", quote(name)));
        return Err(problem.fix("write a * in an input's \"from\" or an output's \"from\" only"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_within_one_component() {
        let matches = |wildcard: &str, name: &str| cut(wildcard).unwrap().1.unwrap().matches(name);
        for (wildcard, name) in [
            ("*", ""),
            ("*", ".x y"),
            ("*.csv", ".csv"),
            ("a*b*c", "abc"),
            ("a*b*c", "aXbbYcc"),
            ("**", "x"),
            ("/a/part-*", "part-1"),
        ] {
            assert!(matches(wildcard, name), "{wildcard} {name}");
        }
        for (wildcard, name) in [("*.csv", "a.csv.gz"), ("a*a", "a"), ("a*b*c", "acb"), ("*", "a/b"), ("a*", "ba")] {
            assert!(!matches(wildcard, name), "{wildcard} {name}");
        }
        assert_eq!(cut("/a/b").unwrap(), ("/a/b".into(), None));
        assert_eq!(cut("/a/*.x").unwrap().0, "/a/");
        assert!(cut("/a*/b").is_err() && cut("/a/*/").is_err());
    }
}
