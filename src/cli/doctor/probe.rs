//! `--probe`: one small question to every model and program that seems usable.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::agent::{AgentEnv, ModelRegistry, TurnLimits, TurnResult, take_turn};
use crate::cli::runtime;
use crate::folder::{FolderAccess, OwnFolder};
use crate::model::{
    AgentTurn, CallKey, ChatReply, ChatRequest, Digest, Failure, Message, ModelRef, Program, ProgramKind, StepKey,
    TurnEstimate,
};
use crate::process::EndingGroups;
use crate::provider::RequestLimits;
use crate::report::human;
use crate::session::{Runner, SessionError};

use super::DoctorReport;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// The most that a model may answer, in tokens: models that think first need some.
const MOST_TOKENS: u32 = 256;

/// Asks each model, then each program, and tells what came of it.
pub(super) fn all(
    models: &ModelRegistry,
    runner: &Runner,
    asked: &[ModelRef],
    programs: &[Program],
    report: &mut DoctorReport<'_>,
) -> Result<(), SessionError> {
    for model in asked {
        let began = Instant::now();
        let answer = runtime()?.block_on(model_answers(models, model));
        let cost = answer.as_ref().ok().and_then(|reply| models.cost(model, &reply.usage.whole()?));
        tell(models, &model.to_string(), began, answer, cost, report)?;
    }
    for program in programs {
        let name = program.reference().to_string();
        if program.kind == ProgramKind::Command {
            report.line(None, "probe", format!("{name}: not asked, since it may be any program"))?;
            continue;
        }
        let began = Instant::now();
        let answer = program_answers(models, program, runner)?;
        tell(models, &name, began, answer.reply, answer.cost, report)?;
    }
    Ok(())
}

fn tell(
    models: &ModelRegistry,
    name: &str,
    began: Instant,
    answer: Result<ChatReply, Failure>,
    cost: Option<f64>,
    report: &mut DoctorReport<'_>,
) -> Result<(), SessionError> {
    let took = human::duration(began.elapsed());
    match answer {
        Ok(reply) => {
            let cost = cost.map(|cost| format!(", {}", human::money(cost))).unwrap_or_default();
            report.line(
                Some(true),
                "probe",
                format!("{name} answered in {took}, {}{cost}", human::reported(&reply.usage)),
            )
        }
        Err(failure) => {
            let words = models.redactor().text(&human::first_line(&failure.to_string(), 300));
            report.line(Some(false), "probe", format!("{name}: {words}"))
        }
    }
}

fn question(model: ModelRef) -> ChatRequest {
    ChatRequest {
        model,
        system: "You answer with one word.".to_owned(),
        messages: vec![Message::user("Say ok.")],
        max_output_tokens: MOST_TOKENS,
        temperature: None,
        schema: None,
        schema_name: None,
    }
}

async fn model_answers(models: &ModelRegistry, model: &ModelRef) -> Result<ChatReply, Failure> {
    let provider = models.provider(&model.provider)?;
    let limits = RequestLimits { first_byte: PATIENCE, total: PATIENCE, ..provider.limits() };
    provider.chat(&question(model.clone()), &limits, &|_| {}).await
}

/// A turn in an empty folder that goes afterwards.
fn program_answers(models: &ModelRegistry, program: &Program, runner: &Runner) -> Result<TurnResult, SessionError> {
    let folder = tempfile::tempdir().map_err(|error| SessionError::usage(format!("no folder for a probe: {error}")))?;
    let workspace = folder.path().join("workspace");
    std::fs::create_dir(&workspace).map_err(|error| SessionError::usage(format!("no folder for a probe: {error}")))?;
    let homes = OwnFolder::open(folder.path(), FolderAccess::Private)
        .map_err(|error| SessionError::usage(format!("no folder for a probe: {error}")))?;
    let place = AgentEnv {
        workspace,
        homes: homes.folder("homes"),
        artifacts: Vec::new(),
        variables: runner.environment.variables(),
        unencrypted: models.unencrypted(),
        guard: runner.environment.guard().to_owned().into(),
        endings: EndingGroups::default(),
    };
    let timeout_ms = u64::try_from(PATIENCE.as_millis()).ok();
    let request = question(program.reference());
    let turn = AgentTurn {
        program: program.clone(),
        request,
        estimate: TurnEstimate::default(),
        session: None,
        session_usage: None,
        timeout_ms,
        until: None,
    };
    let call = CallKey { step: StepKey::root("probe"), attempt: 1, ordinal: 1 };
    let bounds = TurnLimits { now: Timestamp::now(), usd: None, call, ask: Digest::of(b"probe") };
    Ok(runtime()?.block_on(take_turn(&turn, &place, &bounds, &|_| {}, std::future::pending())))
}
