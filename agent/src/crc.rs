//! CRC-32 in its two kinds: Castagnoli's, which Cloud Storage keeps with each object, and that of gzip. Eight bytes a step, with tables
//! that are made when first needed. Source: RFC 3385; Intel, "Slicing-by-8".

use std::sync::LazyLock;

type Tables = [[u32; 256]; 8];

static CASTAGNOLI: LazyLock<Box<Tables>> = LazyLock::new(|| tables(0x82f6_3b78));

static GZIP: LazyLock<Box<Tables>> = LazyLock::new(|| tables(0xedb8_8320));

/// A checksum under way, as of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = update(&CASTAGNOLI, self.0, bytes);
    }

    pub fn value(self) -> u32 {
        self.0
    }
}

/// A checksum under way, as in gzip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc32(u32);

impl Crc32 {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = update(&GZIP, self.0, bytes);
    }

    pub fn value(self) -> u32 {
        self.0
    }
}

fn tables(polynomial: u32) -> Box<Tables> {
    let mut tables = Box::new([[0; 256]; 8]);
    for byte in 0..=255_u8 {
        let mut crc = u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
        }
        tables[0][usize::from(byte)] = crc;
    }
    for level in 1..8 {
        for byte in 0..256 {
            let crc = tables[level - 1][byte];
            tables[level][byte] = (crc >> 8) ^ tables[0][usize::from(crc.to_le_bytes()[0])];
        }
    }
    tables
}

fn update(tables: &Tables, crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    let (eights, rest) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in eights {
        let [i, j, k, l] = (crc ^ u32::from_le_bytes([*a, *b, *c, *d])).to_le_bytes();
        crc = tables[7][usize::from(i)]
            ^ tables[6][usize::from(j)]
            ^ tables[5][usize::from(k)]
            ^ tables[4][usize::from(l)]
            ^ tables[3][usize::from(*e)]
            ^ tables[2][usize::from(*f)]
            ^ tables[1][usize::from(*g)]
            ^ tables[0][usize::from(*h)];
    }
    for byte in rest {
        crc = (crc >> 8) ^ tables[0][usize::from(crc.to_le_bytes()[0] ^ byte)];
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4, and the check value of the catalogue of CRCs.
    #[test]
    fn the_known_values_come_out_however_the_bytes_are_cut() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, value) in [
            (b"".as_slice(), 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
        ] {
            for cut in 0..=bytes.len() {
                let mut crc = Crc32c::default();
                crc.update(&bytes[..cut]);
                crc.update(&bytes[cut..]);
                assert_eq!(crc.value(), value, "{bytes:?} cut at {cut}");
            }
        }
        let mut crc = Crc32::default();
        crc.update(b"123456789");
        assert_eq!(crc.value(), 0xcbf4_3926);
    }
}
