//! What may happen in the middle of a layer, on the way from a real registry.

use e2e::{Bump, Registry, Road, Vm, docker, expect};
use serde_json::{Value, json};

const RANDOM_3_MB: &str = "dd if=/dev/urandom of=/large bs=1M count=3";

/// Runs a job with an image of a large layer, which comes by a road with bumps. The agent has 10 s of patience with it.
async fn pulled_over(bump: impl Fn(usize) -> Bump + Send + Sync + 'static) -> Option<(Vm, Road, Value)> {
    let vm = Vm::with_docker().await?;
    let registry = Registry::start(vm.dir(), false).await?;
    registry.push_made_by("large:1", RANDOM_3_MB).await;
    let road = Road::open(&registry.host, bump).await;
    let image = format!("{}/large:1", road.host);
    vm.set_job("echo x >> /shared/starts", json!({"container": {"image": image}}));
    let mut command = vm.command();
    command.args(["--pull-patience", "10s"]);
    let report = vm.finish(vm.spawn(command)).await;
    docker::run(&["rmi", &image]).await;
    Some((vm, road, report))
}

#[tokio::test]
async fn a_pull_that_stalls_in_mid_layer_is_tried_again_and_then_reported() {
    let Some((vm, road, report)) = pulled_over(|_| Bump::Stall).await else { return };
    expect(
        &report,
        &json!({"cause": "IMAGE_PULL_FAILED", "fault": "platform", "retryable": true, "exit_code": null,
                "message": "~no progress for 10 s", "image": {"digest": null}, "durations_s": {"run": null}}),
    );
    assert!(vm.logs().contains("try 5 in"), "{}", vm.logs());
    assert_eq!((vm.starts(), road.large()), (0, 5), "each try asks the registry anew");
}

#[tokio::test]
async fn a_pull_that_stalls_once_costs_the_job_nothing() {
    let Some((vm, road, report)) = pulled_over(|number| if number == 0 { Bump::Stall } else { Bump::None }).await
    else {
        return;
    };
    expect(&report, &json!({"cause": "NONE", "image": {"digest": "~sha256:"}}));
    assert!(vm.logs().contains("no progress for 10 s; try 2 in"), "{}", vm.logs());
    assert_eq!((vm.starts(), road.large()), (1, 2));
}

/// The engine has answered 200 by then: the error stands in the stream.
#[tokio::test]
async fn an_error_in_the_middle_of_a_pull_counts() {
    let Some((vm, _, report)) = pulled_over(|_| Bump::Flip).await else { return };
    expect(&report, &json!({"cause": "IMAGE_PULL_FAILED", "message": "~verif", "image": {"digest": null}}));
    assert!(vm.logs().contains("try 5 in"), "{}", vm.logs());
    assert_eq!(vm.starts(), 0);

    let Some((vm, _, report)) = pulled_over(|number| if number == 0 { Bump::Flip } else { Bump::None }).await else {
        return;
    };
    expect(&report, &json!({"cause": "NONE", "image": {"digest": "~sha256:"}}));
    assert_eq!(vm.starts(), 1);
}

/// A slow pull is no stalled one, and the log tells how far it is.
#[tokio::test]
async fn a_slow_pull_goes_on_and_says_how_far_it_is() {
    let Some((vm, _, report)) = pulled_over(|_| Bump::Slow(200_000)).await else { return };
    expect(&report, &json!({"cause": "NONE", "image": {"digest": "~sha256:"}}));
    assert!(report["durations_s"]["pull"].as_f64() > Some(10.0), "{report:#}");
    let logs = vm.logs();
    let is_half = |line: &str| (line.contains(" 1 MB, ") || line.contains(" 2 MB, ")) && line.contains("1 of 2 layers");
    assert!(logs.lines().any(is_half), "{logs}");
    assert!(!logs.contains("try 2"), "{logs}");
}
