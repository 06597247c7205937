//! A release in a bucket: published once, never overwritten. Each case against a small stand-in for `gcloud`, and the whole with
//! the real one, where it is, against a real server of Cloud Storage's API.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use packaging::{Ran, Scratch, repository, run, sh, third_party};

/// Objects are files, the object's own precondition and all; each call is written down.
const STAND_IN: &str = r#"#!/bin/bash
set -euo pipefail
echo "$*" >>"$BUCKETS/calls"
case "$1 $2 $3" in
'storage objects list')
    directory="$BUCKETS/${4#gs://}"
    for file in "${directory%\*\*}"*; do
        if [ -f "$file" ]; then echo "$(openssl dgst -md5 -binary "$file" | base64) ${file#"$BUCKETS"/*/}"; fi
    done ;;
'storage cp --if-generation-match=0')
    to="$BUCKETS/${7#gs://}"
    [ ! -e "$to" ] || { echo 'ERROR: HTTPError 412: Precondition failed' >&2; exit 1; }
    [ ! -e "$BUCKETS/broken" ] || { [ "${7##*/}" != SHA256SUMS ] || { echo 'ERROR: HTTPError 503' >&2; exit 1; }; }
    mkdir -p "$(dirname "$to")" && cp "$6" "$to" ;;
*) echo "unexpected: $*" >&2; exit 2 ;;
esac
"#;

/// A repository with a release to publish, and buckets to publish it to.
struct Stage {
    scratch: Scratch,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { scratch: Scratch::new() };
        let from = repository();
        let script = r#"
            mkdir -p packaging/release dist && cp "$FROM"/packaging/release/*.sh packaging/release/ && cp "$FROM/Cargo.toml" .
            printf '# Changelog\n\n## %s\n\nThe first.\n' "$VERSION" >CHANGELOG.md
            printf '/dist/\n/gcloud\n/buckets/\n/config/\n' >.gitignore
            git init --quiet && git add --all && git -c user.name=t -c user.email=t@localhost commit --quiet --message x"#;
        stage.sh(&format!("export FROM='{}' VERSION={}; {script}", from.display(), env!("CARGO_PKG_VERSION")));
        fs::write(stage.scratch.join("gcloud"), STAND_IN).unwrap();
        fs::set_permissions(stage.scratch.join("gcloud"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(stage.scratch.join("buckets")).unwrap();
        stage.dist("the binary");
        stage
    }

    fn sh(&self, line: &str) -> String {
        sh(format!("cd {}\n{line}", self.scratch.path().display()))
    }

    /// Makes its dist/, as `make dist` does but smaller.
    fn dist(&self, binary: &str) {
        let place = format!("gs://b/vmjob/{}", env!("CARGO_PKG_VERSION"));
        self.sh(&format!(
            "rm -f dist/*; cd dist; echo {binary} >vmjob-agent-x86_64; echo AGENT_URL={place}/vmjob-agent-x86_64 >startup-script-x86_64.sh
             echo \"commit $(git rev-parse HEAD)\" >BUILD; sha256sum * >../buckets/sums; mv ../buckets/sums SHA256SUMS"
        ));
    }

    fn publish(&self, arguments: &[&str]) -> Ran {
        let mut publish = Command::new(self.scratch.join("packaging/release/publish.sh"));
        publish.args(arguments).env("GCLOUD", self.scratch.join("gcloud")).env("BUCKETS", self.scratch.join("buckets"));
        run(&publish, Duration::from_mins(1))
    }

    fn released(&self, name: &str) -> PathBuf {
        self.scratch.join(&format!("buckets/b/vmjob/{}/{name}", env!("CARGO_PKG_VERSION")))
    }

    fn refuses(&self, why: &str) {
        let ran = self.publish(&["gs://b"]);
        assert!(ran.status == Some(1) && ran.stderr.contains(why), "{why}: {ran:#?}");
    }
}

#[test]
fn a_release_is_published_once_and_never_overwritten() {
    let stage = Stage::new();
    let ran = stage.publish(&["gs://b"]);
    assert!(ran.succeeded() && ran.stdout.contains("4 files, 4 of them new"), "{ran:#?}");
    let calls = fs::read_to_string(stage.scratch.join("buckets/calls")).unwrap();
    let uploads: Vec<&str> = calls.lines().filter(|call| call.starts_with("storage cp ")).collect();
    assert!(uploads.len() == 4 && uploads[3].contains("SHA256SUMS"), "the sums come last: {calls}");
    assert!(
        uploads.iter().all(|call| call.contains("--if-generation-match=0") && call.contains("immutable")),
        "{calls}"
    );
    assert!(
        calls.contains("--content-type=text/x-shellscript")
            && calls.contains("--content-type=application/octet-stream")
    );

    // Again, it is there already; with other bytes, it is refused before anything is sent.
    let again = stage.publish(&["gs://b"]);
    assert!(again.succeeded() && again.stdout.contains("4 files, 0 of them new"), "{again:#?}");
    stage.dist("another binary");
    stage.refuses("released with other bytes");
    assert_eq!(fs::read_to_string(stage.released("vmjob-agent-x86_64")).unwrap(), "the binary\n");
}

#[test]
fn a_publication_that_broke_off_is_done_again() {
    let stage = Stage::new();
    fs::write(stage.scratch.join("buckets/broken"), "").unwrap();
    stage.refuses("failed to upload SHA256SUMS");
    assert!(stage.released("vmjob-agent-x86_64").exists() && !stage.released("SHA256SUMS").exists());
    fs::remove_file(stage.scratch.join("buckets/broken")).unwrap();
    let ran = stage.publish(&["gs://b"]);
    assert!(ran.succeeded() && ran.stdout.contains("4 files, 1 of them new"), "{ran:#?}");
}

#[test]
fn a_dry_run_asks_nobody_and_says_what_would_be_run() {
    let stage = Stage::new();
    let ran = stage.publish(&["--dry-run", "gs://b"]);
    assert!(ran.succeeded() && ran.stdout.lines().count() == 4, "{ran:#?}");
    assert!(ran.stdout.contains("'--if-generation-match=0'"), "{ran:#?}");
    assert!(!stage.scratch.join("buckets/calls").exists(), "it asks nobody");
}

#[test]
fn what_is_not_a_release_is_not_published() {
    let stage = Stage::new();
    assert_eq!(stage.publish(&[]).status, Some(2));
    let elsewhere = stage.publish(&["gs://other"]);
    assert!(elsewhere.stderr.contains("made for another place than gs://other/vmjob/"), "{elsewhere:#?}");
    assert!(stage.publish(&["https://b"]).stderr.contains("is no bucket"));
    stage.sh("echo more >>dist/vmjob-agent-x86_64");
    stage.refuses("not as it was made");
    stage.dist("the binary");
    stage.sh("touch dist/stray");
    stage.refuses("not in its SHA256SUMS");
    stage.dist("the binary");
    stage.sh("echo x >>Cargo.toml");
    stage.refuses("not committed");
    let commit = "git -c user.name=t -c user.email=t@localhost commit --quiet --all --message y";
    stage.sh(&format!("git checkout --quiet Cargo.toml; echo '# Changelog' >CHANGELOG.md; {commit}"));
    stage.refuses("no heading");
    stage.sh("git checkout --quiet HEAD~1 -- CHANGELOG.md && git -c user.name=t -c user.email=t@localhost commit --quiet -m z");
    stage.refuses("of another commit");
    assert!(!stage.scratch.join("buckets/calls").exists(), "nobody was asked in all that");
}

/// The server of Cloud Storage's API; gone when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_real_gcloud_and_a_real_server_agree() {
    let Ok(gcloud) = Command::new("which").arg("gcloud").output() else { return };
    if !gcloud.status.success() {
        // It is not to be had from where the other tools come from: not even a strict run asks for it.
        return e2e::skip_even_if_strict("there is no gcloud: publishing is tried with a stand-in only");
    }
    let Some(server) = third_party("release-parts/bin/fake-gcs-server") else { return };
    let stage = Stage::new();
    stage.sh(&format!(
        "rm gcloud; ln -s {} gcloud; mkdir -p config buckets/data/b",
        String::from_utf8_lossy(&gcloud.stdout).trim()
    ));
    let port = "4497";
    let address = format!("127.0.0.1:{port}");
    let _server = Server(
        Command::new(server)
            .args([
                "-backend",
                "memory",
                "-scheme",
                "http",
                "-host",
                "127.0.0.1",
                "-port",
                port,
                "-public-host",
                &address,
                "-data",
            ])
            .arg(stage.scratch.join("buckets/data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it can be run"),
    );
    let publish = || {
        let mut publish = Command::new(stage.scratch.join("packaging/release/publish.sh"));
        publish
            .arg("gs://b")
            .env("GCLOUD", stage.scratch.join("gcloud"))
            .env("CLOUDSDK_CONFIG", stage.scratch.join("config"));
        publish.env("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", format!("http://{address}/storage/v1/"));
        publish.env("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true").env("CLOUDSDK_CORE_PROJECT", "p");
        run(&publish, Duration::from_mins(3))
    };
    let ran = publish();
    assert!(ran.succeeded() && ran.stdout.contains("4 files, 4 of them new"), "{ran:#?}");
    stage.dist("another binary");
    let refused = publish();
    assert!(refused.stderr.contains("released with other bytes"), "{refused:#?}");
}
