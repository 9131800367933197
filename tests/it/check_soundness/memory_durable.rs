//! A `Durable` without a store, whose models reply with random values that fit the requested schema, or fail.

use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use orch::durable::{
    BeginOutcome, BranchOutcome, Call, CallOutcome, CallReply, Durable, EarlierCall, Effect, ExecutionId,
    GroupBranches, Interrupt, PipelineCall, PipelineCallStart, RunFlow, StepFact, StepSpec, Wait, WaitOutcome,
};
use orch::model::approval::ApprovalDecision;
use orch::model::event::CallOutput;
use orch::model::{
    CallKey, ChatReply, Content, Failure, FailureClass, StepKey, StopReason, ToolCallOutput, ToolOutput, Usage,
};
use serde_json::{Value, json};

use super::generate::{Rng, ValueChoice, fitting_value};
use crate::support::command_output::command_output;

/// Values or failures of steps.
pub(crate) type StepResults<T> = Vec<(StepKey, T)>;

/// How the models and commands of a run behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunBehavior {
    /// The seed of all random decisions.
    pub(crate) seed: u64,
    /// Which values the models reply with.
    pub(crate) values: ValueChoice,
    /// How many percent of the requests and commands fail.
    pub(crate) failure_percent: usize,
}

/// Executes a plan in memory, and records failures and commands.
pub(crate) struct MemoryDurable {
    behavior: RunBehavior,
    rng: Mutex<Rng>,
    failed: Mutex<Vec<(StepKey, Failure)>>,
    replies: Mutex<Vec<(StepKey, Value)>>,
    commands: Mutex<Vec<(StepKey, Vec<String>)>>,
}

impl RunBehavior {
    /// The behavior of models that reply with any fitting values and never fail.
    pub(crate) fn without_failures(seed: u64) -> Self {
        Self { seed, values: ValueChoice::Random, failure_percent: 0 }
    }
}

impl MemoryDurable {
    pub(crate) fn new(behavior: RunBehavior) -> Self {
        let rng = Mutex::new(Rng::new(behavior.seed));
        Self { behavior, rng, failed: Mutex::default(), replies: Mutex::default(), commands: Mutex::default() }
    }

    /// The commands, each as a program and its arguments.
    pub(crate) fn commands(&self) -> StepResults<Vec<String>> {
        self.commands.lock().unwrap().clone()
    }

    /// The failures, and the replies before them.
    pub(crate) fn into_results(self) -> (StepResults<Failure>, StepResults<Value>) {
        (self.failed.into_inner().unwrap(), self.replies.into_inner().unwrap())
    }

    /// Whether the next call fails.
    fn fails(&self) -> bool {
        self.rng.lock().unwrap().chance(self.behavior.failure_percent)
    }

    #[allow(clippy::match_wildcard_for_single_variants, reason = "no pipeline here makes calls of other kinds")]
    fn answer(&self, call: &Call) -> Result<CallReply, Failure> {
        let fails = self.fails();
        Ok(match &call.effect {
            Effect::ModelRequest(_) if fails => {
                // orch neither retries nor re-asks after a refusal.
                return Err(Failure::new(FailureClass::Refusal, "the model refuses"));
            }
            Effect::ModelRequest(ask) => CallReply::Chat(self.reply(call, ask.request.schema.as_deref())),
            Effect::Command(command) => {
                self.commands.lock().unwrap().push((call.key.step.clone(), command.argv.clone()));
                command_output(i32::from(fails), self.text())
            }
            Effect::Tool(invocation) => {
                let result = ToolOutput { content: self.text(), is_error: fails, ..ToolOutput::default() };
                let output = ToolCallOutput { tool: invocation.tool, arguments: String::new(), result };
                CallReply::Output(CallOutput::Tool(output))
            }
            Effect::Snapshot(files) => CallReply::Output(CallOutput::Snapshot(json!({ "files": files.files }))),
            Effect::Write(record) => CallReply::Output(CallOutput::Applied(record.clone())),
            other => unreachable!("no pipeline here makes this call: {other:?}"),
        })
    }

    /// A text as a model or a command writes it.
    fn text(&self) -> String {
        match self.behavior.values {
            ValueChoice::Random => self.rng.lock().unwrap().word(),
            ValueChoice::Smallest => String::new(),
            ValueChoice::Largest => "a long line\n".repeat(200),
        }
    }

    /// The reply of a model: a value that fits the schema, or a text that is not empty.
    fn reply(&self, call: &Call, schema: Option<&Value>) -> ChatReply {
        let text = match schema {
            Some(schema) => {
                let value = fitting_value(schema, self.behavior.values, &mut self.rng.lock().unwrap());
                let text = value.to_string();
                self.replies.lock().unwrap().push((call.key.step.clone(), value));
                text
            }
            None => format!("text {}", self.text()),
        };
        ChatReply {
            content: Content::from_text(text),
            stop: StopReason::End,
            usage: Usage::default().into(),
            model: None,
            id: None,
            constrained: true,
            details: Box::default(),
        }
    }
}

impl Durable for MemoryDurable {
    fn begin<'a>(&'a self, _: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
        async { Ok(BeginOutcome::Attempt(1, None)) }.boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
        let now = Timestamp::UNIX_EPOCH;
        async move { Ok(CallOutcome::new(now, now, self.answer(&call))) }.boxed()
    }

    fn earlier_calls<'a>(
        &'a self,
        _: &'a StepSpec,
        _: Option<u32>,
    ) -> BoxFuture<'a, Result<Vec<EarlierCall>, Interrupt>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn begin_pipeline_call<'a>(&'a self, _: &'a PipelineCall) -> BoxFuture<'a, Result<PipelineCallStart, Interrupt>> {
        async { Ok(PipelineCallStart::Started(Timestamp::UNIX_EPOCH)) }.boxed()
    }

    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
        if let StepFact::Failed(fact) = fact {
            self.failed.lock().unwrap().push((fact.step, fact.failure));
        }
        async { Ok(0) }.boxed()
    }

    fn branches<'a>(
        &'a self,
        _: StepKey,
        branches: &'a dyn GroupBranches,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
        async move {
            let (mut ends, mut halted) = (Vec::new(), false);
            for index in 0..branches.count() {
                let end = if halted { BranchOutcome::NotStarted } else { branches.run(index).await? };
                halted |= matches!(end, BranchOutcome::Ended(_, RunFlow::Halt));
                ends.push(end);
            }
            Ok(ends)
        }
        .boxed()
    }

    fn wait(&self, _: CallKey, on: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        let approved = self.rng.lock().unwrap().chance(70);
        let note = if self.behavior.values == ValueChoice::Smallest { "" } else { "a note" };
        let verdict = ApprovalDecision { approved, note: note.into(), by: "me".into(), at: Timestamp::UNIX_EPOCH };
        let answer =
            if matches!(on, Wait::Approval(_)) { WaitOutcome::Answered(verdict) } else { WaitOutcome::Elapsed };
        async { Ok(answer) }.boxed()
    }
}
