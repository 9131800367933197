//! Runs the tool calls of a reply: at most a certain number, and each only as often as the repetition guard allows.
//!
//! Calls that only read run in parallel. If one of the calls may change something or needs an approval, all of them run
//! one after another. The results have the order of the calls.

use std::collections::{HashMap, VecDeque};

use crate::durable::Interrupt;
use crate::model::visible::escape_line_breaks;
use crate::model::{Digest, Failure, FailureClass};

use super::agent_tools::AgentTools;
use super::conversation::Conversation;
use super::pipeline_tools::PipelineCalls;
use super::repetition_guard::{Repetition, RepetitionGuard};
use super::tool_calls::{CallOrError, ToolTurn};
use super::tool_results::{RequestedCall, ToolCallResult};

/// The maximum number of calls of a reply that orch performs.
const MAX_CALLS: usize = 128;

impl Conversation<'_> {
    /// Runs the calls of a reply and returns their results in the order of the calls. `pipelines` counts the calls of
    /// pipelines.
    pub(super) async fn run_tool_calls(
        &mut self,
        turn: &ToolTurn<'_>,
        calls: &[RequestedCall<'_>],
        guard: &mut RepetitionGuard,
        pipelines: &mut PipelineCalls,
    ) -> Result<Result<Vec<ToolCallResult>, Failure>, Interrupt> {
        let (calls, excess_calls) = calls.split_at(calls.len().min(MAX_CALLS));
        let mut remaining = VecDeque::from(self.read_calls(turn, calls).await?);
        let mut targets = remaining.iter().flatten().map(|read| &read.target);
        let runs_in_parallel = targets.all(|target| target.only_reads() && !turn.tools.needs_approval(target));
        let mut results = Vec::with_capacity(calls.len() + excess_calls.len());
        while !remaining.is_empty() {
            let batch = take_batch(&mut remaining, guard, runs_in_parallel);
            let performed = if runs_in_parallel {
                self.run_in_parallel(turn, batch).await?
            } else {
                self.run_in_order(turn, batch, pipelines).await?
            };
            let guarded = performed.and_then(|performed| {
                let guarded = performed.into_iter().map(|result| guarded_result(&mut *guard, result, turn.tools));
                guarded.collect::<Result<Vec<_>, _>>()
            });
            match guarded {
                Ok(guarded) => results.extend(guarded),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        results.extend(excess_calls.iter().map(|call| excess_result(call, turn.tools)));
        Ok(Ok(results))
    }
}

/// Takes the next calls to perform: one, or those that can run in parallel. The repetitions of a call are in a later
/// batch, if the guard may refuse them after the results of this one.
fn take_batch<'r>(
    remaining: &mut VecDeque<CallOrError<'r>>,
    guard: &RepetitionGuard,
    runs_in_parallel: bool,
) -> Vec<CallOrError<'r>> {
    let mut counts: HashMap<Digest, u32> = HashMap::new();
    let mut batch = Vec::new();
    while let Some(call) = remaining.pop_front() {
        let digest = match &call {
            Ok(read) => read.call.digest(),
            Err(result) => result.call_digest.clone(),
        };
        let count = counts.entry(digest.clone()).or_default();
        let is_full = !batch.is_empty() && (!runs_in_parallel || *count >= guard.allowance(&digest));
        if is_full {
            remaining.push_front(call);
            break;
        }
        *count += 1;
        batch.push(call);
    }
    batch
}

/// The result of a call beyond the number that orch performs.
fn excess_result(call: &RequestedCall<'_>, tools: &AgentTools) -> ToolCallResult {
    let text =
        format!("not performed: orch performs at most {MAX_CALLS} calls of a reply; make this call in the next turn");
    let mut result = ToolCallResult::new(call, text, true);
    result.set_shown_name(tools);
    result
}

/// The result of a call, with a warning if the model repeats the call without effect.
///
/// # Errors
/// The model has repeated the call too often.
fn guarded_result(
    guard: &mut RepetitionGuard,
    mut result: ToolCallResult,
    tools: &AgentTools,
) -> Result<ToolCallResult, Failure> {
    result.set_shown_name(tools);
    match guard.add(result.call_digest.clone(), result.result_digest(), result.changes_files) {
        Repetition::Allowed => {}
        Repetition::Warned(count) => result.add_note(&format!(
            "\n[orch: you have made this call {count} times with the same result; if you make it again, the step fails]"
        )),
        Repetition::TooOften(count) => {
            let name = escape_line_breaks(&result.shown_name);
            let message = format!("the model called `{name}` {count} times with the same arguments and result");
            let hint = "say in the prompt what the model should do with the result, or name a larger model";
            return Err(Failure::new(FailureClass::RepeatedToolCall, message).with_hint(hint));
        }
    }
    // Some APIs refuse an empty result.
    if result.is_empty() {
        result.add_note("[empty]");
    }
    Ok(result)
}
