//! The events of a call: what an implementation records when the call starts and when it ends, and what the interpreter
//! then receives.

use jiff::Timestamp;

use crate::durable::{Call, CallOutcome, Effect, Interrupt, PipelineCall, PipelineCallEnded};
use crate::model::FailureClass;
use crate::model::call_reply::RecordedReply;
use crate::model::effect::{CallKind, EffectProfile, ModelUse};
use crate::model::event::{CallEnded, CallOutput, CallStarted, Fact};

/// The event that records that a call started.
pub fn call_started(call: &Call) -> Fact {
    let EffectProfile { kind, model_use } = call.effect.profile();
    let (model, max_usage) = match model_use {
        Some(ModelUse { request, bound, .. }) => (Some(request.model.clone()), bound.max_usage),
        None => (None, None),
    };
    let mut fact = CallStarted {
        call: call.key.clone(),
        kind,
        model,
        max_usage,
        arguments: None,
        request_digest: None,
        elided_results: Vec::new(),
        tool_results: Vec::new(),
        labels_errors: false,
    };
    match &call.effect {
        Effect::ModelRequest(request) => {
            fact.elided_results.clone_from(&request.elided_results);
            fact.tool_results.clone_from(&request.tool_results);
            fact.labels_errors = request.labels_errors;
        }
        Effect::Tool(invocation) => {
            fact.arguments = Some(invocation.summary());
            fact.request_digest = Some(call.request_digest.clone());
        }
        Effect::McpTool(invocation) => {
            fact.arguments = Some(invocation.summary());
            fact.request_digest = Some(call.request_digest.clone());
        }
        Effect::Turn(_) | Effect::Command(_) | Effect::Snapshot(_) | Effect::Write(_) => {}
    }
    Fact::CallStarted(fact)
}

/// The event that records how a call ended.
pub fn call_ended(call: &Call, outcome: &CallOutcome) -> Fact {
    let CallOutcome {
        started,
        ended,
        result,
        agent_activity,
        cost,
        estimated,
        estimated_cost,
        reverted_files,
        sandbox,
    } = outcome.clone();
    let (recorded, failure) = match result {
        Ok(reply) => (reply.into_recorded(), None),
        Err(failure) => (RecordedReply::default(), Some(failure)),
    };
    Fact::CallEnded(CallEnded {
        call: call.key.clone(),
        request_digest: call.request_digest.clone(),
        model: call.effect.model().cloned(),
        started,
        ended,
        reply: recorded.reply,
        output: recorded.output,
        failure,
        agent_activity: recorded.agent_activity.or(agent_activity),
        cost,
        estimated,
        estimated_cost,
        reverted_files,
        sandbox,
    })
}

/// What the interpreter receives after the end of a call is durable. A call that the budget or a stop ended has no
/// outcome: orch makes it again once there is budget, unless it is a tool call that may have changed something.
pub fn outcome_or_interrupt(outcome: CallOutcome) -> Result<CallOutcome, Interrupt> {
    match &outcome.result {
        Err(failure) if failure.class == FailureClass::BudgetExceeded => {
            Err(Interrupt::OverBudget(failure.clone().without_call_details()))
        }
        Err(failure) if failure.class == FailureClass::Cancelled => Err(Interrupt::Cancelled),
        Ok(_) | Err(_) => Ok(outcome),
    }
}

/// The event that records that a model called a pipeline.
pub fn pipeline_call_started(call: &PipelineCall) -> Fact {
    Fact::CallStarted(CallStarted {
        call: call.key.clone(),
        kind: CallKind::Pipeline,
        model: None,
        max_usage: None,
        arguments: Some(call.summary.clone()),
        request_digest: Some(call.request_digest.clone()),
        elided_results: Vec::new(),
        tool_results: Vec::new(),
        labels_errors: false,
    })
}

/// The event that records what a called pipeline returned.
pub(super) fn pipeline_call_ended(ended: PipelineCallEnded, now: Timestamp) -> Fact {
    let PipelineCallEnded { call, started, output } = ended;
    Fact::CallEnded(CallEnded {
        call: call.key,
        request_digest: call.request_digest,
        model: None,
        started,
        ended: now,
        reply: None,
        output: Some(CallOutput::Pipeline(output)),
        failure: None,
        agent_activity: None,
        cost: None,
        estimated: None,
        estimated_cost: None,
        reverted_files: Vec::new(),
        sandbox: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::durable::CallReply;
    use crate::model::{CallKey, Digest, Failure, StepKey};

    fn call() -> Call {
        let key = CallKey { step: StepKey::root("a"), attempt: 1, ordinal: 2, tool_call: None, input_round: None };
        Call { key, request_digest: Digest::compute(b"request"), effect: Effect::Write(json!({ "files": [] })) }
    }

    fn outcome(result: Result<CallReply, Failure>) -> CallOutcome {
        CallOutcome {
            cost: Some(0.5),
            reverted_files: vec!["a.txt".to_owned()],
            ..CallOutcome::new(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, result)
        }
    }

    #[test]
    fn the_event_of_an_end_has_the_reply_or_the_failure() {
        let output = CallOutput::Applied(json!({ "files": [] }));
        let Fact::CallEnded(ended) = call_ended(&call(), &outcome(Ok(CallReply::Output(output.clone())))) else {
            panic!("no end of a call")
        };
        assert_eq!((ended.call, ended.output, ended.failure), (call().key, Some(output), None));
        assert_eq!((ended.cost, ended.reverted_files), (Some(0.5), vec!["a.txt".to_owned()]));
        let failure = Failure::new(FailureClass::Storage, "the disk is full");
        let Fact::CallEnded(ended) = call_ended(&call(), &outcome(Err(failure.clone()))) else {
            panic!("no end of a call")
        };
        assert_eq!((ended.output, ended.failure), (None, Some(failure)));
    }

    #[test]
    fn a_call_that_the_budget_or_a_stop_ended_has_no_outcome() {
        let after = |class| {
            let failure = Failure { interrupted: true, ..Failure::new(class, "ended early") };
            outcome_or_interrupt(outcome(Err(failure)))
        };
        match after(FailureClass::BudgetExceeded) {
            Err(Interrupt::OverBudget(failure)) => assert!(!failure.interrupted, "a detail of the call"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(after(FailureClass::Cancelled), Err(Interrupt::Cancelled)));
        assert!(after(FailureClass::Timeout).is_ok_and(|outcome| outcome.result.is_err()));
    }
}
