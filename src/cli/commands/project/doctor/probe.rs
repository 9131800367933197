//! `--probe`: sends one small question to every provider and CLI agent that seems usable.

use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;

use crate::agent::{AgentEnv, CallContext, ModelRegistry, TurnResult, run_turn};
use crate::cli::startup::runtime;
use crate::folder::{FolderAccess, NoFollowFolder};
use crate::model::{
    AgentTurn, CallKey, ChatReply, ChatRequest, CliAgent, CliAgentKind, Digest, Failure, Message, ModelRef, StepKey,
    TurnEstimate,
};
use crate::process::EndingGroups;
use crate::provider::RequestLimits;
use crate::report::human;
use crate::session::{Runner, SessionError};

use super::DoctorReport;

/// The time limit for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_mins(1);
/// The maximum length of a reply in tokens, including reasoning.
const MAX_OUTPUT_TOKENS: u32 = 256;

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
        let reply = runtime()?.block_on(probe_model(registry, model));
        let cost = reply.as_ref().ok().and_then(|reply| registry.cost(model, &reply.usage.complete()?));
        report_probe(registry, &model.to_string(), started, reply, cost, report)?;
    }
    for cli_agent in cli_agents {
        let name = cli_agent.model_ref().to_string();
        if cli_agent.kind == CliAgentKind::Command {
            report.print_check(None, "probe", format!("{name}: not probed, because it can be any program"))?;
            continue;
        }
        let started = Instant::now();
        let result = probe_cli_agent(registry, cli_agent, runner)?;
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
            let message = registry.redactor().redact(&human::first_line(&failure.to_string(), 300));
            report.print_check(Some(false), "probe", format!("{name}: {message}"))
        }
    }
}

fn probe_request(model: ModelRef) -> ChatRequest {
    ChatRequest {
        system: "You answer with one word.".to_owned(),
        ..ChatRequest::new(model, vec![Message::user("Say ok.")], MAX_OUTPUT_TOKENS)
    }
}

async fn probe_model(registry: &ModelRegistry, model: &ModelRef) -> Result<ChatReply, Failure> {
    let provider = registry.provider(&model.provider)?;
    let limits = RequestLimits { first_byte_timeout: REPLY_TIMEOUT, total_timeout: REPLY_TIMEOUT, ..provider.limits() };
    provider.chat(&probe_request(model.clone()), &limits, &|_| {}).await
}

/// Runs one turn in a new empty folder, and deletes the folder afterwards.
fn probe_cli_agent(registry: &ModelRegistry, cli_agent: &CliAgent, runner: &Runner) -> Result<TurnResult> {
    let folder = tempfile::tempdir()
        .map_err(|error| SessionError::usage(format!("can't create a folder for the probe: {error}")))?;
    let workspace = folder.path().join("workspace");
    std::fs::create_dir(&workspace)
        .map_err(|error| SessionError::usage(format!("can't create a folder for the probe: {error}")))?;
    let probe_folder = NoFollowFolder::open(folder.path(), FolderAccess::Private)
        .map_err(|error| SessionError::usage(format!("can't create a folder for the probe: {error}")))?;
    let sandbox = runner.sandbox_host(workspace.clone(), Vec::new(), Vec::new());
    let agent_env = AgentEnv {
        workspace,
        agents_folder: probe_folder.subfolder("agents"),
        artifacts: Vec::new(),
        variables: runner.environment.variable_lookup(),
        insecure_providers: registry.insecure_providers(),
        guard: runner.environment.guard().to_owned().into(),
        ending_process_groups: EndingGroups::default(),
        sandbox,
    };
    let timeout_ms = u64::try_from(REPLY_TIMEOUT.as_millis()).ok();
    let request = probe_request(cli_agent.model_ref());
    let turn = AgentTurn {
        program: cli_agent.clone(),
        request,
        estimate: TurnEstimate::default(),
        session: None,
        session_usage: None,
        timeout_ms,
        until: None,
    };
    let call_key = CallKey { step: StepKey::root("probe"), attempt: 1, ordinal: 1 };
    let context = CallContext {
        start_time: Timestamp::now(),
        max_cost: None,
        call_key,
        request_digest: Digest::compute(b"probe"),
    };
    Ok(runtime()?.block_on(run_turn(&turn, &agent_env, &context, &|_| {}, std::future::pending())))
}
