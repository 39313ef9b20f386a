//! The image of the replicas: the companion server, as in a release.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::docker::docker;

/// The tag of an image that is there already; without it the server is built here, once.
const IMAGE: &str = "RINGMASTER_TEST_IMAGE";

/// Gives the server's image to an engine under a tag of the caller's own, which must be removed
/// after use. Returns the ids of images made for that.
pub(crate) fn provide(host: &str, tag: &str) -> Vec<String> {
    let image = env::var(IMAGE).unwrap_or_default();
    if image.is_empty() {
        return vec![import(host, tag)];
    }
    if docker(host, &["image", "inspect", &image]).is_err() {
        copy(&image, host);
    }
    docker(host, &["tag", &image, tag]).unwrap();
    Vec::new()
}

/// Rebuilds the image under `tag` with another setting.
pub(crate) fn rebuild(host: &str, tag: &str, setting: &str) -> String {
    let container = docker(host, &["create", tag]).unwrap();
    let change = format!("ENV {setting}");
    let made = docker(host, &["commit", "--change", &change, &container, tag]);
    docker(host, &["rm", &container]).unwrap();
    made.unwrap()
}

/// Copies an image from the default engine to another one.
fn copy(image: &str, host: &str) {
    let usual = ringmaster::driver::docker::default_host();
    let mut save = Command::new("timeout")
        .args(["60", "docker", "--host", &usual, "save", image])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let load = Command::new("timeout")
        .args(["60", "docker", "--host", host, "load", "--quiet"])
        .stdin(save.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(save.wait().unwrap().success() && load.status.success(), "{load:?}");
}

fn import(host: &str, tag: &str) -> String {
    let program = server();
    let mut tar = Command::new("tar")
        .args(["-c", "--owner=0", "--group=0", "-C"])
        .args([program.parent().unwrap(), Path::new("ringmaster-server")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let import = Command::new("timeout")
        .args(["60", "docker", "--host", host, "import"])
        .args(["--change", "ENTRYPOINT [\"/ringmaster-server\"]", "-", tag])
        .stdin(tar.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(tar.wait().unwrap().success() && import.status.success(), "{import:?}");
    String::from_utf8_lossy(&import.stdout).trim().to_owned()
}

/// The server as one static program. Cargo sees by itself whether there is anything to do.
fn server() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let target = host_triple();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static-server");
        fs::create_dir_all(&dir).unwrap();
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", "ringmaster-server"])
            .args(["--target", &target, "--target-dir"])
            .arg(&dir)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        dir.join(target).join("release/ringmaster-server")
    })
}

fn host_triple() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.unwrap().to_owned()
}
