use super::*;

#[test]
fn what_json_does_not_have_is_named_with_its_place() {
    let cases = [
        ("{ // the job\n}", "line 1, column 3: a comment begins here, and JSON has none; leave it out"),
        ("{\n  \"a\": 1, /* x */ \"b\": 2}", "line 2, column 11: a comment"),
        ("# x\n{}", "line 1, column 1: a comment"),
        ("{\"a\": 1} // x", "line 1, column 10: a comment"),
        ("{\"a\": 1,\n}", "line 1, column 8: a comma stands before the end"),
        ("[1, 2,]", "line 1, column 6: a comma stands before the end"),
        ("{\"a\": [1,, 2]}", "line 1, column 10: expected a value"),
        ("{\"a\": 1,, \"b\": 2}", "line 1, column 9: there is a comma too many"),
        ("{\"a\": 1 \"b\": 2}", "line 1, column 9: a comma is missing before this; write a , before it"),
        ("{\"a\" 1}", "line 1, column 6: a : is missing before this"),
        ("{\"a\" = 1}", "line 1, column 6: a = stands between key and value; write :"),
        ("{\"a\":}", "line 1, column 6: a value is missing before this"),
        ("{a: 1}", "line 1, column 2: a key stands without quotes; write \"a\""),
        ("{'a': 1}", "line 1, column 2: a ' stands where JSON has \"; write \""),
        ("{\"a\": 'x'}", "line 1, column 7: a ' stands where"),
        ("{“a”: 1}", "line 1, column 2: “ (U+201C, a curly quote) is no quote to JSON; write \" instead"),
        ("{\"a”: 1, \"b\": 2}", "line 1, column 4: ” (U+201D, a curly quote) is no quote"),
        ("{\"a\": “x”}", "line 1, column 7: “ (U+201C"),
        ("{\"a\": ‘x’}", "line 1, column 7: ‘ (U+2018"),
        ("{\"a\": \"x”}", "line 1, column 9: ” (U+201D"),
        ("{\u{a0}\"a\": 1}", "line 1, column 2: U+00A0 (a no-break space) is no space to JSON; write an ordinary"),
        ("{\"a\"\u{200b}: 1}", "line 1, column 5: U+200B (an invisible character) has no meaning in JSON; delete it"),
        ("{\"a\": NaN}", "line 1, column 7: JSON has no NaN; leave the field out"),
        ("{\"a\": -Infinity}", "line 1, column 7: this is no number of JSON; leave the field out"),
        ("{\"a\": True}", "line 1, column 7: JSON has no True; write true"),
        ("{\"a\": None}", "line 1, column 7: JSON has no None; write null"),
        ("{\"a\": busybox}", "line 1, column 7: a text stands without quotes"),
        ("{\"a\": 8g}", "line 1, column 7: this is no number of JSON; write for example 8"),
        ("{\"a\": 010}", "line 1, column 7: this is no number"),
        ("{\"a\": .5}", "line 1, column 7: expected a value"),
        ("{\"a\": 0x1f}", "line 1, column 7: this is no number"),
        ("{\"a\": \"C:\\data\"}", "line 1, column 10: the \\ in a string begins no escape; write \\\\"),
        ("{\"a\": \"x\n\"}", "line 1, column 7: the string that begins here is not closed on its line"),
        ("{\"a\": \"x", "line 1, column 7: the string that begins here is never closed"),
        ("{\"a\": {\"b\": [1", "the text ends, and the [ of line 1, column 13 is not closed"),
        (
            "{\"a\": \"echo \"hi\"\"}",
            "line 1, column 14: the string ended at the \" before this; write \\\" for a quote",
        ),
        ("{\"a\": \"x\"; \"b\": 1}", "line 1, column 10: a comma is missing before this"),
        ("{\"a\"}", "line 1, column 5: a : is missing before this"),
        ("{\\\"a\\\": 1}", "line 1, column 2: a \\ stands before the quotes: the text was escaped once too often"),
        ("<<EOF\n{}\nEOF", "this is to be replaced by a shell"),
        ("{\"a\": [1}", "line 1, column 9: the } does not close the [ of line 1, column 7"),
        ("{} {}", "line 1, column 4: the document ends before this; a job-spec is one"),
        ("{}}", "line 1, column 3: the document ends before this; leave it out"),
        ("container:\n  image: a", "line 1, column 1: this is YAML, not JSON"),
        ("---\na: 1", "this is YAML"),
        ("- a", "this is YAML"),
        ("<!DOCTYPE html>", "this is HTML or XML"),
        ("job.json", "this is the name of a file"),
        ("gs://b/job.json", "this is the name of a file"),
        ("$(cat job.json)", "this is to be replaced by a shell"),
        ("'{\"a\": 1}'", "the document is in quotes"),
        ("eyJhIjoxfQ==", "this is JSON in base64"),
    ];
    for (text, error) in cases {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        let found = find(text).map(|problem| problem.at("a", "").to_string()).unwrap_or_default();
        assert!(found.contains(error), "{text}: {found}");
    }
}

/// What is JSON has no fault: a false one would be worse than the parser's own words.
#[test]
fn good_json_has_no_fault() {
    let deep = format!("{}{}", "[".repeat(90), "]".repeat(90));
    for text in [
        r#"{"a": [1, -2, 0.5, 1e3, {}, [], [{}], "“ // # ' \" \\ é", true, null], "b": {"c": false}}"#,
        " {\n}\n",
        "[]",
        "\"x\"",
        "1",
        &deep,
    ] {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        assert_eq!(find(text), None, "{text}");
    }
}
