//! Recordings of tool calls: their results, and the files that they changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RecordingContext;
use super::changes::RecordedChanges;
use super::exchange::{CallPosition, Exchange, ExchangeId, RequestPart, RequestText, join_lines, split_lines};
use super::paths::RunPaths;
use crate::model::{AgentActivity, BuiltinTool, CallKey, Digest, ToolInvocation, ToolOutput};

/// A recorded tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ToolCallRecording {
    /// The step whose model made the call.
    step: String,
    #[serde(default, skip_serializing_if = "CallPosition::is_first")]
    call: CallPosition,
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
    /// The files that the call changed.
    #[serde(default, skip_serializing_if = "RecordedChanges::is_empty")]
    changes: RecordedChanges,
}

impl ToolCallRecording {
    pub(super) fn new(
        key: &CallKey,
        invocation: &ToolInvocation,
        output: &ToolOutput,
        activity: &AgentActivity,
        context: &RecordingContext<'_>,
    ) -> Self {
        Self {
            step: key.step.to_string(),
            call: CallPosition::from(key),
            tool: invocation.tool,
            arguments: context.portable_value(&invocation.arguments),
            key: Self::request_text(invocation, context).digest(),
            result: split_lines(&context.portable_text(&output.content)),
            is_error: output.is_error,
            changes: RecordedChanges::new(activity, context),
        }
    }

    /// A call as recordings contain it. Neither the grants nor the limits of the tool count.
    pub(super) fn request_text(invocation: &ToolInvocation, context: &RecordingContext<'_>) -> RequestText {
        call_text(invocation.tool, &context.portable_value(&invocation.arguments))
    }

    /// The output of the call, with the folders of this run.
    pub(super) fn output(&self, paths: &RunPaths) -> ToolOutput {
        let content = paths.fill_placeholders(&join_lines(&self.result));
        ToolOutput { content, is_error: self.is_error, ..ToolOutput::default() }
    }

    /// The files that the call changed.
    pub(super) fn changes(&self) -> &RecordedChanges {
        &self.changes
    }
}

/// A call as a request. The order of its arguments does not count.
fn call_text(tool: BuiltinTool, arguments: &Value) -> RequestText {
    let mut arguments = arguments.clone();
    arguments.sort_all_objects();
    let tool = RequestPart { name: "tool".to_owned(), text: tool.to_string() };
    let arguments = RequestPart { name: "arguments".to_owned(), text: format!("{arguments:#}") };
    RequestText { parts: vec![tool, arguments], schema: None }
}

impl Exchange for ToolCallRecording {
    fn id(&self) -> ExchangeId<'_> {
        ExchangeId { step: &self.step, position: &self.call, key: &self.key }
    }

    fn request(&self) -> RequestText {
        call_text(self.tool, &self.arguments)
    }

    fn label(&self) -> Option<&'static str> {
        Some(self.tool.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::{RecordedExchange, Recorder, Replay, ReplayOptions};
    use crate::files::{ChangeSet, Content, FileChange, FileState};
    use crate::model::{FailureClass, StepKey};
    use crate::secret::Redactor;

    fn invocation(arguments: Value) -> ToolInvocation {
        ToolInvocation {
            id: "call".to_owned(),
            tool: BuiltinTool::Shell,
            arguments,
            grants: Vec::new(),
            reserved: [].into(),
            env: Vec::new(),
            sandbox: None,
            project_network: None,
            timeout_ms: 0,
        }
    }

    fn call_key(ordinal: u32, position: u32) -> CallKey {
        CallKey { step: StepKey::root("fix"), attempt: 1, ordinal, tool_call: Some(position), input_round: None }
    }

    #[test]
    fn the_same_call_returns_its_results_in_the_recorded_order() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        let (redactor, paths) = (Redactor::default(), RunPaths::default());
        let context = RecordingContext { redactor: &redactor, paths: &paths };
        let (call, activity) = (invocation(json!({ "command": "make test" })), AgentActivity::default());
        // Calls of one reply run in parallel, so the order of their ends varies.
        for number in (1..=12).rev() {
            let output = ToolOutput { content: format!("try {number}\nend"), ..ToolOutput::default() };
            let exchange = RecordedExchange::ToolCall { invocation: &call, output: &output, activity: &activity };
            recorder.record(&call_key(1 + number / 6, number), exchange, &context);
        }
        assert_eq!(recorder.failure(), None);
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        let step = StepKey::root("fix");
        for number in 1..=12 {
            let replayed = replay.tool_call(&step, &call, &context).unwrap();
            assert_eq!(replayed.output.content, format!("try {number}\nend"));
        }
        let other = invocation(json!({ "command": "make" }));
        let failure = replay.tool_call(&step, &other, &context).unwrap_err();
        assert_eq!(failure.class, FailureClass::NoRecording);
        assert!(failure.message.contains("`shell`") && failure.message.contains("make"), "{failure}");
        assert!(failure.hint.unwrap().contains("the arguments of the tool call"));
    }

    #[test]
    fn the_changes_of_a_call_are_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        let (redactor, paths) = (Redactor::default(), RunPaths::default());
        let context = RecordingContext { redactor: &redactor, paths: &paths };
        let after = FileState { content: Content::from(b"a\n".to_vec()), mode: None };
        let change = FileChange { path: "a.txt".to_owned(), before: None, after: Some(after) };
        let changes = ChangeSet { files: vec![change], ..ChangeSet::default() };
        let activity = AgentActivity {
            changed: vec!["a.txt".to_owned()],
            files: Some(serde_json::to_value(&changes).unwrap()),
            ..AgentActivity::default()
        };
        let call = invocation(json!({ "command": "touch a.txt" }));
        let output = ToolOutput { content: String::new(), is_error: true, ..ToolOutput::default() };
        let exchange = RecordedExchange::ToolCall { invocation: &call, output: &output, activity: &activity };
        recorder.record(&call_key(1, 1), exchange, &context);
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        let replayed = replay.tool_call(&StepKey::root("fix"), &call, &context).unwrap();
        assert_eq!((replayed.output, replayed.changes.change_set), (output, Some(changes)));
        assert_eq!((replay.omissions(), recorder.omissions()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_replay_and_the_recorder_say_which_changes_the_recordings_lack() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        let (redactor, paths) = (Redactor::default(), RunPaths::default());
        let context = RecordingContext { redactor: &redactor, paths: &paths };
        let (call, output) = (invocation(json!({ "command": "make" })), ToolOutput::default());
        let mut activity = AgentActivity::with_unknown_changes("`sub` can't be read");
        activity.left_out.push("large".to_owned());
        let exchange = RecordedExchange::ToolCall { invocation: &call, output: &output, activity: &activity };
        recorder.record(&call_key(1, 1), exchange, &context);
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        assert_eq!(replay.omissions(), Vec::<String>::new(), "no step has used the recording");
        let omission = "it lacks the changes of `large`; orch could not compare everything: `sub` can't be read";
        for _ in 0..2 {
            let replayed = replay.tool_call(&StepKey::root("fix"), &call, &context).unwrap();
            assert_eq!((replayed.changes.change_set, replayed.changes.omission.as_deref()), (None, Some(omission)));
        }
        let expected = vec![format!("the recording of step `fix` is incomplete: {omission}")];
        assert_eq!((replay.omissions(), recorder.omissions()), (expected.clone(), expected));
    }
}
