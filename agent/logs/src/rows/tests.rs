use crate::{LogSummary, Stream, Summary};

fn summary_of(pieces: &[(Stream, &[u8])], size: usize) -> LogSummary {
    let mut summary = Summary::default();
    summary.set_budget(40_960);
    for (stream, piece) in pieces {
        for block in piece.chunks(size) {
            summary.push(*stream, block);
            // At any time an agent may die.
            if size < 8 {
                summary = serde_json::from_str(&serde_json::to_string(&summary).unwrap()).unwrap();
            }
        }
    }
    summary.finish()
}

fn repeat(count: usize, text: impl Fn(usize) -> String) -> String {
    (0..count).map(text).collect()
}

/// What programs write, and what a terminal shows in the end. All but those marked were held against a terminal emulator (pyte).
#[test]
fn a_summary_shows_what_a_terminal_would_show_in_the_end() {
    let bars = "job line 1\n".to_owned()
        + &repeat(2000, |n| format!("\router: {n}/2000\n\rinner: {}/10\x1b[A", n % 10))
        + "\n\njob line 2\n";
    let pull = "Using default tag\n".to_owned()
        + &repeat(3, |n| format!("{n}: Pulling \r\n"))
        + &repeat(30, |n| format!("\x1b[{0}A\x1b[2K\r{1}: {n} MB\r\x1b[{0}B", 3 - n % 3, n % 3))
        + "Status: done\n";
    let apt = "begin\n\n\x1b7\x1b[0;9r\x1b8\x1b[1A".to_owned()
        + &repeat(20, |n| format!("\x1b7\x1b[10;0f\x1b[42mProgress: [{n}%]\x1b[49m\x1b8Unpacking {n}\r\n"))
        + "\x1b7\x1b[0;10r\x1b8\x1b[1A\x1b[J";
    let apt_shown = "begin\n\n".to_owned() + &repeat(19, |n| format!("Unpacking {n}\n"));
    let cases: Vec<(&str, String, &str)> = vec![
        ("tqdm", repeat(50, |n| format!("\r{n}%|{:#<n$}|", "")) + "\n", ""),
        ("nested tqdm", "job\n".to_owned() + &"\n\rinner: 5/10\x1b[A".repeat(2000), "job\n\ninner: 5/10"),
        ("nested tqdm, both bars", bars, "job line 1\nouter: 1999/2000\ninner: 9/10\njob line 2\n"),
        (
            "mkfs",
            "tables: ".to_owned() + &repeat(9, |n| format!("{}/9\x08\x08\x08", n + 1)) + "done\n",
            "tables: done\n",
        ),
        ("mkfs, at its end", repeat(9, |n| format!("{}/9\x08\x08\x08", n + 1)), "9/9"),
        ("docker pull", pull, "Using default tag\n0: 27 MB\n1: 28 MB\n2: 29 MB\nStatus: done\n"),
        (
            "cargo",
            "a\n".to_owned() + &repeat(9, |n| format!("  Building {n}/9: foo\r\x1b[K   Compiled {n}\n")),
            "a\n   Compiled 0\n",
        ),
        ("npm", repeat(9, |n| format!("\x1b[1G\x1b[0K⠙ fetch {n}")) + "\x1b[1G\x1b[0Kadded\n", "added\n"),
        ("yarn", "[1/4]\n".to_owned() + &repeat(99, |n| format!("\x1b[2K\x1b[1G[--] {n}/99")), "[1/4]\n[--] 98/99"),
        (
            "indicatif",
            "\n\n".to_owned() + &repeat(9, |n| format!("\x1b[2A\r\x1b[2Ka {n}\x1b[1B\r\x1b[2Kb {n}\x1b[1B\r")),
            "a 8\nb 8\n",
        ),
        (
            "vitest",
            repeat(30, |n| ["", "\x1b[1A\x1b[2K\x1b[1A\x1b[2K"][n.min(1)].to_owned() + &format!("run {n}\ntest {n}\n")),
            "run 29\ntest 29\n",
        ),
        ("git", repeat(9, |n| format!("remote: {n}%\x1b[K\r")) + "remote: done.\x1b[K\n", "remote: done.\n"),
        ("a spinner", "work ".to_owned() + &"|\x08/\x08-\x08".repeat(99) + "done\n", "work done\n"),
        ("a shorter state", "100% done\r5\n".to_owned(), "500% done\n"),
        ("blanked out", "100% done\r         \rnext\n".to_owned(), "next\n"),
        ("saved and restored", "a\nb\nc\n\x1b7\x1b[2Axx\x1b8d\n".to_owned(), "a\nxx\nc\nd\n"),
        (
            "inserted and deleted",
            "one\ntwo\nthree\n\x1b[2A\x1b[Lnew\x1b[1B\r\x1b[M\x1b[1A\r\x1b[2P\x1b[3@\x1b[2Xq\n".to_owned(),
            "",
        ),
        ("wide characters", "日本語 10%\r日本語 20%\r本\n🚀 go\x1b[4Gx\n".to_owned(), "本本語 20%\n🚀 xo\n"),
        ("half of a wide character", "日本\x1b[2Gx\n".to_owned(), " x本\n"),
        ("tabs stay", "a\tb\rX\n\tat x\n".to_owned(), "X\tb\n\tat x\n"),
        (
            "colours and links",
            "\x1b[2mGET\x1b[22m 200 \x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\\n".to_owned(),
            "GET 200 link\n",
        ),
        ("controls", "h\0i\0\u{7}\u{e}\u{7f}\u{85}!\n\r\0a\u{90}b\0c".to_owned(), "hi!\nabc"),
        // A terminal's screen begins with what it shows, and here what came before stays.
        (
            "watch",
            "job\n".to_owned() + &repeat(99, |n| format!("\x1b[H\x1b[2Jevery 2 s\n\nload {n}\n")),
            "job\nevery 2 s\n\nload 98\n",
        ),
        ("clear", "job\n\x1b[2J\x1b[Hone\n\x1b[H\x1b[Jtwo\n".to_owned(), "job\ntwo\n"),
        // Nine rows scroll above a tenth; as a terminal does, its end erases the line above the cursor.
        ("apt", apt, &apt_shown),
    ];
    for (what, log, wanted) in cases {
        let shown = summary_of(&[(Stream::Stdout, log.as_bytes())], usize::MAX).tail.text;
        match what {
            "tqdm" => assert_eq!(shown, format!("49%|{:#<49}|\n", "")),
            "cargo" => assert!(
                shown.starts_with(wanted) && shown.ends_with("\n   Compiled 8\n") && !shown.contains("Building"),
                "{shown}"
            ),
            "inserted and deleted" => assert_eq!(shown, "one\nq  w\nthree\n"),
            _ => assert_eq!(shown.replace('\r', ""), wanted, "{what}"),
        }
        for size in [7, 64] {
            assert_eq!(
                summary_of(&[(Stream::Stdout, log.as_bytes())], size).tail.text,
                shown,
                "{what}, blocks of {size}"
            );
        }
    }
}

#[test]
fn lines_between_bars_of_another_stream_stay_where_they_came() {
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    let states: Vec<String> = (0..500).map(|n| format!("\router: {n}\n\rinner: {n}\x1b[A")).collect();
    let lines: Vec<String> = (0..500).map(|n| format!("step {n}\n")).collect();
    let mut pieces: Vec<(Stream, &[u8])> = Vec::new();
    for (state, line) in states.iter().zip(&lines) {
        pieces.extend([(err, state.as_bytes()), (out, line.as_bytes())]);
    }
    pieces.extend([(err, &b"\n\nTraceback (most recent call last):\n  File\nKeyError: 1\n"[..]), (out, b"bye\n")]);
    let summary = summary_of(&pieces, usize::MAX);
    let wanted =
        lines.concat() + "outer: 499\ninner: 499\nTraceback (most recent call last):\n  File\nKeyError: 1\nbye\n";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&summary.tail.text), sorted(&wanted));
    assert!(summary.tail.text.ends_with("\n  File\nKeyError: 1\nbye\n"), "{}", summary.tail.text);
    assert!(summary.tail.text.starts_with(&lines.concat()[..100]));
    assert_eq!((summary.stdout_lines, summary.omitted_bytes), (501, 0));
}

#[test]
fn memory_is_bounded_and_long_lines_go_through() {
    let mut summary = Summary::default();
    summary.set_budget(16_384);
    let long = "x".repeat(100_000);
    for text in [
        "\r",
        &long,
        "\x1b[9999A",
        "\x1b[9999B",
        "\x1b[9999C",
        &long,
        "\x1b[9999L\x1b[9999@",
        "\n\n",
        "\x1b[9999;9999Hy",
        "\t\r",
    ] {
        for _ in 0..120 {
            summary.push(Stream::Stderr, text.as_bytes());
        }
        assert!(serde_json::to_string(&summary).unwrap().len() < 2 << 20, "{text:.10}");
    }
    summary.push(Stream::Stderr, b"\x1b[9999B\r\x1b[2K\nthe end");
    assert!(summary.finish().tail.text.ends_with("the end"));
    // What is an ordinary log again is treated as one.
    let mut summary = Summary::default();
    summary.set_budget(16_384);
    summary.push(Stream::Stdout, b"1%\r2%\n");
    for number in 0..1000 {
        summary.push(Stream::Stdout, format!("line {number}\n").as_bytes());
    }
    let saved = serde_json::to_value(&summary).unwrap();
    assert!(saved["channels"][0]["rows"].is_null(), "{saved}");
    assert_eq!(summary.finish().stdout_lines, 1001);
}
