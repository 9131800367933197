//! Estimates the requests of an agent step: their length in tokens, and their cost.

use crate::model::name::{self, LOCAL_PROVIDER};
use crate::model::{ChatRequest, ModelRef, Usage};

use super::abstract_env::AbstractEnv;
use super::walk::ForecastWalk;
use super::{CostEstimate, Range, RequestEstimate};
use crate::engine::PlannedModel;
use crate::engine::agent_tools::AgentTools;
use crate::engine::message::RenderedPrompt;
use crate::engine::node::{AgentNode, ArtifactType, PlanNode};
use crate::engine::request_size::max_text_usage;

/// Bytes per token of natural language, for lower bounds.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens of the instruction in a re-ask.
const RE_ASK_TOKENS: u64 = 400;
/// Tokens that the chat format adds around the texts.
const MARKUP_TOKENS: u64 = 8;
/// A number of tokens that costs more than zero unless the model is free.
const SAMPLE_TOKENS: u64 = 1_000_000;

impl ForecastWalk<'_, '_> {
    /// Estimates the requests of one execution of the step, such as for one item in one iteration. `is_known` is
    /// whether the values of all variables in the requests are known.
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
        let max_calls = u64::from(agent.re_asks) + u64::from(turns);
        let requires_call = agent.tools.as_deref().is_some_and(AgentTools::requires_call);
        let calls = Range { min: if requires_call { max_calls.min(2) } else { 1 }, max: Some(max_calls) };
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
        let (max_reply, min_output) = (max_reply_tokens(node, agent), min_reply_tokens(node));
        let calls = estimate.calls.max.unwrap_or(1);
        // The replies do not depend on the values in the request.
        estimate.output = Range { min: min_output, max: Some(max_reply.saturating_mul(calls)) };
        let Some(smallest_request) = smallest_request.as_ref().or(placeholder_request.as_ref()) else { return };
        let unknown_tokens = if is_known { Some(0) } else { env.max_read_tokens(node) };
        let largest_known_request = placeholder_request.as_ref().unwrap_or(smallest_request);
        let first_input = max_text_usage(largest_known_request).input.saturating_add(MARKUP_TOKENS);
        // The tokens of files do not follow from the plan, so the upper bound of a request with files stays open.
        let unknown_tokens = unknown_tokens.filter(|_| !largest_known_request.has_files());
        let first_input = unknown_tokens.map(|unknown_tokens| first_input.saturating_add(unknown_tokens));
        let min_input = min_request_tokens(smallest_request);
        let sum = |inputs: Vec<u64>| inputs.into_iter().fold(0_u64, u64::saturating_add);
        let max_input = self.max_inputs(agent, first_input, calls, max_reply).map(sum);
        estimate.input = Range { min: min_input, max: max_input };
        let reserved = max_text_usage(smallest_request);
        estimate.reserved_tokens = reserved.total();
        let cost = |model: &PlannedModel, input, output| {
            let usage = Usage { input, output, ..Usage::default() };
            self.models.cost_of(&model.priced_model()?, &usage)
        };
        estimate.reserved_usd = cost(model, reserved.input, reserved.output);
        let min_cost = cost(model, min_input, min_output);
        let is_free = agent.models.iter().all(|model| cost(model, SAMPLE_TOKENS, SAMPLE_TOKENS) == Some(0.0));
        let max_cost = |model: &PlannedModel| {
            if is_free {
                return Some(0.0);
            }
            let max_reply = model_reply_bound(node, agent, model);
            let inputs = self.max_inputs(agent, first_input, calls, max_reply)?;
            inputs.into_iter().map(|input| cost(model, input, max_reply)).sum::<Option<f64>>()
        };
        let max_cost = agent.models.iter().map(max_cost).try_fold(0.0_f64, |highest, cost| Some(highest.max(cost?)));
        estimate.cost = min_cost.map(|min_cost| CostEstimate { min: min_cost, max: max_cost });
        let window = self.models.context_window(&model.reference);
        let first_reply = model_reply_bound(node, agent, model);
        estimate.exceeded_context_window = window
            .filter(|window| first_input.is_some_and(|first_input| first_input.saturating_add(first_reply) > *window));
    }

    /// The maximum input of each of the requests to a model with this upper bound of a reply, in tokens; `None` if
    /// nothing limits it.
    fn max_inputs(&self, agent: &AgentNode, first_input: Option<u64>, calls: u64, max_reply: u64) -> Option<Vec<u64>> {
        if agent.tools.is_some() {
            // The results of tools may have any size, so only the context window limits the requests.
            let mut windows = agent.models.iter().map(|model| self.models.context_window(&model.reference));
            let largest = windows.try_fold(0, |largest: u64, window| Some(largest.max(window?)))?;
            return Some(vec![largest; usize::try_from(calls).ok()?]);
        }
        let first_input = first_input?;
        Some(re_ask_sizes(calls, max_reply).map(|extra| first_input.saturating_add(extra)).collect())
    }
}

/// Returns the upper bound of one reply of an agent step, in tokens: the largest bound of its models.
pub(super) fn max_reply_tokens(node: &PlanNode, agent: &AgentNode) -> u64 {
    let bounds = agent.models.iter().map(|model| model_reply_bound(node, agent, model));
    bounds.max().unwrap_or_else(|| u64::from(agent.max_output_tokens))
}

/// Returns the upper bound of one reply of a model. The replies of an embedded model have a limit of their own, and the
/// grammar of the schema may allow only shorter ones. With tools, a reply may have calls in place of the value.
fn model_reply_bound(node: &PlanNode, agent: &AgentNode, model: &PlannedModel) -> u64 {
    let limit = u64::from(name::max_reply_tokens(&model.reference, agent.max_output_tokens));
    let grammar_bytes = match node.output.as_ref().map(|output| &output.artifact_type) {
        Some(ArtifactType::Json(schema)) if model.reference.provider == LOCAL_PROVIDER && agent.tools.is_none() => {
            schema.max_constrained_bytes()
        }
        Some(ArtifactType::Json(_) | ArtifactType::Text) | None => None,
    };
    // A token has at least one byte, and one more token ends the reply.
    grammar_bytes.map_or(limit, |bytes| limit.min(bytes.saturating_add(1)))
}

/// Returns by how much each of these calls is longer than the first: a re-ask repeats the whole conversation, including
/// the replies so far.
fn re_ask_sizes(calls: u64, max_reply: u64) -> impl Iterator<Item = u64> {
    (0..calls).map(move |call| call.saturating_mul(max_reply.saturating_add(RE_ASK_TOKENS)))
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
    let bytes = match node.output.as_ref().map(|output| &output.artifact_type) {
        Some(ArtifactType::Json(schema)) => schema.smallest_value().to_string().len(),
        Some(ArtifactType::Text) | None => 1,
    };
    u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}
