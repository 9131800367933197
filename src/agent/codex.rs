//! `cli: codex`: Codex in its exec mode.
//!
//! Codex reads only the configuration that orch passes. It has no option to enable single tools: if the agent lists any
//! tool, Codex has its shell, and if it lists none, orch turns the shell off.

use std::path::Path;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::model::cli_agent::SANDBOX_REFUSAL_PREFIX;
use crate::model::step::Access;
use crate::model::usage::parse_token_count;
use crate::model::{AgentActivity, ChatReply, Content, Failure, FailureClass, ReportedUsage, StopReason};
use crate::process::{self, CapturedOutput, ProcessError, SandboxNeeds};
use crate::provider::strict_schema;

use super::exit::{
    describe_exit_code, exit_failure, last_text_suffix, line_too_long_failure, no_credit_failure, status_failure,
};
use super::json_lines::{JsonLinesReader, JsonLinesSplitter};
use super::mcp_servers::{codex_settings, server_hosts};
use super::models::{env_base_url_for_agent, provider_hosts};
use super::program::{AgentEvent, AgentProgram, TurnJob, TurnResult, create_turn_file, set_event_limits};
use super::refusals;

/// The host of the API that Codex uses.
const API_HOST: &str = "api.openai.com";
/// The option that sets the mode of Codex's own sandbox.
const SANDBOX_OPTION: &str = "-s";
/// The address of Codex's models, unless `OPENAI_BASE_URL` is set.
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// Settings for reproducible runs: no instructions from the project, and no network requests other than to the model.
const SETTINGS: &[(&str, &str)] = &[
    ("model_provider", "orch"),
    ("check_for_update_on_startup", "false"),
    ("analytics.enabled", "false"),
    ("project_doc_max_bytes", "0"),
    ("features.apps", "false"),
    ("approval_policy", "never"),
    // By default, Codex may also write to `/tmp` and `TMPDIR`, which other programs share.
    ("sandbox_workspace_write.exclude_slash_tmp", "true"),
    ("sandbox_workspace_write.exclude_tmpdir_env_var", "true"),
];
/// The variable that holds Codex's key.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";
/// The maximum number of denied actions that orch reports.
const MAX_DENIED: usize = 100;
/// The features that are off when the agent lists no tools.
const TOOL_FEATURES: &[&str] = &["shell_tool", "unified_exec", "view_image", "code_mode_host", "multi_agent", "goals"];
/// The name of the web search, in `tools` and in Codex's settings. Any name in `tools` grants the shell, but only this
/// name grants the web search, because it uses the network.
const WEB_SEARCH: &str = "web_search";

/// The message for a failed turn without an error message.
const TURN_FAILED: &str = "its turn failed (`turn.failed`) without an error message";
/// The line that Codex writes to standard error when it refuses a command that asked to leave the sandbox.
const ESCALATION_REFUSED: &str = "approval policy is Never; reject command";

/// Codex.
pub(super) struct CodexAgent;

impl AgentProgram for CodexAgent {
    fn run_turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            let home = job.home()?;
            let schema = job.turn.request.schema.as_deref().and_then(strict_schema);
            let schema_file =
                schema.map(|schema| create_turn_file(&home, "schema.json", &schema.to_string())).transpose()?;
            let schema_path = schema_file.as_ref().map(|file| file.path().display().to_string());
            let env_url = env_base_url_for_agent("openai", &[KEY_VARIABLE], job.agent_env)?;
            let base_url = env_url.as_deref().unwrap_or(DEFAULT_BASE_URL);
            let temporary_folder = temporary_folder(job)?;
            let folders = [("HOME", home.path()), ("CODEX_HOME", home.path()), ("TMPDIR", &temporary_folder)];
            let overrides = folders.map(|(name, path)| (name.to_owned(), path.display().to_string()));
            job.check_server_headers()?;
            let env = job.environment(&job.variables_with_servers(&[KEY_VARIABLE]), overrides.to_vec());
            let mut arguments = arguments(job, base_url, schema_path);
            let writable_roots = serde_json::json!([temporary_folder.display().to_string()]);
            arguments
                .splice(1..1, ["-c".to_owned(), format!("sandbox_workspace_write.writable_roots={writable_roots}")]);
            let hosts = provider_hosts(API_HOST, env_url.as_deref());
            let needs = SandboxNeeds {
                writable: vec![home.path().to_owned()],
                hosts: hosts.into_iter().chain(server_hosts(job.servers())).collect(),
                temporary_folder: Some(temporary_folder),
                argv_in_sandbox: Some(without_own_sandbox(&arguments)),
                ..SandboxNeeds::default()
            };
            let stdin = Some(job.text_with_system_prompt());
            let mut spec = job.program_spec(arguments, env, stdin, needs).await?;
            set_event_limits(&mut spec);
            let constrained = schema_file.is_some();
            let lines = JsonLinesSplitter::new(CodexTranscript::new(sink, empty_reply(job, constrained)));
            let exit =
                process::run_until(&spec, &|stream, bytes| lines.push(stream, bytes), lines.wait_for_turn_end()).await;
            let (mut transcript, is_line_too_long) = lines.finish();
            let exit = exit.map_err(|error| codex_process_failure(job, &error, transcript.error_message.as_deref()))?;
            // Codex reports the usage of its whole thread, so orch subtracts the usage of earlier turns.
            let is_same_session = transcript.reply.id.is_some() && transcript.reply.id == job.turn.session;
            let earlier_usage = job.turn.session_usage.filter(|_| is_same_session);
            let turn_usage = transcript.reply.usage.since(earlier_usage);
            let session_usage = transcript.reply.usage.session_total(earlier_usage);
            let mut activity = AgentActivity::default();
            let reply = match (transcript.error_message.take(), exit.code) {
                (None, _) if transcript.has_message && transcript.is_completed => {
                    let denied = denied_actions(job, home.path(), &transcript, &exit.stderr).await;
                    (activity.session_usage, activity.denied) = (session_usage, denied);
                    Ok(ChatReply { usage: turn_usage, ..transcript.reply })
                }
                (Some(message), _) => Err(error_failure(job, &message)),
                (None, _) if is_line_too_long => Err(line_too_long_failure("codex")),
                (None, code) if transcript.has_message => Err(incomplete_turn(code, &transcript.reply.text())),
                (None, code) => Err(exit_failure("codex", &spec, code, &[&exit.stderr, &exit.stdout])),
            };
            activity.usage = Some(turn_usage).filter(|usage| reply.is_err() && !usage.is_empty());
            Ok(TurnResult { reply, cost: None, activity })
        }
        .boxed()
    }
}

/// A folder for the temporary files of Codex's commands. orch does not use Codex's home for them, because the commands
/// could then change Codex's own programs there.
fn temporary_folder(job: &TurnJob<'_>) -> Result<std::path::PathBuf, Failure> {
    job.agent_folder("codex-tmp").map(|folder| folder.path().to_owned())
}

fn arguments(job: &TurnJob<'_>, base_url: &str, schema_path: Option<String>) -> Vec<String> {
    let program = &job.turn.program;
    let sandbox = if program.access == Access::Write { "workspace-write" } else { "read-only" };
    let workspace = job.agent_env.workspace.display().to_string();
    let flags = ["exec", "--json", "--skip-git-repo-check", "--ignore-user-config", "--ignore-rules"];
    let mut argv: Vec<String> = ["codex"].into_iter().chain(flags).map(str::to_owned).collect();
    let mut add = |name: &str, value: String| argv.extend([name.to_owned(), value]);
    add(SANDBOX_OPTION, sandbox.to_owned());
    add("-C", workspace);
    // A JSON string is also a valid TOML string.
    let quoted_url = Value::from(base_url.trim_end_matches('/')).to_string();
    let provider = format!(
        "{{name=\"orch\",base_url={quoted_url},env_key=\"OPENAI_API_KEY\",wire_api=\"responses\",request_max_retries=2,stream_max_retries=2}}"
    );
    add("-c", format!("model_providers.orch={provider}"));
    for (name, value) in SETTINGS {
        add("-c", format!("{name}={value}"));
    }
    if program.tools.is_empty() {
        for name in TOOL_FEATURES {
            add("-c", format!("features.{name}=false"));
        }
    }
    if !program.tools.iter().any(|name| name == WEB_SEARCH) {
        add("-c", format!("{WEB_SEARCH}=disabled"));
    }
    for setting in codex_settings(&job.servers_in_project()) {
        add("-c", setting);
    }
    if let Some(model) = &program.model {
        add("-m", model.clone());
    }
    if let Some(path) = schema_path {
        add("--output-schema", path);
    }
    if let Some(session) = &job.turn.session {
        add("resume", session.clone());
    }
    argv.push("-".to_owned());
    argv
}

/// Turns off Codex's own sandbox in these arguments, because it can't start inside the sandbox of orch. The sandbox of
/// orch also makes the workspace read-only unless the step has `access: write`.
fn without_own_sandbox(arguments: &[String]) -> Vec<String> {
    let mut arguments = arguments.to_vec();
    let value = arguments.iter().position(|argument| argument == SANDBOX_OPTION).map(|option| option + 1);
    if let Some(value) = value.and_then(|value| arguments.get_mut(value)) {
        "danger-full-access".clone_into(value);
    }
    arguments
}

fn empty_reply(job: &TurnJob<'_>, constrained: bool) -> ChatReply {
    ChatReply {
        content: Content::default(),
        stop: StopReason::End,
        usage: ReportedUsage::default(),
        model: job.turn.program.model.clone(),
        id: None,
        constrained,
        details: Box::default(),
    }
}

/// Collects the events of Codex.
struct CodexTranscript<'a> {
    sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    reply: ChatReply,
    has_message: bool,
    /// Whether Codex reported that its turn is complete. Until then, another message may follow.
    is_completed: bool,
    /// Whether Codex reported that its turn failed.
    is_failed: bool,
    /// The message of the last error; a completed turn clears it.
    error_message: Option<String>,
    /// Commands that Codex declined, and lines of output that report a refusal by the sandbox.
    refusals: Vec<String>,
}

impl JsonLinesReader for CodexTranscript<'_> {
    fn has_turn_ended(&self) -> bool {
        self.is_completed || self.is_failed
    }

    fn ends_turn(&self, value: &Value) -> bool {
        matches!(value["type"].as_str(), Some("turn.completed" | "turn.failed"))
    }

    fn read_value(&mut self, value: &Value) {
        match value["type"].as_str() {
            Some("thread.started") => {
                self.reply.id = value["thread_id"].as_str().map(str::to_owned);
                self.reply.id.iter().for_each(|session| (self.sink)(AgentEvent::Session(session.clone())));
            }
            Some("item.completed") => self.read_item(&value["item"]),
            Some("item.started") if value["item"]["type"] == "command_execution" => {
                let command = value["item"]["command"].as_str().unwrap_or_default();
                (self.sink)(AgentEvent::Tool(command.to_owned()));
            }
            Some("turn.completed") => {
                self.error_message = None;
                self.is_completed = true;
                (self.sink)(AgentEvent::TurnEnded);
                let count = |name: &str| parse_token_count(&value["usage"][name]);
                self.reply.usage = ReportedUsage {
                    input: count("input_tokens"),
                    cache_read: count("cached_input_tokens").unwrap_or(0),
                    cache_write: count("cache_write_input_tokens").unwrap_or(0),
                    output: count("output_tokens"),
                    reasoning: count("reasoning_output_tokens").unwrap_or(0),
                };
            }
            Some("error") => self.error_message = value["message"].as_str().map(str::to_owned),
            Some("turn.failed") => {
                self.is_failed = true;
                // If the failure has no message of its own, the message of the last error describes it.
                let message = value["error"]["message"].as_str().map(str::to_owned);
                self.error_message = message.or(self.error_message.take()).or_else(|| Some(TURN_FAILED.to_owned()));
            }
            _ => {}
        }
    }
}

impl<'a> CodexTranscript<'a> {
    fn new(sink: &'a (dyn Fn(AgentEvent) + Send + Sync), reply: ChatReply) -> Self {
        Self {
            sink,
            reply,
            has_message: false,
            is_completed: false,
            is_failed: false,
            error_message: None,
            refusals: Vec::new(),
        }
    }

    /// Reads a completed item. Items of type `error` are notes, not failures.
    fn read_item(&mut self, item: &Value) {
        match item["type"].as_str() {
            Some("agent_message") => {
                let text = item["text"].as_str().unwrap_or_default();
                self.reply.content = Content::from_text(text);
                self.has_message = true;
                (self.sink)(AgentEvent::Text(text.to_owned()));
            }
            Some("command_execution") => {
                let declined = (item["status"] == "declined").then(|| item["command"].as_str()).flatten();
                let refusal = declined.or_else(|| {
                    // Without an exit code it is unknown whether the command succeeded.
                    refusals::find_refusal(item["aggregated_output"].as_str()?, item["exit_code"] == 0)
                });
                self.refusals.extend(refusal.map(str::to_owned));
            }
            Some("file_change") => {
                let changes = item["changes"].as_array().into_iter().flatten();
                let paths: Vec<&str> = changes.filter_map(|change| change["path"].as_str()).collect();
                (self.sink)(AgentEvent::Tool(format!("edit {}", paths.join(", "))));
            }
            Some("web_search") => {
                (self.sink)(AgentEvent::Tool(format!("web_search {}", item["query"].as_str().unwrap_or_default())));
            }
            Some("mcp_tool_call") => {
                let name = |key: &str| item[key].as_str().unwrap_or_default();
                (self.sink)(AgentEvent::Tool(format!("{} {}", name("server"), name("tool"))));
            }
            _ => {}
        }
    }
}

/// The failure of a Codex process that sent a message, but exited before its turn was complete.
fn incomplete_turn(code: Option<i32>, last_text: &str) -> Failure {
    let message =
        format!("`codex` ended {} before its turn was complete (no `turn.completed`)", describe_exit_code(code));
    Failure::new(FailureClass::AgentError, message + &last_text_suffix(last_text))
        .with_hint("orch does not use its last text as a reply; check which version of Codex is installed")
}

/// The failure for an error message of Codex, which may contain an HTTP status.
fn error_failure(job: &TurnJob<'_>, message: &str) -> Failure {
    let status = message.split_once("unexpected status ").and_then(|(_, text)| text.get(..3)?.parse().ok());
    if let Some(status) = status {
        return status_failure(job, "codex", status, message, &[KEY_VARIABLE]);
    }
    let json: Value = serde_json::from_str(message).unwrap_or(json!({}));
    if let Some(status) = json["status"].as_u64().and_then(|status| u16::try_from(status).ok()) {
        let message = json["error"]["message"].as_str().unwrap_or(message);
        return status_failure(job, "codex", status, message, &[KEY_VARIABLE]);
    }
    let connection_errors = ["Reconnecting", "stream disconnected", "Connection failed", "error sending request"];
    let is_connection_error = connection_errors.iter().any(|error| message.contains(error));
    let class = if is_connection_error { FailureClass::ProviderUnavailable } else { FailureClass::AgentError };
    let failure = Failure::new(class, format!("`codex` failed: {message}"));
    no_credit_failure(&failure.message, message).unwrap_or(failure)
}

/// The denied actions: commands that asked to leave the sandbox, which Codex reports only on standard error, and writes
/// that the sandbox refused.
async fn denied_actions(
    job: &TurnJob<'_>,
    home: &Path,
    transcript: &CodexTranscript<'_>,
    stderr: &CapturedOutput,
) -> Vec<String> {
    let text = stderr.text();
    let escalations = text.lines().filter(|line| line.contains(ESCALATION_REFUSED));
    let mut denied: Vec<String> = escalations.map(|_| "to run a command outside of its sandbox".to_owned()).collect();
    let mut refusals = transcript.refusals.clone();
    if let Some(session) = transcript.reply.id.clone() {
        let (home, since) = (home.to_owned(), job.context.start_time);
        refusals.extend(job.run_on_thread(move || refusals::session_refusals(&home, &session, since)).await);
    }
    for refusal in refusals {
        let action = format!("{SANDBOX_REFUSAL_PREFIX} ({refusal})");
        if !denied.contains(&action) && denied.len() < MAX_DENIED {
            denied.push(action);
        }
    }
    denied
}

/// The failure for an error of the Codex process. For a time-out, it includes Codex's last error, because Codex retries
/// requests to an unreachable provider until the time-out.
fn codex_process_failure(job: &TurnJob<'_>, error: &ProcessError, last_error: Option<&str>) -> Failure {
    match (error, last_error) {
        (ProcessError::Timeout { limit, .. }, Some(last_error)) => Failure::new(
            FailureClass::Timeout,
            format!("`codex` took longer than {limit:?}; its last error: {last_error}"),
        )
        .with_hint("raise `timeout:` of the step, or check whether OPENAI_BASE_URL is reachable"),
        _ => job.process_failure(error),
    }
}
