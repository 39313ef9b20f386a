//! What the fuzz targets assert, in an ordinary test run: every seed that is kept in
//! `fuzz/corpus/`, and some thousand mutations of them, the same ones each time. For each crate
//! that has targets.

use std::{
    any::Any,
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// A function that panics where something does not hold.
type Check = fn(&[u8]);

/// The targets of one crate.
pub(crate) struct Targets {
    /// The crate as sources name it.
    pub(crate) of: &'static str,
    /// The folder of all targets.
    pub(crate) fuzz: PathBuf,
    /// Which names of targets are this crate's.
    pub(crate) is_own: fn(&str) -> bool,
    pub(crate) checks: &'static [(&'static str, Check)],
}

/// Mutations of all seeds of one target together.
const MUTATIONS: usize = 6_000;
/// A slow machine tries fewer of them.
const TIME_EACH: Duration = Duration::from_millis(700);

/// The seeds of a target with their names.
fn seeds(fuzz: &Path, target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz.join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut seeds: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{folder:?} has no seed");
    seeds
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

fn holds(check: Check, bytes: &[u8]) -> Result<(), String> {
    let said = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"it panicked").to_string(),
    };
    catch_unwind(AssertUnwindSafe(|| check(bytes))).map_err(said)
}

impl Targets {
    pub(crate) fn each_has_a_check_and_a_corpus(&self) {
        let checks: BTreeSet<String> =
            self.checks.iter().map(|(name, _)| (*name).to_owned()).collect();
        for folder in ["fuzz_targets", "corpus"] {
            let mut names = names_in(&self.fuzz.join(folder));
            names.retain(|name| (self.is_own)(name));
            assert_eq!(names, checks, "{folder}");
        }
        let manifest = fs::read_to_string(self.fuzz.join("Cargo.toml")).unwrap();
        for (name, _) in self.checks {
            let path = self.fuzz.join("fuzz_targets").join(name).with_extension("rs");
            let call = format!("{}::fuzzing::{name}(", self.of);
            assert!(fs::read_to_string(path).unwrap().contains(&call), "{call}");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in it");
        }
    }

    pub(crate) fn every_seed_holds(&self) {
        for (target, check) in self.checks {
            for (name, bytes) in seeds(&self.fuzz, target) {
                holds(*check, &bytes).unwrap_or_else(|why| panic!("{target}/{name}: {why}"));
            }
        }
    }

    pub(crate) fn what_is_like_a_seed_holds_too(&self) {
        for (target, check) in self.checks {
            let seeds = seeds(&self.fuzz, target);
            let mut rng = StdRng::seed_from_u64(0x7269_6e67);
            let began = Instant::now();
            for _ in 0..MUTATIONS {
                if began.elapsed() > TIME_EACH {
                    break;
                }
                let bytes = mutated(&seeds, &mut rng);
                let said = holds(*check, &bytes);
                said.unwrap_or_else(|why| panic!("{target}: {why}: {}", bytes.escape_ascii()));
            }
        }
    }
}

/// A seed with a few changes: bytes flipped, removed, repeated, or taken from another seed.
fn mutated(seeds: &[(String, Vec<u8>)], rng: &mut StdRng) -> Vec<u8> {
    const TELLING: &[u8] = b"\0\t\n\r \"%+,-./09:;=?A[\\]{}~\x7f\x80\xff";
    let (_, bytes) = &seeds[rng.random_range(0..seeds.len())];
    let mut bytes = bytes.clone();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..9)).min(bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = TELLING[rng.random_range(0..TELLING.len())],
            2 => bytes.insert(at, TELLING[rng.random_range(0..TELLING.len())]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            _ => {
                let (_, other) = &seeds[rng.random_range(0..seeds.len())];
                let from = rng.random_range(0..=other.len());
                let until = (from + rng.random_range(0..64)).min(other.len());
                drop(bytes.splice(at..end, other[from..until].iter().copied()));
            }
        }
    }
    bytes
}
