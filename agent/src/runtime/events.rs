//! The engine's own account of a container: what was done to it, as it happens. Its end tells that the engine went away.
//! Source: <https://docs.docker.com/reference/api/engine/version/v1.41/#operation/SystemEvents>.

use std::{collections::HashMap, fmt, pin::Pin, time::Duration};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    EngineError,
    docker::{DockerEngine, NO_DEADLINE},
};

/// For what it need not wait for.
const REMEMBER_DEADLINE: Duration = Duration::from_secs(5);

/// Something that happened to the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A signal was sent to it, by its number.
    Kill(String),
    /// It ended, with this exit code.
    Die(i64),
    /// The kernel killed something in it for memory.
    Oom,
    /// It was started, perhaps again.
    Start,
    Pause,
    Unpause,
    /// Somebody started this command in it, as `docker exec` does.
    Exec(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(signal) => write!(f, "signal {signal} was sent to the container"),
            Self::Die(code) => write!(f, "the container ended with exit code {code}"),
            Self::Oom => f.write_str("the kernel killed a process of the container for memory"),
            Self::Start => f.write_str("the container was started"),
            Self::Pause => f.write_str("the container was paused"),
            Self::Unpause => f.write_str("the container goes on after a pause"),
            Self::Exec(command) => write!(f, "a command was started in the container: {}", command.escape_debug()),
        }
    }
}

/// What is listened to. One of `exec_start` makes the engine compare the beginnings of names.
const EVENTS: [&str; 7] = ["kill", "die", "oom", "start", "pause", "unpause", "exec_start"];

/// The events of one container, from now on.
pub struct Events {
    messages: Pin<Box<dyn Stream<Item = Result<EventMessage, bollard::errors::Error>> + Send>>,
    supported: bool,
}

impl DockerEngine {
    pub fn events(&self, container: &str) -> Events {
        let filters = HashMap::from([("container", vec![container]), ("event", EVENTS.to_vec())]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let patient = self.docker.clone().with_timeout(NO_DEADLINE);
        Events { messages: Box::pin(patient.events(Some(options))), supported: true }
    }
}

impl DockerEngine {
    /// The exit code of the first end of the container, and its time, that this daemon itself has seen, and not forgotten: it remembers its last
    /// 256 events.
    pub(super) async fn first_exit(&self, container: &str) -> Option<(i64, Option<Timestamp>)> {
        let filters = HashMap::from([("container", vec![container]), ("event", vec!["die"])]);
        // To the end of this second.
        let (since, until) = ("1", (Timestamp::now().as_second() + 1).to_string());
        let options = EventsOptionsBuilder::new().filters(&filters).since(since).until(&until).build();
        let first = timeout(REMEMBER_DEADLINE, Box::pin(self.docker.events(Some(options))).next()).await;
        let message = first.ok()??.ok()?;
        let at = message.time_nano.and_then(|at| Timestamp::from_nanosecond(at.into()).ok());
        match read(message)? {
            Event::Die(code) => Some((code, at)),
            _ => None,
        }
    }
}

impl Events {
    /// Of what has none.
    pub(super) fn none() -> Self {
        Self { messages: Box::pin(stream::empty()), supported: false }
    }

    /// The next event; an error when the engine has gone away. An engine that has no events is simply quiet.
    pub async fn next(&mut self) -> Result<Event, EngineError> {
        while self.supported {
            match self.messages.next().await {
                Some(Ok(message)) => {
                    if let Some(event) = read(message) {
                        return Ok(event);
                    }
                }
                Some(Err(error)) => match EngineError::from(error) {
                    EngineError::Refused { .. } => self.supported = false,
                    lost => return Err(lost),
                },
                None => return Err(EngineError::Unreachable("it closed its stream of events".into())),
            }
        }
        std::future::pending().await
    }
}

fn read(message: EventMessage) -> Option<Event> {
    let attributes = message.actor.and_then(|actor| actor.attributes).unwrap_or_default();
    let action = message.action?;
    if let Some(command) = action.strip_prefix("exec_start:") {
        return Some(Event::Exec(command.trim().to_owned()));
    }
    match action.as_str() {
        "kill" => Some(Event::Kill(attributes.get("signal")?.clone())),
        "die" => Some(Event::Die(attributes.get("exitCode")?.parse().ok()?)),
        "oom" => Some(Event::Oom),
        "start" => Some(Event::Start),
        "pause" => Some(Event::Pause),
        "unpause" => Some(Event::Unpause),
        _ => None,
    }
}
