//! Whatever bytes come, in whatever blocks: nothing panics, and what is found does not depend on where the blocks end.

use proptest::{collection::vec, prelude::*, sample::select};
use vmjob_logs::{Stream, Summary};

/// Pieces of lines that mean a failure, and of others, so that signs stand at all places and are cut.
fn pieces() -> Vec<&'static [u8]> {
    let last_words = include_bytes!("../testdata/last-words.txt").split(|byte| *byte == b'\n');
    let ordinary = include_bytes!("../testdata/ordinary.txt").split(|byte| *byte == b'\n');
    last_words.chain(ordinary).filter_map(|line| line.get(1..)).collect()
}

fn log() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => (select(pieces()), any::<(prop::sample::Index, bool)>()).prop_map(|(piece, (cut, is_cut))| {
            piece[if is_cut { cut.index(piece.len() + 1) } else { 0 }..].to_vec()
        }),
        2 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..3000_usize).prop_map(|(byte, count)| vec![byte; count]),
        4 => select(vec![&b"\n"[..], b"\n\n", b": ", b" ", b"\t", b"error", b"0 failed", b" not found", b"\xe2\x80\x98"])
            .prop_map(<[u8]>::to_vec),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// What is found of a log that comes in blocks which end at `cuts`.
fn errors_of(log: &[u8], cuts: &[usize]) -> serde_json::Value {
    let mut summary = Summary::default();
    summary.set_budget(16_384);
    let mut from = 0;
    for cut in cuts.iter().copied().chain([log.len()]) {
        summary.push(Stream::Stdout, &log[from..cut]);
        from = cut;
    }
    serde_json::to_value(summary.finish()).unwrap()["errors"].take()
}

proptest! {
    #[test]
    fn what_is_found_does_not_depend_on_where_blocks_end(
        log in log(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(errors_of(&log, &[]), errors_of(&log, &cuts));
    }
}

/// Rows that reach their greatest length while the cursor moves, with bytes that are not UTF-8 in them.
#[test]
fn what_is_found_in_long_rows_does_not_depend_on_where_blocks_end() {
    let cases: [(&[u8], &[u8], &[u8]); 4] = [
        (&[0; 689], b"\x08", b" "),
        (&[b'x'; 4000], b"\r", b"\xc3"),
        (&[0xc3; 60], b"\x1b[30D0 failed cobra", b"\x80"),
        (&[0xe2; 2000], b"\x1b[900D(pid:8) was sent SIGKILL!", b"\xff"),
    ];
    for (begin, moved, rest) in cases {
        let log = [begin, moved, &rest.repeat(7505), b"\n\0error\n"].concat();
        let whole = errors_of(&log, &[]);
        for cut in (0..log.len()).rev().step_by(7) {
            assert_eq!(errors_of(&log, &[cut]), whole, "cut at {cut} of {:?}…", &log[..20]);
        }
    }
}
