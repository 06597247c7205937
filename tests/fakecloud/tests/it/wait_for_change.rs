//! Long polls.

use std::time::{Duration, Instant};

use fakecloud::{Answer, FakeCloud};

use crate::raw::{get, start};

const KEY: &str = "instance/attributes/job-cancel";

/// Asks in the background, and returns once the server holds the request.
async fn held(cloud: &std::sync::Arc<FakeCloud>, path: &'static str) -> tokio::task::JoinHandle<crate::raw::Response> {
    let before = cloud.metadata_requests().len();
    let task = tokio::spawn({
        let cloud = std::sync::Arc::clone(cloud);
        async move { get(&cloud, path).await }
    });
    while cloud.metadata_requests().len() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(cloud.metadata_requests()[before].answer, Answer::Pending);
    task
}

#[tokio::test]
async fn a_held_request_is_answered_when_the_value_changes() {
    let cloud = std::sync::Arc::new(start().await);
    let old = get(&cloud, "instance/preempted").await;
    let task = held(&cloud, "instance/preempted?wait_for_change=true").await;
    cloud.set_attribute("other", "x");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!task.is_finished(), "another value's change is no change");
    cloud.set("instance/preempted", "TRUE");
    let new = task.await.unwrap();
    assert_eq!(new.text(), "TRUE");
    assert_ne!(new.header("etag"), old.header("etag"));
}

#[tokio::test]
async fn a_held_directory_is_answered_when_anything_below_changes() {
    let cloud = std::sync::Arc::new(start().await);
    let task = held(&cloud, "instance/attributes/?recursive=true&wait_for_change=true").await;
    cloud.set_attribute("job-cancel", "true");
    assert_eq!(task.await.unwrap().json()["job-cancel"], "true");
}

#[tokio::test]
async fn a_held_value_that_is_removed_is_not_found() {
    let cloud = std::sync::Arc::new(start().await);
    cloud.set_attribute("job-cancel", "false");
    let task = held(&cloud, "instance/attributes/job-cancel?wait_for_change=true").await;
    cloud.remove_attribute("job-cancel");
    assert_eq!(task.await.unwrap().status, 404);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let cloud = std::sync::Arc::new(start().await);
    let task = held(&cloud, "instance/preempted?wait_for_change=true").await;
    task.abort();
    let abandoned = async {
        while cloud.metadata_requests()[0].answer != Answer::Abandoned {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), abandoned).await.expect("the client's leaving is noticed");
}

#[tokio::test]
async fn at_its_timeout_the_old_value_comes_with_the_old_etag() {
    let cloud = start().await;
    let old = get(&cloud, "instance/preempted").await;
    let started = Instant::now();
    let new = get(&cloud, "instance/preempted?wait_for_change=true&timeout_sec=1").await;
    assert!(started.elapsed() >= Duration::from_millis(990));
    assert_eq!((new.status, new.text(), new.header("etag")), (200, "FALSE".into(), old.header("etag")));
}

#[tokio::test]
async fn nothing_is_held_for_who_knows_an_older_value_or_asks_for_none() {
    let cloud = start().await;
    cloud.set_attribute("job-cancel", "a");
    let old = get(&cloud, KEY).await.header("etag").to_owned();
    cloud.set_attribute("job-cancel", "b");
    for etag in [old.as_str(), "0", "NONE"] {
        let started = Instant::now();
        let answer = get(&cloud, &format!("{KEY}?wait_for_change=true&last_etag={etag}&timeout_sec=60")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
        assert!(started.elapsed() < Duration::from_secs(30), "{etag}");
    }
    let started = Instant::now();
    let redirected = get(&cloud, "instance/attributes?wait_for_change=true&timeout_sec=60").await;
    assert_eq!(redirected.status, 301);
    let missing = get(&cloud, "instance/attributes/no-such?wait_for_change=true&timeout_sec=60").await;
    assert_eq!(missing.status, 404);
    assert!(started.elapsed() < Duration::from_secs(30));
}
