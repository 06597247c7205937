//! The one owner of the state that both servers and the handle share: a mutex, and the news that something changed.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{broadcast, watch};

use crate::http::Request;
use crate::recorded::{Answer, Event, Site};
use crate::state::State;

/// Events that a slow watcher may fall behind by.
const EVENT_BACKLOG: usize = 1024;

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    events: broadcast::Sender<Event>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            events: broadcast::Sender::new(EVENT_BACKLOG),
        }
    }

    /// Looks at the state, or changes what nobody waits for.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere fails its own test; the state itself is whole after every statement.
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state and wakes everyone who waits.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = self.with(change);
        self.changed.send_replace(());
        result
    }

    /// News of changes from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Records a request, and returns its id.
    pub(crate) fn arrived(&self, site: Site, request: &Request) -> u64 {
        self.with(|state| state.record(site).push(request.record()))
    }

    /// Records how a request ended.
    pub(crate) fn answered(&self, site: Site, id: u64, answer: Answer) {
        let event = self.change(|state| {
            let request = state.record(site).get_mut(id)?;
            request.answer = answer;
            Some(Event { site, request: request.clone() })
        });
        if let Some(event) = event {
            let _ = self.events.send(event); // nobody need be watching
        }
    }
}
