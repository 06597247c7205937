use std::{fs, io::Write};

use super::*;

/// A log directory as the engine keeps it.
struct Engine {
    dir: PathBuf,
    file: File,
    lines: u32,
}

impl Engine {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vmjob-json-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = File::create(dir.join("x-json.log")).unwrap();
        Self { dir, file, lines: 0 }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("x-json.log")
    }

    fn write(&mut self, count: u32) {
        for _ in 0..count {
            self.lines += 1;
            writeln!(
                self.file,
                r#"{{"log":"line {0}\n","stream":"stdout","time":"2026-11-24T04:23:{1:02}.{0:09}Z"}}"#,
                self.lines,
                (self.lines / 4).min(59)
            )
            .unwrap();
        }
    }

    /// As with one file: empties it, or removes it and makes another.
    fn begin_anew(&mut self, empties: bool) {
        if !empties {
            fs::remove_file(self.path()).unwrap();
        }
        self.file = File::create(self.path()).unwrap();
    }

    /// Moves every file on by one and forgets those from `max_files` on.
    fn rotate(&mut self, max_files: u32) {
        for index in (0..max_files).rev() {
            let _ = fs::rename(rotated(&self.path(), index), rotated(&self.path(), index + 1));
        }
        let _ = fs::remove_file(rotated(&self.path(), max_files));
        self.file = File::create(self.path()).unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// How far a reader has come.
fn seen(log: &JsonFile) -> (Place, Progress) {
    (log.place(), log.progress().clone())
}

fn follow(engine: &Engine, seen: Option<(Place, Progress)>) -> JsonFile {
    let (place, progress) = seen.map_or_else(Default::default, |(place, progress)| (Some(place), progress));
    JsonFile::follow(engine.path(), place, progress).unwrap()
}

async fn read_all(log: &mut JsonFile) -> String {
    let mut text = Vec::new();
    while log.more(&mut |_, piece| text.extend_from_slice(piece)).await.unwrap() {}
    String::from_utf8(text).unwrap()
}

fn lines(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.fold(String::new(), |lines, number| format!("{lines}line {number}\n"))
}

#[tokio::test]
async fn rotation_loses_nothing_and_repeats_nothing() {
    let mut engine = Engine::new("rotation");
    engine.write(3);
    let mut log = follow(&engine, None);
    assert_eq!(read_all(&mut log).await, lines(1..=3));
    engine.write(2);
    engine.rotate(5);
    engine.write(2);
    engine.rotate(5);
    engine.write(1);
    assert_eq!(read_all(&mut log).await, lines(4..=8));
    assert!(log.lost().is_none());
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_even_in_a_rotated_file() {
    let mut engine = Engine::new("restart");
    engine.write(3);
    let mut log = follow(&engine, None);
    read_all(&mut log).await;
    let seen = seen(&log);
    drop(log);
    engine.write(1);
    engine.rotate(5);
    engine.write(1);
    let mut log = follow(&engine, Some(seen));
    assert_eq!(read_all(&mut log).await, lines(4..=5));
    assert!(log.lost().is_none());
}

#[tokio::test]
async fn what_was_rotated_away_unread_is_a_gap() {
    let mut engine = Engine::new("gap");
    engine.write(1);
    let mut log = follow(&engine, None);
    read_all(&mut log).await;
    let seen = seen(&log);
    drop(log);
    for _ in 0..4 {
        engine.write(1);
        engine.rotate(2);
    }
    let mut log = follow(&engine, Some(seen));
    assert_eq!(read_all(&mut log).await, lines(5..=5));
    assert_eq!(log.lost().count(), None, "nobody knows how much came and went");
}

#[tokio::test]
async fn what_was_rotated_away_under_the_reader_is_counted() {
    let mut engine = Engine::new("fast");
    engine.write(10);
    let mut log = follow(&engine, None);
    read_all(&mut log).await;
    for _ in 0..5 {
        engine.rotate(2);
        engine.write(10);
    }
    // Of the five files two are left.
    assert_eq!(read_all(&mut log).await, lines(41..=60));
    let lost = lines(11..=40).len() as u64;
    let told = log.lost().count().unwrap();
    assert!(told.abs_diff(lost) < lost / 10, "{told} of {lost}");
}

#[tokio::test]
async fn where_one_file_is_kept_what_went_unread_is_counted() {
    // Emptied, or removed, as Docker has done it from 23 on.
    for empties in [true, false] {
        let mut engine = Engine::new("one");
        engine.write(3);
        let mut log = follow(&engine, None);
        assert_eq!(read_all(&mut log).await, lines(1..=3));
        engine.write(10);
        for _ in 0..3 {
            engine.begin_anew(empties);
            // More than was read of the first, so its length tells nothing.
            engine.write(10);
        }
        // What was removed is still there for who has it open.
        let read = if empties { lines(34..=43) } else { lines(4..=13) + &lines(34..=43) };
        assert_eq!(read_all(&mut log).await, read);
        let lost = if empties { 1..=lines(4..=33).len() } else { lines(21..=33).len()..=lines(4..=33).len() };
        let told = log.lost().count().map(|told| usize::try_from(told).unwrap());
        assert!(told.map_or(empties, |told| lost.contains(&told)), "{told:?} of {lost:?}");
    }
}

#[tokio::test]
async fn a_place_in_a_file_that_is_gone_is_not_taken_for_one_in_another() {
    for (more, offset) in [(1, 1000), (10, 1), (10, 1000)] {
        let mut engine = Engine::new("place");
        engine.write(3);
        let mut log = follow(&engine, None);
        read_all(&mut log).await;
        let seen = seen(&log);
        drop(log);
        engine.begin_anew(true);
        engine.write(more);
        // An inode that was used again, and a file system that keeps no time of birth.
        let (place, progress) = seen;
        let old = serde_json::to_value(place).unwrap();
        let mut old: Place = serde_json::from_value(serde_json::json!({
            "file": {"inode": old["file"]["inode"], "born": null}, "offset": old["offset"], "mark": old["mark"],
        }))
        .unwrap();
        if offset > 1 {
            // What an older agent wrote.
            (old.offset, old.mark) = (offset, None);
        }
        for (place, progress) in [(place, progress), (old, Progress::default())] {
            let mut log = follow(&engine, Some((place, progress)));
            assert_eq!(read_all(&mut log).await, lines(4..=3 + more), "{place:?}");
            assert_eq!(log.lost().count(), None);
        }
    }
}

#[tokio::test]
async fn a_reader_that_pauses_is_woken_by_a_rotation() {
    let mut engine = Engine::new("woken");
    let mut log = follow(&engine, None);
    for number in 0..5 {
        log.resume_at = Instant::now() + Duration::from_hours(1);
        engine.write(1);
        engine.rotate(2);
        let mut text = Vec::new();
        log.next(&mut |_, piece| text.extend_from_slice(piece)).await.unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), lines(number + 1..=number + 1));
    }
    assert!(log.lost().is_none());
}

#[tokio::test]
async fn an_entry_is_taken_when_it_is_whole() {
    let mut engine = Engine::new("whole");
    write!(engine.file, r#"{{"log":"half"#).unwrap();
    let mut log = follow(&engine, None);
    let start = log.place();
    assert_eq!(read_all(&mut log).await, "");
    assert_eq!(log.place(), start, "a restart would read the half again");
    writeln!(engine.file, r#" done","stream":"stderr"}}"#).unwrap();
    assert_eq!(read_all(&mut log).await, "half done");
}

#[tokio::test]
async fn what_is_torn_or_was_refused_is_lost_and_takes_nothing_with_it() {
    let mut engine = Engine::new("torn");
    engine.write(3);
    let mut log = follow(&engine, None);
    write!(engine.file, r#"{{"log":"to"#).unwrap();
    assert_eq!(read_all(&mut log).await, lines(1..=3));
    assert!(log.lost().is_none(), "it may go on");
    write!(engine.file, "\n1000000\n").unwrap();
    engine.write(1);
    assert_eq!(read_all(&mut log).await, lines(4..=4));
    assert_eq!(log.lost().count(), Some(1_000_000), "with what was torn");
    // A restart counts it no second time.
    let seen = seen(&log);
    let mut log = follow(&engine, Some(seen));
    engine.write(1);
    assert_eq!(read_all(&mut log).await, lines(5..=5));
    assert!(log.lost().is_none());
}

#[tokio::test]
async fn of_an_entry_torn_by_a_rotation_or_on_a_line_of_its_own_nobody_knows_what_went_with_it() {
    for rotates in [true, false] {
        let mut engine = Engine::new("torn-end");
        engine.write(1);
        write!(engine.file, r#"{{"log":"torn"#).unwrap();
        if rotates {
            engine.rotate(5);
        } else {
            writeln!(engine.file).unwrap();
        }
        engine.write(1);
        let mut log = follow(&engine, None);
        assert_eq!(read_all(&mut log).await, lines(1..=2));
        assert!(log.lost().count().is_none() && !log.lost().is_none(), "rotates: {rotates}");
    }
}

#[tokio::test]
async fn a_file_that_was_made_before_the_rotation_is_not_taken_for_one_that_was_begun_anew() {
    let mut engine = Engine::new("ahead");
    engine.write(1);
    let mut log = follow(&engine, None);
    assert_eq!(read_all(&mut log).await, lines(1..=1));
    for number in 2..=9 {
        let next = engine.dir.join("x-json.log.next");
        engine.file = File::create(&next).unwrap();
        for index in (0..2).rev() {
            let _ = fs::rename(rotated(&engine.path(), index), rotated(&engine.path(), index + 1));
        }
        fs::rename(&next, engine.path()).unwrap();
        engine.write(1);
        let mut text = Vec::new();
        log.next(&mut |_, piece| text.extend_from_slice(piece)).await.unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), lines(number..=number));
    }
    assert!(log.lost().is_none());
}

type Harm = fn(&mut Engine);
// What happens, which lines come after it, and how much is told to be lost: nothing, a number, or an unknown one.
const HARMS: [(&str, Harm, std::ops::RangeInclusive<u32>, Option<bool>); 13] = [
    ("grows", |engine| engine.write(3), 11..=13, Some(false)),
    ("cut to fewer entries", |engine| engine.file.set_len(300).unwrap(), 0..=0, None),
    (
        "cut, and it goes on",
        |engine| {
            engine.file.set_len(300).unwrap();
            engine.write(2);
        },
        11..=12,
        None,
    ),
    (
        "cut, and grown past the place",
        |engine| {
            engine.file.set_len(300).unwrap();
            engine.write(30);
        },
        11..=40,
        None,
    ),
    (
        "emptied",
        |engine| {
            engine.file.set_len(0).unwrap();
            engine.write(2);
        },
        11..=12,
        None,
    ),
    (
        "emptied, and grown past the place",
        |engine| {
            engine.file.set_len(0).unwrap();
            engine.write(30);
        },
        11..=40,
        None,
    ),
    (
        "copied and emptied",
        |engine| {
            engine.write(2);
            fs::copy(engine.path(), rotated(&engine.path(), 1)).unwrap();
            engine.file.set_len(0).unwrap();
            engine.write(30);
        },
        11..=42,
        Some(false),
    ),
    (
        "replaced by a copy",
        |engine| {
            let copy = engine.dir.join("copy");
            fs::copy(engine.path(), &copy).unwrap();
            fs::rename(&copy, engine.path()).unwrap();
            engine.file = File::options().append(true).open(engine.path()).unwrap();
            engine.write(2);
        },
        11..=12,
        Some(false),
    ),
    (
        "replaced by a part of it",
        |engine| {
            fs::remove_file(engine.path()).unwrap();
            engine.file = File::options().append(true).create(true).open(engine.path()).unwrap();
            engine.lines = 4;
            engine.write(6);
        },
        0..=0,
        None,
    ),
    ("zeros at its end", |engine| engine.file.write_all(&[0; 4096]).unwrap(), 0..=0, Some(true)),
    (
        "zeros between",
        |engine| {
            engine.write(1);
            engine.file.write_all(&[0; 4096]).unwrap();
            engine.write(2);
        },
        11..=13,
        Some(true),
    ),
    (
        "an entry torn by a full disk",
        |engine| {
            write!(engine.file, r#"{{"log":"torn"#).unwrap();
            engine.write(2);
        },
        11..=12,
        None,
    ),
    ("an entry torn at its end", |engine| write!(engine.file, r#"{{"log":"torn"#).unwrap(), 0..=0, None),
];

/// What may happen to a log while no agent reads it, or while one does: nothing is taken twice, and nothing that is there is left out.
#[tokio::test]
async fn what_was_read_is_never_read_twice() {
    for (what, harm, read, lost) in HARMS {
        let read = if *read.start() == 0 { String::new() } else { lines(read) };
        for restarts in [true, false] {
            let mut engine = Engine::new("twice");
            engine.file = File::options().append(true).open(engine.path()).unwrap();
            engine.write(10);
            let mut log = follow(&engine, None);
            assert_eq!(read_all(&mut log).await, lines(1..=10));
            if restarts {
                let seen = seen(&log);
                drop(log);
                harm(&mut engine);
                log = follow(&engine, Some(seen));
            } else {
                harm(&mut engine);
            }
            let mut text = String::new();
            // At any time an agent may die again.
            for _ in 0..2 {
                text += &read_all(&mut log).await;
                let seen = seen(&log);
                if restarts {
                    let lost = log.lost();
                    log = follow(&engine, Some(seen));
                    log.lost.add(lost);
                }
            }
            text += &read_all(&mut log).await;
            log.end();
            assert_eq!(text, read, "{what}, restarts: {restarts}");
            assert_eq!(log.lost().count().map(|bytes| bytes > 0), lost, "{what}, restarts: {restarts}: {}", log.lost());
        }
    }
}

#[tokio::test]
async fn a_damaged_block_costs_no_more_than_its_entries() {
    // As a power cut leaves it: a block of zeros over the ends of two entries and those between them; how many are kept.
    for (length, kept) in [(512, 90..=94), (4096, 40..=60)] {
        let mut engine = Engine::new("block");
        engine.write(100);
        engine.file.write_all_at(&vec![0; length], 2000).unwrap();
        let mut log = follow(&engine, None);
        let text = read_all(&mut log).await;
        let numbers: Vec<u32> = text.lines().map(|line| line.trim_start_matches("line ").parse().unwrap()).collect();
        assert!(
            numbers.is_sorted() && kept.contains(&numbers.len()) && numbers.contains(&1) && numbers.contains(&100),
            "{numbers:?}"
        );
        let missing = lines(1..=100).len() - text.len();
        let told = usize::try_from(log.lost().count().unwrap()).unwrap();
        assert!(told.abs_diff(missing) <= 20, "{told} of {missing}");
    }
}

/// Whatever its lines were like: no less is told than can have been there.
#[tokio::test]
async fn of_a_log_that_is_all_zeros_all_is_lost() {
    let engine = Engine::new("zeros");
    let entry = format!(r#"{{"log":"{}\n","stream":"stdout","time":"2026-11-24T04:23:00Z"}}"#, "x".repeat(3000)) + "\n";
    fs::write(engine.path(), vec![0; entry.len()]).unwrap();
    let mut log = follow(&engine, None);
    assert_eq!(read_all(&mut log).await, "");
    log.end();
    assert!(log.lost().count() >= Some(3001), "{}", log.lost());
}
