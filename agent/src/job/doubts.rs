//! What can run as written, but was probably meant otherwise.
//!
//! In: a job whose values have all been checked. Out: one sentence for each doubt.

use super::context::JobContext;
use super::discreet::first_word;
use super::error::quote;
use super::names::OWN_VARIABLES;
use super::places::{Root, relative};
use super::types::{Container, Job, RetryOn, Work};
use super::variables::item_variable;

pub(super) fn of(job: &Job) -> Vec<String> {
    let mut doubts = Vec::new();
    match &job.work {
        Work::Container(container) => words(container, &mut doubts),
        Work::Process(process) => program("command", &process.command, &mut doubts),
    }
    doubts.extend(OWN_VARIABLES.into_iter().filter_map(|name| not_used(job, name)));
    if let Work::Container(container) = &job.work
        && let Some(mount) =
            container.mounts.iter().find(|mount| mount.target.ends_with(",ro") || mount.target.ends_with(",rw"))
    {
        doubts.push(format!(
            "the target {} has a comma in it: the options of a mount follow a colon",
            quote(&mount.target)
        ));
    }
    for mount in job.own_mounts().iter().filter(|mount| mount.hides_image) {
        doubts.push(format!(
            "the container gets a directory of the VM as {}, for its outputs: what the image has there is hidden",
            mount.target
        ));
    }
    for output in &job.outputs {
        places(job, &output.from, &mut doubts);
    }
    if job.retry.max_attempts > 1 && job.retry.on.is_empty() {
        doubts.push("retry.max_attempts is above 1, but retry.on names no cause: nothing is tried again".to_owned());
    }
    if job.retry.max_attempts == 1 && !job.retry.on.is_empty() {
        doubts.push("retry.on names causes, but retry.max_attempts is 1: nothing is tried again".to_owned());
    }
    for on in &job.retry.on {
        if let RetryOn::ExitCode(code) = on
            && job.success_exit_codes.contains(code)
        {
            doubts.push(format!("retry.on names EXIT_CODE:{code}, but success_exit_codes makes it a success"));
        }
        if let RetryOn::ExitCode(code @ (137 | 139 | 143)) = on {
            let cause = if *code == 137 { "SIGNAL or OOM_KILLED" } else { "SIGNAL" };
            doubts.push(format!(
                "retry.on names EXIT_CODE:{code}, but a job that ends with {code} has the cause {cause}: name that"
            ));
        }
    }
    doubts
}

/// The same of a job beside what the workflow says of it.
pub(crate) fn of_context(job: &Job, context: &JobContext) -> Vec<String> {
    context.item.keys().filter_map(|name| not_used(job, &item_variable(name))).collect()
}

/// Said of a variable that the job sets itself, and the agent too.
fn not_used(job: &Job, name: &str) -> Option<String> {
    let is_set = job.env().contains(name) || job.secret_env().contains_key(name);
    is_set.then(|| format!("the value given for {name} is not used: vmjob sets it itself"))
}

/// What of an output is not as it may look.
fn places(job: &Job, from: &str, doubts: &mut Vec<String>) {
    let path = relative(from);
    if job.place(from).root == Root::Files && path.components().count() == 1 && !from.ends_with('/') {
        doubts.push(format!(
            "the container gets a directory as {from}, for its outputs: end it with a slash, or write a file into a directory"
        ));
    }
    for mount in job.file_mounts() {
        let is_inside = mount.target != path && mount.target.starts_with(&path);
        if is_inside && (mount.is_read_only || mount.root == Root::Foreign) {
            doubts.push(format!(
                "the mount /{} in the output {from} is not uploaded: it is read-only, a volume or a tmpfs",
                mount.target.display()
            ));
        }
    }
}

/// Command lines written as one word, which konlet's users knew as a job that ends at once with 127.
fn words(container: &Container, doubts: &mut Vec<String>) {
    let entrypoint = container.entrypoint.as_deref().unwrap_or_default();
    program("entrypoint", entrypoint, doubts);
    // The argument of `sh -c`, `bash -lc` or `perl -e` is meant to be one word.
    let takes_text = entrypoint.last().is_some_and(|word| word.starts_with('-') && word.ends_with(['c', 'e']));
    if let [argument] = &container.args[..]
        && is_spaced(argument)
        && !takes_text
    {
        doubts.push(format!(
            "the only argument {} has a space in it and stays one word: if it is a command line, give each word on its own",
            quote(&first_word(argument))
        ));
    }
}

fn program(what: &str, words: &[String], doubts: &mut Vec<String>) {
    if let Some(word) = words.first().filter(|word| is_spaced(word)) {
        doubts.push(format!(
            "the {what} {} has a space in it and is taken as one file name: give each word on its own",
            quote(&first_word(word))
        ));
    }
}

fn is_spaced(word: &str) -> bool {
    word.contains(char::is_whitespace)
}
