//! The tokens that the metadata server hands out, and that the callback endpoint checks.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::{Config, ServiceAccount};

const LIFETIME: Duration = Duration::from_secs(3599);
/// A token is served from the cache until this much is left of it:
/// <https://cloud.google.com/compute/docs/access/authenticate-workloads#applications>.
const REFRESH_BELOW: Duration = Duration::from_mins(5);
const MAX_KEPT: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: Vec<AccessToken>,
}

#[derive(Debug)]
struct AccessToken {
    value: String,
    scopes: Vec<String>,
    expires_at: Instant,
    /// Handed out again to who asks for the same scopes.
    cached: bool,
    revoked: bool,
}

impl Tokens {
    /// The answer to `…/token`: a token for these scopes, the cached one while it lasts.
    pub(crate) fn access_token(&mut self, scopes: &[String]) -> Value {
        let now = Instant::now();
        let fresh = |token: &&AccessToken| token.expires_at.duration_since(now) > REFRESH_BELOW;
        let cached = self.issued.iter().filter(|token| token.cached && token.scopes == scopes).find(fresh);
        let (value, expires_at) = match cached {
            Some(token) => (token.value.clone(), token.expires_at),
            None => self.issue(scopes, now + LIFETIME),
        };
        json!({
            "access_token": value,
            "expires_in": expires_at.duration_since(now).as_secs(),
            "token_type": "Bearer",
        })
    }

    fn issue(&mut self, scopes: &[String], expires_at: Instant) -> (String, Instant) {
        let value = format!("ya29.c.fake-{:016x}{:016x}", random(), random());
        if self.issued.len() == MAX_KEPT {
            self.issued.remove(0);
        }
        let token =
            AccessToken { value: value.clone(), scopes: scopes.to_vec(), expires_at, cached: true, revoked: false };
        self.issued.push(token);
        (value, expires_at)
    }

    /// The scopes of a token that is known, neither revoked nor expired.
    pub(crate) fn scopes_of(&self, value: &str) -> Option<&[String]> {
        let good = |token: &&AccessToken| token.value == value && !token.revoked && token.expires_at > Instant::now();
        self.issued.iter().find(good).map(|token| token.scopes.as_slice())
    }

    /// Forgets the cache: the next token is another one. Those that are out stay good.
    pub(crate) fn rotate(&mut self) {
        for token in &mut self.issued {
            token.cached = false;
        }
    }

    /// As [`Self::rotate`], and those that are out are refused from now on.
    pub(crate) fn revoke(&mut self) {
        self.rotate();
        for token in &mut self.issued {
            token.revoked = true;
        }
    }

    /// Makes all tokens older.
    pub(crate) fn age(&mut self, by: Duration) {
        let now = Instant::now();
        for token in &mut self.issued {
            token.expires_at = token.expires_at.checked_sub(by).unwrap_or(now);
        }
    }
}

/// An identity token as <https://cloud.google.com/compute/docs/instances/verifying-instance-identity> shows it: it can
/// be parsed by any JWT library, and its signature is worth nothing.
pub(crate) fn identity_token(config: &Config, account: &ServiceAccount, audience: &str, full: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let subject = format!("1{}", config.numeric_project_id);
    let mut claims = json!({
        "aud": audience, "azp": subject, "sub": subject, "iss": "https://accounts.google.com",
        "iat": now, "exp": now + 3600, "email": account.email, "email_verified": true,
    });
    if full {
        claims["google"] = json!({"compute_engine": {
            "project_id": config.project_id,
            "project_number": config.numeric_project_id,
            "zone": config.zone,
            "instance_id": config.instance_id.to_string(),
            "instance_name": config.instance_name,
            "instance_creation_timestamp": now,
        }});
    }
    let header = json!({"alg": "RS256", "kid": "fakecloud", "typ": "JWT"});
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(&header.to_string()), part(&claims.to_string()), part("not a signature"))
}

/// Unguessable enough for tokens that are worth nothing.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(SystemTime::now())
}
