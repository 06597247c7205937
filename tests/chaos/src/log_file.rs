//! The engine's file of the job's log, and harm to it, as a power cut, a full disk or somebody who makes room does it.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{docker::output_of, schedule::LogDamage};

/// What a harm did.
#[derive(Debug, Clone, Copy)]
pub struct Harmed {
    pub how: LogDamage,
    /// Whether it left a trace: torn entries, zeros, or a file that ends before the place up to which it was read. Of entries
    /// that are cut off behind that place, at the end of one, nobody can know.
    pub leaves_trace: bool,
}

/// Where the engine keeps the log of this container, while that is there.
pub async fn path_of(container: &str) -> io::Result<Option<PathBuf>> {
    let path = output_of(&["inspect", "--format", "{{.LogPath}}", container]).await?;
    Ok(path.map(|path| PathBuf::from(path.trim_end())).filter(|path| path.is_file()))
}

/// Harms the log. `state_dir` has the place up to which the agent's last checkpoint has read it.
pub fn harm(log: &Path, state_dir: &Path, how: LogDamage) -> io::Result<Harmed> {
    let checkpoint: Value =
        serde_json::from_slice(&fs::read(state_dir.join("logs.json")).unwrap_or_default()).unwrap_or_default();
    let place = checkpoint["place"]["offset"].as_u64().unwrap_or_default();
    let bytes = fs::read(log)?;
    let length = bytes.len() as u64;
    let file = File::options().read(true).append(true).open(log)?;
    // Zeros are written over what is there, so not behind it.
    let over = File::options().write(true).open(log)?;
    let mut leaves_trace = true;
    match how {
        LogDamage::Cut(percent) => {
            // As the next agent is to find fewer entries than were read, where any were.
            let most = if place == 0 { length } else { place.min(length) };
            let cut = begin_of_entry(&bytes, most * percent / 100);
            file.set_len(cut)?;
            leaves_trace = cut < place;
        }
        LogDamage::CutWithin(percent) => {
            let cut = within_entry(&bytes, length * percent / 100);
            file.set_len(cut)?;
            leaves_trace = cut > 0 || place > 0;
        }
        LogDamage::Emptied => {
            file.set_len(0)?;
            leaves_trace = place > 0;
        }
        LogDamage::ZerosBehind(count) => (&file).write_all(&vec![0; count])?,
        LogDamage::ZerosOver { percent, count } => {
            let begin = length * percent / 100;
            let count = usize::try_from(length - begin).unwrap_or_default().min(count);
            over.write_all_at(&vec![0; count], begin)?;
        }
        LogDamage::Torn(percent) => {
            let cut = within_entry(&bytes, length * percent / 100);
            let rest = bytes[usize::try_from(cut).unwrap_or_default()..].split_inclusive(|byte| *byte == b'\n').skip(1);
            file.set_len(cut)?;
            (&file).write_all(&rest.collect::<Vec<_>>().concat())?;
        }
    }
    Ok(Harmed { how, leaves_trace })
}

/// Where the entry begins that has the byte at `offset`.
fn begin_of_entry(bytes: &[u8], offset: u64) -> u64 {
    let before = &bytes[..usize::try_from(offset).unwrap_or_default().min(bytes.len())];
    before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1)
}

/// The middle of the entry that has the byte at `offset`.
fn within_entry(bytes: &[u8], offset: u64) -> u64 {
    let last = (bytes.len() as u64).saturating_sub(1);
    let begin = begin_of_entry(bytes, offset.min(last));
    let rest = &bytes[usize::try_from(begin).unwrap_or_default()..];
    let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    begin + length as u64 / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_cut_at_its_begin_or_in_its_middle() {
        for (offset, begin, within) in [(0, 0, 2), (3, 0, 2), (5, 5, 8), (11, 5, 8), (12, 12, 8), (99, 12, 8)] {
            assert_eq!(
                (begin_of_entry(b"1234\n123456\n", offset), within_entry(b"1234\n123456\n", offset)),
                (begin, within)
            );
        }
        assert_eq!((begin_of_entry(b"", 0), within_entry(b"", 0)), (0, 0));
    }
}
