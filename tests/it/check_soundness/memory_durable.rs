//! A `Durable` without a store, whose models reply with random values that fit the requested schema.

use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use orch::durable::{
    BeginOutcome, Branch, BranchOutcome, Call, CallOutcome, CallReply, Durable, Effect, ExecutionId, Interrupt,
    RunFlow, StepFact, StepSpec, Wait, WaitOutcome,
};
use orch::model::approval::ApprovalDecision;
use orch::model::event::{CallOutput, CommandOutput};
use orch::model::{CallKey, ChatReply, Content, Failure, StepKey, StopReason, Usage};
use serde_json::{Value, json};

use super::generate::{Rng, fitting_value};

/// Values or failures of steps.
pub(crate) type StepResults<T> = Vec<(StepKey, T)>;

/// Executes a plan in memory, and records failures.
pub(crate) struct MemoryDurable {
    rng: Mutex<Rng>,
    failed: Mutex<Vec<(StepKey, Failure)>>,
    replies: Mutex<Vec<(StepKey, Value)>>,
}

impl MemoryDurable {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Mutex::new(Rng::new(seed)), failed: Mutex::default(), replies: Mutex::default() }
    }

    /// The failures, and the replies before them.
    pub(crate) fn into_results(self) -> (StepResults<Failure>, StepResults<Value>) {
        (self.failed.into_inner().unwrap(), self.replies.into_inner().unwrap())
    }

    #[allow(clippy::match_wildcard_for_single_variants, reason = "no pipeline here makes calls of other kinds")]
    fn answer(&self, call: &Call) -> CallReply {
        let mut rng = self.rng.lock().unwrap();
        match &call.effect {
            Effect::ModelRequest(ask) => {
                let value = match &ask.request.schema {
                    Some(schema) => fitting_value(schema, &mut rng),
                    None => json!(rng.word()),
                };
                self.replies.lock().unwrap().push((call.key.step.clone(), value.clone()));
                let text = if ask.request.schema.is_some() { value.to_string() } else { rng.word() };
                CallReply::Chat(ChatReply {
                    content: Content::from_text(text),
                    stop: StopReason::End,
                    usage: Usage::default().into(),
                    model: None,
                    id: None,
                    constrained: true,
                    details: Box::default(),
                })
            }
            Effect::Command(_) => CallReply::Output(CallOutput::Command(CommandOutput {
                exit_code: 0,
                stdout: rng.word(),
                stderr: String::new(),
                cut: false,
                folder: String::new(),
                probable_limit: None,
                replayed: false,
            })),
            Effect::Snapshot(files) => CallReply::Output(CallOutput::Snapshot(json!({ "files": files.files }))),
            Effect::Write(record) => CallReply::Output(CallOutput::Applied(record.clone())),
            other => unreachable!("no pipeline here makes this call: {other:?}"),
        }
    }
}

impl Durable for MemoryDurable {
    fn begin<'a>(&'a self, _: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
        async { Ok(BeginOutcome::Attempt(1, None)) }.boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
        let now = Timestamp::UNIX_EPOCH;
        async move {
            Ok(CallOutcome {
                started: now,
                ended: now,
                result: Ok(self.answer(&call)),
                agent_activity: None,
                cost: None,
                estimated: None,
                estimated_cost: None,
                reverted_files: Vec::new(),
                sandbox: None,
            })
        }
        .boxed()
    }

    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
        if let StepFact::Failed(fact) = fact {
            self.failed.lock().unwrap().push((fact.step, fact.failure));
        }
        async { Ok(0) }.boxed()
    }

    fn run_branches<'a>(
        &'a self,
        _: StepKey,
        list: Vec<Branch<'a>>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
        async move {
            let (mut ends, mut halted) = (Vec::new(), false);
            for branch in list {
                let end = if halted { BranchOutcome::NotStarted } else { branch.await? };
                halted |= matches!(end, BranchOutcome::Ended(_, RunFlow::Halt));
                ends.push(end);
            }
            Ok(ends)
        }
        .boxed()
    }

    fn wait(&self, _: CallKey, on: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        let approved = self.rng.lock().unwrap().chance(70);
        let verdict = ApprovalDecision { approved, note: "a note".into(), by: "me".into(), at: Timestamp::UNIX_EPOCH };
        let answer =
            if matches!(on, Wait::Approval(_)) { WaitOutcome::Answered(verdict) } else { WaitOutcome::Elapsed };
        async { Ok(answer) }.boxed()
    }
}
