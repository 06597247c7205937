//! `${JOB_…}` in the names that a job gives its inputs, outputs and logs.
//!
//! In: a name as written, and later the job's variables. Out: the name with their values, which are ordinary text whatever they
//! hold: a name was cut at its `*` before anything is put in.

use super::error::{JobError, Problem, did_you_mean, quote};
use super::names::{JOB_SPEC, OWN_VARIABLES};
use super::types::{Input, Job, Output};
use super::wildcard::Wildcard;

/// Looks at the variables of a name, without their values.
pub(super) fn check(name: &str) -> Result<(), Problem> {
    replace(name, |variable| {
        let is_item = variable.strip_prefix("JOB_ITEM_").is_some_and(|name| !name.is_empty());
        if is_item || OWN_VARIABLES.contains(&variable) {
            return Ok("x");
        }
        let known = || format!("known are {} and JOB_ITEM_…", OWN_VARIABLES.join(", "));
        let fix = did_you_mean(variable, OWN_VARIABLES).map_or_else(known, |meant| format!("did you mean {meant}?"));
        Err(Problem::new(format!("{} is no variable of a job", quote(variable))).fix(fix))
    })
    .map(drop)
}

/// The name with the values of its variables.
fn fill(name: &str, variables: &[(String, String)]) -> Result<String, Problem> {
    replace(name, |variable| match variables.iter().find(|(name, _)| name == variable) {
        Some((_, value)) if !value.is_empty() => Ok(value),
        Some(_) => Err(Problem::new(format!("the variable {variable} is empty"))
            .fix("leave it out of the name, or see that it has a value")),
        None => Err(Problem::new(format!("this job has no variable {variable}"))
            .fix("give the item an entry of this name in job-context")),
    })
}

fn replace<'a>(
    name: &'a str,
    mut value_of: impl FnMut(&'a str) -> Result<&'a str, Problem>,
) -> Result<String, Problem> {
    let (mut filled, mut rest) = (String::new(), name);
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        let Some((variable, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
            return Err(Problem::new(format!("{} has a $ that begins no ${{JOB_…}}", quote(name)))
                .fix("write $$ for a $ of the name's own"));
        };
        filled.push_str(value_of(variable)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

impl Job {
    /// Whether there is anything to [`fill`](Self::fill).
    pub fn has_variables(&self) -> bool {
        let names = |input: &Input| input.source().contains('$');
        self.inputs.iter().any(names)
            || self.outputs.iter().map(|output| &output.to).chain(&self.logs.upload).any(|name| name.contains('$'))
    }

    /// Puts the values of the job's variables into its names; as it was, where one cannot be.
    pub fn fill(&mut self, variables: &[(String, String)]) -> Result<(), JobError> {
        let mut filled = self.clone();
        for (i, input) in filled.inputs.iter_mut().enumerate() {
            let Input { from, wildcard, .. } = input;
            let names = std::iter::once(from).chain(wildcard.iter_mut().flat_map(|Wildcard(texts)| texts));
            fill_all(names, variables, &format!("inputs[{i}].from"))?;
        }
        for (i, Output { to, .. }) in filled.outputs.iter_mut().enumerate() {
            fill_all([to], variables, &format!("outputs[{i}].to"))?;
        }
        fill_all(&mut filled.logs.upload, variables, "logs.upload")?;
        // Of what the values made of the names.
        filled.check_places()?;
        *self = filled;
        Ok(())
    }
}

fn fill_all<'a>(
    names: impl IntoIterator<Item = &'a mut String>,
    variables: &[(String, String)],
    place: &str,
) -> Result<(), JobError> {
    names.into_iter().try_for_each(|name| {
        *name = fill(name, variables).map_err(|problem| problem.at(JOB_SPEC, place))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::{parse_spec, wildcard::cut};

    fn variables() -> Vec<(String, String)> {
        let variables = [("JOB_ID", "a*b$"), ("JOB_TASK_INDEX", "7"), ("JOB_PREVIOUS_CAUSE", ""), ("JOB_ITEM_d", "x/")];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn values_are_ordinary_text() {
        for (name, filled) in [
            ("gs://b/${JOB_TASK_INDEX}.mp4", "gs://b/7.mp4"),
            ("gs://b/${JOB_ID}/${JOB_ID}$$x$$", "gs://b/a*b$/a*b$$x$"),
            ("$${JOB_ID}", "${JOB_ID}"),
            ("none", "none"),
        ] {
            assert_eq!(fill(name, &variables()).unwrap(), filled);
        }
        let (dir, wildcard) = cut("gs://b/${JOB_TASK_INDEX}/${JOB_ID}-*.csv").unwrap();
        let Wildcard(mut texts) = wildcard.unwrap();
        texts = texts.iter().map(|text| fill(text, &variables()).unwrap()).collect();
        assert_eq!(fill(&dir, &variables()).unwrap(), "gs://b/7/");
        assert!(Wildcard(texts.clone()).matches("a*b$-1.csv"));
        assert!(!Wildcard(texts).matches("aXb$-1.csv"), "a * of a value is an ordinary character");
    }

    #[test]
    fn what_cannot_be_replaced_is_named_with_its_place() {
        let files = |from: &str, to: &str| {
            let input = json!({"from": from, "to": "/in/"});
            let output = json!({"from": "/out/", "to": to});
            let spec = json!({"container": {"image": "a"}, "inputs": [input], "outputs": [output]});
            parse_spec(spec.to_string().as_bytes())
        };
        for (from, to, error) in [
            (
                "gs://b/$JOB_ID",
                "gs://b/",
                "inputs[0].from: \"gs://b/$JOB_ID\" has a $ that begins no ${JOB_…}; write $$",
            ),
            ("gs://b/x", "gs://b/${JOB_ID", "outputs[0].to: \"gs://b/${JOB_ID\" has a $ that begins no"),
            (
                "gs://b/${JOB_IDX}",
                "gs://b/",
                "inputs[0].from: \"JOB_IDX\" is no variable of a job; did you mean JOB_ID?",
            ),
            ("gs://b/${HOME}", "gs://b/", "inputs[0].from: \"HOME\" is no variable of a job; known are JOB_ID, JOB_AT"),
            ("gs://b/*/x", "gs://b/", "inputs[0].from: \"gs://b/*/x\" has a * before its last component; write a *"),
            ("gs://b/x", "gs://b/*/", "outputs[0].to: \"gs://b/*/\" has a * in it; write a * in an input's"),
        ] {
            let found = files(from, to).unwrap_err().to_string();
            assert!(found.starts_with(&format!("job-spec: {error}")), "{found}");
        }
        for (from, to, error) in [
            ("gs://b/${JOB_PREVIOUS_CAUSE}/x", "gs://b/", "inputs[0].from: the variable JOB_PREVIOUS_CAUSE is empty; "),
            (
                "gs://b/x",
                "gs://b/${JOB_ITEM_lr}/",
                "outputs[0].to: this job has no variable JOB_ITEM_lr; give the item",
            ),
        ] {
            let mut job = files(from, to).unwrap().job;
            let before = job.clone();
            let found = job.fill(&variables()).unwrap_err().to_string();
            assert!(found.starts_with(&format!("job-spec: {error}")), "{found}");
            assert_eq!(job, before);
        }
    }

    #[test]
    fn a_wildcard_is_written_back_and_wants_a_directory() {
        let spec = |to: &str| {
            let spec = json!({"container": {"image": "a"}, "logs": {"upload": "gs://b/${JOB_ITEM_d}"},
                "inputs": [{"from": "gs://b/${JOB_TASK_INDEX}-*.csv", "to": to}],
                "outputs": [{"from": "/out/*.$x", "to": "gs://b/"}]});
            parse_spec(spec.to_string().as_bytes())
        };
        let mut job = spec("/in/").unwrap().job;
        assert_eq!(parse_spec(job.to_json().to_string().as_bytes()).unwrap().job, job);
        let mounts: Vec<_> = job.own_mounts().into_iter().map(|mount| (mount.target, mount.hides_image)).collect();
        assert_eq!(mounts, [("/in".to_owned(), false), ("/out".to_owned(), false)]);
        job.fill(&variables()).unwrap();
        assert_eq!(job.logs.upload.as_deref(), Some("gs://b/x/"));
        assert_eq!((job.inputs[0].source(), job.outputs[0].source()), ("gs://b/7-*.csv".into(), "/out/*.$x".into()));
        let error = spec("/in").unwrap_err().to_string();
        assert!(error.contains("inputs[0].to: \"/in\" is to hold what matches a *; end it with a slash"), "{error}");
    }
}
