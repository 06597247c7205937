//! The README, docs/ and examples/: short enough to be read, links that lead somewhere, jobs that are jobs, causes that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use packaging::{Page, Scratch, repository, succeed};
use serde_json::{Value, json};

const EXAMPLES: [&str; 9] = [
    "ffmpeg-array",
    "hello",
    "nightly-dump",
    "private-image",
    "process",
    "python-batch",
    "secrets",
    "train-gpu-spot",
    "workflow-in-yours",
];
/// The tables of reference are made from the code between these.
const GENERATED: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

/// Whether a line may be wider than prose: a table's row, a picture, a command that is pasted as one line.
fn may_be_wide(is_code: bool, line: &str) -> bool {
    if is_code { line.starts_with("$ ") } else { line.starts_with(['|', '!']) }
}

fn too_wide(page: &Page) -> Vec<String> {
    let wide = page.lines().filter(|(is_code, line)| line.chars().count() > 100 && !may_be_wide(*is_code, line));
    wide.map(|(_, line)| format!("{}: {line}", page.path.display())).collect()
}

#[test]
fn the_readme_is_read_in_one_go() {
    let readme = Page::read("README.md");
    assert!(readme.text.lines().count() <= 150, "{} lines", readme.text.lines().count());
    let wide: Vec<&str> = readme
        .lines()
        .filter(|(is_code, line)| line.chars().count() > 100 && (*is_code || !line.starts_with(['|', '!'])))
        .map(|(_, line)| line)
        .collect();
    assert!(wide.is_empty(), "{wide:#?}");
    for needed in ["make demo", "make test", "never run on Google's machines", "no GPU was seen", "terraform destroy"] {
        assert!(readme.text.contains(needed), "{needed:?} is not in README.md");
    }
}

#[test]
fn pages_are_not_wider_than_a_screen() {
    let wide: Vec<String> =
        Page::all().iter().filter(|page| !page.path.ends_with("CHANGELOG.md")).flat_map(too_wide).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}

/// Where a link of a page leads, from the root on.
fn resolve(page: &Page, target: &str) -> PathBuf {
    let mut path = page.path.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
    }
    path
}

#[test]
fn every_link_leads_somewhere() {
    let pages = Page::all();
    let mut count = 0;
    for page in &pages {
        for link in page.links() {
            if link.contains("://") || link == "../security/policy" {
                continue;
            }
            count += 1;
            let (target, anchor) = link.split_once('#').map_or((&*link, None), |(target, name)| (target, Some(name)));
            let path = if target.is_empty() { page.path.clone() } else { resolve(page, target) };
            let place = format!("{} links to {link}", page.path.display());
            assert!(repository().join(&path).exists(), "{place}: there is no {}", path.display());
            if let Some(anchor) = anchor {
                let anchors = Page::read(path).anchors();
                assert!(anchors.contains(anchor), "{place}: the headings there are {anchors:#?}");
            }
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let linked: BTreeSet<PathBuf> = Page::read("README.md").links().iter().map(PathBuf::from).collect();
    for page in Page::all().iter().filter(|page| page.path.starts_with("docs")) {
        assert!(linked.contains(&page.path), "README.md does not link to {}", page.path.display());
    }
}

fn check(job: &str, place: &str) {
    let folder = Scratch::new();
    let file = folder.join("job.json");
    fs::write(&file, job).unwrap();
    let output = Command::new(e2e::agent_binary()).arg("check").arg(&file).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{place}: {words}\n{job}");
}

#[test]
fn every_job_of_the_pages_passes_check() {
    let mut count = 0;
    for page in Page::all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "json") {
            let place = page.path.display().to_string();
            let value: Value =
                serde_json::from_str(&block.text).unwrap_or_else(|e| panic!("{place}: {e}\n{}", block.text));
            if ["container", "process", "docker_command"].iter().any(|work| value.get(work).is_some()) {
                check(&block.text, &place);
                count += 1;
            }
        }
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn every_command_line_of_the_pages_passes_check() {
    let page = Page::read("docs/docker-command.md");
    let lines: Vec<String> = page
        .blocks()
        .iter()
        .filter_map(|block| block.text.strip_prefix("$ docker run").map(|rest| format!("docker run{rest}")))
        .collect();
    assert!(lines.len() >= 2, "{lines:?}");
    for line in lines {
        check(&line, "docs/docker-command.md");
    }
}

#[test]
fn an_example_has_a_job_its_call_and_its_report() {
    let folders = fs::read_dir(repository().join("examples")).unwrap();
    let folders: BTreeSet<String> = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders.iter().map(String::as_str).collect::<Vec<_>>(), EXAMPLES);
    for name in EXAMPLES {
        let folder = Path::new("examples").join(name);
        let readme = Page::read(folder.join("README.md"));
        assert!((15..=32).contains(&readme.text.lines().count()), "{name}");
        assert!(readme.text.contains("vmjob-run-") && readme.text.contains("job.json"), "{name}");
        assert!(readme.links().contains(&"report.json".to_owned()), "{name}");
        check(&fs::read_to_string(repository().join(&folder).join("job.json")).unwrap(), name);
        let report = fs::read_to_string(repository().join(&folder).join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["state"], json!("SUCCEEDED"), "{name}");
    }
}

/// The names that a file gives: what stands in quotes after an arrow.
fn named(source: &str) -> BTreeSet<String> {
    let names = source.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    names.filter(|name| name.chars().all(|c| c == '_' || c.is_ascii_uppercase())).map(str::to_owned).collect()
}

#[test]
fn every_cause_has_a_heading_and_a_row() {
    let source = fs::read_to_string(repository().join("agent/src/outcome/cause.rs")).unwrap();
    let of_agent = named(&source);
    assert!(of_agent.contains("OOM_KILLED") && of_agent.len() > 20, "{of_agent:?}");
    let page = Page::read("docs/causes.md");
    let rows: BTreeSet<String> =
        page.text.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect();
    assert!(of_agent.is_subset(&rows), "{:?}", of_agent.difference(&rows));
    let of_workflow = ["VM_GONE", "VM_STOPPED", "AGENT_SILENT", "AGENT_NEVER_STARTED"].map(str::to_owned);
    let headings: BTreeSet<String> =
        page.text.lines().filter_map(|line| line.strip_prefix("### ").map(str::to_owned)).collect();
    let known: BTreeSet<String> = of_agent.into_iter().chain(of_workflow).collect();
    assert_eq!(headings, known);
}

#[test]
fn tables_that_are_made_from_the_code_have_their_marks() {
    for name in ["job", "report", "causes", "workflows", "cli"] {
        let text = Page::read(format!("docs/{name}.md")).text;
        let parts: Vec<&str> = text.split(GENERATED).skip(1).collect();
        assert!(!parts.is_empty(), "docs/{name}.md");
        assert!(parts.iter().all(|part| part.matches(END).count() == 1), "docs/{name}.md");
    }
}

/// A command as gcloud's own grammar can look at it: no variables of a shell, and no document in quotes.
fn plain(command: &str) -> String {
    let command = command.replace("\\\n", " ").replace('\n', " ");
    let command = command.split(" --data='{").next().unwrap_or_default();
    let mut plain = String::new();
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('$') {
        plain.extend([before, "x"]);
        let end = |c: char| c != '_' && !c.is_ascii_alphanumeric();
        rest = match after.strip_prefix('(') {
            Some(inner) => inner.split_once(')').map_or("", |(_, rest)| rest),
            None => &after[after.find(end).unwrap_or(after.len())..],
        };
    }
    plain + rest
}

/// Where gcloud is on the machine.
#[test]
fn gcloud_knows_every_command_of_the_pages() {
    let mut commands = Vec::new();
    for page in Page::all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "console") {
            for command in format!("\n{}", block.text).split("\n$ ").filter(|command| !command.starts_with("echo ")) {
                if let Some(start) = command.find("gcloud ") {
                    commands.push(plain(&command[start..]));
                }
            }
        }
    }
    commands.sort();
    commands.dedup();
    assert!(commands.len() > 20, "{commands:#?}");
    if Command::new("gcloud").arg("--version").output().is_err() {
        eprintln!("there is no gcloud: its {} commands were not looked at", commands.len());
        return;
    }
    let folder = Scratch::new();
    let file = folder.join("commands.json");
    let list: Vec<Value> = commands.iter().map(|command| json!({"command_string": command})).collect();
    fs::write(&file, Value::from(list).to_string()).unwrap();
    let mut gcloud = Command::new("gcloud");
    gcloud.args(["meta", "lint-gcloud-commands"]).arg(format!("--commands-file={}", file.display()));
    let found: Vec<Value> = serde_json::from_str(&succeed(&gcloud, Duration::from_secs(200))).unwrap();
    assert_eq!(found.len(), commands.len());
    let wrong: Vec<&Value> = found.iter().filter(|one| one["success"] != json!(true)).collect();
    let wrong: Vec<String> =
        wrong.iter().map(|one| format!("{}: {}", one["command_string"], one["error_message"])).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
