//! JSON with its fields in the order in which they were written, to be looked through as a whole.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

use super::printable;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Null, a boolean or a number.
    Plain(Value),
    Text(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl Tree {
    pub(super) fn of(document: &impl Serialize) -> Self {
        // Only a map key that is no string, or a `Serialize` that fails by itself, could make this fail: there is neither.
        let json = serde_json::to_string(document).expect("JSON values with string keys always serialize");
        serde_json::from_str(&json).expect("what serde_json has written it reads")
    }

    /// As JSON in one line, whose characters are all to be seen.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self).expect("a tree's keys are strings");
        printable(&json, "").into_owned()
    }

    /// Each text through `mask`; with `deep` names of fields and numbers too.
    pub(super) fn mask(&mut self, mask: &dyn Fn(&str) -> String, deep: bool) {
        match self {
            Self::Text(text) => *text = mask(text),
            Self::List(items) => items.iter_mut().for_each(|item| item.mask(mask, deep)),
            Self::Fields(fields) => {
                for (name, value) in fields {
                    if deep {
                        *name = mask(name);
                    }
                    value.mask(mask, deep);
                }
            }
            Self::Plain(Value::Number(number)) if deep => {
                let number = number.to_string();
                let masked = mask(&number);
                if masked != number {
                    *self = Self::Text(masked);
                }
            }
            Self::Plain(_) => {}
        }
    }

    /// The field of this name, if it is there and not null.
    pub fn field(&mut self, name: &str) -> Option<&mut Self> {
        let Self::Fields(fields) = self else { return None };
        let value = fields.iter_mut().find(|(other, _)| other == name).map(|(_, value)| value);
        value.filter(|value| **value != Self::Plain(Value::Null))
    }

    /// Its items, if it is a list.
    pub fn items(&mut self) -> Option<&mut Vec<Self>> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Fields(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Tree::Fields(fields))
    }
}
