//! A report that is no larger than may be sent: what has bounds of its own is cut to them, and what gives way does so in the contract's order
//! (design 2.3). What a workflow decides by stays.

use serde_json::Value;

use crate::gate::Tree;

/// The largest report, in bytes. Less than 64 KiB by enough that the `vmjob-report` line, with what journald or a script
/// runner puts before it, still passes a reader of 64 KiB lines.
pub const MAX_REPORT_BYTES: usize = 64 * 1024 - 512;

/// A message, a fix, a piece of evidence, and each other text outside of logs and result, as JSON has it.
const MAX_TEXT_BYTES: usize = 1024;
const MAX_EVIDENCE: usize = 32;
const MAX_UPLOADS: usize = 50;
/// Texts with bounds of their own.
const BOUNDED: [&str; 3] = ["logs", "result", "steps"];
/// Never given way.
const KEPT: [&str; 10] =
    ["version", "job", "state", "cause", "exit_code", "signal", "message", "result", "vm", "agent"];

/// Cuts what is longer than its own bound; where there are no log texts left to give way (`is_last`), whatever has to.
pub(super) fn fit(report: &mut Tree, is_last: bool) {
    if let Tree::Fields(fields) = report {
        for (_, value) in fields.iter_mut().filter(|(name, _)| !BOUNDED.contains(&&**name)) {
            shorten(value);
        }
    }
    truncate(report, "evidence", MAX_EVIDENCE);
    omit_uploads(report, MAX_UPLOADS);
    if !is_last {
        return;
    }
    let gives: [fn(&mut Tree); 7] = [
        |report| {
            if let Some(timeline) = report.field("usage").and_then(|usage| usage.field("timeline")) {
                *timeline = Tree::Plain(Value::Null);
            }
        },
        |report| {
            for step in report.field("steps").and_then(Tree::items).into_iter().flatten() {
                if let Some(tail) = step.field("tail") {
                    *tail = Tree::Text(String::new());
                }
            }
        },
        |report| omit_uploads(report, MAX_UPLOADS / 5),
        |report| omit_uploads(report, 0),
        |report| truncate(report, "advice", 0),
        |report| truncate(report, "evidence", MAX_EVIDENCE / 4),
        |report| truncate(report, "evidence", 0),
    ];
    for give in gives {
        if report.to_json().len() <= MAX_REPORT_BYTES {
            return;
        }
        give(report);
    }
    // What is still too large is in a section without a place in that order: the largest first.
    while report.to_json().len() > MAX_REPORT_BYTES {
        let Tree::Fields(fields) = &mut *report else { return };
        let others = fields.iter_mut().filter(|(name, _)| !KEPT.contains(&&**name)).map(|(_, value)| value);
        let largest =
            others.filter(|value| **value != Tree::Plain(Value::Null)).max_by_key(|value| value.to_json().len());
        let Some(largest) = largest else { return };
        *largest = Tree::Plain(Value::Null);
    }
}

/// Cuts each text.
fn shorten(value: &mut Tree) {
    match value {
        Tree::Text(text) => cut(text),
        Tree::List(items) => items.iter_mut().for_each(shorten),
        Tree::Fields(fields) => fields.iter_mut().for_each(|(_, value)| shorten(value)),
        Tree::Plain(_) => {}
    }
}

/// Cuts `text` at a character boundary so that its JSON takes no more than [`MAX_TEXT_BYTES`]; a control character takes more there than in
/// the text.
fn cut(text: &mut String) {
    // Two are the quotes.
    let json_bytes = |text: &str| Tree::Text(text.to_owned()).to_json().len() - 2;
    if text.len() <= MAX_TEXT_BYTES / 6 || json_bytes(text) <= MAX_TEXT_BYTES {
        return;
    }
    let mut left = MAX_TEXT_BYTES - '…'.len_utf8();
    let fits = |c: char| {
        let bytes = json_bytes(c.encode_utf8(&mut [0; 4]));
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        !fits
    };
    if let Some(end) = text.find(fits) {
        text.truncate(end);
    }
    text.push('…');
}

fn truncate(report: &mut Tree, list: &str, most: usize) {
    if let Some(items) = report.field(list).and_then(Tree::items) {
        items.truncate(most);
    }
}

fn omit_uploads(report: &mut Tree, most: usize) {
    let Some(rows) = report.field("uploads").and_then(Tree::items) else { return };
    let omitted = rows.len().saturating_sub(most);
    rows.truncate(most);
    if let Some(Tree::Plain(count)) = report.field("uploads_omitted") {
        *count = (count.as_u64().unwrap_or_default() + omitted as u64).into();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::gate::Gate;

    /// Every kind of character, alone and many of them.
    fn texts(most: usize) -> impl Strategy<Value = String> {
        let pieces =
            prop_oneof![Just("x"), Just("\u{1}"), Just("\u{2028}"), Just("é"), Just("😀"), Just("\""), Just("a\nb ")];
        (pieces, 0..most).prop_map(|(piece, count)| piece.repeat(count))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_is_known_a_report_has_room_for_what_decides(
            message in texts(50_000), fix in texts(50_000), evidence in proptest::collection::vec(texts(3000), 0..60),
            uploads in proptest::collection::vec(texts(2000), 0..80), result in texts(3900), names in texts(3000),
            tail in texts(3000), other in texts(60_000),
        ) {
            let rows: Vec<_> = uploads.iter().map(|text| json!({"from": text, "to": text, "error": text})).collect();
            let document = json!({
                "state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": message, "fix": fix, "evidence": evidence,
                "vm": {"name": names, "zone": names}, "usage": {"timeline": {"cpu": vec![0.123_456_789; 3000]}},
                "steps": vec![json!({"name": "a", "tail": tail}); 16], "uploads": rows, "uploads_omitted": 0,
                "advice": [names], "checkpoint": {"error": other}, "new": vec![&other], "result": {"a": result},
            });
            let report = Gate::default().json(&document, &[], &[], |tree| fit(tree, true));
            prop_assert!(report.as_str().len() <= MAX_REPORT_BYTES, "{}", report.as_str().len());
            let report: Value = serde_json::from_str(report.as_str()).unwrap();
            for (field, wanted) in [("state", "FAILED"), ("cause", "EXIT_CODE")] {
                prop_assert_eq!(&report[field], wanted);
            }
            prop_assert_eq!((&report["exit_code"], &report["result"]), (&json!(3), &document["result"]));
            let shown = report["message"].as_str().unwrap();
            prop_assert!(message.starts_with(shown.trim_end_matches('…')) && shown.len() <= MAX_TEXT_BYTES);
            prop_assert!(shown.len() > 150 || shown == message, "{}", shown);
            prop_assert!(report["fix"].as_str().unwrap().len() <= MAX_TEXT_BYTES);
            let facts = report["evidence"].as_array().unwrap();
            prop_assert!(facts.len() <= MAX_EVIDENCE && facts.iter().all(|fact| fact.as_str().unwrap().len() <= MAX_TEXT_BYTES));
            let shown = report["uploads"].as_array().unwrap().len() as u64;
            prop_assert_eq!(shown + report["uploads_omitted"].as_u64().unwrap(), uploads.len() as u64);
        }
    }

    #[test]
    fn what_gives_way_does_so_in_order() {
        let document = |bytes: usize| {
            json!({"usage": {"timeline": "t".repeat(900)}, "steps": [{"tail": "x".repeat(2048)}], "uploads": [{"to": "b".repeat(90)}],
                "uploads_omitted": 0, "advice": ["a".repeat(90)], "evidence": ["e".repeat(90)], "fix": "f", "result": "r".repeat(bytes)})
        };
        let gone = |bytes: usize| {
            let report = Gate::default().json(&document(bytes), &[], &[], |tree| fit(tree, true));
            let report: Value = serde_json::from_str(report.as_str()).unwrap();
            [
                report["usage"]["timeline"].is_null(),
                report["steps"][0]["tail"] == "",
                report["uploads_omitted"] == 1,
                report["advice"] == json!([]),
                report["evidence"] == json!([]),
                report["fix"].is_null(),
            ]
            .iter()
            .take_while(|gone| **gone)
            .count()
        };
        let rest = document(0).to_string().len();
        let order: Vec<usize> = (0..rest - 150).step_by(20).map(|over| gone(MAX_REPORT_BYTES - rest + over)).collect();
        assert!(order.is_sorted() && order[0] == 0, "{order:?}");
        assert!([1, 2, 3, 4, 5].iter().all(|step| order.contains(step)), "{order:?}");
    }
}
