//! What a pipeline means, held against a model of the documentation that knows nothing of the engine.
//!
//! Pipelines, outcomes, places at which the process dies or is asked to stop, and edits of the files before the next one are made by
//! chance from a seed. Each is run by
//! the program's own code over a real journal, once whole or again and again until it is done, and every
//! session must make the very calls that the model says, at the same times, and leave the same statuses,
//! artifacts and files. `ORCH_CASES=10000` runs more of them, `ORCH_CASE=SEED` one alone;
//! `ORCH_TABLE=1` runs the whole table of combinations.

#![allow(
    clippy::unused_self,
    clippy::single_match_else,
    clippy::type_complexity,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    reason = "the model reads as the documentation does, whatever that makes of its functions"
)]

mod board;
mod compare;
mod edits;
mod generate;
mod groups;
mod leaves;
mod memory;
mod named;
mod pipe;
mod reference;
mod script;
mod stage;
mod table;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use edits::Edit;
use generate::{Choices, smaller};
use memory::Memory;
use pipe::Pipe;
use reference::{Env, How, Model, NEVER, Ran};
use script::Script;
use stage::{Came, Stage, Until};

/// How many cases are run when nothing else is said.
const CASES: u64 = 300;
/// Sessions after which a run must be done.
const SESSIONS: u32 = 4;

/// One run from its start to its end.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) pipe: Pipe,
    pub(crate) script: Script,
    pub(crate) lenient: bool,
    /// After how many calls each of the first sessions dies.
    pub(crate) crashes: Vec<usize>,
    /// Which of these are stopped in order instead.
    pub(crate) stops: Vec<bool>,
    /// What is edited before the second session, the third, and so on.
    pub(crate) edits: Vec<Option<Edit>>,
}

/// What became of a case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every session was as the model says; how many there were.
    Same(u32),
    /// More than one outcome is right, from some session on.
    Open,
    /// The check refuses the files.
    Refused(String),
    Differs(Vec<String>),
}

impl Case {
    fn of(seed: u64) -> Self {
        let mut choices = Choices::new(seed);
        let pipe = choices.pipe();
        let mended = 2 + u32::try_from(choices.below(2)).unwrap();
        let script =
            Script { seed, trouble: [0, 15, 35][usize::try_from(choices.below(3)).unwrap()], mended, chosen: None };
        let lenient = choices.of_hundred(25);
        let many = if choices.of_hundred(50) { choices.below(3) } else { 0 };
        let crashes: Vec<usize> = (0..many).map(|_| usize::try_from(choices.below(12)).unwrap()).collect();
        let edits = (1..SESSIONS).map(|_| choices.edit()).collect();
        let stops = crashes.iter().map(|_| choices.of_hundred(50)).collect();
        Self { pipe, script, lenient, crashes, stops, edits }
    }

    /// Runs the case, session by session.
    pub(crate) fn run(&self, stage: &Stage, name: &str) -> Verdict {
        let mut plan = match stage.plan(&self.pipe, self.lenient) {
            Ok(plan) => plan,
            Err(why) => return Verdict::Refused(why),
        };
        let mut pipe = self.pipe.clone();
        let mut run = stage.begin(name);
        let mut memory = Memory::default();
        for session in 1..=SESSIONS {
            if let Some(edit) = self.edit_before(session) {
                let edited = edit.of(&pipe, session);
                // What the check refuses nobody resumes.
                if let Ok(new) = stage.plan(&edited, self.lenient) {
                    (plan, pipe) = (new, edited);
                }
            }
            if self.reference(&pipe, session, (&memory, None)).1 {
                return Verdict::Open;
            }
            let place = session as usize - 1;
            let until = match (self.crashes.get(place), self.stops.get(place)) {
                (Some(calls), Some(true)) => Until::Stop(*calls),
                (Some(calls), _) => Until::Crash(*calls),
                (None, _) => Until::End,
            };
            let came = stage.session(&mut run, &plan, self.script, session, until);
            let (ran, open) = self.reference(&pipe, session, (&memory, run.stopped));
            if open {
                return Verdict::Open;
            }
            let until = match &came {
                Came::Ended(_) => NEVER,
                Came::Crashed(at) => *at,
            };
            memory.learn(&ran.facts, until);
            let made = run.board.as_ref().map(board::Board::made).unwrap_or_default();
            let mut wrong = compare::calls(&ran, until, &made);
            if let Came::Ended(state) = &came {
                wrong.extend(compare::differences(&pipe, &ran, state));
            }
            wrong.extend(compare::files(&memory, &run.files()));
            if !wrong.is_empty() {
                wrong.insert(0, format!("session {session}:"));
                return Verdict::Differs(wrong);
            }
            let over = matches!(came, Came::Ended(_)) && (ran.how == How::Well || session > self.script.mended);
            if over && self.edit_before(session + 1).is_none() {
                return Verdict::Same(session);
            }
        }
        Verdict::Same(SESSIONS)
    }

    /// What is edited before a session.
    fn edit_before(&self, session: u32) -> Option<Edit> {
        let place = usize::try_from(session).unwrap().checked_sub(2)?;
        self.edits.get(place).copied().flatten()
    }

    /// What a session does, as the model says; whether it leaves a choice.
    fn reference(&self, pipe: &Pipe, session: u32, (memory, stop): (&Memory, Option<u64>)) -> (Ran, bool) {
        let open = Cell::new(false);
        let model = Model { script: self.script, session, lenient: self.lenient, memory, stop, open };
        let ran = model.body("", pipe, &Env::default(), 0, NEVER);
        (ran, model.open.get())
    }

    /// The smallest case found that still differs.
    fn shrunk(mut self, stage: &Stage) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let mut tries = 0;
        let began = std::time::Instant::now();
        loop {
            let with = |pipe: Pipe| Self { pipe, ..self.clone() };
            let less = |at: usize| Self { crashes: self.crashes[..at].to_vec(), ..self.clone() };
            let plain = |at: usize| {
                let mut edits = self.edits.clone();
                edits[at].take().map(|_| Self { edits, ..self.clone() })
            };
            let fewer = (0..self.crashes.len()).map(less).chain((0..self.edits.len()).filter_map(plain));
            let all: Vec<Self> = fewer.chain(smaller(&self.pipe).into_iter().map(with)).collect();
            let next = all.into_iter().find_map(|case| {
                tries += 1;
                match case.run(stage, &format!("smaller-{tries}")) {
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
        self.pipe.files().iter().try_for_each(|(name, file)| {
            writeln!(f, "{name}: {}", file["steps"]).and_then(|()| match file.get("finally") {
                Some(finally) => writeln!(f, "finally: {finally}"),
                None => Ok(()),
            })
        })
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn generated_pipelines_do_what_the_model_of_the_documentation_says() {
    let one = number("ORCH_CASE");
    let first = number("ORCH_FIRST").unwrap_or(0);
    let seeds = one.map_or(first..first + number("ORCH_CASES").unwrap_or(CASES), |seed| seed..seed + 1);
    let next = AtomicU64::new(seeds.start);
    let [same, sessions, open, refused] = [const { AtomicU64::new(0) }; 4];
    let work = || {
        let stage = Stage::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let case = Case::of(seed);
            match case.run(&stage, &format!("case-{seed}")) {
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
                    let (small, words) = case.shrunk(&stage);
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
