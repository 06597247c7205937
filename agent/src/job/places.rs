//! Where the files of inputs and outputs lie on the VM. A path of the job goes in; what of the VM it is below comes out. A container's
//! path below one of its bind mounts is below that mount's source. Under no mount it gets one of its own: the directory itself, an
//! input's very file, or for an output, whose kind only the job knows, the directory that it lies in.

use std::path::{Component, Path, PathBuf};

use super::error::{JobError, Problem, quote};
use super::names::JOB_SPEC;
use super::types::{Container, Input, Job, MountKind, Work};

/// Where a path lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub root: Root,
    /// Relative; empty for the root itself.
    pub rest: PathBuf,
}

/// What of the VM a job has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A directory, or a file.
    Vm(PathBuf),
    /// The attempt's own directory for files, in which the container's own mounts have their sources.
    Files,
    /// A volume or a tmpfs, into which the agent cannot reach.
    Foreign,
}

/// A mount of the job, as far as files are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMount {
    /// Relative to the job's root; empty for the root itself.
    pub target: PathBuf,
    pub root: Root,
    pub is_read_only: bool,
}

/// A mount that a container gets for its inputs or outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnMount {
    /// Without a slash at its end.
    pub target: String,
    /// A file that is there before the job, or else a directory.
    pub is_file: bool,
    /// Whether it is there because of an output, whose kind is not known.
    pub hides_image: bool,
}

/// Directories of an image without which little works.
const SYSTEM_DIRS: [&str; 12] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"];

impl Input {
    /// Whether it becomes the very file that `to` names, and not something in or below a directory.
    pub fn is_file(&self) -> bool {
        !self.from.ends_with('/') && !self.to.ends_with('/')
    }
}

impl Job {
    /// The mounts that the job's container gets for paths under none of its own, outer ones first.
    pub fn own_mounts(&self) -> Vec<OwnMount> {
        let Work::Container(container) = &self.work else { return Vec::new() };
        let free = |path: &&String| mount_of(container, Path::new(path)).is_none();
        let outputs = self.outputs.iter().map(|output| &output.from).filter(free).map(|from| {
            let (path, parent) = (trimmed(from), parent(from));
            let is_dir = from.ends_with('/') || parent == "/";
            OwnMount { target: if is_dir { path } else { parent }, is_file: false, hides_image: !is_dir }
        });
        let inputs = self.inputs.iter().filter(|input| free(&&input.to)).map(|input| OwnMount {
            target: trimmed(&input.to),
            is_file: input.is_file(),
            hides_image: false,
        });
        let mut mounts: Vec<OwnMount> = outputs.chain(inputs).collect();
        mounts.sort_by(|a, b| (&a.target, a.is_file).cmp(&(&b.target, b.is_file)));
        let mut kept: Vec<OwnMount> = Vec::new();
        for mount in mounts {
            let is_covered = |outer: &OwnMount| {
                outer.target == mount.target || (!outer.is_file && Path::new(&mount.target).starts_with(&outer.target))
            };
            if !kept.iter().any(is_covered) {
                kept.push(mount);
            }
        }
        kept
    }

    /// What the job has where: of two mounts the inner one is what it sees.
    pub fn file_mounts(&self) -> Vec<FileMount> {
        let at_root = |root| FileMount { target: PathBuf::new(), root, is_read_only: false };
        let Work::Container(container) = &self.work else { return vec![at_root(Root::Vm("/".into()))] };
        let mounts = container.mounts.iter().map(|mount| FileMount {
            target: relative(&mount.target),
            root: root_of(&mount.kind),
            is_read_only: mount.read_only,
        });
        std::iter::once(at_root(Root::Files)).chain(mounts).collect()
    }

    /// Where `path`, of an input or output that was checked, lies.
    pub fn place(&self, path: &str) -> Place {
        let clean = relative(path);
        let innermost = self.file_mounts().into_iter().filter(|mount| clean.starts_with(&mount.target));
        let mount = innermost.max_by_key(|mount| mount.target.components().count());
        let Some(FileMount { target, root, .. }) = mount else { return Place { root: Root::Files, rest: clean } };
        Place { rest: clean.strip_prefix(target).map(Path::to_owned).unwrap_or_default(), root }
    }

    /// What cannot be done about a path of an input or output.
    pub(super) fn check_places(&self) -> Result<(), JobError> {
        let inputs = self.inputs.iter().enumerate().map(|(i, input)| (format!("inputs[{i}].to"), &input.to, false));
        let outputs =
            self.outputs.iter().enumerate().map(|(i, output)| (format!("outputs[{i}].from"), &output.from, true));
        for (place, path, is_output) in inputs.chain(outputs) {
            self.check_place(path, is_output).map_err(|problem| problem.at(JOB_SPEC, place))?;
        }
        for (i, input) in self.inputs.iter().enumerate().filter(|(_, input)| input.is_file()) {
            let inputs = self.inputs.iter().map(|input| &input.to);
            let below = inputs.chain(self.outputs.iter().map(|output| &output.from)).find(|path| {
                let (path, file) = (relative(path), relative(&input.to));
                path != file && path.starts_with(file)
            });
            if let Some(path) = below {
                let what = format!("{} is a file, and {} is to lie in it", quote(&input.to), quote(path));
                return Err(Problem::new(what).fix("take another path").at(JOB_SPEC, format!("inputs[{i}].to")));
            }
        }
        for (i, input) in self.inputs.iter().enumerate().filter(|(_, input)| !input.is_file()) {
            let own = trimmed(&input.to);
            if self.place(&input.to).root == Root::Files && SYSTEM_DIRS.contains(&own.as_str()) {
                let what = format!("{} would put a directory of the VM over the image's {own}", quote(&input.to));
                let fix = format!(
                    "name a directory of its own, such as \"/in/\", or a single file such as \"{own}/app.conf\""
                );
                return Err(Problem::new(what).fix(fix).at(JOB_SPEC, format!("inputs[{i}].to")));
            }
        }
        Ok(())
    }

    fn check_place(&self, path: &str, is_output: bool) -> Result<(), Problem> {
        let wrong = |what: &str, fix: &str| Err(Problem::new(format!("{} {what}", quote(path))).fix(fix));
        if Path::new(path).components().any(|part| part == Component::ParentDir) || path.contains('\0') {
            return wrong("has a \"..\" in it", "write the path without");
        }
        if trimmed(path) == "/" {
            return wrong("is everything there is", "name a file or a directory such as \"/data/\"");
        }
        let Work::Container(container) = &self.work else { return Ok(()) };
        match mount_of(container, Path::new(path)) {
            Some((_, MountKind::Bind { .. })) => return Ok(()),
            Some(_) => {
                let fix = "take a path below a bind mount, or one under no mount: it gets a place on the VM's disk";
                return wrong("lies in a volume or tmpfs, which the agent cannot reach into", fix);
            }
            None => {}
        }
        let name = Path::new(path);
        if is_output && !path.ends_with('/') && parent(path) == "/" && name.extension().is_some() {
            let own = trimmed(path);
            return wrong(
                "would be a directory: it lies directly below \"/\", and under no mount",
                &format!(
                    "write it into a directory: \"/out{own}\"; if it is one itself, end it with a slash: \"{own}/\""
                ),
            );
        }
        let own = if is_output && !path.ends_with('/') && parent(path) != "/" { parent(path) } else { trimmed(path) };
        if is_output && SYSTEM_DIRS.iter().any(|dir| Path::new(&own).starts_with(dir)) {
            let what = format!("would put a directory of the VM over the image's {own}");
            return wrong(&what, "write to a directory of its own, such as \"/out/\"");
        }
        Ok(())
    }
}

/// The mount of the job that `path` lies in, with its target: the innermost.
fn mount_of<'a>(container: &'a Container, path: &Path) -> Option<(&'a str, &'a MountKind)> {
    let inside = container.mounts.iter().filter(|mount| path.starts_with(&mount.target));
    let innermost = inside.max_by_key(|mount| Path::new(&mount.target).components().count())?;
    Some((&innermost.target, &innermost.kind))
}

/// Where the engine has the source of a mount.
fn root_of(kind: &MountKind) -> Root {
    match kind {
        MountKind::Bind { source, .. } => Root::Vm(source.into()),
        _ => Root::Foreign,
    }
}

/// A path of the job as one below its root.
pub fn relative(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Without slashes at the end, doubled ones, and dots.
fn trimmed(path: &str) -> String {
    Path::new("/").join(path).components().collect::<PathBuf>().to_string_lossy().into_owned()
}

fn parent(path: &str) -> String {
    Path::new(&trimmed(path)).parent().map_or_else(|| "/".into(), |parent| parent.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::job::parse_spec;

    fn job(mounts: &Value, inputs: &[(&str, &str)], outputs: &[&str]) -> Result<Job, JobError> {
        let inputs: Vec<Value> = inputs.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
        let outputs: Vec<Value> = outputs.iter().map(|from| json!({"from": from, "to": "gs://b/out/"})).collect();
        let container = json!({"image": "a", "mounts": mounts});
        let spec = json!({"container": container, "inputs": inputs, "outputs": outputs});
        Ok(parse_spec(spec.to_string().as_bytes())?.job)
    }

    #[test]
    fn a_path_below_a_bind_mount_lies_below_its_source() {
        let mounts = json!([
            {"type": "bind", "source": "/mnt/disks/data", "target": "/data"},
            {"type": "bind", "source": "/srv/x/file", "target": "/data/deep/file"},
        ]);
        let job =
            job(&mounts, &[("gs://b/in.csv", "/data/in.csv")], &["/data/out", "/data/", "/data/deep/file"]).unwrap();
        assert_eq!(job.own_mounts(), []);
        for (path, root, rest) in [
            ("/data/in.csv", "/mnt/disks/data", "in.csv"),
            ("/data//a/./b/", "/mnt/disks/data", "a/b"),
            ("/data/", "/mnt/disks/data", ""),
            ("/data/deep/file", "/srv/x/file", ""),
        ] {
            assert_eq!(job.place(path), Place { root: Root::Vm(root.into()), rest: rest.into() }, "{path}");
        }
    }

    #[test]
    fn a_path_under_no_mount_gets_one() {
        let of = |inputs: &[(&str, &str)], outputs: &[&str]| -> Vec<(String, bool)> {
            let job = job(&json!([]), inputs, outputs).unwrap();
            job.own_mounts().into_iter().map(|mount| (mount.target, mount.is_file)).collect()
        };
        let owned = |list: &[(&str, bool)]| list.iter().map(|(at, file)| ((*at).to_owned(), *file)).collect::<Vec<_>>();
        assert_eq!(of(&[("gs://b/in.csv", "/data/in.csv")], &["/data/out"]), owned(&[("/data", false)]));
        assert_eq!(
            of(&[("gs://b/in.csv", "/app/in.csv"), ("gs://b/m/", "/models/")], &["/app/out/"]),
            owned(&[("/app/in.csv", true), ("/app/out", false), ("/models", false)])
        );
        assert_eq!(of(&[("gs://b/in.csv", "/in/")], &["/out"]), owned(&[("/in", false), ("/out", false)]));
        assert_eq!(of(&[], &["/a/b/c", "/a/b"]), owned(&[("/a", false)]));
    }

    #[test]
    fn a_path_that_cannot_be_is_named() {
        let mounts = json!([{"type": "tmpfs", "target": "/t"}, {"type": "volume", "source": "vv", "target": "/v"}]);
        for (path, words) in [
            ("/t/x", "volume or tmpfs"),
            ("/v/x", "volume or tmpfs"),
            ("/a/../b", "\"..\""),
            ("/", "everything"),
            ("/etc/x", "over the image's /etc"),
            ("/usr/local/", "over the image's /usr/local"),
            ("/out.csv", "write it into a directory: \"/out/out.csv\""),
            ("//v1.2", "end it with a slash: \"/v1.2/\""),
        ] {
            let error = job(&mounts, &[], &[path]).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("outputs[0].from"), "{error}");
        }
        for (inputs, outputs, words) in [
            (&[("gs://b/conf/", "/etc")][..], &[][..], "over the image's /etc"),
            (&[("gs://b/conf", "/usr/")], &[], "over the image's /usr"),
            (&[("gs://b/in", "/data/in")], &["/data/in/out"], "\"/data/in\" is a file, and \"/data/in/out\""),
            (&[("gs://b/in", "/data/in"), ("gs://b/p/", "/data/in/p")], &[], "is a file"),
        ] {
            let error = job(&mounts, inputs, outputs).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("inputs[0].to"), "{error}");
        }
        assert!(job(&mounts, &[("gs://b/x", "/etc/app.conf")], &[]).is_ok(), "a file of its own hides nothing");
        assert!(job(&mounts, &[("gs://b/p/", "/etc/app/")], &["/out.d/", "/out"]).is_ok());
    }

    #[test]
    fn a_process_has_the_vm_s_own_paths() {
        let spec = json!({"process": {"command": ["/x"]}, "outputs": [{"from": "/srv/out", "to": "gs://b/"}]});
        let job = parse_spec(spec.to_string().as_bytes()).unwrap().job;
        assert_eq!(job.place("/srv/out"), Place { root: Root::Vm("/".into()), rest: "srv/out".into() });
        assert_eq!(job.own_mounts(), []);
    }
}
