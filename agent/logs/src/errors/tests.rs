//! Logs, and what of them is kept.

use super::*;

/// What is kept of these blocks in 2000 bytes.
fn windows(blocks: &[(Stream, &str)]) -> Vec<Window> {
    let mut errors = Errors::default();
    errors.set_budget(2000);
    let mut line = 1;
    for (stream, lines) in blocks {
        errors.look_at(*stream, line, lines.as_bytes(), b"");
        line += count_lines(lines.as_bytes());
    }
    let windows = errors.into_windows(0, u64::MAX);
    let bytes: usize = windows.iter().map(|window| window.text.len()).sum();
    assert!(bytes <= 2000, "{bytes} bytes");
    windows
}

#[test]
fn each_window_has_the_line_that_names_the_error_and_its_number() {
    let deep = "  File \"/app/train.py\", line 120, in descend\n    descend(depth + 1)\n".repeat(500);
    let deep = format!("Traceback (most recent call last):\n{deep}RecursionError: too deep\n");
    let cases = [
        (deep.as_str(), "\nRecursionError: too deep"),
        (
            "[rank0]: Traceback (most recent call last):\n[rank0]:   File \"a\"\n[rank0]: KeyError\n",
            "\n[rank0]: KeyError",
        ),
        (
            "Traceback (most recent call last):\n  File \"a.py\", line 1\n    assert False\nAssertionError\n",
            "\nAssertionError",
        ),
        ("thread 'main' (7) panicked at src/main.rs:2:5:\nindex out of bounds\nnote: run\n", "\nindex out of bounds"),
        ("panic: no config\n\ngoroutine 1 [running]:\n", "panic: no config\n\ngoroutine 1"),
        (
            "Exception in thread \"main\" X: y\n\tat A.b(A.java:1)\nCaused by: Z: disk\n\tat C\n",
            "Caused by: Z: disk\n\tat C",
        ),
        ("terminate called after throwing an instance of 'std::runtime_error'\n  what():  boom\n", "what():  boom"),
        ("main.sh: line 3: 77 Segmentation fault      (core dumped) ./x\n", "Segmentation fault"),
        ("é error: no such thing\n", "é error: no such thing"),
        ("time=2026-11-24T04:23:55Z level=error msg=\"no disk\"\n", "msg=\"no disk\""),
        ("{\"level\":\"error\",\"msg\":\"no disk\"}\n", "no disk"),
        ("{\"severity\": \"error\", \"message\": \"no disk\"}\n", "no disk"),
        ("{\"level\":\"fatal\",\"msg\":\"no disk\"}\n", "no disk"),
        ("npm ERR! code ELIFECYCLE\n", "ELIFECYCLE"),
        ("npm error code ENOENT\n", "ENOENT"),
        ("make[1]: *** [Makefile:2: all] Error 1\n", "[Makefile:2: all] Error 1"),
        ("make: *** No rule to make target 'x'.  Stop.\n", "make target 'x'"),
    ];
    for (failure, words) in cases {
        let noise = "all is well\n".repeat(5000);
        let windows = windows(&[(Stream::Stdout, &noise), (Stream::Stdout, failure), (Stream::Stdout, &noise)]);
        let first = if words.starts_with("Caused") { 5003 } else { 5001 };
        let window = windows.iter().find(|window| window.line == first);
        let window = window.unwrap_or_else(|| panic!("{words}: {windows:?}"));
        assert!(window.text.contains(words), "{words}: {windows:?}");
    }
}

/// The text of all windows of `failure` between what is well.
fn found(before: &str, failure: &str, after: &str) -> String {
    let noise = "all is well\n".repeat(3000);
    let windows = windows(&[(Stream::Stdout, &format!("{noise}{before}{noise}{failure}{noise}{after}{noise}"))]);
    windows.into_iter().map(|window| window.text + "\n").collect()
}

#[test]
fn ordinary_failures_are_found_in_whatever_case() {
    for failure in [
        "2026/11/24 10:00:00 open /data/in: no such file or directory",
        "dial tcp 10.0.0.1:5432: connect: connection refused",
        "write /data/out: no space left on device",
        "open /etc/x: permission denied",
        "fork/exec /bin/x: cannot allocate memory",
        "2026-11-24T10:00:00Z\tERROR\tx/main.go:7\tno disk",
        "2026-11-24T10:00:00Z\tFATAL\tx/main.go:7\tno disk",
        "Error in f(x) : object 'y' is gone",
        "Error [ERR_MODULE_NOT_FOUND]: no package 'x'",
        "TypeError [ERR_INVALID_ARG_TYPE]: no string",
        "Failed to initialize NVML: Unknown Error",
        "FAILED: foo.o",
        "x.o: undefined reference to `f'",
        "x.sh: line 3: Y: unbound variable",
        "x.sh: line 3: syntax error near unexpected token `fi'",
        "Illegal instruction",
        "Floating point exception",
        "free(): double free detected in tcache 2",
        "malloc(): corrupted top size",
        "2026/11/24 10:00:00 [error] 7#7: no disk",
        "nginx: [emerg] no disk",
        "SEVERE: no disk",
        "{\"level\":50,\"msg\":\"no disk\"}",
        "Makefile:2: *** missing separator.  Stop.",
        "make: *** No targets specified and no makefile found.  Stop.",
        "#  SIGSEGV (0xb) at pc=0x00007f",
        "Caught signal 11",
        "java.lang.NullPointerException",
        "x.rb:1:in `f': undefined method `g' for nil (NoMethodError)",
        "exec /app/x: exec format error",
        "java.net.SocketTimeoutException: Read timed out",
        "MPI_ABORT was invoked on rank 3",
    ] {
        assert!(found("", &format!("{failure}\n"), "").contains(failure), "{failure}");
    }
}

#[test]
fn what_is_said_again_and_again_leaves_room_for_the_rest() {
    let crash = "Traceback (most recent call last):\n  File \"x.py\"\nKeyError: 1\n";
    let cases = [
        ("WARN: non-fatal problem with the cache\n", 300, crash, "KeyError: 1"),
        ("CUDA out of memory, retrying with a smaller batch\n", 300, crash, "KeyError: 1"),
        ("epoch N: 10 passed, 0 failed\n", 500, "Check failed: x == y\n", "Check failed: x == y"),
        ("12:00:N ERROR: attempt N is lost\n", 200, "ERROR: giving up\n", "ERROR: giving up"),
    ];
    for (line, times, failure, words) in cases {
        let repeated: String = (1..=times).map(|number| line.replace('N', &number.to_string())).collect();
        let found = found(&repeated, failure, &repeated);
        assert!(found.contains(words), "{line}: {found}");
        let count = found.lines().filter(|found| found.contains(&line[line.len() - 8..line.len() - 1])).count();
        assert!(count <= 2, "{line}: {found}");
        let counted = found.contains(&format!(" (and {} more like it)\n", 2 * times - 1));
        assert_eq!(counted, line.contains("attempt") || line.contains("CUDA"), "{found}");
    }
    let mut many: String =
        (0..1000).flat_map(|number| ["ERROR e".into(), number.to_string(), ": no\n".into()]).collect();
    many += "ERROR: giving up\n";
    assert!(found(&many, "", "").contains("ERROR: giving up"), "the last of many kinds");
}

#[test]
fn a_long_last_crash_is_shortened_to_its_beginning_and_its_end() {
    let crash = |name: &str| {
        let frames = format!("  File \"{name}.py\"\n").repeat(200);
        format!("Traceback (most recent call last):\n{frames}{name}: x\n")
    };
    let crashes: String = (0..20).map(|number| crash(&format!("Error{number}"))).collect();
    let found = found(&crashes, &crash("LastError"), "");
    let last = found.rfind("Traceback (most recent call last):\n…").unwrap();
    assert!(found[last..].ends_with("\nLastError: x\n"), "{found}");
}

#[test]
fn a_trace_ends_where_it_ends() {
    let at = |line: &str| format!("2026-11-24 10:00:07,123 INFO x: {line}\n");
    let stamped = ["Traceback (most recent call last):", "  File \"a.py\"", "KeyError: 'gone'"].map(at).concat();
    let stamped = stamped.replacen("07,123", "59,9", 1);
    let far = format!("{{\"data\":\"{}\",\"level\":\"error\",\"msg\":\"no disk\"}}\n", "é".repeat(2000));
    let cases = [
        (stamped.as_str(), "KeyError: 'gone'"),
        (
            "Traceback (most recent call last):\n  File \"a.py\"\n    raise E(\"panic: x\")\nE: y\n\tMissing key(s)\n",
            "Missing key(s)",
        ),
        (
            "Traceback (most recent call last):\n  File \"a\"\nx.ValidationError: 1 error for M\nage\n  Input is bad\n",
            "\nage\n  Input is bad",
        ),
        (
            "thread 'main' panicked at a.rs:2:5:\nassertion `left == right` failed\n  left: 17\n right: 42\nnote: run\n",
            "\n  left: 17\n right: 42\n",
        ),
        ("Error: no start\n\nCaused by:\n    the disk is on fire\n", "Caused by:\n    the disk is on fire\n"),
        (
            "  WARN unhandled option\n  INFO a\n  ERROR: disk on fire\n  INFO b\n",
            "unhandled option\n  ERROR: disk on fire\n",
        ),
        ("unhandled option\n  INFO a\n  ERROR: disk on fire\n", "INFO a\n  ERROR: disk on fire\n"),
        (far.as_str(), "éé\",\"level\":\"error\",\"msg\":\"no disk\"}"),
    ];
    for (failure, words) in cases {
        let found = found("", failure, "");
        assert!(found.contains(words) && !found.contains("INFO b") && found.len() < 1100, "{words}: {found}");
    }
}

#[test]
fn the_first_crash_and_the_last_stay_however_much_follows() {
    let crash = |name: &str| format!("Traceback (most recent call last):\n  File \"x.py\"\n{name}: x\n");
    let mut log = String::from("all is well\nERROR first\n");
    for number in 0..1000 {
        log += &crash(&format!("Error{number}"));
        log += "ERROR again and again\n";
    }
    let windows = windows(&[(Stream::Stdout, &log)]);
    assert!(windows[0].line == 3 && windows[0].text.ends_with("Error0: x"), "{windows:?}");
    assert!(windows.iter().any(|window| window.text.ends_with("Error999: x")), "{windows:?}");
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let line = format!("error: {}\n", "é".repeat(2000));
    for window in windows(&[
        (Stream::Stderr, &line),
        (Stream::Stdout, &line),
        (Stream::Stdout, "Traceback (most recent call last):\n"),
        (Stream::Stdout, &line),
    ]) {
        assert!(window.text.ends_with('é') && window.text.len() > 200, "{window:?}");
    }
}

#[test]
fn a_trace_of_long_lines_only_is_cut_as_often_as_it_takes() {
    for length in [200, 221, 222, 223, 660, 666, 900, 1500] {
        let line = format!("{}\n", "é".repeat(length / 2));
        let trace = format!("thread 'main' panicked at {line} {line} {line}\t{line}the end\n");
        let windows = windows(&[(Stream::Stdout, &trace)]);
        assert!(windows[0].text.starts_with("thread 'main' panicked at é"), "{windows:?}");
    }
}

#[test]
fn what_stderr_says_is_kept_where_nothing_looks_like_an_error() {
    let noise = "all is well\n".repeat(1000);
    let chatter = "noise\n".repeat(100);
    let windows = windows(&[
        (Stream::Stderr, "cannot read the tape\n"),
        (Stream::Stdout, &noise),
        (Stream::Stderr, &chatter),
        (Stream::Stdout, &noise),
        (Stream::Stderr, "the tape is on fire\n"),
        (Stream::Stdout, &noise),
    ]);
    assert_eq!((windows[0].line, windows[0].text.lines().next()), (1, Some("cannot read the tape")), "{windows:?}");
    let last = windows.last().unwrap();
    assert!(last.text.ends_with("noise\nthe tape is on fire"), "{windows:?}");
}
