//! POSIX shell quoting: words to one line that a shell would split into the same words.

/// Joins words into a command line.
pub(crate) fn join(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_splits_the_line_into_the_same_words() {
        let words = ["docker", "run", "", "a b", "it's", "$HOME", "\"", "*", "x=y", "a\nb", "~", "#", "\\"];
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let script = format!("for word in {}; do printf '%s\\0' \"$word\"; done", join(&words));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let split: Vec<_> = String::from_utf8(output.stdout).unwrap().split('\0').map(str::to_owned).collect();
        assert_eq!(split[..split.len() - 1], words);
    }
}
