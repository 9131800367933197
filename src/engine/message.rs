//! The words of a request: the system prompt, the user message, the re-ask.

use serde_json::Value;

use crate::model::{ChatRequest, Class, Failure, Message};
use crate::template::{Context, Templates, fence};

use super::plan::{Contract, Plan, PlannedModel, StepNode};
use super::scope::Scope;

/// The rendered texts of a step: what is asked, before any reply.
pub(super) struct Asked {
    system: String,
    message: String,
}

impl Asked {
    /// Renders a step's prompt and message in a scope.
    pub(super) fn render(plan: &Plan, step: &StepNode, scope: &Scope) -> Result<Self, Failure> {
        let context = scope.context(step);
        let system = rendered(plan.templates.render(&step.prompt, &context))?;
        let message = match &step.message {
            Some(template) => rendered(plan.templates.render_inline(template, &context))?,
            None => default_message(step, scope),
        };
        if message.trim().is_empty() {
            return Err(Failure::new(Class::TemplateError, format!("the message of step `{}` is empty", step.id))
                .with_hint("give the run an input such as --task, or the step a `message:`"));
        }
        Ok(Self { system: system.trim().to_owned(), message: message.trim().to_owned() })
    }

    /// The first request of a conversation with a model.
    pub(super) fn request(&self, step: &StepNode, model: &PlannedModel) -> ChatRequest {
        let (schema, message) = match &step.contract {
            Contract::Text => (None, self.message.clone()),
            Contract::Json(schema) => {
                let closure = schema.closure();
                let message = if model.constrains || schema.is_any() {
                    self.message.clone()
                } else {
                    format!("{}\n\n{}", self.message, contract(&closure))
                };
                ((!schema.is_any()).then_some(closure), message)
            }
        };
        ChatRequest {
            model: model.reference.clone(),
            system: self.system.clone(),
            messages: vec![Message::user(message)],
            max_output_tokens: step.max_output_tokens,
            temperature: step.temperature,
            schema_name: schema.is_some().then(|| step.output.clone()),
            schema,
        }
    }
}

fn rendered(result: Result<String, crate::template::TemplateError>) -> Result<String, Failure> {
    result.map_err(|error| Failure::new(Class::TemplateError, error.to_string()))
}

/// The run's inputs as text, then each artifact as fenced JSON.
fn default_message(step: &StepNode, scope: &Scope) -> String {
    let mut parts = Vec::new();
    for (name, value) in scope.inputs() {
        parts.push(match value {
            Value::String(text) => format!("# {name}\n\n{}", text.trim()),
            value => format!("# {name}\n\n{}", fence(value)),
        });
    }
    for input in &step.inputs {
        if let Some(value) = scope.artifact(&input.name) {
            parts.push(match value {
                Value::String(text) => format!("# {}\n\n{}", input.name, text.trim()),
                value => format!("# {}\n\n{}", input.name, fence(value)),
            });
        }
    }
    parts.join("\n\n")
}

fn contract(schema: &Value) -> String {
    format!("Answer with one JSON value and nothing else. It must fit this JSON Schema:\n\n{}", fence(schema))
}

/// What is said to the model after a reply that was not taken; `None` when asking again is no use.
pub(super) fn re_ask(request: &ChatRequest, reply: &str, failure: &Failure, mismatches: &str) -> Option<ChatRequest> {
    let mismatches = if mismatches.is_empty() { failure.message.as_str() } else { mismatches };
    let words = match failure.class {
        Class::SchemaMismatch => format!("Your answer does not fit the JSON Schema:\n\n{mismatches}\n\nAnswer again with the whole corrected JSON value and nothing else."),
        Class::NoJson | Class::EmptyReply => "Your answer held no JSON. Answer again with one JSON value that fits the JSON Schema, and nothing else.".to_owned(),
        Class::AmbiguousReply => "Your answer held several JSON values, or one that is not exact JSON. Answer again with exactly one JSON value and nothing else.".to_owned(),
        Class::LengthStop => format!(
            "Your answer was cut off: it may be at most {} tokens long. Answer again, complete and shorter.",
            request.max_output_tokens
        ),
        _ => return None,
    };
    let mut next = request.clone();
    // A cut or empty reply teaches nothing and may fill the context: only the words go back.
    if matches!(failure.class, Class::LengthStop | Class::EmptyReply) || reply.trim().is_empty() {
        if let Some(last) = next.messages.last_mut() {
            last.content = format!("{}\n\n{words}", last.content);
        }
    } else {
        next.messages.push(Message::assistant(reply));
        next.messages.push(Message::user(words));
    }
    Some(next)
}

/// Evaluates a step's condition.
pub(super) fn holds(templates: &Templates, expression: &str, context: &Context) -> Result<bool, Failure> {
    templates.eval_bool(expression, context).map_err(|error| Failure::new(Class::ExpressionError, error.to_string()))
}
