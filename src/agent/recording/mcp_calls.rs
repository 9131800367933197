//! Recordings of calls of MCP tools: their results, and the files that they changed.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::changes::RecordedChanges;
use super::exchange::{CallPosition, Exchange, ExchangeId, RequestPart, RequestText, join_lines, split_lines};
use super::paths::RunPaths;
use super::{RecordingContext, map_texts};
use crate::model::{
    AgentActivity, CallKey, Digest, Failure, FailureClass, InputRequired, McpCallOutput, McpInvocation, McpToolName,
    ToolOutput, is_unanswered_call,
};

/// A recorded call of an MCP tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct McpCallRecording {
    /// The step that made the call, or whose model did.
    step: String,
    #[serde(default, skip_serializing_if = "CallPosition::is_first")]
    call: CallPosition,
    /// The tool.
    mcp_tool: McpToolName,
    /// The arguments.
    arguments: Value,
    /// The answers to the questions that the server asked before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answers: Option<Value>,
    /// The digest that identifies the call.
    key: Digest,
    /// The lines of the result. Empty if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    result: Vec<String>,
    /// Whether the call failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
    /// The structured result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    structured: Option<Value>,
    /// What the server asked of the user in place of a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_required: Option<Value>,
    /// What the server asked during the call and no person answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<Value>,
    /// Why the server did not answer the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<RecordedFailure>,
    /// The files that the call changed.
    #[serde(default, skip_serializing_if = "RecordedChanges::is_empty")]
    changes: RecordedChanges,
}

/// The failure of a call that the server did not answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RecordedFailure {
    class: FailureClass,
    message: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unperformed: bool,
}

impl McpCallRecording {
    /// The recording of a call; `None` if orch ended the call or could not perform it, so that its failure says nothing
    /// about the server.
    pub(super) fn new(
        key: &CallKey,
        invocation: &McpInvocation,
        result: Result<&McpCallOutput, &Failure>,
        activity: &AgentActivity,
        context: &RecordingContext<'_>,
    ) -> Option<Self> {
        let recording = Self {
            step: key.step.to_string(),
            call: CallPosition::from(key),
            mcp_tool: invocation.tool_name(),
            arguments: context.portable_value(&invocation.arguments),
            answers: portable_answers(invocation, context),
            key: Self::request_text(invocation, context).digest(),
            result: Vec::new(),
            is_error: false,
            structured: None,
            input_required: None,
            unanswered: Vec::new(),
            failure: None,
            changes: RecordedChanges::new(activity, context),
        };
        match result {
            Ok(output) => {
                let questions = output.input_required.as_ref().map(|input| context.portable_value(&json!(input)));
                Some(Self {
                    result: split_lines(&context.portable_text(&output.result.content)),
                    is_error: output.result.is_error,
                    structured: output.structured.as_ref().map(|value| context.portable_value(value)),
                    input_required: questions,
                    unanswered: output.unanswered.iter().map(|asked| context.portable_value(&json!(asked))).collect(),
                    ..recording
                })
            }
            Err(failure) if is_unanswered_call(failure.class) => {
                let message = context.portable_text(&failure.message);
                let Failure { class, unperformed, .. } = *failure;
                Some(Self { failure: Some(RecordedFailure { class, message, unperformed }), ..recording })
            }
            Err(_) => None,
        }
    }

    /// A call as recordings contain it. The settings of its server do not count, and neither does the state that the
    /// server got back with answers.
    pub(super) fn request_text(invocation: &McpInvocation, context: &RecordingContext<'_>) -> RequestText {
        let arguments = context.portable_value(&invocation.arguments);
        call_text(&invocation.tool_name(), &arguments, portable_answers(invocation, context).as_ref())
    }

    /// The output of the call with the folders of this run, or its failure.
    pub(super) fn output(&self, invocation: &McpInvocation, paths: &RunPaths) -> Result<McpCallOutput, Failure> {
        let fill = |text: &str| paths.fill_placeholders(text);
        if let Some(RecordedFailure { class, message, unperformed }) = &self.failure {
            return Err(Failure { unperformed: *unperformed, ..Failure::new(*class, fill(message)) });
        }
        let input_required: Option<Box<InputRequired>> = match &self.input_required {
            Some(value) => Some(Box::new(self.read_recorded(map_texts(value, &fill))?)),
            None => None,
        };
        let unanswered = self.unanswered.iter().map(|asked| self.read_recorded(map_texts(asked, &fill)));
        let unanswered = unanswered.collect::<Result<Vec<_>, Failure>>()?;
        let content = fill(&join_lines(&self.result));
        Ok(McpCallOutput {
            tool: invocation.tool_name(),
            kind: invocation.server.call_kind(),
            arguments: invocation.summary(),
            result: ToolOutput { content, is_error: self.is_error, ..ToolOutput::default() },
            structured: self.structured.as_ref().map(|value| map_texts(value, &fill)),
            input_required,
            unanswered,
        })
    }

    fn read_recorded<T: DeserializeOwned>(&self, value: Value) -> Result<T, Failure> {
        serde_json::from_value(value).map_err(|error| {
            let message = format!("the recording of a call of `{}` can't be read: {error}", self.mcp_tool);
            Failure::new(FailureClass::NoRecording, message).with_hint("record it again with `--record`")
        })
    }

    /// The files that the call changed.
    pub(super) fn changes(&self) -> &RecordedChanges {
        &self.changes
    }
}

/// The answers of a call as recordings contain them.
fn portable_answers(invocation: &McpInvocation, context: &RecordingContext<'_>) -> Option<Value> {
    let answers = invocation.answers.as_ref()?;
    Some(context.portable_value(&json!(answers.responses)))
}

/// A call as a request. The order of its arguments does not count.
fn call_text(tool: &McpToolName, arguments: &Value, answers: Option<&Value>) -> RequestText {
    let sorted_text = |value: &Value| {
        let mut value = value.clone();
        value.sort_all_objects();
        format!("{value:#}")
    };
    let tool = RequestPart { name: "tool".to_owned(), text: tool.to_string() };
    let arguments = RequestPart { name: "arguments".to_owned(), text: sorted_text(arguments) };
    let answers = answers.map(|answers| RequestPart { name: "answers".to_owned(), text: sorted_text(answers) });
    RequestText { parts: [tool, arguments].into_iter().chain(answers).collect(), schema: None }
}

impl Exchange for McpCallRecording {
    fn id(&self) -> ExchangeId<'_> {
        ExchangeId { step: &self.step, position: &self.call, key: &self.key }
    }

    fn request(&self) -> RequestText {
        call_text(&self.mcp_tool, &self.arguments, self.answers.as_ref())
    }

    fn label(&self) -> Option<&'static str> {
        Some(MCP_LABEL)
    }
}

/// The part of the file names of these recordings that shows what they are.
pub(super) const MCP_LABEL: &str = "mcp";

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use crate::agent::{RecordedExchange, Recorder, Replay, ReplayOptions};
    use crate::files::{ChangeSet, Content, FileChange, FileState};
    use crate::model::{InputAnswers, InputQuestion, McpAccess, McpCallKind, McpServerSpec, McpTransport, StepKey};
    use crate::secret::Redactor;

    fn invocation(arguments: Value, answers: Option<Value>) -> McpInvocation {
        let responses = answers.map(|answers| IndexMap::from([("a".to_owned(), answers)]));
        let answers = responses.map(|responses| Box::new(InputAnswers { responses, state: Some("7".to_owned()) }));
        let transport = McpTransport::Http { url: "https://docs.example".to_owned(), headers: IndexMap::new() };
        let (name, access) = ("docs".to_owned(), McpAccess::Read);
        let server = McpServerSpec { name, transport, tools: None, access };
        McpInvocation { server, tool: "find".to_owned(), arguments, answers, reserved: [].into(), timeout_ms: 1 }
    }

    fn output(content: &str) -> McpCallOutput {
        McpCallOutput {
            tool: McpToolName { server: "docs".to_owned(), tool: "find".to_owned() },
            kind: McpCallKind::RemoteRead,
            arguments: String::new(),
            result: ToolOutput { content: content.to_owned(), ..ToolOutput::default() },
            structured: None,
            input_required: None,
            unanswered: Vec::new(),
        }
    }

    fn call_key(ordinal: u32, round: Option<u32>) -> CallKey {
        CallKey { step: StepKey::root("fix"), attempt: 1, ordinal, tool_call: Some(1), input_round: round }
    }

    #[test]
    fn each_result_of_a_call_is_replayed_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        let (redactor, paths) = (Redactor::default(), RunPaths::default());
        let context = RecordingContext { redactor: &redactor, paths: &paths };
        let activity = AgentActivity::default();
        let record = |key: &CallKey, invocation: &McpInvocation, result: Result<&McpCallOutput, &Failure>| {
            recorder.record(key, RecordedExchange::McpCall { invocation, result, activity: &activity }, &context);
        };
        let call = invocation(json!({ "text": "a", "count": 1 }), None);
        let questions = IndexMap::from([("a".to_owned(), InputQuestion::default())]);
        let asked = McpCallOutput {
            input_required: Some(Box::new(InputRequired { questions, state: Some("7".to_owned()) })),
            ..output("")
        };
        let structured = McpCallOutput { structured: Some(json!({ "hits": [1] })), ..output("one\ntwo") };
        let failed = McpCallOutput {
            result: ToolOutput { content: "no".to_owned(), is_error: true, ..ToolOutput::default() },
            ..output("")
        };
        let answered = invocation(json!({ "text": "a", "count": 1 }), Some(json!({ "b": 2 })));
        record(&call_key(1, None), &call, Ok(&asked));
        record(&call_key(1, Some(1)), &answered, Ok(&structured));
        record(&call_key(2, None), &call, Ok(&failed));
        let timeout = Failure::new(FailureClass::Timeout, "no answer");
        record(&call_key(3, None), &call, Err(&timeout));
        record(&call_key(4, None), &call, Err(&Failure::new(FailureClass::Cancelled, "stopped")));
        assert_eq!(recorder.failure(), None);
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        let next = |invocation: &McpInvocation| {
            let replayed = replay.mcp_call(&StepKey::root("fix"), invocation, &context).unwrap();
            replayed.result.map(|output| McpCallOutput { arguments: String::new(), ..output })
        };
        assert_eq!(next(&call), Ok(asked));
        assert_eq!(next(&answered), Ok(structured));
        assert_eq!(next(&call), Ok(failed));
        let reordered = invocation(json!({ "count": 1, "text": "a" }), None);
        assert_eq!(next(&reordered).unwrap_err(), timeout);
        let other = invocation(json!({ "text": "b" }), None);
        let failure = replay.mcp_call(&StepKey::root("fix"), &other, &context).unwrap_err();
        assert_eq!(failure.class, FailureClass::NoRecording);
        assert!(failure.message.contains("`docs.find`"), "{failure}");
        assert!(failure.hint.unwrap().contains("the arguments of the tool call"));
    }

    #[test]
    fn a_resumed_session_counts_the_calls_of_the_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let (redactor, paths) = (Redactor::default(), RunPaths::default());
        let context = RecordingContext { redactor: &redactor, paths: &paths };
        let (activity, call) = (AgentActivity::default(), invocation(json!({}), None));
        let (first, second) = (output("first"), output("second"));
        for (ordinal, output) in [(1, &first), (2, &second)] {
            let recorder = Recorder::new(folder.path()).unwrap();
            for _ in 1..ordinal {
                recorder.skip_mcp_call(&StepKey::root("fix"), &call, &context);
            }
            let exchange = RecordedExchange::McpCall { invocation: &call, result: Ok(output), activity: &activity };
            recorder.record(&call_key(ordinal, None), exchange, &context);
        }
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        replay.skip_mcp_call(&StepKey::root("fix"), &call, &context);
        let replayed = replay.mcp_call(&StepKey::root("fix"), &call, &context).unwrap();
        assert_eq!(replayed.result.unwrap().result.content, "second");
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
        let (activity, call) = (changes.to_activity(), invocation(json!({}), None));
        let exchange = RecordedExchange::McpCall { invocation: &call, result: Ok(&output("")), activity: &activity };
        recorder.record(&call_key(1, None), exchange, &context);
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        let replayed = replay.mcp_call(&StepKey::root("fix"), &call, &context).unwrap();
        assert_eq!(replayed.changes.change_set, Some(changes));
    }
}
