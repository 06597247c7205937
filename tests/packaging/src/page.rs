//! A Markdown page, as far as its tests look at it. In: a file of the repository. Out: lines, headings, links, code blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::repository;

/// A page of the repository.
#[derive(Debug)]
pub struct Page {
    /// From the repository's root on.
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block of code.
#[derive(Debug)]
pub struct Block<'a> {
    pub language: &'a str,
    pub text: String,
}

impl Page {
    pub fn read(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(repository().join(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path, text }
    }

    /// All pages: those at the root, and those below `docs`, `examples` and `.github`.
    pub fn all() -> Vec<Self> {
        let mut pages = Vec::new();
        find(Path::new(""), false, &mut pages);
        for folder in ["docs", "examples", ".github"] {
            find(Path::new(folder), true, &mut pages);
        }
        pages.into_iter().map(Self::read).collect()
    }

    /// Lines with whether each is code.
    pub fn lines(&self) -> impl Iterator<Item = (bool, &str)> {
        let mut in_code = false;
        self.text.lines().map(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            (in_code || is_fence, line)
        })
    }

    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut in_code = false;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), blocks.last_mut()) {
                (Some(language), _) if !in_code => blocks.push(Block { language, text: String::new() }),
                (None, Some(block)) if in_code => block.text.extend([line, "\n"]),
                _ => {}
            }
            in_code ^= line.starts_with("```");
        }
        blocks
    }

    /// The headings' names in links, as GitHub makes them.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut seen = BTreeMap::new();
        let headings = self.lines().filter(|(is_code, line)| !is_code && line.starts_with('#')).map(|(_, line)| line);
        headings
            .map(|heading| {
                let name = anchor(heading.trim_start_matches('#').trim());
                let earlier = seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(0);
                if *earlier == 0 { name } else { format!("{name}-{earlier}") }
            })
            .collect()
    }

    /// The targets of links and images.
    pub fn links(&self) -> Vec<String> {
        let prose: Vec<&str> = self.lines().filter(|(is_code, _)| !is_code).map(|(_, line)| line).collect();
        let text = prose.join("\n");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.to_owned()).collect()
    }
}

fn find(folder: &Path, is_deep: bool, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(repository().join(folder)).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| folder.join(entry.unwrap().file_name())).collect();
    paths.sort();
    for path in paths {
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        } else if is_deep && repository().join(&path).is_dir() {
            find(&path, true, found);
        }
    }
}

/// <https://docs.github.com/en/get-started/writing-on-github/getting-started-with-writing-and-formatting-on-github/basic-writing-and-formatting-syntax#section-links>
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
