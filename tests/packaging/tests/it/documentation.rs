//! The manual, the completions and the commented settings say what `--help` says: no more and no less.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use packaging::{Page, Scratch, has, repository, sh, succeed};

fn file(path: &str) -> String {
    fs::read_to_string(repository().join("packaging").join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn help() -> String {
    succeed(Command::new(e2e::agent_binary()).arg("--help"), Duration::from_secs(10))
}

/// The part of the help that tells the options and their variables.
fn options_section() -> String {
    help().split("\nOptions:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("it has options").to_owned()
}

/// A table of docs/cli.md.
fn table(name: &str) -> String {
    let page = Page::read("docs/cli.md").text;
    let table =
        page.split(&format!("<!-- generated: {name} -->")).nth(1).and_then(|rest| rest.split("<!-- end -->").next());
    table.expect("it has its marks").to_owned()
}

/// The words of a text that begin with `start` and go on in the same way.
fn words(text: &str, start: &str, belongs: impl Fn(char) -> bool) -> BTreeSet<String> {
    let follows = |rest: &str| rest.chars().take_while(|&character| belongs(character)).collect::<String>();
    text.match_indices(start)
        .filter(|(place, _)| !text[..*place].ends_with(|before: char| belongs(before)))
        .map(|(place, _)| follows(&text[place + start.len()..]))
        .filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()))
        .collect()
}

fn options(text: &str, start: &str) -> BTreeSet<String> {
    words(text, start, |character| character == '-' || character.is_ascii_lowercase())
}

/// The names at the start of the lines of a section that are indented by two.
fn commands(help: &str) -> BTreeSet<String> {
    let section = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("it has commands");
    let names = section.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// What stands in brackets at the end of a line; and what has no option, at the start of one.
fn variables(section: &str) -> BTreeSet<String> {
    let of_options = section.lines().filter_map(|line| line.trim_end().strip_suffix(']')?.rsplit('[').next());
    let alone = section.lines().filter_map(|line| line.split_whitespace().next());
    of_options
        .chain(alone)
        .filter(|name| name.contains('_') && name.chars().all(|letter| letter == '_' || letter.is_ascii_uppercase()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_options_are_those_of_the_help() {
    let known = options(&options_section(), "--");
    assert!(known.len() > 8, "{known:?}");
    assert_eq!(options(&file("man/vmjob-agent.8"), "Fl -"), known, "the manual");
    assert_eq!(options(&table("flags"), "`--"), known, "docs/cli.md");
    assert_eq!(options(&file("completions/vmjob-agent.bash").replace("-- ", ""), "--"), known, "bash");
    assert_eq!(options(&file("completions/_vmjob-agent"), "--"), known, "zsh");
    assert_eq!(options(&file("completions/vmjob-agent.fish").replace("set -l", ""), "-l "), known, "fish");
}

#[test]
fn the_commands_are_those_of_the_help() {
    let known = commands(&help());
    assert!(known.contains("run"), "{known:?}");
    let manual = file("man/vmjob-agent.8");
    let described =
        manual.split(".Ss Metadata").next().and_then(|text| text.split("The commands are:").nth(1)).unwrap();
    assert_eq!(options(described, ".It Cm "), known, "the manual");
    assert_eq!(options(&table("commands"), "| `"), known, "docs/cli.md");
    let first_words = |text: &str, start: &str| -> BTreeSet<String> {
        let line = text.lines().find(|line| line.trim().starts_with(start)).unwrap_or_default();
        line.trim()[start.len()..]
            .split_whitespace()
            .take_while(|word| !word.starts_with('$'))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(first_words(&file("completions/vmjob-agent.bash"), "mapfile -t COMPREPLY < <(compgen -W \"run"), {
        let mut others = known.clone();
        others.remove("run");
        others
    });
    assert_eq!(first_words(&file("completions/vmjob-agent.fish"), "set -l commands "), known, "fish");
    let zsh = file("completions/_vmjob-agent");
    let zsh = zsh.split("commands=(").nth(1).and_then(|rest| rest.split("\n)").next()).unwrap();
    assert_eq!(words(zsh, "'", |letter| letter.is_ascii_lowercase()), known, "zsh");
}

#[test]
fn the_variables_are_those_of_the_help() {
    let known = variables(&options_section());
    assert!(known.contains("DOCKER_HOST"), "{known:?}");
    let capital = |letter: char| letter == '_' || letter.is_ascii_uppercase();
    assert_eq!(words(&file("man/vmjob-agent.8"), ".It Ev ", capital), known, "the manual");
    assert_eq!(words(&file("deb/default"), "\n#", capital), known, "the settings");
    assert_eq!(words(&table("flags"), "| `", capital), known, "docs/cli.md");
    // What the unit set itself would not be a setting.
    let unit = file("systemd/vmjob-agent.service");
    assert!(!unit.contains("\nStateDirectory=") && !unit.contains("\nEnvironment="), "{unit}");
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let known = help().split("Exit status: ").nth(1).map(|text| text.replace('\n', " ")).expect("it has a section");
    let known: BTreeSet<String> =
        known.split(" · ").filter_map(|part| part.split(' ').next()).map(str::to_owned).collect();
    let manual = file("man/vmjob-agent.8");
    let section = manual.split(".Sh EXIT STATUS").nth(1).and_then(|rest| rest.split(".Sh ").next()).unwrap();
    let described: BTreeSet<String> =
        section.lines().filter_map(|line| line.strip_prefix(".It ")).map(str::to_owned).collect();
    assert_eq!(described, known);
}

#[test]
fn the_manual_is_well_formed() {
    if has("mandoc") {
        let manual = repository().join("packaging/man/vmjob-agent.8");
        succeed(Command::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(manual), Duration::from_secs(10));
    }
}

#[test]
fn bash_completes() {
    let script = repository().join("packaging/completions/vmjob-agent.bash");
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        sh(format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _vmjob_agent; echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            quoted.join(" "),
            words.len() - 1
        ))
    };
    assert_eq!(complete("vmjob-agent st"), "status\n");
    assert_eq!(complete("vmjob-agent --log-format j"), "json\n");
    assert_eq!(complete("vmjob-agent install --pr"), "--prefix\n");
    assert_eq!(complete("vmjob-agent run --pr"), "\n");
    assert_eq!(complete("vmjob-agent check /etc/hostn"), "/etc/hostname\n");
}

#[test]
fn fish_completes() {
    if !has("fish") {
        return;
    }
    let home = Scratch::new();
    let script = repository().join("packaging/completions/vmjob-agent.fish");
    let complete = |line: &str| {
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &format!("source {}; complete -C '{line}'", script.display())]);
        let found = succeed(fish.env("HOME", home.path()), Duration::from_secs(20));
        found.lines().filter_map(|line| line.split('\t').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(complete("vmjob-agent st"), ["status"]);
    assert_eq!(complete("vmjob-agent --log-format "), ["json", "text"]);
    assert_eq!(complete("vmjob-agent install --n"), ["--now"]);
    assert_eq!(complete("vmjob-agent run --n"), [""; 0]);
}

/// What zsh offers after a line and the tab key, in a terminal as a person has it.
#[test]
fn zsh_completes() {
    if !has("zsh") {
        return;
    }
    let home = Scratch::new();
    let directory = repository().join("packaging/completions");
    fs::write(
        home.join("try"),
        format!(
            r#"zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; fpath=({} \$fpath); autoload -U compinit; compinit -u -d \$HOME/dump; zstyle ':completion:*' list-prompt ''; LISTMAX=0"
zpty -w shell $'print \$((40 + 2))READY'
zpty -r -m shell line '*42READY*'
zpty -w -n shell $1$'\t'
sleep 3
while zpty -r -t shell part; do print -rn -- $part; done
zpty -d shell
"#,
            directory.display()
        ),
    )
    .unwrap();
    let complete = |line: &str| {
        let mut zsh = Command::new("zsh");
        zsh.arg("-f").arg(home.join("try")).arg(line).env("HOME", home.path()).env("TERM", "xterm");
        succeed(&zsh, Duration::from_secs(30))
    };
    let offered = complete("vmjob-agent st");
    assert!(offered.contains("vmjob-agent status"), "{offered:?}");
    let offered = complete("vmjob-agent install --");
    assert!(offered.contains("--prefix") && offered.contains("start the unit now"), "{offered:?}");
}
