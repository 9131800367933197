//! Warns about options of agents that can cut replies off: a text under `stop` that every answer contains, and a budget
//! for reasoning that leaves little room for the answer.

use std::collections::BTreeSet;

use serde_json::Value;

use super::models::resolve_reference;
use super::options::model_api;
use crate::config::{Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Agent, Step};

/// A budget for reasoning that leaves fewer tokens than this for the answer is probably a mistake.
const MIN_ANSWER_TOKENS: u32 = 512;

/// How deep to look for required properties. A schema can contain itself.
const MAX_DEPTH: usize = 8;

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let agents = project.pipeline.agents.iter().filter(|(_, agent)| agent.cli_kind().is_none());
    let budget_warnings = agents.filter_map(|(name, agent)| check_reasoning_budget(project, name, agent));
    let mut diagnostics: Vec<Diagnostic> = budget_warnings.collect();
    let mut reported = BTreeSet::new();
    for (_, step) in steps_with_pointers(&project.pipeline) {
        for (pointer, diagnostic) in check_stop_texts(project, step) {
            // Several steps may have the same agent.
            if reported.insert(pointer) {
                diagnostics.push(diagnostic);
            }
        }
    }
    diagnostics
}

/// Warns if the reasoning of an agent's model may use nearly all tokens of a reply.
fn check_reasoning_budget(project: &Project, name: &str, agent: &Agent) -> Option<Diagnostic> {
    let model = resolve_reference(project, &agent.model)?;
    let limit = project.settings.reply_limit(agent);
    let budget = model_api(project, &model)?.reasoning_budget(agent.reasoning?, limit)?;
    let remaining = limit.saturating_sub(budget);
    if remaining >= MIN_ANSWER_TOKENS {
        return None;
    }
    let message = format!(
        "`{model}` may use {budget} of the {limit} tokens of a reply for reasoning, which leaves {remaining} for the answer"
    );
    let document = &project.document;
    let pointer = child_pointer(&child_pointer("/agents", name), "reasoning");
    Some(
        Diagnostic::warning(Code::CutsRepliesOff, message)
            .with_span(&document.file, document.spans.value(&pointer))
            .with_help("raise `max_output_tokens`, or write a lower `reasoning`"),
    )
}

/// Warns about the texts under `stop` that every answer of a step contains, each with the pointer of the text.
fn check_stop_texts(project: &Project, step: &Step) -> Vec<(String, Diagnostic)> {
    let Some((name, agent)) = step.agent.as_ref().and_then(|name| project.pipeline.agents.get_key_value(name)) else {
        return Vec::new();
    };
    let schema = Project::schema_file(step).and_then(|file| project.schemas.raw(&file));
    let Some(schema) = schema.filter(|_| !agent.stop.is_empty()) else { return Vec::new() };
    let mut parts = Vec::new();
    collect_required_parts(schema, 0, &mut parts);
    let document = &project.document;
    let stop_pointer = child_pointer(&child_pointer("/agents", name), "stop");
    let warning = |(index, text): (usize, &String)| {
        let part = parts.iter().find(|part| part.contains(text.as_str()))?;
        let pointer = item_pointer(&stop_pointer, index);
        let message = format!("every answer of step `{}` contains `{part}`, so `{text}` under `stop` ends it", step.id);
        let diagnostic = Diagnostic::warning(Code::CutsRepliesOff, message)
            .with_span(&document.file, document.spans.value(&pointer))
            .with_help("remove the text, or choose one that no answer contains");
        Some((pointer, diagnostic))
    };
    agent.stop.iter().enumerate().filter_map(warning).collect()
}

/// Collects parts of the JSON text of every value that fits a schema: brackets, and the names of required properties.
fn collect_required_parts(schema: &Value, depth: usize, parts: &mut Vec<String>) {
    match schema.get("type").and_then(Value::as_str) {
        Some("object") if depth < MAX_DEPTH => {
            parts.extend(["{", "}"].map(str::to_owned));
            for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
                parts.push(format!("{name}:"));
                let property =
                    name.as_str().and_then(|name| schema.get("properties").and_then(|properties| properties.get(name)));
                if let Some(property) = property {
                    collect_required_parts(property, depth + 1, parts);
                }
            }
        }
        Some("array") => parts.extend(["[", "]"].map(str::to_owned)),
        Some("string") => parts.push("\"".to_owned()),
        _ => {}
    }
}
