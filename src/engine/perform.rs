//! Performs calls: sends requests to models, runs commands, writes files. Redacts every result before orch records it.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::accounts::{BudgetAccount, FileAccount, RateAccount};
use crate::agent::{
    CallContext, EnvLookup, ModelRegistry, TurnResult, program_start_recorder, remove_program_start, remove_turn_start,
};
use crate::clock::Clock;
use crate::durable::{
    Call, CallOutcome, CallProgress, CallReply, Effect, Interrupt, ModelRequest, Observer, Perform, Permit,
};
use crate::files::PathIndex;
use crate::folder::NoFollowFolder;
use crate::model::effect::{CallEnding, UsageBound};
use crate::model::event::ApprovalDecision;
use crate::model::{
    AgentActivity, CallKey, Failure, McpServerSpec, StepKey, ToolsListed, TurnReply, is_unanswered_call,
};
use crate::offload::{LARGE_TEXT_BYTES, run_on_thread};
use crate::process::{SandboxContext, SupervisorSpec};
use crate::secret::Redactor;
use crate::tool::mcp::McpServers;

use super::budget_meter::{BudgetMeter, rated_request};
use super::call_endings::CallEndings;
use super::effects;
use super::interruption::{dropped_failure, wait_for_interruption};
pub use super::mcp_answerer::QuestionPrompter;
use super::mcp_effect::{call_sandbox, called_server, end_dropped_call, list_tools};
pub use super::record_replay::RecordReplay;
use super::tool_effect::ToolResult;
use super::usage_bound::{failure_with_plausible_usage, unreported_usage, with_plausible_usage};

/// Performs the calls of a run. Each call gets a copy, so a copy takes the same time however many steps the run has.
#[derive(Clone)]
pub struct Performer {
    /// The available models.
    pub models: Arc<ModelRegistry>,
    /// Receives progress.
    pub observer: Arc<dyn Observer>,
    /// Removes secrets from everything that orch records.
    pub redactor: Arc<Redactor>,
    /// The absolute path of the workspace.
    pub workspace: PathBuf,
    /// The folder in which CLI agents store their own files during this run.
    pub agents_folder: NoFollowFolder,
    /// The workspace files of artifacts, which no `write` step may write.
    pub artifact_files: Arc<PathIndex>,
    /// The project files inside the workspace, including files that do not exist yet. No `write` step may write them.
    pub project_files: Arc<PathIndex>,
    /// The environment of this process.
    pub env_vars: EnvLookup,
    /// The limits of concurrent calls and of request rates.
    pub rates: Arc<dyn RateAccount>,
    /// The budgets of the run.
    pub budgets: Arc<dyn BudgetAccount>,
    /// Computes the amounts that count against the budgets.
    pub meter: Arc<BudgetMeter>,
    /// Records exchanges with models and commands, or replays them.
    pub record_replay: RecordReplay,
    /// The files that steps wrote into the workspace.
    pub files: Arc<dyn FileAccount>,
    /// The clock for the start and end times of calls.
    pub clock: Arc<dyn Clock>,
    /// How to start the supervisor of each command and CLI agent, which ends all its processes.
    pub supervisor: SupervisorSpec,
    /// The parts of a sandbox that all programs of the run share.
    pub sandbox: Arc<SandboxContext>,
    /// The MCP servers, which start when they are first needed.
    pub mcp: Arc<McpServers>,
    /// Asks the user during a call; `None` if no user can answer at once.
    pub prompter: Option<QuestionPrompter>,
    /// The child processes that orch is still ending after it interrupted or dropped their calls.
    pub endings: Arc<CallEndings>,
}

impl Perform for Performer {
    fn acquire_permit<'a>(&'a self, call: &'a Call, in_finally: bool) -> BoxFuture<'a, Result<Permit, Interrupt>> {
        async move {
            let claim = self.meter.claim(call, in_finally);
            let (observer, step) = (self.observer.clone(), call.key.step.clone());
            let on_wait = Box::new(move || observer.on_progress(&CallProgress::AwaitingBudget(step)));
            let reservation = self.budgets.clone().reserve(claim, on_wait).await.map_err(Interrupt::OverBudget)?;
            let permit = tokio::select! {
                biased;
                // The time budget may run out while the call waits for its permit. Then the call does not start.
                failure = self.time_limit_reached(&call.key.step, in_finally) => {
                    return Err(Interrupt::OverBudget(failure.without_call_details()));
                }
                permit = self.rates.acquire(rated_request(call)) => permit,
            };
            // A parallel call may have used up a budget while this call waited.
            if let Some(failure) = self.budgets.end_reason().filter(|_| !in_finally) {
                return Err(Interrupt::OverBudget(failure));
            }
            Ok(Box::new((reservation, permit)) as Permit)
        }
        .boxed()
    }

    fn perform(&self, call: Call, in_finally: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome> {
        let performer = self.clone();
        async move {
            let started = performer.clock.now();
            let (key, step) = (call.key.clone(), call.key.step.clone());
            let (model, bound) = (call.effect.model().cloned(), call.effect.usage_bound());
            let properties = call.effect.properties();
            let runs_program = properties.workspace.runs_program();
            let server = called_server(&call.effect).cloned();
            let artifacts = if runs_program { performer.present_artifacts().await } else { Vec::new() };
            let call_timer = performer.budgets.clone().start_call(&step);
            let EffectResult { result, cost, activity } =
                performer.perform_until_ended(call, started, in_finally, stop).await;
            // The record of a call without a result distinguishes files that did not change from files that orch did not
            // compare.
            let is_without_result = |failure: &Failure| {
                failure.class.is_interruption() || server.is_some() && is_unanswered_call(failure.class)
            };
            let has_comparison = properties.keeps_turn_start && result.as_ref().is_err_and(is_without_result);
            let activity = (has_comparison || !activity.is_empty())
                .then(|| Box::new(performer.redactor.redact_activity(activity)));
            let reverted_files = if runs_program {
                performer.reverted_files(&result, activity.as_deref(), artifacts).await
            } else {
                Vec::new()
            };
            // Stop tracking these files only now: if the caller dropped this future during the scan, orch would never
            // record that the files were reverted.
            performer.files.forget(&reverted_files);
            let result = performer.redact_result(result).await;
            let sandbox = call_sandbox(&performer, &key, server.as_ref(), runs_program);
            let outcome = CallOutcome {
                agent_activity: activity,
                cost,
                reverted_files,
                sandbox,
                ..CallOutcome::new(started, performer.clock.now(), result)
            };
            let outcome = performer.with_cost(outcome, &bound);
            drop(call_timer);
            performer.endings.forget(&key);
            performer.meter.settle(&*performer.budgets, &step, model.as_ref(), &outcome);
            outcome
        }
        .boxed()
    }

    fn list_tools(&self, server: McpServerSpec) -> BoxFuture<'static, Result<ToolsListed, Failure>> {
        let performer = self.clone();
        async move { list_tools(&performer, &server).await }.boxed()
    }

    fn on_recorded(&self, call: &Call) {
        let properties = call.effect.properties();
        if properties.keeps_turn_start || properties.workspace.runs_program() {
            let (agents_folder, key) = (self.agents_folder.clone(), call.key.clone());
            // The call does not wait for the removal. If it fails, a resume removes the files, since the journal
            // contains the outcome.
            drop(tokio::task::spawn_blocking(move || {
                remove_turn_start(&agents_folder, &key);
                remove_program_start(&agents_folder, &key);
            }));
        }
    }

    fn on_reused(&self, call: &Call) {
        self.skip_recording(call);
    }

    fn on_answered(&self, step: &StepKey, question: &str, decision: &ApprovalDecision) -> Option<String> {
        self.exchange_answer(step, question, decision)
    }

    fn cancelled_outcome<'a>(&'a self, call: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome> {
        async move {
            // The processes may still change files while they are being ended, so wait until they have ended.
            self.endings.get_or_create(&call.key, &self.clock).wait_all_ended().await;
            let (server, runs_program) =
                (called_server(&call.effect), call.effect.properties().workspace.runs_program());
            end_dropped_call(self, server).await;
            let sandbox = call_sandbox(self, &call.key, server, runs_program);
            let failure = dropped_failure(sandbox.as_deref());
            self.endings.forget(&call.key);
            let reverted_files = if runs_program {
                self.reverted_files(&Err(failure.clone()), None, Vec::new()).await
            } else {
                Vec::new()
            };
            self.files.forget(&reverted_files);
            let ended = self.clock.now();
            // orch dropped the call before it compared the files, so the outcome has no activity. A resume compares them.
            let outcome = CallOutcome { reverted_files, sandbox, ..CallOutcome::new(started, ended, Err(failure)) };
            let outcome = self.with_cost(outcome, &call.effect.usage_bound());
            self.meter.settle(&*self.budgets, &call.key.step, call.effect.model(), &outcome);
            outcome
        }
        .boxed()
    }
}

/// Performs a request until it ends or is interrupted. If the reply is complete at the interruption and only the
/// connection is still open, the reply counts.
async fn run_until_interrupted(
    interruption: impl Future<Output = Failure>,
    cancellation: &CancellationToken,
    request: impl Future<Output = EffectResult>,
) -> EffectResult {
    tokio::pin!(request);
    let failure = tokio::select! {
        biased;
        result = &mut request => return result,
        failure = interruption => failure,
    };
    cancellation.cancel();
    match request.now_or_never() {
        Some(result) if result.result.is_ok() => result,
        Some(result) => EffectResult { cost: result.cost, ..Err(with_usage(failure, result.result.err())).into() },
        None => Err(failure).into(),
    }
}

/// Adds to the failure of an interrupted request the usage that the provider reported before.
fn with_usage(failure: Failure, request_failure: Option<Failure>) -> Failure {
    Failure { usage: request_failure.and_then(|failure| failure.usage), ..failure }
}

/// The result of an effect.
struct EffectResult {
    result: Result<CallReply, Failure>,
    cost: Option<f64>,
    activity: AgentActivity,
}

impl From<Result<CallReply, Failure>> for EffectResult {
    fn from(result: Result<CallReply, Failure>) -> Self {
        Self { result, cost: None, activity: AgentActivity::default() }
    }
}

impl From<ToolResult> for EffectResult {
    fn from(tool: ToolResult) -> Self {
        Self { result: tool.output.map(CallReply::Output), cost: None, activity: tool.activity }
    }
}

impl From<TurnResult> for EffectResult {
    fn from(turn: TurnResult) -> Self {
        let TurnResult { reply, cost, activity } = turn;
        match reply {
            Ok(reply) => {
                let reply = TurnReply { reply: with_plausible_usage(reply), activity };
                Self { result: Ok(CallReply::Turn(Box::new(reply))), cost, activity: AgentActivity::default() }
            }
            Err(failure) => Self { result: Err(failure_with_plausible_usage(failure)), cost, activity },
        }
    }
}

impl Performer {
    /// Resolves when the time of a step is used up. Never resolves for steps of `finally` (`in_finally`), which may
    /// clean up even then.
    async fn time_limit_reached(&self, step: &StepKey, in_finally: bool) -> Failure {
        if in_finally { std::future::pending().await } else { self.budgets.time_limit_reached(step).await }
    }

    /// Returns the result of a call without secrets.
    async fn redact_result(&self, result: Result<CallReply, Failure>) -> Result<CallReply, Failure> {
        if result.as_ref().map_or(0, CallReply::searched_bytes) < LARGE_TEXT_BYTES {
            return self.redactor.redact_result(result);
        }
        let redactor = self.redactor.clone();
        run_on_thread(self.clock.hold_virtual_time(), move || redactor.redact_result(result)).await
    }

    /// Performs an effect. When its time is used up or `stop` resolves, ends it in the way that its kind requires.
    async fn perform_until_ended(
        &self,
        call: Call,
        started: Timestamp,
        in_finally: bool,
        stop: BoxFuture<'static, ()>,
    ) -> EffectResult {
        let (step, ending) = (call.key.step.clone(), call.effect.properties().ending);
        let interruption = wait_for_interruption(self.time_limit_reached(&step, in_finally), stop);
        let cancellation = CancellationToken::new();
        let never = std::future::pending();
        match ending {
            // The client cancels a call of an MCP tool, so that the server learns that orch no longer waits for it.
            _ if matches!(call.effect, Effect::McpTool(_)) => {
                self.perform_effect(call, started, &cancellation, interruption.boxed()).boxed().await
            }
            CallEnding::CutOff => {
                let request = self.perform_effect(call, started, &cancellation, never.boxed()).boxed();
                run_until_interrupted(interruption, &cancellation, request).await
            }
            CallEnding::EndProcesses => {
                self.perform_effect(call, started, &cancellation, interruption.boxed()).boxed().await
            }
            CallEnding::RunToEnd => self.perform_effect(call, started, &cancellation, never.boxed()).boxed().await,
        }
    }

    /// Performs an effect of any kind. `cancellation` ends a request; `interruption` ends a program with the failure to
    /// report.
    async fn perform_effect(
        &self,
        call: Call,
        started: Timestamp,
        cancellation: &CancellationToken,
        interruption: BoxFuture<'_, Failure>,
    ) -> EffectResult {
        let Call { key, request_digest, effect } = call;
        let context = CallContext { start_time: started, max_cost: None, call_key: key.clone(), request_digest };
        // The program of an MCP server does not start with a call.
        if effect.properties().workspace.runs_program() && called_server(&effect).is_none() {
            let recorder = program_start_recorder(&self.agents_folder, &context, effect.model().cloned());
            self.endings.get_or_create(&key, &self.clock).record_start_with(recorder);
        }
        match effect {
            Effect::ModelRequest(model_request) => {
                self.request_model(&key, &model_request, started, cancellation).await
            }
            Effect::Turn(turn) => {
                let context = CallContext { max_cost: self.budgets.remaining_usd(&key.step), ..context };
                self.run_turn(&key, &turn, &context, interruption).await.into()
            }
            Effect::Command(command) => {
                self.run_command(&key, &command, interruption).await.map(CallReply::Output).into()
            }
            Effect::Snapshot(files) => effects::prepare_change_set(self, files).await.map(CallReply::Output).into(),
            Effect::Write(record) => effects::write_files(self, record).await.map(CallReply::Output).into(),
            Effect::Tool(invocation) => self.run_tool(&context, &invocation, interruption).await.into(),
            Effect::McpTool(invocation) => self.run_mcp_tool(&context, &invocation, interruption).await.into(),
        }
    }

    /// Sends a request to a model.
    async fn request_model(
        &self,
        key: &CallKey,
        model_request: &ModelRequest,
        started: Timestamp,
        cancellation: &CancellationToken,
    ) -> EffectResult {
        let provider = &model_request.request.model.provider;
        let reply = self.exchange_reply(key, model_request, started, cancellation).await;
        let has_responded = self.rates.observe(provider, reply.as_ref().err());
        // `unreached` is only for a provider that has not responded in this run.
        let refine = |failure: Failure| Failure { unreached: failure.unreached && !has_responded, ..failure };
        let reply = reply.map_err(|failure| failure_with_plausible_usage(refine(failure)));
        reply.map(with_plausible_usage).map(CallReply::Chat).into()
    }

    /// Adds the estimated usage and the cost to an outcome, or an upper bound if the cost is unknown.
    fn with_cost(&self, outcome: CallOutcome, bound: &UsageBound) -> CallOutcome {
        let estimated = unreported_usage(bound, &outcome);
        let outcome = CallOutcome { estimated, ..outcome };
        let usage = outcome.usage();
        let max_cost = bound.estimate.usd.filter(|_| outcome.may_have_generated());
        let is_counted =
            usage.calls_with_unknown_usage == 0 && estimated.is_none_or(|estimated| estimated.unsplit == 0);
        let price = bound.priced_as.as_ref().filter(|_| is_counted && !usage.is_empty());
        let price = price.and_then(|priced_model| self.models.cost_of(priced_model, &usage.priced_tokens()));
        // If even the upper bound is zero, the cost is known to be zero.
        let cost = outcome.cost.or_else(|| price.filter(|usd| usage.is_fully_reported() || *usd == 0.0));
        let estimated_cost = if cost.is_some() { None } else { price.or(max_cost) };
        CallOutcome { cost, estimated_cost, ..outcome }
    }
}
