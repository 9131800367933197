//! `cli: codex`: Codex in its exec mode.
//!
//! Codex sees only the configuration that orch passes. It can't be given single tools: when the agent lists any tool,
//! the sandbox may write to the workspace; when it lists none, the shell is off.

use std::path::Path;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::model::program::SANDBOX_REFUSAL;
use crate::model::step::Access;
use crate::model::usage::token_count;
use crate::model::{AgentActivity, ChatReply, Class, Failure, ReportedUsage, StopReason};
use crate::process::{self, Captured, ProcessError};
use crate::provider::strict_schema;

use super::exit::{ended_badly, it_said, no_credit, of_status, too_large, with_code};
use super::lines::{LineReader, LineSplitter};
use super::models::moved_address;
use super::program::{AgentEvent, AgentProgram, TurnJob, TurnResult, file, streams};
use super::refusals;

/// The address of its models, unless `OPENAI_BASE_URL` is set.
const BASE_URL: &str = "https://api.openai.com/v1";
/// Settings for reproducible runs: no instructions from the project, and no network requests other than to the model.
const PLAIN: &[(&str, &str)] = &[
    ("model_provider", "orch"),
    ("check_for_update_on_startup", "false"),
    ("analytics.enabled", "false"),
    ("project_doc_max_bytes", "0"),
    ("features.apps", "false"),
    ("approval_policy", "never"),
    // Only the workspace may be written: other programs share the folders for temporary files.
    ("sandbox_workspace_write.exclude_slash_tmp", "true"),
    ("sandbox_workspace_write.exclude_tmpdir_env_var", "true"),
];
/// The variable that holds its key.
const KEY: &str = "OPENAI_API_KEY";
/// How many refusals are reported at most.
const MOST_DENIED: usize = 100;
/// The features that are off when the agent lists no tools.
const TOOLS: &[&str] = &["shell_tool", "unified_exec", "view_image", "code_mode_host", "multi_agent", "goals"];
/// The only tool that `tools` grants by name, since it uses the network.
const SEARCH: &str = "web_search";

/// The message for a failed turn that has none.
const TURN_FAILED: &str = "its turn failed (`turn.failed`), and it does not say why";
/// What Codex writes to standard error when a command that asked to leave the sandbox is refused.
const REFUSED: &str = "approval policy is Never; reject command";

/// Codex.
pub(super) struct CodexAgent;

impl AgentProgram for CodexAgent {
    fn turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            let home = job.home()?;
            let schema = job.turn.request.schema.as_deref().and_then(strict_schema);
            let schema = schema.map(|schema| file(&home, "schema.json", &schema.to_string())).transpose()?;
            let path = schema.as_ref().map(|file| file.path().display().to_string());
            let base = moved_address("openai", &[KEY], job.place)?.unwrap_or_else(|| BASE_URL.to_owned());
            let temporary = temporary(job)?;
            let own = [("HOME", home.path()), ("CODEX_HOME", home.path()), ("TMPDIR", &temporary)];
            let own = own.map(|(name, path)| (name.to_owned(), path.display().to_string()));
            let env = job.environment(&[KEY], own.to_vec());
            let mut arguments = arguments(job, &base, path);
            let roots = serde_json::json!([temporary.display().to_string()]);
            arguments.splice(1..1, ["-c".to_owned(), format!("sandbox_workspace_write.writable_roots={roots}")]);
            let mut spec = job.spec(arguments, env, Some(job.words()));
            streams(&mut spec);
            let constrained = schema.is_some();
            let lines = LineSplitter::new(CodexTranscript::new(sink, empty(job, constrained)));
            let ended = process::run_until(&spec, &|stream, bytes| lines.push(stream, bytes), lines.said()).await;
            let (mut heard, too_long) = lines.end();
            let ended = ended.map_err(|error| timed_out(job, &error, heard.failure.as_deref()))?;
            // Codex reports the usage of its whole thread, so the part of earlier turns is subtracted.
            let same = heard.reply.id.is_some() && heard.reply.id == job.turn.session;
            let before = job.turn.session_usage.filter(|_| same);
            let used = heard.reply.usage.since(before);
            let session_usage = heard.reply.usage.session_total(before);
            let reply = match (heard.failure.take(), ended.code) {
                (None, _) if heard.answered && heard.completed => {
                    let denied = denied(job, home.path(), &heard, &ended.stderr).await;
                    let work = Some(Box::new(AgentActivity { session_usage, denied, ..AgentActivity::default() }));
                    Ok(ChatReply { agent_activity: work, usage: used, ..heard.reply })
                }
                (Some(words), _) => Err(failed(job, &words)),
                (None, _) if too_long => Err(too_large("codex")),
                (None, code) if heard.answered => Err(broke_off(code, &heard.reply.text)),
                (None, code) => Err(ended_badly("codex", code, &[&ended.stderr, &ended.stdout])),
            };
            let usage = (!used.is_nothing()).then_some(used);
            Ok(TurnResult { reply, cost: None, work: AgentActivity { usage, ..AgentActivity::default() } })
        }
        .boxed()
    }
}

/// A folder for the temporary files of its commands. It is not Codex's home, which holds Codex's own programs.
fn temporary(job: &TurnJob<'_>) -> Result<std::path::PathBuf, Failure> {
    job.folder("codex-tmp").map(|folder| folder.path().to_owned())
}

fn arguments(job: &TurnJob<'_>, base: &str, schema: Option<String>) -> Vec<String> {
    let program = &job.turn.program;
    let sandbox = if program.access == Access::Write { "workspace-write" } else { "read-only" };
    let workspace = job.place.workspace.display().to_string();
    let flags = ["exec", "--json", "--skip-git-repo-check", "--ignore-user-config", "--ignore-rules"];
    let mut argv: Vec<String> = ["codex"].into_iter().chain(flags).map(str::to_owned).collect();
    let mut add = |name: &str, value: String| argv.extend([name.to_owned(), value]);
    add("-s", sandbox.to_owned());
    add("-C", workspace);
    // A JSON string is also a valid TOML string.
    let quoted = Value::from(base.trim_end_matches('/')).to_string();
    let provider = format!(
        "{{name=\"orch\",base_url={quoted},env_key=\"OPENAI_API_KEY\",wire_api=\"responses\",request_max_retries=2,stream_max_retries=2}}"
    );
    add("-c", format!("model_providers.orch={provider}"));
    for (name, value) in PLAIN {
        add("-c", format!("{name}={value}"));
    }
    if program.tools.is_empty() {
        for name in TOOLS {
            add("-c", format!("features.{name}=false"));
        }
    }
    if !program.tools.iter().any(|name| name == SEARCH) {
        add("-c", format!("{SEARCH}=disabled"));
    }
    if let Some(model) = &program.model {
        add("-m", model.clone());
    }
    if let Some(schema) = schema {
        add("--output-schema", schema);
    }
    if let Some(session) = &job.turn.session {
        add("resume", session.clone());
    }
    argv.push("-".to_owned());
    argv
}

fn empty(job: &TurnJob<'_>, constrained: bool) -> ChatReply {
    let model = job.turn.program.model.clone();
    let usage = ReportedUsage::default();
    ChatReply {
        text: String::new(),
        stop: StopReason::End,
        usage,
        model,
        id: None,
        constrained,
        agent_activity: None,
        remarks: Box::default(),
    }
}

/// What Codex's events reported so far.
struct CodexTranscript<'a> {
    sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    reply: ChatReply,
    answered: bool,
    /// Whether the turn is complete: a message before that may not be the last one.
    completed: bool,
    /// Whether Codex reported that its turn failed.
    failed: bool,
    /// The message of the last error; a completed turn clears it.
    failure: Option<String>,
    /// Commands that Codex declined, and lines of output that report a refusal by the sandbox.
    refused: Vec<String>,
}

impl LineReader for CodexTranscript<'_> {
    fn is_over(&self) -> bool {
        self.completed || self.failed
    }

    fn ends_turn(&self, value: &Value) -> bool {
        matches!(value["type"].as_str(), Some("turn.completed" | "turn.failed"))
    }

    fn value(&mut self, value: &Value) {
        match value["type"].as_str() {
            Some("thread.started") => {
                self.reply.id = value["thread_id"].as_str().map(str::to_owned);
                self.reply.id.iter().for_each(|session| (self.sink)(AgentEvent::Session(session.clone())));
            }
            Some("item.completed") => self.item(&value["item"]),
            Some("item.started") if value["item"]["type"] == "command_execution" => {
                let command = value["item"]["command"].as_str().unwrap_or_default();
                (self.sink)(AgentEvent::Tool(command.lines().next().unwrap_or_default().to_owned()));
            }
            Some("turn.completed") => {
                self.failure = None;
                self.completed = true;
                (self.sink)(AgentEvent::Over);
                let count = |name: &str| token_count(&value["usage"][name]);
                self.reply.usage = ReportedUsage {
                    input: count("input_tokens"),
                    cache_read: count("cached_input_tokens").unwrap_or(0),
                    cache_write: count("cache_write_input_tokens").unwrap_or(0),
                    output: count("output_tokens"),
                    reasoning: count("reasoning_output_tokens").unwrap_or(0),
                };
            }
            Some("error") => self.failure = value["message"].as_str().map(str::to_owned),
            Some("turn.failed") => {
                self.failed = true;
                // Without a message of its own, the failure has the message of the last error.
                let words = value["error"]["message"].as_str().map(str::to_owned);
                self.failure = words.or(self.failure.take()).or_else(|| Some(TURN_FAILED.to_owned()));
            }
            _ => {}
        }
    }
}

impl<'a> CodexTranscript<'a> {
    fn new(sink: &'a (dyn Fn(AgentEvent) + Send + Sync), reply: ChatReply) -> Self {
        Self { sink, reply, answered: false, completed: false, failed: false, failure: None, refused: Vec::new() }
    }

    /// Reads a completed item. Items of type `error` are notes, not failures.
    fn item(&mut self, item: &Value) {
        match item["type"].as_str() {
            Some("agent_message") => {
                item["text"].as_str().unwrap_or_default().clone_into(&mut self.reply.text);
                self.answered = true;
                (self.sink)(AgentEvent::Text(self.reply.text.clone()));
            }
            Some("command_execution") => {
                let declined = (item["status"] == "declined").then(|| item["command"].as_str()).flatten();
                let refused = declined.or_else(|| {
                    // Without an exit code it is unknown whether the command succeeded.
                    refusals::refused(item["aggregated_output"].as_str()?, item["exit_code"] == 0)
                });
                self.refused.extend(refused.map(str::to_owned));
            }
            Some("file_change") => {
                let paths = item["changes"].as_array().into_iter().flatten();
                let paths: Vec<&str> = paths.filter_map(|change| change["path"].as_str()).collect();
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
fn broke_off(code: Option<i32>, said: &str) -> Failure {
    let why = format!("`codex` ended {} before its turn was complete (no `turn.completed`)", with_code(code));
    Failure::new(Class::AgentError, why + &it_said(said))
        .with_hint("what it said by then is not taken for its answer; see whether another version of it is installed")
}

/// The failure for an error message of Codex, which may contain an HTTP status.
fn failed(job: &TurnJob<'_>, words: &str) -> Failure {
    let status = words.split_once("unexpected status ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
    if let Some(status) = status {
        return of_status(job, "codex", status, words, &[KEY]);
    }
    let json: Value = serde_json::from_str(words).unwrap_or(json!({}));
    if let Some(status) = json["status"].as_u64().and_then(|status| u16::try_from(status).ok()) {
        return of_status(job, "codex", status, json["error"]["message"].as_str().unwrap_or(words), &[KEY]);
    }
    let away = ["Reconnecting", "stream disconnected", "Connection failed", "error sending request"];
    let class =
        if away.iter().any(|sign| words.contains(sign)) { Class::ProviderUnavailable } else { Class::AgentError };
    let failure = Failure::new(class, format!("`codex` failed: {words}"));
    no_credit(&failure.message, words).unwrap_or(failure)
}

/// What Codex was refused: commands that asked to leave the sandbox, which it reports only on standard error, and what
/// the sandbox itself refused.
async fn denied(job: &TurnJob<'_>, home: &Path, heard: &CodexTranscript<'_>, stderr: &Captured) -> Vec<String> {
    let text = stderr.text();
    let asked = text.lines().filter(|line| line.contains(REFUSED));
    let mut denied: Vec<String> = asked.map(|_| "to run a command outside of its sandbox".to_owned()).collect();
    let mut refused = heard.refused.clone();
    if let Some(session) = heard.reply.id.clone() {
        let (home, since) = (home.to_owned(), job.bounds.now);
        let read = tokio::task::spawn_blocking(move || refusals::on_record(&home, &session, since)).await;
        refused.extend(read.unwrap_or_default());
    }
    for line in refused {
        let line = format!("{SANDBOX_REFUSAL} ({line})");
        if !denied.contains(&line) && denied.len() < MOST_DENIED {
            denied.push(line);
        }
    }
    denied
}

/// The failure of a turn that timed out. Codex keeps retrying an unreachable provider, so its last error says more.
fn timed_out(job: &TurnJob<'_>, error: &ProcessError, last: Option<&str>) -> Failure {
    match (error, last) {
        (ProcessError::Timeout { limit, .. }, Some(last)) => {
            Failure::new(Class::Timeout, format!("`codex` took longer than {limit:?}; its last error: {last}"))
                .with_hint("raise `timeout:` of the step, or see whether OPENAI_BASE_URL can be reached")
        }
        _ => job.failed(error),
    }
}
