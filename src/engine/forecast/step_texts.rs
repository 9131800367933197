//! Renders the texts of a step from the values that the forecast knows: prompts, commands, questions.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::argument_texts;
use crate::model::step::CommandLine;
use crate::template::{eval, variables};

use super::PromptEstimate;
use super::abstract_env::AbstractEnv;
use super::open_members::undefined_path;
use crate::engine::command;
use crate::engine::message::RenderedPrompt;
use crate::engine::node::{AgentNode, CommandNode, NodeKind, PlanNode};
use crate::engine::plan::Plan;
use crate::engine::scope::ValueScope;

/// Returns the variables that a step's texts depend on.
pub(super) fn used_variables(plan: &Plan, node: &PlanNode, env: &AbstractEnv) -> BTreeSet<String> {
    let inline = |text: &str| plan.templates.variables_inline(text);
    match &node.kind {
        NodeKind::Agent(agent) => {
            let mut names = plan.templates.variables(&agent.prompt);
            names.extend(message_variables(plan, node, agent, env));
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
        NodeKind::Call(call) => argument_texts(&call.args).into_iter().flat_map(inline).collect(),
        NodeKind::Write(write) => variables(&write.files),
        NodeKind::Approve(approve) => inline(&approve.message),
        NodeKind::Parallel(..) | NodeKind::Repeat(_) | NodeKind::Sequence(_) | NodeKind::Pipeline(_) => BTreeSet::new(),
    }
}

/// Returns the variables of an agent's message. The default message contains everything that the step sees.
fn message_variables(plan: &Plan, node: &PlanNode, agent: &AgentNode, env: &AbstractEnv) -> BTreeSet<String> {
    if let Some(message) = &agent.message {
        return plan.templates.variables_inline(message);
    }
    let input_names = env.placeholders.inputs().map(|(name, _)| name);
    let artifact_names = node.inputs.iter().map(|input| &input.name);
    input_names.chain(artifact_names).cloned().chain(["item".to_owned()]).collect()
}

/// The maximum number of members that a step gets placeholders for.
const MAX_ADDED_MEMBERS: usize = 100;

/// Returns the texts of a step. If they read members of unknown values about which nothing is known, also returns the
/// values with placeholders for these members.
pub(super) fn texts_with_read_members(
    plan: &Plan,
    node: &PlanNode,
    env: &AbstractEnv,
    exact: bool,
) -> (Vec<PromptEstimate>, Option<AbstractEnv>) {
    let (mut texts, mut extended) = (step_texts(plan, node, env, exact), None::<AbstractEnv>);
    for _ in 0..MAX_ADDED_MEMBERS {
        let path = texts.iter().find_map(|text| undefined_path(text.text.as_ref().err()?));
        let next = path.and_then(|path| extended.as_ref().unwrap_or(env).with_member(&path));
        let Some(next) = next else { break };
        texts = step_texts(plan, node, &next, exact);
        extended = Some(next);
    }
    (texts, extended)
}

/// Returns the texts of a step: its prompt and message, its command, its call, the paths of its files, or its question.
fn step_texts(plan: &Plan, node: &PlanNode, env: &AbstractEnv, exact: bool) -> Vec<PromptEstimate> {
    match &node.kind {
        NodeKind::Agent(agent) => agent_texts(plan, node, agent, env),
        NodeKind::Command(command_node) => {
            let rendered = render_with_fallback(env, |scope| command_text(plan, node, command_node, scope));
            vec![PromptEstimate { label: "command", text: rendered, exact }]
        }
        NodeKind::Call(call) => {
            let rendered = render_with_fallback(env, |scope| {
                let args = Value::Object(call.args.clone());
                let rendered = plan.templates.render_value(&args, &scope.context(node));
                let arguments = rendered.map_err(|error| error.to_string())?;
                Ok(format!("{} {arguments:#}", call.tool.name()))
            });
            vec![PromptEstimate { label: "call", text: rendered, exact }]
        }
        NodeKind::Write(write_node) => {
            let rendered = render_with_fallback(env, |scope| {
                eval(&write_node.files, &scope.context(node))
                    .map(|files| file_paths(&files))
                    .map_err(|error| error.to_string())
            });
            vec![PromptEstimate { label: "files", text: rendered, exact }]
        }
        NodeKind::Approve(approve_node) => {
            let rendered = render_with_fallback(env, |scope| {
                let rendered = plan.templates.render_inline(&approve_node.message, &scope.context(node));
                rendered.map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
            });
            vec![PromptEstimate { label: "question", text: rendered, exact }]
        }
        NodeKind::Parallel(..) | NodeKind::Repeat(_) | NodeKind::Sequence(_) | NodeKind::Pipeline(_) => Vec::new(),
    }
}

/// Renders with the placeholders. If that fails (for example, because the template needs a number), renders with the
/// smallest values.
fn render_with_fallback<T>(env: &AbstractEnv, render: impl Fn(&ValueScope) -> Result<T, String>) -> Result<T, String> {
    render(&env.placeholders).or_else(|error| render(&env.smallest).map_err(|_| error))
}

fn agent_texts(plan: &Plan, node: &PlanNode, agent: &AgentNode, env: &AbstractEnv) -> Vec<PromptEstimate> {
    let prompt_is_exact = env.knows(&plan.templates.variables(&agent.prompt));
    let message_is_exact = env.knows(&message_variables(plan, node, agent, env));
    let rendered = render_with_fallback(env, |scope| {
        RenderedPrompt::render(&plan.templates, node, agent, scope).map_err(|failure| failure.message)
    });
    match rendered {
        Ok(rendered) => vec![
            PromptEstimate { label: "prompt", text: Ok(rendered.system().to_owned()), exact: prompt_is_exact },
            PromptEstimate { label: "message", text: Ok(rendered.message().to_owned()), exact: message_is_exact },
        ],
        Err(error) => vec![PromptEstimate { label: "prompt", text: Err(error), exact: false }],
    }
}

fn command_text(
    plan: &Plan,
    node: &PlanNode,
    command_node: &CommandNode,
    scope: &ValueScope,
) -> Result<String, String> {
    let command =
        command::render_command(&plan.templates, node, command_node, scope).map_err(|failure| failure.message)?;
    let mut text = match &command_node.line {
        CommandLine::Argv(_) => command.argv.iter().map(|part| shell_quote(part)).collect::<Vec<_>>().join(" "),
        // The last argument is the script. It refers to the values as variables, which a shell does not parse as code.
        CommandLine::Shell(_) => command.argv.last().map_or_else(String::new, |script| script.trim().to_owned()),
    };
    for (name, value) in &command.values {
        text.push_str(&format!("\n{name}={}", shell_quote(value)));
    }
    Ok(text)
}

/// Quotes an argument in the form in which the user would type it in a shell.
fn shell_quote(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// Returns the paths of the files to write, one per line.
fn file_paths(files: &Value) -> String {
    let list = files.as_array().map(Vec::as_slice).unwrap_or_default();
    let paths: Vec<&str> = list.iter().filter_map(|file| file.get("path").and_then(Value::as_str)).collect();
    if paths.is_empty() { files.as_str().unwrap_or_default().to_owned() } else { paths.join("\n") }
}
