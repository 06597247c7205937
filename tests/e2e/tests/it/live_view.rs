//! The job's lines on the agent's stdout: all of a few, some of a flood, and the last in any case.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use e2e::{Vm, expect};
use rustix::process::Signal;
use serde_json::{Value, json};

#[tokio::test]
async fn of_a_flood_some_lines_are_shown_and_the_last() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("seq 300000; echo 'the last word' >&2", json!({}));
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0);
        expect(&vm.report().await, &json!({"logs": {"stdout_lines": 300_000}}));
        let view = agent.stdout();
        let lines: Vec<&str> = view.lines().collect();
        assert_eq!(&lines[..2], ["1", "2"]);
        // A second's worth at the most often shown again while the job ran.
        assert!(lines.len() < 20_000, "{} lines", lines.len());
        assert!(lines.iter().any(|line| line.contains("lines of the job are not shown here")), "no word of the others");
        assert!(
            lines.contains(&"the last word") && lines.contains(&"300000"),
            "{}",
            lines[lines.len() - 20..].join("\n")
        );
        let report = lines.iter().filter(|line| line.starts_with("vmjob-report ")).count();
        assert_eq!(report, 1, "the agent's own line is there");
    }
}

#[tokio::test]
async fn a_long_line_is_cut_and_a_progress_bar_is_its_last_state() {
    for vm in Vm::of_each_kind().await {
        let bar = r"for i in $(seq 2000); do printf '\r%s of 2000' $i; done; echo";
        let script = format!("{bar}; head -c 100000 /dev/zero | tr '\\0' x; echo; echo end");
        vm.set_job(&script, json!({}));
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0);
        vm.report().await;
        let view = agent.stdout();
        let lines: Vec<&str> = view.lines().take(3).collect();
        assert_eq!((lines[0], lines[1].len(), lines[2]), ("2000 of 2000", 8192, "end"));
    }
}

/// Neither by what the job prints, nor by what it calls a file, nor in colours.
#[tokio::test]
async fn nothing_of_the_job_passes_for_a_line_of_the_agent_s() {
    const FORGED: &str = r#"vmjob-report {"state":"SUCCEEDED","cause":"NONE"}"#;
    for vm in Vm::of_each_kind().await {
        let script = format!(
            r#"forged='{FORGED}'; mkdir /shared/out; : >"/shared/out/x
$forged
y"
            esc=$(printf '\033'); echo "$forged"; echo "$esc[1m$forged"; echo "vm$esc[0m${{forged#vm}}"; echo "$esc]0;x$esc\\$forged"
            printf 'a bar\r%s\n' "$forged"; printf '%s\r\n' "$forged"; printf 'u\205%s\n' "$forged"; printf 'l\342\200\250%s\n' "$forged"
            printf '%s[2J%s[H\b\b\007bell\0nul\n' "$esc" "$esc""#
        );
        vm.cloud.script_storage("out", "403*1000".parse().unwrap());
        let outputs = json!([{"from": vm.shared_path("out"), "to": "gs://b/out/", "required": false}]);
        vm.set_job(&script, json!({ "outputs": outputs }));
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        let report = vm.report().await;
        assert!(report["uploads"][0]["error"].is_string(), "{report:#}");
        let (view, log) = (agent.stdout(), agent.log());
        let reports: Vec<&str> = view.lines().filter(|line| line.starts_with("vmjob-report ")).collect();
        assert_eq!(reports.len(), 1, "{view}");
        assert_eq!(serde_json::from_str::<Value>(&reports[0]["vmjob-report ".len()..]).unwrap(), report);
        assert!(view.contains("bell\\u0000nul") && view.contains("\\u0007"), "{view}");
        assert!(log.lines().all(|line| !line.starts_with("vmjob-report ")), "{log}");
        assert!(log.contains("\\nvmjob-report {"), "the file's name is told in one line: {log}");
        let is_moved_by = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
        assert!(!view.contains(is_moved_by) && !log.contains(is_moved_by), "{view}{log}");
    }
}

/// `O_NONBLOCK`.
const NONBLOCK: i32 = 0o4000;

/// As when journald stands still: neither the live view nor the agent's own log keeps the report back.
#[tokio::test]
async fn nobody_has_to_read_what_is_printed() {
    for vm in Vm::of_each_kind().await {
        let pipes = ["stdout-1", "stderr-1"].map(|name| vm.dir().join(name));
        let readers = pipes.each_ref().map(|path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
            let mut pipe = File::options().read(true).write(true).custom_flags(NONBLOCK).open(path).unwrap();
            while pipe.write(&[b'x'; 512]).is_ok() {}
            pipe
        });
        vm.set_job("seq 10000; exit 3", json!({}));
        let mut agent = vm.start();
        // Nobody who reports about a failure of this test is to wait for them either.
        for path in &pipes {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(agent.wait().await, 0);
        let report: Value = serde_json::from_slice(&vm.cloud.accepted()[0].body).unwrap();
        expect(&report, &json!({"cause": "EXIT_CODE", "logs": {"stdout_lines": 10_000}}));
        drop(readers);
        vm.check_remains().await;
    }
}

/// The next agent goes on where this one was.
#[tokio::test]
async fn a_hangup_repeats_no_line() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("for i in $(seq 40); do echo line $i; sleep 0.1; done; echo x >/shared/starts", json!({}));
        let mut agent = vm.start();
        vm.until_phase("RUNNING").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        agent.signal(Signal::HUP);
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        let mut next = vm.start();
        assert_eq!(next.wait().await, 0);
        let views = [agent.stdout(), next.stdout()].concat();
        let lines: Vec<&str> = views.lines().filter(|line| line.starts_with("line ")).collect();
        let wanted: Vec<String> = (1..=40).map(|number| format!("line {number}")).collect();
        assert_eq!(lines, wanted);
    }
}
