//! Somebody else acts on the job's container, by hand or by a program: the report is about the job's own run, and says what was done.

use e2e::{Fate, Gate, UNTIL_LET_GO, Vm, docker, expect, until};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Ends with 3 once it may. A run after that would go on for long, and leaves a trace.
fn job() -> String {
    format!(
        "if [ -e /shared/starts ]; then echo x >>/shared/again; sleep 100; exit 0; fi; \
         echo x >/shared/starts; {UNTIL_LET_GO}; exit 3"
    )
}

/// Runs `docker` with each of these lines, in which `NAME` is the job's container.
async fn act(vm: &Vm, lines: &[&str]) {
    for line in lines {
        let line = line.replace("NAME", &vm.container(1));
        docker::docker(&line.split(' ').collect::<Vec<_>>()).await;
    }
}

/// What is done while the job runs, before it may end.
const ACTS: [(&[&str], &str, &str); 11] = [
    (
        &["update --restart unless-stopped NAME"],
        "EXIT_CODE",
        "~restart policy \"unless-stopped\" (docker update), and the engine started it again after the job had ended with exit code 3",
    ),
    (&["update --restart on-failure:5 NAME"], "EXIT_CODE", "~restart policy \"on-failure\""),
    (
        &["restart --time 0 NAME"],
        "SIGNAL",
        "~by hand (docker restart or docker start) after the job had ended with exit code 137",
    ),
    (
        &["update --restart always NAME", "restart --time 0 NAME"],
        "SIGNAL",
        "~after the job had ended with exit code 137",
    ),
    (&["rename NAME NAME-old"], "EXIT_CODE", "~-old (docker rename)"),
    (&["pause NAME", "unpause NAME"], "EXIT_CODE", "~paused by hand"),
    (&["update --memory 64m --memory-swap 64m --cpus 0.5 NAME"], "EXIT_CODE", "~from none to 67108864 bytes"),
    (&["network disconnect bridge NAME"], "EXIT_CODE", "~networks was changed by hand from bridge to none"),
    (&["stop --time 0 NAME"], "SIGNAL", "~signal 9 was sent"),
    (&["kill NAME"], "SIGNAL", "~signal 9 was sent"),
    (
        &["exec NAME true", "exec NAME sh -c true"],
        "EXIT_CODE",
        "~from outside (docker exec), 2 in all: `true`, `sh -c true`",
    ),
];

async fn after(lines: &[&str], cause: &str, fact: &str, agent_is_there: bool) {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&job(), json!({"container": {"network": "bridge"}}));
    let mut agent = vm.start();
    vm.until_running().await;
    if !agent_is_there {
        agent.kill9().await;
    }
    act(&vm, lines).await;
    vm.let_go();
    if !agent_is_there {
        let id = vm.journal()["attempt"]["container"].as_str().unwrap().to_owned();
        let state = async || docker::docker(&["inspect", "-f", "{{.State.Status}}", &id]).await;
        until("the end of the job", async || {
            (state().await != "running" || !vm.shared("again").is_empty()).then_some(())
        })
        .await;
        agent = vm.start();
    }
    let report = vm.finish(agent).await;
    let code = if cause == "SIGNAL" { 137 } else { 3 };
    expect(&report, &json!({"cause": cause, "exit_code": code, "evidence": [fact]}));
    let id = vm.journal()["attempt"]["container"].as_str().unwrap().to_owned();
    assert!(!docker::run(&["inspect", &id]).await.status.success(), "{lines:?}: the container was left behind");
}

#[tokio::test]
async fn the_first_exit_of_its_own_run_is_the_job_s_whatever_others_do() {
    join_all(ACTS.map(|(lines, cause, fact)| after(lines, cause, fact, true))).await;
}

/// What the engine remembers is enough. Pauses and commands that are over when the agent comes back are not seen.
#[tokio::test]
async fn it_is_so_too_while_no_agent_is_there() {
    let is_seen = |fact: &str| !["paused", "exec", "sent"].iter().any(|unseen| fact.contains(unseen));
    let stopped_and_started: (&[&str], _, _) = (&["stop --time 0 NAME", "start NAME"], "SIGNAL", "~by hand");
    let seen = ACTS.into_iter().filter(|(_, _, fact)| is_seen(fact)).chain([stopped_and_started]);
    join_all(seen.map(|(lines, cause, fact)| after(lines, cause, fact, false))).await;
}

/// An engine that has forgotten how the job's own run ended: nothing is made up.
#[tokio::test]
async fn an_exit_that_nobody_saw_is_not_taken_from_a_later_run() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&job(), json!({}));
    let mut agent = vm.start();
    vm.until_running().await;
    agent.kill9().await;
    act(&vm, &["restart --time 0 NAME"]).await;
    let gate = Gate::open_but_for(vm.dir(), "/events", Fate::Refuse(404, "there are none"));
    let report = vm.finish(vm.start_through(&gate)).await;
    expect(
        &report,
        &json!({"cause": "CONTAINER_LOST", "exit_code": null, "message": "~started again", "evidence": ["~by hand"]}),
    );
}

/// While the report waits for its endpoint, and later: what has ended stays down, and the report stays as it is.
#[tokio::test]
async fn a_container_that_is_started_after_the_job_s_end_is_stopped() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.callback_down(true).await.unwrap();
    vm.set_job(&job(), json!({}));
    let agent = vm.start();
    vm.until_running().await;
    vm.let_go();
    vm.until_logged("the report is not out yet").await;
    act(&vm, &["start NAME"]).await;
    vm.until_logged("after the job had ended, and it was stopped").await;
    until("its end", async || (!vm.job_runs().await).then_some(())).await;
    vm.cloud.callback_down(false).await.unwrap();
    expect(&vm.finish(agent).await, &json!({"cause": "EXIT_CODE", "exit_code": 3}));
}

/// The label of the claim names it, whatever the container is called; and a copy of it by `docker commit` has that label too.
#[tokio::test]
async fn a_renamed_container_is_found_without_a_journal_and_a_copy_is_not_removed() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&job(), json!({}));
    let mut agent = vm.start();
    vm.until_running().await;
    agent.kill9().await;
    let copy = format!("copy-{}", vm.id());
    let commands = ["commit NAME COPY", "run --detach --name COPY COPY sleep 100", "rename NAME NAME-old"];
    let commands = commands.map(|line| line.replace("COPY", &copy));
    act(&vm, &commands.each_ref().map(String::as_str)).await;
    std::fs::remove_file(vm.journal_file()).unwrap();
    vm.let_go();
    let report = vm.run().await;
    let copies = docker::containers(&copy).await;
    docker::remove(&copy).await;
    docker::docker(&["rmi", &copy]).await;
    expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3}));
    assert_eq!((vm.starts(), vm.shared("again"), copies.len()), (1, String::new(), 1));
}

#[tokio::test]
async fn another_container_of_its_name_is_neither_the_job_nor_removed() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&job(), json!({}));
    let agent = vm.start();
    vm.until_running().await;
    act(&vm, &["rename NAME NAME-old", "run --detach --name NAME vmjob/busybox:test sleep 100", "rm --force NAME-old"])
        .await;
    let mut agent = agent;
    assert_eq!(agent.wait().await, 0, "{}", agent.log());
    let left = docker::containers(&vm.container(1)).await;
    docker::remove(&vm.container(1)).await;
    let report: Value = serde_json::from_slice(&vm.cloud.accepted()[0].body).unwrap();
    // A forced removal kills first.
    assert!(report["cause"] == "CONTAINER_LOST" || report["exit_code"] == 137, "{report:#}");
    assert_eq!(left, [vm.container(1)]);
}

/// Which the engine runs as `docker exec` runs a command.
#[tokio::test]
async fn the_health_checks_of_an_image_are_nobody_s_doing() {
    let Some(vm) = Vm::with_docker().await else { return };
    let image = format!("vmjob/healthy:{}", vm.id());
    let name = format!("healthy-{}", vm.id());
    let change = "HEALTHCHECK --interval=1s CMD echo checked >> /shared/checks";
    docker::docker(&["create", "--name", &name, docker::IMAGE, "true"]).await;
    docker::docker(&["commit", "--change", change, &name, &image]).await;
    docker::remove(&name).await;
    vm.set_job(&job(), json!({"container": {"image": image}}));
    let agent = vm.start();
    vm.until_shared("checks").await;
    act(&vm, &["exec NAME sh -c true"]).await;
    vm.let_go();
    let report = vm.finish(agent).await;
    docker::docker(&["rmi", &image]).await;
    expect(
        &report,
        &json!({"cause": "EXIT_CODE", "evidence": ["~from outside (docker exec), 1 in all: `sh -c true`"]}),
    );
    assert!(!vm.logs().contains("checked"), "{}", vm.logs());
}

#[tokio::test]
async fn a_paused_job_can_be_stopped() {
    for (grace, is_deaf) in [("20s", false), ("1s", true)] {
        let Some(vm) = Vm::with_docker().await else { return };
        let trap = if is_deaf { "trap '' TERM" } else { "trap 'exit 7' TERM" };
        vm.set_job(&format!("{trap}; echo x >/shared/starts; while :; do sleep 0.1; done"), json!({"grace": grace}));
        let agent = vm.start();
        vm.until_running().await;
        act(&vm, &["pause NAME"]).await;
        vm.until_logged("the container was paused").await;
        vm.cloud.set_attribute("job-cancel", "true");
        let code = if is_deaf { 137 } else { 7 };
        expect(
            &vm.finish(agent).await,
            &json!({"cause": "CANCELLED", "exit_code": code, "evidence": ["~paused by hand"]}),
        );
    }
}
