//! Forecasts what a run would do, by walking its plan without making any call.
//!
//! The inputs of the run are known; the results of its steps are not. A result is represented through its schema: by a
//! placeholder whose parts name themselves (to show), by the smallest value that fits (to measure from below), and by
//! an upper bound of its size. So every figure is a range. The forecast assumes that nothing fails, since a request
//! that fails usually costs nothing.

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

/// A number between two bounds; without an upper bound when nothing limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lower bound.
    pub least: u64,
    /// The upper bound, if there is one.
    pub most: Option<u64>,
}

/// A cost in US dollars, as far as prices are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostEstimate {
    /// The lower bound.
    pub least: f64,
    /// The upper bound, if it is known.
    pub most: Option<f64>,
}

/// What would happen to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// It runs.
    Runs,
    /// It may run; the text names the condition.
    MayRun(String),
    /// It does not run; the text says why.
    Skipped(String),
    /// It fails before it does anything; the text says why.
    Fails(String),
    /// A result of an earlier run is reused.
    Kept,
}

/// The forecast of one step. Steps inside groups have their own entries, one for all items and rounds.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The key of the step: ids joined by `/`.
    pub step: StepKey,
    /// The kind of the step.
    pub kind: StepKind,
    /// What would happen to it.
    pub prospect: Prospect,
    /// How often it runs, over all items and rounds.
    pub times: Range,
    /// How many of these executions reuse a result of an earlier run.
    pub kept: u64,
    /// The list or loop that it runs over, in words.
    pub each: Option<String>,
    /// The artifacts that it reads, optional ones with `?`.
    pub reads: Vec<String>,
    /// The artifact that it produces.
    pub output: Option<String>,
    /// The workspace file that shows the artifact, as a relative path.
    pub path: Option<String>,
    /// The prompts, commands or questions, as far as they are known.
    pub texts: Vec<PromptEstimate>,
    /// The requests, if it is an agent step.
    pub asks: Option<RequestEstimate>,
}

/// A text of a step, such as its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptEstimate {
    /// What it is: `prompt`, `message`, `command`, `question`, `files`.
    pub what: &'static str,
    /// The text, or why it is not known yet.
    pub text: Result<String, String>,
    /// Whether the text is exactly what the run will use.
    pub exact: bool,
}

/// The estimated requests of an agent step, over all its items and rounds.
#[derive(Clone, Debug)]
pub struct RequestEstimate {
    /// The agent.
    pub agent: String,
    /// The models, fallbacks last.
    pub models: Vec<ModelRef>,
    /// Whether it is a CLI agent, whose requests to its model orch can't know.
    pub program: bool,
    /// The number of requests.
    pub calls: Range,
    /// Input tokens.
    pub input: Range,
    /// Output tokens.
    pub output: Range,
    /// The cost; `None` when no price is known.
    pub cost: Option<CostEstimate>,
    /// The tokens of a CLI agent's turns, input and output together, by the agent's `estimate:`.
    pub turns: Option<Range>,
    /// The tokens that the first request reserves from a budget.
    pub reserves: u64,
    /// The US dollars that the first request reserves.
    pub reserves_usd: Option<f64>,
    /// The model's context window in tokens, if the first request and its reply may exceed it.
    pub too_long_for: Option<u64>,
}

/// Looks up a result of an earlier run by its fingerprint.
pub type Reuse<'a> = dyn FnMut(&Fingerprint) -> Option<Value> + 'a;

/// Forecasts a run of a plan. `open` are inputs that are not given yet; `reuse` looks up results of earlier runs, if
/// they may be reused.
pub fn forecast(
    plan: &Plan,
    open: &[(String, Schema)],
    models: &ModelRegistry,
    reuse: &mut Reuse<'_>,
) -> Vec<Foreseen> {
    walk::ForecastWalk { plan, models, reuse, found: Vec::new() }.run(open)
}

impl Range {
    /// A range of exactly this number.
    pub fn exactly(number: u64) -> Self {
        Self { least: number, most: Some(number) }
    }

    /// Returns the sum of both ranges.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let most = self.most.zip(other.most).map(|(a, b)| a.saturating_add(b));
        Self { least: self.least.saturating_add(other.least), most }
    }

    /// Returns the range multiplied by another one.
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
    /// Returns the sum of both estimates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most.zip(other.most).map(|(a, b)| a + b) }
    }

    /// Returns the estimate multiplied by a range.
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
    /// How many groups contain it.
    pub fn depth(&self) -> usize {
        self.step.ancestors().len()
    }

    /// Adds the forecast of another item of the same step.
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

    /// Multiplies the forecast by how often the step runs.
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
