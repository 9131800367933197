//! The tool `shell`: runs a command in a sandbox, and finds out which files it changed.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::files::{ChangeSet, FileSnapshot, WorkspaceBaseline};
use crate::model::visible::escape_line_breaks;
use crate::model::{
    AgentActivity, BuiltinTool, CommandPattern, Failure, FailureClass, SandboxSpec, ToolGrant, ToolInvocation,
};
use crate::offload::run_on_thread;
use crate::process::{
    self, CERTIFICATE_VARIABLES, CapturedOutput, HiddenProgram, OutputStream, ProcessError, ProgramSandbox,
    ProgramSpec, SandboxNeeds, command_environment, join_with_marker, probable_limit,
};

use super::ToolContext;
use super::arguments::ShellArguments;
use super::command_words::check_command;
use super::output::{PerformedTool, RawOutput, changed_files_notes};

/// The maximum size of the output of a command that orch records, in bytes. Of a longer output, it records the
/// beginning and the end, each half of this size.
const MAX_RECORDED_OUTPUT: usize = 16 << 20;
/// The part of the output that error messages contain, in bytes.
const MAX_MESSAGE_OUTPUT: usize = 4 << 10;
/// Runs the arguments as a command whose standard error is its standard output, so that both keep their order.
const MERGE_OUTPUTS: &str = "exec \"$@\" 2>&1";
/// The maximum size of a command in bytes. Linux limits each argument of a program to 128 KiB with the NUL at its end.
const MAX_COMMAND_BYTES: usize = 131_071;
/// How a model can get the part of an output that is left out.
const OUTPUT_ADVICE: &str = "to see it, run the command again with its output in a file, or filter the output";

/// Runs a command until it ends, or until `interruption` resolves with the failure to report.
pub(super) async fn run_shell(
    invocation: &ToolInvocation,
    context: &ToolContext,
    arguments: &ShellArguments,
    interruption: impl Future<Output = Failure>,
) -> PerformedTool {
    let Some(sandbox_spec) = &invocation.sandbox else {
        let message = "`shell` runs only in a sandbox, and the sandbox of the agent is disabled";
        let hint = "remove `enabled: false` from `sandbox:`, or give the agent other tools";
        return Failure::new(FailureClass::NotConfined, message).with_hint(hint).into();
    };
    let argv = match command_argv(&arguments.command, &invocation.grants) {
        Ok(argv) => argv,
        Err(message) => return RawOutput::error(message).finish(&context.redactor),
    };
    let call = ShellCall { invocation, context, sandbox_spec, arguments };
    let prepared = async {
        let sandbox = call.prepare_sandbox().await?;
        Ok::<_, Failure>((sandbox, call.record_snapshot().await?))
    };
    let (sandbox, before) = match prepared.await {
        Ok(prepared) => prepared,
        Err(failure) => return failure.into(),
    };
    let mut interruption = pin!(interruption);
    if let Some(failure) = interruption.as_mut().now_or_never() {
        // The command never started.
        return failure.into();
    }
    let ended = call.run(argv, Arc::new(sandbox), interruption).await;
    let activity = match before {
        Some(before) => before.difference(&call.take_snapshot().await),
        None => AgentActivity::default(),
    };
    // Damage counts more than the reason for which the command ended early: else the user would not learn of it.
    match call.check_sandbox().and(ended) {
        Ok(ended) => call.output(ended, activity).await,
        Err(failure) => PerformedTool { result: Err(failure), full_output: None, activity },
    }
}

/// The command line: the command for a shell, or its words if the grants narrow `shell` to patterns.
///
/// # Errors
/// The command can't run. The error is a sentence for the model.
pub(super) fn command_argv(command: &str, grants: &[ToolGrant]) -> Result<Vec<String>, String> {
    if command.len() > MAX_COMMAND_BYTES {
        return Err(format!(
            "the command has {} bytes, and {MAX_COMMAND_BYTES} are the most, so nothing was run; write the text into a \
             file with `write` if you have this tool, and run a shorter command that reads the file",
            command.len()
        ));
    }
    if command.contains('\0') {
        return Err(
            "the command contains a NUL character, which no argument of a program can contain, so nothing was run; \
             remove it"
                .to_owned(),
        );
    }
    let grants: Vec<&ToolGrant> = grants.iter().filter(|grant| grant.tool == BuiltinTool::Shell).collect();
    let mut argv = ["sh", "-c", MERGE_OUTPUTS, "sh"].map(str::to_owned).to_vec();
    if grants.iter().any(|grant| grant.pattern.is_none()) {
        if command.trim().is_empty() {
            return Err("the command is empty, so nothing was run; write a command".to_owned());
        }
        argv.extend(["sh", "-c", command].map(str::to_owned));
        return Ok(argv);
    }
    if grants.is_empty() {
        return Err("the command was not run: this agent may not use `shell`; use another tool".to_owned());
    }
    let texts: Vec<&str> = grants.iter().filter_map(|grant| grant.pattern.as_deref()).collect();
    let patterns = texts.iter().map(|text| CommandPattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let listed: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
    argv.extend(check_command(command, &patterns, &listed.join(" or "))?);
    Ok(argv)
}

/// How a command ended.
struct EndedCommand {
    output: CapturedOutput,
    /// The exit code; `None` if the command reached its time limit.
    exit_code: Option<i32>,
    /// A program that the command did not find, because the sandbox hides it.
    hidden_program: Option<HiddenProgram>,
}

/// A call of `shell`.
struct ShellCall<'a> {
    invocation: &'a ToolInvocation,
    context: &'a ToolContext,
    sandbox_spec: &'a SandboxSpec,
    arguments: &'a ShellArguments,
}

impl ShellCall<'_> {
    async fn prepare_sandbox(&self) -> Result<ProgramSandbox, Failure> {
        let certificates = CERTIFICATE_VARIABLES.iter().filter_map(|name| (self.context.variables)(name));
        let readable = certificates.map(PathBuf::from).collect();
        self.context.sandbox.prepare(self.sandbox_spec, SandboxNeeds { readable, ..SandboxNeeds::default() }).await
    }

    /// Takes a snapshot of the workspace before the command, and records it for a resume after a kill. Returns `None`
    /// if the command can't change the workspace; the record then says so.
    async fn record_snapshot(&self) -> Result<Option<FileSnapshot>, Failure> {
        let may_write = !self.sandbox_spec.write.is_empty();
        let snapshot = if may_write { Some(self.take_snapshot().await) } else { None };
        let record_start = self.context.record_start.clone();
        let hold = self.context.ending_process_groups.hold_virtual_time();
        let record = move || {
            let no_changes = ChangeSet::default();
            let before = snapshot.as_ref().map_or(WorkspaceBaseline::Planned(&no_changes), WorkspaceBaseline::Snapshot);
            record_start(before).map(|()| snapshot)
        };
        run_on_thread(hold, record).await
    }

    async fn take_snapshot(&self) -> FileSnapshot {
        let (folder, reserved) = (self.context.sandbox.workspace.clone(), self.invocation.reserved.clone());
        let hold = self.context.ending_process_groups.hold_virtual_time();
        run_on_thread(hold, move || FileSnapshot::from_folder(&folder, &reserved)).await
    }

    /// The time limit: that of the agent, or a shorter one that the model requested.
    fn time_limit(&self) -> Duration {
        let limit = Duration::from_millis(self.invocation.timeout_ms);
        self.arguments.timeout.map_or(limit, |seconds| limit.min(Duration::from_secs(seconds)))
    }

    /// Runs the command, and waits until all of its processes have ended.
    async fn run(
        &self,
        argv: Vec<String>,
        sandbox: Arc<ProgramSandbox>,
        interruption: impl Future<Output = Failure>,
    ) -> Result<EndedCommand, Failure> {
        let names = self.invocation.env.iter().map(String::as_str);
        let spec = ProgramSpec {
            argv,
            cwd: self.context.sandbox.workspace.clone(),
            env: command_environment(&*self.context.variables, names),
            stdin: None,
            timeout: Some(self.time_limit()),
            max_captured_bytes: MAX_MESSAGE_OUTPUT,
            max_output_bytes: None,
            supervisor: self.context.supervisor.clone(),
            ending_process_groups: self.context.ending_process_groups.clone(),
            sandbox: Some(sandbox),
        };
        // An output that a time limit cuts off is for the model too, so it is captured here.
        let captured = Mutex::new(CapturedOutput::new(MAX_RECORDED_OUTPUT));
        let on_output = |_: OutputStream, bytes: &[u8]| {
            captured.lock().unwrap_or_else(PoisonError::into_inner).add(bytes);
            (self.context.on_output)(bytes);
        };
        let result = tokio::select! {
            biased;
            result = process::run(&spec, &on_output) => Ok(result),
            failure = interruption => Err(failure),
        };
        // After an interruption, the processes of the command may still write files until they have ended.
        spec.ending_process_groups.wait_all_ended().await;
        let exit_code = match result? {
            Ok(exit) => exit.code,
            Err(ProcessError::Timeout { .. }) => None,
            Err(error) => return Err(process_failure(&error)),
        };
        let output = captured.into_inner().unwrap_or_else(PoisonError::into_inner);
        let has_failed = exit_code.is_some_and(|code| code != 0);
        let hidden_program = if has_failed { spec.hidden_program_in(&output.last_lines()) } else { None };
        Ok(EndedCommand { output, exit_code, hidden_program })
    }

    /// Fails if the command changed protected paths, which only the level `full` can prevent, or damaged a git folder.
    fn check_sandbox(&self) -> Result<(), Failure> {
        let sandbox_use = self.context.ending_process_groups.sandbox_use();
        sandbox_use.and_then(|sandbox_use| sandbox_use.damage_failure()).map_or(Ok(()), Err)
    }

    /// The output for the model. Runs on another thread, because the output may have 16 MiB.
    async fn output(&self, ended: EndedCommand, activity: AgentActivity) -> PerformedTool {
        let mut notes = self.notes(&ended);
        notes.extend(changed_files_notes(&activity));
        let is_error = ended.exit_code != Some(0);
        let redactor = self.context.redactor.clone();
        let hold = self.context.ending_process_groups.hold_virtual_time();
        let performed = run_on_thread(hold, move || {
            let omitted = ended.output.omitted_bytes();
            let mut text = match ended.output.head_and_tail() {
                (all, _) if omitted == 0 => all,
                (head, tail) => {
                    join_with_marker(&redactor.redact_beginning(&head), &redactor.redact_ending(&tail), omitted)
                }
            };
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            for note in notes {
                text.push_str(&note);
                text.push('\n');
            }
            RawOutput { is_error, omitted_bytes: omitted, ..RawOutput::new(text).with_advice(OUTPUT_ADVICE) }
                .finish(&redactor)
        });
        let mut performed = performed.await;
        if let (Ok(output), Some(files)) = (&mut performed.result, &activity.files) {
            // orch serialized this record a moment ago, so parsing it does not fail.
            let change_set: ChangeSet = serde_json::from_value(files.clone()).unwrap_or_default();
            output.changed_files = change_set.changed_files();
        }
        PerformedTool { activity, ..performed }
    }

    /// The notes at the end of the output: how the command ended, and what its sandbox refused.
    fn notes(&self, ended: &EndedCommand) -> Vec<String> {
        let mut notes = Vec::new();
        match ended.exit_code {
            Some(code) => notes.push(format!("[exit code {code}]")),
            None => notes.push(format!("[the command was ended after its time limit of {:?}]", self.time_limit())),
        }
        if let Some(sandbox_use) = self.context.ending_process_groups.sandbox_use() {
            let refused = sandbox_use.refused_hosts();
            if !refused.is_empty() {
                notes.push(format!("[the sandbox refused connections to {}]", refused.join(", ")));
            }
            if let Some(limit) = &sandbox_use.limit {
                notes.push(format!("[{limit}]"));
            } else if ended.exit_code != Some(0)
                && let Some(limit) = probable_limit(self.sandbox_spec, &ended.output.last_lines())
            {
                notes.push(format!("[{limit}]"));
            }
            if ended.exit_code != Some(0) {
                notes.extend(sandbox_use.unknown.iter().map(|sentence| format!("[{sentence}]")));
            }
        }
        notes.extend(
            ended.hidden_program.iter().map(|hidden| format!("[{hidden}; {}]", hidden.hint(allow_in_settings))),
        );
        // A note may contain names that the program chose, and no part of a name may look like another note.
        notes.iter().map(|note| escape_line_breaks(note).into_owned()).collect()
    }
}

/// The setting that lets the sandbox of a model's commands change a path. An agent may change a path outside the workspace
/// only if `orch.yaml` allows it.
fn allow_in_settings(path: &str) -> String {
    format!("write `sandbox: {{ write: [., {path}] }}` in orch.yaml")
}

fn process_failure(error: &ProcessError) -> Failure {
    if let Some(failure) = error.hidden_failure(allow_in_settings) {
        return failure;
    }
    let failure = Failure::new(FailureClass::CommandFailed, error.to_string());
    let failure = error.start_hint().into_iter().fold(failure, Failure::with_hint);
    error.not_confined_failure().unwrap_or(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(grants: &[&str], command: &str) -> Result<Vec<String>, String> {
        let grants: Vec<ToolGrant> = grants.iter().map(|text| ToolGrant::parse(text).unwrap()).collect();
        command_argv(command, &grants).map(|argv| argv[4..].to_vec())
    }

    #[test]
    fn a_command_that_the_system_can_not_start_is_refused() {
        let longest = "x".repeat(MAX_COMMAND_BYTES);
        for grants in [&["shell"][..], &["shell(x:*)", "shell(xx:*)"][..]] {
            let error = argv(grants, &format!("{longest}y")).unwrap_err();
            assert!(error.starts_with("the command has 131072 bytes, and 131071 are the most"), "{error}");
            assert!(argv(grants, "x \0").unwrap_err().contains("NUL character"));
        }
        assert_eq!(argv(&["shell"], &longest).unwrap()[2].len(), MAX_COMMAND_BYTES);
    }

    #[test]
    fn a_shell_runs_the_command_only_without_patterns() {
        assert_eq!(argv(&["shell"], "a && b").unwrap(), ["sh", "-c", "a && b"]);
        assert_eq!(argv(&["shell(cargo:*)", "shell"], "a | b").unwrap(), ["sh", "-c", "a | b"]);
        assert_eq!(argv(&["shell(cargo:*)"], "cargo test 'a b'").unwrap(), ["cargo", "test", "a b"]);
        let error = argv(&["shell(cargo:*)", "shell(git diff:*)"], "rm x").unwrap_err();
        assert!(error.ends_with("match `cargo:*` or `git diff:*`; run such a command"), "{error}");
        assert!(argv(&["read"], "ls").unwrap_err().contains("may not use `shell`"), "without a grant");
        assert!(argv(&["shell"], " \n").is_err());
    }
}
