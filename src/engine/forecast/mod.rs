//! What a run would do, told before it does it: the same plan, walked without asking anybody.
//!
//! What is given to the run is known. What a step produces is not: its schema stands for it, as a value whose
//! parts say what they are (for showing), as the least value that fits, and as a bound (for measuring). So every
//! figure is a range. That nothing fails is assumed: a request that fails costs nothing, as a rule.

mod ask;
mod items;
mod limits;
mod show;
mod walk;
mod world;

use serde_json::Value;

use crate::agent::ModelRegistry;
use crate::model::event::StepKind;
use crate::model::{Fingerprint, ModelRef, StepKey};
use crate::schema::Schema;

use super::plan::Plan;

pub use limits::{LimitForecast, Outlook};

/// A number that is not known exactly; without an end when nothing bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// At least so much.
    pub least: u64,
    /// At most so much.
    pub most: Option<u64>,
}

/// US dollars, as far as prices are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostEstimate {
    /// At least so much.
    pub least: f64,
    /// At most so much.
    pub most: Option<f64>,
}

/// What would become of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// It runs.
    Runs,
    /// It may run; what it depends on.
    MayRun(String),
    /// It does not run; why.
    Skipped(String),
    /// It fails before it does anything; why.
    Fails(String),
    /// An earlier run's result is taken.
    Kept,
}

/// A step of the plan, with those inside groups each told once.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// Where it is: ids joined by `/`.
    pub step: StepKey,
    /// Its kind.
    pub kind: StepKind,
    /// What becomes of it.
    pub prospect: Prospect,
    /// How often it runs, over all items and rounds.
    pub times: Range,
    /// How many of these are results of earlier runs.
    pub kept: u64,
    /// What it runs over, and until when.
    pub each: Option<String>,
    /// The artifacts that it reads, optional ones with `?`.
    pub reads: Vec<String>,
    /// The artifact that it produces.
    pub output: Option<String>,
    /// The file that shows the artifact, relative to the workspace.
    pub path: Option<String>,
    /// What is said or done, as far as it is known.
    pub texts: Vec<PromptEstimate>,
    /// What is asked of whom, of an agent's step.
    pub asks: Option<RequestEstimate>,
}

/// A text of a step, such as its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptEstimate {
    /// What it is: `prompt`, `message`, `command`, `question`, `files`.
    pub what: &'static str,
    /// The text, or why there is none yet.
    pub text: Result<String, String>,
    /// Whether it is what will be said, word for word.
    pub exact: bool,
}

/// What an agent's step asks, over all its items and rounds.
#[derive(Clone, Debug)]
pub struct RequestEstimate {
    /// The agent.
    pub agent: String,
    /// The models, fallbacks last.
    pub models: Vec<ModelRef>,
    /// Whether a program stands in the model's place: what it asks of its model is its own affair.
    pub program: bool,
    /// Requests.
    pub calls: Range,
    /// Tokens in.
    pub input: Range,
    /// Tokens out.
    pub output: Range,
    /// Dollars; `None` when no price is known.
    pub cost: Option<CostEstimate>,
    /// Tokens of the turns of a program, in and out together, as its agent says.
    pub turns: Option<Range>,
    /// What the first request reserves of a budget, in tokens.
    pub reserves: u64,
    /// The same in dollars.
    pub reserves_usd: Option<f64>,
    /// How many tokens the model takes with its reply, if the first request may be longer.
    pub too_long_for: Option<u64>,
}

/// Finds a result of an earlier run.
pub type Reuse<'a> = dyn FnMut(&Fingerprint) -> Option<Value> + 'a;

/// Tells what a run of a plan would do: `open` are inputs that are not given yet, and `reuse` finds results of
/// earlier runs, where they may be taken.
pub fn forecast(
    plan: &Plan,
    open: &[(String, Schema)],
    models: &ModelRegistry,
    reuse: &mut Reuse<'_>,
) -> Vec<Foreseen> {
    walk::ForecastWalk { plan, models, reuse, found: Vec::new() }.run(open)
}

impl Range {
    /// Exactly so much.
    pub fn exactly(number: u64) -> Self {
        Self { least: number, most: Some(number) }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let most = self.most.zip(other.most).map(|(a, b)| a.saturating_add(b));
        Self { least: self.least.saturating_add(other.least), most }
    }

    /// So often.
    #[must_use]
    pub fn times(self, times: Self) -> Self {
        let most = match (self.most, times.most) {
            (Some(0), _) | (_, Some(0)) => Some(0),
            (most, times) => most.zip(times).map(|(a, b)| a.saturating_mul(b)),
        };
        Self { least: self.least.saturating_mul(times.least), most }
    }
}

impl CostEstimate {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most.zip(other.most).map(|(a, b)| a + b) }
    }

    /// So often.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "steps run far less than 2^52 times")]
    pub fn times(self, times: Range) -> Self {
        let most = if times.most == Some(0) {
            Some(0.0)
        } else {
            self.most.zip(times.most).map(|(cost, times)| cost * times as f64)
        };
        Self { least: self.least * times.least as f64, most }
    }
}

impl Foreseen {
    /// How many groups it is inside of.
    pub fn depth(&self) -> usize {
        self.step.ancestors().len()
    }

    /// Takes in another item of the same step.
    fn add(&mut self, other: Self) {
        self.times = self.times.plus(other.times);
        self.kept += other.kept;
        if self.prospect != other.prospect {
            self.prospect = Prospect::MayRun("it depends on the item".to_owned());
        }
        match (&mut self.asks, other.asks) {
            (Some(own), Some(other)) => own.add(&other),
            (own @ None, other) => *own = other,
            (Some(_), None) => {}
        }
    }

    /// The same, if it runs so often.
    fn times(&mut self, times: Range) {
        self.times = self.times.times(times);
        if let Some(asks) = &mut self.asks {
            asks.calls = asks.calls.times(times);
            asks.input = asks.input.times(times);
            asks.output = asks.output.times(times);
            asks.cost = asks.cost.map(|cost| cost.times(times));
            asks.turns = asks.turns.map(|tokens| tokens.times(times));
        }
    }
}

impl RequestEstimate {
    fn add(&mut self, other: &Self) {
        self.calls = self.calls.plus(other.calls);
        self.input = self.input.plus(other.input);
        self.output = self.output.plus(other.output);
        self.cost = self.cost.zip(other.cost).map(|(a, b)| a.plus(b));
        self.turns = self.turns.zip(other.turns).map(|(a, b)| a.plus(b));
    }
}
