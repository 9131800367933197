//! Command steps: a program runs in the workspace, and its output is the artifact.

use serde_json::{Value, json};

use crate::durable::{Call, Command, Effect, Reply, Stop};
use crate::model::event::{CommandDone, Done};
use crate::model::step::CommandLine;
use crate::model::{Class, Failure, StepKey};
use crate::template::{Context, eval};

use super::converse::millis;
use super::interpret::{Given, Run};
use super::leaf::{Leaf, Opened, common_parts, digest, mixed_up, part, recipe, tree_of};
use super::node::{CommandNode, Contract, Node};
use super::plan::Plan;
use super::scope::Scope;

/// How much of a command's words a message shows, in lines.
const SHOWN: usize = 12;

pub(super) async fn run(
    run: Run<'_>,
    key: &StepKey,
    node: &Node,
    kind: &CommandNode,
    scope: &mut Scope,
) -> Result<Given, Stop> {
    let command = match render(run.plan, node, kind, scope) {
        Ok(command) => command,
        Err(failure) => {
            run.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    // How long it may take changes nothing about what it is.
    let what = json!(Command { timeout_ms: None, ..command.clone() });
    let contract = node.output.as_ref().map(|output| output.contract.digest());
    let recipe = recipe(
        &json!({ "command": what, "tree": tree_of(node, scope) }),
        &json!({ "contract": contract, "success": kind.success, "stdout": kind.takes_stdout }),
    );
    let mut parts = common_parts(node, scope);
    parts.push(part("command", &json!(kind.line)));
    let mut leaf = Leaf::new(run, key, node, recipe, parts);
    let (replies, mut attempt) = match leaf.begin(scope).await? {
        Opened::Stands(value) => return Ok(Ok(value)),
        Opened::Run(replies, attempt) => (replies, attempt),
    };
    for reply in &replies {
        if let Reply::Done(Done::Command(done)) = reply
            && let Ok(value) = read(node, kind, done)
        {
            return leaf.end(scope, attempt, Ok(Some(value))).await;
        }
    }
    let mut tries = 1;
    loop {
        leaf.start(attempt).await?;
        let effect = Effect::Command(command.clone());
        let outcome = run.durable.call(Call { key: leaf.call(attempt, 1), ask: digest(&what), effect }).await?;
        let result = match outcome.result {
            Ok(Reply::Done(Done::Command(done))) => read(node, kind, &done),
            Ok(_) => Err(mixed_up()),
            Err(failure) => Err(failure),
        };
        match result {
            Ok(value) => return leaf.end(scope, attempt, Ok(Some(value))).await,
            Err(failure) => {
                if !leaf.try_again(&kind.limits, &failure, tries, attempt).await? {
                    return leaf.end(scope, attempt, Err(failure)).await;
                }
            }
        }
        tries += 1;
        attempt += 1;
    }
}

/// The command with its values, as it will be run.
pub(super) fn render(plan: &Plan, node: &Node, kind: &CommandNode, scope: &Scope) -> Result<Command, Failure> {
    let context = scope.context(node);
    let (argv, values) = match &kind.line {
        CommandLine::Argv(parts) => {
            let parts: Result<Vec<String>, Failure> = parts.iter().map(|part| text(plan, part, &context)).collect();
            (parts?, Vec::new())
        }
        CommandLine::Shell(line) => {
            let shell = plan.templates.render_shell(line, &context);
            let shell = shell.map_err(|error| Failure::new(Class::TemplateError, error.to_string()))?;
            (vec!["sh".to_owned(), "-c".to_owned(), shell.script], shell.values)
        }
    };
    let stdin = match &kind.stdin {
        None => None,
        Some(expression) => match eval(expression, &context) {
            Ok(Value::String(text)) => Some(text),
            Ok(value) => Some(format!("{value:#}\n")),
            Err(error) => return Err(Failure::new(Class::ExpressionError, error.to_string())),
        },
    };
    let nul = |text: &str| text.contains('\0');
    if argv.iter().any(|part| nul(part)) || values.iter().any(|(_, value)| nul(value)) {
        let why = format!("the command of step `{}` would hold a NUL character", node.id);
        return Err(Failure::new(Class::TemplateError, why).with_hint("give such data on `stdin:`"));
    }
    let limit = [kind.limits.timeout, kind.limits.deadline].into_iter().flatten().min();
    Ok(Command {
        argv,
        values,
        env: kind.env.clone(),
        cwd: match &kind.cwd {
            Some(cwd) => text(plan, cwd, &context)?,
            None => String::new(),
        },
        stdin,
        timeout_ms: limit.map(millis),
    })
}

fn text(plan: &Plan, template: &str, context: &Context) -> Result<String, Failure> {
    let rendered = plan.templates.render_inline(template, context);
    rendered.map_err(|error| Failure::new(Class::TemplateError, error.to_string()))
}

/// The artifact of a command that ended.
fn read(node: &Node, kind: &CommandNode, done: &CommandDone) -> Result<Value, Failure> {
    let ended_well = kind.success.is_empty() || kind.success.iter().any(|code| i32::from(*code) == done.exit_code);
    if !ended_well {
        let words = tail(if done.stderr.trim().is_empty() { &done.stdout } else { &done.stderr });
        let why = format!("the command ended with exit code {}{words}", done.exit_code);
        let hint = "see all that it wrote with `orch runs show --replies`; `expect: { exit_code: [0, 1] }` says which codes count as success";
        return Err(Failure::new(Class::CommandFailed, why).with_hint(hint));
    }
    let contract = node.output.as_ref().map(|output| &output.contract);
    match contract {
        Some(contract) if kind.takes_stdout => take(contract, done),
        Some(_) | None => Ok(json!({
            "exit_code": done.exit_code, "stdout": done.stdout, "stderr": done.stderr
        })),
    }
}

/// Standard output as the artifact: text, or exactly one JSON value that fits the schema.
fn take(contract: &Contract, done: &CommandDone) -> Result<Value, Failure> {
    if done.cut {
        let why = "the command wrote more to standard output than is kept";
        return Err(Failure::new(Class::OutputTooLarge, why));
    }
    let schema = match contract {
        Contract::Text => return Ok(Value::String(done.stdout.clone())),
        Contract::Json(schema) => schema,
    };
    let value: Value = serde_json::from_str(&done.stdout).map_err(|error| {
        let why = format!("standard output is not JSON: {error}{}", tail(&done.stdout));
        Failure::new(Class::NoJson, why).with_hint("print the JSON value and nothing else to standard output")
    })?;
    let errors = schema.errors(&value);
    match errors.first() {
        None => Ok(value),
        Some(first) => Err(Failure::new(Class::SchemaMismatch, format!("standard output does not fit: {first}"))),
    }
}

/// The last lines of an output, for a message.
fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let from = lines.len().saturating_sub(SHOWN);
    let last = lines.get(from..).unwrap_or_default().join("\n");
    if last.is_empty() { String::new() } else { format!(":\n{last}") }
}
