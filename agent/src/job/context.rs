//! The attribute `job-context`: what the workflow says of a job beside the job itself.
//!
//! In: its bytes. Out: a [`JobContext`]; or the first thing that is wrong with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::{JobError, Problem, quote};
use super::json::{self, Json};
use super::names::JOB_CONTEXT;
use super::reader::Field;
use super::text;

const EXAMPLE: &str = r#"{"vm_attempt": 2, "previous_cause": "PREEMPTED", "item": {"lr": "0.1"}}"#;

/// What the job is told of the VMs before this one, and of its item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobContext {
    /// Which VM for this job it is, from 1.
    pub vm_attempt: u32,
    /// Why the run in the VM before ended; empty for the first.
    pub previous_cause: String,
    /// By names that a variable's name may end with.
    pub item: BTreeMap<String, String>,
}

impl Default for JobContext {
    fn default() -> Self {
        Self { vm_attempt: 1, previous_cause: String::new(), item: BTreeMap::new() }
    }
}

/// Reads a job-context. `text` is the value of the attribute as it came.
pub fn parse_context(text: &[u8]) -> Result<JobContext, JobError> {
    let whole = |problem: Problem| problem.at(JOB_CONTEXT, "");
    let text = text::decode(text, EXAMPLE).map_err(whole)?;
    let value = json::parse(text).map_err(|problem| whole(problem.fix_if_none(&format!("write as {EXAMPLE}"))))?;
    let fields = Field::root(JOB_CONTEXT, &value).object(&["vm_attempt", "previous_cause", "item"])?;
    let mut context = JobContext::default();
    fields.set(&mut context.vm_attempt, "vm_attempt", |f| f.whole(1..=i64::from(u32::MAX)))?;
    fields.set(&mut context.previous_cause, "previous_cause", |f| f.checked(cause))?;
    fields.set(&mut context.item, "item", |f| item(f, text))?;
    Ok(context)
}

fn cause(text: &str) -> Result<String, Problem> {
    let is_name = text.len() <= 64 && text.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    if is_name {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("expected the cause of a report, found {}", quote(text)))
        .fix(r#"write for example "PREEMPTED", or "" for the first VM"#))
}

/// `text` is the whole of the attribute.
fn item(field: &Field, text: &str) -> Result<BTreeMap<String, String>, JobError> {
    let mut written = None;
    let mut item = BTreeMap::new();
    for (name, field) in field.entries(r#"an object such as {"lr": "0.1"}"#)? {
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(is_first) || !name.chars().all(|c| is_first(c) || c.is_ascii_digit()) {
            let problem = Problem::new(format!("{} cannot be the end of the variable JOB_ITEM_…", quote(name)));
            return Err(field.error(problem.fix("write letters, digits and _ only, and no digit first")));
        }
        let value = match field.value() {
            Json::String(_) => field.string()?,
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => {
                // A number that was read would be another text.
                let written = written.get_or_insert_with(|| numbers(text));
                written.get(name).map_or_else(|| number.to_string(), |number| (*number).to_owned())
            }
            _ => return Err(field.expected("a string, a number, or true or false")),
        };
        item.insert(name.to_owned(), value);
    }
    Ok(item)
}

/// The numbers of the item by their names, as they are written: those one object deep in a JSON document that was read. (The
/// parser's own way to keep them, `RawValue`, makes the binary 24 KB larger.)
fn numbers(text: &str) -> BTreeMap<&str, &str> {
    let (mut numbers, mut depth, mut name, mut rest) = (BTreeMap::new(), 0, "", text);
    while let Some(c) = rest.chars().next() {
        let mut end = c.len_utf8();
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '"' => {
                let mut is_escaped = false;
                let is_end = |c| {
                    let is_end = c == '"' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    is_end
                };
                let length = rest[1..].find(is_end).unwrap_or(rest.len() - 1);
                name = &rest[1..=length];
                end = (length + 2).min(rest.len());
            }
            '-' | '0'..='9' => {
                let is_other = |c: char| !c.is_ascii_digit() && !matches!(c, '+' | '-' | '.' | 'e' | 'E');
                end = rest.find(is_other).unwrap_or(rest.len());
                if depth == 2 {
                    numbers.insert(name, &rest[..end]);
                }
            }
            _ => {}
        }
        rest = &rest[end..];
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_with_its_values_as_written() {
        let text =
            br#"{"item": {"lr": 1.50e-3, "n": 10, "s": "a\nb", "on": true, "_x1": "a\\\"{: 7", "vm_attempt": 3.0, "big": 12345678901234567890123},
            "previous_cause": "VM_GONE", "vm_attempt": 3}"#;
        let context = parse_context(text).unwrap();
        assert_eq!((context.vm_attempt, &*context.previous_cause), (3, "VM_GONE"));
        let item: Vec<_> = context.item.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            item,
            [
                "_x1=a\\\"{: 7",
                "big=12345678901234567890123",
                "lr=1.50e-3",
                "n=10",
                "on=true",
                "s=a\nb",
                "vm_attempt=3.0"
            ]
        );
        assert_eq!(parse_context(b"{}").unwrap(), JobContext::default());
        let nulls = br#"{"vm_attempt": null, "previous_cause": null, "item": null}"#;
        assert_eq!(parse_context(nulls).unwrap(), JobContext::default());
        let journal = serde_json::to_string(&context).unwrap();
        assert_eq!(serde_json::from_str::<JobContext>(&journal).unwrap(), context);
        assert_eq!(serde_json::from_str::<JobContext>("{}").unwrap(), JobContext::default());
    }

    #[test]
    fn errors_name_the_place() {
        let cases: [(&[u8], &str); 15] = [
            (b"", "the text is empty; write for example {\"vm_attempt\": 2"),
            (b"{\"vm_attempt\": 2", "line 1, column"),
            (b"[]", "expected an object, found a list"),
            (b"{\"vm_atempt\": 2}", "unknown field \"vm_atempt\" in the context; did you mean \"vm_attempt\"?"),
            (b"{\"id\": 2}", "unknown field \"id\" in the context; known are vm_attempt, previous_cause, item"),
            (b"{\"item\": {}, \"item\": {}}", "line 1, column 19: the key \"item\" is given twice"),
            (b"{\"vm_attempt\": 0}", "vm_attempt: expected a whole number from 1 to 4294967295, found 0"),
            (b"{\"vm_attempt\": \"2\"}", "vm_attempt: expected a whole number"),
            (b"{\"previous_cause\": \"oom\"}", "previous_cause: expected the cause of a report, found \"oom\"; write"),
            (b"{\"item\": [1]}", "item: expected an object such as {\"lr\": \"0.1\"}, found a list"),
            (b"{\"item\": {\"a-b\": 1}}", "item[\"a-b\"]: \"a-b\" cannot be the end of the variable JOB_ITEM_…; write"),
            (b"{\"item\": {\"\": 1}}", "item[\"\"]: \"\" cannot be"),
            (b"{\"item\": {\"1a\": 1}}", "item[\"1a\"]: \"1a\" cannot be"),
            (b"{\"item\": {\"a\": null}}", "item[\"a\"]: expected a string, a number, or true or false, found null"),
            (
                b"{\"item\": {\"a\": {\"b\": 1}}}",
                "item[\"a\"]: expected a string, a number, or true or false, found an",
            ),
        ];
        for (text, error) in cases {
            let found = parse_context(text).unwrap_err().to_string();
            assert!(found.starts_with(&format!("job-context: {error}")), "{found}");
        }
    }
}
