//! Command steps run a program in the workspace and turn its output into the artifact.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::durable::{Call, CallReply, CommandSpec, Effect, Interrupt};
use crate::model::event::{CallOutput, CommandOutput, PartKind};
use crate::model::step::{Access, CommandLine};
use crate::model::{Failure, FailureClass, SandboxSpec, StepKey};
use crate::offload::LARGE_TEXT_BYTES;
use crate::process::{hidden_file_hint, last_lines, mentions_missing_file, shorten_middle};
use crate::template::{TemplateContext, Templates, eval};

use super::compute::takes_long;
use super::conversation::millis;
use super::interpret::{Interpreter, StepResult};
use super::node::{ArtifactOutput, ArtifactType, CommandNode, PlanNode};
use super::scope::ValueScope;
use super::step_execution::{
    FIRST_CALL, StepExecution, StepStart, common_fingerprint_parts, compute_fingerprint, digest, fingerprint_part,
    unexpected_record, workspace_version,
};
use super::template_failure::{expression_failure, template_failure};

/// The maximum number of bytes of each output stream in the artifact. For a longer stream, the artifact contains the
/// beginning and the end, each half of this size.
const MAX_ARTIFACT_OUTPUT: usize = 4 << 20;

pub(super) async fn run(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    command_node: &CommandNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let (command, fingerprint_command) = match prepare_command(interpreter, key, node, command_node, scope).await? {
        Ok(specs) => specs,
        Err(failure) => {
            interpreter.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    // Neither the time limit, the minimum level of the sandbox nor the access is part of the fingerprint.
    let sandbox = fingerprint_command.sandbox.as_ref().map(SandboxSpec::without_level);
    let request = json!(CommandSpec { timeout_ms: None, sandbox, may_write: false, ..fingerprint_command });
    let artifact_type = node.output.as_ref().map(|output| output.artifact_type.digest());
    let fingerprint = compute_fingerprint(
        &json!({ "command": request, "tree": workspace_version(node, scope) }),
        // Other keys would change the digest of every command.
        &json!({
            "contract": artifact_type,
            "success": command_node.success_codes,
            "stdout": command_node.parses_stdout,
        }),
    );
    let mut parts = common_fingerprint_parts(node, scope);
    parts.push(fingerprint_part(PartKind::Command, &json!(command_node.line)));
    let sandbox = command_node.sandbox.as_ref().map(SandboxSpec::without_level);
    parts.extend(sandbox.map(|sandbox| fingerprint_part(PartKind::Sandbox, &json!(sandbox))));
    let mut execution = StepExecution::new(interpreter, key, node, fingerprint, parts);
    let (replies, mut attempt) = match execution.begin(scope).await? {
        StepStart::Reusable(value) => return Ok(Ok(value)),
        StepStart::Run(replies, attempt) => (replies, attempt),
    };
    // If only the rules by which orch reads the output changed, these are the recorded outputs of earlier attempts. The
    // first that fits the new rules is the result, and the command does not run again.
    for reply in &replies {
        if let CallReply::Output(CallOutput::Command(output)) = reply
            && let Ok(value) = read_artifact(interpreter, key, node, command_node, output).await?
        {
            return execution.finish(scope, attempt, Ok(Some(value))).await;
        }
    }
    // `attempt` counts over all sessions of the run, but `retry.max` limits the tries of each session.
    let mut tries_in_session = 1;
    loop {
        execution.record_start(attempt).await?;
        let effect = Effect::Command(command.clone());
        let outcome = interpreter
            .durable
            .call(Call { key: execution.call_key(attempt, FIRST_CALL), request_digest: digest(&request), effect })
            .await?;
        let result = match outcome.result {
            Ok(CallReply::Output(CallOutput::Command(output))) => {
                read_artifact(interpreter, key, node, command_node, &output).await?
            }
            Ok(_) => Err(unexpected_record()),
            Err(failure) if command_node.limits.deadline_ends_first_try() => Err(failure.with_raise_deadline_hint()),
            Err(failure) => Err(failure),
        };
        match result {
            Ok(value) => return execution.finish(scope, attempt, Ok(Some(value))).await,
            Err(failure) => {
                let next = execution.call_key(attempt + 1, 0);
                if !execution.wait_for_retry(&command_node.limits, &failure, tries_in_session, next).await? {
                    return execution.finish(scope, attempt, Err(failure)).await;
                }
            }
        }
        tries_in_session += 1;
        attempt += 1;
    }
}

/// Renders the command: in the form that runs, and in the form that the fingerprint covers.
async fn prepare_command(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    command_node: &CommandNode,
    scope: &ValueScope,
) -> Result<Result<(CommandSpec, CommandSpec), Failure>, Interrupt> {
    let templates = &interpreter.plan.templates;
    if !takes_long(scope, template_texts(command_node)) {
        return Ok(render_pair(templates, node, command_node, scope));
    }
    let (templates, node) = (templates.clone(), node.clone());
    let (command_node, scope) = (command_node.clone(), scope.snapshot());
    interpreter.compute(key, move || render_pair(&templates, &node, &command_node, &scope)).await
}

/// Returns every text of a command that may contain templates.
fn template_texts(command_node: &CommandNode) -> impl Iterator<Item = &str> {
    let parts = match &command_node.line {
        CommandLine::Argv(parts) => parts.as_slice(),
        CommandLine::Shell(line) => std::slice::from_ref(line),
    };
    parts.iter().chain(&command_node.stdin).chain(&command_node.cwd).map(String::as_str)
}

/// Stands for the project's folder in the fingerprint, so that a moved project reuses its results.
const FOLDER_PLACEHOLDER: &str = "‹project›";

/// Renders the command twice: with the real folder of the project, and with [`FOLDER_PLACEHOLDER`].
fn render_pair(
    templates: &Templates,
    node: &PlanNode,
    command_node: &CommandNode,
    scope: &ValueScope,
) -> Result<(CommandSpec, CommandSpec), Failure> {
    let command = render_command(templates, node, command_node, scope)?;
    if !template_texts(command_node).any(|text| text.contains(PROJECT_VARIABLE)) {
        return Ok((command.clone(), command));
    }
    let placeholder_node = CommandNode { project_root: FOLDER_PLACEHOLDER.into(), ..command_node.clone() };
    // A template that computes with the path may fail with the placeholder. Then the fingerprint covers the real path.
    let fingerprint_command =
        render_command(templates, node, &placeholder_node, scope).unwrap_or_else(|_| command.clone());
    Ok((command, fingerprint_command))
}

/// The template variable with the project's folder.
pub(super) const PROJECT_VARIABLE: &str = "project";

/// Returns the artifact of a command that ended, or its failure. Work that may take long runs on a separate thread.
async fn read_artifact(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    command_node: &CommandNode,
    output: &CommandOutput,
) -> Result<Result<Value, Failure>, Interrupt> {
    let artifact_type = node.output.as_ref().map(|output| &output.artifact_type);
    let takes_long = command_node.parses_stdout && artifact_type.is_some_and(ArtifactType::takes_long);
    if output.stdout.len().max(output.stderr.len()) < LARGE_TEXT_BYTES && !takes_long {
        return Ok(artifact_from_output(node, command_node, output));
    }
    let (node, command_node, output) = (node.clone(), command_node.clone(), output.clone());
    interpreter.compute(key, move || artifact_from_output(&node, &command_node, &output)).await
}

/// Renders the command with the values in scope.
pub(super) fn render_command(
    templates: &Templates,
    node: &PlanNode,
    command_node: &CommandNode,
    scope: &ValueScope,
) -> Result<CommandSpec, Failure> {
    let mut context = scope.context(node);
    context.insert(PROJECT_VARIABLE, &json!({ "root": &*command_node.project_root }));
    let (argv, values) = match &command_node.line {
        CommandLine::Argv(parts) => {
            let parts: Result<Vec<String>, Failure> =
                parts.iter().map(|part| render_text(templates, part, &context)).collect();
            (parts?, Vec::new())
        }
        CommandLine::Shell(line) => {
            let shell = templates.render_shell(line, &context).map_err(template_failure)?;
            (vec!["sh".to_owned(), "-c".to_owned(), shell.script], shell.values)
        }
    };
    let stdin = match &command_node.stdin {
        None => None,
        Some(expression) => match eval(expression, &context) {
            Ok(Value::String(text)) => Some(text),
            Ok(value) => Some(format!("{value:#}\n")),
            Err(error) => return Err(expression_failure(expression, error)),
        },
    };
    let has_nul = |text: &str| text.contains('\0');
    if argv.iter().any(|part| has_nul(part)) || values.iter().any(|(_, value)| has_nul(value)) {
        let message = format!("the command of step `{}` would contain a NUL character", node.id);
        return Err(Failure::new(FailureClass::TemplateError, message).with_hint("pass such data through `stdin:`"));
    }
    let timeout = [command_node.limits.timeout, command_node.limits.deadline].into_iter().flatten().min();
    Ok(CommandSpec {
        argv,
        values,
        env: command_node.env.clone(),
        cwd: match &command_node.cwd {
            Some(cwd) => render_text(templates, cwd, &context)?,
            None => String::new(),
        },
        stdin,
        timeout_ms: timeout.map(millis),
        sandbox: command_node.sandbox.clone(),
        may_write: node.access == Access::Write,
    })
}

fn render_text(templates: &Templates, template: &str, context: &TemplateContext) -> Result<String, Failure> {
    templates.render_inline(template, context).map_err(template_failure)
}

/// Returns the artifact of a command that ended, or its failure.
fn artifact_from_output(node: &PlanNode, command_node: &CommandNode, output: &CommandOutput) -> Result<Value, Failure> {
    let succeeded = command_node.success_codes.is_empty()
        || command_node.success_codes.iter().any(|code| i32::from(*code) == output.exit_code);
    if !succeeded {
        let last_output =
            quote_last_lines(if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr });
        let message = format!("the command ended with exit code {}{last_output}", output.exit_code);
        let extent = if output.truncated { "the beginning and the end of its output" } else { "its full output" };
        let hint = format!(
            "see {extent} with `orch runs show --replies`{}{}{}",
            exit_code_hint(&command_node.success_codes, output.exit_code),
            folder_hint(output),
            sandbox_hint(command_node, output)
        );
        if let Some(limit) = &output.probable_limit {
            return Err(Failure::new(FailureClass::SandboxLimit, format!("{limit}: {message}"))
                .with_hint(format!("raise the limit under `limits` of the sandbox; {hint}")));
        }
        return Err(Failure::new(FailureClass::CommandFailed, message).with_hint(hint));
    }
    match &node.output {
        Some(artifact) if command_node.parses_stdout => artifact_from_stdout(artifact, output),
        Some(_) | None => {
            let stdout = shorten_middle(&output.stdout, MAX_ARTIFACT_OUTPUT);
            let stderr = shorten_middle(&output.stderr, MAX_ARTIFACT_OUTPUT);
            let truncated = output.truncated || [&stdout, &stderr].iter().any(|text| matches!(text, Cow::Owned(_)));
            let mut value = json!({ "exit_code": output.exit_code, "stdout": stdout, "stderr": stderr });
            if truncated {
                value["truncated"] = json!(true);
            }
            Ok(value)
        }
    }
}

/// Returns the hint on how to make this exit code count as success.
fn exit_code_hint(success_codes: &[u8], code: i32) -> String {
    let Ok(code) = u8::try_from(code) else { return String::new() };
    let mut codes = [success_codes, &[code]].concat();
    codes.sort_unstable();
    let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
    format!("; to count exit code {code} as success, set `expect: {{ exit_code: [{}] }}`", codes.join(", "))
}

/// Returns a hint with the working directory of the command, if the command failed because a file was missing: the
/// file may be in another folder.
fn folder_hint(output: &CommandOutput) -> String {
    // In other languages than English, only the exit code 127 of a shell shows that a file is missing.
    let is_file_missing = output.exit_code == 127 || mentions_missing_file(&last_lines(&output.stderr));
    if !is_file_missing || output.folder.is_empty() {
        return String::new();
    }
    format!("\nit ran in `{}`, {PROJECT_FILE_HINT}", output.folder)
}

/// Phrases in error messages about a write, a read or a connection that a sandbox may have refused: English messages,
/// and names of errors.
const SANDBOX_PHRASES: &[&str] = &[
    "read-only file system",
    "erofs",
    "permission denied",
    "eacces",
    "operation not permitted",
    "network is unreachable",
    "enetunreach",
    "name resolution",
    "could not resolve host",
    "eai_again",
    // The refusal of the sandbox's own proxy: "the policy does not list `example.com` at port 443".
    "does not list `",
];

/// Returns a hint that the sandbox may be the cause of the failure, if the output contains one of these phrases, or
/// mentions a missing file in a folder that a sandbox hides.
fn sandbox_hint(command_node: &CommandNode, output: &CommandOutput) -> String {
    if command_node.sandbox.is_none() {
        return String::new();
    }
    if let Some(sentence) = &output.hidden_program {
        return format!("\n{sentence}");
    }
    let stderr = last_lines(&output.stderr);
    if let Some(hint) = hidden_file_hint(&stderr, &[&output.folder, &command_node.project_root]) {
        return format!("\n{hint}");
    }
    let stderr = stderr.to_lowercase();
    if !SANDBOX_PHRASES.iter().any(|phrase| stderr.contains(phrase)) {
        return String::new();
    }
    "\nits sandbox may be the cause: list the paths and hosts that the command needs under `write` and `network` of the \
     sandbox"
        .to_owned()
}

/// A hint on where commands run, and how to refer to files of the project.
pub(super) const PROJECT_FILE_HINT: &str =
    "in the workspace; refer to a project file as `{{ project.root }}/NAME` in `run:`";

/// Converts standard output into the artifact: text, or exactly one JSON value that fits the schema.
fn artifact_from_stdout(artifact: &ArtifactOutput, output: &CommandOutput) -> Result<Value, Failure> {
    if output.stdout.len() > MAX_ARTIFACT_OUTPUT {
        let max_mib = MAX_ARTIFACT_OUTPUT >> 20;
        let message = format!("the command wrote more than {max_mib} MiB to standard output, the limit of an artifact");
        let hint = "write less to standard output, and the rest to a file in the workspace";
        return Err(Failure::new(FailureClass::OutputTooLarge, message).with_hint(hint));
    }
    let schema = match &artifact.artifact_type {
        ArtifactType::Text if output.stdout.contains('\0') => {
            let message = "standard output has a NUL character, so it is no text";
            return Err(Failure::new(FailureClass::SchemaMismatch, message)
                .with_hint("print text, or encode other data, for example with `base64`"));
        }
        ArtifactType::Text => return Ok(Value::String(output.stdout.clone())),
        ArtifactType::Json(schema) => schema,
    };
    let value: Value = serde_json::from_str(&output.stdout)
        .map_err(|error| unreadable_stdout(artifact, &error.to_string(), output))?;
    let errors = schema.mismatches(&value);
    match errors.first() {
        None => Ok(schema.with_integers(value)),
        Some(first) => {
            Err(Failure::new(FailureClass::SchemaMismatch, format!("standard output does not fit: {first}")))
        }
    }
}

/// Returns the failure for an output that orch can't read as JSON.
fn unreadable_stdout(artifact: &ArtifactOutput, error: &str, output: &CommandOutput) -> Failure {
    // Only these words of the parser are about an escape for half of a surrogate pair, which is valid JSON.
    if error.contains("surrogate in hex escape") || error.contains("end of hex escape") {
        let message = format!("standard output does not fit: a string has half of a surrogate pair ({error})");
        let hint = "print the character itself, or the escapes of both halves";
        return Failure::new(FailureClass::SchemaMismatch, message).with_hint(hint);
    }
    let message = format!("standard output is not JSON: {error}{}", quote_last_lines(&output.stdout));
    Failure::new(FailureClass::NoJson, message).with_hint(format!(
        "print the JSON value and nothing else to standard output; orch parses it, because the step has `schema:` or \
         because `schemas/{}.schema.json` exists",
        artifact.name
    ))
}

/// Returns the last lines of an output as a suffix for a message; empty if there is no output.
fn quote_last_lines(output: &str) -> String {
    let lines = last_lines(output);
    if lines.is_empty() { lines } else { format!(":\n{lines}") }
}
