//! `--probe`: sends one small question to every provider and CLI agent that seems usable, and asks each model that
//! answers to call a tool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;

use crate::agent::{AgentEnv, CallContext, ModelRegistry, TurnResult, run_turn};
use crate::cli::startup::runtime;
use crate::folder::{FolderAccess, NoFollowFolder};
use crate::model::{
    AgentTurn, CallKey, ChatReply, ChatRequest, CliAgent, CliAgentKind, Digest, Failure, Message, ModelRef,
    OfferedTools, StepKey, StopReason, ToolChoice, ToolDefinition, TurnEstimate,
};
use crate::process::EndingGroups;
use crate::provider::RequestLimits;
use crate::report::human;
use crate::runner::{Runner, RunnerError};

use super::DoctorReport;

/// The maximum length of a reply in tokens, including reasoning.
const MAX_OUTPUT_TOKENS: u32 = 256;
/// The same for a reply with a call, before which some models reason longer.
const MAX_CALL_TOKENS: u32 = 1024;

/// Probes each model, then each CLI agent, and reports the results.
pub(super) fn probe_all(
    registry: &ModelRegistry,
    runner: &Runner,
    probed_models: &[ModelRef],
    cli_agents: &[CliAgent],
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    for model in probed_models {
        let started = Instant::now();
        let reply = runtime()?.block_on(probe_model(registry, &probe_request(model.clone()), report.timeout));
        let cost = reply.as_ref().ok().and_then(|reply| registry.cost(model, &reply.usage.complete()?));
        let has_answered = reply.is_ok();
        report_probe(registry, &model.to_string(), started, reply, cost, report)?;
        if has_answered {
            let reply = runtime()?.block_on(probe_model(registry, &tool_request(model.clone()), report.timeout));
            report_tool_probe(registry, model, reply, report)?;
        }
    }
    for cli_agent in cli_agents {
        let name = cli_agent.model_ref().to_string();
        if cli_agent.kind == CliAgentKind::Command {
            report.print_check(None, "probe", format!("{name}: not probed, because it can be any program"))?;
            continue;
        }
        let started = Instant::now();
        let result = probe_cli_agent(registry, cli_agent, runner, report.timeout)?;
        report_probe(registry, &name, started, result.reply, result.cost, report)?;
    }
    Ok(())
}

fn report_probe(
    registry: &ModelRegistry,
    name: &str,
    started: Instant,
    reply: Result<ChatReply, Failure>,
    cost: Option<f64>,
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    let time = human::format_duration(started.elapsed());
    match reply {
        Ok(reply) => {
            let cost = cost.map(|cost| format!(", {}", human::format_usd(cost))).unwrap_or_default();
            report.print_check(
                Some(true),
                "probe",
                format!("{name} answered in {time}, {}{cost}", human::format_reported_usage(&reply.usage)),
            )
        }
        Err(failure) => {
            let message = registry.redactor().redact(&human::on_one_line(&failure.to_string()));
            report.print_check(Some(false), "probe", format!("{name}: {message}"))
        }
    }
}

/// Reports whether a model called the tool. Many pipelines need no tools, so this is not a problem of the setup.
fn report_tool_probe(
    registry: &ModelRegistry,
    model: &ModelRef,
    reply: Result<ChatReply, Failure>,
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    match reply {
        Ok(reply) if reply.stop == StopReason::ToolUse => {
            report.print_check(Some(true), "probe", format!("{model} calls tools"))
        }
        Ok(_) => report.print_check(None, "probe", format!("{model} did not call a tool when asked to")),
        Err(failure) => {
            let hint = failure.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
            let message = registry.redactor().redact(&human::on_one_line(&format!("{}{hint}", failure.message)));
            report.print_check(None, "probe", format!("{model} can't call tools: {message}"))
        }
    }
}

/// A request for a call of a tool.
fn tool_request(model: ModelRef) -> ChatRequest {
    let definition = ToolDefinition {
        name: "report_ready".to_owned(),
        description: "Reports whether you are ready.".to_owned(),
        parameters: Arc::new(json!({"type": "object", "properties": {"ready": {"type": "boolean"}},
            "required": ["ready"], "additionalProperties": false})),
    };
    let messages = vec![Message::user("Call the tool `report_ready` to report that you are ready.")];
    ChatRequest {
        system: "You call tools.".to_owned(),
        tools: Arc::new(OfferedTools { definitions: vec![definition], choice: ToolChoice::Auto }),
        ..ChatRequest::new(model, messages, MAX_CALL_TOKENS)
    }
}

fn probe_request(model: ModelRef) -> ChatRequest {
    ChatRequest {
        system: "You answer with one word.".to_owned(),
        ..ChatRequest::new(model, vec![Message::user("Say ok.")], MAX_OUTPUT_TOKENS)
    }
}

async fn probe_model(registry: &ModelRegistry, request: &ChatRequest, timeout: Duration) -> Result<ChatReply, Failure> {
    let provider = registry.provider(&request.model.provider)?;
    let limits = RequestLimits { first_byte_timeout: timeout, total_timeout: timeout, ..provider.limits() };
    provider.chat(request, &limits, &|_| {}).await
}

/// Runs one turn in a new empty folder, and deletes the folder afterwards.
fn probe_cli_agent(
    registry: &ModelRegistry,
    cli_agent: &CliAgent,
    runner: &Runner,
    timeout: Duration,
) -> Result<TurnResult> {
    let folder = tempfile::tempdir()
        .map_err(|error| RunnerError::usage(format!("can't create a folder for the probe: {error}")))?;
    let workspace = folder.path().join("workspace");
    std::fs::create_dir(&workspace)
        .map_err(|error| RunnerError::usage(format!("can't create a folder for the probe: {error}")))?;
    let probe_folder = NoFollowFolder::open(folder.path(), FolderAccess::Private)
        .map_err(|error| RunnerError::usage(format!("can't create a folder for the probe: {error}")))?;
    let sandbox = runner.sandbox_host(workspace.clone(), None, Vec::new(), None);
    let agent_env = AgentEnv {
        workspace,
        agents_folder: probe_folder.subfolder("agents"),
        artifacts: Arc::default(),
        variables: runner.environment.variable_lookup(),
        insecure_providers: registry.insecure_providers(),
        supervisor: runner.environment.supervisor().to_owned().into(),
        ending_process_groups: EndingGroups::default(),
        sandbox,
    };
    let request = probe_request(cli_agent.model_ref());
    let turn = AgentTurn {
        program: cli_agent.clone(),
        request,
        estimate: TurnEstimate::default(),
        session: None,
        session_usage: None,
        timeout_ms: u64::try_from(timeout.as_millis()).ok(),
        until: None,
    };
    let call_key = CallKey { step: StepKey::root("probe"), attempt: 1, ordinal: 1, tool_call: None, input_round: None };
    let context = CallContext {
        start_time: Timestamp::now(),
        max_cost: None,
        call_key,
        request_digest: Digest::compute(b"probe"),
    };
    Ok(runtime()?.block_on(run_turn(&turn, &agent_env, &context, &|_| {}, std::future::pending())))
}
