//! The sections of a job-spec beside the work itself: retry, inputs, outputs, logs, callback.
//!
//! In: their JSON. Out: checked values.

use super::checks;
use super::error::{JobError, Problem, did_you_mean, quote};
use super::reader::Field;
use super::template;
use super::types::{Callback, CallbackAuth, Input, Logs, Output, Retry, RetryOn};
use super::wildcard::{self, Wildcard};

/// The causes an attempt can fail of and be tried again in the same VM.
const RETRYABLE: [&str; 19] = [
    "EXIT_CODE",
    "SIGNAL",
    "OOM_KILLED",
    "TIMEOUT",
    "VM_REBOOTED",
    "ENGINE_RESTARTED",
    "CONTAINER_LOST",
    "DISK_FULL",
    "INVALID_SPEC",
    "IMAGE_NOT_FOUND",
    "IMAGE_DENIED",
    "IMAGE_PULL_FAILED",
    "CREATE_FAILED",
    "START_FAILED",
    "ENGINE_UNAVAILABLE",
    "SECRET_FAILED",
    "INPUT_FAILED",
    "OUTPUT_FAILED",
    "AGENT_ERROR",
];

/// Leaves the rest of a 64 KiB report its place.
const MOST_SUMMARY_BYTES: i64 = 40_960;

pub(super) fn retry(field: &Field) -> Result<Retry, JobError> {
    let fields = field.object(&["max_attempts", "on"])?;
    Ok(Retry {
        max_attempts: fields.read("max_attempts", |f| f.whole(1..=100))?.unwrap_or(1),
        on: fields
            .read("on", |f| {
                let items = f.items(r#"a list of causes such as ["VM_REBOOTED", "EXIT_CODE:75"]"#)?;
                items.map(|item| item.checked(retry_on)).collect()
            })?
            .unwrap_or_default(),
    })
}

fn retry_on(text: &str) -> Result<RetryOn, Problem> {
    match text {
        "PREEMPTED" | "VM_SHUTDOWN" => {
            return Err(Problem::new(format!("a VM cannot retry after its own end ({text})"))
                .fix("retry in the workflow, which sees \"retryable\": true in the report"));
        }
        "CANCELLED" => {
            return Err(Problem::new("a job that was cancelled is not tried again (CANCELLED)"));
        }
        "NONE" => {
            return Err(Problem::new("NONE is success: there is nothing to try again"));
        }
        _ => {}
    }
    if let Some(code) = text.strip_prefix("EXIT_CODE:") {
        return match code.parse() {
            Ok(code @ 1..) => Ok(RetryOn::ExitCode(code)),
            _ => Err(Problem::new(format!("{} has no exit code from 1 to 255", quote(text)))
                .fix(r#"write for example "EXIT_CODE:75""#)),
        };
    }
    if let Some(cause) = RETRYABLE.iter().find(|cause| **cause == text) {
        return Ok(RetryOn::Cause(cause));
    }
    let fix = did_you_mean(text, RETRYABLE)
        .map_or_else(|| format!("known are {}", RETRYABLE.join(", ")), |cause| format!("did you mean \"{cause}\"?"));
    Err(Problem::new(format!("unknown cause {}", quote(text))).fix(fix))
}

pub(super) fn input(field: &Field) -> Result<Input, JobError> {
    let fields = field.object(&["from", "to"])?;
    let (from, wildcard) = fields.need("from", r#""gs://bucket/in.csv""#, |f| {
        f.checked(|text| template::check(text).and_then(|()| wildcard::cut(&checks::bucket_uri(text)?)))
    })?;
    let to = fields.need("to", r#""/data/in.csv""#, |f| {
        let to = f.checked(checks::absolute_path)?;
        f.checked(wildcard::without_wildcard)?;
        for_wildcard(f, wildcard.as_ref(), to)
    })?;
    Ok(Input { from, wildcard, to })
}

pub(super) fn output(field: &Field) -> Result<Output, JobError> {
    let fields = field.object(&["from", "to", "required"])?;
    let (from, wildcard) =
        fields.need("from", r#""/data/out""#, |f| f.checked(|text| wildcard::cut(&checks::absolute_path(text)?)))?;
    let to = fields.need("to", r#""gs://bucket/out/""#, |f| for_wildcard(f, wildcard.as_ref(), bucket_place(f)?))?;
    Ok(Output { from, wildcard, to, required: fields.read("required", Field::flag)?.unwrap_or(true) })
}

/// A place in a bucket with variables in it, and no wildcard.
fn bucket_place(field: &Field) -> Result<String, JobError> {
    field.checked(|text| {
        template::check(text)?;
        wildcard::without_wildcard(text)?;
        checks::bucket_uri(text)
    })
}

/// `to` has to be a directory or a prefix where `from` has a wildcard.
fn for_wildcard(field: &Field, wildcard: Option<&Wildcard>, to: String) -> Result<String, JobError> {
    if wildcard.is_some() && !to.ends_with('/') {
        let problem = Problem::new(format!("{} is to hold what matches a *", quote(&to)));
        return Err(field.error(problem.fix("end it with a slash")));
    }
    Ok(to)
}

pub(super) fn logs(field: &Field) -> Result<Logs, JobError> {
    let fields = field.object(&["summary_bytes", "upload", "forward"])?;
    let mut logs = Logs::default();
    fields.set(&mut logs.summary_bytes, "summary_bytes", |f| {
        f.whole(1..=MOST_SUMMARY_BYTES)
            .map_err(|_| f.expected(&format!("1 to {MOST_SUMMARY_BYTES} bytes, for the whole report has 64 KiB")))
    })?;
    logs.upload = fields.read("upload", bucket_place)?;
    fields.set(&mut logs.forward, "forward", Field::flag)?;
    Ok(logs)
}

pub(super) fn callback(field: &Field) -> Result<Callback, JobError> {
    let fields = field.object(&["auth", "audience", "give_up_after"])?;
    let audience = fields.read("audience", |f| f.checked(checks::non_empty))?;
    let has_audience = audience.is_some();
    let kinds = ["access_token", "id_token", "none"].map(|name| (name, name));
    let auth = match fields.read("auth", |f| f.choice(&kinds))? {
        Some("id_token") => CallbackAuth::IdToken { audience },
        _ if has_audience => {
            let problem = Problem::new("an audience is for \"auth\": \"id_token\" only");
            return Err(fields.error(problem.fix("leave it out, or set auth")));
        }
        Some("none") => CallbackAuth::None,
        _ => CallbackAuth::AccessToken,
    };
    Ok(Callback { auth, give_up_after: fields.read("give_up_after", Field::duration)? })
}
