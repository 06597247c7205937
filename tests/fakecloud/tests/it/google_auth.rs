//! Google's Python library takes the fake for a VM.

use tokio::process::Command;

use crate::raw::{start, token};
use crate::third_party;

const SCRIPT: &str = r#"
import json
import google.auth
from google.auth import jwt
from google.auth.compute_engine import _metadata
from google.auth.transport.requests import Request
from google.oauth2 import id_token

request = Request()
credentials, project = google.auth.default()
credentials.refresh(request)
print(json.dumps({
    "ping": _metadata.ping(request),
    "is_on_gce": _metadata.is_on_gce(request),
    "project": project,
    "account": _metadata.get_service_account_info(request),
    "universe": _metadata.get_universe_domain(request),
    "email": credentials.service_account_email,
    "token": credentials.token,
    "claims": jwt.decode(id_token.fetch_id_token(request, "https://a.example"), verify=False),
}))
"#;

#[tokio::test]
async fn google_auth_finds_its_vm_and_gets_its_tokens() {
    let Some(python) = third_party::part("google-auth/bin/python") else {
        return;
    };
    let cloud = start().await;
    let home = std::env::temp_dir();
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .env_clear()
        .env("HOME", home) // no credentials of the developer's
        .env("GCE_METADATA_HOST", cloud.metadata_host())
        .env("GCE_METADATA_IP", cloud.metadata_host())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&seen["ping"], &seen["is_on_gce"]), (&true.into(), &true.into()));
    assert_eq!(seen["project"], "fake-project");
    assert_eq!(seen["universe"], "googleapis.com");
    assert_eq!(seen["account"]["scopes"][0], "https://www.googleapis.com/auth/cloud-platform");
    assert_eq!(seen["email"], "123456789012-compute@developer.gserviceaccount.com");
    assert_eq!(seen["token"], token(&cloud).await);
    assert_eq!(seen["claims"]["aud"], "https://a.example");
    assert_eq!(seen["claims"]["google"]["compute_engine"]["project_id"], "fake-project");
}
