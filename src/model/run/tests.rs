//! Tests of the fold from events to the state of a run.

use super::*;
use crate::model::Digest;
use crate::model::StepStatus;
use crate::model::event::{Fingerprint, RunEnded, RunStarted, StepCompleted, StepStarted};
use crate::model::step::Access;

fn events() -> Vec<Event> {
    let run = RunId(uuid::Uuid::nil());
    let step = StepKey::root("plan");
    let model = ModelRef::new("lab", "m");
    let fingerprint = Fingerprint { request: Digest::compute(b"a"), decode: Digest::compute(b"t") };
    let planned = PlannedStep {
        step: step.clone(),
        agent: "planner".into(),
        model: Some(model.clone()),
        output: Some("plan".into()),
        ..PlannedStep::default()
    };
    let facts = [
        Fact::RunStarted(RunStarted {
            pipeline: "p".into(),
            root: String::new(),
            file: "p.yaml".into(),
            workspace: "/w".into(),
            inputs: Map::new(),
            model: None,
            agents: BTreeMap::new(),
            models: BTreeMap::new(),
            continue_on_error: false,
            budget: None,
            replay: None,
            recording_folder: None,
            steps: vec![planned],
            tracker_workflow_id: None,
            version: "0".into(),
        }),
        Fact::StepStarted(StepStarted {
            step: step.clone(),
            attempt: 1,
            agent: "planner".into(),
            model: Some(model),
            fingerprint: fingerprint.clone(),
            access: Access::None,
            fingerprint_parts: Vec::new(),
            reason: None,
        }),
        Fact::StepCompleted(StepCompleted {
            step,
            attempt: 1,
            fingerprint,
            reused_from: None,
            artifact: Some(Artifact::new("plan", serde_json::json!({ "a": 1.50 }), Some("plan.json".into()))),
        }),
        Fact::RunEnded(RunEnded { status: RunStatus::Completed, failure: None, result: None }),
    ];
    let timestamp = |seq: u64| Timestamp::from_second(1_000 + i64::try_from(seq).unwrap()).unwrap();
    (1..).zip(facts).map(|(seq, fact)| Event { run, seq, at: timestamp(seq), fact }).collect()
}

#[test]
fn a_step_goes_from_pending_to_in_progress_to_completed() {
    let events = events();
    let mut state = RunState::new(events[0].run);
    let mut statuses = Vec::new();
    for event in &events {
        state.apply(event);
        statuses.push(state.steps[0].status);
    }
    assert_eq!(statuses[..3], [StepStatus::Pending, StepStatus::InProgress, StepStatus::Completed]);
    assert!(state.steps[0].started < state.steps[0].ended);
    assert!(state.report().success);
}

#[test]
fn a_step_in_progress_is_cancelled_when_the_run_ends() {
    let mut events = events();
    events.remove(2);
    if let Some(Event { fact: Fact::RunEnded(fact), .. }) = events.last_mut() {
        fact.status = RunStatus::Cancelled;
    }
    let state = RunState::fold(events[0].run, &events);
    assert_eq!(state.steps[0].status, StepStatus::Cancelled);
}

#[test]
fn events_are_unchanged_after_serialization() {
    for event in events() {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
    }
}
