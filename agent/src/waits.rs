//! What the agent is waiting for before the job runs, and what went wrong last: told where a stop comes meanwhile, as it may be the
//! real reason why nothing has run.

use std::{fmt, time::Duration};

use tokio::{sync::watch, time::Instant};

/// A wait that is shorter needs no explanation.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// The waits that are under way, of which each belongs to the one before it.
#[derive(Clone, Default)]
pub struct Waits {
    stack: watch::Sender<Vec<Wait>>,
}

struct Wait {
    what: String,
    since: Instant,
    problem: Option<String>,
}

/// A wait that is under way; over when it is dropped.
#[must_use]
pub struct Waiting {
    waits: Waits,
    depth: usize,
}

impl Waits {
    /// Begins to wait for `what`, such as "the Docker daemon at …".
    pub fn begin(&self, what: impl Into<String>) -> Waiting {
        let wait = Wait { what: what.into(), since: Instant::now(), problem: None };
        let mut depth = 0;
        self.stack.send_modify(|stack| {
            depth = stack.len();
            stack.push(wait);
        });
        Waiting { waits: self.clone(), depth }
    }

    /// The last try of what is waited for has failed so.
    pub fn failed(&self, problem: impl fmt::Display) {
        self.stack.send_modify(|stack| {
            if let Some(wait) = stack.last_mut() {
                wait.problem = Some(problem.to_string());
            }
        });
    }

    /// What is waited for now, for how long, and what went wrong last.
    pub fn told(&self) -> Option<String> {
        let stack = self.stack.borrow();
        let wait = stack.iter().rev().find(|wait| wait.problem.is_some()).or(stack.last())?;
        let waited = wait.since.elapsed();
        if wait.problem.is_none() && waited < WORTH_TELLING {
            return None;
        }
        let problem = wait.problem.as_ref().map(|problem| format!("; so far: {problem}")).unwrap_or_default();
        Some(format!("waiting for {}, for {:.1} s{problem}", wait.what, waited.as_secs_f64()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.stack.send_modify(|stack| stack.truncate(self.depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_wait_that_has_a_problem_is_told() {
        let waits = Waits::default();
        assert_eq!(waits.told(), None);
        let pull = waits.begin("the image");
        assert_eq!(waits.told(), None, "it has only just begun");
        waits.failed("no route");
        let engine = waits.begin("the engine");
        assert!(waits.told().unwrap().starts_with("waiting for the image, for 0.0 s; so far: no route"));
        waits.failed("no socket");
        assert!(waits.told().unwrap().ends_with("the engine, for 0.0 s; so far: no socket"));
        drop(engine);
        assert!(waits.told().unwrap().contains("no route"));
        drop(pull);
        assert_eq!(waits.told(), None);
    }
}
