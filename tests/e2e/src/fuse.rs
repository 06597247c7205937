//! A file system that does not answer: FUSE, with nobody who serves it, or with a server that knows one file and never reads it.
//! Source: Linux `include/uapi/linux/fuse.h`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// The one file there is, `file`, has a mebibyte.
const FILE_BYTES: u64 = 1 << 20;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;

/// Mounted for as long as this is there.
#[derive(Debug)]
pub struct Hang {
    dir: PathBuf,
    device: File,
}

impl Hang {
    /// Nothing below `dir` is ever answered.
    pub fn everywhere(dir: &Path) -> Self {
        Self::mount(dir)
    }

    /// Only reading `file` in it is not.
    pub fn in_reads(dir: &Path) -> Self {
        let hang = Self::mount(dir);
        let device = hang.device.try_clone().expect("a descriptor");
        thread::spawn(move || serve(device));
        hang
    }

    fn mount(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("the directory can be made");
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse is there");
        let stdin = Stdio::from(device.try_clone().expect("a descriptor"));
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other";
        let mounted =
            Command::new("mount").args(["-i", "-t", "fuse", "-o", options, "hang"]).arg(dir).stdin(stdin).status();
        assert!(mounted.is_ok_and(|status| status.success()), "FUSE can be mounted");
        Self { dir: dir.to_owned(), device }
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        // What waits in it is let go, as nobody holds the device any more.
        let _ = Command::new("umount").args(["-i", "-f", "-l"]).arg(&self.dir).status();
    }
}

fn serve(mut device: File) {
    let mut request = vec![0; 1 << 20];
    while let Ok(read) = device.read(&mut request) {
        let request = &request[..read];
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let node = u64::from_ne_bytes(request[16..24].try_into().expect("eight bytes"));
        let name = request[40..].split(|byte| *byte == 0).next().unwrap_or_default();
        let answer = match number(4) {
            FORGET | BATCH_FORGET | READ => continue,
            INIT => Ok(init()),
            GETATTR => Ok([&0_u64.to_ne_bytes()[..], &[0; 8], &attributes(node)].concat()),
            LOOKUP if name == b"file" => Ok([&2_u64.to_ne_bytes()[..], &[0; 32], &attributes(2)].concat()),
            LOOKUP => Err(2),
            OPEN | OPENDIR => Ok(vec![0; 16]),
            _ => Err(ENOSYS),
        };
        let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).expect("a short answer");
        let answer = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &request[8..16], &body].concat();
        if device.write_all(&answer).is_err() {
            return;
        }
    }
}

/// `fuse_init_out` of version 7.31.
fn init() -> Vec<u8> {
    let head = [7_u32, 31, 0, 0, 0, 1 << 20].map(u32::to_ne_bytes).concat();
    [&head[..], &[0; 40]].concat()
}

/// `fuse_attr`
fn attributes(node: u64) -> Vec<u8> {
    let mode: u32 = if node == 1 { 0o40_755 } else { 0o100_644 };
    let wide = [node, FILE_BYTES, FILE_BYTES / 512, 0, 0, 0].map(u64::to_ne_bytes).concat();
    let narrow = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat();
    [wide, narrow].concat()
}
