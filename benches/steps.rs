//! What steps cost in long runs: many in sequence, many at once, and many that a resume reuses.
//!
//! The floor is a program that makes as many HTTP calls over a socket (`programs/calls.rs`), and the disk: an `fsync`
//! after an append. Run it with `cargo bench --profile dist --bench steps --no-default-features`; names after `--` pick
//! parts: `agents`, `commands`, `items`.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use orch::store::Journal;

mod measure;
mod project;
mod server;

use measure::{Samples, bytes, compile, count_syncs, exponent, print_head, print_row, run_as_helper, time};
use project::{RUN, agents, commands, items, orch, project};
use server::serve;

/// What every request is answered.
const OK: &str = "{\"ok\":true}";
const AGENTS: [usize; 6] = [3, 10, 100, 300, 1_000, 10_000];
const COMMANDS: [usize; 5] = [3, 10, 100, 300, 1_000];
/// The number of steps from which runs are also shown and resumed.
const LARGE: usize = 1_000;

fn main() {
    if run_as_helper() {
        return;
    }
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    let programs = tempfile::tempdir().unwrap();
    let calls = compile("calls", programs.path());
    let fsync = fsync();
    println!("an append of 4 kB and its `fsync`: {}", time(fsync));
    if wanted("agents") {
        println!("\nagents, with replies at once:");
        sequence(agents, &AGENTS, Some(&calls));
    }
    if wanted("commands") {
        println!("\ncommands `true` with `access: none`:");
        sequence(commands, &COMMANDS, None);
    }
    if wanted("items") {
        items_at_once(&calls, fsync);
    }
}

/// The median time that an append takes to be durable on the disk of temporary files.
fn fsync() -> Duration {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut append = || {
        let start = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.as_file().sync_data().unwrap();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..200).map(|_| append()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// A command that makes as many calls over a socket.
fn socket_calls(program: &Path, address: &str, count: usize, threads: usize) -> Command {
    let mut command = Command::new(program);
    command.arg(address).arg(count.to_string()).arg(threads.to_string());
    command
}

/// What the steps of a run after the first one used.
struct Steps {
    count: usize,
    wall: Duration,
    cpu: Duration,
    stored: u64,
}

impl Steps {
    /// Without what a run with one step uses, because that is mostly the start of orch.
    fn new(count: usize, samples: &Samples, single: &Samples) -> Self {
        let wall = samples.wall(5).saturating_sub(single.wall(5));
        let [cpu, base_cpu] = [samples, single].map(|samples| samples.median(|usage| usage.cpu));
        let [stored, base_stored] = [samples, single].map(|samples| samples.median(|usage| usage.stored));
        let (cpu, stored) = (cpu.saturating_sub(base_cpu), stored.saturating_sub(base_stored));
        Self { count: count - 1, wall, cpu, stored }
    }

    fn time_of_each(&self, whole: Duration) -> String {
        time(whole / u32::try_from(self.count).unwrap())
    }

    fn exponents(&self, smaller: &Self) -> [String; 2] {
        let counts = [smaller.count, self.count];
        [exponent(counts, [smaller.wall, self.wall]), exponent(counts, [smaller.cpu, self.cpu])]
    }
}

/// A project whose last run had many steps.
struct LargeRun {
    steps: usize,
    folder: tempfile::TempDir,
}

/// Runs of many steps in sequence, with the floor beside them if a program makes the same calls.
fn sequence(make: fn(usize) -> String, counts: &[usize], calls: Option<&Path>) {
    let address = serve(Duration::ZERO, |_| OK);
    let folder = project(&make(1), &address);
    let single = Samples::of(&orch(folder.path(), &RUN), 7);
    let columns =
        ["steps", "time", "a step", "exponent", "CPU of a step", "exponent", "memory", "stored a step", "floor"];
    print_head(&columns);
    let mut smaller: Option<Steps> = None;
    let mut large = Vec::new();
    for &count in counts {
        let folder = project(&make(count), &address);
        let samples = Samples::of(&orch(folder.path(), &RUN), if count < LARGE { 5 } else { 1 });
        let steps = Steps::new(count, &samples, &single);
        let [wall_exponent, cpu_exponent] =
            smaller.as_ref().map(|smaller| steps.exponents(smaller)).unwrap_or_default();
        let floor = calls.map(|program| Samples::of(&socket_calls(program, &address, count, 1), 5).wall(5));
        print_row(&[
            count.to_string(),
            time(samples.wall(5)),
            steps.time_of_each(steps.wall),
            wall_exponent,
            steps.time_of_each(steps.cpu),
            cpu_exponent,
            bytes(samples.median(|usage| usage.memory)),
            bytes(steps.stored / u64::try_from(steps.count).unwrap()),
            floor.map_or(String::new(), time),
        ]);
        smaller = Some(steps);
        if count >= LARGE {
            large.push(LargeRun { steps: count, folder });
        }
    }
    print_syncs(make, &address);
    print_reuse(&large);
}

/// How often a step waits for the disk.
fn print_syncs(make: fn(usize) -> String, address: &str) {
    let count = |steps: usize| {
        let folder = project(&make(steps), address);
        count_syncs(&orch(folder.path(), &RUN))
    };
    match (count(1), count(21)) {
        (Some(one), Some(many)) => {
            let extra = f64::from(u32::try_from(many.saturating_sub(one)).unwrap());
            println!("\nfsyncs of a run with one step: {one}; of each further step: {:.1}", extra / 20.0);
        }
        _ => println!("\nstrace is not installed or may not trace: the fsyncs are not counted"),
    }
}

/// What it costs to show a run, and to resume it when every result is still valid.
fn print_reuse(runs: &[LargeRun]) {
    print_head(&["steps", "`runs show`", "resume", "CPU of the resume", "memory of the resume"]);
    for LargeRun { steps, folder } in runs {
        let run = Journal::open(&folder.path().join(".orch")).unwrap().runs(1).unwrap().remove(0).run.to_string();
        let show = Samples::of(&orch(folder.path(), &["runs", "show"]), 3);
        let resume = Samples::of(&orch(folder.path(), &["pipeline", "resume", &run, "-q"]), 3);
        print_row(&[
            steps.to_string(),
            time(show.wall(5)),
            time(resume.wall(5)),
            time(resume.median(|usage| usage.cpu)),
            bytes(resume.median(|usage| usage.memory)),
        ]);
    }
}

/// Items of one step, 200 at once, each with a reply after 20 ms.
fn items_at_once(calls: &Path, fsync: Duration) {
    let late = Duration::from_millis(20);
    let address = serve(late, |_| OK);
    println!("\n`for_each`, 200 at once, replies after 20 ms:");
    print_head(&["items", "time", "CPU", "memory", "waiting", "waiting and an `fsync` for each", "calls over sockets"]);
    for count in [200, 1_000] {
        let folder = project(&items(count), &address);
        let samples = Samples::of(&orch(folder.path(), &RUN), 5);
        let rounds = count / 200;
        let waiting = late * u32::try_from(rounds).unwrap();
        let floor = Samples::of(&socket_calls(calls, &address, rounds, 200), 5);
        print_row(&[
            count.to_string(),
            time(samples.wall(5)),
            time(samples.median(|usage| usage.cpu)),
            bytes(samples.median(|usage| usage.memory)),
            time(waiting),
            time(waiting + fsync * u32::try_from(count).unwrap()),
            time(floor.wall(5)),
        ]);
    }
}
