//! A request, its head taken apart.

use std::time::{Instant, SystemTime};

use crate::recorded::{Answer, Recorded};

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) wall: SystemTime,
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// False for HTTP/1.0.
    pub(crate) persistent: bool,
    /// What was kept of the body.
    pub(crate) body: Vec<u8>,
    /// How long the body was.
    pub(crate) body_bytes: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header_contains(&self, name: &str, word: &str) -> bool {
        self.header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        self.persistent && !self.header_contains("connection", "close")
    }

    /// The path, with runs of slashes made one: Google's guest agent asks for `/computeMetadata/v1//`.
    pub(crate) fn path(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        let mut clean = String::with_capacity(path.len());
        for c in path.chars() {
            if c != '/' || !clean.ends_with('/') {
                clean.push(c);
            }
        }
        clean
    }

    /// The first value of a query parameter, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| percent_decode(value))
    }

    /// Whether a query parameter says `true`, in any case: cloud-init asks for `recursive=True`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn record(&self) -> Recorded {
        Recorded {
            id: 0,
            at: self.at,
            wall: self.wall,
            method: self.method.clone(),
            path: self.target.clone(),
            headers: self.headers.clone(),
            body: self.body[..self.body.len().min(super::MAX_BODY_BYTES)].to_vec(),
            answer: Answer::Pending,
            accepted: false,
        }
    }
}

pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
