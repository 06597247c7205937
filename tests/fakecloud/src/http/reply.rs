//! An answer, before it goes on the wire.

use serde_json::json;

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".into(), content_type.into())], body: body.into() }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, "application/json", value.to_string())
    }

    /// An error page in the manner of Google's front end.
    pub(crate) fn html_error(status: u16, explanation: &str) -> Self {
        let reason = reason(status);
        let body = format!(
            "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error {status} ({reason})!!1</title>\n  \
             <p><b>{status}.</b> <ins>That’s an error.</ins>\n  <p>{explanation}  <ins>That’s all we know.</ins>\n"
        );
        Self::new(status, "text/html; charset=UTF-8", body)
    }

    /// An error as Google's APIs write them: <https://cloud.google.com/apis/design/errors#http_mapping>.
    pub(crate) fn api_error(status: u16, message: &str) -> Self {
        let name = match status {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            _ => "INVALID_ARGUMENT",
        };
        let body = json!({"error": {"code": status, "message": message, "status": name}});
        Self::new(status, "application/json; charset=UTF-8", format!("{body:#}\n"))
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The status line and the headers, up to the empty line.
    pub(crate) fn head(&self, content_length: usize, keep_alive: bool) -> String {
        use std::fmt::Write as _;
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n"); // writing to a String cannot fail
        }
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let _ = write!(head, "Content-Length: {content_length}\r\nConnection: {connection}\r\n\r\n");
        head
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        308 => "Resume Incomplete",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Scripted",
    }
}
