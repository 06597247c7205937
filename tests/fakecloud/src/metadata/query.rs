//! What the query part of a metadata request asks for.

use std::time::Duration;

use crate::http::Request;

#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) recursive: bool,
    /// `alt`; `None` is the usual form of what is asked for.
    pub(crate) format: Option<Format>,
    pub(crate) wait_for_change: bool,
    pub(crate) last_etag: Option<String>,
    /// `timeout_sec`; `None` waits for ever.
    pub(crate) timeout: Option<Duration>,
    pub(crate) scopes: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Json,
    Text,
}

impl Query {
    /// Reads the query; the error says which parameter is wrong.
    pub(crate) fn read(request: &Request) -> Result<Self, String> {
        let format = match request.query("alt").as_deref() {
            None => None,
            Some("json") => Some(Format::Json),
            Some("text") => Some(Format::Text),
            Some(other) => return Err(format!("Invalid value for alt: {other}.")),
        };
        let timeout = match request.query("timeout_sec") {
            None => None,
            Some(text) => match text.parse() {
                Ok(seconds) => Some(Duration::from_secs(seconds)),
                Err(_) => return Err(format!("Invalid value for timeout_sec: {text}.")),
            },
        };
        let scopes = request.query("scopes").unwrap_or_default();
        Ok(Self {
            recursive: request.flag("recursive"),
            format,
            wait_for_change: request.flag("wait_for_change"),
            last_etag: request.query("last_etag"),
            timeout,
            scopes: scopes.split([',', ' ']).filter(|scope| !scope.is_empty()).map(Into::into).collect(),
        })
    }
}
