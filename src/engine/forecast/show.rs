//! The texts of a step as far as they are known: prompts, commands, questions.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::step::CommandLine;
use crate::template::{eval, variables};

use super::PromptEstimate;
use super::world::AbstractEnv;
use crate::engine::command;
use crate::engine::message::RenderedPrompt;
use crate::engine::node::{AgentNode, CommandNode, NodeKind, PlanNode};
use crate::engine::plan::Plan;
use crate::engine::scope::ValueScope;

/// Returns the variables that a step's texts depend on.
pub(super) fn used(plan: &Plan, node: &PlanNode, world: &AbstractEnv) -> BTreeSet<String> {
    let inline = |text: &str| plan.templates.variables_inline(text);
    match &node.kind {
        NodeKind::Agent(agent) => {
            let mut names = plan.templates.variables(&agent.prompt);
            names.extend(in_message(plan, node, agent, world));
            names
        }
        NodeKind::Command(command) => {
            let parts = match &command.line {
                CommandLine::Argv(parts) => parts.as_slice(),
                CommandLine::Shell(line) => std::slice::from_ref(line),
            };
            let texts = parts.iter().chain(&command.cwd);
            texts.flat_map(|text| inline(text)).chain(command.stdin.iter().flat_map(|text| variables(text))).collect()
        }
        NodeKind::Write(write) => variables(&write.files),
        NodeKind::Approve(approve) => inline(&approve.message),
        NodeKind::Parallel(..) | NodeKind::Repeat(_) | NodeKind::Sequence(_) | NodeKind::Pipeline(_) => BTreeSet::new(),
    }
}

/// Returns the variables of an agent's message. The default message contains everything that the step sees.
fn in_message(plan: &Plan, node: &PlanNode, agent: &AgentNode, world: &AbstractEnv) -> BTreeSet<String> {
    if let Some(message) = &agent.message {
        return plan.templates.variables_inline(message);
    }
    let given = world.shown.inputs().map(|(name, _)| name);
    let read = node.inputs.iter().map(|input| &input.name);
    given.chain(read).cloned().chain(["item".to_owned()]).collect()
}

/// Returns the texts of a step: what it will send, run or ask.
pub(super) fn texts(plan: &Plan, node: &PlanNode, world: &AbstractEnv, exact: bool) -> Vec<PromptEstimate> {
    match &node.kind {
        NodeKind::Agent(agent) => agent_texts(plan, node, agent, world),
        NodeKind::Command(kind) => {
            let told = faces(world, |scope| told_command(plan, node, kind, scope));
            vec![PromptEstimate { what: "command", text: told, exact }]
        }
        NodeKind::Write(kind) => {
            let told = faces(world, |scope| {
                eval(&kind.files, &scope.context(node)).map(|files| paths(&files)).map_err(|error| error.to_string())
            });
            vec![PromptEstimate { what: "files", text: told, exact }]
        }
        NodeKind::Approve(kind) => {
            let told = faces(world, |scope| {
                let rendered = plan.templates.render_inline(&kind.message, &scope.context(node));
                rendered.map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
            });
            vec![PromptEstimate { what: "question", text: told, exact }]
        }
        NodeKind::Parallel(..) | NodeKind::Repeat(_) | NodeKind::Sequence(_) | NodeKind::Pipeline(_) => Vec::new(),
    }
}

/// Renders with the placeholders. If that fails (a number is needed, for example), renders with the smallest values.
fn faces<T>(world: &AbstractEnv, told: impl Fn(&ValueScope) -> Result<T, String>) -> Result<T, String> {
    told(&world.shown).or_else(|why| told(&world.least).map_err(|_| why))
}

fn agent_texts(plan: &Plan, node: &PlanNode, agent: &AgentNode, world: &AbstractEnv) -> Vec<PromptEstimate> {
    let prompt = world.knows(&plan.templates.variables(&agent.prompt));
    let message = world.knows(&in_message(plan, node, agent, world));
    let asked = faces(world, |scope| {
        RenderedPrompt::render(&plan.templates, node, agent, scope).map_err(|failure| failure.message)
    });
    match asked {
        Ok(asked) => vec![
            PromptEstimate { what: "prompt", text: Ok(asked.system().to_owned()), exact: prompt },
            PromptEstimate { what: "message", text: Ok(asked.message().to_owned()), exact: message },
        ],
        Err(why) => vec![PromptEstimate { what: "prompt", text: Err(why), exact: false }],
    }
}

fn told_command(plan: &Plan, node: &PlanNode, kind: &CommandNode, scope: &ValueScope) -> Result<String, String> {
    let command = command::render(&plan.templates, node, kind, scope).map_err(|failure| failure.message)?;
    let mut told = match &kind.line {
        CommandLine::Argv(_) => command.argv.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(" "),
        // Values are passed as variables, so that none of them can be parsed as shell code.
        CommandLine::Shell(_) => command.argv.last().map_or_else(String::new, |script| script.trim().to_owned()),
    };
    for (name, value) in &command.values {
        told.push_str(&format!("\n{name}={}", quoted(value)));
    }
    Ok(told)
}

/// Quotes an argument as the user would type it in a shell.
fn quoted(part: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    if !part.is_empty() && part.chars().all(plain) {
        part.to_owned()
    } else {
        format!("'{}'", part.replace('\'', r"'\''"))
    }
}

/// Returns the paths of files to write, one per line.
fn paths(files: &Value) -> String {
    let list = files.as_array().map(Vec::as_slice).unwrap_or_default();
    let paths: Vec<&str> = list.iter().filter_map(|file| file.get("path").and_then(Value::as_str)).collect();
    if paths.is_empty() { files.as_str().unwrap_or_default().to_owned() } else { paths.join("\n") }
}
