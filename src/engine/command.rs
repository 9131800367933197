//! Command steps: run a program in the workspace and turn its output into the artifact.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::durable::{Call, CallReply, CommandSpec, Effect, Interrupt};
use crate::model::event::{CallOutput, CommandOutput};
use crate::model::step::CommandLine;
use crate::model::{Class, Failure, StepKey};
use crate::offload::LARGE_TEXT;
use crate::process::{beginning_and_end, last_lines};
use crate::template::{TemplateContext, Templates, eval};

use super::compute::takes_long;
use super::conversation::millis;
use super::interpret::{Run, StepResult};
use super::leaf::{Leaf, OpenedStep, common_parts, digest, mixed_up, part, recipe, tree_of};
use super::node::{CommandNode, Contract, PlanNode};
use super::scope::ValueScope;

/// How many bytes of each output the artifact contains; of a longer output, half of that from its beginning and half
/// from its end.
const SHOWN: usize = 4 << 20;

pub(super) async fn run(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    kind: &CommandNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let (command, what) = match rendered(run, key, node, kind, scope).await? {
        Ok(both) => both,
        Err(failure) => {
            run.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    // The time limit is not part of the fingerprint.
    let what = json!(CommandSpec { timeout_ms: None, ..what });
    let contract = node.output.as_ref().map(|output| output.contract.digest());
    let recipe = recipe(
        &json!({ "command": what, "tree": tree_of(node, scope) }),
        &json!({ "contract": contract, "success": kind.success, "stdout": kind.takes_stdout }),
    );
    let mut parts = common_parts(node, scope);
    parts.push(part("command", &json!(kind.line)));
    let mut leaf = Leaf::new(run, key, node, recipe, parts);
    let (replies, mut attempt) = match leaf.begin(scope).await? {
        OpenedStep::Stands(value) => return Ok(Ok(value)),
        OpenedStep::Run(replies, attempt) => (replies, attempt),
    };
    for reply in &replies {
        if let CallReply::Output(CallOutput::Command(done)) = reply
            && let Ok(value) = read_output(run, key, node, kind, done).await?
        {
            return leaf.end(scope, attempt, Ok(Some(value))).await;
        }
    }
    let mut tries = 1;
    loop {
        leaf.start(attempt).await?;
        let effect = Effect::Command(command.clone());
        let outcome =
            run.durable.call(Call { key: leaf.call(attempt, 1), request_digest: digest(&what), effect }).await?;
        let result = match outcome.result {
            Ok(CallReply::Output(CallOutput::Command(done))) => read_output(run, key, node, kind, &done).await?,
            Ok(_) => Err(mixed_up()),
            Err(failure) if kind.limits.deadline_is_less() => Err(failure.of_deadline()),
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

/// Returns the command as it will run, and in the form that the fingerprint covers.
async fn rendered(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    kind: &CommandNode,
    scope: &ValueScope,
) -> Result<Result<(CommandSpec, CommandSpec), Failure>, Interrupt> {
    let templates = &run.plan.templates;
    if !takes_long(scope, texts(kind)) {
        return Ok(twice(templates, node, kind, scope));
    }
    let (templates, node, kind, scope) = (templates.clone(), node.clone(), kind.clone(), scope.clone());
    run.compute(key, move || twice(&templates, &node, &kind, &scope)).await
}

/// Returns every text of a command that may contain templates.
fn texts(kind: &CommandNode) -> impl Iterator<Item = &str> {
    let parts = match &kind.line {
        CommandLine::Argv(parts) => parts.as_slice(),
        CommandLine::Shell(line) => std::slice::from_ref(line),
    };
    parts.iter().chain(&kind.stdin).chain(&kind.cwd).map(String::as_str)
}

/// Replaces the project's folder in the fingerprint, so that a project that was moved reuses its results.
const ANY_FOLDER: &str = "‹project›";

/// Renders the command twice: with the real folder of the project, and with [`ANY_FOLDER`].
fn twice(
    templates: &Templates,
    node: &PlanNode,
    kind: &CommandNode,
    scope: &ValueScope,
) -> Result<(CommandSpec, CommandSpec), Failure> {
    let command = render(templates, node, kind, scope)?;
    if !texts(kind).any(|text| text.contains(PROJECT)) {
        return Ok((command.clone(), command));
    }
    let anywhere = CommandNode { project: ANY_FOLDER.into(), ..kind.clone() };
    // A template that computes with the path may fail with the placeholder; then the fingerprint covers the real path.
    let what = render(templates, node, &anywhere, scope).unwrap_or_else(|_| command.clone());
    Ok((command, what))
}

/// The template variable with the project's folder.
const PROJECT: &str = "project";

/// Returns the artifact of a command that ended. Work that may take long runs on a separate thread.
async fn read_output(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    kind: &CommandNode,
    done: &CommandOutput,
) -> Result<Result<Value, Failure>, Interrupt> {
    let contract = node.output.as_ref().map(|output| &output.contract);
    let takes_long = kind.takes_stdout && contract.is_some_and(Contract::takes_long);
    if done.stdout.len().max(done.stderr.len()) < LARGE_TEXT && !takes_long {
        return Ok(read(node, kind, done));
    }
    let (node, kind, done) = (node.clone(), kind.clone(), done.clone());
    run.compute(key, move || read(&node, &kind, &done)).await
}

/// Renders the command with the values in scope.
pub(super) fn render(
    templates: &Templates,
    node: &PlanNode,
    kind: &CommandNode,
    scope: &ValueScope,
) -> Result<CommandSpec, Failure> {
    let mut context = scope.context(node);
    context.insert(PROJECT, &json!({ "root": &*kind.project }));
    let (argv, values) = match &kind.line {
        CommandLine::Argv(parts) => {
            let parts: Result<Vec<String>, Failure> =
                parts.iter().map(|part| text(templates, part, &context)).collect();
            (parts?, Vec::new())
        }
        CommandLine::Shell(line) => {
            let shell = templates.render_shell(line, &context);
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
    Ok(CommandSpec {
        argv,
        values,
        env: kind.env.clone(),
        cwd: match &kind.cwd {
            Some(cwd) => text(templates, cwd, &context)?,
            None => String::new(),
        },
        stdin,
        timeout_ms: limit.map(millis),
    })
}

fn text(templates: &Templates, template: &str, context: &TemplateContext) -> Result<String, Failure> {
    let rendered = templates.render_inline(template, context);
    rendered.map_err(|error| Failure::new(Class::TemplateError, error.to_string()))
}

/// Returns the artifact of a command that ended, or why it failed.
fn read(node: &PlanNode, kind: &CommandNode, done: &CommandOutput) -> Result<Value, Failure> {
    let ended_well = kind.success.is_empty() || kind.success.iter().any(|code| i32::from(*code) == done.exit_code);
    if !ended_well {
        let words = tail(if done.stderr.trim().is_empty() { &done.stdout } else { &done.stderr });
        let why = format!("the command ended with exit code {}{words}", done.exit_code);
        let all = if done.cut { "the beginning and the end of what it wrote" } else { "all that it wrote" };
        let hint = format!(
            "see {all} with `orch runs show --replies`{}{}",
            accept(&kind.success, done.exit_code),
            ran_in(done)
        );
        return Err(Failure::new(Class::CommandFailed, why).with_hint(hint));
    }
    let contract = node.output.as_ref().map(|output| &output.contract);
    match contract {
        Some(contract) if kind.takes_stdout => take(contract, done),
        Some(_) | None => {
            let (stdout, stderr) = (beginning_and_end(&done.stdout, SHOWN), beginning_and_end(&done.stderr, SHOWN));
            let truncated = done.cut || [&stdout, &stderr].iter().any(|text| matches!(text, Cow::Owned(_)));
            let mut value = json!({ "exit_code": done.exit_code, "stdout": stdout, "stderr": stderr });
            if truncated {
                value["truncated"] = json!(true);
            }
            Ok(value)
        }
    }
}

/// Returns the hint on how to make this exit code count as success.
fn accept(success: &[u8], code: i32) -> String {
    let Ok(code) = u8::try_from(code) else { return String::new() };
    let mut codes = [success, &[code]].concat();
    codes.sort_unstable();
    let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
    format!("; `expect: {{ exit_code: [{}] }}` says which codes count as success", codes.join(", "))
}

/// What programs print in English about a missing file; a shell's exit code 127 means the same in every language.
const NOT_THERE: &[&str] = &[
    "no such file",
    "not found",
    "cannot find",
    "can't find",
    "can't open",
    "cannot open",
    "does not exist",
    "enoent",
];

/// Names the folder in which the command ran, if the command may have looked for a file elsewhere.
fn ran_in(done: &CommandOutput) -> String {
    let said = last_lines(&done.stderr).to_lowercase();
    let missed = done.exit_code == 127 || NOT_THERE.iter().any(|words| said.contains(words));
    if !missed || done.folder.is_empty() {
        return String::new();
    }
    format!("\nit ran in `{}`, {OF_PROJECT}", done.folder)
}

/// A hint on where commands run, and how to refer to files of the project.
pub(super) const OF_PROJECT: &str = "in the workspace; a file of the project is `{{ project.root }}/NAME` in `run:`";

/// Turns standard output into the artifact: text, or exactly one JSON value that fits the schema.
fn take(contract: &Contract, done: &CommandOutput) -> Result<Value, Failure> {
    if done.stdout.len() > SHOWN {
        let why =
            format!("the command wrote more to standard output than the {} MiB that an artifact may have", SHOWN >> 20);
        let hint = "write less to standard output, and the rest to a file of the workspace";
        return Err(Failure::new(Class::OutputTooLarge, why).with_hint(hint));
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

/// Returns the last lines of an output, for a message.
fn tail(output: &str) -> String {
    let last = last_lines(output);
    if last.is_empty() { last } else { format!(":\n{last}") }
}
