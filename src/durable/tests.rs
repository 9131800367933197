//! Everything that crosses the interface is the same after serialization and deserialization.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::*;
use crate::model::event::{
    ApprovalDecision, CallKind, CallOutput, CommandOutput, FingerprintPart, PartDigest, PartKind, ReplyParsed,
    SkipKind, SkipReason, StepCompleted, StepFailed, StepSkipped, StepStarted,
};
use crate::model::step::Access;
use crate::model::{
    Artifact, ChatReply, Content, Fingerprint, McpAccess, McpListing, McpTransport, PipelineCallOutput, StepStatus,
    StopReason, ToolOutput, TurnReply, Usage,
};

/// Checks that a value is the same after it was sent as JSON.
fn crosses<T: Serialize + DeserializeOwned + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    let received: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(format!("{received:?}"), format!("{value:?}"), "{text}");
}

fn key() -> CallKey {
    CallKey {
        step: StepKey::root("a").item(1).child("b"),
        attempt: 2,
        ordinal: 3,
        tool_call: Some(1),
        input_round: None,
    }
}

fn fingerprint() -> Fingerprint {
    Fingerprint { request: Digest::compute(b"request"), decode: Digest::compute(b"decode") }
}

fn artifact() -> Artifact {
    Artifact::new("plan", json!({ "n": 1, "list": [null, "a"] }), Some("plan.json".to_owned()))
}

fn failure() -> Failure {
    let failure = Failure::new(FailureClass::Timeout, "no reply").with_hint("raise `timeout:` of the step");
    Failure { interrupted: true, status: Some(503), ..failure }
}

fn chat() -> ChatReply {
    ChatReply {
        content: Content::from_text("done"),
        stop: StopReason::End,
        usage: Usage { input: 3, output: 4, ..Usage::default() }.into(),
        model: Some("m-1".to_owned()),
        id: None,
        constrained: true,
        details: Box::default(),
    }
}

fn command_output() -> CallOutput {
    CallOutput::Command(CommandOutput {
        exit_code: 1,
        stdout: "out".to_owned(),
        stderr: String::new(),
        truncated: false,
        folder: String::new(),
        probable_limit: None,
        hidden_program: None,
        replayed: false,
    })
}

fn outcome(result: Result<CallReply, Failure>) -> CallOutcome {
    CallOutcome {
        started: Timestamp::UNIX_EPOCH,
        ended: Timestamp::UNIX_EPOCH,
        result,
        agent_activity: Some(Box::default()),
        cost: Some(0.25),
        estimated: Some(EstimatedUsage { unsplit: 7, ..EstimatedUsage::default() }),
        estimated_cost: None,
        reverted_files: vec!["a.txt".to_owned()],
        sandbox: None,
    }
}

fn server() -> McpServerSpec {
    let transport = McpTransport::Stdio { command: vec!["server".to_owned()], env: Vec::new(), sandbox: None };
    McpServerSpec { name: "docs".to_owned(), transport, tools: None, access: McpAccess::default() }
}

#[test]
fn steps_and_the_way_in_which_they_begin_cross_the_interface() {
    crosses(&StepSpec {
        step: key().step,
        fingerprint: fingerprint(),
        alternative_fingerprints: vec![fingerprint()],
        inputs: vec!["topic".to_owned()],
        output: Some("plan".to_owned()),
        path: None,
        fingerprint_parts: vec![FingerprintPart {
            kind: PartKind::Model,
            digest: PartDigest::new(&Digest::compute(b"m")),
        }],
        reusable: true,
        depends_on_workspace: false,
        may_write: true,
        requires_call: false,
    });
    for begin in [
        BeginOutcome::Reusable(Some(Box::new(artifact())), 7),
        BeginOutcome::Reusable(None, 0),
        BeginOutcome::Reparse { replies: vec![CallReply::Chat(chat())], attempt: 2, rerun_reason: None },
        BeginOutcome::Attempt(1, Some("it did not complete".to_owned())),
    ] {
        crosses(&begin);
    }
}

#[test]
fn calls_and_their_outcomes_cross_the_interface() {
    let command = CommandSpec {
        argv: vec!["make".to_owned()],
        values: vec![("A".to_owned(), "1".to_owned())],
        env: Vec::new(),
        cwd: String::new(),
        stdin: None,
        timeout_ms: Some(5),
        sandbox: None,
        may_write: true,
    };
    for effect in [
        Effect::Command(command),
        Effect::Snapshot(FilesToWrite { files: json!([]) }),
        Effect::Write(json!({ "files": [] })),
    ] {
        crosses(&Call { key: key(), request_digest: Digest::compute(b"request"), effect });
    }
    let turn = TurnReply { reply: chat(), activity: AgentActivity::default() };
    for result in [
        Ok(CallReply::Chat(chat())),
        Ok(CallReply::Turn(Box::new(turn))),
        Ok(CallReply::Output(command_output())),
        Err(failure()),
    ] {
        crosses(&vec![outcome(result.clone())]);
        crosses(&EarlierCall {
            key: key(),
            kind: CallKind::Command,
            arguments: "make".to_owned(),
            outcome: outcome(result),
            is_effect_unknown: true,
        });
    }
}

#[test]
fn calls_of_pipelines_cross_the_interface() {
    let call = PipelineCall { key: key(), request_digest: Digest::compute(b"call"), summary: "design {}".to_owned() };
    let output = PipelineCallOutput {
        step: key().step,
        arguments: "design {}".to_owned(),
        result: ToolOutput { content: "done".to_owned(), ..ToolOutput::default() },
        change: Some(Digest::compute(b"change")),
    };
    crosses(&call);
    crosses(&PipelineCallStart::Started(Timestamp::UNIX_EPOCH));
    crosses(&PipelineCallStart::Ended(Box::new(output.clone())));
    crosses(&StepFact::PipelineCallEnded(PipelineCallEnded { call, started: Timestamp::UNIX_EPOCH, output }));
}

#[test]
fn facts_cross_the_interface() {
    let step = key().step;
    let (fingerprint, artifact) = (fingerprint(), Some(artifact()));
    let reason = SkipReason::new(SkipKind::ConditionFalse { expression: "plan.ok".to_owned() });
    for fact in [
        StepFact::Started(StepStarted {
            step: step.clone(),
            attempt: 1,
            agent: "planner".to_owned(),
            model: None,
            access: Access::None,
            fingerprint: fingerprint.clone(),
            fingerprint_parts: Vec::new(),
            reason: Some("it did not complete".to_owned()),
        }),
        StepFact::ReplyParsed(ReplyParsed {
            call: key(),
            source: Some("fence".to_owned()),
            repairs: vec!["comma".to_owned()],
            other_matches: 1,
            left_out: Vec::new(),
            failure: Some(failure()),
            re_asks: true,
        }),
        StepFact::Completed(StepCompleted { step: step.clone(), attempt: 1, fingerprint, reused_from: None, artifact }),
        StepFact::Failed(StepFailed { step: step.clone(), attempt: 1, failure: failure(), stops: true }),
        StepFact::Skipped(StepSkipped { step: step.clone(), reason }),
        StepFact::FinallyStarted(vec![step]),
    ] {
        crosses(&fact);
    }
}

#[test]
fn outcomes_of_branches_cross_the_interface() {
    let outcome = StepOutcome {
        status: StepStatus::Failed,
        error: Some("no reply".to_owned()),
        outputs: Arc::from(["a".to_owned()]),
    };
    let delta = |item_result| ScopeDelta {
        artifacts: [("plan".to_owned(), ScopeArtifact::recorded(Arc::new(json!({ "z": 1, "a": [2] })), &key().step))]
            .into_iter()
            .collect(),
        steps: [("z".to_owned(), outcome.clone()), ("a".to_owned(), outcome.clone())].into_iter().collect(),
        first_failure: Some(Failure { unusable_values: Some(Box::from(["plan.n".to_owned()])), ..failure() }),
        halted_by: Some(("a".to_owned(), Failure { unusable_values: Some(Box::default()), ..failure() })),
        workspace_version: Some(Digest::compute(b"workspace")),
        item_result,
    };
    for item_result in [None, Some(Ok(Arc::new(Value::Null))), Some(Ok(Arc::new(json!([1])))), Some(Err(failure()))] {
        for flow in [RunFlow::Continue, RunFlow::Halt] {
            let ended = BranchOutcome::Ended(Box::new(delta(item_result.clone())), flow);
            crosses(&vec![ended, BranchOutcome::Cancelled, BranchOutcome::NotStarted]);
        }
    }
}

#[test]
fn branches_cross_the_interface() {
    let outcome = StepOutcome { status: StepStatus::Completed, error: None, outputs: Arc::default() };
    let recorded = SnapshotArtifact::Recorded(ArtifactRef::new(&key().step, &json!({ "a": 1 })));
    let artifacts = BTreeMap::from([
        ("plan".to_owned(), recorded),
        ("local".to_owned(), SnapshotArtifact::Value(Arc::new(json!([1.5, null])))),
    ]);
    let ended_steps = BTreeMap::from([("plan".to_owned(), outcome.clone())]);
    let previous = PreviousIteration { artifacts: artifacts.clone(), ended_steps: ended_steps.clone() };
    let scope = ScopeSnapshot {
        inputs: Map::from_iter([("task".to_owned(), json!("text"))]),
        artifacts,
        ended_steps,
        outcomes: vec![("plan".to_owned(), outcome)],
        item: None,
        iterations: vec![SnapshotIteration { variable: json!({ "index": 2 }), previous: Some(previous) }],
        workspace_version: Digest::compute(b"workspace"),
    };
    let item = Some(ScopeItem { item: json!({ "name": "a" }), index: json!(1) });
    let (plan, key) = (Digest::compute(b"plan"), key().step);
    crosses(&BranchSpec { plan, node: key.declared_key(), key, item, scope });
}

#[test]
fn waits_and_interrupts_cross_the_interface() {
    crosses(&Wait::DurationBetween(500, 1000));
    crosses(&Wait::Approval(ApprovalRequest { text: "Deploy?".to_owned(), timeout_ms: Some(60_000) }));
    let answer =
        ApprovalDecision { approved: true, note: "now".to_owned(), by: "me".to_owned(), at: Timestamp::UNIX_EPOCH };
    crosses(&Ok::<WaitOutcome, Interrupt>(WaitOutcome::Answered(answer)));
    crosses(&Ok::<WaitOutcome, Interrupt>(WaitOutcome::Elapsed));
    for interrupt in [
        Interrupt::Cancelled,
        Interrupt::Parked,
        Interrupt::GroupHalted,
        Interrupt::OverBudget(failure()),
        Interrupt::Storage(failure()),
    ] {
        crosses(&Err::<ExecutionId, Interrupt>(interrupt));
    }
}

#[test]
fn lists_of_tools_cross_the_interface() {
    for freshness in [ListingFreshness::Recorded, ListingFreshness::Current] {
        crosses(&ListTools { step: key().step, server: server(), freshness });
    }
    let listing =
        McpListing { server: "docs".to_owned(), protocol_version: "2025-11-25".to_owned(), tools: Vec::new() };
    crosses::<ListedTools>(&Ok(Arc::new(listing)));
    crosses::<ListedTools>(&Err(failure()));
}
