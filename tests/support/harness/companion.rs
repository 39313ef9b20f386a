//! The companion server's program, built if it is missing or older than its sources.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::OnceLock,
    time::SystemTime,
};

/// The program in the directory of the balancer's, where the balancer looks for it.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let profile_dir = Path::new(env!("CARGO_BIN_EXE_ringmaster")).parent().unwrap();
        let program = profile_dir.join("ringmaster-server");
        if !is_fresh(&program) {
            build(profile_dir);
        }
        assert!(program.is_file(), "no '{}' after its build", program.display());
        program
    })
}

/// Where a companion listens whose standard output is a pipe, once it does.
pub(crate) fn listens(child: &mut Child) -> SocketAddr {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").map(str::parse);
    address.unwrap_or_else(|| panic!("{line}")).unwrap()
}

fn is_fresh(program: &Path) -> bool {
    let Ok(built) = fs::metadata(program).and_then(|metadata| metadata.modified()) else {
        return false;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("server");
    newest(&root.join("src")).max(modified(&root.join("Cargo.toml"))) <= built
}

fn newest(directory: &Path) -> SystemTime {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let times = entries.map(|entry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path => modified(&path),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// Builds it into the directory of the balancer's program, with the same profile.
fn build(profile_dir: &Path) {
    let profile = match profile_dir.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "ringmaster-server", "--profile", profile])
        .arg("--target-dir")
        .arg(profile_dir.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
