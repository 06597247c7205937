//! Comparing a report with the part of it that a test is about.

use serde_json::Value;

/// Asserts that `found` has everything that `wanted` has. A text that begins with `~` is to be contained; of a list, each
/// wanted element is to match one that is there, and where none is wanted none may be; an object may have more fields than wanted.
pub fn expect(found: &Value, wanted: &Value) {
    if let Err(place) = matches(found, wanted, "") {
        panic!("{place}\nin {found:#}");
    }
}

fn matches(found: &Value, wanted: &Value, place: &str) -> Result<(), String> {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().try_for_each(|(key, wanted)| {
            matches(found.get(key).unwrap_or(&Value::Null), wanted, &format!("{place}.{key}"))
        }),
        (Value::Array(found), Value::Array(wanted)) if found.is_empty() || !wanted.is_empty() => {
            wanted.iter().try_for_each(|wanted| {
                let is_there = found.iter().any(|found| matches(found, wanted, "").is_ok());
                is_there.then_some(()).ok_or_else(|| format!("{place}: there is no {wanted}"))
            })
        }
        (Value::String(found), Value::String(wanted)) if wanted.starts_with('~') => {
            found.contains(&wanted[1..]).then_some(()).ok_or_else(|| format!("{place}: {found:?} lacks {wanted:?}"))
        }
        _ if found == wanted => Ok(()),
        _ => Err(format!("{place}: {found} instead of {wanted}")),
    }
}
