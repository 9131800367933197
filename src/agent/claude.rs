//! `cli: claude`: Claude Code in its print mode.
//!
//! Claude Code reads only the settings that orch passes: its home and configuration are in a folder that orch creates
//! for the run, and it reads neither the user's nor the project's settings. It stores its session in that home, so a
//! re-ask can continue the session even after a crash.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::folder::NoFollowFolder;
use crate::model::cost::parse_dollar_amount;
use crate::model::step::Access;
use crate::model::usage::parse_token_count;
use crate::model::{AgentActivity, ChatReply, Content, Failure, FailureClass, ReportedUsage, StopReason};
use crate::process::{self, SandboxNeeds};

use super::exit::{
    exit_failure, line_too_long_failure, login_hint, no_credit_failure, status_failure, unknown_stop_failure,
};
use super::json_lines::{JsonLinesReader, JsonLinesSplitter};
use super::mcp_servers::{claude_config, claude_rules, server_hosts};
use super::models::{env_base_url_for_agent, provider_hosts};
use super::program::{AgentEvent, AgentProgram, TurnFile, TurnJob, TurnResult, create_turn_file, set_event_limits};

/// The host of the API that Claude Code uses.
const API_HOST: &str = "api.anthropic.com";
/// The arguments that turn off Claude Code's own sandbox.
const OWN_SANDBOX_OFF: [&str; 2] = ["--settings", r#"{"sandbox":{"enabled":false}}"#];
/// Variables that Claude Code needs for requests to its models.
const MODEL_VARIABLES: &[&str] =
    &["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/// The variables that may hold a key.
const KEY_VARIABLES: &[&str] = &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/// Settings for reproducible runs: no network requests other than to the model, fewer retries (ten, the default, can
/// take minutes), and no memory, which one step could pass on to the next.
const SETTINGS: &[(&str, &str)] = &[
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", "2"),
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
    // Its model sees the granted tools of MCP servers at once. The tool that searches for them is not granted.
    ("ENABLE_TOOL_SEARCH", "false"),
];
/// Tools that change files. The permission mode allows them inside the workspace; `--allowedTools` would allow them
/// everywhere.
const EDIT_TOOLS: &[&str] = &["Edit", "MultiEdit", "Write", "NotebookEdit"];

/// The error text that Claude Code sends its model for an unknown tool, up to the tool's name.
const UNKNOWN_TOOL: &str = "No such tool available: ";
/// Prefixes that the error text may have.
const ERROR_PREFIXES: [&str; 2] = ["<tool_use_error>", "Error: "];

/// Claude Code.
pub(super) struct ClaudeAgent;

impl AgentProgram for ClaudeAgent {
    fn run_turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            // orch checks the address itself, since Claude Code would report an invalid address as an
            // unreachable server.
            let base_url = env_base_url_for_agent("anthropic", KEY_VARIABLES, job.agent_env)?;
            let home = job.home()?;
            let system_file = create_turn_file(&home, "system.md", &job.turn.request.system)?;
            let mut argv = vec!["claude".to_owned()];
            argv.extend(arguments(job));
            argv.extend(["--append-system-prompt-file".to_owned(), system_file.path().display().to_string()]);
            let server_file = create_server_file(job, &home)?;
            // This option takes several values, so it ends with the next option.
            if let Some(file) = &server_file {
                argv.splice(1..1, ["--mcp-config".to_owned(), file.path().display().to_string()]);
            }
            let path_text = |path: &std::path::Path| path.display().to_string();
            let mut overrides = vec![
                ("HOME".to_owned(), path_text(home.path())),
                ("CLAUDE_CONFIG_DIR".to_owned(), path_text(&home.path().join(".claude"))),
            ];
            overrides.extend(SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            // An administrator may have turned on Claude Code's own sandbox, which can't start inside the sandbox of
            // orch.
            let argv_in_sandbox = argv.iter().cloned().chain(OWN_SANDBOX_OFF.map(str::to_owned)).collect();
            let hosts = provider_hosts(API_HOST, base_url.as_deref());
            let needs = SandboxNeeds {
                writable: vec![home.path().to_owned()],
                hosts: hosts.into_iter().chain(server_hosts(job.servers())).collect(),
                argv_in_sandbox: Some(argv_in_sandbox),
                ..SandboxNeeds::default()
            };
            let variables = job.variables_with_servers(MODEL_VARIABLES);
            let (env, stdin) = (job.environment(&variables, overrides), Some(job.text_without_system_prompt()));
            let mut spec = job.program_spec(argv, env, stdin, needs).await?;
            set_event_limits(&mut spec);
            let transcript = ClaudeTranscript { sink, result: None, error_code: None, unknown_tools: Vec::new() };
            let lines = JsonLinesSplitter::new(transcript);
            let exit =
                process::run_until(&spec, &|stream, bytes| lines.push(stream, bytes), lines.wait_for_turn_end()).await;
            let (transcript, is_line_too_long) = lines.finish();
            let exit = exit.map_err(|error| job.process_failure(&error))?;
            match transcript.result {
                Some(result) => {
                    Ok(turn_result(job, &result, transcript.error_code.as_deref(), transcript.unknown_tools))
                }
                None if is_line_too_long => Err(line_too_long_failure("claude")),
                None => Err(exit_failure("claude", &spec, exit.code, &[&exit.stderr, &exit.stdout])),
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
    let tool_of_rule = |rule: &str| rule.split('(').next().unwrap_or(rule).trim().to_owned();
    let mut tools: Vec<String> = program.tools.iter().map(|rule| tool_of_rule(rule)).collect();
    tools.dedup();
    add("--tools", &tools.join(","));
    add("--permission-mode", if program.access == Access::Write { "acceptEdits" } else { "dontAsk" });
    if let Some(model) = &program.model {
        add("--model", model);
    }
    if let Some(turns) = program.max_turns {
        add("--max-turns", &turns.to_string());
    }
    if let Some(usd) = job.context.max_cost {
        // Claude Code rejects a budget of zero.
        add("--max-budget-usd", &format!("{:.6}", usd.max(1e-6)));
    }
    // Claude Code returns structured output as the input of a tool call, which must be an object.
    let is_object = |schema: &&Value| schema.get("type").is_some_and(|schema_type| schema_type == "object");
    if let Some(schema) = job.turn.request.schema.as_deref().filter(is_object) {
        add("--json-schema", &without_dialect(schema).to_string());
    }
    if let Some(session) = &job.turn.session {
        add("--resume", session);
    }
    // Without this flag, Claude Code would run a prompt that begins with a slash as a command.
    argv.push("--disable-slash-commands".to_owned());
    let allowed = program.tools.iter().filter(|rule| !EDIT_TOOLS.contains(&tool_of_rule(rule).as_str()));
    for (index, rule) in allowed.cloned().chain(claude_rules(&program.mcp)).enumerate() {
        if index == 0 {
            argv.push("--allowedTools".to_owned());
        }
        argv.push(rule);
    }
    argv
}

/// Writes the file that describes the MCP servers of the agent; `None` if it has none.
fn create_server_file(job: &TurnJob<'_>, home: &NoFollowFolder) -> Result<Option<TurnFile>, Failure> {
    if job.servers().is_empty() {
        return Ok(None);
    }
    job.check_server_headers()?;
    create_turn_file(home, "mcp.json", &claude_config(job)?.to_string()).map(Some)
}

/// Removes `$schema`, since Claude Code silently ignores a schema whose dialect it does not know.
fn without_dialect(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let is_dialect = |(key, value): &(&String, &Value)| *key == "$schema" && value.is_string();
            let entries = map.iter().filter(|entry| !is_dialect(entry));
            Value::Object(entries.map(|(key, value)| (key.clone(), without_dialect(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(without_dialect).collect()),
        other => other.clone(),
    }
}

/// Collects the events of Claude Code.
struct ClaudeTranscript<'a> {
    sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    result: Option<Value>,
    /// The error code of the last failed request to its model.
    error_code: Option<String>,
    /// Tools that its model called although `tools` does not list them.
    unknown_tools: Vec<String>,
}

impl JsonLinesReader for ClaudeTranscript<'_> {
    fn has_turn_ended(&self) -> bool {
        self.result.is_some()
    }

    fn ends_turn(&self, value: &Value) -> bool {
        value["type"] == "result"
    }

    fn read_value(&mut self, value: &Value) {
        match value["type"].as_str() {
            Some("system") if value["subtype"] == "init" => {
                if let Some(session) = value["session_id"].as_str() {
                    (self.sink)(AgentEvent::Session(session.to_owned()));
                }
            }
            Some("result") => {
                self.result = Some(value.clone());
                (self.sink)(AgentEvent::TurnEnded);
            }
            Some("assistant") => {
                self.error_code = value["error"].as_str().map(str::to_owned);
                for block in value["message"]["content"].as_array().into_iter().flatten() {
                    match block["type"].as_str() {
                        Some("text") => {
                            (self.sink)(AgentEvent::Text(block["text"].as_str().unwrap_or_default().to_owned()));
                        }
                        Some("tool_use") => (self.sink)(AgentEvent::Tool(tool_line(block))),
                        _ => {}
                    }
                }
            }
            // `permission_denials` lists only tools that need permission. Calls of unknown tools appear only here, as
            // errors.
            Some("user") => {
                for block in value["message"]["content"].as_array().into_iter().flatten() {
                    let content = &block["content"];
                    let text = content.as_str().or(content[0]["text"].as_str()).unwrap_or_default();
                    if block["is_error"] == true
                        && let Some(name) = unknown_tool(text)
                    {
                        self.unknown_tools.push(format!("{name} (it was not granted)"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The name of the unknown tool, if an error text reports one. Only the start of the text counts, since the output of a
/// failed command may quote these words.
fn unknown_tool(text: &str) -> Option<&str> {
    let text = ERROR_PREFIXES.iter().fold(text.trim_start(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    let name = text.strip_prefix(UNKNOWN_TOOL)?;
    let end = name.find(|c: char| c.is_whitespace() || c == '<' || c == '.').unwrap_or(name.len());
    name.get(..end)
}

/// A tool use: the tool's name and target.
fn tool_line(block: &Value) -> String {
    let name = block["name"].as_str().or(block["tool_name"].as_str()).unwrap_or("a tool");
    let input = if block["input"].is_null() { &block["tool_input"] } else { &block["input"] };
    let target = ["file_path", "path", "command", "pattern", "url"].iter().find_map(|key| input[*key].as_str());
    target.map_or_else(|| name.to_owned(), |target| format!("{name} {target}"))
}

/// The result of a turn. The cost counts even when the turn failed.
fn turn_result(job: &TurnJob<'_>, result: &Value, error_code: Option<&str>, unknown_tools: Vec<String>) -> TurnResult {
    let reply = chat_reply(job, result, error_code);
    let activity = if reply.is_ok() {
        let denied = result["permission_denials"].as_array().into_iter().flatten().map(tool_line);
        AgentActivity { denied: denied.chain(unknown_tools).collect(), ..AgentActivity::default() }
    } else {
        AgentActivity { usage: Some(reported_usage(&result["usage"])), ..AgentActivity::default() }
    };
    TurnResult { reply, cost: parse_dollar_amount(&result["total_cost_usd"]), activity }
}

fn chat_reply(job: &TurnJob<'_>, result: &Value, error_code: Option<&str>) -> Result<ChatReply, Failure> {
    let text = result["result"].as_str().unwrap_or_default();
    // Claude Code reports a failed request as a `success` with `is_error`.
    if result["is_error"] == true || result["subtype"] != "success" {
        return Err(error_failure(job, result, error_code));
    }
    let structured = result.get("structured_output").filter(|value| !value.is_null());
    Ok(ChatReply {
        content: Content::from_text(structured.map_or_else(|| text.to_owned(), Value::to_string)),
        stop: stop_reason(&result["stop_reason"], text)?,
        usage: reported_usage(&result["usage"]),
        model: result["modelUsage"].as_object().and_then(|models| models.keys().next().cloned()),
        id: result["session_id"].as_str().map(str::to_owned),
        constrained: structured.is_some(),
        details: Box::default(),
    })
}

/// The stop reason of the last reply, in the terms of Anthropic's Messages API. After structured output it is
/// `tool_use`. It is null if Claude Code wrote the text itself.
fn stop_reason(reason: &Value, text: &str) -> Result<StopReason, Failure> {
    if reason.is_null() {
        return Ok(StopReason::End);
    }
    let reason = reason.as_str().map_or_else(|| reason.to_string(), str::to_lowercase);
    match reason.as_str() {
        "end_turn" | "stop_sequence" | "tool_use" => Ok(StopReason::End),
        "max_tokens" | "model_context_window_exceeded" => Ok(StopReason::Length),
        "refusal" => Ok(StopReason::Refusal),
        _ => Err(unknown_stop_failure("`claude`", &reason, text)),
    }
}

/// The token usage. Anthropic counts uncached, cache-read and cache-write input separately, so the input is their sum.
fn reported_usage(usage: &Value) -> ReportedUsage {
    let count = |name: &str| parse_token_count(&usage[name]);
    let count_or_zero = |name: &str| if usage[name].is_null() { Some(0) } else { count(name) };
    let cache_read = count_or_zero("cache_read_input_tokens");
    let cache_write = count_or_zero("cache_creation_input_tokens");
    let input = count("input_tokens").zip(cache_read).zip(cache_write);
    let input = input.map(|((uncached, read), write)| uncached.saturating_add(read).saturating_add(write));
    let (cache_read, cache_write) = (cache_read.unwrap_or(0), cache_write.unwrap_or(0));
    ReportedUsage { input, cache_read, cache_write, output: count("output_tokens"), reasoning: 0 }
}

fn error_failure(job: &TurnJob<'_>, result: &Value, error_code: Option<&str>) -> Failure {
    let subtype = result["subtype"].as_str().unwrap_or("no result");
    let first_error = result["errors"][0].as_str();
    let text = result["result"].as_str().filter(|text| !text.is_empty()).or(first_error).unwrap_or(subtype);
    if subtype == "error_max_turns" {
        let limit = job.turn.program.max_turns.map(|turns| format!(" of {turns}")).unwrap_or_default();
        return Failure::new(FailureClass::MaxTurnsReached, format!("`claude` used up its turns{limit}"))
            .with_hint("raise `max_turns` of the agent, or make its task smaller");
    }
    if subtype == "error_max_budget_usd" {
        let limit = job.context.max_cost.map(|usd| format!(" of ${usd:.4}")).unwrap_or_default();
        let message = format!("`claude` used up the remaining budget{limit} in this turn");
        return Failure::new(FailureClass::BudgetExceeded, message)
            .with_hint("raise `usd` of the budget and resume the run");
    }
    if let Some(status) = result["api_error_status"].as_u64().and_then(|status| u16::try_from(status).ok()) {
        return status_failure(job, "claude", status, text, KEY_VARIABLES);
    }
    let message = format!("`claude` failed: {text}");
    // The text or the error code may report an account without credit.
    if let Some(failure) =
        [text, error_code.unwrap_or_default()].iter().find_map(|text| no_credit_failure(&message, text))
    {
        return failure;
    }
    let class = match error_code {
        Some("authentication_failed" | "oauth_org_not_allowed") => FailureClass::Auth,
        Some("rate_limit") => FailureClass::RateLimited,
        Some("server_error" | "overloaded") => FailureClass::ProviderUnavailable,
        Some("invalid_request" | "model_not_found") => FailureClass::BadRequest,
        Some("max_output_tokens") => FailureClass::MaxTokensReached,
        // A failed connection has no HTTP status, so only the text identifies it.
        _ if text.contains("Unable to connect") || text.contains("Connection error") => {
            FailureClass::ProviderUnavailable
        }
        _ => FailureClass::AgentError,
    };
    let failure = Failure::new(class, message);
    if class == FailureClass::Auth { failure.with_hint(login_hint(job, KEY_VARIABLES)) } else { failure }
}
