//! Work beside the run's steps.

use tokio::{sync::mpsc::UnboundedReceiver, task::JoinHandle};

/// A task that ends when this is dropped.
pub(super) struct Background(JoinHandle<()>);

impl Background {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps the container of a job that has ended from running again.
pub(super) struct Guard {
    pub(super) _task: Background,
    /// What it had to do, a sentence each.
    pub(super) facts: UnboundedReceiver<String>,
}
