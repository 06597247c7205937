//! Logs that the agent cannot read from the engine's file: it attaches, and comes back through the engine.

use std::time::Duration;

use e2e::{Fate, Gate, Vm, expect};
use rustix::process::Signal;
use serde_json::{Value, json};

const TALKS: &str = "echo up > /shared/starts; for i in $(seq 30); do echo line $i; echo err $i >&2; sleep 0.1; done; printf last; exit 7";

/// With what the job says kept in a bucket.
fn with_driver(driver: &str) -> Value {
    let options = match driver {
        // As a driver of a cloud, which the engine cannot read back; nobody has to listen.
        "gelf" => json!({"gelf-address": "udp://127.0.0.1:12201", "cache-disabled": "true"}),
        _ => json!({}),
    };
    json!({"container": {"log_driver": driver, "log_options": options}, "logs": {"upload": "gs://b/logs/"}})
}

/// Whatever is read where, it is to the byte what [`TALKS`] says.
fn check_said(vm: &Vm) {
    let said = |word: &str| (1..=30).fold(String::new(), |said, number| format!("{said}{word} {number}\n"));
    for (stream, said) in [("stdout", said("line") + "last"), ("stderr", said("err"))] {
        let shown = crate::log_upload::shown(vm, &format!("logs/{}/1/{stream}.log", vm.id()));
        assert_eq!(String::from_utf8(shown).unwrap(), said, "{stream}");
    }
}

fn talked() -> Value {
    json!({
        "cause": "EXIT_CODE", "exit_code": 7,
        "logs": {"stdout_bytes": 235, "stdout_lines": 31, "stderr_bytes": 201, "stderr_lines": 30, "tail": "~last"},
    })
}

#[tokio::test]
async fn any_driver_gives_every_byte() {
    for driver in ["json-file", "local", "none", "gelf"] {
        let Some(vm) = Vm::with_docker().await else { return };
        expect(&vm.run_job(TALKS, with_driver(driver)).await, &talked());
        check_said(&vm);
    }
}

#[tokio::test]
async fn a_job_that_is_over_at_once_has_its_log_too() {
    for driver in ["json-file", "local", "none", "gelf"] {
        let Some(vm) = Vm::with_docker().await else { return };
        let report = vm.run_job("echo out; echo err >&2", with_driver(driver)).await;
        expect(&report, &json!({"cause": "NONE", "logs": {"stdout_bytes": 4, "stderr_bytes": 4}}));
    }
}

#[tokio::test]
async fn a_crash_neither_loses_nor_repeats_a_byte() {
    for driver in ["json-file", "local"] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job(TALKS, with_driver(driver));
        let mut agent = vm.start();
        vm.until_started().await;
        for pause_ms in [500, 700] {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            agent.kill9().await;
            agent = vm.start();
        }
        expect(&vm.finish(agent).await, &talked());
        check_said(&vm);
    }
}

/// The engine takes more than five seconds to read this log back: what counts is that it comes.
#[tokio::test]
async fn a_long_log_is_read_back_whole() {
    let Some(vm) = Vm::with_docker().await else { return };
    let script =
        "echo up >/shared/starts; yes 0123456789abcde | head -n 500000; echo x >/shared/done; sleep 1; printf last";
    vm.set_job(script, json!({"container": {"log_driver": "local", "log_options": {"max-size": "200m"}}}));
    let mut agent = vm.start();
    vm.until_running().await;
    agent.kill9().await;
    vm.until_shared("done").await;
    expect(
        &vm.run().await,
        &json!({"cause": "NONE", "logs": {"stdout_bytes": 8_000_004, "stdout_lines": 500_001, "tail": "~last"}}),
    );
}

/// Nobody gives out the log of these again: what was said while no agent was attached is gone, the outcome is not, nor what was seen.
#[tokio::test]
async fn a_log_that_nobody_keeps_does_not_cost_the_report() {
    for driver in ["none", "gelf"] {
        let Some(vm) = Vm::with_docker().await else { return };
        let script =
            "echo first; echo up >/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; echo more; exit 7";
        vm.set_job(script, with_driver(driver));
        let mut agent = vm.start();
        vm.until_running().await;
        until_read(&vm, 1).await;
        agent.kill9().await;
        std::fs::write(vm.dir().join("shared/go"), "").unwrap();
        let report = vm.run().await;
        expect(
            &report,
            &json!({"cause": "EXIT_CODE", "exit_code": 7, "logs": {"tail": "first\n"}, "evidence": ["~part of the log could not be read"],
                    "uploads": [{"from": "stdout", "bytes": 6, "error": "~gone before it could be read"}]}),
        );
    }
}

/// The engine keeps all the files there will be, so none may be missed, however fast it renames them.
#[tokio::test]
async fn a_log_that_rotates_is_read_whole() {
    let options = json!({"max-size": "20k", "max-file": "100"});
    let Some(vm) = Vm::with_docker().await else { return };
    let script = "for i in $(seq 10); do seq 1000 3000; sleep 0.1; done";
    let report = vm.run_job(script, json!({"container": {"log_options": options}})).await;
    expect(&report, &json!({"cause": "NONE", "logs": {"stdout_bytes": 10 * 2001 * 5, "stdout_lines": 10 * 2001}}));
}

/// Where the engine keeps too little of a log for as long as no agent runs, the report says so and has the end.
#[tokio::test]
async fn what_was_rotated_away_unread_is_not_forgotten() {
    let options = json!({"max-size": "20k", "max-file": "2"});
    let Some(vm) = Vm::with_docker().await else { return };
    let script = "echo up >/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; seq 100000; echo x >/shared/done; sleep 1; echo the end";
    vm.set_job(script, json!({"container": {"log_options": options}}));
    let mut agent = vm.start();
    vm.until_running().await;
    let place = e2e::until("a place in the log", async || {
        let checkpoint = std::fs::read(vm.state_dir().join("logs.json")).ok()?;
        Some(serde_json::from_slice::<Value>(&checkpoint).unwrap()["place"].clone())
    })
    .await;
    assert!(place["file"]["born"].is_u64(), "an inode alone may be another file's by now: {place}");
    agent.kill9().await;
    std::fs::write(vm.dir().join("shared/go"), "").unwrap();
    vm.until_shared("done").await;
    let report = vm.run().await;
    expect(
        &report,
        &json!({"cause": "NONE", "evidence": ["~part of the log could not be read"], "logs": {"tail": "~100000\nthe end\n"}}),
    );
    let count = |name: &str| report["logs"][name].as_u64().unwrap();
    let shown: usize = ["head", "tail"].iter().map(|part| report["logs"][part].as_str().unwrap().len()).sum();
    assert_eq!(count("omitted_bytes"), count("stdout_bytes").saturating_sub(shown as u64), "{:#}", report["logs"]);
    assert_eq!(report["logs"]["lost_bytes"], Value::Null, "how much came and went is unknown");
}

/// Where the engine keeps one file, what went unread is counted; and where somebody has emptied it to make room, too.
#[tokio::test]
async fn a_log_that_is_begun_anew_is_read_on() {
    for is_emptied in [true, false] {
        let options = if is_emptied { json!({}) } else { json!({"max-size": "20k", "max-file": "1"}) };
        let Some(vm) = Vm::with_docker().await else { return };
        let flood = if is_emptied { "" } else { "seq 100000; sleep 1;" };
        let script = format!(
            "seq 1000 1250; echo up >/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; {flood} echo the end"
        );
        vm.set_job(&script, json!({"container": {"log_options": options}}));
        let agent = vm.start();
        vm.until_running().await;
        until_read(&vm, 251).await;
        if is_emptied {
            let log = vm.journal()["attempt"]["log_path"].as_str().unwrap().to_owned();
            std::fs::File::options().write(true).open(log).unwrap().set_len(0).unwrap();
        }
        std::fs::write(vm.dir().join("shared/go"), "").unwrap();
        let report = vm.finish(agent).await;
        let logs = json!({"head": "~1000\n1001\n", "tail": "~\nthe end\n"});
        expect(&report, &json!({"cause": "NONE", "evidence": ["~part of the log could not be read"], "logs": logs}));
        let lost_bytes = report["logs"]["lost_bytes"].as_u64();
        assert!(if is_emptied { lost_bytes.is_none() } else { lost_bytes > Some(0) }, "how much was there is unknown");
    }
}

/// A checkpoint that has so many lines of stdout.
pub(crate) async fn until_read(vm: &Vm, lines: u64) {
    e2e::until("a checkpoint with all of it", async || {
        let checkpoint = std::fs::read(vm.state_dir().join("logs.json")).ok()?;
        let checkpoint: Value = serde_json::from_slice(&checkpoint).unwrap();
        (checkpoint["summary"]["channels"][0]["lines"] == lines).then_some(())
    })
    .await;
}

/// Of a log that the engine gives out again a restarted agent reads on from what came last, though the beginning is gone by then;
/// and what is gone before it came is not forgotten.
#[tokio::test]
async fn a_log_that_the_engine_has_rotated_is_read_on_by_its_times() {
    for (meanwhile, is_lost) in [(10, false), (100_000, true)] {
        let Some(vm) = Vm::with_docker().await else { return };
        let script = format!(
            "echo 1; sleep 3; seq 2 20000; echo up >/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; \
             seq 20001 $((20000 + {meanwhile})); echo x >/shared/done; until [ -e /shared/end ]; do sleep 0.1; done; echo the end"
        );
        let container = json!({"log_driver": "local", "log_options": {"max-size": "40k", "max-file": "2"}});
        vm.set_job(&script, json!({"container": container, "logs": {"upload": "gs://b/logs/"}}));
        let mut agent = vm.start();
        vm.until_running().await;
        until_read(&vm, 20_000).await;
        if !is_lost {
            // After a silent second nothing is on its way.
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        agent.signal(Signal::HUP);
        assert_eq!(agent.wait().await, 0);
        std::fs::write(vm.dir().join("shared/go"), "").unwrap();
        vm.until_shared("done").await;
        let agent = vm.start();
        vm.until_logged("no longer has the log's beginning").await;
        std::fs::write(vm.dir().join("shared/end"), "").unwrap();
        let report = vm.finish(agent).await;
        expect(&report, &json!({"cause": "NONE", "logs": {"head": "~1\n2\n3\n", "tail": "~\nthe end\n"}}));
        let evidence = report["evidence"].to_string();
        assert_eq!(evidence.contains("part of the log could not be read"), is_lost, "{report:#}");
        let shown = crate::log_upload::shown(&vm, &format!("logs/{}/1/stdout.log", vm.id()));
        if is_lost {
            expect(&report, &json!({"uploads": [{"error": "~gone before it could be read"}]}));
            assert!(shown.ends_with(b"\n119999\n120000\nthe end\n"));
        } else {
            let lines: Vec<String> = (1..=20_010).map(|number: u32| number.to_string()).collect();
            assert!(String::from_utf8(shown).unwrap() == lines.join("\n") + "\nthe end\n");
        }
    }
}

/// A terminal is one stream.
#[tokio::test]
async fn a_terminal_s_output_is_stdout() {
    for driver in ["json-file", "local"] {
        let Some(vm) = Vm::with_docker().await else { return };
        let mut job = with_driver(driver);
        e2e::merge(&mut job, json!({"container": {"tty": true}}));
        let report = vm.run_job("echo out; echo err >&2; sleep 0.2; printf last", job).await;
        expect(
            &report,
            &json!({"cause": "NONE", "logs": {"head": "out\r\nerr\r\nlast", "stdout_bytes": 14, "stderr_bytes": 0}}),
        );
    }
}

/// A job that talks faster than anybody reads is not held up, and counted all the same.
#[tokio::test]
async fn a_flood_is_counted() {
    for driver in ["json-file", "local"] {
        let Some(vm) = Vm::with_docker().await else { return };
        let report = vm.run_job("yes 0123456789abcde | head -n 1000000", with_driver(driver)).await;
        expect(&report, &json!({"cause": "NONE", "logs": {"stdout_bytes": 16_000_000, "stdout_lines": 1_000_000}}));
    }
}

/// Unread, an attached job would stand still after a megabyte or two.
#[tokio::test]
async fn an_attached_job_writes_on_while_the_agent_waits_for_the_engine() {
    let Some(vm) = Vm::with_docker().await else { return };
    let script = "trap 'yes 0123456789abcde | head -c 2208000; echo x >/shared/done; exit 7' TERM; \
                  echo up >/shared/starts; while :; do sleep 0.1; done";
    vm.set_job(script, json!({"grace": "50s", "container": {"log_driver": "local"}}));
    let mut gate = Gate::open_but_for(vm.dir(), "/kill", Fate::HoldAfter);
    let agent = vm.start_through(&gate);
    vm.until_running().await;
    vm.cloud.set_attribute("job-cancel", "true");
    gate.stopped().await;
    vm.until_shared("done").await;
    assert!(!vm.logs().contains("lost the engine"), "the agent waits no more: {}", vm.logs());
    drop(gate);
    let _gate = Gate::open_to_all(vm.dir());
    let logs = json!({"stdout_bytes": 2_208_000, "stdout_lines": 138_000});
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": 7, "logs": logs}));
}

/// As a terminal would show it in the end, whatever the source: no colours, and of what was written over the last state.
#[tokio::test]
async fn the_summary_is_plain_text() {
    for driver in ["json-file", "local", "none"] {
        let Some(vm) = Vm::with_docker().await else { return };
        let script = r"printf '\033[1;31merror: red\033[0m\n'; for i in $(seq 100000); do printf '\r%s%%' $i; done; printf '\nlast\r'";
        let report = vm.run_job(script, with_driver(driver)).await;
        let logs = json!({
            "stdout_lines": 3, "stdout_bytes": 22 + 588_895 + 1 + 100_000 + 5, "omitted_bytes": 0,
            "head": "error: red\n100000%\nlast", "tail": "error: red\n100000%\nlast", "errors": [{"line": 1, "text": "error: red"}],
        });
        expect(&report, &json!({"cause": "NONE", "logs": logs}));
    }
}

/// Two bars, one below the other, with lines of the job's own above them; a counter that backs up; what no terminal shows.
#[tokio::test]
async fn a_summary_has_the_last_state_of_a_screen_and_every_line_of_the_job_s_own() {
    let script = r"
        echo before
        i=0
        while [ $i -lt 2000 ]; do
            i=$((i + 1))
            if [ $((i % 1000)) = 0 ]; then printf '\n\r\033[K\033[A\r\033[Kline %s\n' $i; fi
            printf '\router: %s/2000\n\rinner: %s/10\033[A' $i $((i % 10))
        done
        printf '\n\n'
        printf 'writing tables: '
        for i in 1 2 3 4 5 6 7 8 9; do printf '%s/9\b\b\b' $i; done
        printf '   \b\b\bdone\n'
        printf 'h\000i\000\n'
        echo after";
    let shown = "before\nline 1000\nline 2000\nouter: 2000/2000\ninner: 0/10\nwriting tables: done\nhi\nafter";
    for vm in Vm::of_each_kind().await {
        let report = vm.run_job(script, json!({})).await;
        let logs = &report["logs"];
        for text in ["head", "tail"] {
            assert_eq!(logs[text].as_str().map(str::trim_end), Some(shown), "{text}, {:?}: {logs:#}", vm.kind());
        }
        expect(&report, &json!({"cause": "NONE", "logs": {"omitted_bytes": 0, "lost_bytes": 0, "errors": []}}));
        // What the job wrote is counted, whatever is shown of it.
        let bars = 2000 * "\router: /2000\n\rinner: 0/10\x1b[A".len() + (9 + 90 * 2 + 900 * 3 + 1001 * 4);
        let lines = 2 * "\n\r\x1b[K\x1b[A\r\x1b[Kline 1000\n".len();
        let rest = "before\n\n\nwriting tables: ".len() + 9 * 6 + "   \x08\x08\x08done\nh\0i\0\nafter\n".len();
        assert_eq!(logs["stdout_bytes"], bars + lines + rest, "{logs:#}");
    }
}

/// Live view off: nothing of the job on stdout but the report.
#[tokio::test]
async fn the_live_view_can_be_turned_off() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("echo secret-ish", json!({"logs": {"forward": false}}));
    let mut agent = vm.start();
    assert_eq!(agent.wait().await, 0);
    assert!(agent.stdout().lines().all(|line| line.starts_with("vmjob-report ")), "{}", agent.stdout());
}
