use std::{env, process};

use tokio::net::UnixSocket;

use super::*;

#[tokio::test]
async fn a_shim_that_cannot_be_reached_is_not_taken_for_one_that_has_ended() {
    let dir = env::temp_dir().join(format!("vmjob-processes-{}", process::id()));
    std::fs::create_dir(&dir).unwrap();
    let processes = Processes::below(&dir);
    let spec = r#"{"name": "a", "command": ["true"], "env": {}, "labels": {}, "has_own_group": false}"#;
    processes.create(&serde_json::from_str(spec).unwrap()).unwrap();
    let state = r#"{"pid": 7, "groups": [], "started_at": "2026-01-01T00:00:00.000Z", "error": null, "ended": null}"#;
    std::fs::write(dir.join("a/state.json"), state).unwrap();
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(dir.join("a/socket")).unwrap();
    // One that stands still, with as many waiting for it as may.
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(client) = processes.files("a").connect().await {
        waiting.push(client);
    }
    assert!(matches!(processes.inspect("a").await, Err(EngineError::Unreachable(_))));
    assert!(matches!(processes.wait("a").await, Err(EngineError::Unreachable(_))));
    assert!(matches!(processes.kill("a", "SIGTERM").await, Err(EngineError::Unreachable(_))));

    drop((listener, waiting));
    let found = processes.inspect("a").await.unwrap();
    assert!(matches!(found, Found::Container(found) if found.status == Status::Lost));
    assert!(!processes.kill("a", "SIGTERM").await.unwrap());
    std::fs::remove_dir_all(dir).unwrap();
}
