//! What the report says that a job used is what the kernel says of its control group.

use std::{fs, path::Path};

use e2e::{UNTIL_LET_GO, Vm, expect, until};
use rustix::process::Signal;
use serde_json::{Value, json};

const BYTES: u64 = 8 << 20;
/// Takes two seconds of a processor.
const WORK: &str = "until read -r _ _ _ _ _ _ _ _ _ _ _ _ _ user system rest </proc/$$/stat && [ $((user + system)) -ge 200 ]; do \
    i=0; while [ $i -lt 10000 ]; do i=$((i + 1)); done; done";

/// Whether the kernel counts what is read and written is its own affair; the job asks it too.
#[tokio::test]
async fn bytes_read_and_written_are_the_kernel_s_count() {
    for vm in Vm::of_each_kind().await {
        let script = "dd if=/dev/zero of=/shared/file bs=1M count=8 conv=fsync && \
            dd if=/shared/file of=/dev/null bs=1M iflag=direct && \
            group=$(grep -E '^[0-9]+:(|.*,)blkio(,.*|):' /proc/self/cgroup | cut -d: -f3); \
            unified=$(grep '^0::' /proc/self/cgroup | cut -d: -f3); \
            for dir in /sys/fs/cgroup/blkio$group /sys/fs/cgroup/blkio /sys/fs/cgroup$unified /sys/fs/cgroup; do \
              for file in $dir/blkio.throttle.io_service_bytes_recursive $dir/io.stat; do \
                [ ! -e $file ] || { cat $file >/shared/kernel; break 2; }; done; done; sleep 11";
        let report = vm.run_job(script, json!({})).await;
        expect(&report, &json!({"cause": "NONE"}));
        let kernel = vm.shared("kernel");
        let count = |old: &str, new: &str| -> Option<u64> {
            let words: Vec<&str> = kernel.split_whitespace().collect();
            let v1 = words.windows(2).filter(|pair| pair[0] == old).map(|pair| pair[1]);
            let v2 = words.iter().filter_map(|word| word.strip_prefix(new));
            (kernel.trim() != "Total 0" && !kernel.is_empty())
                .then(|| v1.chain(v2).map(|word| word.parse::<u64>().unwrap()).sum())
        };
        let usage = &report["usage"];
        println!("{:?}: the kernel says {kernel:?}, the report {usage}", vm.kind());
        for (field, count) in [("read_bytes", count("Read", "rbytes=")), ("written_bytes", count("Write", "wbytes="))] {
            match (count, usage[field].as_u64()) {
                // The log may have gone to the disk meanwhile.
                (Some(count), Some(told)) => {
                    assert!(told >= count && told < count + BYTES / 2, "{field}: {kernel} {usage}");
                }
                (None, told) => assert!(told.is_none_or(|told| told == 0), "{field}: {kernel} {usage}"),
                (Some(count), None) => panic!("{field} is not told, and is {count}: {kernel} {usage}"),
            }
            if let Some(count) = count {
                assert!(count >= BYTES, "{field}: {kernel}");
            }
        }
    }
}

/// A job that works for two seconds and holds 64 MiB: of neither is much more or less told.
#[tokio::test]
async fn processor_time_and_memory_are_what_the_job_took() {
    for vm in Vm::of_each_kind().await {
        let script = format!("dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; {WORK}");
        let report = vm.run_job(&script, json!({})).await;
        expect(&report, &json!({"cause": "NONE"}));
        let usage = &report["usage"];
        println!("{:?}: {usage}", vm.kind());
        let Some(cpu_s) = usage["cpu_s"].as_f64() else {
            let is_counted = ["cpuacct", "cpu.stat"].iter().any(|name| Path::new("/sys/fs/cgroup").join(name).exists());
            assert!(!is_counted && usage["peak_memory_bytes"].is_null(), "some can be known: {usage}");
            continue;
        };
        // The last look is not older than a tenth of the run; and what the shell's children took is in it.
        let run_s = report["durations_s"]["run"].as_f64().unwrap();
        assert!(cpu_s > 2.0 - 0.15 * run_s && cpu_s < 2.0 + run_s, "{usage} in {run_s} s");
        assert!(usage["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes >= 60 << 20), "{usage}");
    }
}

/// A job that says nothing, and ends while no agent is there to look: what it had used before is told.
#[tokio::test]
async fn what_was_used_before_the_agent_left_or_died_is_told() {
    for dies in [false, true] {
        for (vm, plain) in Vm::of_each_kind().await.into_iter().zip(Vm::of_each_kind().await) {
            if plain.run_job("sleep 1", json!({})).await["usage"]["cpu_s"].is_null() {
                continue;
            }
            vm.set_job(&format!("echo x >>/shared/starts; {WORK}; echo x >/shared/worked; {UNTIL_LET_GO}"), json!({}));
            let mut agent = vm.start();
            vm.until_running().await;
            vm.until_shared("worked").await;
            if dies {
                until("what it used to be on disk", async || {
                    let saved: Value =
                        serde_json::from_slice(&fs::read(vm.state_dir().join("logs.json")).ok()?).ok()?;
                    saved["usage"]["cpu_s"].as_f64().filter(|cpu_s| *cpu_s > 1.9)
                })
                .await;
                agent.kill9().await;
            } else {
                agent.signal(Signal::HUP);
                assert_eq!(agent.wait().await, 0, "{}", agent.log());
            }
            vm.let_go();
            vm.until_job_ended().await;
            let report = vm.run().await;
            expect(&report, &json!({"cause": "NONE"}));
            let usage = &report["usage"];
            assert!(usage["cpu_s"].as_f64().is_some_and(|cpu_s| cpu_s > 1.9), "{usage}");
            assert!(usage["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{usage}");
        }
    }
}
