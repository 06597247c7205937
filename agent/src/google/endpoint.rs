//! Which URLs the agent shows the VM's token to: it is worth as much as the VM's service account, so it goes to Google, or where
//! the operator said it may.

use std::net::IpAddr;

use hyper::{Uri, http::uri::InvalidUri};

use crate::job::CallbackAuth;

/// A URL that the agent refuses to use: the user's name for it, and the problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct EndpointError {
    pub what: String,
    pub problem: EndpointProblem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointProblem {
    #[error("is no URL: {0}")]
    NoUrl(String),
    #[error("is no URL: it must begin with https://")]
    NoScheme,
    #[error("must be an https URL, not {0}")]
    OtherScheme(String),
    #[error("must not carry a user name or password")]
    UserInfo,
    #[error("names no host: {0:?} can be none")]
    NoHost(String),
    #[error("has no port that can be: {0}")]
    NoPort(String),
    #[error(
        "points to {0}, which is not googleapis.com: the VM's token would go to a stranger; if it may, start the agent with \
         --callback-allow {0}"
    )]
    Stranger(String),
    #[error("wants port {port} of {host}, where nothing listens: leave it out")]
    OtherPort { host: String, port: u16 },
    #[error("would send the VM's token in the clear to {0}: use https")]
    InTheClear(String),
}

/// Checks a URL before anything is sent to it, and before the job is run. `what` it is, as the reader knows it, begins the
/// error's sentence.
pub fn check(what: &str, url: &str, auth: &CallbackAuth, allowed_hosts: &[String]) -> Result<Uri, EndpointError> {
    judge(url, auth, allowed_hosts).map_err(|problem| EndpointError { what: what.to_owned(), problem })
}

fn judge(url: &str, auth: &CallbackAuth, allowed_hosts: &[String]) -> Result<Uri, EndpointProblem> {
    use EndpointProblem as No;

    let uri: Uri = url.trim().parse().map_err(|error: InvalidUri| No::NoUrl(error.to_string()))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(No::NoScheme) };
    if !matches!(scheme, "http" | "https") {
        return Err(No::OtherScheme(scheme.to_owned()));
    }
    if authority.as_str().contains('@') {
        return Err(No::UserInfo);
    }
    if !is_host(authority.host()) {
        return Err(No::NoHost(authority.host().to_owned()));
    }
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(No::NoPort(authority.to_string()));
    }
    if *auth == CallbackAuth::None {
        return Ok(uri);
    }
    let host = authority.host().to_ascii_lowercase();
    let is_google = host.ends_with(".googleapis.com");
    let is_named = allowed_hosts.iter().any(|allowed| bare(allowed).eq_ignore_ascii_case(bare(&host)));
    match (is_google, is_named, authority.port_u16()) {
        (false, false, _) => return Err(No::Stranger(host)),
        (true, false, Some(port)) if port != 443 => return Err(No::OtherPort { host, port }),
        _ => {}
    }
    if scheme == "http" && !is_loopback(&host) {
        return Err(No::InTheClear(host));
    }
    Ok(uri)
}

/// Whether there can be such a host: an address, or a name in the form of RFC 1123, 2.1, with underscores as Docker's networks have them. One with a
/// dot at its end has no certificate that fits.
fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        return bare(host).parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last_is_number = host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
    host.len() <= 253 && host.split('.').all(is_label) && (!last_is_number || is_address)
}

/// An IPv6 address without the brackets that it has in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || bare(host).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: &str = "`callback-url`";

    #[test]
    fn the_token_goes_to_google_or_to_hosts_that_were_named() {
        let named = ["127.0.0.1".to_owned(), "example.com".to_owned(), "::1".to_owned()];
        let good = [
            "https://workflowexecutions.googleapis.com/v1/x",
            "https://WORKFLOWEXECUTIONS.googleapis.com/v1/x",
            "http://127.0.0.1:8080/x",
            "http://[::1]:1/x",
            "https://example.com/x",
        ];
        for url in good {
            assert!(check(WHAT, url, &CallbackAuth::AccessToken, &named).is_ok(), "{url}");
        }
        let bad = [
            ("https://evil.com/.googleapis.com", "evil.com"),
            ("https://googleapis.com.evil.com/", "--callback-allow"),
            ("https://workflowexecutions.googleapis.com@evil.com/", "user name"),
            ("https://xgoogleapis.com/", "xgoogleapis.com"),
            ("http://workflowexecutions.googleapis.com/", "in the clear"),
            ("http://example.com/", "in the clear"),
            ("http://127.0.0.2:1/", "127.0.0.2"),
            ("ftp://example.com/", "https"),
            ("/v1/x", "https://"),
            ("", "no URL"),
            ("https://exa mple.com", "no URL"),
            ("https://.googleapis.com/", "names no host"),
            ("https://x..googleapis.com/", "names no host"),
            ("https://-x.googleapis.com/", "names no host"),
            ("https://*.googleapis.com/", "names no host"),
            ("https://workflowexecutions.googleapis.com./", "names no host"),
            ("https://workflowexecutions.googleapis.com:8443/", "leave it out"),
            ("https://workflowexecutions.googleapis.com:/", "no port"),
            ("https://workflowexecutions.googleapis.com:0/", "no port"),
            ("https://workflowexecutions.googleapis.com:99999/", "port"),
            ("https://workflowexecutions.xn--oogleapis-x1g.com/", "stranger"),
            ("https://workflowexecutions.googleapis.cοm/", "no URL"),
            ("https://workflowexecutions.googleapis.com%2eevil.com/", "no URL"),
            ("https://googleapis.com/", "stranger"),
            ("https://127.0.0.300/", "names no host"),
            ("https://127.1/", "names no host"),
            ("https://[::1", "no URL"),
            ("https://[::g]/", "names no host"),
            ("https://@workflowexecutions.googleapis.com/", "user name"),
        ];
        for (url, word) in bad {
            let error = check(WHAT, url, &CallbackAuth::AccessToken, &named).unwrap_err();
            assert!(error.to_string().contains(word), "{url}: {error}");
        }
        let long = format!("https://{}.googleapis.com/", "x".repeat(64));
        assert!(
            check(WHAT, &long, &CallbackAuth::None, &[]).is_err(),
            "whoever is to have no token, a host it must be"
        );
        assert!(check(WHAT, "https://x.googleapis.com:443/", &CallbackAuth::AccessToken, &[]).is_ok());
        assert!(check(WHAT, "http://anywhere.example/", &CallbackAuth::None, &[]).is_ok(), "no token, no danger");
    }
}
