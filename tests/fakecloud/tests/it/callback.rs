//! The rules of the callback endpoint.

use std::time::Duration;

use fakecloud::{Answer, Config, FakeCloud, ServiceAccount};

use crate::raw::{call_back, callback_path, exchange, get, send, start, token};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_callback_is_answered_with_an_empty_body_and_reaches_the_workflow() {
    let cloud = start().await;
    let answer = call_back(&cloud, b"not even JSON").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let seen = cloud.next_accepted(SOON).await.expect("the callback");
    assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("POST", b"not even JSON".as_slice()));
    assert_eq!(seen.answer, Answer::Status(200));
    assert_eq!(cloud.consume_callback().as_deref(), Some(b"not even JSON".as_slice()));
    assert!(cloud.next_accepted(Duration::from_millis(10)).await.is_none());
}

#[tokio::test]
async fn only_a_living_token_of_this_vm_opens_the_door() {
    let cloud = start().await;
    let path = callback_path(&cloud);
    let good = token(&cloud).await;
    for value in ["", "Bearer", "Bearer nonsense", &good] {
        let answer = send(cloud.callback_addr(), "POST", &path, &[("Authorization", value)], b"{}").await;
        assert_eq!(answer.status, 401, "{value}");
        assert_eq!(answer.json()["error"]["status"], "UNAUTHENTICATED");
    }
    assert_eq!(send(cloud.callback_addr(), "POST", &path, &[], b"{}").await.status, 401);
    let bearer = format!("Bearer {good}");
    cloud.revoke_tokens();
    let revoked = send(cloud.callback_addr(), "POST", &path, &[("Authorization", &bearer)], b"{}").await;
    assert_eq!(revoked.status, 401);
    assert_eq!(call_back(&cloud, b"{}").await.status, 200, "a fresh token is good again");
    cloud.age_tokens(Duration::from_hours(2));
    assert_eq!(call_back(&cloud, b"{}").await.status, 429, "an expired token is replaced");
}

#[tokio::test]
async fn refusals_follow_the_state_of_the_execution() {
    let cloud = start().await;
    let status = async |body: &[u8]| call_back(&cloud, body).await.status;
    cloud.set_permission(false);
    assert_eq!(status(b"1").await, 403);
    cloud.set_permission(true);
    cloud.set_callback_max_bytes(10);
    assert_eq!(status(b"12345678901").await, 413);
    assert_eq!(status(b"1").await, 200);
    assert_eq!(status(b"2").await, 429, "one payload is queued");
    assert_eq!(cloud.consume_callback().as_deref(), Some(b"1".as_slice()));
    assert_eq!(status(b"3").await, 200);
    cloud.end_execution();
    assert_eq!(status(b"4").await, 404);
    assert_eq!(cloud.accepted().iter().map(fakecloud::Recorded::text).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(cloud.callback_requests().len(), 6);
}

#[tokio::test]
async fn a_workflow_that_waits_leaves_the_queue_empty() {
    let cloud = start().await;
    assert!(cloud.consume_callback().is_none());
    assert_eq!(call_back(&cloud, b"1").await.status, 200);
    assert_eq!(call_back(&cloud, b"2").await.status, 200);
    assert_eq!(call_back(&cloud, b"3").await.status, 429);
}

#[tokio::test]
async fn another_method_or_path_is_refused() {
    let config = Config { callback_method: "GET".into(), ..Config::default() };
    let cloud = FakeCloud::start(config).await.unwrap();
    assert_eq!(call_back(&cloud, b"{}").await.status, 405);
    let bearer = format!("Bearer {}", token(&cloud).await);
    let path = callback_path(&cloud) + "x";
    let answer = send(cloud.callback_addr(), "POST", &path, &[("Authorization", &bearer)], b"{}").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_token_without_the_scope_is_refused() {
    let scopes = vec!["https://www.googleapis.com/auth/devstorage.read_only".to_owned()];
    let account = ServiceAccount { scopes, ..ServiceAccount::default() };
    let config = Config { service_account: Some(account), ..Config::default() };
    let cloud = FakeCloud::start(config).await.unwrap();
    let answer = call_back(&cloud, b"{}").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("scopes"));
}

#[tokio::test]
async fn a_body_above_two_mebibytes_is_too_large() {
    let cloud = start().await;
    let body = vec![b' '; (2 << 20) + 1];
    assert_eq!(call_back(&cloud, &body).await.status, 413);
    assert_eq!(call_back(&cloud, &body[1..]).await.status, 200);
}

#[tokio::test]
async fn a_full_queue_may_say_when_to_come_again() {
    let config = Config { callback_retry_after_s: Some(7), ..Config::default() };
    let cloud = FakeCloud::start(config).await.unwrap();
    call_back(&cloud, b"1").await;
    assert_eq!(call_back(&cloud, b"2").await.header("retry-after"), "7");
    assert_eq!(get(&cloud, "instance/attributes/callback-url").await.text(), cloud.callback_url());
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_chunked_bodies() {
    let cloud = start().await;
    let bearer = token(&cloud).await;
    let head = format!("POST {} HTTP/1.1\r\nAuthorization: Bearer {bearer}\r\n", callback_path(&cloud));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n4;x=y\r\n two\r\n0\r\n\r\n");
    let expecting = format!("{head}Expect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\nthree");
    let answers = exchange(cloud.callback_addr(), (chunked + &expecting).as_bytes()).await.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    let statuses: Vec<_> = answers.lines().filter(|line| line.starts_with("HTTP/")).collect();
    assert_eq!(statuses, ["HTTP/1.1 200 OK", "HTTP/1.1 100 Continue", "HTTP/1.1 429 Too Many Requests"]);
    let bodies: Vec<_> = cloud.callback_requests().iter().map(fakecloud::Recorded::text).collect();
    assert_eq!(bodies, ["one two", "three"]);
}
