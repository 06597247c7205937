//! One place in the metadata tree, and the forms in which it is served.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde_json::{Map, Value};

use super::query::Format;

#[derive(Clone, Debug, Hash)]
pub(crate) enum Node {
    /// Any bytes.
    Bytes(Vec<u8>),
    /// A number in JSON, its digits in text.
    Number(u64),
    /// A list in JSON, lines in text.
    Lines(Vec<String>),
    /// As `Lines`, but JSON is what one gets unasked: `instance/tags` is the only one.
    Tags(Vec<String>),
    /// A directory of names.
    Directory(BTreeMap<String, Node>),
    /// A directory of the numbers 0, 1, …: a list in JSON.
    Numbered(Vec<Node>),
    /// Made when asked for: listed, but no part of recursive answers.
    Minted(Minted),
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Minted {
    Token,
    Identity,
}

impl Node {
    pub(crate) fn text_of(text: &str) -> Self {
        Self::Bytes(text.into())
    }

    pub(crate) fn directory<const N: usize>(children: [(&str, Self); N]) -> Self {
        Self::Directory(children.into_iter().map(|(name, node)| (name.to_owned(), node)).collect())
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Directory(children) => children.get(name),
            Self::Numbered(children) => children.get(name.parse::<usize>().ok()?),
            _ => None,
        }
    }

    pub(crate) fn child_mut(&mut self, name: &str) -> Option<&mut Self> {
        match self {
            Self::Directory(children) => children.get_mut(name),
            Self::Numbered(children) => children.get_mut(name.parse::<usize>().ok()?),
            _ => None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_) | Self::Numbered(_))
    }

    /// Differs when the value, or anything below the directory, differs.
    pub(crate) fn etag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    pub(crate) fn usual_format(&self) -> Format {
        if matches!(self, Self::Tags(_)) { Format::Json } else { Format::Text }
    }

    /// The plain form of a value.
    pub(crate) fn text(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Number(number) => number.to_string().into(),
            Self::Lines(lines) | Self::Tags(lines) => lines
                .iter()
                .flat_map(|line| {
                    [
                        line.as_bytes(),
                        b"
",
                    ]
                })
                .flatten()
                .copied()
                .collect(),
            Self::Directory(_) | Self::Numbered(_) | Self::Minted(_) => Vec::new(),
        }
    }

    /// The names in a directory, those of directories with a slash.
    fn names(&self) -> Vec<String> {
        let name = |(name, node): (String, &Self)| {
            if node.is_directory() { name + "/" } else { name }
        };
        self.children().into_iter().map(name).collect()
    }

    fn children(&self) -> Vec<(String, &Self)> {
        match self {
            Self::Directory(children) => children.iter().map(|(name, node)| (name.clone(), node)).collect(),
            Self::Numbered(children) => children.iter().enumerate().map(|(i, node)| (i.to_string(), node)).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn listing(&self) -> String {
        self.names().into_iter().map(|name| name + "\n").collect()
    }

    pub(crate) fn listing_json(&self) -> Value {
        self.names().into()
    }

    /// Everything below as `path/to/key value` lines.
    pub(crate) fn recursive_text(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        self.add_text("", &mut lines);
        lines
    }

    fn add_text(&self, path: &str, out: &mut Vec<u8>) {
        let mut line = |value: &[u8]| out.extend([path.as_bytes(), b" ", value, b"\n"].concat());
        match self {
            Self::Minted(_) => {}
            Self::Bytes(_) | Self::Number(_) => line(&self.text()),
            Self::Lines(values) | Self::Tags(values) => {
                for value in values {
                    line(value.as_bytes());
                }
            }
            Self::Directory(_) | Self::Numbered(_) => {
                for (name, node) in self.children() {
                    let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                    node.add_text(&below, out);
                }
            }
        }
    }

    /// Everything below the path of this node as JSON, its keys in camelCase, except where users chose them.
    pub(crate) fn json(&self, path: &str) -> Value {
        self.to_json(!path.split('/').any(holds_names_of_users))
    }

    fn to_json(&self, rename: bool) -> Value {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
            Self::Number(number) => (*number).into(),
            Self::Lines(lines) | Self::Tags(lines) => lines.clone().into(),
            Self::Numbered(children) => children.iter().map(|node| node.to_json(rename)).collect(),
            Self::Minted(_) => Value::Null,
            Self::Directory(children) => {
                let served = children.iter().filter(|(_, node)| !matches!(node, Self::Minted(_)));
                let entry = |(name, node): (&String, &Self)| {
                    let below = rename && !holds_names_of_users(name);
                    let name = if rename { camel_case(name) } else { name.clone() };
                    (name, node.to_json(below))
                };
                Value::Object(served.map(entry).collect::<Map<_, _>>())
            }
        }
    }
}

fn holds_names_of_users(directory: &str) -> bool {
    matches!(directory, "attributes" | "guest-attributes" | "service-accounts")
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('-');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        camel.push_str(&first.to_uppercase());
        camel.push_str(rest);
    }
    camel
}
