use std::fs::File;

use super::*;

#[test]
fn what_was_begun_to_be_said_is_kept_though_the_stream_does_not_end() {
    let path = std::env::temp_dir().join(format!("vmjob-shim-rest-{}", std::process::id()));
    let (events, coming) = std::sync::mpsc::channel();
    let mut child = std::process::Command::new("sh")
        .args(["-c", "printf 'line\\nlast' >&2; printf x; exec sleep 1000"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let unfinished = Log::begin(&path, child.stdout.take(), child.stderr.take(), events).unwrap();
    let kept = || {
        unfinished.keep();
        let text = fs::read_to_string(&path).unwrap();
        let entries = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut texts: Vec<String> = entries.map(|entry| entry["log"].as_str().unwrap().to_owned()).collect();
        texts.sort();
        texts
    };
    while kept() != ["last", "line\n", "x"] {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(coming.recv().unwrap(), Event::Drained));
    assert_eq!(kept().len(), 3, "and not twice");
    fs::remove_file(&path).unwrap();
    fs::remove_file(path.with_added_extension("next")).unwrap();
}

#[test]
fn the_files_are_bounded_and_keep_the_newest() {
    let dir = std::env::temp_dir().join(format!("vmjob-shim-log-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("job-json.log");
    let mut log = Log::create(&path, 10_000).unwrap();
    let line = [vec![b'x'; 3000], b"\n".to_vec()].concat();
    for _ in 0..30 {
        log.write(&Output { stream: Stream::Stdout, bytes: line.clone() });
    }
    log.write(&Output { stream: Stream::Stderr, bytes: b"the last \"word\"".to_vec() });
    fs::remove_file(log.next()).unwrap();
    let sizes: Vec<u64> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), MAX_FILES as usize);
    assert!(sizes.iter().all(|size| *size <= 10_000), "{sizes:?}");
    let newest = fs::read_to_string(&path).unwrap();
    let last: serde_json::Value = serde_json::from_str(newest.lines().last().unwrap()).unwrap();
    assert_eq!((last["log"].as_str(), last["stream"].as_str()), (Some("the last \"word\""), Some("stderr")));
    fs::remove_dir_all(&dir).unwrap();
}

/// A file on a disk that has room for so many bytes.
struct Disk<Room> {
    file: File,
    room: Room,
}

impl<Room: FnMut() -> usize> Write for Disk<Room> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.room)().min(bytes.len()) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            length => self.file.write(&bytes[..length]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A log in a directory of its own.
fn log_in_dir(name: &str) -> Log {
    let dir = std::env::temp_dir().join(format!("vmjob-shim-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    Log::create(&dir.join("job-json.log"), 10_000).unwrap()
}

fn output(text: &str) -> Output {
    Output { stream: Stream::Stdout, bytes: text.into() }
}

fn entry_bytes(text: &str) -> u64 {
    let mut entry = Vec::new();
    vmjob_logs::encode(Stream::Stdout, text.as_bytes(), &clock::now(), &mut entry);
    entry.len() as u64
}

/// The text that is read of the newest file, and how many bytes of the output are missing.
fn read_back(path: &Path) -> (String, u64) {
    let (kept, mut entries, mut text) = (fs::read(path).unwrap(), vmjob_logs::Entries::default(), Vec::new());
    for byte in kept {
        entries.room()[0] = byte;
        entries.advance(1, &mut |_, block| text.extend_from_slice(block));
    }
    assert_eq!(entries.pending_bytes(), 0);
    (String::from_utf8(text).unwrap(), entries.lost(0, vmjob_logs::Loss::Rotated).count().unwrap())
}

#[test]
fn what_a_full_disk_refuses_is_told_and_takes_nothing_with_it() {
    let mut log = log_in_dir("full");
    // Of the second entry a part is taken, of the third none, and then of what tells of them.
    let mut rooms = [1000, 10, 0, 0, 1].into_iter();
    let file = File::create(&log.path).unwrap();
    log.file = Box::new(Disk { file, room: move || rooms.next().unwrap_or(usize::MAX) });
    for text in ["one\n", "two\n", "three\n", "ERROR: four\n", "five\n"] {
        log.write(&output(text));
    }
    let lost = "two\nthree\n".len() as u64;
    assert_eq!(read_back(&log.path), ("one\nERROR: four\nfive\n".into(), lost));
    fs::remove_dir_all(log.path.parent().unwrap()).unwrap();
}

#[test]
fn a_disk_that_stays_full_has_room_to_tell_what_it_refused() {
    let mut log = log_in_dir("stays-full");
    let (path, reserve) = (log.path.clone(), log.next());
    let room = move || if fs::metadata(&reserve).unwrap().len() == 0 { usize::MAX } else { 0 };
    log.file = Box::new(Disk { file: File::create(&path).unwrap(), room });
    let (messages, waiting) = sync_channel(2);
    let (answer, answered) = sync_channel(1);
    messages.send(Message::Output(output("one\n"))).unwrap();
    messages.send(Message::Ask(answer)).unwrap();
    drop(messages);
    log.keep(&waiting, 1, &std::sync::mpsc::channel().0);
    answered.recv().unwrap();
    assert_eq!(read_back(&path), (String::new(), 4));
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn where_no_file_can_be_made_the_old_one_goes_on_within_bounds() {
    let mut log = log_in_dir("no-inodes");
    let line = format!("{:x<3000}\n", "");
    for _ in 0..3 {
        log.write(&output(&line));
    }
    fs::remove_file(log.next()).unwrap();
    fs::create_dir(log.next()).unwrap();
    for _ in 0..30 {
        log.write(&output(&line));
        assert!(log.line.is_empty(), "what is written does not pile up");
    }
    let length = fs::metadata(&log.path).unwrap().len();
    assert!((40_000..=50_000).contains(&length), "{length}");
    assert!(!log.rotated(1).exists());
    fs::remove_dir(log.next()).unwrap();
    log.write(&output("the last\n"));
    assert_eq!(fs::metadata(log.rotated(1)).unwrap().len(), length);
    let written = length / entry_bytes(&line);
    assert_eq!(read_back(&log.path), ("the last\n".into(), (33 - written) * line.len() as u64));
    // One file was there ahead of its time.
    assert!(log.next().exists());
    fs::remove_dir_all(log.path.parent().unwrap()).unwrap();
}

#[test]
fn a_rotation_that_fails_half_way_costs_no_file() {
    let mut log = log_in_dir("half-way");
    fs::write(log.rotated(1), "older").unwrap();
    fs::rename(&log.path, log.rotated(9)).unwrap();
    for _ in 0..5 {
        log.rotate().unwrap_err();
    }
    assert_eq!(fs::read_to_string(log.rotated(2)).unwrap(), "older");
    fs::rename(log.rotated(9), &log.path).unwrap();
    log.rotate().unwrap();
    assert!(log.path.exists() && log.rotated(1).exists() && log.rotated(2).exists());
    fs::remove_dir_all(log.path.parent().unwrap()).unwrap();
}
