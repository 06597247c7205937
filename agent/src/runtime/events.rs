//! The engine's own account of a container: what was done to it, as it happens. Its end tells that the engine went away.
//! Source: <https://docs.docker.com/reference/api/engine/version/v1.41/#operation/SystemEvents>.

use std::{collections::HashMap, pin::Pin, time::Duration};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use tokio::time::timeout;

use super::{EngineError, docker::DockerEngine};

/// Longer than any job: a stream is quiet for as long as nothing happens.
pub(super) const NO_DEADLINE: Duration = Duration::from_hours(24 * 366);

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
}

/// The events of one container, from now on.
pub struct Events {
    messages: Pin<Box<dyn Stream<Item = Result<EventMessage, bollard::errors::Error>> + Send>>,
    supported: bool,
}

impl DockerEngine {
    pub fn events(&self, container: &str) -> Events {
        let filters = HashMap::from([("container", vec![container]), ("event", vec!["kill", "die", "oom"])]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let patient = self.docker.clone().with_timeout(NO_DEADLINE);
        Events { messages: Box::pin(patient.events(Some(options))), supported: true }
    }
}

impl DockerEngine {
    /// Whether this daemon itself has seen the container end: it remembers its last 256 events.
    pub(super) async fn saw_end(&self, container: &str) -> bool {
        let filters = HashMap::from([("container", vec![container]), ("event", vec!["die"])]);
        // To the end of this second.
        let (since, until) = ("1", (Timestamp::now().as_second() + 1).to_string());
        let options = EventsOptionsBuilder::new().filters(&filters).since(since).until(&until).build();
        let first = timeout(REMEMBER_DEADLINE, Box::pin(self.docker.events(Some(options))).next()).await;
        matches!(first, Ok(Some(Ok(_))))
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
    match message.action?.as_str() {
        "kill" => Some(Event::Kill(attributes.get("signal")?.clone())),
        "die" => Some(Event::Die(attributes.get("exitCode")?.parse().ok()?)),
        "oom" => Some(Event::Oom),
        _ => None,
    }
}
