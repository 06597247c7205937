//! JSON read strictly: a key given twice is an error, and every error has its line and column.
//!
//! In: text. Out: a [`Json`], whose strings are slices of the text wherever nothing is escaped in them: the largest jobs are
//! tens of thousands of strings. `serde_json` alone would let the last of two equal keys win in silence.

use std::{borrow::Cow, fmt};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::discreet::up_to_equals;
use super::error::{Problem, quote};
use super::json_faults;

/// Of more, an object's keys are held against each other when all are there.
const MANY_KEYS: usize = 16;

#[derive(Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    List(Vec<Self>),
    Object(Object<'a>),
}

/// In the order of the text; one with many keys in theirs.
pub(super) type Object<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

pub(super) fn parse(text: &str) -> Result<Json<'_>, Problem> {
    serde_json::from_str(text).map_err(|error: serde_json::Error| {
        // In words that say what to write; else in the parser's.
        if let Some(problem) = json_faults::find(text) {
            return problem;
        }
        let full = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = full.strip_suffix(&place).unwrap_or(&full);
        let problem = Problem::new(format!("line {}, column {}: {what}", error.line(), error.column()));
        if what.ends_with("is given twice") { problem.fix("leave one of the two out") } else { problem }
    })
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `serde_json` stops at 128 levels, so the recursion here is bounded.
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut object = Object::new();
        let twice = |key: &str| A::Error::custom(format_args!("the key {} is given twice", quote(&up_to_equals(key))));
        while let Some(Key(key)) = entries.next_key()? {
            if object.len() < MANY_KEYS && object.iter().any(|(known, _)| *known == key) {
                return Err(twice(&key));
            }
            object.push((key, entries.next_value()?));
        }
        if object.len() > MANY_KEYS {
            object.sort_by(|(key, _), (other, _)| key.cmp(other));
            if let Some([(key, _), _]) = object.array_windows().find(|[(key, _), (next, _)]| key == next) {
                return Err(twice(key));
            }
        }
        Ok(Json::Object(object))
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(JsonVisitor)? {
            Json::String(key) => Ok(Self(key)),
            _ => Err(D::Error::custom("a key is a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn errors_have_a_line_and_a_column() {
        let deep = "[".repeat(100_000);
        let cases = [
            ("{\n \"a\": 1,\n}", "line 2, column 8: a comma stands before the end"),
            ("{\"a\": ", "line 1, column 7: the text ends, and the { of line 1, column 1 is not closed"),
            ("{} {}", "line 1, column 4: the document ends before this"),
            ("{\"a\": {\"b\": 1, \"b\": 2}}", "line 1, column 18: the key \"b\" is given twice"),
            (&deep, "line 1, column 128: recursion limit exceeded"),
            ("[1e999]", "line 1, column 2: this is no number of JSON"),
        ];
        for (text, error) in cases {
            let found = parse(text).unwrap_err().at("a", "").to_string();
            assert!(found.contains(error), "{}: {found}", quote(text));
        }
    }

    #[test]
    fn good_json_is_what_serde_json_reads() {
        let many = (0..99).map(|i| format!("\"k{i}\":{i}")).collect::<Vec<_>>().join(",");
        for text in [
            r#"{"a": [1, -2, 0.5, 18446744073709551615, "x\n", "y", true, null, {}], "\u0062": false}"#,
            &format!("{{{many}}}"),
        ] {
            assert_eq!(plain(&parse(text).unwrap()), serde_json::from_str::<Value>(text).unwrap());
        }
        let twice = parse(&format!("{{{many},\"\\u006b7\":0}}")).unwrap_err();
        assert!(format!("{twice:?}").contains("the key \\\"k7\\\" is given twice"), "{twice:?}");
    }

    fn plain(json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => (*value).into(),
            Json::Number(number) => number.clone().into(),
            Json::String(text) => (&**text).into(),
            Json::List(items) => items.iter().map(plain).collect(),
            Json::Object(entries) => entries.iter().map(|(key, value)| (key.to_string(), plain(value))).collect(),
        }
    }
}
