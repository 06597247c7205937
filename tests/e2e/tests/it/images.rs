//! Getting the image, from a real registry.

use std::time::{Duration, Instant};

use e2e::{Registry, Vm, docker, expect};
use serde_json::json;

const IMAGE_ONLY: &str = "echo x > /shared/ran";

async fn run_image(vm: &Vm, image: &str, pull: &str) -> serde_json::Value {
    vm.run_job(IMAGE_ONLY, json!({"container": {"image": image, "pull": pull}})).await
}

#[tokio::test]
async fn an_image_is_pulled_and_known_by_its_digest() {
    let Some(vm) = Vm::with_docker().await else { return };
    let Some(registry) = Registry::start(vm.dir(), false).await else { return };
    let image = registry.push("team/train:1").await;
    let report = run_image(&vm, &image, "missing").await;
    expect(&report, &json!({"cause": "NONE", "image": {"ref": image, "digest": "~sha256:"}}));
    let pulled = (&report["times"]["pull_started_at"], &report["durations_s"]["pull"]);
    assert!(pulled.0.is_string() && pulled.1.as_f64() >= Some(0.0), "{pulled:?}");

    // It stays, and by its digest it is the same.
    let by_digest = format!("{}/team/train@{}", registry.host, report["image"]["digest"].as_str().unwrap());
    for (reference, pull, is_pulled) in
        [(&image, "missing", false), (&by_digest, "never", false), (&image, "always", true)]
    {
        let Some(vm) = Vm::with_docker().await else { return };
        let again = run_image(&vm, reference, pull).await;
        expect(&again, &json!({"cause": "NONE", "image": {"ref": reference, "digest": report["image"]["digest"]}}));
        assert_eq!(again["durations_s"]["pull"].is_number(), is_pulled, "{reference} {pull}");
    }
    docker::docker(&["rmi", &image]).await;
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_reported_as_what_it_is() {
    let Some(vm) = Vm::with_docker().await else { return };
    let Some(open) = Registry::start(vm.dir(), false).await else { return };
    let Some(vm) = Vm::with_docker().await else { return };
    let Some(closed) = Registry::start(vm.dir(), true).await else { return };
    open.push("there:1").await;
    let private = closed.push("private:1").await;
    let cases = [
        (format!("{}/there:2", open.host), "missing", "IMAGE_NOT_FOUND"),
        (format!("{}/nowhere:1", open.host), "always", "IMAGE_NOT_FOUND"),
        ("vmjob/no-such-image:1".to_owned(), "never", "IMAGE_NOT_FOUND"),
        (private, "missing", "IMAGE_DENIED"),
        (format!("{}/nowhere:1", closed.host), "missing", "IMAGE_DENIED"),
    ];
    for (image, pull, cause) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        let report = run_image(&vm, &image, pull).await;
        let message = format!("~{image}");
        expect(
            &report,
            &json!({"cause": cause, "exit_code": null, "message": message, "image": {"ref": image, "digest": null}}),
        );
        assert!(report["fix"].is_string(), "{report:#}");
        assert!(!vm.logs().contains("try 2 in"), "what cannot help is not tried: {}", vm.logs());
        assert_eq!(vm.shared("ran"), "");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_tried_again_and_then_reported() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(IMAGE_ONLY, json!({"container": {"image": "127.0.0.1:1/a:1"}}));
    let mut command = vm.command();
    command.args(["--pull-patience", "3s"]);
    let began = Instant::now();
    let report = vm.finish(vm.spawn(command)).await;
    expect(
        &report,
        &json!({"cause": "IMAGE_PULL_FAILED", "message": "~connection refused", "image": {"digest": null}}),
    );
    assert!(vm.logs().contains("try 5 in"), "{}", vm.logs());
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

/// A registry that takes the connection and never answers.
#[tokio::test]
async fn a_pull_can_be_stopped_and_taken_up_again() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/a:1", silent.local_addr().unwrap());
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(IMAGE_ONLY, json!({"container": {"image": image}}));
    let mut agent = vm.start();
    vm.until_logged("the registry has not answered yet").await;
    agent.kill9().await;
    let agent = vm.start();
    vm.until_logged("carrying on").await;
    vm.cloud.set_attribute("job-cancel", "true");
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": null, "image": {"ref": image}}));
}

/// It is late, and not the engine that is asked to pull from it.
#[tokio::test]
async fn a_pull_that_does_not_begin_is_reported_as_that() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/a:1", silent.local_addr().unwrap());
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(IMAGE_ONLY, json!({"container": {"image": image}}));
    let mut command = vm.command();
    command.args(["--pull-patience", "400ms"]);
    let report = vm.finish(vm.spawn(command)).await;
    let message = "~it did not begin within 1 s";
    expect(&report, &json!({"cause": "IMAGE_PULL_FAILED", "message": message, "image": {"digest": null}}));
    assert!(vm.logs().contains("try 5 in"), "{}", vm.logs());
}

#[tokio::test]
async fn a_registry_that_comes_back_costs_nothing() {
    let Some(vm) = Vm::with_docker().await else { return };
    let Some(registry) = Registry::start(vm.dir(), false).await else { return };
    let image = registry.push("late:1").await;
    let registry = registry.stop().await;
    vm.set_job(IMAGE_ONLY, json!({"container": {"image": image}}));
    let agent = vm.start();
    vm.until_logged("try 2 in").await;
    let registry = registry.start_again().await;
    expect(&vm.finish(agent).await, &json!({"cause": "NONE", "image": {"digest": "~sha256:"}}));
    docker::docker(&["rmi", &image]).await;
    drop(registry);
}
