//! Real failures in the middle of much other output: the line that a person needs is in the report.

use std::{fs, path::Path, process::Command};

use e2e::{Kind, Vm, expect};
use serde_json::{Value, json};

const WELL: &str = "step 100 of 200: loss 0.123, all is well";
/// Five megabytes.
const NOISE: &str = "yes 'step 100 of 200: loss 0.123, all is well' | head -n 125000";

async fn vm() -> Option<Vm> {
    Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process)
}

/// A shell command that prints `text`.
fn prints(vm: &Vm, text: &str) -> String {
    let file = vm.dir().join("text");
    fs::write(&file, text).unwrap();
    format!("cat {}", file.display())
}

/// A program that panics, made by this machine's own compiler.
fn rust_panic(vm: &Vm) -> String {
    let (source, program) = (vm.dir().join("panics.rs"), vm.dir().join("panics"));
    fs::write(
        &source,
        "fn main() { let empty: Vec<u8> = Vec::new(); println!(\"{}\", empty[std::env::args().count()]); }",
    )
    .unwrap();
    let made =
        Command::new("rustc").arg("-o").arg(&program).arg(&source).status().expect("cargo has a rustc beside it");
    assert!(made.success());
    program.display().to_string()
}

/// Java's own words: by Java where it is installed.
fn java_exception(vm: &Vm) -> String {
    let source = vm.dir().join("Fails.java");
    let text = "public class Fails { public static void main(String[] a) { throw new IllegalStateException(\"no work\", new java.io.IOException(\"disk\")); } }";
    fs::write(&source, text).unwrap();
    if Path::new("/usr/bin/java").exists() {
        return format!("/usr/bin/java {}", source.display());
    }
    prints(
        vm,
        "Exception in thread \"main\" java.lang.IllegalStateException: no work\n\tat Fails.main(Fails.java:1)\n\
         Caused by: java.io.IOException: disk\n\tat Fails.main(Fails.java:1)\n\t... 12 more\n",
    )
}

const TRACEBACK: &str = "/usr/bin/python3 -c 'def f(n):
    return 1 / n if n == 0 else f(n - 1)
f(40)'";

/// The words of `PyTorch` 2.4, after its traceback.
const CUDA: &str = "Traceback (most recent call last):
  File \"/app/train.py\", line 88, in <module>
    loss.backward()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.75 GiB of which 1.06 GiB \
is free. Including non-PyTorch memory, this process has 13.68 GiB memory in use. Of the allocated memory 13.50 GiB is allocated by PyTorch, \
and 55.81 MiB is reserved by PyTorch but unallocated.\n";

/// Go 1.22's words.
const GO: &str = "panic: runtime error: index out of range [5] with length 3\n
goroutine 1 [running]:
main.main()
\t/app/main.go:6 +0x1d\n";

#[tokio::test]
async fn the_line_a_person_needs_is_in_the_report() {
    type Case = (&'static str, fn(&Vm) -> String, &'static [&'static str]);
    let cases: [Case; 7] = [
        ("python", |_| TRACEBACK.into(), &["Traceback (most", "\nZeroDivisionError: division by zero"]),
        ("rust", rust_panic, &["panicked at", "index out of bounds: the len is 0 but the index is 1"]),
        ("java", java_exception, &["IllegalStateException: no work", "Caused by: java.io.IOException: disk"]),
        (
            "cuda",
            |vm| prints(vm, CUDA),
            &["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"],
        ),
        ("go", |vm| prints(vm, GO), &["panic: runtime error: index out of range [5] with length 3"]),
        ("go's errors", |vm| prints(vm, "open /data/in: no such file or directory\n"), &["/data/in: no such file"]),
        (
            "anyhow",
            |vm| prints(vm, "Error: no start\n\nCaused by:\n    the disk is on fire\n"),
            &["Error: no start", "Caused by:\n    the disk is on fire"],
        ),
    ];
    for (name, failure, words) in cases {
        let Some(vm) = vm().await else { return };
        let failure = failure(&vm);
        // On stderr, as programs do, and once in one stream with the rest, where its place is known.
        for redirect in ["exec 2>&1", "true"] {
            let Some(vm) = self::vm().await else { return };
            let report = vm.run_job(&format!("{redirect}; {NOISE}; {failure} >&2; {NOISE}; exit 3"), json!({})).await;
            expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3}));
            for words in words {
                expect(&report, &json!({"logs": {"errors": [{"text": format!("~{words}")}]}}));
            }
            let first = &report["logs"]["errors"][0]["line"];
            // Rust begins with an empty line.
            let wanted = if name == "rust" { 125_002 } else { 125_001 };
            assert!(redirect == "true" || first == wanted, "{name}: line {first}");
            assert!(!report["logs"]["errors"].to_string().contains(WELL), "{name}: what is well is no error");
        }
    }
}

#[tokio::test]
async fn what_ends_a_job_at_once_is_its_last_line_or_its_cause() {
    let cases: [(&str, Value); 2] = [
        (
            // The two streams are in the order in which they are read, so the noise is given the time to be.
            "set -e; NOISE; sleep 3; cp /no/such/input /tmp/x; NOISE",
            json!({"cause": "EXIT_CODE", "exit_code": 1, "logs": {
                "tail": "~/no/such/input", "errors": [{"text": "~'/no/such/input': No such file or directory"}]}}),
        ),
        // A segmentation fault, of which nobody prints a word.
        (
            "NOISE; exec /usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'",
            json!({"cause": "SIGNAL", "signal": 11, "logs": {"stderr_bytes": 0}}),
        ),
    ];
    for (script, expected) in cases {
        let Some(vm) = vm().await else { return };
        expect(&vm.run_job(&script.replace("NOISE", NOISE), json!({})).await, &expected);
    }
}

/// A hundred megabytes around it, and only a kilobyte to tell of it.
#[tokio::test]
async fn a_traceback_in_a_hundred_megabytes_is_found() {
    let Some(vm) = vm().await else { return };
    let noise = NOISE.replace("125000", "1250000");
    let script = format!("exec 2>&1; {noise}; {TRACEBACK}; {noise}; exit 1");
    let report = vm.run_job(&script, json!({"logs": {"summary_bytes": 1024, "forward": false}})).await;
    expect(
        &report,
        &json!({"cause": "EXIT_CODE", "logs": {
            "errors": [{"line": 1_250_001, "text": "~\nZeroDivisionError: division by zero"}]}}),
    );
    assert!(report["logs"]["stdout_bytes"].as_u64() > Some(100_000_000));
    let shown: usize = ["head", "tail"].iter().map(|part| report["logs"][part].as_str().unwrap().len()).sum();
    let errors = report["logs"]["errors"].as_array().unwrap();
    let errors: usize = errors.iter().map(|error| error["text"].as_str().unwrap().len()).sum();
    assert!(shown + errors <= 1024, "{shown} + {errors}");
}
