//! Estimates the requests of an agent step: their length in tokens, and their cost.

use crate::model::{ChatRequest, ModelRef, Usage};

use super::abstract_env::AbstractEnv;
use super::walk::ForecastWalk;
use super::{CostEstimate, Range, RequestEstimate};
use crate::engine::PlannedModel;
use crate::engine::message::RenderedPrompt;
use crate::engine::node::{AgentNode, Contract, PlanNode};
use crate::engine::rate_limit;

/// Bytes per token of natural language, for lower bounds.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens of the instruction in a re-ask.
const RE_ASK_TOKENS: u64 = 400;
/// Tokens that the chat format adds around the texts.
const MARKUP_TOKENS: u64 = 8;
/// A number of tokens that costs more than zero unless the model is free.
const SAMPLE_TOKENS: u64 = 1_000_000;

impl ForecastWalk<'_, '_> {
    /// Estimates the requests of one execution of the step, such as for one item in one round. `is_known` is whether
    /// the values of all variables in the requests are known.
    pub(super) fn estimate_requests(
        &self,
        node: &PlanNode,
        agent: &AgentNode,
        env: &AbstractEnv,
        is_known: bool,
    ) -> RequestEstimate {
        let models: Vec<ModelRef> = agent.models.iter().map(|model| model.reference.clone()).collect();
        let is_cli_agent = agent.models.first().is_some_and(|model| model.program.is_some());
        let turns = agent.tools.as_ref().map_or(1, |tools| tools.max_turns);
        let calls = Range { min: 1, max: Some(u64::from(agent.re_asks) + u64::from(turns)) };
        let unbounded = Range { min: 0, max: None };
        let mut estimate = RequestEstimate {
            agent: agent.agent.clone(),
            models,
            is_cli_agent,
            calls,
            input: unbounded,
            output: unbounded,
            cost: None,
            turn_tokens: None,
            reserved_tokens: 0,
            reserved_usd: None,
            exceeded_context_window: None,
        };
        if is_cli_agent {
            fill_turn_estimate(&mut estimate, agent);
        } else {
            self.fill_model_estimate(&mut estimate, node, agent, env, is_known);
        }
        estimate
    }

    /// Fills in the usage of requests to a model, from the rendered texts.
    fn fill_model_estimate(
        &self,
        estimate: &mut RequestEstimate,
        node: &PlanNode,
        agent: &AgentNode,
        env: &AbstractEnv,
        is_known: bool,
    ) {
        let Some(model) = agent.models.first() else { return };
        let request = |scope| {
            let prompt = RenderedPrompt::render(&self.plan.templates, node, agent, scope).ok()?;
            Some(prompt.first_request(node, agent, model))
        };
        let (placeholder_request, smallest_request) = (request(&env.placeholders), request(&env.smallest));
        let Some(smallest_request) = smallest_request.as_ref().or(placeholder_request.as_ref()) else { return };
        let unknown_tokens = if is_known { Some(0) } else { env.max_read_tokens(node) };
        let max_reply = u64::from(agent.max_output_tokens);
        let largest_known_request = placeholder_request.as_ref().unwrap_or(smallest_request);
        let first_input = rate_limit::max_text_usage(largest_known_request).input.saturating_add(MARKUP_TOKENS);
        // The tokens of files do not follow from the plan, so the upper bound of a request with files stays open.
        let unknown_tokens = unknown_tokens.filter(|_| !largest_known_request.has_files());
        let first_input = unknown_tokens.map(|unknown_tokens| first_input.saturating_add(unknown_tokens));
        let (min_input, min_output) = (min_request_tokens(smallest_request), min_reply_tokens(node));
        let calls = estimate.calls.max.unwrap_or(1);
        let max_inputs = self.max_inputs(agent, first_input, calls);
        let sum = |inputs: &Vec<u64>| inputs.iter().fold(0, |sum: u64, input| sum.saturating_add(*input));
        let max_input = max_inputs.as_ref().map(sum);
        estimate.input = Range { min: min_input, max: max_input };
        estimate.output = Range { min: min_output, max: Some(max_reply.saturating_mul(calls)) };
        estimate.reserved_tokens = rate_limit::max_text_usage(smallest_request).total();
        let cost = |model: &PlannedModel, input, output| {
            let usage = Usage { input, output, ..Usage::default() };
            self.models.cost_of(&model.price_basis()?, &usage)
        };
        estimate.reserved_usd = cost(model, estimate.reserved_tokens.saturating_sub(max_reply), max_reply);
        let min_cost = cost(model, min_input, min_output);
        let is_free = agent.models.iter().all(|model| cost(model, SAMPLE_TOKENS, SAMPLE_TOKENS) == Some(0.0));
        let max_cost = |model: &PlannedModel| {
            if is_free {
                return Some(0.0);
            }
            max_inputs.as_ref()?.iter().map(|input| cost(model, *input, max_reply)).sum::<Option<f64>>()
        };
        let max_cost = agent.models.iter().map(max_cost).try_fold(0.0_f64, |highest, cost| Some(highest.max(cost?)));
        estimate.cost = min_cost.map(|min_cost| CostEstimate { min: min_cost, max: max_cost });
        let window = self.models.context_window(&model.reference);
        estimate.exceeded_context_window = window
            .filter(|window| first_input.is_some_and(|first_input| first_input.saturating_add(max_reply) > *window));
    }

    /// The maximum input of each of the requests, in tokens; `None` if nothing limits it.
    fn max_inputs(&self, agent: &AgentNode, first_input: Option<u64>, calls: u64) -> Option<Vec<u64>> {
        if agent.tools.is_some() {
            // The results of tools may have any size, so only the context window limits the requests.
            let mut windows = agent.models.iter().map(|model| self.models.context_window(&model.reference));
            let largest = windows.try_fold(0, |largest: u64, window| Some(largest.max(window?)))?;
            return Some(vec![largest; usize::try_from(calls).ok()?]);
        }
        // Each re-ask repeats the whole conversation, including the replies so far.
        let max_re_ask = u64::from(agent.max_output_tokens).saturating_add(RE_ASK_TOKENS);
        let first_input = first_input?;
        Some((0..calls).map(|call| first_input.saturating_add(call.saturating_mul(max_re_ask))).collect())
    }
}

/// Fills in the usage of turns of a CLI agent, from the agent's `estimate:`.
fn fill_turn_estimate(estimate: &mut RequestEstimate, agent: &AgentNode) {
    let turn_estimate = agent.models.first().map(|model| model.estimate).unwrap_or_default();
    let turns_range = |tokens: u64| Range { min: 0, max: Some(tokens) }.times(Range { min: 1, ..estimate.calls });
    estimate.turn_tokens = turn_estimate.tokens.map(turns_range);
    estimate.cost = turn_estimate.usd.map(|usd| CostEstimate { min: 0.0, max: Some(usd) }.times(estimate.calls));
    (estimate.reserved_tokens, estimate.reserved_usd) = (turn_estimate.tokens.unwrap_or(0), turn_estimate.usd);
}

/// Returns a lower bound of the tokens of a request.
fn min_request_tokens(request: &ChatRequest) -> u64 {
    let messages: usize = request.messages.iter().map(|message| message.content.byte_len()).sum();
    u64::try_from((request.system.len() + messages) / BYTES_PER_TOKEN).unwrap_or(u64::MAX)
}

fn min_reply_tokens(node: &PlanNode) -> u64 {
    let bytes = match node.output.as_ref().map(|output| &output.contract) {
        Some(Contract::Json(schema)) => schema.smallest_value().to_string().len(),
        Some(Contract::Text) | None => 1,
    };
    u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}
