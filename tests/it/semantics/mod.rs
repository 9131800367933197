//! Compares the meaning of pipelines with a model of the documentation that shares no code with the engine.
//!
//! A seed determines a random pipeline, the outcomes of its calls, the calls after which a session crashes or is
//! stopped, and edits of the files between the sessions. The program's own code runs each case with a real journal, in
//! one or several sessions. Every session must make exactly the calls of the model at the same times, and result in the
//! same statuses, artifacts and files. `ORCH_CASES=10000` runs more cases, `ORCH_CASE=SEED` a single one, and
//! `ORCH_TABLE=1` the whole table of combinations.

#![allow(
    clippy::unused_self,
    clippy::single_match_else,
    clippy::type_complexity,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    reason = "the model follows the structure of the documentation"
)]

mod combinations;
mod compare;
mod edits;
mod generate;
mod groups;
mod harness;
mod history;
mod leaves;
mod performer;
mod pipeline;
mod reference;
mod regressions;
mod script;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edits::Edit;
use generate::{PipelineGenerator, smaller_pipelines};
use harness::{Harness, SessionEnd, SessionResult};
use history::RunHistory;
use orch::runner::BranchMode;
use pipeline::TestPipeline;
use reference::{Ending, EvalScope, Evaluation, Model, NEVER};
use script::Script;

/// The default number of cases.
const DEFAULT_CASE_COUNT: u64 = 300;
/// The maximum number of sessions of a case.
const MAX_SESSIONS: u32 = 4;
/// The time after which the search for a smaller case ends.
const MAX_SHRINK_TIME: Duration = Duration::from_secs(20);

/// One run with all its sessions.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) pipeline: TestPipeline,
    pub(crate) script: Script,
    pub(crate) continue_on_error: bool,
    /// The numbers of calls after which the first sessions crash.
    pub(crate) crashes: Vec<usize>,
    /// Whether the user stops each of these sessions instead.
    pub(crate) stops: Vec<bool>,
    /// The edits before the second session, the third session, and so on.
    pub(crate) edits: Vec<Option<Edit>>,
}

/// The result of a case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CaseResult {
    /// Every session matched the model. Contains the number of sessions.
    Matches(u32),
    /// The model allows several outcomes of a session.
    Ambiguous,
    /// The check rejects the files with these errors.
    Invalid(String),
    /// A session differs from the model.
    Differs(Vec<String>),
}

impl Case {
    fn from_seed(seed: u64) -> Self {
        let mut generator = PipelineGenerator::new(seed);
        let pipeline = generator.pipeline();
        let succeeds_from = 2 + u32::try_from(generator.random_below(2)).unwrap();
        let failing_percent = [0, 15, 35][usize::try_from(generator.random_below(3)).unwrap()];
        let script = Script { seed, failing_percent, succeeds_from, forced_outcome: None };
        let continue_on_error = generator.chance(25);
        let crash_count = if generator.chance(50) { generator.random_below(3) } else { 0 };
        let crashes: Vec<usize> =
            (0..crash_count).map(|_| usize::try_from(generator.random_below(12)).unwrap()).collect();
        let edits = (1..MAX_SESSIONS).map(|_| generator.edit()).collect();
        let stops = crashes.iter().map(|_| generator.chance(50)).collect();
        Self { pipeline, script, continue_on_error, crashes, stops, edits }
    }

    /// Runs the case, session by session.
    pub(crate) fn run(&self, harness: &Harness, name: &str) -> CaseResult {
        let mut plan = match harness.plan(&self.pipeline, self.continue_on_error) {
            Ok(plan) => plan,
            Err(errors) => return CaseResult::Invalid(errors),
        };
        let mut pipeline = self.pipeline.clone();
        let mut run = harness.new_run(name);
        let mut history = RunHistory::default();
        for session in 1..=MAX_SESSIONS {
            if let Some(edit) = self.edit_before(session) {
                let edited_pipeline = edit.apply(&pipeline, session);
                // orch does not resume with invalid files, so the case then keeps the old files.
                if let Ok(edited_plan) = harness.plan(&edited_pipeline, self.continue_on_error) {
                    (plan, pipeline) = (edited_plan, edited_pipeline);
                }
            }
            if self.evaluate(&pipeline, session, (&history, None)).1 {
                return CaseResult::Ambiguous;
            }
            let session_end = self.session_end(session);
            let result = harness.run_session(&mut run, &plan, self.script, session, session_end);
            let (expected, is_ambiguous) = self.evaluate(&pipeline, session, (&history, run.stop_time));
            if is_ambiguous {
                return CaseResult::Ambiguous;
            }
            let end_time = match &result {
                SessionResult::Ended(_) => NEVER,
                SessionResult::Crashed(crash_time) => *crash_time,
            };
            history.record(&expected.facts, end_time);
            let calls = run.performer.as_ref().map(performer::ScriptedPerformer::ended_calls).unwrap_or_default();
            let mut differences = compare::call_differences(&expected, end_time, &calls);
            if let SessionResult::Ended(state) = &result {
                differences.extend(compare::state_differences(&pipeline, &expected, state));
            }
            differences.extend(compare::file_differences(&history, &run.files()));
            if !differences.is_empty() {
                differences.insert(0, format!("session {session}:"));
                return CaseResult::Differs(differences);
            }
            let is_last = matches!(result, SessionResult::Ended(_))
                && (expected.ending == Ending::Completed || session > self.script.succeeds_from);
            if is_last && self.edit_before(session + 1).is_none() {
                return CaseResult::Matches(session);
            }
        }
        CaseResult::Matches(MAX_SESSIONS)
    }

    /// The edit before a session.
    fn edit_before(&self, session: u32) -> Option<Edit> {
        let index = usize::try_from(session).unwrap().checked_sub(2)?;
        self.edits.get(index).copied().flatten()
    }

    /// How a session ends.
    fn session_end(&self, session: u32) -> SessionEnd {
        let index = session as usize - 1;
        match (self.crashes.get(index), self.stops.get(index)) {
            (Some(calls), Some(true)) => SessionEnd::Stop(*calls),
            (Some(calls), _) => SessionEnd::Crash(*calls),
            (None, _) => SessionEnd::Complete,
        }
    }

    /// Evaluates a session with the model. Also returns whether the model allows several outcomes.
    fn evaluate(
        &self,
        pipeline: &TestPipeline,
        session: u32,
        (history, stop_time): (&RunHistory, Option<u64>),
    ) -> (Evaluation, bool) {
        let (script, continue_on_error) = (self.script, self.continue_on_error);
        let is_ambiguous = Cell::new(false);
        let model = Model { script, session, continue_on_error, history, stop_time, is_ambiguous };
        let evaluation = model.evaluate_pipeline("", pipeline, &EvalScope::default(), 0, NEVER);
        (evaluation, model.is_ambiguous.get())
    }

    /// Searches for a smaller case that still differs from the model. Returns its differences, or no differences if
    /// there is no smaller case.
    fn shrink(mut self, harness: &Harness) -> (Self, Vec<String>) {
        let mut differences = Vec::new();
        let mut tries = 0;
        let start = Instant::now();
        loop {
            let with_pipeline = |pipeline: TestPipeline| Self { pipeline, ..self.clone() };
            let with_crashes = |count: usize| Self { crashes: self.crashes[..count].to_vec(), ..self.clone() };
            let without_edit = |index: usize| {
                let mut edits = self.edits.clone();
                edits[index].take().map(|_| Self { edits, ..self.clone() })
            };
            let fewer_crashes = (0..self.crashes.len()).map(with_crashes);
            let fewer_edits = (0..self.edits.len()).filter_map(without_edit);
            let smaller = smaller_pipelines(&self.pipeline).into_iter().map(with_pipeline);
            let candidates: Vec<Self> = fewer_crashes.chain(fewer_edits).chain(smaller).collect();
            let next = candidates.into_iter().find_map(|case| {
                tries += 1;
                match case.run(harness, &format!("smaller-{tries}")) {
                    CaseResult::Differs(case_differences) => Some((case, case_differences)),
                    CaseResult::Matches(_) | CaseResult::Ambiguous | CaseResult::Invalid(_) => None,
                }
            });
            match next {
                Some((case, case_differences)) if start.elapsed() < MAX_SHRINK_TIME => {
                    (self, differences) = (case, case_differences);
                }
                _ => return (self, differences),
            }
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { script, continue_on_error, crashes, stops, edits, .. } = self;
        writeln!(
            f,
            "{script:?}, continue on error: {continue_on_error}, crashes: {crashes:?}, stops: {stops:?}, edits: {edits:?}"
        )?;
        self.pipeline.files().iter().try_for_each(|(name, file)| {
            writeln!(f, "{name}: {}", file["steps"]).and_then(|()| match file.get("finally") {
                Some(finally) => writeln!(f, "finally: {finally}"),
                None => Ok(()),
            })
        })
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The number of cases whose branches run as in other processes, whatever the mode of the suite.
const SERIALIZED_CASES: u64 = 60;

#[test]
fn generated_pipelines_behave_the_same_if_branches_run_in_other_processes() {
    let harness = Harness::with_branches(BranchMode::Serialized);
    let mut matching = 0;
    for seed in 0..SERIALIZED_CASES {
        let case = Case::from_seed(seed);
        match case.run(&harness, &format!("case-{seed}")) {
            CaseResult::Matches(_) => matching += 1,
            CaseResult::Ambiguous | CaseResult::Invalid(_) => {}
            CaseResult::Differs(differences) => panic!("case {seed}:\n{}\n{case}", differences.join("\n")),
        }
    }
    assert!(matching > SERIALIZED_CASES / 4, "only {matching} cases match");
}

#[test]
#[expect(clippy::print_stdout, reason = "`--nocapture` shows the numbers of cases")]
fn generated_pipelines_behave_as_the_model_of_the_documentation() {
    let single_seed = number_from_env("ORCH_CASE");
    let first_seed = number_from_env("ORCH_FIRST").unwrap_or(0);
    let case_count = number_from_env("ORCH_CASES").unwrap_or(DEFAULT_CASE_COUNT);
    let seeds = single_seed.map_or(first_seed..first_seed + case_count, |seed| seed..seed + 1);
    let next_seed = AtomicU64::new(seeds.start);
    let [matching, sessions, ambiguous, invalid] = [const { AtomicU64::new(0) }; 4];
    let run_cases = || {
        let harness = Harness::new();
        loop {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let case = Case::from_seed(seed);
            match case.run(&harness, &format!("case-{seed}")) {
                CaseResult::Matches(session_count) => {
                    matching.fetch_add(1, Ordering::Relaxed);
                    sessions.fetch_add(u64::from(session_count), Ordering::Relaxed);
                }
                CaseResult::Ambiguous => drop(ambiguous.fetch_add(1, Ordering::Relaxed)),
                CaseResult::Invalid(errors) => {
                    invalid.fetch_add(1, Ordering::Relaxed);
                    if single_seed.is_some() {
                        println!("invalid: {errors}\n{case:#?}");
                    }
                }
                CaseResult::Differs(differences) => {
                    let (smallest, its_differences) = case.shrink(&harness);
                    let differences = if its_differences.is_empty() { differences } else { its_differences };
                    panic!("case {seed}:\n{}\n{smallest}", differences.join("\n"));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(run_cases)).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let [matching, sessions, ambiguous, invalid] = [matching, sessions, ambiguous, invalid].map(AtomicU64::into_inner);
    println!(
        "{matching} cases match the model, in {sessions} sessions; {ambiguous} are ambiguous; {invalid} are invalid"
    );
    let case_count = seeds.end - seeds.start;
    assert!(invalid * 10 <= case_count, "the check rejects too many cases: {invalid}");
    assert!(single_seed.is_some() || ambiguous * 4 <= case_count, "too many cases are ambiguous: {ambiguous}");
}
