//! An answer of the engine without what grows with the image: an image may have megabytes of labels or variables, and what is looked for is a few
//! hundred bytes beside them. The JSON is sifted as it comes, so that the rest has its bound.

/// The labels that are kept begin so.
const OUR_LABELS: &[u8] = b"vmjob.";
const LABELS: &[u8] = b"Labels";
/// Fields that an image fills, and nothing here reads.
const DROPPED: [&[u8]; 8] = [b"Env", b"Cmd", b"Args", b"Entrypoint", b"Shell", b"OnBuild", b"ExposedPorts", b"Volumes"];
/// More than the engine nests.
const MAX_DEPTH: usize = 64;

pub(super) struct Sieve {
    kept: Vec<u8>,
    max_bytes: usize,
    /// The objects and lists that are open.
    open: Vec<Open>,
    /// In a string, with whether the next byte is escaped.
    string: Option<bool>,
    /// Where the key that is being read begins in `kept`, behind its quote.
    key: Option<usize>,
    /// The key whose value comes next is that of labels.
    comes_labels: bool,
    /// A field is being dropped: how deep its value is open.
    dropping: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    List,
    /// With whether a key comes next.
    Object(bool),
    Labels(bool),
}

impl Sieve {
    pub(super) fn new(max_bytes: usize) -> Self {
        let open = Vec::new();
        Self { kept: Vec::new(), max_bytes, open, string: None, key: None, comes_labels: false, dropping: None }
    }

    /// Takes more of the JSON; false where what is kept of it is too large, or too deep.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.take(*byte);
        }
        self.kept.len() <= self.max_bytes && self.open.len() <= MAX_DEPTH
    }

    /// Takes more of what is no JSON, as it is; false where that is too large.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> bool {
        self.kept.extend_from_slice(bytes);
        self.kept.len() <= self.max_bytes
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.kept
    }

    fn take(&mut self, byte: u8) {
        if let Some(depth) = self.dropping {
            return self.drop_byte(depth, byte);
        }
        if self.kept.len() > self.max_bytes {
            return;
        }
        if let Some(is_escaped) = self.string {
            self.kept.push(byte);
            self.string = (is_escaped || byte != b'"').then_some(!is_escaped && byte == b'\\');
            return self.look_at_key();
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => return,
            b'"' => {
                self.string = Some(false);
                if let Some(Open::Object(comes_key) | Open::Labels(comes_key)) = self.open.last_mut()
                    && std::mem::take(comes_key)
                {
                    self.key = Some(self.kept.len() + 1);
                }
            }
            b'{' => {
                let labels = std::mem::take(&mut self.comes_labels);
                self.open.push(if labels { Open::Labels(true) } else { Open::Object(true) });
            }
            b'[' => self.open.push(Open::List),
            b'}' | b']' => {
                self.open.pop();
                // What stood behind it was dropped.
                if self.kept.last() == Some(&b',') {
                    self.kept.pop();
                }
            }
            b',' => self.next_field(),
            _ => {}
        }
        if byte != b':' {
            self.comes_labels = false;
        }
        self.kept.push(byte);
    }

    fn next_field(&mut self) {
        if let Some(Open::Object(comes_key) | Open::Labels(comes_key)) = self.open.last_mut() {
            *comes_key = true;
        }
    }

    /// Decides on a field as soon as its key tells.
    fn look_at_key(&mut self) {
        let Some(start) = self.key else { return };
        let is_whole = self.string.is_none();
        let key = &self.kept[start..self.kept.len() - usize::from(is_whole)];
        let is_dropped = match self.open.last() {
            Some(Open::Labels(_)) if !is_whole && key.len() < OUR_LABELS.len() => return,
            Some(Open::Labels(_)) => !key.starts_with(OUR_LABELS),
            _ if !is_whole => return,
            _ => DROPPED.contains(&key),
        };
        self.comes_labels = is_whole && key == LABELS;
        self.key = None;
        if is_dropped {
            self.kept.truncate(start - 1);
            self.dropping = Some(0);
        }
    }

    fn drop_byte(&mut self, depth: usize, byte: u8) {
        if let Some(is_escaped) = self.string {
            self.string = (is_escaped || byte != b'"').then_some(!is_escaped && byte == b'\\');
            return;
        }
        match byte {
            b'"' => self.string = Some(false),
            b'{' | b'[' => self.dropping = Some(depth + 1),
            b'}' | b']' if depth > 0 => self.dropping = Some(depth - 1),
            b'}' | b']' => {
                self.dropping = None;
                self.take(byte);
            }
            b',' if depth == 0 => {
                self.dropping = None;
                self.next_field();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn sifted(json: &str, piece: usize) -> Value {
        let mut sieve = Sieve::new(1 << 20);
        assert!(json.as_bytes().chunks(piece).all(|piece| sieve.push(piece)), "{json}");
        let kept = sieve.finish();
        serde_json::from_slice(&kept).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&kept)))
    }

    /// The same, of a value as a whole.
    fn without(value: Value, is_labels: bool) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(|item| without(item, false)).collect(),
            Value::Object(fields) => {
                let is_kept = |key: &str| {
                    if is_labels { key.starts_with("vmjob.") } else { !DROPPED.contains(&key.as_bytes()) }
                };
                let fields = fields.into_iter().filter(|(key, _)| is_kept(key));
                fields.map(|(key, value)| (key.clone(), without(value, key == "Labels"))).collect()
            }
            other => other,
        }
    }

    #[test]
    fn of_megabytes_of_labels_and_variables_nothing_stays() {
        let mut labels: serde_json::Map<String, Value> =
            (0..100_000).map(|n| (format!("label.{n}"), json!("x"))).collect();
        labels.insert("vmjob.claim".into(), json!("c"));
        labels.insert("l".repeat(3_000_000), json!("\"}{,:\\".repeat(1_000_000)));
        let answer =
            json!({"Id": "c", "Config": {"Env": vec!["A=b"; 500_000], "Labels": labels, "StopSignal": "TERM"}});
        let wanted = json!({"Id": "c", "Config": {"Labels": {"vmjob.claim": "c"}, "StopSignal": "TERM"}});
        assert_eq!(sifted(&answer.to_string(), 16 * 1024), wanted);
        assert_eq!(
            sifted(&format!("{:#}", json!({"Labels": {"a": {"b": [1]}, "vmjob.x": "y", "z": 1}, "Cmd": null})), 1),
            json!({"Labels": {"vmjob.x": "y"}})
        );
        let mut sieve = Sieve::new(1000);
        assert!(!sieve.push(json!({"Name": "n".repeat(2000)}).to_string().as_bytes()), "what is kept has its bound");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\{},:\\[\\]]{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            let key = prop_oneof![Just("Labels"), Just("Env"), Just("Id"), Just("vmjob.a"), Just("x\"y"), Just("")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((key, inner), 0..5)
                    .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_json_without_the_rest(value in values(), piece in 1_usize..9, is_pretty in any::<bool>()) {
            let text = if is_pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert_eq!(sifted(&text, piece), without(value, false));
        }
    }
}
