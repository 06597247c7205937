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
        _ => match text.parse() {
            Ok(count @ 1..=64) => Ok(Gpus::Count(count)),
            _ => Err(Problem::new(format!("{} is not a number of GPUs", quote(text))).fix(EXAMPLES)),
        },
    };
    let mut fields = comma_separated(text)?;
    if fields.len() > 1 {
        fields.retain(|field| field != "capabilities=gpu");
    }
    let [field] = &fields[..] else {
        let problem = Problem::new(format!("{} names more than devices or a count", quote(text)));
        return Err(problem.fix(r#"for several devices write '"device=0,1"', with both kinds of quotes"#));
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
