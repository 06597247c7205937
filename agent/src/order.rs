//! Holds the directions of imports: modules in the order that `lib.rs` gives, files without circles. What tests import is free.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

type Name = Vec<String>;
#[derive(Default)]
struct Module {
    uses: BTreeSet<Name>,
    /// Names that it passes on, and where they are from: whoever imports these uses that file.
    passes_on: BTreeMap<String, Name>,
}

#[test]
fn modules_import_from_those_below_them_and_files_form_no_circle() {
    let (modules, order) = (read(), order());
    let rank = |module: &str| order.iter().position(|line| line.iter().any(|name| name == module));
    let mut against = BTreeSet::new();
    let mut files: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
    for (name, module) in &modules {
        for used in module.uses.iter().chain(module.passes_on.values()) {
            let (Some(from), Some(to)) = (rank(&name[0]), rank(&used[0])) else {
                panic!("{name:?} or {used:?} has no place in the order of lib.rs")
            };
            if name[0] != used[0] && from >= to {
                against.insert(format!("{} > {}", name[0], used[0]));
            }
        }
        let used = module.uses.iter().filter_map(|used| file_of(&modules, used)).filter(|used| *used != name);
        files.insert(name, used.collect());
    }
    assert_eq!(against, BTreeSet::new(), "imports against the order");
    assert_eq!(circles(&files), BTreeSet::new(), "files in circles, a circle a line");
}

#[test]
fn the_architecture_says_the_order_in_the_same_words() {
    let text = include_str!("../../ARCHITECTURE.md");
    for line in order() {
        let line = line.join(", ");
        assert!(text.lines().any(|other| other == line), "ARCHITECTURE.md lacks the line {line:?}");
    }
}

/// The lines of `lib.rs` between its fences.
fn order() -> Vec<Name> {
    let text = include_str!("lib.rs").lines().filter_map(|line| line.strip_prefix("//! "));
    let lines = text.skip_while(|line| *line != "```text").skip(1).take_while(|line| *line != "```");
    lines.map(|line| line.split(", ").map(str::to_owned).collect()).collect()
}

fn read() -> BTreeMap<Name, Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut modules, mut dirs) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let below = path.strip_prefix(&root).unwrap().with_extension("");
            let mut name: Name = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            name.pop_if(|last| last == "mod");
            if !["lib", "main", "order", "tests"].contains(&name.last().unwrap().as_str()) {
                modules.insert(name.clone(), imports(&name, &path));
            }
        }
    }
    modules
}

/// What a file imports, and what it names in full.
fn imports(name: &Name, path: &PathBuf) -> Module {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    let code: String = lines.map(|line| line.split("//").next().unwrap().trim().to_owned() + " ").collect();
    let children = code.split("mod ").skip(1).filter_map(|rest| rest.split_once(';')).map(|(child, _)| child);
    let children = children.filter(|child| end_of_path(child) == child.len()).map(|child| format!("{child}::"));
    let (mut module, mut seen) = (Module::default(), Vec::<Range<usize>>::new());
    for start in ["crate::", "self::", "super::"].map(str::to_owned).into_iter().chain(children) {
        for (at, _) in code.match_indices(&start) {
            let before = &code[..at];
            let is_in_name = before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
            if is_in_name || seen.iter().any(|range| range.contains(&at)) {
                continue;
            }
            let is_import = before.ends_with("use ");
            let end = if is_import { code[at..].find(';').unwrap() } else { end_of_path(&code[at..]) };
            seen.push(at..at + end);
            for path in expand(&code[at..at + end]) {
                let path = absolute(name, &path);
                if is_import && before.trim_end_matches("use ").trim_end().ends_with("pub") {
                    module.passes_on.insert(path.last().unwrap().clone(), path);
                } else if !path.is_empty() {
                    module.uses.insert(path);
                }
            }
        }
    }
    module
}

fn end_of_path(code: &str) -> usize {
    code.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':')).unwrap_or(code.len())
}

/// `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Name> {
    let Some((start, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return vec![path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()];
    };
    let (mut depth, body) = (0, &rest[..rest.rfind('}').unwrap()]);
    let branches = body.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let branches = branches.filter(|branch| !branch.trim().is_empty());
    branches.flat_map(expand).map(|branch| [expand(start).remove(0), branch].concat()).collect()
}

fn absolute(name: &Name, path: &Name) -> Name {
    let mut base = if path[0] == "crate" { Vec::new() } else { name.clone() };
    for part in path {
        match part.as_str() {
            "super" => drop(base.pop()),
            "crate" | "self" | "*" => {}
            part => base.push(part.to_owned()),
        }
    }
    base
}

/// The file that has what is named so, wherever it was passed on.
fn file_of<'a>(modules: &'a BTreeMap<Name, Module>, name: &[String]) -> Option<&'a Name> {
    let (file, module) = (1..=name.len()).rev().find_map(|length| modules.get_key_value(&name[..length]))?;
    match name.get(file.len()).and_then(|item| module.passes_on.get(item)) {
        Some(from) => file_of(modules, &[from, &name[file.len() + 1..]].concat()),
        None => Some(file),
    }
}

/// The files that reach themselves, those of one circle in a line.
fn circles(files: &BTreeMap<&Name, BTreeSet<&Name>>) -> BTreeSet<String> {
    let reach = |from| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            next.extend(files[file].iter().copied().filter(|file| reached.insert(*file)));
        }
        reached
    };
    let reached: BTreeMap<_, _> = files.keys().map(|file| (*file, reach(*file))).collect();
    let circle = |file: &&Name| {
        let others = reached[*file].iter().filter(|other| reached[*other].contains(*file));
        others.map(|other| other.join("/")).collect::<Vec<_>>().join(" ")
    };
    files.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
}
