//! The calls that a step made before and that may have changed something. While it is not known whether a call took
//! effect, a step that calls a tool does not call it again, whatever changed in the pipeline since. A model that begins a
//! new conversation learns which calls were made in the earlier ones.

use serde_json::{Value, json};

use crate::durable::{CallOutcome, CallReply, EarlierCall, Interrupt};
use crate::model::event::{CallKind, CallOutput};
use crate::model::{Failure, FailureClass, StepKey, ToolOutput};
use crate::process::shorten_middle;
use crate::template::fence;

use super::interrupted_call::interruption_text;
use super::mcp_questions::unanswered_failure;
use super::step_execution::{StepExecution, unexpected_record};

/// The maximum size of a call in a note, in bytes.
const MAX_CALL_BYTES: usize = 400;
/// The maximum size of a result in a note, in bytes.
const MAX_RESULT_BYTES: usize = 1 << 10;
/// The number of calls in a note with their results. Those before them have none.
const MAX_RESULTS: usize = 50;

impl StepExecution<'_> {
    /// The failure of a step that calls a tool, if it is not known whether an earlier call of the step took effect.
    pub(super) async fn unknown_effect(&self) -> Result<Option<Failure>, Interrupt> {
        let calls = self.interpreter.durable.earlier_calls(&self.spec, None).await?;
        let is_unknown = |call: &&EarlierCall| call.is_effect_unknown && call.key.step == self.spec.step;
        let restart = || self.interpreter.plan.restart_point(&self.spec.step.declared_key());
        Ok(calls.iter().rev().find(is_unknown).map(|call| unknown_effect_failure(call, &restart())))
    }

    /// The calls of earlier conversations of an agent's step, of which the model of this attempt knows nothing.
    pub(super) async fn earlier_call_summaries(&self, attempt: u32) -> Result<Vec<EarlierCallSummary>, Interrupt> {
        let calls = self.interpreter.durable.earlier_calls(&self.spec, Some(attempt)).await?;
        let to_noted = |call: &EarlierCall| {
            let step = (call.key.step != self.spec.step).then(|| call.key.step.clone());
            Some(EarlierCallSummary { step, ..EarlierCallSummary::new(&call.arguments, call.kind, &call.outcome)? })
        };
        Ok(calls.iter().filter_map(to_noted).collect())
    }
}

/// The failure of a step whose earlier call has an unknown effect. `restart` is the step with which
/// `orch pipeline resume --from` calls the tool again.
fn unknown_effect_failure(call: &EarlierCall, restart: &StepKey) -> Failure {
    if let Some(failure) = unanswered_failure(&call.outcome, || restart.clone()) {
        return failure;
    }
    let Err(failure) = &call.outcome.result else { return unexpected_record() };
    let (message, first_hint) = match interruption_text(call.kind, failure, call.outcome.agent_activity.as_deref()) {
        Some(message) => (message, None),
        None => (format!("{}; it is not known whether the call took effect", failure.message), failure.hint.as_deref()),
    };
    let first_hint = first_hint.map(|hint| format!("{hint}; ")).unwrap_or_default();
    let hint = format!(
        "{first_hint}find out whether the call took effect: {}; `orch pipeline resume --from {restart}` calls the tool \
         again",
        call.arguments
    );
    Failure { message, ..failure.clone() }.with_hint(hint)
}

/// A call of an earlier conversation, as a later one describes it to the model.
pub(super) struct EarlierCallSummary {
    /// The step of a called pipeline that made the call; `None` for the model's own call.
    step: Option<StepKey>,
    /// The tool and a short form of the arguments.
    call: String,
    /// What it returned, or what is known about it.
    result: String,
    is_error: bool,
}

impl EarlierCallSummary {
    /// A call that changed something or may have done so; `None` if it did not.
    pub(super) fn new(call: &str, kind: CallKind, outcome: &CallOutcome) -> Option<Self> {
        let of_output = |output: &ToolOutput| Self::with_result(call, &output.content, output.is_error);
        match &outcome.result {
            Ok(CallReply::Output(CallOutput::Tool(output))) => Some(of_output(&output.result)),
            Ok(CallReply::Output(CallOutput::McpTool(output))) => {
                output.input_required.is_none().then(|| of_output(&output.result))
            }
            Ok(_) => None,
            Err(failure) if failure.unperformed => None,
            Err(failure) => {
                // Of damage by the program of the call, the failure says what is known.
                let damage = || (failure.class == FailureClass::PathRefused).then(|| failure.message.clone());
                let text = interruption_text(kind, failure, outcome.agent_activity.as_deref()).or_else(damage)?;
                Some(Self::with_result(call, &text, true))
            }
        }
    }

    /// A call with what it returned.
    pub(super) fn with_result(call: &str, result: &str, is_error: bool) -> Self {
        Self {
            step: None,
            call: shorten_middle(call, MAX_CALL_BYTES).into_owned(),
            result: shorten_middle(result, MAX_RESULT_BYTES).into_owned(),
            is_error,
        }
    }

    fn to_json(&self, has_result: bool) -> Value {
        let mut value = json!({ "call": self.call });
        if let Some(step) = &self.step {
            value["step"] = json!(step);
        }
        if has_result {
            value[if self.is_error { "error" } else { "result" }] = json!(self.result);
        }
        value
    }
}

/// What a model learns in the first message of a conversation about the calls of earlier ones; `None` without any.
pub(super) fn earlier_calls_note(calls: &[EarlierCallSummary]) -> Option<String> {
    if calls.is_empty() {
        return None;
    }
    let without_result = calls.len().saturating_sub(MAX_RESULTS);
    let list = calls.iter().enumerate().map(|(index, call)| call.to_json(index >= without_result)).collect();
    Some(format!(
        "An earlier conversation about this task ended before the task was done. These tool calls were made in it, and \
         they may have changed something:\n\n{}\n\nDo not make a call again that has taken effect. If it is not known \
         whether a call took effect, find out before you make it again.",
        fence(&Value::Array(list))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_names_every_call_and_has_the_results_of_the_latest() {
        assert_eq!(earlier_calls_note(&[]), None);
        let calls: Vec<EarlierCallSummary> = (0..=MAX_RESULTS)
            .map(|number| {
                EarlierCallSummary::with_result(
                    &format!("pay.send {number}"),
                    &format!("receipt {number}"),
                    number == 1,
                )
            })
            .collect();
        let note = earlier_calls_note(&calls).unwrap();
        assert!(note.contains("\"pay.send 0\"") && !note.contains("receipt 0\""), "{note}");
        assert!(note.contains("\"error\": \"receipt 1\"") && note.contains("\"result\": \"receipt 2\""), "{note}");
    }

    #[test]
    fn a_result_in_a_note_is_short_and_stays_in_its_block() {
        let call = EarlierCallSummary::with_result("pay.send {}", &format!("a\n```\n{}", "x".repeat(5000)), false);
        let note = earlier_calls_note(&[call]).unwrap();
        assert!(note.len() < 2000 && note.contains("````json\n") && note.contains("a\\n```"), "{note}");
    }
}
