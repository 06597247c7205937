//! `fakecloud serve`: the servers, and a log of what they are asked, until a signal comes.

use std::io::{self, BufRead as _};
use std::net::SocketAddr;

use fakecloud::{Answer, Config, Event, FakeCloud, ServiceAccount, Site};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::args::ServeOptions;
use super::print;
use super::signals::Signals;

/// Serves until SIGINT or SIGTERM, and returns the exit status.
pub(crate) async fn serve(options: ServeOptions) -> io::Result<u8> {
    let mut signals = Signals::catch()?;
    let cloud = FakeCloud::start(config(&options)).await?;
    for (path, value) in options.values {
        cloud.set(&path, value);
    }
    for (prefix, script) in options.metadata_scripts {
        cloud.script_metadata(&prefix, script);
    }
    cloud.script_callback(options.callback_script);
    let mut events = cloud.events();
    let mut changes = options.control.then(control);
    let storage = cloud.storage_endpoint();
    print(&format!("metadata {}\ncallback {}\nstorage {storage}\n", cloud.metadata_host(), cloud.callback_url()))?;
    loop {
        tokio::select! {
            _ = signals.next() => return Ok(0),
            Some(line) = next_change(&mut changes) => match line.split_once('=') {
                Some((path, value)) if !path.is_empty() => cloud.set(path, value),
                _ => eprintln!("fakecloud: `{line}` is no PATH=VALUE"),
            },
            event = events.recv() => match event {
                Ok(event) => {
                    print(&describe(&event))?;
                    if event.request.accepted {
                        cloud.consume_callback(); // this workflow awaits its callbacks all the time
                    }
                }
                Err(RecvError::Lagged(missed)) => print(&format!("… {missed} requests not shown\n"))?,
                Err(RecvError::Closed) => return Ok(0),
            },
        }
    }
}

fn config(options: &ServeOptions) -> Config {
    let account = ServiceAccount::default();
    let scopes = options.scopes.clone().unwrap_or_else(|| account.scopes.clone());
    Config {
        metadata_addr: SocketAddr::new(options.bind, options.metadata_port),
        callback_addr: SocketAddr::new(options.bind, options.callback_port),
        attributes: options.attributes.clone(),
        service_account: options.service_account.then_some(ServiceAccount { scopes, ..account }),
        ..Config::default()
    }
}

/// The lines of stdin, as they come. Their end ends nothing.
fn control() -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    // Reading stdin blocks; the thread ends with the process.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// `None`, at once, when there are no more; pending where none are to come.
async fn next_change(changes: &mut Option<UnboundedReceiver<String>>) -> Option<String> {
    match changes {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

/// One line for a request, and the payload below it for a callback.
fn describe(event: &Event) -> String {
    let request = &event.request;
    let site = match event.site {
        Site::Metadata => "metadata",
        Site::Callback => "callback",
        Site::Storage => "storage",
    };
    let answer = match request.answer {
        Answer::Status(status) => status.to_string(),
        Answer::Truncated(status) => format!("{status} (truncated)"),
        Answer::Pending => "pending".into(),
        Answer::Abandoned => "abandoned".into(),
        Answer::Hung => "hung".into(),
        Answer::Reset => "reset".into(),
        Answer::Garbage => "garbage".into(),
    };
    let time = jiff::Timestamp::try_from(request.wall).map_or_else(|_| String::new(), |time| format!("{time:.3}"));
    let line = format!("{time} {site} {answer} {} {}\n", request.method, request.path);
    if request.accepted { line + &payload(&request.body) } else { line }
}

fn payload(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => format!("{json:#}\n"),
        Err(_) => format!("{}\n", String::from_utf8_lossy(body)),
    }
}
