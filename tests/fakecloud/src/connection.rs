//! One connection: requests in, and for each the scripted step or the server's own answer out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::http::{MAX_BODY_BYTES, Reply, Request, Wire};
use crate::recorded::{Answer, Site};
use crate::script::{Action, Step};
use crate::shared::Shared;
use crate::{callback, metadata};

/// Serves a connection until either side closes it. Errors are the client's going away or not speaking HTTP.
pub(crate) async fn serve(mut wire: Wire, shared: Arc<Shared>, site: Site) -> io::Result<()> {
    while let Some(mut request) = wire.read_head().await? {
        let step = shared.with(|state| state.next_step(site, &request));
        if step.action == Action::Reset {
            let id = shared.arrived(site, &request);
            tokio::time::sleep(step.delay).await;
            shared.answered(site, id, Answer::Reset);
            return wire.reset();
        }
        if let Action::Cut(bytes) | Action::Stall(bytes) = step.action {
            return break_off(wire, request, bytes, matches!(step.action, Action::Stall(_)), &shared, site).await;
        }
        wire.read_body(&mut request, if site == Site::Storage { usize::MAX } else { MAX_BODY_BYTES }).await?;
        let id = shared.arrived(site, &request);
        let (ending, reply) = tokio::select! {
            biased; // an answer that is ready goes out even to who sends no more
            ended = obey(step, &shared, site, id, &request) => ended,
            () = wire.left() => (Answer::Abandoned, Reply::empty(200)),
        };
        shared.answered(site, id, ending);
        match ending {
            Answer::Status(_) => wire.write(&reply, &request).await?,
            Answer::Truncated(_) => return wire.write_truncated(&reply).await,
            Answer::Garbage => return wire.write_garbage().await,
            Answer::Reset => return wire.reset(),
            Answer::Hung => {
                wire.left().await;
                return Ok(());
            }
            Answer::Abandoned | Answer::Pending => return Ok(()),
        }
        if !request.keeps_alive() {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes or gives only the beginning of the data.
async fn break_off(
    mut wire: Wire,
    mut request: Request,
    bytes: usize,
    hangs: bool,
    shared: &Shared,
    site: Site,
) -> io::Result<()> {
    wire.read_beginning(&mut request, bytes).await?;
    let id = shared.arrived(site, &request);
    if request.method == "GET" {
        let reply = normal_answer(shared, site, id, &request).await;
        wire.write_beginning(&reply, bytes).await?;
        // What was written is to be read before the reset overtakes it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    } else {
        shared.change(|state| state.storage.take_part(&request));
    }
    if hangs {
        shared.answered(site, id, Answer::Hung);
        wire.left().await;
        return Ok(());
    }
    shared.answered(site, id, Answer::Reset);
    wire.reset()
}

/// Takes one step: how the exchange ends, and the answer where there is one.
async fn obey(step: Step, shared: &Shared, site: Site, id: u64, request: &Request) -> (Answer, Reply) {
    let reply = match &step.action {
        Action::Pass | Action::HangAfter | Action::ResetAfter | Action::Truncate => {
            normal_answer(shared, site, id, request).await
        }
        Action::Answer { status, headers, body } => {
            Reply { status: *status, headers: headers.clone(), body: body.clone() }
        }
        Action::Hang | Action::Reset | Action::Garbage | Action::Cut(_) | Action::Stall(_) => Reply::empty(200),
    };
    if !step.delay.is_zero() {
        tokio::time::sleep(step.delay).await;
    }
    let ending = match step.action {
        Action::Pass | Action::Answer { .. } => Answer::Status(reply.status),
        Action::Hang | Action::HangAfter | Action::Stall(_) => Answer::Hung,
        Action::Reset | Action::ResetAfter | Action::Cut(_) => Answer::Reset,
        Action::Truncate => Answer::Truncated(reply.status),
        Action::Garbage => Answer::Garbage,
    };
    (ending, signed(reply, site))
}

async fn normal_answer(shared: &Shared, site: Site, id: u64, request: &Request) -> Reply {
    match site {
        Site::Metadata => metadata::answer(shared, request).await,
        Site::Callback => callback::answer(shared, id, request),
        Site::Storage => shared.change(|state| state.storage.answer(&state.tokens, request)),
    }
}

/// Adds the headers that every answer of a server has, scripted ones too.
fn signed(reply: Reply, site: Site) -> Reply {
    let reply = if reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("date")) {
        reply
    } else {
        let now = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
        reply.with("Date", now.expect("the year is one of four digits"))
    };
    match site {
        Site::Metadata => reply.with("Metadata-Flavor", "Google").with("Server", "Metadata Server for VM"),
        Site::Callback => reply.with("Server", "ESF"),
        Site::Storage => reply.with("Server", "UploadServer"),
    }
    .with("X-XSS-Protection", "0")
    .with("X-Frame-Options", "SAMEORIGIN")
}
