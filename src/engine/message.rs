//! The texts of a request: the system prompt, the user message, the re-ask.

use serde_json::Value;

use crate::durable::ScopeDelta;
use crate::model::{ChatRequest, Content, Failure, FailureClass, Message, ModelOptions, Role};
use crate::template::{TemplateContext, Templates, eval_bool, fence};

use super::node::{AgentNode, ArtifactType, PlanNode};
use super::planned_model::PlannedModel;
use super::scope::ValueScope;
use super::template_failure::{expression_failure, template_failure};

/// The rendered texts of a step's first request.
pub(super) struct RenderedPrompt {
    system: String,
    message: String,
}

impl RenderedPrompt {
    /// Renders a step's prompt and message in a scope.
    pub(super) fn render(
        templates: &Templates,
        node: &PlanNode,
        agent: &AgentNode,
        scope: &ValueScope,
    ) -> Result<Self, Failure> {
        let context = scope.context(node);
        let system = templates.render(&agent.prompt, &context).map_err(template_failure)?;
        let message = match &agent.message {
            Some(template) => templates.render_inline(template, &context).map_err(template_failure)?,
            None => default_message(node, scope),
        };
        let (system, message) = (system.trim().to_owned(), message.trim().to_owned());
        // A request needs a user message. Without any, orch sends the prompt as the user message.
        if message.is_empty() && !system.is_empty() {
            return Ok(Self { system: message, message: system });
        }
        if message.is_empty() {
            return Err(blank_request(node, agent));
        }
        Ok(Self { system, message })
    }

    /// The system prompt.
    pub(super) fn system(&self) -> &str {
        &self.system
    }

    /// The user message.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The first request of a conversation with a model.
    pub(super) fn first_request(&self, node: &PlanNode, agent: &AgentNode, model: &PlannedModel) -> ChatRequest {
        let schema = match node.output.as_ref().map(|output| &output.artifact_type) {
            Some(ArtifactType::Text) | None => None,
            Some(ArtifactType::Json(schema)) => (!schema.is_any()).then(|| schema.bundle()),
        };
        let messages = vec![Message::user(self.message.clone())];
        ChatRequest {
            system: self.system.clone(),
            temperature: agent.temperature,
            options: Box::new(options_for(agent, model)),
            schema_name: node.output.as_ref().filter(|_| schema.is_some()).map(|output| output.name.clone()),
            schema,
            tools: agent.tools.as_ref().map(|tools| tools.first_offered.clone()).unwrap_or_default(),
            ..ChatRequest::new(model.reference.clone(), messages, agent.max_output_tokens)
        }
    }
}

/// The failure of a step without any text for a model.
fn blank_request(node: &PlanNode, agent: &AgentNode) -> Failure {
    let (id, prompt) = (&node.id, &agent.prompt);
    let (message, hint) = if agent.message.is_some() {
        (
            format!("the message and the prompt of step `{id}` are both empty"),
            format!("write a text into `prompts/{prompt}` or into the `message` that no condition leaves out"),
        )
    } else {
        (
            format!("the prompt of step `{id}` is empty, and the step has no inputs from which to build a message"),
            format!("write a text into `prompts/{prompt}` that no condition leaves out, or give the step a `message`"),
        )
    };
    Failure::new(FailureClass::TemplateError, message).with_hint(hint)
}

/// The options of a request to a model: the agent's own one or a fallback.
fn options_for(agent: &AgentNode, model: &PlannedModel) -> ModelOptions {
    let own_model = agent.models.first().unwrap_or(model);
    agent.options.clone().for_model(&own_model.reference, &model.reference)
}

/// The default message: a section for each input of the run, for the item, and for each artifact that the step reads.
/// A section contains a string as text, and other values as fenced JSON.
fn default_message(node: &PlanNode, scope: &ValueScope) -> String {
    let section = |name: &str, value: &Value| match value {
        Value::String(text) => format!("# {name}\n\n{}", text.trim()),
        value => format!("# {name}\n\n{}", fence(value)),
    };
    let mut sections: Vec<String> = scope.inputs().map(|(name, value)| section(name, value)).collect();
    sections.extend(scope.item().map(|item| section("item", item)));
    for input in &node.inputs {
        sections.extend(scope.artifact(&input.name).map(|value| section(&input.name, value)));
    }
    sections.join("\n\n")
}

/// Appends an instruction with the schema to the first message, for a provider that can't make replies fit a schema,
/// and for a model with tools, whose replies fit only if it calls no tool.
pub(super) fn with_schema_instruction(mut request: ChatRequest) -> ChatRequest {
    let has_tools = !request.tools.is_empty();
    if let (Some(schema), Some(first)) = (&request.schema, request.messages.first_mut()) {
        first.content.append_paragraph(&schema_instruction(schema, has_tools));
    }
    request
}

/// The instruction to answer with a value that fits the schema.
pub(super) fn schema_instruction(schema: &Value, has_tools: bool) -> String {
    let instruction = if has_tools {
        "Use the tools as you need them. When you have finished, answer with one JSON value and nothing else. It must \
         fit this JSON Schema:"
    } else {
        "Answer with one JSON value and nothing else. It must fit this JSON Schema:"
    };
    format!("{instruction}\n\n{}", fence(schema))
}

/// Returns the request that re-asks after a rejected reply; `None` if a re-ask can't help. `problems` lists what is wrong
/// with the reply, and may be empty.
pub(super) fn re_ask(request: &ChatRequest, answer: Content, failure: &Failure, problems: &str) -> Option<ChatRequest> {
    let mismatches = if problems.is_empty() { failure.message.as_str() } else { problems };
    let instruction = match failure.class {
        FailureClass::SchemaMismatch => format!("Your answer does not fit the JSON Schema:\n\n{mismatches}\n\nAnswer again with the whole corrected JSON value and nothing else."),
        FailureClass::NoJson | FailureClass::EmptyReply => "Your answer held no JSON. Answer again with one JSON value that fits the JSON Schema, and nothing else.".to_owned(),
        FailureClass::OutputRejected => {
            let corrected = if request.schema.is_some() { "the whole corrected JSON value" } else { "the whole corrected answer" };
            // The request that follows allows calls again.
            let action = if request.tools.is_empty() { "Answer" } else { "First call the tools that you need to correct this. Then answer" };
            format!("Your answer can't be used as it is:\n\n{mismatches}\n\n{action} again with {corrected} and nothing else.")
        }
        FailureClass::AmbiguousReply => "Your answer held several JSON values, or one that is not exact JSON. Answer again with exactly one JSON value and nothing else.".to_owned(),
        // A text under `stop` ended the answer, which may be of any length.
        FailureClass::MaxTokensReached if !problems.is_empty() => format!("Your answer can't be used as it is:\n\n{problems}\n\nAnswer again with the whole JSON value and nothing else."),
        FailureClass::MaxTokensReached => format!(
            "Your answer was cut off: it may be at most {} tokens long. Answer again, complete and shorter.",
            request.max_output_tokens
        ),
        _ => return None,
    };
    // A truncated or empty answer does not help the model and may fill its context, so the re-ask does not quote it.
    let is_quoted = !matches!(failure.class, FailureClass::MaxTokensReached | FailureClass::EmptyReply);
    Some(with_instruction(request, is_quoted.then_some(answer), instruction))
}

/// Returns the request that asks a model for a tool call after it has answered without one.
pub(super) fn re_ask_for_call(request: &ChatRequest, answer: Content) -> ChatRequest {
    let names = request.tools.definitions.iter().map(|definition| format!("`{}`", definition.name));
    let names = names.collect::<Vec<_>>().join(", ");
    let instruction = format!(
        "You answered without calling a tool, so your answer can't be used. Call a tool first: {names}. You can answer \
         after you have seen its result."
    );
    with_instruction(request, Some(answer), instruction)
}

/// Returns the request that follows a reply: it quotes the answer, unless that is blank, and ends with an instruction.
fn with_instruction(request: &ChatRequest, answer: Option<Content>, instruction: String) -> ChatRequest {
    let mut next_request = request.clone();
    match answer.filter(|answer| !answer.text().trim().is_empty()) {
        Some(answer) => {
            next_request.messages.push(Message { role: Role::Assistant, content: answer });
            next_request.messages.push(Message::user(instruction));
        }
        // A block of its own, so that the request still begins with the previous one: providers cache it.
        None => {
            if let Some(last_message) = next_request.messages.last_mut() {
                last_message.content.append_text_block(&instruction);
            }
        }
    }
    next_request
}

/// Evaluates a condition.
pub(super) fn eval_condition(expression: &str, context: &TemplateContext) -> Result<bool, Failure> {
    eval_bool(expression, context).map_err(|error| expression_failure(expression, error))
}

/// Evaluates a condition over the values that a step sees and the artifacts of the steps inside it.
pub(super) fn eval_condition_with_delta(
    expression: &str,
    mut context: TemplateContext,
    delta: &ScopeDelta,
) -> Result<bool, Failure> {
    for (name, artifact) in &delta.artifacts {
        context.insert(name, &artifact.value);
    }
    eval_condition(expression, &context)
}
