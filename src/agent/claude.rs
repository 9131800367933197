//! `cli: claude`: Claude Code in its print mode.
//!
//! Claude Code sees only the settings that orch passes: its home and configuration are folders of the run, and it reads
//! neither the user's nor the project's settings. Its session is stored in that home, so that a re-ask continues it,
//! even after a crash.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::model::cost::dollar_amount;
use crate::model::step::Access;
use crate::model::usage::token_count;
use crate::model::{AgentActivity, ChatReply, Class, Failure, ReportedUsage, StopReason};
use crate::process;

use super::exit::{ended_badly, login, no_credit, of_status, too_large, unknown_stop};
use super::lines::{LineReader, LineSplitter};
use super::models::moved_address;
use super::program::{AgentEvent, AgentProgram, TurnJob, TurnResult, file, streams};

/// Variables that Claude Code needs to reach its models.
const VARIABLES: &[&str] =
    &["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/// Those among them that hold a key.
const KEYS: &[&str] = &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/// Settings for reproducible runs: no network requests other than to the model, fewer retries (the default of ten can
/// take minutes), and no memory that one step could pass on to the next.
const QUIET: &[(&str, &str)] = &[
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", "2"),
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
];
/// Tools that change files. The permission mode allows them inside the workspace; `--allowedTools` would allow them
/// everywhere.
const EDITS: &[&str] = &["Edit", "MultiEdit", "Write", "NotebookEdit"];

/// The error text that Claude Code sends its model for an unknown tool, up to the tool's name.
const NO_TOOL: &str = "No such tool available: ";
/// Prefixes that the error text may have.
const ERROR_MARKS: [&str; 2] = ["<tool_use_error>", "Error: "];

/// Claude Code.
pub(super) struct ClaudeAgent;

impl AgentProgram for ClaudeAgent {
    fn turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            // Claude Code would report an invalid address as a server that can't be reached.
            moved_address("anthropic", KEYS, job.place)?;
            let home = job.home()?;
            let prompt = file(&home, "system.md", &job.turn.request.system)?;
            let mut argv = vec!["claude".to_owned()];
            argv.extend(arguments(job));
            argv.extend(["--append-system-prompt-file".to_owned(), prompt.path().display().to_string()]);
            let text = |path: &std::path::Path| path.display().to_string();
            let mut own = vec![
                ("HOME".to_owned(), text(home.path())),
                ("CLAUDE_CONFIG_DIR".to_owned(), text(&home.path().join(".claude"))),
            ];
            own.extend(QUIET.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let mut spec = job.spec(argv, job.environment(VARIABLES, own), Some(job.next_words()));
            streams(&mut spec);
            let lines = LineSplitter::new(ClaudeTranscript { sink, result: None, error: None, missing: Vec::new() });
            let ended = process::run_until(&spec, &|stream, bytes| lines.push(stream, bytes), lines.said()).await;
            let (heard, too_long) = lines.end();
            let ended = ended.map_err(|error| job.failed(&error))?;
            match heard.result {
                Some(result) => Ok(answer(job, &result, heard.error.as_deref(), heard.missing)),
                None if too_long => Err(too_large("claude")),
                None => Err(ended_badly("claude", ended.code, &[&ended.stderr, &ended.stdout])),
            }
        }
        .boxed()
    }
}

fn arguments(job: &TurnJob<'_>) -> Vec<String> {
    let program = &job.turn.program;
    let flags = ["-p", "--output-format", "stream-json", "--verbose", "--setting-sources", "", "--strict-mcp-config"];
    let mut argv: Vec<String> = flags.map(str::to_owned).to_vec();
    let mut add = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
    // A rule such as `Bash(git diff:*)` belongs to the tool `Bash`.
    let bare = |name: &str| name.split('(').next().unwrap_or(name).trim().to_owned();
    let mut tools: Vec<String> = program.tools.iter().map(|name| bare(name)).collect();
    tools.dedup();
    add("--tools", &tools.join(","));
    add("--permission-mode", if program.access == Access::Write { "acceptEdits" } else { "dontAsk" });
    if let Some(model) = &program.model {
        add("--model", model);
    }
    if let Some(turns) = program.max_turns {
        add("--max-turns", &turns.to_string());
    }
    if let Some(usd) = job.bounds.usd {
        // Claude Code rejects a budget of zero.
        add("--max-budget-usd", &format!("{:.6}", usd.max(1e-6)));
    }
    // Claude Code returns structured output as the input of a tool call, which must be an object.
    let is_object = |schema: &&Value| schema.get("type").is_some_and(|kind| kind == "object");
    if let Some(schema) = job.turn.request.schema.as_deref().filter(is_object) {
        add("--json-schema", &without_dialect(schema).to_string());
    }
    if let Some(session) = &job.turn.session {
        add("--resume", session);
    }
    // Without this flag, Claude Code would run a prompt that begins with a slash as a command.
    argv.push("--disable-slash-commands".to_owned());
    let allowed = program.tools.iter().filter(|name| !EDITS.contains(&bare(name).as_str()));
    for (number, name) in allowed.enumerate() {
        if number == 0 {
            argv.push("--allowedTools".to_owned());
        }
        argv.push(name.clone());
    }
    argv
}

/// The schema without `$schema`: Claude Code silently ignores a schema whose dialect it does not know.
fn without_dialect(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let named = |(key, value): &(&String, &Value)| *key == "$schema" && value.is_string();
            let kept = map.iter().filter(|entry| !named(entry));
            Value::Object(kept.map(|(key, value)| (key.clone(), without_dialect(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(without_dialect).collect()),
        other => other.clone(),
    }
}

/// What Claude Code's events reported so far.
struct ClaudeTranscript<'a> {
    sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    result: Option<Value>,
    /// The error code of the last failed request to its model.
    error: Option<String>,
    /// Tools that its model called and that it does not have, since `tools` does not list them.
    missing: Vec<String>,
}

impl LineReader for ClaudeTranscript<'_> {
    fn is_over(&self) -> bool {
        self.result.is_some()
    }

    fn ends_turn(&self, value: &Value) -> bool {
        value["type"] == "result"
    }

    fn value(&mut self, value: &Value) {
        match value["type"].as_str() {
            Some("system") if value["subtype"] == "init" => {
                if let Some(session) = value["session_id"].as_str() {
                    (self.sink)(AgentEvent::Session(session.to_owned()));
                }
            }
            Some("result") => {
                self.result = Some(value.clone());
                (self.sink)(AgentEvent::Over);
            }
            Some("assistant") => {
                self.error = value["error"].as_str().map(str::to_owned);
                for block in value["message"]["content"].as_array().into_iter().flatten() {
                    match block["type"].as_str() {
                        Some("text") => {
                            (self.sink)(AgentEvent::Text(block["text"].as_str().unwrap_or_default().to_owned()));
                        }
                        Some("tool_use") => (self.sink)(AgentEvent::Tool(tool(block))),
                        _ => {}
                    }
                }
            }
            // `permission_denials` lists only tools that need permission; calls of unknown tools appear only as errors
            // here.
            Some("user") => {
                for block in value["message"]["content"].as_array().into_iter().flatten() {
                    let said = block["content"].as_str().or(block["content"][0]["text"].as_str()).unwrap_or_default();
                    if block["is_error"] == true
                        && let Some(name) = missing_tool(said)
                    {
                        self.missing.push(format!("{name} (it was not granted)"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The name of the unknown tool, if an error text reports one. Only the start of the text counts, since the output of a
/// failed command may quote these words.
fn missing_tool(said: &str) -> Option<&str> {
    let words = ERROR_MARKS.iter().fold(said.trim_start(), |words, mark| words.strip_prefix(mark).unwrap_or(words));
    let name = words.strip_prefix(NO_TOOL)?;
    let end = name.find(|c: char| c.is_whitespace() || c == '<' || c == '.').unwrap_or(name.len());
    name.get(..end)
}

/// A tool use in one line: the tool's name and what it acts on.
fn tool(block: &Value) -> String {
    let name = block["name"].as_str().or(block["tool_name"].as_str()).unwrap_or("a tool");
    let input = if block["input"].is_null() { &block["tool_input"] } else { &block["input"] };
    let about = ["file_path", "path", "command", "pattern", "url"].iter().find_map(|key| input[*key].as_str());
    about.map_or_else(|| name.to_owned(), |about| format!("{name} {}", about.lines().next().unwrap_or_default()))
}

/// The result of a turn. The cost counts even when the turn failed.
fn answer(job: &TurnJob<'_>, result: &Value, error: Option<&str>, missing: Vec<String>) -> TurnResult {
    let mut reply = reply(job, result, error);
    if let Some(work) = reply.as_mut().ok().and_then(|reply| reply.agent_activity.as_mut()) {
        work.denied.extend(missing);
    }
    let work = AgentActivity { usage: reply.is_err().then(|| usage(&result["usage"])), ..AgentActivity::default() };
    TurnResult { reply, cost: dollar_amount(&result["total_cost_usd"]), work }
}

fn reply(job: &TurnJob<'_>, result: &Value, error: Option<&str>) -> Result<ChatReply, Failure> {
    let said = result["result"].as_str().unwrap_or_default();
    // A failed request is reported as a `success` with `is_error`.
    if result["is_error"] == true || result["subtype"] != "success" {
        return Err(failed(job, result, error));
    }
    let denied = result["permission_denials"].as_array().into_iter().flatten().map(tool).collect();
    let value = result.get("structured_output").filter(|value| !value.is_null());
    Ok(ChatReply {
        text: value.map_or_else(|| said.to_owned(), Value::to_string),
        stop: stop(&result["stop_reason"], said)?,
        usage: usage(&result["usage"]),
        model: result["modelUsage"].as_object().and_then(|models| models.keys().next().cloned()),
        id: result["session_id"].as_str().map(str::to_owned),
        constrained: value.is_some(),
        agent_activity: Some(Box::new(AgentActivity { denied, ..AgentActivity::default() })),
        remarks: Box::default(),
    })
}

/// Why the model stopped last. The reasons are those of Anthropic's Messages API. After structured output the reason is
/// `tool_use`, and texts that Claude Code writes itself have none.
fn stop(reason: &Value, said: &str) -> Result<StopReason, Failure> {
    if reason.is_null() {
        return Ok(StopReason::End);
    }
    let word = reason.as_str().map_or_else(|| reason.to_string(), str::to_lowercase);
    match word.as_str() {
        "end_turn" | "stop_sequence" | "tool_use" => Ok(StopReason::End),
        "max_tokens" | "model_context_window_exceeded" => Ok(StopReason::Length),
        "refusal" => Ok(StopReason::Refusal),
        _ => Err(unknown_stop("`claude`", &word, said)),
    }
}

/// The token usage. Anthropic counts uncached, cache-read and cache-write input separately, so the input is their sum.
fn usage(counted: &Value) -> ReportedUsage {
    let count = |name: &str| token_count(&counted[name]);
    let cached = |name: &str| if counted[name].is_null() { Some(0) } else { count(name) };
    let (read, write) = (cached("cache_read_input_tokens"), cached("cache_creation_input_tokens"));
    let input = count("input_tokens").zip(read).zip(write);
    let input = input.map(|((input, read), write)| input.saturating_add(read).saturating_add(write));
    let (cache_read, cache_write) = (read.unwrap_or(0), write.unwrap_or(0));
    ReportedUsage { input, cache_read, cache_write, output: count("output_tokens"), reasoning: 0 }
}

fn failed(job: &TurnJob<'_>, result: &Value, error: Option<&str>) -> Failure {
    let subtype = result["subtype"].as_str().unwrap_or("no result");
    let first = result["errors"][0].as_str();
    let words = result["result"].as_str().filter(|text| !text.is_empty()).or(first).unwrap_or(subtype);
    if subtype == "error_max_turns" {
        let turns = job.turn.program.max_turns.map(|turns| format!(" of {turns}")).unwrap_or_default();
        return Failure::new(Class::MaxTurnsReached, format!("`claude` used up its turns{turns}"))
            .with_hint("raise `max_turns` of the agent, or give it less to do");
    }
    if subtype == "error_max_budget_usd" {
        let usd = job.bounds.usd.map(|usd| format!(" of ${usd:.4}")).unwrap_or_default();
        let why = format!("`claude` used up what was left{usd} of the budget in this turn");
        return Failure::new(Class::BudgetExceeded, why).with_hint("raise `usd` of the budget and resume the run");
    }
    if let Some(status) = result["api_error_status"].as_u64().and_then(|status| u16::try_from(status).ok()) {
        return of_status(job, "claude", status, words, KEYS);
    }
    let message = format!("`claude` failed: {words}");
    // The sign of an account without credit may be in the text or in the error code.
    if let Some(failure) = [words, error.unwrap_or_default()].iter().find_map(|words| no_credit(&message, words)) {
        return failure;
    }
    let class = match error {
        Some("authentication_failed" | "oauth_org_not_allowed") => Class::Auth,
        Some("rate_limit") => Class::RateLimited,
        Some("server_error" | "overloaded") => Class::ProviderUnavailable,
        Some("invalid_request" | "model_not_found") => Class::BadRequest,
        Some("max_output_tokens") => Class::MaxTokensReached,
        // A failed connection has no HTTP status, so only the text identifies it.
        _ if words.contains("Unable to connect") || words.contains("Connection error") => Class::ProviderUnavailable,
        _ => Class::AgentError,
    };
    let failure = Failure::new(class, message);
    if class == Class::Auth { failure.with_hint(login(job, KEYS)) } else { failure }
}
