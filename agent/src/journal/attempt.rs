//! The record of one attempt to run the job.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::{
    clock::{SinceBoot, WallTime},
    files::Rights,
    outcome::{Circumstances, Outcome},
    runtime::{Actors, Daemon, Init, Usage},
    stop::Stop,
};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The cause of the attempt before, if there was one in this VM.
    pub previous_cause: Option<String>,
    pub image: Option<String>,
    pub image_digest: Option<String>,
    pub container: Option<String>,
    /// Its main process, as the engine numbers it.
    pub main_pid: Option<i64>,
    /// When the kernel started that; none where it is no process of this machine.
    #[serde(rename = "main_started_s", deserialize_with = "or_none")]
    pub main_started: Option<SinceBoot>,
    /// When that was first seen to run no more: the clock of an exit that the engine does not confirm.
    #[serde(rename = "gone_since_boot_s", deserialize_with = "or_none")]
    pub gone: Option<SinceBoot>,
    /// The boot in which the attempt began.
    pub boot_id: String,
    /// The user that the image says its container runs as.
    pub image_user: Option<String>,
    /// The rights of the container's user, where the image has its name or number in its list of users.
    pub image_rights: Option<Rights>,
    /// Where the engine keeps its log.
    pub log_path: Option<PathBuf>,
    /// The signal with which its image wants to be stopped.
    pub stop_signal: Option<String>,
    /// Whether its log is read from the engine's file; else by attaching.
    pub logs_from_file: bool,
    /// The daemon that was asked to start it, or has been seen with it running since.
    pub daemon: Option<Daemon>,
    /// Whether the engine went away while the job ran, or as it ended.
    pub engine_lost: bool,
    /// The exit code as the engine told it before it went away.
    pub exit_seen: Option<i64>,
    /// Its own run, and what others have done to the container.
    pub actors: Actors,
    /// What is to be told of the attempt, however it ends.
    pub noted: Vec<String>,
    /// Sources of mounts that were not there, which the engine makes.
    pub missing_sources: Vec<String>,
    /// What the image was built for, where that is another platform than the VM's.
    pub other_platform: Option<String>,
    /// The main process, where that is an init of the engine's or the image's.
    pub init: Option<Init>,
    /// Whether the engine said that somebody sent the job a signal.
    pub signalled: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub pull_started_at: Option<WallTime>,
    pub pull_s: Option<f64>,
    #[serde(deserialize_with = "or_none")]
    pub started_at: Option<WallTime>,
    /// When the job started, or just before: the timeout's clock.
    #[serde(rename = "started_since_boot_s", deserialize_with = "or_none")]
    pub started: Option<SinceBoot>,
    #[serde(deserialize_with = "or_none")]
    pub finished_at: Option<WallTime>,
    pub run_s: Option<f64>,
    /// The version that each of its secrets was read at, by the name in the job.
    pub secrets: BTreeMap<String, String>,
    /// Why nothing more of its log may be shown, if so.
    pub withheld: Option<String>,
    pub usage: Usage,
    pub stop: Option<Stop>,
    /// How it ended, before what it has left is uploaded.
    pub outcome: Option<Outcome>,
    /// Whether an upload of what it has left was begun, and may have been done in part.
    pub outputs_begun: bool,
    /// The streams whose log is one object, and whose parts are no longer needed.
    pub logs_composed: Vec<String>,
}

/// A value that a flipped bit has made something else is as if it were not there.
fn or_none<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(deserializer)?).ok())
}

impl Attempt {
    /// What its exit is judged by.
    pub fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            is_container: self.image.is_some(),
            stop: self.stop.as_ref(),
            signalled: self.signalled.as_deref(),
            engine_lost: self.engine_lost,
            main_pid: self.main_pid,
            init: self.init.as_ref(),
        }
    }
}
