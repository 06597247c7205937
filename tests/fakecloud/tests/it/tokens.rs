//! Access tokens, identity tokens, and VMs without them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fakecloud::{Config, FakeCloud, ServiceAccount};

use crate::raw::{get, start, token};

const ACCOUNT: &str = "instance/service-accounts/default";

#[tokio::test]
async fn a_token_comes_from_the_cache_until_five_minutes_remain() {
    let cloud = start().await;
    let first = get(&cloud, &format!("{ACCOUNT}/token")).await.json();
    assert_eq!(first["token_type"], "Bearer");
    assert!((3590..=3599).contains(&first["expires_in"].as_u64().unwrap()));
    cloud.age_tokens(Duration::from_secs(3599 - 310));
    let second = get(&cloud, &format!("{ACCOUNT}/token")).await.json();
    assert_eq!(second["access_token"], first["access_token"]);
    assert!((300..=310).contains(&second["expires_in"].as_u64().unwrap()));
    cloud.age_tokens(Duration::from_secs(11));
    let third = get(&cloud, &format!("{ACCOUNT}/token")).await.json();
    assert_ne!(third["access_token"], first["access_token"]);
    assert!(third["expires_in"].as_u64().unwrap() > 3590);
}

#[tokio::test]
async fn rotation_and_other_scopes_make_other_tokens() {
    let cloud = start().await;
    let first = token(&cloud).await;
    let narrow = format!("{ACCOUNT}/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fdevstorage.read_only");
    assert_ne!(get(&cloud, &narrow).await.json()["access_token"], first);
    assert_eq!(token(&cloud).await, first);
    cloud.rotate_tokens();
    assert_ne!(token(&cloud).await, first);
}

#[tokio::test]
async fn an_identity_token_says_who_the_vm_is() {
    let cloud = start().await;
    assert_eq!(get(&cloud, &format!("{ACCOUNT}/identity")).await.status, 400);
    let claims = async |query: &str| -> serde_json::Value {
        let jwt = get(&cloud, &format!("{ACCOUNT}/identity?audience=https://a.example{query}")).await.text();
        let parts: Vec<_> = jwt.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!(parts.len(), 3);
        serde_json::from_slice(&parts[1]).unwrap()
    };
    let standard = claims("").await;
    assert_eq!(standard["aud"], "https://a.example");
    assert_eq!(standard["iss"], "https://accounts.google.com");
    assert_eq!(standard["email"], "123456789012-compute@developer.gserviceaccount.com");
    assert!(standard["exp"].as_u64() > standard["iat"].as_u64());
    assert!(standard.get("google").is_none());
    let full = claims("&format=full").await;
    assert_eq!(full["google"]["compute_engine"]["instance_id"], "17446744073709551557");
}

#[tokio::test]
async fn a_vm_without_a_service_account_has_no_tokens() {
    let config = Config { service_account: None, ..Config::default() };
    let cloud = FakeCloud::start(config).await.unwrap();
    for name in ["token", "email", "identity?audience=a", ""] {
        assert_eq!(get(&cloud, &format!("{ACCOUNT}/{name}")).await.status, 404, "{name}");
    }
    assert_eq!(get(&cloud, "instance/service-accounts/").await.text(), "");
}

#[tokio::test]
async fn the_scopes_are_those_of_the_vm() {
    let scopes = vec!["https://www.googleapis.com/auth/logging.write".to_owned()];
    let account = ServiceAccount { scopes, ..ServiceAccount::default() };
    let config = Config { service_account: Some(account), ..Config::default() };
    let cloud = FakeCloud::start(config).await.unwrap();
    let served = get(&cloud, &format!("{ACCOUNT}/scopes")).await;
    assert_eq!(served.text(), "https://www.googleapis.com/auth/logging.write\n");
    let wider = format!("{ACCOUNT}/token?scopes=https://www.googleapis.com/auth/cloud-platform");
    assert_eq!(get(&cloud, &wider).await.json()["access_token"], token(&cloud).await);
}
