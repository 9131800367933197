//! What a full store costs: the commands of orch beside 10 000 recorded runs. Run it with
//! `cargo bench --profile dist --bench store --no-default-features`.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::path::Path;
use std::time::Instant;

use orch::model::RunId;
use orch::model::event::{Event, Fact};
use orch::store::Journal;

mod measure;
mod project;

use measure::{Samples, bytes, print_head, print_row, run_as_helper, time};
use project::{RUN, commands, orch, project};

fn main() {
    if run_as_helper() {
        return;
    }
    let folder = project(&commands(3), "127.0.0.1:9");
    let path = folder.path();
    let empty = Samples::of(&orch(path, &RUN), 15);
    let first = fill(path);
    print_head(&["with 10 000 runs in the store", "median", "CPU", "memory"]);
    print("`orch runs list`", &sample(path, &["runs", "list"]));
    print("`orch runs list --status failed`", &sample(path, &["runs", "list", "--status", "failed"]));
    print("`orch runs show RUN`", &sample(path, &["runs", "show", &first.to_string()]));
    print("a run of three commands", &sample(path, &RUN));
    print("the same in an empty store", &empty);
    let gc = Samples::of(&orch(path, &["runs", "gc", "--keep", "1000"]), 1);
    print("`orch runs gc --keep 1000`, deleting 9 000 runs", &gc);
}

fn sample(folder: &Path, args: &[&str]) -> Samples {
    Samples::of(&orch(folder, args), 15)
}

fn print(name: &str, samples: &Samples) {
    let (cpu, memory) = (samples.median(|usage| usage.cpu), samples.median(|usage| usage.memory));
    print_row(&[name.to_owned(), time(samples.wall(5)), time(cpu), bytes(memory)]);
}

/// Copies a run 10 000 times into the store; returns the run.
fn fill(folder: &Path) -> RunId {
    let journal = Journal::open(&folder.join(".orch")).unwrap();
    let first = journal.runs(1).unwrap().remove(0).run;
    let events = journal.events(first).unwrap();
    let start = Instant::now();
    for _ in 0..10_000 {
        let run = RunId(uuid::Uuid::now_v7());
        let events: Vec<Event> = events.iter().map(|event| Event { run, ..event.clone() }).collect();
        assert!(matches!(events[0].fact, Fact::RunStarted(_)));
        journal.import(run, &events).unwrap();
    }
    println!("importing a run: {}", time(start.elapsed() / 10_000));
    first
}
