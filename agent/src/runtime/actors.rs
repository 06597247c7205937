//! What others do to a job's container: whoever may use the engine can restart it, pause it, or change its limits. In: the engine's
//! events and what it knows of the container at the start and later. Out: whether it still is the job's own run, and sentences for
//! the report.

use serde::{Deserialize, Serialize};

use super::{Event, Inspected, Settings, Status};

/// How many commands of `docker exec` are named.
const MAX_COMMANDS: usize = 3;
const MAX_COMMAND_CHARS: usize = 80;

/// What is known of a container's own run, and of what others have done to it. Kept in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actors {
    /// When its own run began, as the engine noted it: a later time is another run.
    started_at: Option<String>,
    settings: Option<Settings>,
    /// What the engine runs in it by itself, as `docker exec` does.
    health_command: Option<String>,
    /// Seconds since boot at which it was paused, while it is.
    paused_at_s: Option<f64>,
    paused_s: f64,
    /// Programs that others started in it.
    execs: u32,
    commands: Vec<String>,
}

impl Actors {
    /// Notes the job's own run.
    pub fn note_start(&mut self, found: &Inspected) {
        self.started_at = found.started_at.map(|at| at.to_string());
        self.settings.clone_from(&found.container.settings);
        self.health_command.clone_from(&found.container.health_command);
    }

    /// Whether the engine does this by itself, every few seconds.
    pub fn is_health_check(&self, event: &Event) -> bool {
        match (event, &self.health_command) {
            (Event::Exec(command), Some(check)) => command.ends_with(check.as_str()),
            _ => false,
        }
    }

    /// Whether `found` runs, or ran last, another time than the job's own run, whose main process was `own_pid`.
    pub fn is_another_run(&self, own_pid: Option<i64>, found: &Inspected) -> bool {
        match (own_pid, found.pid) {
            (Some(own), Some(now)) => own != now,
            _ => match (&self.started_at, found.started_at) {
                (Some(own), Some(now)) => found.status != Status::Created && *own != now.to_string(),
                _ => false,
            },
        }
    }

    /// Takes an event at this time, in seconds since boot.
    pub fn note_event(&mut self, event: &Event, now_s: f64) {
        match event {
            Event::Pause => self.paused_at_s = self.paused_at_s.or(Some(now_s)),
            Event::Unpause | Event::Die(_) => self.end_pause(now_s),
            Event::Exec(command) => {
                self.execs += 1;
                let command: String = command.chars().take(MAX_COMMAND_CHARS).collect();
                if self.commands.len() < MAX_COMMANDS && !self.commands.contains(&command) {
                    self.commands.push(command);
                }
            }
            Event::Kill(_) | Event::Oom | Event::Start => {}
        }
    }

    pub fn is_paused(&self) -> bool {
        self.paused_at_s.is_some()
    }

    fn end_pause(&mut self, now_s: f64) {
        if let Some(at_s) = self.paused_at_s.take() {
            self.paused_s += (now_s - at_s).max(0.0);
        }
    }

    /// A sentence for each thing that somebody else has done; `now` is what the engine knows of the container in the end.
    pub fn facts(&mut self, now: Option<&Settings>, now_s: f64) -> Vec<String> {
        self.end_pause(now_s);
        let mut facts = Vec::new();
        if self.paused_s > 0.0 {
            facts.push(format!("the container was paused by hand for {:.1} s (docker pause)", self.paused_s));
        }
        if self.execs > 0 {
            let commands = self.commands.join("`, `");
            let execs = self.execs;
            facts.push(format!(
                "programs were started in the container from outside (docker exec), {execs} in all: `{commands}`"
            ));
        }
        if let (Some(before), Some(now)) = (&self.settings, now) {
            facts.extend(before.changes(now));
        }
        facts
    }
}

impl Settings {
    /// A sentence for each setting that is another now.
    fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut differs = |what: &str, before: String, after: String, by: &str| {
            if before != after {
                changes.push(format!("{what} was changed by hand from {before} to {after} ({by})"));
            }
        };
        let limit = |limit: i64, unit: &str| if limit > 0 { format!("{limit}{unit}") } else { "none".to_owned() };
        let cpus = |settings: &Self| limit(settings.nano_cpus / 1_000_000, "m");
        let pids = |settings: &Self| limit(settings.pids_limit, "");
        let memory = |settings: &Self| limit(settings.memory_bytes, " bytes");
        let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        let networks = |settings: &Self| or_none(&settings.networks.iter().cloned().collect::<Vec<_>>().join(", "));
        differs("the container's name", self.name.clone(), now.name.clone(), "docker rename");
        differs("the memory limit", memory(self), memory(now), "docker update");
        differs("the CPU limit", cpus(self), cpus(now), "docker update");
        differs("the set of CPUs", or_none(&self.cpuset), or_none(&now.cpuset), "docker update");
        differs("the process limit", pids(self), pids(now), "docker update");
        let (before, after) = (self.restart_policy.clone(), now.restart_policy.clone());
        differs("the container's restart policy", before, after, "docker update");
        differs("the container's networks", networks(self), networks(now), "docker network connect or disconnect");
        changes
    }

    /// Who starts a container again whose settings are these.
    pub fn who_restarts(&self) -> String {
        match self.restart_policy.as_str() {
            "" | "no" => "somebody started the container again by hand (docker restart or docker start)".into(),
            policy => format!(
                "somebody gave the container the restart policy {policy:?} (docker update), and the engine started it again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_thing_that_others_do_is_told_once() {
        let before = Settings { name: "a".into(), restart_policy: "no".into(), ..Settings::default() };
        let networks = BTreeSet::from(["bridge".to_owned()]);
        let now = Settings { name: "b".into(), memory_bytes: 64, nano_cpus: 1_500_000_000, networks, ..before.clone() };
        let mut actors = Actors { settings: Some(before.clone()), ..Actors::default() };
        assert_eq!(actors.facts(Some(&before), 9.0), Vec::<String>::new());
        for (event, at) in [
            (Event::Pause, 1.0),
            (Event::Pause, 2.0),
            (Event::Unpause, 3.0),
            (Event::Exec("sh".into()), 4.0),
            (Event::Exec("sh".into()), 4.0),
            (Event::Exec("é".repeat(1000)), 4.0),
            (Event::Kill("9".into()), 5.0),
            (Event::Pause, 6.0),
        ] {
            actors.note_event(&event, at);
        }
        let facts = actors.facts(Some(&now), 8.5);
        let wanted = [
            "paused by hand for 4.5 s",
            "from outside (docker exec), 3 in all: `sh`, `é",
            "name was changed by hand from a to b (docker rename)",
            "memory limit was changed by hand from none to 64 bytes",
            "CPU limit was changed by hand from none to 1500m",
            "networks was changed by hand from none to bridge",
        ];
        assert_eq!(facts.len(), wanted.len(), "{facts:#?}");
        for (fact, wanted) in facts.iter().zip(wanted) {
            assert!(fact.contains(wanted) && fact.len() < 300, "{fact}");
        }
    }
}
