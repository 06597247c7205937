//! Each scripted step, and servers that go down.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use fakecloud::{Answer, FakeCloud};

use crate::raw::{call_back, callback_request, exchange, get, parse, request, start};

const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

/// The raw outcome of one callback under a script, at most a second after it was sent.
async fn outcome(cloud: &FakeCloud, steps: &str) -> Option<std::io::Result<Vec<u8>>> {
    cloud.script_callback(steps.parse().unwrap());
    let request = callback_request(cloud, b"{}").await;
    tokio::time::timeout(Duration::from_secs(1), exchange(cloud.callback_addr(), &request)).await.ok()
}

#[tokio::test]
async fn scripted_answers_come_in_order_and_then_the_server_is_itself() {
    let cloud = start().await;
    cloud.script_callback("503*2,429+retry-after=2+body=busy,pass".parse().unwrap());
    assert_eq!(call_back(&cloud, b"{}").await.status, 503);
    assert_eq!(call_back(&cloud, b"{}").await.status, 503);
    let busy = call_back(&cloud, b"{}").await;
    assert_eq!((busy.status, busy.header("retry-after"), busy.text().as_str()), (429, "2", "busy"));
    assert!(cloud.accepted().is_empty());
    assert_eq!(call_back(&cloud, b"{}").await.status, 200);
    assert_eq!(call_back(&cloud, b"{}").await.status, 429);
}

#[tokio::test]
async fn each_fault_looks_to_the_client_as_it_is_named() {
    let reset = |outcome: Option<std::io::Result<Vec<u8>>>| matches!(outcome, Some(Err(e)) if e.kind() == ErrorKind::ConnectionReset);
    let cloud = start().await;
    assert!(reset(outcome(&cloud, "reset").await));
    assert!(outcome(&cloud, "hang").await.is_none());
    let garbage = outcome(&cloud, "garbage").await.unwrap().unwrap();
    assert!(!garbage.starts_with(b"HTTP/"));
    assert!(cloud.accepted().is_empty(), "none of these reaches the endpoint");

    assert!(reset(outcome(&cloud, "reset-after").await));
    assert_eq!(cloud.accepted().len(), 1);
    cloud.consume_callback();
    assert!(outcome(&cloud, "hang-after").await.is_none());
    assert_eq!(cloud.accepted().len(), 2);
    cloud.consume_callback();
    let cut = parse(&outcome(&cloud, "truncate").await.unwrap().unwrap());
    assert_eq!((cut.status, cut.header("content-length"), cut.body.len()), (200, "64", 0));
    assert_eq!(cloud.accepted().len(), 3);

    let answers: Vec<_> = cloud.callback_requests().iter().map(|request| request.answer).collect();
    let expected = [Answer::Reset, Answer::Hung, Answer::Garbage, Answer::Reset, Answer::Hung, Answer::Truncated(200)];
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_payload_whose_answer_was_lost_is_still_queued() {
    let cloud = start().await;
    outcome(&cloud, "reset-after").await;
    assert_eq!(call_back(&cloud, b"{}").await.status, 429);
    assert!(cloud.next_accepted(Duration::from_secs(1)).await.is_some());
}

#[tokio::test]
async fn an_answer_may_be_late() {
    let cloud = start().await;
    let started = Instant::now();
    let answer = outcome(&cloud, "pass+delay=200ms").await.unwrap().unwrap();
    assert_eq!(parse(&answer).status, 200);
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn metadata_scripts_hit_only_their_prefix() {
    let cloud = start().await;
    cloud.script_metadata("instance/attributes/", "503,404".parse().unwrap());
    assert_eq!(get(&cloud, "instance/name").await.status, 200);
    let scripted = get(&cloud, "instance/attributes/callback-url").await;
    assert_eq!((scripted.status, scripted.header("metadata-flavor")), (503, "Google"));
    assert_eq!(get(&cloud, "/instance/attributes/?recursive=true").await.status, 404);
    assert_eq!(get(&cloud, "instance/attributes/callback-url").await.status, 200);
    cloud.script_metadata("", "500*9".parse().unwrap());
    assert_eq!(get(&cloud, "project/project-id").await.status, 500);
    cloud.clear_scripts();
    assert_eq!(get(&cloud, "project/project-id").await.status, 200);
}

#[tokio::test]
async fn a_server_that_is_down_refuses_and_comes_back_on_its_port() {
    let cloud = start().await;
    let host = cloud.metadata_addr();
    let poll = request("GET", "/computeMetadata/v1/?recursive=true&wait_for_change=true", &[FLAVOR], b"");
    let held = tokio::spawn(async move { exchange(host, &poll).await });
    while cloud.metadata_requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..3 {
        cloud.metadata_down(true).await.unwrap();
        let error = exchange(cloud.metadata_addr(), b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        cloud.metadata_down(false).await.unwrap();
        assert_eq!(get(&cloud, "instance/name").await.status, 200);
    }
    assert!(!held.await.unwrap().is_ok_and(|answer| !answer.is_empty()), "held requests end without an answer");
    assert_eq!(cloud.metadata_requests()[0].answer, Answer::Reset);
    cloud.callback_down(true).await.unwrap();
    assert_eq!(exchange(cloud.callback_addr(), b"").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    cloud.callback_down(false).await.unwrap();
    assert_eq!(call_back(&cloud, b"{}").await.status, 200);
}

#[tokio::test]
async fn dropping_the_handle_stops_the_servers() {
    let cloud = start().await;
    let addr = cloud.metadata_addr();
    drop(cloud);
    let refused = async {
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), refused).await.expect("connection refused");
}
