//! The metadata server: `/computeMetadata/v1/` as
//! <https://cloud.google.com/compute/docs/metadata/querying-metadata> describes it, and as Google's own clients use it.
//!
//! In: requests. Out: values, listings, recursive JSON or text, tokens; held requests where `wait_for_change` says so.

mod guest_attributes;
mod node;
mod query;
mod tree;

pub(crate) use guest_attributes::GuestAttributes;
pub(crate) use tree::Tree;

use node::{Minted, Node};
use query::{Format, Query};

use crate::config::ServiceAccount;
use crate::http::{Reply, Request};
use crate::shared::Shared;
use crate::state::State;
use crate::tokens::identity_token;

const UNKNOWN: &str = "The requested URL was not found on this server.";
const NO_FLAVOR: &str = "Your client does not have permission to get this URL: the header Metadata-Flavor is missing.";
const FORWARDED: &str = "Requests with X-Forwarded-For are refused: they may come from outside the VM.";
const GUEST_ATTRIBUTES: &str = "/computeMetadata/v1/instance/guest-attributes";

/// Answers a request; waits first when it asks for that.
pub(crate) async fn answer(shared: &Shared, request: &Request) -> Reply {
    let path = request.path();
    if request.header("x-forwarded-for").is_some() {
        return Reply::html_error(403, FORWARDED);
    }
    // The root is what clients ping to learn whether this is a Google VM at all.
    if path != "/" && request.header("metadata-flavor") != Some("Google") {
        return Reply::html_error(403, NO_FLAVOR);
    }
    if let Some(rest) = path.strip_prefix(GUEST_ATTRIBUTES).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        return shared.change(|state| guest_attributes::answer(state, rest.trim_start_matches('/'), request));
    }
    if request.method != "GET" && request.method != "HEAD" {
        return Reply::html_error(405, "The request method is inappropriate for the URL.");
    }
    let query = match Query::read(request) {
        Ok(query) => query,
        Err(problem) => return Reply::html_error(400, &problem),
    };
    wait(shared, &path, &query).await;
    shared.with(|state| read(state, &path, &query, request))
}

/// Holds the request until what it asks for differs from what the client has, or is gone, or its time is up.
async fn wait(shared: &Shared, path: &str, query: &Query) {
    let mut changes = shared.changes();
    let etag = || {
        let held = |node: &&Node| !lacks_slash(node, path, query);
        shared.with(|state| state.tree.get(path).filter(held).map(Node::etag))
    };
    let Some(now) = etag().filter(|_| query.wait_for_change) else { return };
    let known = query.last_etag.clone().unwrap_or(now);
    let moved_on = async { while etag().as_ref() == Some(&known) && changes.changed().await.is_ok() {} };
    match query.timeout {
        Some(timeout) => drop(tokio::time::timeout(timeout, moved_on).await),
        None => moved_on.await,
    }
}

fn read(state: &mut State, path: &str, query: &Query, request: &Request) -> Reply {
    let Some(node) = state.tree.get(path) else {
        return Reply::html_error(404, UNKNOWN);
    };
    if lacks_slash(node, path, query) {
        return redirect(request);
    }
    if !node.is_directory() && path.ends_with('/') {
        return Reply::html_error(404, UNKNOWN);
    }
    let etag = node.etag();
    let reply = match node {
        Node::Minted(minted) => {
            let minted = *minted;
            mint(state, minted, query, request)
        }
        node if node.is_directory() && query.recursive => match query.format {
            Some(Format::Text) => Reply::new(200, "application/text", node.recursive_text()),
            _ => Reply::new(200, "application/json", node.json(path).to_string()),
        },
        node if node.is_directory() => match query.format {
            Some(Format::Json) => Reply::new(200, "application/json", node.listing_json().to_string()),
            _ => Reply::new(200, "application/text", node.listing()),
        },
        node => match query.format.unwrap_or(node.usual_format()) {
            Format::Json => Reply::new(200, "application/json", node.json(path).to_string()),
            Format::Text => Reply::new(200, "application/text", node.text()),
        },
    };
    reply.with("ETag", etag)
}

/// Directories end in a slash, except in recursive requests.
fn lacks_slash(node: &Node, path: &str, query: &Query) -> bool {
    node.is_directory() && !path.ends_with('/') && !query.recursive
}

/// To the same with a slash.
fn redirect(request: &Request) -> Reply {
    let query = request.target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let host = request.header("host").unwrap_or("metadata.google.internal");
    let location = format!("http://{host}{}/{query}", request.path());
    Reply::html_error(301, "The document has moved.").with("Location", location)
}

fn mint(state: &mut State, minted: Minted, query: &Query, request: &Request) -> Reply {
    let Some(account) = state.config.service_account.clone() else {
        return Reply::html_error(404, UNKNOWN);
    };
    match minted {
        Minted::Token => {
            let scopes = granted(&account, &query.scopes);
            Reply::json(&state.tokens.access_token(&scopes))
        }
        Minted::Identity => match request.query("audience").filter(|audience| !audience.is_empty()) {
            None => Reply::new(400, "text/html", "non-empty audience parameter required\n"),
            Some(audience) => {
                let full = request.query("format").is_some_and(|format| format.eq_ignore_ascii_case("full"));
                Reply::new(200, "text/html", identity_token(&state.config, &account, &audience, full))
            }
        },
    }
}

/// A token may be narrower than the VM's scopes, never wider.
fn granted(account: &ServiceAccount, asked: &[String]) -> Vec<String> {
    let everything = account.scopes.iter().any(|scope| scope == crate::config::CLOUD_PLATFORM);
    let granted: Vec<String> =
        asked.iter().filter(|scope| everything || account.scopes.contains(scope)).cloned().collect();
    if granted.is_empty() { account.scopes.clone() } else { granted }
}
