use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "p4ss w/rd+\"ü~2?";
const KEY: &str = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n";

/// A whole text in pieces of `size` bytes, as a restarted agent would mask it after each piece.
fn in_pieces(masker: &Arc<Masker>, text: &[u8], size: usize) -> String {
    let mut place = MaskPlace::default();
    let mut shown = Vec::new();
    for piece in text.chunks(size) {
        let mut masks = Masks::new(Some(masker.clone()), place);
        shown.extend_from_slice(masks.push(0, piece));
        place = serde_json::from_str(&serde_json::to_string(&masks.place()).unwrap()).unwrap();
    }
    shown.extend_from_slice(Masks::new(Some(masker.clone()), place).finish(0));
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn every_form_is_masked_wherever_it_is_cut() {
    let masker = Arc::new(Masker::new([SECRET, KEY]));
    let mut cases = vec![
        (SECRET.to_owned(), "***".to_owned()),
        (serde_json::json!({ "k": SECRET }).to_string(), "{\"k\":\"***\"}".to_owned()),
        ("MIIEvQIBADANBgkqhkiG9w0B".to_owned(), "***".to_owned()),
    ];
    for json in [r#"p4ss w/rd+\"\u00fc~2?"#, r#"p4ss w\/rd+\"\u00fc~2?"#] {
        cases.push((json.to_owned(), "***".to_owned()));
    }
    for encoded in ["p4ss%20w%2Frd%2B%22%C3%BC~2%3F", "p4ss%20w/rd%2b%22%c3%bc~2%3f", "p4ss+w%2Frd%2B%22%C3%BC%7E2%3F"]
    {
        cases.push((encoded.to_owned(), "***".to_owned()));
    }
    for secret in [SECRET, KEY] {
        for engine in [&BASE64_STANDARD, &BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE, &BASE64_URL_SAFE_NO_PAD] {
            let encoded = engine.encode(secret);
            let padding = "=".repeat(encoded.matches('=').count());
            cases.push((encoded, format!("***{padding}")));
        }
    }
    // Of a letter that is shared with what stands before or after, a few bits stay.
    for (user, shown) in
        [("u:", "dTp***LCBhbmQgbW9yZQ=="), ("us:", "dXM6***ywgYW5kIG1vcmU="), ("use:", "dXNlOn***8sIGFuZCBtb3Jl")]
    {
        cases.push((BASE64_STANDARD.encode(format!("{user}{SECRET}, and more")), shown.to_owned()));
    }
    for (text, shown) in &cases {
        let (log, shown) = (format!("before {text} after\n"), format!("before {shown} after\n"));
        assert_eq!(masker.mask(&log), shown, "{text}");
        for size in 1..=log.len() {
            assert_eq!(in_pieces(&masker, log.as_bytes(), size), shown, "{text} in pieces of {size}");
        }
    }
}

#[test]
fn what_programs_escape_in_json_is_known() {
    let masker = Masker::new(["a<b>&c", "😀 smile"]);
    assert_eq!(masker.mask(r"go: a\u003cb\u003e\u0026c, python: \ud83d\ude00 smile"), "go: ***, python: ***");
}

/// `env | base64`, of an environment with a private key in it.
#[test]
fn a_key_in_base64_is_masked_at_whatever_place_the_lines_are_broken() {
    let masker = Arc::new(Masker::new([KEY]));
    for before in 0..80 {
        let env = format!("{}={KEY}more", "A".repeat(before));
        let encoded = BASE64_STANDARD.encode(&env);
        for width in [60, 64, 70, 76, encoded.len()] {
            let lines: Vec<&str> = encoded.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
            let shown = masker.mask(&lines.join("\n"));
            let is_shown = |line: &str| shown.split('\n').any(|other| other == line);
            // Lines before and after the key are, with one letter of it at the most.
            let at = ((before + 1) * 8).div_ceil(6) + 1;
            let end = (before + 1 + KEY.len()) * 8 / 6;
            for (number, line) in lines.iter().enumerate() {
                let (start, stop) = (number * width, number * width + line.len());
                // The one letter is hidden too where another form begins just before it.
                if stop != at {
                    assert_eq!(is_shown(line), stop <= at || start >= end, "{before} {width} {line:?} in {shown}");
                }
            }
        }
    }
}

#[test]
fn a_line_that_ends_with_a_form_s_first_letter_is_not_held_back() {
    let masker = Arc::new(Masker::new([SECRET]));
    let mut masks = Masks::new(Some(masker), MaskPlace::default());
    let first = &BASE64_STANDARD.encode(SECRET)[..1];
    let line = format!("ends with {first}\n");
    assert_eq!(masks.push(0, line.as_bytes()), line.as_bytes());
}

#[test]
fn lines_keep_their_numbers() {
    let masker = Masker::new([KEY]);
    assert_eq!(masker.mask(&format!("one\n{KEY}two\n")), "one\n***\n***\n***\n***\n***\ntwo\n");
    assert_eq!(masker.mask("short\nAQEFAASCBKcwggSjAgEAAoIB\n"), "short\n***\n");
}

#[test]
fn forms_that_overlap_or_begin_alike_are_hidden_whole() {
    let masker = Arc::new(Masker::new(["abcd", "abcdefgh", "ghij"]));
    for (text, shown) in [
        ("xabcdy", "x***y"),
        ("xabcdefgy", "x***efgy"),
        ("xabcdefghy", "x***y"),
        ("xabcdefghijy", "x***y"),
        ("ababcd", "ab***"),
        ("abcdabcd abcd", "*** ***"),
        ("xabcde", "x***"),
        ("xab", "xab"),
    ] {
        for size in 1..=text.len() {
            assert_eq!(in_pieces(&masker, text.as_bytes(), size), shown, "{text} in pieces of {size}");
        }
    }
}

#[test]
fn what_is_written_down_of_a_cut_secret_is_not_the_secret() {
    let masker = Arc::new(Masker::new([SECRET]));
    let mut masks = Masks::new(Some(masker), MaskPlace::default());
    assert_eq!(masks.push(1, format!("x{}", &SECRET[..9]).as_bytes()), b"x");
    assert_eq!(masks.push(0, b"other\n"), b"other\n");
    let place = serde_json::to_string(&masks.place()).unwrap();
    assert!(!place.contains(&SECRET[..4]) && place.contains("\"held_bytes\":9,\"between\":[]"), "{place}");
}

#[test]
fn where_the_secrets_are_not_known_only_lines_are_counted() {
    let mut masks = Masks::new(None, MaskPlace::default());
    assert_eq!(masks.push(0, b"a secret\nand more"), b"\n");
    assert_eq!(masks.finish(0), b"");
}

/// As `grep --color` shows what it has found, and others colour what they print.
#[test]
fn colours_do_not_hide_a_secret() {
    let masker = Arc::new(Masker::new([SECRET, KEY, "\x1b[1mbold\x1b[0m secret"]));
    let coloured = |c: char| format!("\x1b[01;31m\x1b[K{c}\x1b[m\x1b[K");
    let colour = |text: &str| text.chars().map(coloured).collect::<Vec<_>>().concat();
    for (text, shown) in [
        (format!("a {} b\n", colour(SECRET)), "a \x1b[01;31m\x1b[K***\x1b[m\x1b[K b\n"),
        (format!("a {}\x1b[0m{} b\n", &SECRET[..3], &SECRET[3..]), "a *** b\n"),
        (format!("a {} b\n", colour(&BASE64_STANDARD_NO_PAD.encode(SECRET))), "a \x1b[01;31m\x1b[K***\x1b[m\x1b[K b\n"),
        ("bold secret \x1b[32mbo\x1b[33mld secret\n".into(), "*** \x1b[32m***\n"),
        ("\x1b[1mplain\x1b[0m\n".into(), "\x1b[1mplain\x1b[0m\n"),
    ] {
        assert_eq!(masker.mask(&text), shown);
        for size in 1..=text.len() {
            assert_eq!(in_pieces(&masker, text.as_bytes(), size), shown, "{text:?} in pieces of {size}");
        }
    }
}

/// A key of 64 KiB whose lines begin alike, and another whose lines are one in another; both under many names.
#[test]
fn large_secrets_are_masked_in_time_and_room_that_do_not_depend_on_how_they_are_made() {
    let alike = (0..5500).map(|number| format!("alike-{number:05}\n")).collect::<Vec<_>>().concat();
    let nested = (8..350).map(|bytes| "x".repeat(bytes)).collect::<Vec<_>>().join("\n");
    let same = "y".repeat(65_536);
    let masker = Masker::new([&alike, &nested, &same].into_iter().cycle().take(300).map(String::as_str));
    for begun in ["alike-0000 ", "xxxxxxx ", "alike-", "x", "y", "eeee"] {
        let text = begun.repeat(1_000_000 / begun.len()) + "|";
        let began = std::time::Instant::now();
        let shown = masker.mask(&text);
        assert!(began.elapsed().as_secs() < 10, "{begun} took {:?}", began.elapsed());
        assert_eq!(shown == text, !matches!(begun, "x" | "y"), "{begun}");
    }
}

#[test]
fn what_is_too_short_is_left_alone() {
    assert_eq!(Masker::new(["abc", ""]).mask("abc"), "abc");
}

proptest! {
    /// The secret's letters are hidden, whatever stands around it, and all others are shown; but for one that the secret has to itself
    /// at the end of a line.
    #[test]
    fn base64_in_lines_is_masked_to_the_letter(
        before in "[a-z]{0,90}", secret in "[A-Z]{12,60}", after in "[a-z]{1,90}",
        width in 6_usize..100, line_break in 0_usize..3, size in 1_usize..200,
    ) {
        let line_break = ["\n", "\r\n", "\\n"][line_break];
        let masker = Arc::new(Masker::new([secret.as_str()]));
        let encoded = BASE64_STANDARD.encode(format!("{before}{secret}{after}"));
        let (start, end) = ((before.len() * 8).div_ceil(6), (before.len() + secret.len()) * 8 / 6);
        // Of a line's last letter nothing is known yet.
        let starts = start + usize::from((start + 1) % width == 0);
        let lines = encoded.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned());
        let text = format!("a line{line_break}{}{line_break}another", lines.collect::<Vec<_>>().join(line_break));
        let shown = masker.mask(&text);
        prop_assert_eq!(&shown, &in_pieces(&masker, text.as_bytes(), size));
        let plain = |text: &str| text.replace("***", "").replace("\\n", "").replace(['\r', '\n'], "");
        let is_as_wanted = |starts: usize| plain(&shown) == format!("a line{}{}another", &encoded[..starts], &encoded[end..]);
        prop_assert!(is_as_wanted(starts) || is_as_wanted(start), "{}", shown);
        prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
    }

    /// Held against the plain definition: a byte is shown unless some form covers it.
    #[test]
    fn masking_in_pieces_is_masking_at_once(
        secrets in proptest::collection::vec("[ab\n]{4,7}", 1..4), text in "[ab\n]{0,80}", size in 1_usize..9,
    ) {
        let masker = Arc::new(Masker::new(secrets.iter().map(String::as_str)));
        let forms: Vec<_> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let mut is_hidden = vec![false; text.len()];
        for at in 0..text.len() {
            for form in forms.iter().filter(|form| text.as_bytes()[at..].starts_with(&form.bytes)) {
                is_hidden[at..at + form.bytes.len()].fill(true);
            }
            let rest = &text.as_bytes()[at..];
            if rest.len() >= MIN_CUT_BYTES && forms.iter().any(|form| form.bytes.starts_with(rest)) {
                is_hidden[at..].fill(true);
            }
        }
        let shown = in_pieces(&masker, text.as_bytes(), size);
        prop_assert_eq!(&shown, &masker.mask(&text));
        let plain: String = text.char_indices().filter(|(at, c)| !is_hidden[*at] || *c == '\n').map(|(_, c)| c).collect();
        prop_assert_eq!(shown.replace("***", ""), plain);
    }
}
