use super::*;

fn summary_of(budget: usize, pieces: &[(Stream, &[u8])]) -> LogSummary {
    let mut summary = Summary::default();
    summary.set_budget(budget);
    for (stream, piece) in pieces {
        summary.push(*stream, piece);
    }
    summary.finish()
}

#[test]
fn streams_are_counted_apart_and_shown_together() {
    let summary =
        summary_of(4096, &[(Stream::Stdout, b"one\ntw"), (Stream::Stderr, b"oops\n"), (Stream::Stdout, b"o\nlast")]);
    assert_eq!((summary.stdout_bytes, summary.stdout_lines), (12, 3));
    assert_eq!((summary.stderr_bytes, summary.stderr_lines), (5, 1));
    assert_eq!(summary.tail.text, "one\noops\ntwo\nlast", "a line is not torn by one of the other stream");
    assert_eq!((summary.head.text.as_str(), summary.omitted_bytes), (summary.tail.text.as_str(), 0));
}

#[test]
fn a_long_log_keeps_both_ends_and_counts_the_rest() {
    let mut summary = Summary::default();
    summary.set_budget(400);
    for number in 0..10_000 {
        summary.push(Stream::Stdout, format!("line {number}\n").as_bytes());
    }
    assert!(summary.ends.tail.len() < 400);
    let summary = summary.finish();
    assert!(summary.head.text.starts_with("line 0\n") && summary.tail.text.ends_with("line 9999\n"));
    assert_eq!((summary.head.text.len(), summary.tail.text.len()), (100, 200));
    assert_eq!(summary.omitted_bytes, summary.stdout_bytes - 300);
}

#[test]
fn what_was_written_last_is_last() {
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    let trace = "Traceback (most recent call last):\n  File \"a\"\nKeyError: 1";
    let long = "x".repeat(99) + "\n";
    let filler: Vec<(Stream, &[u8])> = std::iter::repeat_n((err, long.as_bytes()), 100).collect();
    for (pieces, tail) in [
        (vec![(out, "one\nLoading… "), (err, trace), (err, "\n")], format!("one\nLoading… \n{trace}\n")),
        (vec![(out, "one\nLoading… "), (err, trace)], format!("one\nLoading… \n{trace}")),
        (vec![(err, "a"), (out, "b\n"), (err, "c")], "b\nac".to_owned()),
        (vec![(out, "a"), (err, "b"), (out, "c")], "b\nac".to_owned()),
        (vec![(out, "10%"), (err, "warn\n"), (out, "\r20%")], "warn\n20%".to_owned()),
    ] {
        let pieces: Vec<(Stream, &[u8])> = pieces.into_iter().map(|(of, text)| (of, text.as_bytes())).collect();
        let summary = summary_of(4096, &pieces);
        assert_eq!((&summary.tail.text, &summary.head.text), (&tail, &tail));
        assert_eq!(summary.omitted_bytes, 0);
        // And however much came before, or between.
        let summary = summary_of(4096, &[&filler[..], &pieces].concat());
        assert!(summary.tail.text.ends_with(&format!("x\n{tail}")), "{}", summary.tail.text);
        let summary = summary_of(4096, &[&pieces[..1], &filler].concat());
        assert!(summary.tail.text.ends_with("x\n"), "{}", summary.tail.text);
        assert!(summary.omitted_bytes > 5000);
    }
}

#[test]
fn characters_are_never_cut() {
    for budget in 4..60 {
        let summary = summary_of(budget, &[(Stream::Stdout, "aé€😀".repeat(20).as_bytes())]);
        for text in [&summary.head.text, &summary.tail.text] {
            assert!(!text.contains('\u{fffd}'), "{budget}: {text}");
        }
        assert!(summary.head.text.starts_with('a') || budget < 8, "{budget}");
    }
    let summary = summary_of(400, &[(Stream::Stdout, b"\x80bad\xff")]);
    assert_eq!(summary.tail.text, "\u{fffd}bad\u{fffd}");
    assert_eq!(summary.head.text, "\u{fffd}bad\u{fffd}");
}

#[test]
fn a_summary_survives_a_restart_at_any_byte() {
    let far = "x".repeat(1500);
    let trace = format!("Traceback\n10:1 Traceback (most recent call last):\n10:2   File\n{far}\n10:3 E: x\n\tmore\n");
    let log = format!("first\nerror: \u{e9} broke\nerror: 1\nerror: 2\n{far} failed\n{trace}\nlast without newline");
    let log = log.as_bytes();
    let whole = summary_of(4096, &[(Stream::Stderr, log)]);
    assert!(whole.errors.iter().any(|error| error.text.contains("x failed")), "a sign far into its line");
    assert!(whole.errors.iter().any(|error| error.text.ends_with("(and 1 more like it)")));
    for cut in 0..=log.len() {
        let mut summary = Summary::default();
        summary.set_budget(4096);
        summary.push(Stream::Stderr, &log[..cut]);
        let saved = serde_json::to_string(&summary).unwrap();
        let mut summary: Summary = serde_json::from_str(&saved).unwrap();
        summary.push(Stream::Stderr, &log[cut..]);
        assert_eq!(summary.finish(), whole, "cut at {cut}");
    }
}

#[test]
fn a_summary_of_an_earlier_version_goes_on() {
    let mut summary = Summary::default();
    summary.set_budget(4096);
    summary.push(Stream::Stderr, b"error: first\nTraceback (most recent call last):\n");
    let mut saved = serde_json::to_value(&summary).unwrap();
    saved["errors"].as_object_mut().unwrap().remove("last_error").unwrap();
    let mut summary: Summary = serde_json::from_value(saved).unwrap();
    summary.push(Stream::Stderr, b"  File\nKeyError\n");
    let errors = summary.finish().errors;
    assert_eq!((errors[0].text.as_str(), errors[1].text.lines().last()), ("error: first", Some("KeyError")));
}

#[test]
fn a_smaller_summary_still_ends_with_the_last_line() {
    let long = "x".repeat(3000) + "\nerror: no such file\n" + &"y".repeat(3000) + "\nthe end";
    let summary = summary_of(2000, &[(Stream::Stdout, long.as_bytes())]);
    for budget in [2000, 999, 100, 20] {
        let small = summary.within(budget);
        assert!(small.text_bytes() <= budget, "{budget}");
        assert!(small.tail.text.ends_with("the end"), "{budget}");
        let total = small.head.raw_bytes + small.tail.raw_bytes + small.omitted_bytes;
        assert_eq!(total, summary.stdout_bytes);
    }
    assert_eq!(summary.within(0).text_bytes(), 0);
}
