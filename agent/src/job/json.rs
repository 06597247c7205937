//! JSON read strictly: a key given twice is an error, and every error has its line and column.
//!
//! In: text. Out: a [`Value`]. `serde_json` alone would let the last of two equal keys win in silence.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, map::Entry};

use super::error::{Problem, quote};

pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|error| {
        let full = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = full.strip_suffix(&place).unwrap_or(&full);
        Problem::new(format!("line {}, column {}: {what}", error.line(), error.column()))
    })
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `serde_json` stops at 128 levels, so the recursion here is bounded.
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            match object.entry(key) {
                Entry::Occupied(entry) => {
                    return Err(A::Error::custom(format_args!("the key {} is given twice", quote(entry.key()))));
                }
                Entry::Vacant(entry) => {
                    let Strict(value) = entries.next_value()?;
                    entry.insert(value);
                }
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_line_and_a_column() {
        let deep = "[".repeat(100_000);
        let cases = [
            ("{\n \"a\": 1,\n}", "line 3, column 1: trailing comma"),
            ("{\"a\": ", "line 1, column 6: EOF while parsing a value"),
            ("{} {}", "line 1, column 4: trailing characters"),
            ("{\"a\": {\"b\": 1, \"b\": 2}}", "line 1, column 18: the key \"b\" is given twice"),
            (&deep, "line 1, column 128: recursion limit exceeded"),
            ("1e999", "line 1, column 5: number out of range"),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text).unwrap_err(), Problem::new(error), "{}", quote(text));
        }
    }

    #[test]
    fn good_json_is_what_serde_json_reads() {
        let text = r#"{"a": [1, -2, 0.5, 18446744073709551615, "x\n", true, null, {}]}"#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }
}
