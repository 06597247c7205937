//! The service account's tokens. The metadata server caches them until five minutes before their end, so the agent keeps
//! none: each use asks again.
//! Source: <https://cloud.google.com/compute/docs/access/authenticate-workloads>.

use std::fmt;

use hyper::header::{HeaderValue, InvalidHeaderValue};

use super::{Metadata, MetadataError};

const ACCOUNT: &str = "instance/service-accounts/default";

/// A bearer token. It has no `Display`, and its `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("this VM has no service account, so it has no token to send")]
    NoServiceAccount,
    #[error("the metadata server's token answer holds no token")]
    Malformed,
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl Metadata {
    /// An OAuth access token, in one try.
    pub async fn access_token(&self) -> Result<Token, TokenError> {
        let value = self.request(&format!("{ACCOUNT}/token"), super::REQUEST_DEADLINE).await?;
        let answer: serde_json::Value = serde_json::from_slice(&value.ok_or(TokenError::NoServiceAccount)?.bytes)
            .map_err(|_| TokenError::Malformed)?;
        match answer["access_token"].as_str() {
            Some(token) if !token.is_empty() => Ok(self.known_to_the_gate(token)),
            _ => Err(TokenError::Malformed),
        }
    }

    /// An OpenID Connect identity token for `audience`, in one try.
    pub async fn identity_token(&self, audience: &str) -> Result<Token, TokenError> {
        let audience = percent_encode(audience);
        let path = format!("{ACCOUNT}/identity?audience={audience}&format=full");
        let value = self.request(&path, super::REQUEST_DEADLINE).await?;
        let bytes = value.ok_or(TokenError::NoServiceAccount)?.bytes;
        match str::from_utf8(&bytes).map(str::trim) {
            Ok(token) if !token.is_empty() => Ok(self.known_to_the_gate(token)),
            _ => Err(TokenError::Malformed),
        }
    }

    /// Whoever is sent the token may send it back in an error's text.
    fn known_to_the_gate(&self, token: &str) -> Token {
        self.http.gate().hide_token(token);
        Token(token.to_owned())
    }
}

impl Token {
    /// The `Authorization` header's value, marked sensitive.
    pub fn bearer(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The token itself, for the one place that needs it bare: the registry's password.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded = format!("{encoded}%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_show_itself() {
        let token = Token("ya29.secret".into());
        assert!(!format!("{token:?} {:?}", token.bearer()).contains("secret"));
    }

    #[test]
    fn an_audience_is_percent_encoded() {
        assert_eq!(percent_encode("https://a.b/c?d=ü"), "https%3A%2F%2Fa.b%2Fc%3Fd%3D%C3%BC");
    }
}
