//! The rules of a resume, as the index applies them to the events of earlier sessions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::durable::{BeginOutcome, StepFact, StepSpec};
use crate::model::event::{
    Artifact, Event, Fact, Fingerprint, FingerprintPart, PartDigest, PartKind, ReplyParsed, RunResumed, StepCompleted,
    StepFailed, StepStarted,
};
use crate::model::step::Access;
use crate::model::{CallKey, Digest, Failure, FailureClass, RunId, StepKey};

fn run() -> RunId {
    RunId(uuid::Uuid::nil())
}

/// The index over these facts, which are the events from 1.
fn index_of(facts: impl IntoIterator<Item = Fact>) -> HistoryIndex {
    let event = |(seq, fact)| Event { run: run(), seq, at: Timestamp::UNIX_EPOCH, fact };
    let events: Vec<Event> = (1..).zip(facts).map(event).collect();
    HistoryIndex::from_events(&events)
}

fn fingerprint(request: &str) -> Fingerprint {
    Fingerprint { request: Digest::compute(request.as_bytes()), decode: Digest::compute(b"decode") }
}

fn spec(step: &str, request: &str) -> StepSpec {
    StepSpec {
        step: StepKey::root(step),
        fingerprint: fingerprint(request),
        alternative_fingerprints: Vec::new(),
        inputs: Vec::new(),
        output: Some("plan".to_owned()),
        path: Some("plan.json".to_owned()),
        fingerprint_parts: vec![FingerprintPart {
            kind: PartKind::Prompt("plan.md".to_owned()),
            digest: PartDigest::new(&Digest::compute(request.as_bytes())),
        }],
        reusable: true,
        depends_on_workspace: false,
        may_write: false,
        requires_call: false,
    }
}

fn artifact(value: u64) -> Artifact {
    Artifact::new("plan", json!({ "n": value }), Some("plan.json".to_owned()))
}

fn start(spec: &StepSpec, attempt: u32) -> StepStarted {
    StepStarted {
        step: spec.step.clone(),
        attempt,
        agent: String::new(),
        model: None,
        access: Access::None,
        fingerprint: spec.fingerprint.clone(),
        fingerprint_parts: spec.fingerprint_parts.clone(),
        reason: None,
    }
}

fn started(spec: &StepSpec, attempt: u32) -> Fact {
    Fact::StepStarted(start(spec, attempt))
}

fn completed(spec: &StepSpec, value: u64) -> Fact {
    Fact::StepCompleted(StepCompleted {
        step: spec.step.clone(),
        attempt: 1,
        fingerprint: spec.fingerprint.clone(),
        reused_from: None,
        artifact: Some(artifact(value)),
    })
}

fn failed(spec: &StepSpec) -> Fact {
    let failure = Failure::new(FailureClass::CommandFailed, "exit code 1");
    Fact::StepFailed(StepFailed { step: spec.step.clone(), attempt: 1, failure, stops: true })
}

/// The user resumes the run, and wants this step to run again.
fn resumed_from(step: &str) -> Fact {
    Fact::RunResumed(RunResumed {
        models: BTreeMap::new(),
        model: None,
        agents: BTreeMap::new(),
        continue_on_error: false,
        from: Some(StepKey::root(step)),
        budget: None,
        replay: None,
        recording_folder: None,
        previous_owner_last_heartbeat: None,
        relocated_to: None,
        missing_files: Vec::new(),
        steps: Vec::new(),
        version: "0".to_owned(),
    })
}

#[test]
fn a_completed_step_is_reused_by_its_fingerprint() {
    let plan = spec("plan", "x");
    let mut index = index_of([started(&plan, 1), completed(&plan, 7)]);
    assert_eq!(index.reuse_step(&spec("plan", "another prompt")), None);
    let reused = index.reuse_step(&plan).unwrap();
    assert_eq!((reused.fact.result_seq, reused.execution_id), (2, 2));
    assert_eq!((reused.artifact, reused.fact.renamed_artifact), (Some(artifact(7)), None));
    assert_eq!(index.reuse_step(&plan), None, "a result is taken once");
}

#[test]
fn a_step_that_was_renamed_reuses_its_result_under_the_new_name() {
    let plan = spec("plan", "x");
    let mut index = index_of([started(&plan, 1), completed(&plan, 7)]);
    let (output, path) = (Some("outline".to_owned()), Some("outline.json".to_owned()));
    let reused = index.reuse_step(&StepSpec { output, path, ..spec("outline", "x") }).unwrap();
    let renamed = Artifact { name: "outline".to_owned(), path: Some("outline.json".to_owned()), ..artifact(7) };
    assert_eq!((reused.fact.step, reused.fact.result_seq), (StepKey::root("outline"), 2));
    assert_eq!((reused.artifact, reused.fact.renamed_artifact), (Some(renamed.clone()), Some(renamed)));
}

#[test]
fn a_step_of_the_workspace_reuses_only_its_latest_result() {
    let (old, new) = (spec("plan", "old"), spec("plan", "new"));
    let facts = [started(&old, 1), completed(&old, 1), started(&new, 2), completed(&new, 2)];
    let with_workspace = |depends_on_workspace| StepSpec { depends_on_workspace, ..spec("plan", "old") };
    assert_eq!(index_of(facts.clone()).reuse_step(&with_workspace(true)), None);
    let reused = index_of(facts).reuse_step(&with_workspace(false));
    assert_eq!(reused.and_then(|reused| reused.artifact), Some(artifact(1)));
}

#[test]
fn a_step_that_the_user_runs_again_reuses_nothing_from_before() {
    let plan = spec("plan", "x");
    let mut index = index_of([started(&plan, 1), completed(&plan, 7), resumed_from("plan")]);
    assert_eq!(index.reuse_step(&plan), None);
    let BeginOutcome::Attempt(attempt, reason) = index.open_attempt(&plan) else { panic!("no new attempt") };
    assert_eq!((attempt, reason.as_deref()), (2, Some("requested with --from")));
}

#[test]
fn a_failed_step_gets_a_new_attempt_and_an_interrupted_one_continues() {
    let plan = spec("plan", "x");
    let attempt_after = |facts: Vec<Fact>, spec: &StepSpec| match index_of(facts).open_attempt(spec) {
        BeginOutcome::Attempt(attempt, reason) => (attempt, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(attempt_after(Vec::new(), &plan), (1, None));
    let interrupted = vec![started(&plan, 1)];
    assert_eq!(attempt_after(interrupted.clone(), &plan), (1, Some("it did not complete".to_owned())));
    let (attempt, reason) = attempt_after(interrupted, &spec("plan", "y"));
    assert_eq!((attempt, reason.as_deref()), (2, Some("prompt plan.md changed")));
    let (attempt, reason) = attempt_after(vec![started(&plan, 1), failed(&plan)], &plan);
    assert_eq!((attempt, reason.as_deref()), (2, Some("failed: command_failed")));
}

#[test]
fn a_step_of_finally_runs_in_each_session_after_a_failure() {
    let (build, clean) = (spec("build", "x"), spec("clean", "y"));
    let facts = || [started(&build, 1), failed(&build), started(&clean, 1), completed(&clean, 1)];
    assert!(index_of(facts()).reuse_step(&clean).is_some(), "as a step before `finally`");
    let mut index = index_of(facts());
    let record = index.record_of(StepFact::FinallyStarted(vec![StepKey::root("clean")]), Timestamp::UNIX_EPOCH);
    assert_eq!(record, StepRecord::Nothing, "no event records it");
    assert_eq!(index.reuse_step(&clean), None);
    assert!(matches!(index.open_attempt(&clean), BeginOutcome::Attempt(2, _)));
    let finally_step = index.finally_step(&StepKey::root("clean").child("remove"));
    assert_eq!(finally_step, Some(StepKey::root("clean")), "the steps inside of it belong to it");
    assert!(StopLevel::Stop.allows_calls(finally_step.is_some()));
    assert_eq!(index.finally_step(&build.step), None);
}

#[test]
fn an_execution_without_a_write_has_the_id_of_the_one_that_it_repeats() {
    let build = spec("build", "x");
    let facts = [started(&build, 1), failed(&build), started(&build, 2), completed(&build, 1)];
    let index = index_of(facts);
    assert_eq!((index.execution_id(2), index.execution_id(4)), (2, 2), "the positions of their ends");
    assert_eq!(index.last_execution_id(&build), Some(2));
    assert_eq!(index.last_execution_id(&spec("build", "another request")), None);
    let again = index_of([started(&build, 1), failed(&build), resumed_from("build"), completed(&build, 1)]);
    assert_eq!(again.execution_id(4), 4, "the user ran it again");
}

#[test]
fn a_result_of_another_run_completes_a_step_with_an_output() {
    let result = || EarlierResult { run: run(), fingerprint: fingerprint("x"), artifact: artifact(7) };
    let plan = StepSpec { output: Some("outline".to_owned()), path: None, ..spec("plan", "x") };
    let fact = completed_with(result(), &plan).unwrap();
    assert_eq!((fact.attempt, fact.reused_from), (0, Some(run())));
    let renamed = Artifact { name: "outline".to_owned(), path: None, ..artifact(7) };
    assert_eq!(fact.artifact, Some(renamed));
    assert_eq!(completed_with(result(), &StepSpec { output: None, ..plan }), None);
}

#[test]
fn a_failure_is_durable_before_the_run_continues_and_a_derived_fact_is_queued() {
    let (plan, now) = (spec("plan", "x"), Timestamp::UNIX_EPOCH);
    let call = CallKey { step: plan.step.clone(), attempt: 1, ordinal: 1, tool_call: None, input_round: None };
    let parsed = |failure: Option<Failure>, re_asks| ReplyParsed {
        call: call.clone(),
        source: None,
        repairs: Vec::new(),
        other_matches: 0,
        left_out: Vec::new(),
        failure,
        re_asks,
    };
    let mut index = index_of([]);
    let mut record = |fact: StepFact| index.record_of(fact, now);
    assert_eq!(record(StepFact::Started(start(&plan, 1))), StepRecord::Start(start(&plan, 1)));
    let no_value = Some(Failure::new(FailureClass::NoJson, "no value"));
    for (failure, re_asks, is_awaited) in
        [(None, false, false), (no_value.clone(), true, false), (no_value, false, true)]
    {
        let fact = parsed(failure, re_asks);
        let event = Fact::ReplyParsed(fact.clone());
        let expected = if is_awaited { StepRecord::Await(event) } else { StepRecord::Queue(event) };
        assert_eq!(record(StepFact::ReplyParsed(fact)), expected);
    }
    let Fact::StepFailed(failure) = failed(&plan) else { panic!("no failure") };
    assert_eq!(record(StepFact::Failed(failure.clone())), StepRecord::Await(Fact::StepFailed(failure)));
    let Fact::StepCompleted(end) = completed(&plan, 7) else { panic!("no end") };
    assert_eq!(record(StepFact::Completed(end.clone())), StepRecord::Queue(Fact::StepCompleted(end)));
}

#[test]
fn what_an_earlier_session_recorded_is_not_recorded_again() {
    let plan = spec("plan", "x");
    let call = CallKey { step: plan.step.clone(), attempt: 1, ordinal: 1, tool_call: None, input_round: None };
    let parsed = ReplyParsed {
        call,
        source: None,
        repairs: Vec::new(),
        other_matches: 0,
        left_out: Vec::new(),
        failure: None,
        re_asks: false,
    };
    let mut index = index_of([started(&plan, 1), Fact::ReplyParsed(parsed.clone())]);
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(index.record_of(StepFact::ReplyParsed(parsed), now), StepRecord::Nothing);
    // Each session records that it continues an attempt, once.
    let record = index.record_of(StepFact::Started(start(&plan, 1)), now);
    assert_eq!(record, StepRecord::Start(start(&plan, 1)));
    index.apply(&Event { run: run(), seq: 3, at: now, fact: started(&plan, 1) });
    assert_eq!(index.record_of(StepFact::Started(start(&plan, 1)), now), StepRecord::Nothing);
}
