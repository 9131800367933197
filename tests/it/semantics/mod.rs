//! Compares the meaning of pipelines with a model of the documentation that shares no code with the engine.
//!
//! A seed determines random pipelines, outcomes, points at which the process dies or a stop is requested, and edits of
//! the files before the next session. The program's own code runs each case over a real journal, once without an
//! interruption or in several sessions until it is done. Every session must make exactly the calls of the model at the
//! same times, and leave the same statuses, artifacts and files. `ORCH_CASES=10000` runs more cases, `ORCH_CASE=SEED` a
//! single one; `ORCH_TABLE=1` runs the whole table of combinations.

#![allow(
    clippy::unused_self,
    clippy::single_match_else,
    clippy::type_complexity,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    reason = "the model reads as the documentation does, whatever that makes of its functions"
)]

mod combinations;
mod compare;
mod edits;
mod generate;
mod groups;
mod harness;
mod leaves;
mod memory;
mod performer;
mod pipeline;
mod reference;
mod regressions;
mod script;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use edits::Edit;
use generate::{Choices, smaller};
use harness::{Harness, SessionEnd, SessionResult};
use memory::Memory;
use pipeline::TestPipeline;
use reference::{Ending, Env, Evaluation, Model, NEVER};
use script::Script;

/// The default number of cases.
const CASES: u64 = 300;
/// The number of sessions after which a run must have ended.
const SESSIONS: u32 = 4;

/// One run from its start to its end.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) pipeline: TestPipeline,
    pub(crate) script: Script,
    pub(crate) lenient: bool,
    /// After how many calls each of the first sessions dies.
    pub(crate) crashes: Vec<usize>,
    /// Which of these sessions are stopped instead.
    pub(crate) stops: Vec<bool>,
    /// The edits before the second session, the third, and so on.
    pub(crate) edits: Vec<Option<Edit>>,
}

/// The result of a case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every session matched the model; holds their number.
    Same(u32),
    /// From some session on, the model allows more than one outcome.
    Open,
    /// The check refuses the files.
    Refused(String),
    Differs(Vec<String>),
}

impl Case {
    fn of(seed: u64) -> Self {
        let mut choices = Choices::new(seed);
        let pipeline = choices.pipeline();
        let mended = 2 + u32::try_from(choices.below(2)).unwrap();
        let script =
            Script { seed, trouble: [0, 15, 35][usize::try_from(choices.below(3)).unwrap()], mended, chosen: None };
        let lenient = choices.of_hundred(25);
        let many = if choices.of_hundred(50) { choices.below(3) } else { 0 };
        let crashes: Vec<usize> = (0..many).map(|_| usize::try_from(choices.below(12)).unwrap()).collect();
        let edits = (1..SESSIONS).map(|_| choices.edit()).collect();
        let stops = crashes.iter().map(|_| choices.of_hundred(50)).collect();
        Self { pipeline, script, lenient, crashes, stops, edits }
    }

    /// Runs the case, session by session.
    pub(crate) fn run(&self, harness: &Harness, name: &str) -> Verdict {
        let mut plan = match harness.plan(&self.pipeline, self.lenient) {
            Ok(plan) => plan,
            Err(why) => return Verdict::Refused(why),
        };
        let mut pipeline = self.pipeline.clone();
        let mut run = harness.begin(name);
        let mut memory = Memory::default();
        for session in 1..=SESSIONS {
            if let Some(edit) = self.edit_before(session) {
                let edited = edit.of(&pipeline, session);
                // A pipeline that the check refuses is not resumed, so the old one stays.
                if let Ok(new) = harness.plan(&edited, self.lenient) {
                    (plan, pipeline) = (new, edited);
                }
            }
            if self.reference(&pipeline, session, (&memory, None)).1 {
                return Verdict::Open;
            }
            let place = session as usize - 1;
            let until = match (self.crashes.get(place), self.stops.get(place)) {
                (Some(calls), Some(true)) => SessionEnd::Stop(*calls),
                (Some(calls), _) => SessionEnd::Crash(*calls),
                (None, _) => SessionEnd::End,
            };
            let came = harness.session(&mut run, &plan, self.script, session, until);
            let (ran, open) = self.reference(&pipeline, session, (&memory, run.stopped));
            if open {
                return Verdict::Open;
            }
            let until = match &came {
                SessionResult::Ended(_) => NEVER,
                SessionResult::Crashed(at) => *at,
            };
            memory.learn(&ran.facts, until);
            let made = run.performer.as_ref().map(performer::ScriptedPerformer::ended_calls).unwrap_or_default();
            let mut wrong = compare::calls(&ran, until, &made);
            if let SessionResult::Ended(state) = &came {
                wrong.extend(compare::differences(&pipeline, &ran, state));
            }
            wrong.extend(compare::files(&memory, &run.files()));
            if !wrong.is_empty() {
                wrong.insert(0, format!("session {session}:"));
                return Verdict::Differs(wrong);
            }
            let over =
                matches!(came, SessionResult::Ended(_)) && (ran.ending == Ending::Well || session > self.script.mended);
            if over && self.edit_before(session + 1).is_none() {
                return Verdict::Same(session);
            }
        }
        Verdict::Same(SESSIONS)
    }

    /// The edit before a session.
    fn edit_before(&self, session: u32) -> Option<Edit> {
        let place = usize::try_from(session).unwrap().checked_sub(2)?;
        self.edits.get(place).copied().flatten()
    }

    /// The result of a session by the model, and whether the model allows another one.
    fn reference(
        &self,
        pipeline: &TestPipeline,
        session: u32,
        (memory, stop): (&Memory, Option<u64>),
    ) -> (Evaluation, bool) {
        let open = Cell::new(false);
        let model = Model { script: self.script, session, lenient: self.lenient, memory, stop, open };
        let ran = model.body("", pipeline, &Env::default(), 0, NEVER);
        (ran, model.open.get())
    }

    /// The smallest case found that still differs.
    fn shrink(mut self, harness: &Harness) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let mut tries = 0;
        let began = std::time::Instant::now();
        loop {
            let with = |pipeline: TestPipeline| Self { pipeline, ..self.clone() };
            let less = |at: usize| Self { crashes: self.crashes[..at].to_vec(), ..self.clone() };
            let plain = |at: usize| {
                let mut edits = self.edits.clone();
                edits[at].take().map(|_| Self { edits, ..self.clone() })
            };
            let fewer = (0..self.crashes.len()).map(less).chain((0..self.edits.len()).filter_map(plain));
            let all: Vec<Self> = fewer.chain(smaller(&self.pipeline).into_iter().map(with)).collect();
            let next = all.into_iter().find_map(|case| {
                tries += 1;
                match case.run(harness, &format!("smaller-{tries}")) {
                    Verdict::Differs(words) => Some((case, words)),
                    Verdict::Same(_) | Verdict::Open | Verdict::Refused(_) => None,
                }
            });
            match next {
                Some((case, words)) if began.elapsed().as_secs() < 20 => (self, wrong) = (case, words),
                _ => return (self, wrong),
            }
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { script, lenient, crashes, stops, edits, .. } = self;
        writeln!(
            f,
            "{script:?}, continue on error: {lenient}, crashes: {crashes:?}, stops: {stops:?}, edits: {edits:?}"
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

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn generated_pipelines_behave_as_the_model_of_the_documentation() {
    let one = number_from_env("ORCH_CASE");
    let first = number_from_env("ORCH_FIRST").unwrap_or(0);
    let seeds = one.map_or(first..first + number_from_env("ORCH_CASES").unwrap_or(CASES), |seed| seed..seed + 1);
    let next = AtomicU64::new(seeds.start);
    let [same, sessions, open, refused] = [const { AtomicU64::new(0) }; 4];
    let work = || {
        let harness = Harness::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let case = Case::of(seed);
            match case.run(&harness, &format!("case-{seed}")) {
                Verdict::Same(count) => {
                    same.fetch_add(1, Ordering::Relaxed);
                    sessions.fetch_add(u64::from(count), Ordering::Relaxed);
                }
                Verdict::Open => drop(open.fetch_add(1, Ordering::Relaxed)),
                Verdict::Refused(why) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    if one.is_some() {
                        println!("refused: {why}\n{case:#?}");
                    }
                }
                Verdict::Differs(wrong) => {
                    let (small, words) = case.shrink(&harness);
                    let words = if words.is_empty() { wrong } else { words };
                    panic!("case {seed}:\n{}\n{small}", words.join("\n"));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let [same, sessions, open, refused] = [same, sessions, open, refused].map(AtomicU64::into_inner);
    println!(
        "{same} cases as the model says, in {sessions} sessions; {open} with a choice; {refused} refused by the check"
    );
    assert!(refused * 10 <= seeds.end - seeds.start, "the check refuses too many: {refused}");
    assert!(one.is_some() || open * 4 <= seeds.end - seeds.start, "too many leave a choice: {open}");
}
