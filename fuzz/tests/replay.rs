//! Every target over its corpus and over changed inputs of it, on any toolchain: what `.ci/run` runs.
//!
//! `ORCH_FUZZ_SECONDS` is how long each target gets beyond one pass over its corpus; the inputs come from a fixed
//! seed. An input that fails is kept in `fuzz/artifacts/TARGET/`.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use orch_fuzz::{SEPARATOR, TARGETS, Target};

/// The longest that one input may take: far more than any takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The address space that all targets together may take.
const MEMORY: u64 = 8 << 30;
/// The stack of a target: that of the main thread of a process.
const STACK: usize = 8 << 20;
/// The longest input that is made.
const MAX_MADE: usize = 16 << 10;

/// Whether anything panicked, also where the panic was caught.
static PANICKED: AtomicBool = AtomicBool::new(false);

#[test]
fn every_target_holds_on_its_corpus_and_on_changed_inputs() {
    let seconds = std::env::var("ORCH_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let limit = rustix::process::Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).expect("memory can be bounded");
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::SeqCst);
        report(panic);
    }));
    let mut failed = Vec::new();
    for target in TARGETS {
        match replay(target, Duration::from_secs(seconds)) {
            Ok(count) => println!("{}: {count} inputs", target.0),
            Err(input) => failed.push(format!("{} fails on {}", target.0, input.display())),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    for (name, _) in TARGETS {
        assert!(root().join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
        assert!(!corpus(name).is_empty(), "{name} has no corpus");
    }
    let binaries = fs::read_dir(root().join("fuzz_targets")).unwrap().count();
    assert_eq!(binaries, TARGETS.len());
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The inputs of a target, by their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(root().join("corpus").join(name)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// How many inputs a target holds on in this time, or the input on which it does not.
fn replay((name, run): &Target, time: Duration) -> Result<u64, PathBuf> {
    let current: Arc<Mutex<(Vec<u8>, Instant)>> = Arc::new(Mutex::new((Vec::new(), Instant::now())));
    let count = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    watch(name, &current, &over);
    let (name, run) = (*name, *run);
    let (at, counted) = (current.clone(), count.clone());
    let work = move || {
        let seeds = corpus(name);
        let mut random = Random(0x0A0C_71A5 ^ name.len() as u64);
        let until = Instant::now() + time;
        for next in seeds.iter().cloned().map(Some).chain(std::iter::repeat_with(|| None)) {
            if next.is_none() && Instant::now() >= until {
                break;
            }
            let input = next.unwrap_or_else(|| random.changed(&seeds));
            *at.lock().unwrap_or_else(PoisonError::into_inner) = (input.clone(), Instant::now());
            run(&input);
            assert!(!PANICKED.load(Ordering::SeqCst), "a panic was caught");
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let thread = thread::Builder::new().stack_size(STACK);
    let ended = thread.spawn(move || catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()).unwrap().join();
    over.store(true, Ordering::SeqCst);
    PANICKED.store(false, Ordering::SeqCst);
    if ended.unwrap_or(false) {
        return Ok(count.load(Ordering::Relaxed));
    }
    let input = current.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
    Err(kept(name, &input))
}

/// Ends the process when one input takes too long: nothing else could.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
fn watch(name: &'static str, current: &Arc<Mutex<(Vec<u8>, Instant)>>, over: &Arc<AtomicBool>) {
    let (current, over) = (current.clone(), over.clone());
    thread::spawn(move || {
        while !over.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(200));
            let current = current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.1.elapsed() > PATIENCE && !over.load(Ordering::SeqCst) {
                let file = kept(name, &current.0);
                eprintln!("{name} takes more than {} s on {}", PATIENCE.as_secs(), file.display());
                std::process::abort();
            }
        }
    });
}

fn kept(name: &str, input: &[u8]) -> PathBuf {
    let folder = root().join("artifacts").join(name);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("replay");
    fs::write(&file, input).unwrap();
    Path::new("fuzz/artifacts").join(name).join("replay")
}

/// Numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or_default()
    }

    /// An input of the corpus with a few changes.
    fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            let (start, length) = (self.below(input.len() + 1), 1 + self.below(16));
            let end = (start + length).min(input.len());
            match self.below(7) {
                0 => drop(input.drain(start..end)),
                1 => {
                    let piece = input[start..end].repeat(1 + self.below(200));
                    input.splice(start..start, piece);
                }
                2 if start < input.len() => input[start] ^= 1 << self.below(8),
                3 => input.insert(start, *b"{}[]\"':,|%#-\n 0\\\x1e<>&*!".get(self.below(24)).unwrap_or(&SEPARATOR)),
                4 => input.truncate(start),
                _ => {
                    let other = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
                    let from = self.below(other.len() + 1);
                    let to = (from + 1 + self.below(64)).min(other.len());
                    let at = if self.below(2) == 0 { end } else { start };
                    input.splice(start..at, other[from..to].iter().copied());
                }
            }
            input.truncate(MAX_MADE);
        }
        input
    }
}
