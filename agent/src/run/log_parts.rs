//! The parts of one stream's log in the bucket: of many a few are made while the job runs, and of all one object at its end. What an
//! object holds is told by its name, `part-NUMBER-BYTES`, or `parts-LEVEL-FIRST-LAST-BYTES` of one that was made of others: those are
//! then passed over wherever they still are. So it can be broken off at any point, and begun anew.

use std::cmp::Reverse;

use tracing::debug;

use crate::google::storage::{Listing, Location, MAX_SOURCES, Pool, Storage, StorageError, Traits};

/// More than any log has: a part is a minute of it or more, and most are soon made one.
const MAX_NAMES: usize = 100_000;

/// As the console and `gcloud storage cat` show it: as text.
pub(super) const TRAITS: Traits<'static> =
    Traits { content_type: Some("text/plain; charset=utf-8"), content_encoding: Some("gzip"), only_new: false };

/// The parts of one stream.
pub(super) struct LogParts<'a> {
    pub(super) storage: &'a Storage,
    /// What the names of an attempt's parts begin with.
    pub(super) prefix: &'a Location,
    pub(super) stream: &'static str,
}

/// An object, with the numbers of the parts that are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    first: u32,
    last: u32,
    /// How often what is in it was put together.
    level: u32,
    bytes: u64,
    name: String,
}

impl Part {
    /// `text`: the name without what all names of the stream begin with.
    fn of(text: &str, name: &str) -> Option<Self> {
        let (kind, numbers) = text.split_once('-')?;
        let numbers: Vec<u64> = numbers.split('-').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let (level, first, last, bytes) = match (kind, &numbers[..]) {
            ("part", &[number, bytes]) => (0, number, number, bytes),
            ("parts", &[level, first, last, bytes]) => (level, first, last, bytes),
            _ => return None,
        };
        let small = |number| u32::try_from(number).ok();
        Some(Self { first: small(first)?, last: small(last)?, level: small(level)?, bytes, name: name.to_owned() })
    }
}

/// In order, without those that are in others; and the names of these.
fn sorted(parts: Vec<Part>) -> (Vec<Part>, Vec<String>) {
    let key = |part: &Part| (part.first, Reverse(part.last), Reverse(part.level));
    let mut in_order: Vec<Part> = Vec::new();
    for part in parts {
        // They come nearly in order, so little is moved.
        in_order.insert(in_order.partition_point(|other| key(other) <= key(&part)), part);
    }
    let (mut kept, mut needless): (Vec<Part>, _) = (Vec::new(), Vec::new());
    for part in in_order {
        if kept.last().is_some_and(|before| part.last <= before.last) {
            needless.push(part.name);
        } else {
            kept.push(part);
        }
    }
    (kept, needless)
}

fn names(parts: &[Part]) -> Vec<&str> {
    parts.iter().map(|part| part.name.as_str()).collect()
}

/// As many of one level as make one of the next.
fn full_group(parts: &[Part]) -> Option<&[Part]> {
    parts.chunk_by(|a, b| a.level == b.level).find_map(|group| group.get(..MAX_SOURCES))
}

impl LogParts<'_> {
    fn name_prefix(&self) -> String {
        format!("{}{}-", self.prefix.name, self.stream)
    }

    /// While the job runs: as often as there are enough of one level, they become one of the next. So few are left for its end, however
    /// long it runs, and no byte is put together more than a few times.
    pub(super) async fn gather(&self) -> Result<(), StorageError> {
        let (mut parts, mut needless) = sorted(self.parts().await?);
        loop {
            self.remove(needless).await.unwrap_or_else(|error| debug!("{error}"));
            let Some(group) = full_group(&parts) else { return Ok(()) };
            let whole = self.put_together(group).await?;
            parts.push(whole);
            (parts, needless) = sorted(parts);
        }
    }

    /// Makes `to` of all there are, if any. Returns how many bytes of the log are in it.
    pub(super) async fn unite(&self, to: &Location) -> Result<u64, StorageError> {
        let (mut parts, _) = sorted(self.parts().await?);
        let bytes = parts.iter().map(|part| part.bytes).sum();
        while parts.len() > MAX_SOURCES {
            let mut fewer = Vec::new();
            for group in parts.chunks(MAX_SOURCES) {
                fewer.push(self.put_together(group).await?);
            }
            parts = fewer;
        }
        if !parts.is_empty() {
            self.storage.compose(&names(&parts), to, TRAITS).await?;
        }
        Ok(bytes)
    }

    /// Removes all there are.
    pub(super) async fn remove_all(&self) -> Result<(), StorageError> {
        self.remove(self.list().await?).await
    }

    async fn put_together(&self, group: &[Part]) -> Result<Part, StorageError> {
        let (begin, end) = match group {
            [one] => return Ok(one.clone()),
            [begin, .., end] => (begin, end),
            [] => return Err(StorageError::Unfit("there is nothing to put together".into())),
        };
        let level = 1 + group.iter().map(|part| part.level).max().unwrap_or_default();
        let (first, last) = (begin.first, end.last);
        let bytes = group.iter().map(|part| part.bytes).sum();
        let name = format!("{}parts-{level}-{first:06}-{last:06}-{bytes}", self.name_prefix());
        self.storage.compose(&names(group), &self.prefix.sibling(&name), TRAITS).await?;
        Ok(Part { first, last, level, bytes, name })
    }

    async fn parts(&self) -> Result<Vec<Part>, StorageError> {
        let (prefix, names) = (self.name_prefix(), self.list().await?);
        Ok(names.iter().filter_map(|name| Part::of(name.strip_prefix(&prefix)?, name)).collect())
    }

    async fn list(&self) -> Result<Vec<String>, StorageError> {
        let prefix = self.prefix.sibling(&self.name_prefix());
        let (mut names, mut listing) = (Vec::new(), Listing::default());
        loop {
            let objects = self.storage.list(&prefix, &mut listing).await?;
            names.extend(objects.into_iter().map(|object| object.name));
            if names.len() > MAX_NAMES {
                return Err(StorageError::Unfit(format!("there are more than {MAX_NAMES} objects below {prefix}")));
            }
            if !listing.goes_on() {
                return Ok(names);
            }
        }
    }

    /// A bucket that keeps what it has refuses: the first error ends it.
    async fn remove(&self, names: Vec<String>) -> Result<(), StorageError> {
        let mut pool = Pool::new();
        for name in names {
            let location = self.prefix.sibling(&name);
            pool.add(async move { self.storage.delete(&location).await }).await.transpose()?;
        }
        while let Some(removed) = pool.next().await {
            removed?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let parts = names.iter().map(|name| Part::of(name, name).expect(name)).collect();
        let (kept, needless) = sorted(parts);
        (kept.into_iter().map(|part| part.name).collect(), needless)
    }

    #[test]
    fn what_is_in_another_is_passed_over_wherever_it_was_broken_off() {
        let plain = |number: u32| format!("part-{number:06}-7");
        let all: Vec<String> = (1..=70).map(plain).collect();
        let mut names: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(parts(&names), (all.clone(), vec![]));

        names.push("parts-1-000001-000032-224");
        let (kept, needless) = parts(&names);
        assert_eq!((kept.len(), needless.len()), (70 - 32 + 1, 32));
        // Some are gone, and they were put together again.
        names.drain(..5);
        names.extend(["parts-2-000001-000032-224", "parts-1-000033-000064-224"]);
        let (kept, needless) = parts(&names);
        assert_eq!(kept[..3], ["parts-2-000001-000032-224", "parts-1-000033-000064-224", "part-000065-7"]);
        assert_eq!((kept.len(), needless.len()), (8, 32 - 5 + 1 + 32));
    }

    #[test]
    fn as_many_as_go_into_one_are_put_together_of_each_level() {
        let part = |level, first: u32| Part { first, last: first, level, bytes: 1, name: String::new() };
        let some = |level, from: u32, count: u32| (from..from + count).map(move |first| part(level, first));
        let few: Vec<Part> = some(2, 0, 31).chain(some(1, 40, 31)).chain(some(0, 80, 31)).collect();
        assert_eq!(full_group(&few), None);
        let full: Vec<Part> = some(2, 0, 31).chain(some(1, 40, 33)).chain(some(0, 80, 31)).collect();
        assert_eq!(full_group(&full), Some(&full[31..63]));
    }

    #[test]
    fn other_names_are_nobody_s() {
        for name in
            ["", "part", "part-1", "part-1-2-3", "part-x-1", "parts-1-1-1", "between-000001", "part-99999999999-1"]
        {
            assert_eq!(Part::of(name, name), None, "{name}");
        }
    }
}
