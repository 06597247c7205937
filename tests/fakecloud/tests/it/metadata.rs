//! The metadata server's quirks, as a table of requests and answers.

use fakecloud::{Config, FakeCloud};

use crate::raw::{Response, get, send, start};

const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

async fn ask(cloud: &FakeCloud, path: &str, headers: &[(&str, &str)]) -> Response {
    send(cloud.metadata_addr(), "GET", path, headers, b"").await
}

#[tokio::test]
async fn values_and_directories_are_served_as_google_serves_them() {
    let cloud = start().await;
    cloud.set_attribute("job-spec", "{}");
    let cases = [
        ("instance/name", 200, "fake-vm"),
        ("instance/id", 200, "17446744073709551557"),
        ("instance/zone", 200, "projects/123456789012/zones/europe-west1-b"),
        ("instance/machine-type", 200, "projects/123456789012/machineTypes/e2-standard-4"),
        ("instance/preempted", 200, "FALSE"),
        ("instance/attributes/job-spec", 200, "{}"),
        ("/instance//attributes///job-spec", 200, "{}"),
        ("instance/service-accounts/default/scopes", 200, "https://www.googleapis.com/auth/cloud-platform\n"),
        ("instance/service-accounts/123456789012-compute@developer.gserviceaccount.com/aliases", 200, "default\n"),
        ("instance/tags", 200, r#"["vmjob"]"#),
        ("instance/tags?alt=text", 200, "vmjob\n"),
        ("instance/name?alt=json", 200, r#""fake-vm""#),
        ("instance/id?alt=json", 200, "17446744073709551557"),
        ("project/project-id", 200, "fake-project"),
        ("universe/universe-domain", 200, "googleapis.com"),
        ("", 200, "instance/\nproject/\nuniverse/\n"),
        ("instance/scheduling/", 200, "automatic-restart\non-host-maintenance\npreemptible\n"),
        ("instance/scheduling/?alt=json", 200, r#"["automatic-restart","on-host-maintenance","preemptible"]"#),
        (
            "instance/scheduling?recursive=true&alt=text",
            200,
            "automatic-restart TRUE\non-host-maintenance MIGRATE\npreemptible FALSE\n",
        ),
        ("instance/network-interfaces/0/ip", 200, "10.128.0.2"),
        ("instance/name/", 404, "<!DOCTYPE html>"),
        ("instance/no-such", 404, "<!DOCTYPE html>"),
        ("instance/attributes/no-such", 404, "<!DOCTYPE html>"),
        (
            "instance/service-accounts/123456789012-compute%40developer.gserviceaccount.com/email",
            404,
            "<!DOCTYPE html>",
        ),
        ("instance/name?alt=xml", 400, "<!DOCTYPE html>"),
        ("instance/name?wait_for_change=true&timeout_sec=soon", 400, "<!DOCTYPE html>"),
        ("instance", 301, "<!DOCTYPE html>"),
    ];
    for (path, status, body) in cases {
        let answer = get(&cloud, path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let text = answer.text();
        assert!(if status == 200 { text == body } else { text.starts_with(body) }, "{path}: {text}");
        assert_eq!(answer.header("metadata-flavor"), "Google", "{path}");
        assert_eq!(answer.header("server"), "Metadata Server for VM", "{path}");
        assert_eq!(answer.header("etag").len(), if status == 200 { 16 } else { 0 }, "{path}");
    }
}

#[tokio::test]
async fn only_requests_from_within_the_vm_are_served() {
    let cloud = start().await;
    let value = "/computeMetadata/v1/instance/name";
    let cases = [
        ("/", vec![], 200),
        ("/computeMetadata/", vec![FLAVOR], 200),
        ("/computeMetadata/v1/", vec![], 403),
        (value, vec![], 403),
        (value, vec![("Metadata-Flavor", "google")], 403),
        (value, vec![FLAVOR, ("X-Forwarded-For", "10.0.0.1")], 403),
    ];
    for (path, headers, status) in cases {
        let answer = ask(&cloud, path, &headers).await;
        assert_eq!(answer.status, status, "{path} {headers:?}");
        assert_eq!(answer.header("metadata-flavor"), "Google", "{path} {headers:?}");
    }
}

#[tokio::test]
async fn a_directory_without_its_slash_redirects_to_the_one_with() {
    let cloud = start().await;
    let answer = get(&cloud, "instance?alt=json").await;
    assert_eq!(answer.status, 301);
    assert_eq!(answer.header("location"), "http://fake/computeMetadata/v1/instance/?alt=json");
}

#[tokio::test]
async fn recursive_json_renames_keys_but_not_those_of_users() {
    let mut config = Config::default();
    config.attributes.insert("my-key".into(), b"a\xffb".to_vec());
    let cloud = FakeCloud::start(config).await.unwrap();
    for path in ["?recursive=true", "/?recursive=True", "?recursive=TRUE&alt=json"] {
        let answer = get(&cloud, path).await;
        assert_eq!(answer.header("content-type"), "application/json");
        let json = answer.json();
        assert_eq!(json["instance"]["id"], 17_446_744_073_709_551_557_u64);
        assert_eq!(json["instance"]["machineType"], "projects/123456789012/machineTypes/e2-standard-4");
        assert_eq!(json["instance"]["attributes"]["my-key"], "a\u{fffd}b");
        assert_eq!(json["instance"]["networkInterfaces"][0]["accessConfigs"][0]["type"], "ONE_TO_ONE_NAT");
        assert_eq!(json["project"]["numericProjectId"], 123_456_789_012_u64);
        let account = &json["instance"]["serviceAccounts"]["123456789012-compute@developer.gserviceaccount.com"];
        assert_eq!(account["aliases"][0], "default");
        assert!(account.get("token").is_none(), "tokens are not part of recursive answers");
    }
}

#[tokio::test]
async fn attributes_are_bytes_and_may_come_and_go() {
    let cloud = start().await;
    cloud.set_attribute("raw", vec![0, 159, 146, 150]);
    assert_eq!(get(&cloud, "instance/attributes/raw").await.body, [0, 159, 146, 150]);
    cloud.remove_attribute("raw");
    assert_eq!(get(&cloud, "instance/attributes/raw").await.status, 404);
    let url = get(&cloud, "instance/attributes/callback-url").await;
    assert_eq!(url.text(), cloud.callback_url());
}

#[tokio::test]
async fn requests_are_recorded_with_their_answers() {
    let cloud = start().await;
    get(&cloud, "instance/name").await;
    get(&cloud, "instance/no-such?alt=text").await;
    let seen = cloud.metadata_requests();
    assert_eq!(seen[0].answer, fakecloud::Answer::Status(200));
    assert_eq!(seen[1].path, "/computeMetadata/v1/instance/no-such?alt=text");
    assert_eq!(seen[1].answer, fakecloud::Answer::Status(404));
    assert_eq!(seen[1].header("metadata-flavor"), Some("Google"));
    assert!(seen[0].at <= seen[1].at);
}
