//! Predicts what a resume would do, without doing it: the same interpreter runs over recorded events alone.
//!
//! A step whose result can't be reused is reported as one that runs. Later steps get its old result, so that they can
//! be predicted too: if they read it, they may run again. Nothing is written and no call is made.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::durable::{
    BeginOutcome, Branch, BranchOutcome, Call, CallOutcome, Durable, ExecutionId, Interrupt, StepFact, StepSpec, Wait,
    WaitOutcome,
};
use crate::model::event::{Event, Fact};
use crate::model::{CallKey, StepKey};

use super::branches;
use super::finally_steps::FinallySteps;
use super::halt::Halted;
use super::index::Index;

/// What a resume would do with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepPrediction {
    /// It reuses the recorded result.
    Keep,
    /// It runs the step, for this reason.
    Run(String),
    /// It runs the step if an input changes; names that input.
    Maybe(String),
    /// It skips the step, for this reason.
    Skip(String),
}

/// A [`Durable`] that only records predictions.
#[derive(Default)]
pub struct DryRunDurable {
    halted: Halted,
    closing: FinallySteps,
    inner: Mutex<DryRunState>,
}

#[derive(Default)]
struct DryRunState {
    index: Index,
    fates: Vec<(StepKey, StepPrediction)>,
    /// The reusable results by the `seq` of their events, and whether the reuse is certain.
    standing: HashMap<u64, bool>,
    /// Artifacts whose value is unknown until the steps that would run have run.
    open: BTreeSet<String>,
}

impl DryRunDurable {
    /// A dry run over the events of a run; `from` is the step to re-run, as for a resume.
    pub fn new(events: &[Event], from: Option<&StepKey>) -> Self {
        let mut index = Index::of(events);
        if let Some(step) = from {
            index.forget(step, u64::MAX);
        }
        Self { inner: Mutex::new(DryRunState { index, ..DryRunState::default() }), ..Self::default() }
    }

    /// The prediction for each step, in the order in which the interpreter reached them.
    pub fn fates(&self) -> Vec<(StepKey, StepPrediction)> {
        self.lock().fates.clone()
    }

    /// The reusable results by the `seq` of their events, and whether the reuse is certain: some are reusable only if
    /// their inputs turn out the same.
    pub fn standing(&self) -> HashMap<u64, bool> {
        self.lock().standing.clone()
    }

    fn lock(&self) -> MutexGuard<'_, DryRunState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_step(&self, open: &StepSpec) -> BeginOutcome {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let is_group = open.parts.is_empty();
        // Inputs count too, even an optional one that is absent until its step has run.
        let given = open.parts.iter().filter_map(|part| part.name.strip_prefix("input "));
        let reads = open.reads.iter().map(String::as_str).chain(given);
        let unsure: Vec<&str> = reads.filter(|name| inner.open.contains(*name)).collect();
        let old = inner.index.last_result(&open.step).cloned();
        let closes = self.closing.around(&open.step).is_some();
        let claimed = if closes { None } else { inner.index.claim(open) };
        let fate = match (&claimed, unsure.first()) {
            _ if closes => StepPrediction::Run("`finally` runs in each session".to_owned()),
            (Some(_), None) => StepPrediction::Keep,
            (_, Some(name)) => StepPrediction::Maybe(format!("input {name} may change")),
            (None, None) => {
                let why = inner.index.why(open).unwrap_or_else(|| "it did not run yet".to_owned());
                let again = !inner.index.replies(open).is_empty();
                StepPrediction::Run(if again {
                    format!("{why}; asks only if what is on record does not fit")
                } else {
                    why
                })
            }
        };
        let certain = fate == StepPrediction::Keep;
        if !certain {
            inner.open.extend(open.output.clone());
        }
        if !is_group {
            inner.fates.push((open.step.clone(), fate));
        }
        let Some((completed, artifact)) = claimed else { return BeginOutcome::Reusable(old.map(Box::new), 0) };
        inner.standing.insert(completed, certain);
        BeginOutcome::Reusable(artifact.map(Box::new), inner.index.mark(completed))
    }

    fn tell(&self, step: StepKey, fate: StepPrediction) {
        self.lock().fates.push((step, fate));
    }
}

impl Durable for DryRunDurable {
    fn begin<'a>(&'a self, open: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
        async move { Ok(self.open_step(open)) }.boxed()
    }

    fn call(&self, _: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
        // `begin` returns a result for every step, so no step makes a call.
        async { Err(Interrupt::Cancelled) }.boxed()
    }

    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
        match fact {
            StepFact::Skipped(fact) => {
                let missing = fact.reason.strip_prefix("input ").and_then(|rest| rest.split(' ').next());
                let unknown = missing.is_some_and(|name| self.lock().open.contains(name));
                let fate = if unknown {
                    StepPrediction::Run("what it reads is not there yet".to_owned())
                } else {
                    StepPrediction::Skip(fact.reason)
                };
                self.tell(fact.step, fate);
            }
            StepFact::Failed(fact) => {
                // The step failed here because it reads a value that does not exist yet. A real run knows the value by
                // then.
                self.tell(fact.step, StepPrediction::Run("what it depends on is not known yet".to_owned()));
            }
            StepFact::Finally(steps) => self.closing.begin(steps),
            StepFact::Started(_) | StepFact::Parsed(_) | StepFact::Completed(_) => {}
        }
        async { Ok(0) }.boxed()
    }

    fn branches<'a>(
        &'a self,
        group: StepKey,
        list: Vec<Branch<'a>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
        branches::run(&self.halted, || true, group, list, limit).boxed()
    }

    fn wait(&self, _: CallKey, _: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        async { Ok(WaitOutcome::Elapsed) }.boxed()
    }
}

/// The steps that have a recorded result and are no longer in the plan.
pub fn gone(events: &[Event], planned: &[StepKey]) -> Vec<StepKey> {
    let mut found: Vec<StepKey> = Vec::new();
    for event in events {
        if let Fact::StepCompleted(fact) = &event.fact {
            let place = fact.step.place();
            if !planned.contains(&place) && !found.contains(&place) {
                found.push(place);
            }
        }
    }
    found
}
