use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;
use crate::clock::SinceBoot;

#[test]
fn the_logs_are_nobody_else_s_to_read() {
    let dir = std::env::temp_dir().join(format!("vmjob-journal-{}", std::process::id()));
    let journal = Journal::open(&dir).unwrap();
    let left = dir.join("logs.json.new");
    fs::write(&left, "{").unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
    for text in ["one", "two"] {
        journal.save_logs(&text).unwrap();
        assert_eq!(fs::metadata(journal.logs_file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(journal.load_logs::<String>().unwrap(), text);
    }
    fs::remove_dir_all(dir).unwrap();
}

/// What agents of earlier versions, and this one's, have left of a job that runs.
const SHIPPED: [&str; 2] = [include_str!("testdata/journal-first.json"), include_str!("testdata/journal-second.json")];

fn load(name: &str, text: &str) -> (PathBuf, Journal, Record) {
    let dir = std::env::temp_dir().join(format!("vmjob-record-{name}-{}", std::process::id()));
    let journal = Journal::open(&dir).unwrap();
    fs::write(dir.join(RECORD), text).unwrap();
    let record = journal.load().unwrap().expect("a record that is read");
    (dir, journal, record)
}

/// Everything that `old` says is said by `new`.
fn holds(new: &serde_json::Value, old: &serde_json::Value, place: &str) {
    match old {
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(name, old)| holds(&new[name], old, &format!("{place}/{name}")));
        }
        old => assert_eq!(new, old, "{place}"),
    }
}

#[test]
fn a_record_of_every_shipped_form_is_carried_on_and_loses_nothing() {
    for (index, text) in SHIPPED.iter().enumerate() {
        let (dir, journal, record) = load(&format!("shipped-{index}"), text);
        assert_eq!((record.phase, record.job_id.as_str(), record.attempt.number), (Phase::Running, "train-42", 1));
        let Attempt { started_at, started, container, main_pid, .. } = &record.attempt;
        assert!(started_at.is_some() && started.is_some() && container.is_some() && main_pid.is_some());
        journal.save(&record).unwrap();
        assert_eq!(journal.load().unwrap().as_ref(), Some(&record));
        let written = serde_json::from_slice(&fs::read(dir.join(RECORD)).unwrap()).unwrap();
        holds(&written, &serde_json::from_str(text).unwrap(), "");
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_damaged_time_is_as_if_it_were_not_there() {
    let mut value: serde_json::Value = serde_json::from_str(SHIPPED[1]).unwrap();
    let times = ["main_started_s", "gone_since_boot_s", "started_since_boot_s", "pull_started_at", "started_at"];
    for (index, damage) in
        [json!(-1), json!(1e300), json!("2026-13-01T00:00:00Z"), json!(true), json!([])].into_iter().enumerate()
    {
        for time in times {
            value["attempt"][time] = damage.clone();
        }
        value["attempt"]["stop"] = json!({"reason": "TIMEOUT", "at": "t", "since_boot_s": damage});
        let (dir, _journal, record) = load(&format!("damaged-{index}"), &value.to_string());
        let Attempt { main_started, gone, started, pull_started_at, started_at, stop, .. } = record.attempt;
        assert_eq!((main_started, gone, started, pull_started_at, started_at), (None, None, None, None, None));
        assert!(stop.unwrap().since_boot > SinceBoot::default(), "the stop's clock begins anew: {damage}");
        fs::remove_dir_all(dir).unwrap();
    }
}
