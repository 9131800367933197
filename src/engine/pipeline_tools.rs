//! Pipelines as tools: a model calls a pipeline, gives its inputs as arguments and receives its outputs.
//!
//! The steps of a called pipeline are steps of the run. Their keys contain the step of the model, the name of the tool
//! and the number of the call in the attempt, such as `manage/design[0]/plan`. So a resume continues inside of a
//! pipeline, and a new attempt of the model reuses what the same calls completed before. orch records what a call returned,
//! before the model receives it. A resume takes this result, and runs no step of the pipeline again, also if it failed.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::durable::{Interrupt, PipelineCall, PipelineCallEnded, PipelineCallStart, StepFact};
use crate::model::visible::escape_line_breaks;
use crate::model::{Digest, Failure, PipelineCallOutput, StepKey, ToolDefinition, ToolOutput};
use crate::offload::LARGE_TEXT_BYTES;
use crate::process::shorten_middle;
use crate::tool::MAX_CONTENT_BYTES;

use super::group;
use super::interpret::Interpreter;
use super::node::{CalledPipelineInput, NodeKind, PipelineNode, PlanNode};
use super::scope::ValueScope;

/// The number of bytes of a result that are kept free for the note about the bytes that are left out.
const MARKER_BYTES: usize = 256;

/// The calls of pipelines in one attempt of a step. They run one after another.
pub(super) struct PipelineCalls {
    /// How often the model called each pipeline, by the name of the tool.
    counts: HashMap<String, usize>,
    /// A digest that identifies the state of the workspace after the calls so far.
    workspace_version: Digest,
}

/// What a call of a pipeline returned to the model.
#[derive(Debug, PartialEq)]
pub(super) struct PipelineCallResult {
    /// The outputs as JSON, or why the pipeline failed.
    pub(super) content: String,
    /// Whether the pipeline failed.
    pub(super) is_error: bool,
    /// Whether it may have changed files of the workspace.
    pub(super) changes_files: bool,
    /// Whether a recorded output has this content.
    pub(super) is_recorded: bool,
}

impl PipelineCalls {
    /// The state before the first call of an attempt. `scope` has the values that the step of the model sees.
    pub(super) fn new(scope: &ValueScope) -> Self {
        Self { counts: HashMap::new(), workspace_version: scope.workspace_version().clone() }
    }

    /// Records when the reply with the next calls was received. An attempt that continues the conversation of an earlier
    /// one has the same replies, and reuses the results of their calls. In a new conversation, the workspace may have
    /// changed since the calls of the earlier one.
    pub(super) fn note_reply(&mut self, received_at: Option<Timestamp>) {
        if let Some(received_at) = received_at {
            self.workspace_version = next_version(&self.workspace_version, &received_at.to_string());
        }
    }

    /// Records that another tool of the model changed the workspace, so that later calls do not reuse results for the
    /// earlier state. `change` identifies the change.
    pub(super) fn note_change(&mut self, change: &Digest) {
        self.workspace_version = next_version(&self.workspace_version, change.as_str());
    }

    /// Runs the pipeline of a node with these arguments, unless the call has a recorded result. A failed pipeline is a
    /// result for the model.
    pub(super) async fn run(
        &mut self,
        interpreter: Interpreter<'_>,
        node: &PlanNode,
        call: PipelineCall,
        arguments: Map<String, Value>,
    ) -> Result<PipelineCallResult, Interrupt> {
        let NodeKind::Pipeline(pipeline) = &node.kind else {
            return Ok(refusal(format!("`{}` is no pipeline, so nothing was done", node.id)));
        };
        let inputs = match read_inputs(interpreter, &call.key.step, node, pipeline, arguments).await? {
            Ok(inputs) => inputs,
            Err(message) => return Ok(refusal(message)),
        };
        let count = self.counts.entry(node.id.clone()).or_default();
        let step = call.key.step.child(&node.id).item(*count);
        *count += 1;
        let started = match interpreter.durable.begin_pipeline_call(&call).await? {
            PipelineCallStart::Ended(output) => return Ok(self.take_output(&output)),
            PipelineCallStart::Started(started) => started,
        };
        let mut scope = ValueScope::new(Map::new(), self.workspace_version.clone());
        let result = group::run_called(interpreter, &step, node, pipeline, inputs, &mut scope).await?;
        let version = scope.workspace_version();
        let change = (*version != self.workspace_version).then(|| version.clone());
        let (content, is_error) = match result {
            Ok(outputs) => (outputs_text(outputs.as_deref()), false),
            Err(failure) => (failure_text(&failure), true),
        };
        let result = ToolOutput { content, is_error, ..ToolOutput::default() };
        let output = PipelineCallOutput { step, arguments: call.summary.clone(), result, change };
        let taken = self.take_output(&output);
        let ended = PipelineCallEnded { call, started, output };
        interpreter.durable.record(StepFact::PipelineCallEnded(ended)).await?;
        Ok(taken)
    }

    /// The result of a call with this output. Later calls do not reuse results for the state of the workspace before it.
    fn take_output(&mut self, output: &PipelineCallOutput) -> PipelineCallResult {
        if let Some(change) = &output.change {
            self.note_change(change);
        }
        let ToolOutput { content, is_error, .. } = output.result.clone();
        PipelineCallResult { content, is_error, changes_files: output.change.is_some(), is_recorded: true }
    }
}

/// The version of the workspace after a change.
fn next_version(version: &Digest, change: &str) -> Digest {
    Digest::compute(format!("{version} {change}").as_bytes())
}

/// The result of a call that did not start a pipeline.
fn refusal(content: String) -> PipelineCallResult {
    PipelineCallResult { content, is_error: true, changes_files: false, is_recorded: false }
}

/// The inputs of a called pipeline. Work that may take long runs on a separate thread.
///
/// # Errors
/// The arguments do not fit the inputs. The error is for the model.
async fn read_inputs(
    interpreter: Interpreter<'_>,
    step: &StepKey,
    node: &PlanNode,
    call: &PipelineNode,
    arguments: Map<String, Value>,
) -> Result<Result<Map<String, Value>, String>, Interrupt> {
    let has_costly_schema = call.inputs.values().any(|input| input.schema.may_take_long());
    let is_large = || arguments.values().map(|value| value.to_string().len()).sum::<usize>() >= LARGE_TEXT_BYTES;
    if !has_costly_schema && !is_large() {
        return Ok(fill_inputs(&node.id, &call.inputs, arguments));
    }
    let (name, inputs) = (node.id.clone(), call.inputs.clone());
    interpreter.compute(step, move || fill_inputs(&name, &inputs, arguments)).await
}

/// Checks the arguments, and fills in the defaults of the inputs that are left out.
fn fill_inputs(
    name: &str,
    inputs: &IndexMap<String, CalledPipelineInput>,
    mut arguments: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut problems = Vec::new();
    let mut filled = Map::new();
    for (input_name, input) in inputs {
        let Some(value) = arguments.remove(input_name).or_else(|| input.default.clone()) else {
            problems.push(format!("`{input_name}` is missing"));
            continue;
        };
        let mismatches = input.schema.mismatches(&value);
        problems.extend(mismatches.iter().map(|mismatch| format!("`{input_name}` does not fit: {mismatch}")));
        filled.insert(input_name.clone(), value);
    }
    problems.extend(arguments.keys().map(|unknown| format!("there is no input `{}`", escape_line_breaks(unknown))));
    if problems.is_empty() {
        return Ok(filled);
    }
    Err(format!("the arguments of `{name}` do not fit, so nothing was done:\n{}", problems.join("\n")))
}

/// The outputs of a pipeline as a text for the model.
fn outputs_text(outputs: Option<&Value>) -> String {
    match outputs {
        Some(outputs @ Value::Object(members)) if !members.is_empty() => limited(&format!("{outputs:#}")),
        Some(_) | None => "the pipeline completed; it has no outputs".to_owned(),
    }
}

/// The failure of a pipeline as a text for the model.
fn failure_text(failure: &Failure) -> String {
    limited(&format!("the pipeline failed ({}): {}", failure.class, failure.message))
}

/// The text, shortened if it is too long for a model.
fn limited(text: &str) -> String {
    shorten_middle(text, MAX_CONTENT_BYTES - MARKER_BYTES).into_owned()
}

/// The definition of the tool with which a model calls the pipeline of a node; `None` for another node.
pub(super) fn definition(node: &PlanNode) -> Option<ToolDefinition> {
    let NodeKind::Pipeline(call) = &node.kind else { return None };
    let description = match &call.body.description {
        Some(description) => description.clone(),
        None => format!("Runs the pipeline `{}`.", call.body.name),
    };
    let returns = if call.body.outputs.is_empty() {
        String::new()
    } else {
        let names: Vec<String> = call.body.outputs.keys().map(|name| format!("`{name}`")).collect();
        format!(" Returns a JSON object with {}.", names.join(", "))
    };
    let parameters = Arc::new(parameters(&call.inputs));
    Some(ToolDefinition { name: node.id.clone(), description: format!("{description}{returns}"), parameters })
}

/// The JSON Schema of the arguments.
fn parameters(inputs: &IndexMap<String, CalledPipelineInput>) -> Value {
    let to_property = |(name, input): (&String, &CalledPipelineInput)| {
        let mut schema = input.schema.as_value().clone();
        move_references(&mut schema, &format!("#/properties/{name}"));
        (name.clone(), schema)
    };
    let properties: Map<String, Value> = inputs.iter().map(to_property).collect();
    let required: Vec<&String> =
        inputs.iter().filter(|(_, input)| input.default.is_none()).map(|(name, _)| name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The keywords of a JSON Schema whose values are data, and no schemas.
const DATA_KEYWORDS: &[&str] = &["const", "default", "enum", "examples"];

/// The keywords of a JSON Schema whose values are objects with names that the author chose, each with a schema.
const NAMING_KEYWORDS: &[&str] = &["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// Makes the references of a schema to its own parts valid after the schema becomes a part of another one, at `place`.
fn move_references(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(members) => {
            for (keyword, value) in members {
                match value {
                    Value::String(reference) if keyword == "$ref" && is_local(reference) => {
                        reference.replace_range(..1, place);
                    }
                    Value::Object(schemas) if NAMING_KEYWORDS.contains(&keyword.as_str()) => {
                        schemas.values_mut().for_each(|schema| move_references(schema, place));
                    }
                    other if !DATA_KEYWORDS.contains(&keyword.as_str()) => move_references(other, place),
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a reference is a JSON pointer into its own document: `#`, or `#/` with the names of members.
fn is_local(reference: &str) -> bool {
    reference == "#" || reference.starts_with("#/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::node::PlanBody;
    use crate::model::FailureClass;
    use crate::schema::Schema;

    fn input(schema: Value) -> CalledPipelineInput {
        let default = schema.get("default").cloned();
        CalledPipelineInput { schema: Schema::compile("input", schema).unwrap(), default }
    }

    fn inputs<const N: usize>(list: [(&str, Value); N]) -> IndexMap<String, CalledPipelineInput> {
        list.into_iter().map(|(name, schema)| (name.to_owned(), input(schema))).collect()
    }

    fn node(description: Option<&str>, inputs: IndexMap<String, CalledPipelineInput>, outputs: &[&str]) -> PlanNode {
        let body = PlanBody {
            name: "Design".to_owned(),
            description: description.map(str::to_owned),
            nodes: Vec::new(),
            finally: Vec::new(),
            budget: None,
            success: None,
            outputs: outputs.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect(),
        };
        PlanNode::called_by_model("design".to_owned(), PipelineNode { body, with: IndexMap::new(), inputs })
    }

    fn arguments(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_pipeline_is_described_by_its_inputs_and_outputs() {
        let inputs = inputs([
            ("task", json!({ "type": "string", "description": "What to design." })),
            ("depth", json!({ "type": "integer", "default": 2 })),
        ]);
        let definition = definition(&node(Some("Designs a change."), inputs, &["plan", "risks"])).unwrap();
        assert_eq!(definition.name, "design");
        assert_eq!(definition.description, "Designs a change. Returns a JSON object with `plan`, `risks`.");
        let expected = json!({
            "type": "object",
            "properties": {
                "task": { "type": "string", "description": "What to design." },
                "depth": { "type": "integer", "default": 2 },
            },
            "required": ["task"],
            "additionalProperties": false,
        });
        assert_eq!(*definition.parameters, expected);
        let plain = super::definition(&node(None, IndexMap::new(), &[])).unwrap();
        assert_eq!(plain.description, "Runs the pipeline `Design`.");
    }

    #[test]
    fn the_references_of_an_input_stay_valid_in_the_schema_of_all_inputs() {
        let tree = json!({
            "type": "object",
            "properties": {
                "children": { "type": "array", "items": { "$ref": "#" } },
                "default": { "$ref": "#/$defs/leaf" },
            },
            "$defs": { "leaf": { "const": { "$ref": "#/kept" } } },
        });
        let parameters = parameters(&inputs([("task", json!({ "type": "string" })), ("tree", tree)]));
        let schema = Schema::compile("parameters", parameters.clone()).unwrap();
        let leaf = json!({ "$ref": "#/kept" });
        assert!(schema.is_valid(&json!({ "task": "a", "tree": { "children": [{ "default": leaf }] } })));
        assert!(!schema.is_valid(&json!({ "task": "a", "tree": { "children": [{ "default": 1 }] } })));
        assert!(!schema.is_valid(&json!({ "task": "a", "tree": { "children": ["a"] } })));
        assert_eq!(parameters["properties"]["tree"]["$defs"]["leaf"]["const"], leaf);
    }

    #[test]
    fn arguments_that_do_not_fit_are_named_all_at_once() {
        let inputs =
            inputs([("task", json!({ "type": "string" })), ("depth", json!({ "type": "integer", "default": 2 }))]);
        let filled = fill_inputs("design", &inputs, arguments(json!({ "task": "a" })));
        assert_eq!(filled, Ok(arguments(json!({ "task": "a", "depth": 2 }))));
        let error = fill_inputs("design", &inputs, arguments(json!({ "depth": "deep", "dept": 1 }))).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.first(), Some(&"the arguments of `design` do not fit, so nothing was done:"));
        assert_eq!(lines.get(1), Some(&"`task` is missing"));
        assert!(lines.get(2).is_some_and(|line| line.starts_with("`depth` does not fit: ")), "{error}");
        assert_eq!(lines.get(3), Some(&"there is no input `dept`"));
    }

    #[test]
    fn a_model_receives_the_outputs_or_the_failure_in_a_limited_size() {
        assert_eq!(outputs_text(Some(&json!({ "plan": ["a"] }))), "{\n  \"plan\": [\n    \"a\"\n  ]\n}");
        for nothing in [None, Some(&json!({}))] {
            assert_eq!(outputs_text(nothing), "the pipeline completed; it has no outputs");
        }
        let large = "x".repeat(2 * MAX_CONTENT_BYTES);
        let text = outputs_text(Some(&json!({ "plan": large })));
        assert!(text.len() <= MAX_CONTENT_BYTES && text.contains("bytes are left out here"), "{}", text.len());
        let failure = Failure::new(FailureClass::CommandFailed, "pipeline Design: the command failed");
        assert_eq!(failure_text(&failure), "the pipeline failed (command_failed): pipeline Design: the command failed");
        let failure = Failure::new(FailureClass::CommandFailed, large);
        assert!(failure_text(&failure).len() <= MAX_CONTENT_BYTES);
    }

    #[test]
    fn a_change_of_the_workspace_or_another_reply_leads_to_another_version() {
        let scope = ValueScope::new(Map::new(), ValueScope::initial_workspace_version());
        let version_after = |second: i64, change: Option<&[u8]>| {
            let mut calls = PipelineCalls::new(&scope);
            calls.note_reply(Timestamp::from_second(second).ok());
            if let Some(change) = change {
                calls.note_change(&Digest::compute(change));
            }
            calls.workspace_version
        };
        assert_eq!(version_after(1, None), version_after(1, None));
        assert_ne!(version_after(1, None), version_after(2, None));
        assert_ne!(version_after(1, None), version_after(1, Some(b"edit")));
        assert_ne!(version_after(1, Some(b"edit")), version_after(1, Some(b"write")));
    }
}
