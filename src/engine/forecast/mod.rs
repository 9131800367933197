//! Forecasts a run: walks its plan without making any call.
//!
//! The forecast knows the inputs of the run, but not the results of its steps. It derives three things from the schema
//! of a result: a placeholder for display, which contains the names of the members; the smallest value that fits, for
//! lower bounds; and an upper bound of the size. So every figure is a range. The forecast assumes that nothing fails,
//! since a request that fails usually costs nothing.

mod abstract_env;
mod items;
mod limits;
mod open_members;
mod requests;
mod step_texts;
mod walk;

use serde_json::Value;

use crate::agent::ModelRegistry;
use crate::model::event::StepKind;
use crate::model::{Fingerprint, ModelRef, StepKey};
use crate::schema::Schema;

use super::plan::Plan;

pub use limits::{LimitForecast, LimitStatus};

/// A number between two bounds; the upper bound is absent if nothing limits the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lower bound.
    pub min: u64,
    /// The upper bound, if there is one.
    pub max: Option<u64>,
}

/// A cost in US dollars between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostEstimate {
    /// The lower bound.
    pub min: f64,
    /// The upper bound, if it is known.
    pub max: Option<f64>,
}

/// The prediction for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// It runs.
    Runs,
    /// It may run; the text contains the condition.
    MayRun(String),
    /// It does not run; the text is the reason.
    Skipped(String),
    /// It fails before it does anything; the text is the reason.
    Fails(String),
    /// It reuses a result of an earlier run.
    Reused,
}

/// The forecast of one step. A step inside a group has its own forecast, which covers all of its items and iterations.
#[derive(Clone, Debug)]
pub struct StepForecast {
    /// The key of the step: ids joined by `/`.
    pub step: StepKey,
    /// The kind of the step.
    pub kind: StepKind,
    /// The prediction for it.
    pub prediction: Prediction,
    /// The number of its executions, over all items and iterations.
    pub executions: Range,
    /// How many of these executions reuse a result of an earlier run.
    pub reused: u64,
    /// A phrase that describes its list or its loop.
    pub repetition: Option<String>,
    /// The artifacts that it reads; the names of optional ones end with `?`.
    pub reads: Vec<String>,
    /// The artifact that it produces.
    pub output: Option<String>,
    /// The workspace file of the artifact, as a relative path.
    pub path: Option<String>,
    /// The prompts, commands or questions, as far as they are known.
    pub texts: Vec<PromptEstimate>,
    /// The requests, if it is an agent step.
    pub requests: Option<RequestEstimate>,
}

/// A text of a step, such as its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptEstimate {
    /// Its label: `prompt`, `message`, `command`, `call`, `question` or `files`.
    pub label: &'static str,
    /// The text, or why it is not known yet.
    pub text: Result<String, String>,
    /// Whether the text is exactly what the run will use.
    pub exact: bool,
}

/// The estimated requests of an agent step, over all its items and iterations.
#[derive(Clone, Debug)]
pub struct RequestEstimate {
    /// The agent.
    pub agent: String,
    /// The models: the agent's own, then the fallbacks.
    pub models: Vec<ModelRef>,
    /// Whether it is a CLI agent. orch can't know the requests of a CLI agent to its model.
    pub is_cli_agent: bool,
    /// The number of requests.
    pub calls: Range,
    /// Input tokens.
    pub input: Range,
    /// Output tokens.
    pub output: Range,
    /// The cost; `None` if no price is known.
    pub cost: Option<CostEstimate>,
    /// The tokens of a CLI agent's turns, input and output together, from the agent's `estimate:`.
    pub turn_tokens: Option<Range>,
    /// The tokens that the first request reserves from a budget.
    pub reserved_tokens: u64,
    /// The US dollars that the first request reserves.
    pub reserved_usd: Option<f64>,
    /// The model's context window in tokens, if the first request and its reply may exceed it.
    pub exceeded_context_window: Option<u64>,
}

/// Looks up a result of an earlier run by its fingerprint.
pub type ReuseLookup<'a> = dyn FnMut(&Fingerprint) -> Option<Value> + 'a;

/// Forecasts a run of a plan. `missing_inputs` are inputs without a value yet; `reuse` looks up reusable results of
/// earlier runs.
pub fn forecast(
    plan: &Plan,
    missing_inputs: &[(String, Schema)],
    models: &ModelRegistry,
    reuse: &mut ReuseLookup<'_>,
) -> Vec<StepForecast> {
    walk::ForecastWalk { plan, models, reuse, steps: Vec::new() }.run(missing_inputs)
}

impl Range {
    /// A range of exactly this number.
    pub fn exactly(number: u64) -> Self {
        Self { min: number, max: Some(number) }
    }

    /// Returns the sum of both ranges.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let max = self.max.zip(other.max).map(|(a, b)| a.saturating_add(b));
        Self { min: self.min.saturating_add(other.min), max }
    }

    /// Returns the range multiplied by another one.
    #[must_use]
    pub fn times(self, times: Self) -> Self {
        let max = match (self.max, times.max) {
            (Some(0), _) | (_, Some(0)) => Some(0),
            (max, times) => max.zip(times).map(|(a, b)| a.saturating_mul(b)),
        };
        Self { min: self.min.saturating_mul(times.min), max }
    }
}

impl CostEstimate {
    /// Returns the sum of both estimates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { min: self.min + other.min, max: self.max.zip(other.max).map(|(a, b)| a + b) }
    }

    /// Returns the estimate multiplied by a range.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "steps run far less than 2^52 times")]
    pub fn times(self, times: Range) -> Self {
        let max = if times.max == Some(0) {
            Some(0.0)
        } else {
            self.max.zip(times.max).map(|(cost, times)| cost * times as f64)
        };
        Self { min: self.min * times.min as f64, max }
    }
}

impl StepForecast {
    /// The number of groups that contain it.
    pub fn depth(&self) -> usize {
        self.step.ancestors().len()
    }

    /// Adds the forecast of another item of the same step.
    fn add_item(&mut self, other: Self) {
        self.executions = self.executions.plus(other.executions);
        self.reused += other.reused;
        if self.prediction != other.prediction {
            self.prediction = Prediction::MayRun("it depends on the item".to_owned());
        }
        match (&mut self.requests, other.requests) {
            (Some(requests), Some(other)) => requests.add(&other),
            (requests @ None, other) => *requests = other,
            (Some(_), None) => {}
        }
    }

    /// Multiplies the forecast by the number of executions.
    fn multiply(&mut self, times: Range) {
        self.executions = self.executions.times(times);
        if let Some(requests) = &mut self.requests {
            requests.calls = requests.calls.times(times);
            requests.input = requests.input.times(times);
            requests.output = requests.output.times(times);
            requests.cost = requests.cost.map(|cost| cost.times(times));
            requests.turn_tokens = requests.turn_tokens.map(|tokens| tokens.times(times));
        }
    }
}

impl RequestEstimate {
    fn add(&mut self, other: &Self) {
        self.calls = self.calls.plus(other.calls);
        self.input = self.input.plus(other.input);
        self.output = self.output.plus(other.output);
        self.cost = self.cost.zip(other.cost).map(|(a, b)| a.plus(b));
        self.turn_tokens = self.turn_tokens.zip(other.turn_tokens).map(|(a, b)| a.plus(b));
    }
}
