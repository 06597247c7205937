//! An object: its content, and what is told of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What is stored under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// The bytes, as stored.
    pub content: Arc<Vec<u8>>,
    /// Grows with each content that a name gets.
    pub generation: u64,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
}

impl Object {
    /// CRC32C as the API has it: base64 of the big-endian bytes.
    pub(crate) fn crc32c(&self) -> String {
        STANDARD.encode(crc32c(&self.content).to_be_bytes())
    }

    /// The object resource.
    pub(crate) fn resource(&self, bucket: &str, name: &str) -> Value {
        json!({
            "kind": "storage#object", "bucket": bucket, "name": name,
            "generation": self.generation.to_string(), "metageneration": "1",
            "size": self.content.len().to_string(), "crc32c": self.crc32c(),
            "contentType": self.content_type, "contentEncoding": self.content_encoding,
        })
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is less than 256")]
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_comes_out() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
