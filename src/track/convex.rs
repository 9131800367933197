//! Sends events to a Convex deployment with the functions of `convex/`, over Convex's HTTP API.
//!
//! Each run has one Convex document, the workflow. The caller can create the document before the run and pass its id.
//!
//! orch converts each event to function calls that update the documents of the run. A call contains only the data that
//! the event changed, and the number of the event, so that the functions can ignore a call that arrives twice or late.

use std::collections::HashMap;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{Tracker, TrackerDecision, TrackerMessage, excerpt};
use crate::model::event::{Event, Fact, RunStarted, RunStatus};
use crate::model::{CostTotal, EstimatedUsage, Failure, RunId, RunState, StepKey, StepState, StepStatus, UsageTotal};

/// The name of this tracker in the outbox.
pub(super) const NAME: &str = "convex";

/// The maximum number of characters of a task that orch sends, since a Convex document can have at most 1 MiB.
const MAX_TASK_CHARS: usize = 50_000;

/// Calls the functions of a deployment.
pub(super) struct Convex {
    url: String,
    key: Option<SecretString>,
    sent_run: Option<SentRun>,
}

/// The state of a run, and the documents that orch sent last.
struct SentRun {
    state: RunState,
    workflow: Value,
    steps: HashMap<StepKey, Value>,
    session: RunSession,
}

/// The current or last session of the run. Each start and each resume begins a session.
#[derive(Clone, Default)]
struct RunSession {
    number: u64,
    status: Option<RunStatus>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    version: String,
}

impl Convex {
    pub(super) fn new(url: &str, key: Option<SecretString>) -> Self {
        Self { url: format!("{}/api/mutation", url.trim_end_matches('/')), key, sent_run: None }
    }

    /// The function calls for an event: each with the name and the arguments.
    fn function_calls(&mut self, event: &Event) -> Vec<(&'static str, Value)> {
        let sent_run = self.sent_run.get_or_insert_with(|| SentRun::new(event.run));
        sent_run.state.apply(event);
        let mut calls = Vec::new();
        if let Fact::RunStarted(fact) = &event.fact {
            calls.push(("createWorkflow", sent_run.create_workflow_args(event, fact)));
        }
        calls.extend(sent_run.changed_sessions(event).into_iter().map(|session| ("recordSession", session)));
        calls.extend(sent_run.changed_steps().into_iter().map(|step| ("upsertStep", step)));
        // Send this last, so that Convex has all data of a workflow before it reports the end.
        calls.extend(sent_run.changed_workflow().map(|workflow| ("updateWorkflowStatus", workflow)));
        for (_, args) in &mut calls {
            args["runId"] = json!(event.run.0.to_string());
            args["seq"] = json!(event.seq);
        }
        calls
    }
}

impl Tracker for Convex {
    fn url(&self) -> &str {
        &self.url
    }

    fn encode(&mut self, event: &Event) -> Vec<TrackerMessage> {
        let message = |(name, args)| TrackerMessage {
            headers: Vec::new(),
            body: json!({ "path": format!("workflows:{name}"), "args": args, "format": "json" }).to_string(),
        };
        self.function_calls(event).into_iter().map(message).collect()
    }

    fn skip(&mut self, event: &Event) {
        self.function_calls(event);
    }

    fn auth_headers(&self, _: &TrackerMessage, _: Timestamp) -> Vec<(&'static str, SecretString)> {
        let key = self.key.as_ref();
        key.map(|key| ("authorization", format!("Convex {}", key.expose_secret()).into())).into_iter().collect()
    }

    /// Convex reports a failed function with status 200 or 560, depending on the version of its API.
    fn parse_reply(&self, status: u16, body: &str) -> TrackerDecision {
        let reply: Value = serde_json::from_str(body).unwrap_or_default();
        match (status, reply["status"].as_str()) {
            (200 | 560, Some("success")) => TrackerDecision::Accepted,
            (200 | 560, Some("error")) => TrackerDecision::Refused(refusal_reason(&reply)),
            (400 | 413 | 422, _) => TrackerDecision::Refused(format!("{status}: {}", excerpt(body))),
            (200, _) => {
                TrackerDecision::RetryLater(format!("its reply is not in the format of Convex: {}", excerpt(body)))
            }
            _ => TrackerDecision::RetryLater(format!("it replied with status {status}: {}", excerpt(body))),
        }
    }
}

fn refusal_reason(reply: &Value) -> String {
    let message = excerpt(reply["errorMessage"].as_str().unwrap_or_default());
    match &reply["errorData"] {
        Value::String(data) if !message.contains(data.as_str()) => format!("{message} ({})", excerpt(data)),
        _ => message,
    }
}

impl SentRun {
    fn new(run: RunId) -> Self {
        let state = RunState::new(run);
        Self { state, workflow: Value::Null, steps: HashMap::new(), session: RunSession::default() }
    }

    fn create_workflow_args(&mut self, event: &Event, fact: &RunStarted) -> Value {
        self.workflow = workflow_document(&self.state);
        let task = fact.inputs.get("task").and_then(Value::as_str);
        let mut args = json!({ "pipeline": fact.pipeline, "status": "running", "startedAt": millis(event.at) });
        set_if_some(&mut args, "task", task.map(|task| json!(task.chars().take(MAX_TASK_CHARS).collect::<String>())));
        set_if_some(&mut args, "workflowId", fact.tracker_workflow_id.as_ref().map(|id| json!(id)));
        args
    }

    /// The documents of the sessions that an event started or ended.
    fn changed_sessions(&mut self, event: &Event) -> Vec<Value> {
        let version = match &event.fact {
            Fact::RunStarted(fact) => &fact.version,
            Fact::RunResumed(fact) => &fact.version,
            Fact::RunEnded(fact) => {
                self.session.status = Some(fact.status);
                self.session.ended = Some(event.at);
                return vec![self.session.document()];
            }
            _ => return Vec::new(),
        };
        let mut documents = Vec::new();
        if self.session.status == Some(RunStatus::Running) {
            // The process died before it could record how the session ended.
            self.session.status = Some(RunStatus::Interrupted);
            documents.push(self.session.document());
        }
        self.session = RunSession {
            number: self.session.number + 1,
            status: Some(RunStatus::Running),
            started: Some(event.at),
            ended: None,
            version: version.clone(),
        };
        documents.push(self.session.document());
        documents
    }

    /// The documents of the steps that changed since they were last sent.
    fn changed_steps(&mut self) -> Vec<Value> {
        let mut sent_steps = std::mem::take(&mut self.steps);
        let mut documents = Vec::new();
        for (position, step) in self.state.steps.iter().enumerate() {
            let document = step_document(step, position);
            if sent_steps.remove(&step.key).as_ref() != Some(&document) {
                documents.push(document.clone());
            }
            self.steps.insert(step.key.clone(), document);
        }
        // Report a step that was removed from the pipeline one last time, as skipped.
        for mut document in sent_steps.into_values() {
            document["status"] = json!(StepStatus::Skipped);
            document["reason"] = json!("the pipeline no longer has this step");
            documents.push(document);
        }
        documents
    }

    /// The workflow's document, if it changed since it was last sent.
    fn changed_workflow(&mut self) -> Option<Value> {
        let document = workflow_document(&self.state);
        if document == self.workflow {
            return None;
        }
        self.workflow = document.clone();
        Some(document)
    }
}

impl RunSession {
    fn document(&self) -> Value {
        let mut value = json!({ "number": self.number, "status": self.status, "version": self.version });
        set_if_some(&mut value, "startedAt", self.started.map(millis));
        set_if_some(&mut value, "endedAt", self.ended.map(millis));
        value
    }
}

fn workflow_document(state: &RunState) -> Value {
    let totals = usage_document(&state.usage(), state.cost());
    let mut value = json!({ "status": state.status, "totals": totals });
    set_if_some(&mut value, "startedAt", state.started.map(millis));
    set_if_some(&mut value, "endedAt", state.ended.map(millis));
    set_if_some(&mut value, "error", state.failure.as_ref().map(failure_document));
    value
}

/// The tokens, the cost, the number of estimated tokens, and the number of calls without reported usage.
fn usage_document(usage: &UsageTotal, cost: CostTotal) -> Value {
    let mut value = json!({ "inputTokens": usage.input, "outputTokens": usage.output });
    let token_sum =
        |usage: EstimatedUsage| json!(usage.input.saturating_add(usage.output).saturating_add(usage.unsplit));
    set_if_some(&mut value, "estimatedTokens", usage.estimated.map(token_sum));
    set_if_some(
        &mut value,
        "unknownCalls",
        (usage.calls_with_unknown_usage > 0).then(|| json!(usage.calls_with_unknown_usage)),
    );
    set_if_some(&mut value, "costUsd", cost.exact().map(|usd| json!(usd)));
    set_if_some(&mut value, "estimatedCostUsd", cost.upper_bound().map(|usd| json!(usd)));
    value
}

fn step_document(step: &StepState, position: usize) -> Value {
    let key = step.key.as_str();
    let usage = usage_document(&step.usage, step.cost);
    let mut value = json!({
        "key": key, "name": key.rsplit('/').next(), "position": position, "agent": step.agent,
        "model": step.model.as_ref().map(ToString::to_string).unwrap_or_default(), "status": step.status,
        "attempts": step.attempts, "usage": usage,
    });
    set_if_some(&mut value, "session", step.session.as_ref().map(|session| json!(session)));
    set_if_some(&mut value, "startedAt", step.started.map(millis));
    set_if_some(&mut value, "endedAt", step.ended.map(millis));
    let output = |artifact: &crate::model::Artifact| json!({ "name": artifact.name, "digest": artifact.digest });
    set_if_some(&mut value, "output", step.artifact.as_ref().map(output));
    set_if_some(&mut value, "error", step.failure.as_ref().map(failure_document));
    set_if_some(&mut value, "reason", step.reason.as_ref().map(|reason| json!(reason.message)));
    value
}

fn failure_document(failure: &Failure) -> Value {
    json!({ "class": failure.class, "message": failure.message })
}

fn millis(timestamp: Timestamp) -> Value {
    json!(timestamp.as_millisecond())
}

/// Sets a field if there is a value: Convex distinguishes an absent field from null.
fn set_if_some(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_function_has_status_200_or_560() {
        let convex = Convex::new("http://127.0.0.1:9/", None);
        assert_eq!(convex.url(), "http://127.0.0.1:9/api/mutation");
        let error = r#"{"status":"error","errorMessage":"Uncaught ConvexError\n at x","errorData":"no such run"}"#;
        for status in [200, 560] {
            assert_eq!(convex.parse_reply(status, r#"{"status":"success","value":null}"#), TrackerDecision::Accepted);
            assert_eq!(
                convex.parse_reply(status, error),
                TrackerDecision::Refused("Uncaught ConvexError (no such run)".to_owned())
            );
        }
        for (status, body) in [(200, "<html>"), (401, "{}"), (500, ""), (503, "{}"), (560, "oops")] {
            assert!(matches!(convex.parse_reply(status, body), TrackerDecision::RetryLater(_)), "{status}");
        }
    }
}
