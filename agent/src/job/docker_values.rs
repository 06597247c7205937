//! Values of `docker run` flags that have a syntax of their own.
//!
//! In: the text after the flag. Out: the value, checked as the same value of a job-spec would be.

use super::checks;
use super::error::{Problem, quote};
use super::types::{Gpus, Ulimit};
use super::units;

/// Docker reads 0 as no limit.
pub(super) fn size(text: &str, check: fn(u64) -> Result<u64, Problem>) -> Result<Option<u64>, Problem> {
    match units::parse_size(text)? {
        0 => Ok(None),
        bytes => check(bytes).map(Some),
    }
}

pub(super) fn cpus(text: &str) -> Result<Option<f64>, Problem> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(None),
        Ok(cpus) => checks::cpus(cpus).map(Some),
        Err(_) => Err(Problem::new(format!("{} is not a number of CPUs", quote(text))).fix("write for example 1.5")),
    }
}

pub(super) fn pids_limit(text: &str) -> Result<Option<i64>, Problem> {
    match text.parse::<i32>() {
        Ok(0) => Ok(None),
        Ok(limit @ -1..) => Ok(Some(limit.into())),
        _ => Err(Problem::new(format!("expected a number of processes, or -1 for no limit, found {}", quote(text)))),
    }
}

pub(super) fn ulimit(text: &str) -> Result<(String, Ulimit), Problem> {
    let (name, limit) = key_value(text, "nofile=1024:2048")?;
    checks::ulimit_name(name)?;
    Ok((name.to_owned(), checks::ulimit(limit)?))
}

/// `all`, `2`, `device=0`, or `"device=0,1"` with the double quotes in the value; each also with the capability that there always is.
/// <https://github.com/docker/cli/blob/master/opts/gpus.go>
pub(super) fn gpus(text: &str) -> Result<Gpus, Problem> {
    const EXAMPLES: &str = r#"write all, a count, or '"device=0,1"'"#;
    let count = |text: &str| match text {
        "all" | "-1" => Ok(Gpus::All),
        _ => match text.parse::<u32>() {
            Ok(count @ 1..=64) => Ok(Gpus::Count(count)),
            Ok(0) => Err(Problem::new("the job is to have 0 GPUs").fix("leave --gpus out for none")),
            _ => Err(Problem::new(format!("{} is not a number of GPUs", quote(text))).fix(EXAMPLES)),
        },
    };
    let fields = comma_separated(text)?;
    let asks_for_more = fields.len() > 1 || text.contains("capabilities=") || text.contains("driver=nvidia");
    let is_capability = |field: &String| CAPABILITIES.contains(&&**field);
    let (about, devices): (Vec<String>, Vec<String>) = fields
        .into_iter()
        .partition(|field| field.starts_with("capabilities=") || field == "driver=nvidia" || is_capability(field));
    let wanted: Vec<&str> = about
        .iter()
        .filter(|field| *field != "driver=nvidia")
        .flat_map(|field| field.trim_start_matches("capabilities=").split(','))
        .filter(|name| !matches!(*name, "gpu" | ""))
        .collect();
    if !wanted.is_empty() {
        let gpus = shell_word(if devices.is_empty() { "all".to_owned() } else { devices.join(",") });
        return Err(Problem::new(format!(
            "capabilities={} is for NVIDIA's driver, which a variable tells",
            wanted.join(",")
        ))
        .fix(format!("write --gpus {gpus} -e NVIDIA_DRIVER_CAPABILITIES={}", wanted.join(","))));
    }
    let [field] = &devices[..] else {
        if devices.is_empty() && asks_for_more {
            return Err(Problem::new(format!("{} does not say which GPUs", quote(text))).fix(EXAMPLES));
        }
        let problem = Problem::new(format!("{} names more than devices or a count", quote(text)));
        let is_list = devices.first().is_some_and(|first| first.starts_with("device="))
            && devices[1..].iter().all(|more| !more.contains('='));
        let list = if is_list { devices.join(",") } else { "device=0,1".to_owned() };
        return Err(problem.fix(format!(r#"for several devices write '"{list}"', with both kinds of quotes"#)));
    };
    match field.split_once('=') {
        None => count(field),
        Some(("count", number)) => count(number),
        Some(("device", devices)) => {
            let devices: Vec<String> = devices.split(',').map(str::to_owned).collect();
            if devices.iter().any(String::is_empty) {
                return Err(Problem::new(format!("{} names no device", quote(text))).fix(EXAMPLES));
            }
            Ok(Gpus::Devices(devices))
        }
        Some((key, _)) => Err(Problem::new(format!("\"{key}\" has no counterpart in a job")).fix(EXAMPLES)),
    }
}

/// What NVIDIA's driver can give to a container.
const CAPABILITIES: [&str; 8] = ["gpu", "compute", "compat32", "graphics", "utility", "video", "display", "ngx"];

/// A value with a comma in double quotes of its own, in the quotes that keep those.
fn shell_word(value: String) -> String {
    if value.contains(',') { format!("'\"{value}\"'") } else { value }
}

pub(super) fn key_value<'a>(text: &'a str, example: &str) -> Result<(&'a str, &'a str), Problem> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        // The value is not shown: what has no name may still be a secret.
        _ => Err(Problem::new("expected name=value").fix(format!("write for example {example}"))),
    }
}

/// The fields of one line of CSV, as Docker reads `--mount` and `--gpus`: a field in double quotes may have commas.
pub(super) fn comma_separated(text: &str) -> Result<Vec<String>, Problem> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // `fields` has one from the start, so there always is a last.
        let Some(field) = fields.last_mut() else {
            break;
        };
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(Problem::new(format!("a double quote in {} is never closed", quote(text))));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_as_docker_reads_them() {
        let devices = |names: &[&str]| Gpus::Devices(names.iter().map(ToString::to_string).collect());
        let good = [
            ("all", Gpus::All),
            ("2", Gpus::Count(2)),
            ("count=2", Gpus::Count(2)),
            ("device=0", devices(&["0"])),
            ("all,capabilities=gpu", Gpus::All),
            ("\"capabilities=gpu\",count=2", Gpus::Count(2)),
            (r#""device=0,GPU-1""#, devices(&["0", "GPU-1"])),
            ("driver=nvidia,count=1", Gpus::Count(1)),
            ("all,driver=nvidia", Gpus::All),
        ];
        for (text, gpus_wanted) in good {
            assert_eq!(gpus(text), Ok(gpus_wanted));
        }
        for text in [
            "",
            "0",
            "some",
            "device=0,1",
            "device=",
            "\"device=0",
            "all,capabilities=utility",
            "capabilities=gpu",
            "driver=x",
        ] {
            assert!(gpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_capabilities_are_a_variable() {
        let cases = [
            ("all,capabilities=utility", "write --gpus all -e NVIDIA_DRIVER_CAPABILITIES=utility"),
            ("capabilities=utility,all", "write --gpus all -e NVIDIA_DRIVER_CAPABILITIES=utility"),
            ("all,\"capabilities=compute,utility\"", "write --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
            ("all,capabilities=compute,utility", "write --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
            ("2,capabilities=video", "write --gpus 2 -e NVIDIA_DRIVER_CAPABILITIES=video"),
            ("\"device=0,1\",capabilities=video", "write --gpus '\"device=0,1\"' -e NVIDIA_DRIVER_CAPABILITIES=video"),
            ("capabilities=video", "write --gpus all -e NVIDIA_DRIVER_CAPABILITIES=video"),
            ("device=0,1", "for several devices write '\"device=0,1\"', with both kinds of quotes"),
            ("capabilities=gpu", "write all, a count, or '\"device=0,1\"'"),
            ("driver=x", "write all, a count, or '\"device=0,1\"'"),
            ("0", "leave --gpus out for none"),
        ];
        for (text, fix) in cases {
            let error = gpus(text).unwrap_err().at("a", "");
            assert_eq!(error.fix.as_deref(), Some(fix), "{text}: {error}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(size("0", checks::memory), Ok(None));
        assert_eq!(cpus("0"), Ok(None));
        assert_eq!(pids_limit("0"), Ok(None));
        assert_eq!(pids_limit("-1"), Ok(Some(-1)));
        for text in ["nan", "-1", "inf", "x", ""] {
            assert!(cpus(text).is_err(), "{text}");
        }
        assert!(pids_limit("-2").is_err() && size("1m", checks::memory).is_err());
    }
}
