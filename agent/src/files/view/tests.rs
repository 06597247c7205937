use std::{
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::files::{Found, Walk};

/// A directory with a secret beside it, removed in the end.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vmjob-view-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("root/sub")).unwrap();
        fs::write(dir.join("secret"), "secret").unwrap();
        fs::write(dir.join("root/sub/file"), "file").unwrap();
        Self(dir)
    }

    fn open(&self, path: &str) -> Root {
        Root::Open(open_root(&self.0.join(path), &Writable::default()).unwrap().into())
    }

    fn view(&self) -> View {
        View::of_dir(open_root(&self.0.join("root"), &Writable::default()).unwrap())
    }

    /// As a container sees it that has `root` as `/data`.
    fn mounted(&self, more: Vec<(&str, Root, bool)>) -> View {
        fs::create_dir_all(self.0.join("own")).unwrap();
        let first = [("", self.open("own"), false), ("data", self.open("root"), false)];
        let mounts = first.into_iter().chain(more).map(|(target, root, is_read_only)| Mount {
            target: target.into(),
            root,
            is_read_only,
        });
        View::new(mounts.collect())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn content(found: io::Result<Arc<File>>) -> Option<String> {
    let mut text = String::new();
    (&*found.ok()?).read_to_string(&mut text).ok()?;
    Some(text)
}

fn read(view: &View, path: &str) -> Option<String> {
    match view.look(Path::new(path)).ok()? {
        Entry::File(file) => content(Ok(file)),
        _ => None,
    }
}

/// The files with their content, and the links that were left out.
type Walked = (Vec<(String, Option<String>)>, (u64, PathBuf));

fn walked(view: &View, path: &str) -> Walked {
    let mut walk = Walk::begin(view, Path::new(path)).unwrap();
    let found = std::iter::from_fn(|| walk.next(view));
    let mut found: Vec<_> =
        found.map(|Found { path, file }| (path.to_string_lossy().into_owned(), content(file))).collect();
    found.sort();
    (found, walk.left_out)
}

/// For each path the content of its file, `-` where none can be read.
fn listed(found: &[(String, Option<String>)]) -> Vec<(&str, &str)> {
    found.iter().map(|(path, content)| (path.as_str(), content.as_deref().unwrap_or("-"))).collect()
}

#[test]
fn no_link_leads_out() {
    let stage = Stage::new("links");
    let root = stage.0.join("root");
    symlink("../secret", root.join("out")).unwrap();
    symlink(stage.0.join("secret"), root.join("absolute")).unwrap();
    symlink("sub/file", root.join("inside")).unwrap();
    symlink("/sub/file", root.join("inside-as-the-job-sees-it")).unwrap();
    symlink(&stage.0, root.join("dir-out")).unwrap();
    symlink("sub", root.join("dir-inside")).unwrap();
    symlink(".", root.join("sub/loop")).unwrap();
    symlink("to-itself", root.join("to-itself")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    let view = stage.view();
    let (found, left_out) = walked(&view, "");
    let wanted = [
        ("absolute", "-"),
        ("dir-out", "-"),
        ("inside", "file"),
        ("inside-as-the-job-sees-it", "file"),
        ("magic", "-"),
        ("out", "-"),
        ("sub/file", "file"),
        ("to-itself", "-"),
    ];
    assert_eq!(listed(&found), wanted);
    // In what order they are found, nobody knows.
    assert_eq!(left_out.0, 2);
    assert!(["dir-inside", "sub/loop"].map(PathBuf::from).contains(&left_out.1), "{left_out:?}");
    assert!(view.make_dirs(Path::new("dir-out/new"), 0o755).is_err());
    assert!(!stage.0.join("new").exists());
}

/// The root is the source of the mount, and not the directory that it is in; absolute links lead where the job's would.
#[test]
fn links_lead_where_they_lead_the_job() {
    let stage = Stage::new("mounts");
    for dir in ["deep", "ro"] {
        fs::create_dir(stage.0.join(dir)).unwrap();
        fs::write(stage.0.join(dir).join("x"), dir).unwrap();
    }
    for dir in ["deep", "ro", "tmp"] {
        fs::create_dir(stage.0.join("root").join(dir)).unwrap();
    }
    fs::write(stage.0.join("root/deep/hidden"), "hidden by a mount").unwrap();
    for (name, target) in [
        ("a", "/data/sub/file"),
        ("b", "../secret"),
        ("c", "/secret"),
        ("d", "../data/sub/../sub/file"),
        ("e", "/data/deep/x"),
        ("f", "deep/../deep/x"),
        ("g", "/data/tmp/x"),
        ("h", "/data/ro/x"),
        ("i", "../../../../../../data/one"),
    ] {
        symlink(target, stage.0.join("root").join(name)).unwrap();
    }
    let view = stage.mounted(vec![
        ("data/deep", stage.open("deep"), false),
        ("data/ro", stage.open("ro"), true),
        ("data/tmp", Root::Foreign, false),
        ("data/one", stage.open("secret"), false),
        ("other/place/x", stage.open("ro"), false),
    ]);
    let (found, _) = walked(&view, "data");
    let wanted = [
        ("a", "file"),
        ("b", "-"),
        ("c", "-"),
        ("d", "file"),
        ("deep/x", "deep"),
        ("e", "deep"),
        ("f", "deep"),
        ("g", "-"),
        ("h", "ro"),
        ("i", "secret"),
        ("sub/file", "file"),
    ];
    assert_eq!(listed(&found), wanted);
    // A mount that is a file, and one below directories that nothing else has.
    let files = ["data/one", "other/place/x/x"].map(|path| read(&view, path));
    assert_eq!(files.each_ref().map(|file| file.as_deref()), [Some("secret"), Some("ro")]);
    assert!(matches!(view.look(Path::new("other/place")), Ok(Entry::Directory)));
    assert!(view.look(Path::new("other/else")).is_err());
    let error = view.look(Path::new("data/tmp/x")).unwrap_err().to_string();
    assert!(error.contains("volume or tmpfs"), "{error}");
}

#[test]
fn what_is_written_never_goes_through_a_link() {
    let stage = Stage::new("writes");
    let root = stage.0.join("root");
    symlink("../secret", root.join("part")).unwrap();
    symlink("../secret", root.join("new")).unwrap();
    symlink("..", root.join("up")).unwrap();
    let view = stage.mounted(vec![("conf/one", stage.open("root/sub/file"), false)]);
    assert!(view.create(Path::new("data/x"), "part".into()).is_err());
    view.create(Path::new("data/new"), "fresh".into()).unwrap().keep().unwrap();
    assert!(root.join("new").symlink_metadata().unwrap().is_file());
    view.create(Path::new("data/up/x"), "fresh".into()).unwrap().keep().unwrap();
    assert!(stage.0.join("own/x").exists() && !stage.0.join("x").exists());
    assert_eq!(fs::read_to_string(stage.0.join("secret")).unwrap(), "secret");
    view.make_dirs(Path::new("data/a/b"), 0o777).unwrap();
    assert_eq!(root.join("a/b").metadata().unwrap().permissions().mode() & 0o7777, 0o777);
    assert!(view.make_dirs(Path::new("data/new/b"), 0o777).is_err());
    // A mount that is a file is that file, whatever lies beside its source.
    let one = view.create(Path::new("conf/one"), "part".into()).unwrap();
    one.keep().unwrap();
    assert_eq!(fs::read_to_string(root.join("sub/file")).unwrap(), "");
    assert!(view.create(Path::new("data"), "part".into()).is_err());
}

#[test]
fn a_pipe_is_not_waited_for() {
    let stage = Stage::new("pipes");
    rustix::fs::mknodat(CWD, stage.0.join("root/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(matches!(stage.view().look(Path::new("pipe")), Ok(Entry::Other)));
    assert!(stage.view().create(Path::new("x"), "pipe".into()).is_err());
}

/// By whatever name the way comes into it.
#[test]
fn a_source_below_what_the_job_writes_does_not_lead_out_of_that() {
    let stage = Stage::new("below");
    for (to, name) in
        [("..", "root/up"), ("sub", "root/fine"), ("root", "alias"), ("root/up", "into"), ("root/fine", "in")]
    {
        symlink(to, stage.0.join(name)).unwrap();
    }
    for (writable, source, leads_out) in [
        ("root", "root/up", false),
        ("root", "alias/up", false),
        ("root", "into", false),
        ("alias", "root/up", false),
        ("root/sub", "root/up", true),
        ("none", "root/up", true),
    ] {
        let opened = open_root(&stage.0.join(source), &Writable::at(&stage.0.join(writable)));
        let is_out = opened.is_ok_and(|root| View::of_dir(root).look(Path::new("secret")).is_ok());
        assert_eq!(is_out, leads_out, "{writable} {source}");
    }
    let fine = open_root(&stage.0.join("in"), &Writable::at(&stage.0.join("root"))).unwrap();
    assert_eq!(read(&View::of_dir(fine), "file").as_deref(), Some("file"));
}

/// The kernel's walk below a root gives up with `EAGAIN` then.
#[test]
fn renames_do_not_get_in_the_way_of_a_walk() {
    let stage = Stage::new("renames");
    let root = stage.0.join("root");
    symlink("../sub/../sub/file", root.join("sub/link")).unwrap();
    let view = stage.mounted(vec![]);
    let done = AtomicBool::new(false);
    let other = stage.0.join("other");
    thread::scope(|scope| {
        scope.spawn(|| {
            fs::create_dir(&other).unwrap();
            while !done.load(Ordering::Relaxed) {
                fs::rename(&other, other.with_extension("x")).unwrap();
                fs::rename(other.with_extension("x"), &other).unwrap();
            }
        });
        let bad = (0..20_000).filter(|_| read(&view, "data/sub/link").is_none()).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(bad, 0);
    });
}

/// Whatever the moment: a directory that becomes a link, or is moved up, leads to nothing outside.
#[test]
fn a_directory_that_is_swapped_for_a_link_leads_nowhere() {
    let stage = Stage::new("swaps");
    let root = stage.0.join("root");
    for name in ["outside", "root/a", "root/a/b"] {
        fs::create_dir(stage.0.join(name)).unwrap();
    }
    for name in ["outside/x", "x"] {
        fs::write(stage.0.join(name), "outside").unwrap();
    }
    symlink("../../../outside", root.join("evil")).unwrap();
    symlink("../../x", root.join("a/b/up")).unwrap();
    fs::write(root.join("a/x"), "inside").unwrap();
    let view = stage.mounted(vec![]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b, kept) = (root.join("a"), root.join("a/b"), root.join("kept"));
            while !done.load(Ordering::Relaxed) {
                fs::rename(&a, &kept).unwrap();
                fs::rename(root.join("evil"), &a).unwrap();
                fs::rename(&a, root.join("evil")).unwrap();
                fs::rename(&kept, &a).unwrap();
                fs::rename(&b, root.join("b")).unwrap();
                fs::rename(root.join("b"), &b).unwrap();
            }
        });
        for _ in 0..5_000 {
            for path in ["data/a/x", "data/a/b/up", "data/b/up", "data/evil/x"] {
                assert_ne!(read(&view, path).as_deref(), Some("outside"), "{path}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
