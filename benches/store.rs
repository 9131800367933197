//! What recording costs: many runs in one store, many steps in one run, many items at once.
//!
//! The floor is the disk: one `fsync` after an append, measured beside. Run it with
//! `cargo bench --profile dist --bench store --no-default-features`; a name after `--` picks one part:
//! `runs`, `steps`, `items`.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use orch::model::RunId;
use orch::model::event::{Event, Fact};
use orch::store::Journal;

mod server;

use server::serve;

const ORCH: &str = env!("CARGO_BIN_EXE_orch");
/// What every request is answered.
const OK: &str = "{\"ok\":true}";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    let fsync = fsync();
    println!("{:<44} {fsync:>10.2?}", "one fsync after an append of 4 kB");
    if wanted("runs") {
        runs();
    }
    if wanted("steps") {
        steps(fsync);
    }
    if wanted("items") {
        items(fsync);
    }
}

/// The median time that an append takes to be durable on the disk of temporary files.
fn fsync() -> Duration {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    median(200, || {
        file.write_all(&[7; 4096]).unwrap();
        file.as_file().sync_data().unwrap();
    })
}

fn median<T>(count: usize, mut work: impl FnMut() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let began = Instant::now();
            drop(work());
            began.elapsed()
        })
        .collect();
    times.sort();
    times[count / 2]
}

fn orch(folder: &Path, args: &[&str]) -> Duration {
    let mut command = Command::new(ORCH);
    command.args(args).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().unwrap();
    assert!(status.success(), "{args:?}: {status}");
    began.elapsed()
}

/// A project with one pipeline of these steps; its models are at `address`.
fn project(steps: &str, address: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "orch.yaml",
        &format!(
            "providers:\n  lab: {{ dialect: openai, base_url: \"http://{address}/v1\" }}\nlimits: {{ max_concurrency: 200 }}\n"
        ),
    );
    write("prompts/p.md", "Say yes.\n");
    write("pipelines/main.yaml", &format!("name: main\nagents:\n  a: {{ model: lab/m }}\nsteps:\n{steps}"));
    folder
}

const RUN: [&str; 4] = ["pipeline", "run", "pipelines/main.yaml", "-q"];

/// 10 000 runs in one store.
fn runs() {
    let folder = project(&commands(3), "127.0.0.1:9");
    let path = folder.path();
    let empty = median(15, || orch(path, &RUN));
    let journal = Journal::open(&path.join(".orch")).unwrap();
    let first = journal.runs(1).unwrap().remove(0).run;
    let events = journal.events(first).unwrap();
    let began = Instant::now();
    for _ in 0..10_000 {
        let run = RunId(uuid::Uuid::now_v7());
        let events: Vec<Event> = events.iter().map(|event| Event { run, ..event.clone() }).collect();
        assert!(matches!(events[0].fact, Fact::RunStarted(_)));
        journal.import(run, &events).unwrap();
    }
    let each = began.elapsed() / 10_000;
    drop(journal);
    let name = first.to_string();
    println!("\n10 000 runs in the store (taken in at {each:.2?} each)");
    let line = |name: &str, time: Duration| println!("{name:<44} {time:>10.2?}");
    line("runs list", median(15, || orch(path, &["runs", "list"])));
    line("runs list --status failed", median(15, || orch(path, &["runs", "list", "--status", "failed"])));
    line("runs show RUN", median(15, || orch(path, &["runs", "show", &name])));
    line("a run of three commands", median(15, || orch(path, &RUN)));
    line("the same in an empty store", empty);
    line("runs gc --keep 1000", orch(path, &["runs", "gc", "--keep", "1000"]));
}

/// Steps that each run `true`, and see nothing of the workspace.
fn commands(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let _ = writeln!(text, "  - {{ id: s{index}, run: [\"true\"], access: none }}");
        text
    })
}

/// Steps that each ask a model, whose answer is an artifact.
fn agents(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let _ = writeln!(
            text,
            "  - {{ id: s{index}, agent: a, prompt: p.md, schema: any, output: o{index}, message: go }}"
        );
        text
    })
}

/// So many steps, as a pipeline file has them.
type Steps = fn(usize) -> String;

/// Runs of many steps one after another.
fn steps(fsync: Duration) {
    let address = serve(Duration::ZERO, |_| OK);
    let kinds: [(&str, Steps, &[usize]); 2] = [
        ("agents, replies at once", agents, &[3, 100, 300, 1_000, 10_000]),
        ("`run: [true]`, access: none", commands, &[3, 100, 300, 1_000]),
    ];
    for (what, make, counts) in kinds {
        println!("\nsteps: {what}");
        let floor = project(&make(1), &address);
        let base = median(7, || orch(floor.path(), &RUN));
        println!("{:>6} steps {base:>10.2?}", 1);
        for &count in counts {
            let folder = project(&make(count), &address);
            let time = median(if count > 300 { 1 } else { 3 }, || orch(folder.path(), &RUN));
            let each = time.saturating_sub(base) / u32::try_from(count - 1).unwrap();
            let syncs = each.as_secs_f64() / fsync.as_secs_f64();
            println!("{count:>6} steps {time:>10.2?}   a step {each:>9.2?}, {syncs:.1} fsyncs");
            if count >= 1_000 {
                let show = median(3, || orch(folder.path(), &["runs", "show"]));
                let resume = orch(folder.path(), &["pipeline", "resume", &latest(folder.path()), "-q"]);
                println!("       runs show {show:.2?}, resume with everything kept {resume:.2?}");
            }
        }
    }
}

fn latest(folder: &Path) -> String {
    let state: PathBuf = folder.join(".orch");
    Journal::open(&state).unwrap().runs(1).unwrap().remove(0).run.to_string()
}

/// A thousand items, two hundred at once, each with a reply after 20 ms.
fn items(fsync: Duration) {
    let late = Duration::from_millis(20);
    let address = serve(late, |_| OK);
    let list = (0..1_000).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let step = format!(
        "  - {{ id: each, agent: a, prompt: p.md, schema: any, output: all, for_each: \"[{list}]\", max_parallel: 200, message: \"{{{{ item }}}}\" }}\n"
    );
    let folder = project(&step, &address);
    let time = median(3, || orch(folder.path(), &RUN));
    // Each reply is a commit, unless several came while the one before was written.
    let ideal = late * 5;
    println!("\n1 000 items, 200 at once, replies after 20 ms");
    println!("{:<44} {time:>10.2?}", "wall time");
    println!("{:<44} {ideal:>10.2?}", "waiting alone");
    println!("{:<44} {:>10.2?}", "waiting and 1 000 fsyncs", ideal + fsync * 1_000);
}
