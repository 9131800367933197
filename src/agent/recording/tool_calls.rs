//! Recordings of tool calls: their results, and the files that they changed.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{
    AgentActivity, BuiltinTool, Digest, Failure, FailureClass, StepKey, ToolInvocation, ToolOutput, canonical_json,
};
use crate::secret::Redactor;

use super::{Recorder, Replay, split_lines};

/// A tool call and its result, as stored in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ToolCallRecording {
    /// The step whose model made the call.
    step: String,
    /// The tool.
    tool: BuiltinTool,
    /// The arguments.
    arguments: Value,
    /// The digest that identifies the call.
    key: Digest,
    /// The lines of the result.
    result: Vec<String>,
    /// Whether the call failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
    /// The names of the changed files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<String>,
    /// The changes, with the contents before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changes: Option<Value>,
    /// The changed files that a replay can't change, since their contents are not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

impl ToolCallRecording {
    /// The digest that identifies the call.
    pub(super) fn key(&self) -> &str {
        self.key.as_str()
    }
}

/// Whether a recording is that of a tool call.
pub(super) fn is_tool_call(recording: &Value) -> bool {
    recording.get("tool").is_some()
}

/// The key of a call: the digest of its tool and arguments.
fn call_key(tool: BuiltinTool, arguments: &Value) -> Digest {
    Digest::compute(canonical_json(&json!({ "tool": tool, "arguments": arguments })).as_bytes())
}

impl Recorder {
    /// Records a tool call and its result without their secrets. As for a reply, an error does not fail the call.
    pub fn record_tool_call(
        &self,
        step: &StepKey,
        invocation: &ToolInvocation,
        output: &ToolOutput,
        activity: &AgentActivity,
        redactor: &Redactor,
    ) {
        let AgentActivity { changed, files, left_out, .. } = redactor.redact_activity(activity.clone());
        let key = call_key(invocation.tool, &invocation.arguments);
        let name = format!("{}.{}.{}", step.declared_key().as_str().replace('/', "."), invocation.tool, key.short());
        let recording = ToolCallRecording {
            step: step.to_string(),
            tool: invocation.tool,
            arguments: redactor.redact_value(invocation.arguments.clone()),
            key,
            result: split_lines(&redactor.redact(&output.content)),
            is_error: output.is_error,
            changed,
            changes: files,
            left_out,
        };
        if let Err(failure) = self.write_file(name, &recording) {
            self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }
}

impl Replay {
    /// The recorded result of a tool call, and the changes that it made.
    ///
    /// # Errors
    /// `no_recording`, if the recordings do not contain the call.
    pub fn tool_call(
        &self,
        step: &StepKey,
        tool: BuiltinTool,
        arguments: &Value,
    ) -> Result<(ToolOutput, AgentActivity), Failure> {
        let key = call_key(tool, arguments);
        let recordings = self.tool_calls.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
        let of_step: Vec<&ToolCallRecording> =
            recordings.iter().filter(|recording| recording.step == step.as_str()).collect();
        let index = self.count_request(step, key.as_str()).min(of_step.len().saturating_sub(1));
        let Some(recording) = of_step.get(index).copied().or_else(|| recordings.first()) else {
            let message =
                format!("no recording in `{}` matches the call of `{tool}` with {arguments}", self.folder.display());
            return Err(Failure::new(FailureClass::NoRecording, message).with_hint(self.remedy.clone()));
        };
        let ToolCallRecording { result, is_error, changed, changes, left_out, .. } = recording.clone();
        let output = ToolOutput { content: result.join("\n"), is_error, ..ToolOutput::default() };
        let activity = AgentActivity { changed, files: changes, left_out, ..AgentActivity::default() };
        Ok((output, activity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(arguments: Value) -> ToolInvocation {
        ToolInvocation {
            id: "call".to_owned(),
            tool: BuiltinTool::Shell,
            arguments,
            grants: Vec::new(),
            reserved: Vec::new(),
            env: Vec::new(),
            sandbox: None,
            timeout_ms: 0,
        }
    }

    /// Writes the recording of a reply, without which a folder counts as empty.
    fn record_reply(recorder: &Recorder, step: &StepKey) {
        let request = crate::model::ChatRequest::new(
            crate::model::ModelRef::new("lab", "m"),
            vec![crate::model::Message::user("task")],
            10,
        );
        let reply = json!({ "content": "done", "stop": "end", "usage": {}, "constrained": false });
        recorder.record(step, &request, &serde_json::from_value(reply).unwrap(), &Redactor::default());
    }

    #[test]
    fn the_same_call_returns_its_results_in_the_recorded_order() {
        let folder = tempfile::tempdir().unwrap();
        let (recorder, step) = (Recorder::new(folder.path()).unwrap(), StepKey::root("fix"));
        record_reply(&recorder, &step);
        let call = invocation(json!({ "command": "make test" }));
        for number in 1..=12 {
            let output = ToolOutput { content: format!("try {number}\nend"), ..ToolOutput::default() };
            recorder.record_tool_call(&step, &call, &output, &AgentActivity::default(), &Redactor::default());
        }
        assert_eq!(recorder.failure(), None);
        let replay = Replay::open(folder.path()).unwrap();
        for number in 1..=12 {
            let (output, _) = replay.tool_call(&step, BuiltinTool::Shell, &call.arguments).unwrap();
            assert_eq!(output.content, format!("try {number}\nend"));
        }
        let other = json!({ "command": "make" });
        let failure = replay.tool_call(&step, BuiltinTool::Shell, &other).unwrap_err();
        assert_eq!(failure.class, FailureClass::NoRecording);
        assert!(failure.message.contains("`shell`") && failure.message.contains("make"), "{failure}");
    }

    #[test]
    fn the_changes_of_a_call_are_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let (recorder, step) = (Recorder::new(folder.path()).unwrap(), StepKey::root("fix"));
        record_reply(&recorder, &step);
        let activity = AgentActivity {
            changed: vec!["a.txt".to_owned()],
            files: Some(json!({ "files": [] })),
            ..AgentActivity::default()
        };
        let call = invocation(json!({ "command": "touch a.txt" }));
        let output = ToolOutput { content: String::new(), is_error: true, ..ToolOutput::default() };
        recorder.record_tool_call(&step, &call, &output, &activity, &Redactor::default());
        let replay = Replay::open(folder.path()).unwrap();
        assert_eq!(replay.tool_call(&step, BuiltinTool::Shell, &call.arguments).unwrap(), (output, activity));
    }
}
