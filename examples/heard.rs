//! Measures how long a run takes to hear another process while eight branches work.
//!
//! ```sh
//! cargo run --release --example heard                # 100 messages of each kind
//! cargo run --release --example heard -- --count 20
//! ```
//!
//! Each message is sent at a random instant. Its latency is the time from the moment that the sender puts into the message
//! until the moment at which the process of the run records the event. The answer to a question of an MCP server is an
//! approval with a note, and takes the same way.

#![allow(clippy::disallowed_methods, reason = "this process may block: it does nothing else")]

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use orch::model::budget::Budget;
use orch::model::event::{Event, Fact};
use orch::runner::{AnswerRequest, CancelRequest, Delivery, Environment, RaiseBudgetRequest, Runner, SentMessage};
use orch::store::{Journal, RunRow};

type ExampleResult<T> = Result<T, Box<dyn Error>>;

/// The longest time to wait for the next event of a run.
const PATIENCE: Duration = Duration::from_mins(1);
/// The longest random pause before a message, in milliseconds.
const MAX_PAUSE_MS: u64 = 250;
/// The limit of tokens of the run. Each raise adds one token.
const TOKENS: u64 = 1_000_000;

fn main() -> ExitCode {
    // This program also acts as `orch`, so that one cargo command builds both.
    let first_arg = std::env::args().nth(1).unwrap_or_default();
    if !first_arg.is_empty() && !first_arg.starts_with("--") || first_arg.starts_with("__") {
        return orch::cli::main();
    }
    match measure_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn measure_all() -> ExampleResult<()> {
    let count = parse_count()?;
    let folder = tempfile::tempdir()?;
    write_project(folder.path(), count)?;
    let runner = Runner::new(Environment::from_process()?.with_current_dir(folder.path().canonicalize()?));
    let project = Project { folder: folder.path(), runner };
    project.measure("approval", |project| project.measure_answers(true, count))?;
    project.measure("rejection", |project| project.measure_answers(false, count))?;
    project.measure("budget", |project| project.measure_budgets(count))?;
    project.measure("cancel", |project| (0..count).map(|_| project.measure_cancel()).collect())
}

fn parse_count() -> ExampleResult<usize> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(100),
        ["--count", count] => Ok(count.parse::<usize>()?.max(1)),
        _ => Err("unknown arguments: use --count NUMBER".into()),
    }
}

/// Writes a project with two pipelines of eight commands that sleep. One of them also asks `count` times.
fn write_project(folder: &Path, count: usize) -> ExampleResult<()> {
    std::fs::create_dir(folder.join("pipelines"))?;
    let commands: String =
        (1..=8).map(|n| format!("      - {{ id: c{n}, run: [sleep, \"3600\"], access: none }}\n")).collect();
    let group = format!("  - id: all\n    parallel:\n{commands}");
    let asking = format!(
        "      - id: asking\n        for_each: \"range({count})\"\n        approve: \"{{{{ item }}}}?\"\n        on_reject: continue\n        output: signed\n"
    );
    let budget = format!("budget: {{ tokens: {TOKENS} }}\n");
    std::fs::write(folder.join("pipelines/busy.yaml"), format!("name: busy\n{budget}steps:\n{group}"))?;
    std::fs::write(folder.join("pipelines/asking.yaml"), format!("name: asking\nsteps:\n{group}{asking}"))?;
    Ok(())
}

/// A project, and a runner that sends messages to its runs.
struct Project<'a> {
    folder: &'a Path,
    runner: Runner,
}

impl Project<'_> {
    fn measure(&self, name: &str, latencies: impl Fn(&Self) -> ExampleResult<Vec<Duration>>) -> ExampleResult<()> {
        let mut latencies = latencies(self)?;
        latencies.sort_unstable();
        let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
        let max = latencies.last().copied().unwrap_or_default();
        let count = latencies.len();
        writeln!(
            io::stdout(),
            "{name:<10} {count:>4} messages  median {:>4} ms  maximum {:>4} ms",
            median.as_millis(),
            max.as_millis()
        )?;
        Ok(())
    }

    fn measure_answers(&self, approved: bool, count: usize) -> ExampleResult<Vec<Duration>> {
        let run = BusyRun::start(self, "asking")?;
        let mut latencies = Vec::with_capacity(count);
        // A question that waits gives its place to the next item, so the run asks all of them.
        run.wait_for(count, |fact| matches!(fact, Fact::ApprovalAsked(_)))?;
        for number in 0..count {
            pause();
            let request = AnswerRequest {
                run: Some(run.id()),
                step: Some(format!("all/asking[{number}]")),
                approved,
                user: "heard".to_owned(),
                ..AnswerRequest::default()
            };
            let answer = self.runner.answer(&request)?;
            let is_same = |fact: &Fact| matches!(fact, Fact::ApprovalAnswered(recorded) if *recorded == answer.answer);
            latencies.push(self.latency(&answer.message, answer.answer.answer.at, is_same)?);
        }
        Ok(latencies)
    }

    fn measure_budgets(&self, count: usize) -> ExampleResult<Vec<Duration>> {
        let run = BusyRun::start(self, "busy")?;
        let mut latencies = Vec::with_capacity(count);
        for number in 1..=count {
            pause();
            let limits = Budget { tokens: Some(TOKENS + u64::try_from(number)?), ..Budget::default() };
            let request = RaiseBudgetRequest { run: Some(run.id()), limits, ..RaiseBudgetRequest::default() };
            let sent = self.runner.raise_budget(&request)?.message;
            latencies.push(self.latency_of_sent(&sent, |fact| match fact {
                Fact::BudgetRaised(raise) => Some(raise.at),
                _ => None,
            })?);
        }
        Ok(latencies)
    }

    fn measure_cancel(&self) -> ExampleResult<Duration> {
        let run = BusyRun::start(self, "busy")?;
        pause();
        let request = CancelRequest { run: Some(run.id()), user: "heard".to_owned(), ..CancelRequest::default() };
        let sent = self.runner.request_cancel(&request)?;
        self.latency_of_sent(&sent, |fact| match fact {
            Fact::CancelRequested(cancel) => Some(cancel.at),
            _ => None,
        })
    }

    /// The time from `sent_at` until the run recorded the matching fact.
    fn latency(
        &self,
        sent: &SentMessage,
        sent_at: Timestamp,
        is_match: impl Fn(&Fact) -> bool,
    ) -> ExampleResult<Duration> {
        self.latency_of_sent(sent, |fact| is_match(fact).then_some(sent_at))
    }

    /// The time until the run recorded the fact of a message; `sent_at` returns when the message of a fact was sent.
    fn latency_of_sent(
        &self,
        sent: &SentMessage,
        sent_at: impl Fn(&Fact) -> Option<Timestamp>,
    ) -> ExampleResult<Duration> {
        let Delivery::Heard(events) = self.runner.wait_until_heard(sent)? else {
            return Err("the run has not heard the message".into());
        };
        let heard = events.iter().find_map(|event| Some((event.at, sent_at(&event.fact)?)));
        let (heard_at, sent_at) = heard.ok_or("the run has not recorded the message")?;
        // An event has whole microseconds.
        Ok(Duration::try_from(heard_at.duration_since(sent_at)).unwrap_or_default())
    }
}

/// A run in another process whose eight commands have started.
struct BusyRun {
    child: Child,
    journal: Journal,
    row: RunRow,
}

impl BusyRun {
    fn start(project: &Project<'_>, pipeline: &str) -> ExampleResult<Self> {
        let workspace = format!("workspace-{pipeline}");
        let began = Timestamp::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["pipeline", "run", &format!("pipelines/{pipeline}.yaml"), "--quiet", "--workspace", &workspace])
            .current_dir(project.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let state = project.folder.canonicalize()?.join(".orch");
        match find_run(&state, began, &mut child) {
            Ok((journal, row)) => {
                let run = Self { child, journal, row };
                run.wait_for(8, |fact| matches!(fact, Fact::CallStarted(_)))?;
                Ok(run)
            }
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                Err(error)
            }
        }
    }

    fn id(&self) -> String {
        self.row.run.to_string()
    }

    /// Waits until the run has recorded this many matching facts.
    fn wait_for(&self, count: usize, is_match: impl Fn(&Fact) -> bool) -> ExampleResult<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let events: Vec<Event> = self.journal.events(self.row.run)?;
            if events.iter().filter(|event| is_match(&event.fact)).count() >= count {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the run makes no progress".into())
    }
}

impl Drop for BusyRun {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until a process that started after `began` has recorded that its run has started.
fn find_run(state: &Path, began: Timestamp, child: &mut Child) -> ExampleResult<(Journal, RunRow)> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Err(format!("the run ended: {status}").into());
        }
        if let Some(journal) = Journal::open_existing(state)?
            && let Some(row) = journal.runs(1)?.into_iter().find(|row| row.started > began)
        {
            return Ok((journal, row));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the run does not start".into())
}

/// Waits for a random time.
fn pause() {
    let random = RandomState::new().build_hasher().finish();
    std::thread::sleep(Duration::from_millis(random.checked_rem(MAX_PAUSE_MS).unwrap_or_default()));
}
