//! Estimates the requests of an agent step: their length in tokens, and their cost.

use crate::model::{ChatRequest, ModelRef, Usage};

use super::walk::ForecastWalk;
use super::world::AbstractEnv;
use super::{CostEstimate, Range, RequestEstimate};
use crate::engine::gate;
use crate::engine::message::RenderedPrompt;
use crate::engine::node::{AgentNode, Contract, PlanNode};

/// Bytes per token of plain language, for lower estimates.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens of the instruction in a re-ask.
const RE_ASK: u64 = 400;
/// Tokens of the chat format's markup around the texts.
const MARKS: u64 = 8;
/// A token count large enough that a price other than zero shows.
const MILLION: u64 = 1_000_000;

impl ForecastWalk<'_, '_> {
    /// Estimates the requests of one execution of the step, for one item in one round.
    pub(super) fn asks(&self, node: &PlanNode, agent: &AgentNode, world: &AbstractEnv, known: bool) -> RequestEstimate {
        let models: Vec<ModelRef> = agent.models.iter().map(|model| model.reference.clone()).collect();
        let program = agent.models.first().is_some_and(|model| model.program.is_some());
        let calls = Range { least: 1, most: Some(u64::from(agent.re_asks) + 1) };
        let blank = Range { least: 0, most: None };
        let mut asks = RequestEstimate {
            agent: agent.agent.clone(),
            models,
            program,
            calls,
            input: blank,
            output: blank,
            cost: None,
            turns: None,
            reserves: 0,
            reserves_usd: None,
            too_long_for: None,
        };
        if program {
            estimated(&mut asks, agent);
        } else {
            self.measure(&mut asks, node, agent, world, known);
        }
        asks
    }

    fn measure(
        &self,
        asks: &mut RequestEstimate,
        node: &PlanNode,
        agent: &AgentNode,
        world: &AbstractEnv,
        known: bool,
    ) {
        let Some(model) = agent.models.first() else { return };
        let request = |scope| {
            let asked = RenderedPrompt::render(&self.plan.templates, node, agent, scope).ok()?;
            Some(asked.request(node, agent, model))
        };
        let (shown, small) = (request(&world.shown), request(&world.least));
        let Some(small) = small.as_ref().or(shown.as_ref()) else { return };
        let unknown = if known { Some(0) } else { world.most_read(node) };
        let reply = u64::from(agent.max_output_tokens);
        let large = shown.as_ref().unwrap_or(small);
        let first = gate::most(large).total().saturating_sub(reply).saturating_add(MARKS);
        let first = unknown.map(|unknown| first.saturating_add(unknown));
        let (least_in, least_out) = (tokens(small), least_reply(node));
        // Each re-ask repeats the whole conversation, including the replies so far.
        let sizes = |calls: u64| (0..calls).map(move |call| call.saturating_mul(reply.saturating_add(RE_ASK)));
        let calls = asks.calls.most.unwrap_or(1);
        let most_in = first.map(|first| sizes(calls).map(|more| first.saturating_add(more)).sum());
        asks.input = Range { least: least_in, most: most_in };
        asks.output = Range { least: least_out, most: Some(reply.saturating_mul(calls)) };
        asks.reserves = gate::most(small).total();
        let usage = |input, output| Usage { input, output, ..Usage::default() };
        asks.reserves_usd = self.models.cost(&model.reference, &usage(asks.reserves.saturating_sub(reply), reply));
        let least = self.models.cost(&model.reference, &usage(least_in, least_out));
        let free = asks.models.iter().all(|model| self.models.cost(model, &usage(MILLION, MILLION)) == Some(0.0));
        let most = |model: &ModelRef| {
            if free {
                return Some(0.0);
            }
            let first = first?;
            let each = sizes(calls).map(|more| self.models.cost(model, &usage(first.saturating_add(more), reply)));
            each.sum::<Option<f64>>()
        };
        let most = asks.models.iter().map(most).try_fold(0.0_f64, |highest, cost| Some(highest.max(cost?)));
        asks.cost = least.map(|least| CostEstimate { least, most });
        let window = self.models.window(&model.reference);
        asks.too_long_for = window.filter(|window| first.is_some_and(|first| first.saturating_add(reply) > *window));
    }
}

/// Fills in what turns of a CLI agent take, by the agent's `estimate:`.
fn estimated(asks: &mut RequestEstimate, agent: &AgentNode) {
    let most = agent.models.first().map(|model| model.estimate).unwrap_or_default();
    let up_to = |each: u64| Range { least: 0, most: Some(each) }.times(Range { least: 1, ..asks.calls });
    asks.turns = most.tokens.map(up_to);
    asks.cost = most.usd.map(|usd| CostEstimate { least: 0.0, most: Some(usd) }.times(asks.calls));
    (asks.reserves, asks.reserves_usd) = (most.tokens.unwrap_or(0), most.usd);
}

/// Returns a lower estimate of the tokens of a request.
fn tokens(request: &ChatRequest) -> u64 {
    let messages: usize = request.messages.iter().map(|message| message.content.len()).sum();
    u64::try_from((request.system.len() + messages) / BYTES_PER_TOKEN).unwrap_or(u64::MAX)
}

fn least_reply(node: &PlanNode) -> u64 {
    let bytes = match node.output.as_ref().map(|output| &output.contract) {
        Some(Contract::Json(schema)) => schema.least().to_string().len(),
        Some(Contract::Text) | None => 1,
    };
    u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}
