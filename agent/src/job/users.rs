//! Users and groups by name or number, as the kernel takes the numbers.
//!
//! In: `USER` or `USER:GROUP`. Out: the same, or what is wrong with it.

use super::error::{Problem, quote};

/// `USER` or `USER:GROUP` of a container: runc takes numbers up to this.
pub(super) fn user(text: &str) -> Result<String, Problem> {
    const MOST: u32 = i32::MAX.cast_unsigned();
    user_up_to(text, MOST)
}

/// As [`user`], of the VM: to the kernel the number above [`MOST_ID`] means "as it is", and that is root.
pub(super) fn process_user(text: &str) -> Result<String, Problem> {
    user_up_to(text, MOST_ID)
}

/// setresuid(2)
const MOST_ID: u32 = u32::MAX - 1;

fn user_up_to(text: &str, most: u32) -> Result<String, Problem> {
    let wrong = |problem: String| Problem::new(problem).fix(r#"write for example "1000:1000""#);
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) {
        return Err(wrong(format!("expected user or user:group, found {}", quote(text))));
    }
    for part in parts {
        let is_number = part.bytes().all(|b| b.is_ascii_digit());
        let unsigned = part.strip_prefix(['-', '+']).unwrap_or_default();
        let has_sign = !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit());
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '$' | '\\');
        if is_number && part.len() > 1 && part.starts_with('0') {
            return Err(wrong(format!(
                "the number {} begins with a zero: octal or not, it could be two users",
                quote(part)
            ))
            .fix("write it without"));
        }
        if is_number && part.parse::<u32>().map_or(true, |id| id > most) {
            return Err(wrong(format!("{} is no user's number: the largest is {most}", quote(part))));
        }
        if has_sign {
            return Err(wrong(format!("{} is no user's number: it has a sign", quote(part))));
        }
        if !part.chars().all(is_name) || part.starts_with('-') {
            return Err(wrong(format!("expected the name or number of a user or group, found {}", quote(part))));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_and_names_have_no_odd_characters() {
        for text in ["0", "1000", "1000:1000", "job", "job:job", "0a", "_x", "é", "machine$", "a.b-c", "2147483647:0"]
        {
            assert!(user(text).is_ok() && process_user(text).is_ok(), "{text}");
        }
        for text in [
            "",
            ":",
            "a:b:c",
            "a:",
            ":a",
            "a b",
            " 1",
            "1 ",
            "1\t",
            "\u{a0}1",
            "1\u{200b}",
            "-1",
            "+1",
            "1:-1",
            "1:+1",
            "00",
            "01",
            "1:00",
            "4294967295",
            "0:4294967295",
            "4294967296",
            "4294967297",
            "18446744073709551616",
            "a/b",
            "a,b",
            "-a",
            "~",
            "a\n",
            "٣\u{200f}",
        ] {
            assert!(user(text).is_err() && process_user(text).is_err(), "{text:?}");
        }
        assert!(user("2147483648").is_err() && process_user("4294967294:4294967294").is_ok());
    }
}
