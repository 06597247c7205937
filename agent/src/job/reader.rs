//! JSON values that know where they stand.
//!
//! In: a [`Json`]. Out: Rust values, or a [`JobError`] with the place, what was found, and what is wanted.
//! `null` reads as a field that is not there.

use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Number;

use super::discreet::{is_file_like, up_to_equals};
use super::error::{JobError, Problem, did_you_mean, quote};
use super::json::{Json, Object};
use super::names::{CONTAINER_FIELDS, JOB_FIELDS, JOB_SPEC};
use super::odd_chars::explain;
use super::units;

/// What people write who come from other tools, and what it is called here.
const OTHER_NAMES: [(&str, &str); 7] = [
    ("command", "entrypoint"),
    ("cmd", "args"),
    ("args", "command"),
    ("retries", "retry"),
    ("environment", "env"),
    ("volumes", "mounts"),
    ("working_dir", "workdir"),
];

/// Where a value stands. Written out only where something is wrong with it: a job may have ten thousand variables.
#[derive(Clone)]
enum Place<'a> {
    /// Of this attribute.
    Root(&'static str),
    Field(Rc<Self>, &'a str),
    Item(Rc<Self>, usize),
    Entry(Rc<Self>, &'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Root(_) => Ok(()),
            Self::Field(parent, name) if parent.is_root() => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Entry(parent, key) => write!(f, "{parent}[{}]", quote(key)),
        }
    }
}

impl Place<'_> {
    fn attribute(&self) -> &'static str {
        match self {
            Self::Root(attribute) => attribute,
            Self::Field(parent, _) | Self::Item(parent, _) | Self::Entry(parent, _) => parent.attribute(),
        }
    }

    fn is_root(&self) -> bool {
        matches!(self, Self::Root(_))
    }
}

/// One value and its place in the attribute.
pub(super) struct Field<'a> {
    place: Place<'a>,
    value: &'a Json<'a>,
}

/// One object whose field names are all known.
pub(super) struct Fields<'a> {
    place: Rc<Place<'a>>,
    object: &'a Object<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn root(attribute: &'static str, value: &'a Json<'a>) -> Self {
        Self { place: Place::Root(attribute), value }
    }

    pub(super) fn error(&self, problem: Problem) -> JobError {
        problem.at(self.place.attribute(), self.place.to_string())
    }

    /// An error in a field of an item of this list.
    pub(super) fn item_error(&self, index: usize, name: &str, problem: Problem) -> JobError {
        problem.at(self.place.attribute(), format!("{}[{index}].{name}", self.place))
    }

    pub(super) fn expected(&self, what: &str) -> JobError {
        let found = match self.value {
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => number.to_string(),
            Json::String(text) => format!("the string {}", quote(text)),
            _ => return self.expected_unseen(what),
        };
        self.error(Problem::new(format!("expected {what}, found {found}")))
    }

    /// As [`Field::expected`], where the value may be a secret: only its kind is shown.
    fn expected_unseen(&self, what: &str) -> JobError {
        let found = match self.value {
            Json::Null => "null",
            Json::Bool(_) => "true or false",
            Json::Number(_) => "a number",
            Json::String(_) => "a string",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
        };
        self.error(Problem::new(format!("expected {what}, found {found}")))
    }

    pub(super) fn value(&self) -> &'a Json<'a> {
        self.value
    }

    pub(super) fn flag(&self) -> Result<bool, JobError> {
        match self.value {
            Json::Bool(value) => Ok(*value),
            _ => Err(self.expected("true or false")),
        }
    }

    fn text(&self) -> Option<&'a str> {
        match self.value {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    fn as_number(&self) -> Option<&'a Number> {
        match self.value {
            Json::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A string as it stands, empty or not.
    pub(super) fn string(&self) -> Result<String, JobError> {
        self.checked(|text| Ok(text.to_owned()))
    }

    /// A string that `check` accepts, as what `check` makes of it.
    pub(super) fn checked<T>(&self, check: impl FnOnce(&str) -> Result<T, Problem>) -> Result<T, JobError> {
        let text = self.text().ok_or_else(|| match self.value {
            Json::Bool(_) | Json::Number(_) => self.expected_unseen("a string, in quotes"),
            _ => self.expected_unseen("a string"),
        })?;
        if text.contains('\0') {
            // No path, argument or variable of a process can hold one.
            return Err(self.error(Problem::new("a string cannot contain a NUL character")));
        }
        check(text).map_err(|problem| self.error(explain(text, problem)))
    }

    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, JobError> {
        let found = choices.iter().find(|(name, _)| self.text() == Some(name));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.expected(&names.join(" or "))
        })
    }

    pub(super) fn whole<T>(&self, range: RangeInclusive<i64>) -> Result<T, JobError>
    where
        T: TryFrom<i64>,
    {
        self.as_number()
            .and_then(|number| number.as_i64().or_else(|| i64::try_from(units::whole(number.as_f64()?)?).ok()))
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.expected(&format!("a whole number from {} to {}", range.start(), range.end())))
    }

    pub(super) fn number(&self) -> Result<f64, JobError> {
        self.as_number().and_then(Number::as_f64).ok_or_else(|| self.expected("a number"))
    }

    pub(super) fn duration(&self) -> Result<Duration, JobError> {
        match self.value {
            Json::String(_) => self.checked(units::read_duration),
            Json::Number(_) => units::duration_from_seconds(self.number()?).map_err(|problem| self.error(problem)),
            _ => Err(self.expected(r#"a duration such as "90s" or "36h""#)),
        }
    }

    /// In bytes.
    pub(super) fn size(&self) -> Result<u64, JobError> {
        match self.value {
            Json::String(_) => self.checked(units::parse_size),
            Json::Number(number) => number
                .as_i64()
                .map_or_else(|| number.as_f64().and_then(units::whole), |bytes| u64::try_from(bytes).ok())
                .ok_or_else(|| self.expected("a whole number of bytes")),
            _ => Err(self.expected(r#"a size such as "512m" or "8g""#)),
        }
    }

    /// The items of a list; `what` says what the list should have been.
    pub(super) fn items(&self, what: &str) -> Result<impl Iterator<Item = Field<'a>> + use<'a>, JobError> {
        let Json::List(list) = self.value else {
            let is_file = self.text().is_some_and(|text| is_file_like(text) && text.contains('.'));
            return Err(if is_file { self.expected(what) } else { self.expected_unseen(what) });
        };
        let here = Rc::new(self.place.clone());
        let item = move |(index, value)| Field { place: Place::Item(here.clone(), index), value };
        Ok(list.iter().enumerate().map(item))
    }

    pub(super) fn strings(&self) -> Result<Vec<String>, JobError> {
        self.items(r#"a list of strings such as ["train.py", "--epochs", "3"]"#)?.map(|item| item.string()).collect()
    }

    /// A list of strings none of which is empty.
    pub(super) fn names(&self) -> Result<Vec<String>, JobError> {
        let items = self.items(r#"a list of strings such as ["a", "b"]"#)?;
        items.map(|item| item.checked(super::checks::non_empty)).collect()
    }

    /// The entries of an object whose keys are the user's own; `what` says what it should have been.
    pub(super) fn entries(&self, what: &str) -> Result<impl Iterator<Item = (&'a str, Field<'a>)> + use<'a>, JobError> {
        let Json::Object(object) = self.value else { return Err(self.expected_unseen(what)) };
        if object.iter().any(|(key, _)| key.contains('\0')) {
            return Err(self.error(Problem::new("a key cannot contain a NUL character")));
        }
        let here = Rc::new(self.place.clone());
        Ok(object.iter().map(move |(key, value)| (&**key, Field { place: Place::Entry(here.clone(), key), value })))
    }

    /// An object of strings; `check_key` looks at each key.
    pub(super) fn string_map<M: FromIterator<(String, String)>>(
        &self,
        check_key: fn(&str) -> Result<(), Problem>,
    ) -> Result<M, JobError> {
        Ok(self.string_entries(check_key)?.into_iter().collect())
    }

    fn string_entries(&self, check_key: fn(&str) -> Result<(), Problem>) -> Result<Vec<(String, String)>, JobError> {
        let entries = self.entries(r#"an object of strings such as {"EPOCHS": "3"}"#)?;
        let read = |(key, field): (&str, Field)| {
            check_key(key).map_err(|problem| self.error(problem))?;
            match field.value {
                Json::String(_) => Ok((key.to_owned(), field.string()?)),
                Json::Bool(_) | Json::Number(_) => Err(field.expected_unseen("a string, in quotes")),
                _ => Err(field.expected_unseen("a string")),
            }
        };
        entries.map(read).collect()
    }

    /// An object with these fields and no others.
    pub(super) fn object(&self, known: &[&str]) -> Result<Fields<'a>, JobError> {
        let Json::Object(object) = self.value else { return Err(self.expected("an object")) };
        // Looked for first: a misspelt name is the cause, the "missing" field only its effect.
        match object.iter().find(|(name, _)| !known.contains(&&**name)) {
            Some((name, _)) => Err(self.unknown(name, known)),
            None => Ok(Fields { place: Rc::new(self.place.clone()), object }),
        }
    }

    fn unknown(&self, name: &str, known: &[&str]) -> JobError {
        let is_job = self.place.attribute() == JOB_SPEC;
        let place = match (self.place.is_root(), is_job) {
            (true, true) => "the job".to_owned(),
            (true, false) => "the context".to_owned(),
            (false, _) => self.place.to_string(),
        };
        let fix = if is_job && JOB_FIELDS.contains(&name) {
            format!("it belongs at the top, beside \"{}\"", if name == "container" { "id" } else { "container" })
        } else if is_job && self.place.is_root() && CONTAINER_FIELDS.contains(&name) {
            "it belongs in \"container\"".to_owned()
        } else if let Some((_, here)) = OTHER_NAMES.iter().find(|(other, here)| *other == name && known.contains(here))
        {
            format!("here it is called \"{here}\"")
        } else if let Some(meant) = did_you_mean(name, known.iter().copied()) {
            format!("did you mean \"{meant}\"?")
        } else {
            format!("known are {}", known.join(", "))
        };
        let problem = Problem::new(format!("unknown field {} in {place}", quote(&up_to_equals(name)))).fix(fix);
        explain(name, problem).at(self.place.attribute(), "")
    }
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        let (name, value) =
            self.object.iter().find(|(key, _)| key == name).filter(|(_, value)| *value != Json::Null)?;
        Some(Field { place: Place::Field(self.place.clone(), name), value })
    }

    /// What `read` makes of the field, if it is there.
    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, JobError>,
    ) -> Result<Option<T>, JobError> {
        self.get(name).map(|field| read(&field)).transpose()
    }

    /// As [`Fields::read`], over the default that stands in `slot`.
    pub(super) fn set<T>(
        &self,
        slot: &mut T,
        name: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, JobError>,
    ) -> Result<(), JobError> {
        if let Some(value) = self.read(name, read)? {
            *slot = value;
        }
        Ok(())
    }

    /// As [`Fields::read`], for a field that must be there; `example` is a value in JSON.
    pub(super) fn need<T>(
        &self,
        name: &str,
        example: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, JobError>,
    ) -> Result<T, JobError> {
        self.read(name, read)?.ok_or_else(|| {
            let problem = Problem::new(format!("the field \"{name}\" is missing"));
            self.error(problem.fix(format!("write for example \"{name}\": {example}")))
        })
    }

    pub(super) fn error(&self, problem: Problem) -> JobError {
        problem.at(self.place.attribute(), self.place.to_string())
    }
}
