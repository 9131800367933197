//! A Convex deployment with the functions of `convex/`, called over Convex's HTTP API.
//!
//! Each event becomes calls that update the documents of the run. A call holds only what the event changed, and the
//! event's number, so that a call that arrives twice or late changes nothing.

use std::collections::HashMap;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{EncodedEvent, Tracker, TrackerMessage, excerpt};
use crate::model::event::{Event, Fact, RunStarted, RunStatus};
use crate::model::{CostTotal, EstimatedUsage, Failure, RunId, RunState, StepKey, StepState, StepStatus, UsageTotal};

/// The name in the outbox.
pub(super) const NAME: &str = "convex";

/// How much of a task is sent, in characters; a Convex document can hold 1 MiB.
const MAX_TASK: usize = 50_000;

/// Calls the functions of a deployment.
pub(super) struct Convex {
    url: String,
    key: Option<SecretString>,
    told: Option<SentRun>,
}

/// The state of a run, and its documents as they were last sent.
struct SentRun {
    state: RunState,
    workflow: Value,
    steps: HashMap<StepKey, Value>,
    session: ConvexSession,
}

/// The session of the run that is going on, or the last one. Each start and each resume begins one.
#[derive(Clone, Default)]
struct ConvexSession {
    number: u64,
    status: Option<RunStatus>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    version: String,
}

impl Convex {
    pub(super) fn new(url: &str, key: Option<SecretString>) -> Self {
        Self { url: format!("{}/api/mutation", url.trim_end_matches('/')), key, told: None }
    }

    fn calls(&mut self, event: &Event) -> Vec<(&'static str, Value)> {
        let told = self.told.get_or_insert_with(|| SentRun::new(event.run));
        told.state.apply(event);
        let mut calls = Vec::new();
        if let Fact::RunStarted(fact) = &event.fact {
            calls.push(("createWorkflow", told.created(event, fact)));
        }
        calls.extend(told.sessions(event).into_iter().map(|session| ("recordSession", session)));
        calls.extend(told.steps().into_iter().map(|step| ("upsertStep", step)));
        // Last, so that a workflow that is reported as ended has all its data.
        calls.extend(told.status().map(|status| ("updateWorkflowStatus", status)));
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

    fn take(&mut self, event: &Event) -> Vec<TrackerMessage> {
        let message = |(name, args)| TrackerMessage {
            headers: Vec::new(),
            body: json!({ "path": format!("workflows:{name}"), "args": args, "format": "json" }).to_string(),
        };
        self.calls(event).into_iter().map(message).collect()
    }

    fn skip(&mut self, event: &Event) {
        self.calls(event);
    }

    fn proof(&self, _: &TrackerMessage, _: Timestamp) -> Vec<(&'static str, SecretString)> {
        let key = self.key.as_ref();
        key.map(|key| ("authorization", format!("Convex {}", key.expose_secret()).into())).into_iter().collect()
    }

    /// Convex reports a failed function with status 200 or 560, depending on the version of its API.
    fn verdict(&self, status: u16, body: &str) -> EncodedEvent {
        let reply: Value = serde_json::from_str(body).unwrap_or_default();
        match (status, reply["status"].as_str()) {
            (200 | 560, Some("success")) => EncodedEvent::Accepted,
            (200 | 560, Some("error")) => EncodedEvent::Refused(refusal(&reply)),
            (400 | 413 | 422, _) => EncodedEvent::Refused(format!("{status}: {}", excerpt(body))),
            (200, _) => EncodedEvent::Later(format!("it does not answer like Convex: {}", excerpt(body))),
            _ => EncodedEvent::Later(format!("it answers with {status}: {}", excerpt(body))),
        }
    }
}

fn refusal(reply: &Value) -> String {
    let message = excerpt(reply["errorMessage"].as_str().unwrap_or_default());
    match &reply["errorData"] {
        Value::String(data) if !message.contains(data.as_str()) => format!("{message} ({})", excerpt(data)),
        _ => message,
    }
}

impl SentRun {
    fn new(run: RunId) -> Self {
        let state = RunState::new(run);
        Self { state, workflow: Value::Null, steps: HashMap::new(), session: ConvexSession::default() }
    }

    fn created(&mut self, event: &Event, fact: &RunStarted) -> Value {
        self.workflow = progress(&self.state);
        let task = fact.inputs.get("task").and_then(Value::as_str);
        let mut args = json!({ "pipeline": fact.pipeline, "status": "running", "startedAt": millis(event.at) });
        put(&mut args, "task", task.map(|task| json!(task.chars().take(MAX_TASK).collect::<String>())));
        put(&mut args, "workflowId", fact.workflow_id.as_ref().map(|id| json!(id)));
        args
    }

    /// The sessions that an event started or ended.
    fn sessions(&mut self, event: &Event) -> Vec<Value> {
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
        let mut changed = Vec::new();
        if self.session.status == Some(RunStatus::Running) {
            // The process died before it could record how the session ended.
            self.session.status = Some(RunStatus::Interrupted);
            changed.push(self.session.document());
        }
        self.session = ConvexSession {
            number: self.session.number + 1,
            status: Some(RunStatus::Running),
            started: Some(event.at),
            ended: None,
            version: version.clone(),
        };
        changed.push(self.session.document());
        changed
    }

    /// The documents of the steps that changed since they were last sent.
    fn steps(&mut self) -> Vec<Value> {
        let mut gone = std::mem::take(&mut self.steps);
        let mut changed = Vec::new();
        for (position, step) in self.state.steps.iter().enumerate() {
            let document = document(step, position);
            if gone.remove(&step.step).as_ref() != Some(&document) {
                changed.push(document.clone());
            }
            self.steps.insert(step.step.clone(), document);
        }
        // Steps that the pipeline no longer has: reported once as skipped, then forgotten.
        for mut document in gone.into_values() {
            document["status"] = json!(StepStatus::Skipped);
            document["reason"] = json!("the pipeline has this step no longer");
            changed.push(document);
        }
        changed
    }

    /// The workflow's document, if it changed since it was last sent.
    fn status(&mut self) -> Option<Value> {
        let now = progress(&self.state);
        if now == self.workflow {
            return None;
        }
        self.workflow = now.clone();
        Some(now)
    }
}

impl ConvexSession {
    fn document(&self) -> Value {
        let mut value = json!({ "number": self.number, "status": self.status, "version": self.version });
        put(&mut value, "startedAt", self.started.map(millis));
        put(&mut value, "endedAt", self.ended.map(millis));
        value
    }
}

fn progress(state: &RunState) -> Value {
    let totals = used(&state.usage(), state.cost());
    let mut value = json!({ "status": state.status, "totals": totals });
    put(&mut value, "startedAt", state.started.map(millis));
    put(&mut value, "endedAt", state.ended.map(millis));
    put(&mut value, "error", state.failure.as_ref().map(failure));
    value
}

/// Tokens and cost, with how many of the tokens are estimated and how many calls are not counted.
fn used(usage: &UsageTotal, cost: CostTotal) -> Value {
    let mut value = json!({ "inputTokens": usage.input, "outputTokens": usage.output });
    let estimated = |part: EstimatedUsage| json!(part.input.saturating_add(part.output).saturating_add(part.undivided));
    put(&mut value, "estimatedTokens", usage.estimated.map(estimated));
    put(&mut value, "unknownCalls", (usage.unknown_calls > 0).then(|| json!(usage.unknown_calls)));
    put(&mut value, "costUsd", cost.known().map(|usd| json!(usd)));
    put(&mut value, "estimatedCostUsd", cost.estimated().map(|usd| json!(usd)));
    value
}

fn document(step: &StepState, position: usize) -> Value {
    let key = step.step.as_str();
    let usage = used(&step.usage, step.cost);
    let mut value = json!({
        "key": key, "name": key.rsplit('/').next(), "position": position, "agent": step.agent,
        "model": step.model.as_ref().map(ToString::to_string).unwrap_or_default(), "status": step.status, "attempts": step.attempts, "usage": usage,
    });
    put(&mut value, "session", step.session.as_ref().map(|session| json!(session)));
    put(&mut value, "startedAt", step.started.map(millis));
    put(&mut value, "endedAt", step.ended.map(millis));
    let output = |artifact: &crate::model::Artifact| json!({ "name": artifact.name, "digest": artifact.digest });
    put(&mut value, "output", step.artifact.as_ref().map(output));
    put(&mut value, "error", step.failure.as_ref().map(failure));
    put(&mut value, "reason", step.reason.as_ref().map(|reason| json!(reason)));
    value
}

fn failure(failure: &Failure) -> Value {
    json!({ "class": failure.class, "message": failure.message })
}

fn millis(at: Timestamp) -> Value {
    json!(at.as_millisecond())
}

/// Sets a field if there is a value: Convex distinguishes an absent field from null.
fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_function_is_told_with_200_or_560() {
        let convex = Convex::new("http://127.0.0.1:9/", None);
        assert_eq!(convex.url(), "http://127.0.0.1:9/api/mutation");
        let error = r#"{"status":"error","errorMessage":"Uncaught ConvexError\n at x","errorData":"no such run"}"#;
        for status in [200, 560] {
            assert_eq!(convex.verdict(status, r#"{"status":"success","value":null}"#), EncodedEvent::Accepted);
            assert_eq!(
                convex.verdict(status, error),
                EncodedEvent::Refused("Uncaught ConvexError (no such run)".to_owned())
            );
        }
        for (status, body) in [(200, "<html>"), (401, "{}"), (500, ""), (503, "{}"), (560, "oops")] {
            assert!(matches!(convex.verdict(status, body), EncodedEvent::Later(_)), "{status}");
        }
    }
}
