//! The seam to durability and to concurrency.
//!
//! The interpreter in `engine` is a pure function of a plan, the inputs and recorded
//! outcomes. Whatever it wants done in the world is a [`Call`]; whatever it decides is told
//! through [`Durable::begin`] and [`Durable::record`]; whatever may run side by side goes
//! through [`Durable::branches`]. It never joins, selects, spawns, sleeps or looks at a
//! clock, so the same interpreter runs on a local journal and on a distributed engine.
//!
//! An implementation is given a [`Perform`] when it is built. It promises: an outcome that
//! [`Durable::call`] returned is durable; the same call is performed at most once per
//! recorded outcome; what [`Durable::record`] acknowledged is never lost.

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::event::{ReplyRead, StepCompleted, StepFailed, StepSkipped, StepStarted};
use crate::model::{Artifact, CallKey, ChatReply, ChatRequest, Digest, Event, Failure, Recipe, StepKey};

/// One external effect of an attempt: a leaf of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// Which call it is; unique in a run.
    pub key: CallKey,
    /// The digest of what is asked: a recorded outcome serves only the same request.
    pub ask: Digest,
    /// What is done.
    pub effect: Effect,
}

/// What a call does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Asks a model.
    Ask(Ask),
}

/// A model request with its time limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The request.
    pub request: ChatRequest,
    /// How long it may take in all, in milliseconds; the provider's default when absent.
    pub timeout_ms: Option<u64>,
    /// When the step's deadline is over; the request ends then at the latest.
    pub until: Option<Timestamp>,
}

/// How a call ended, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The reply or the failure.
    pub result: Result<ChatReply, Failure>,
    /// What it cost in US dollars, when the price is known.
    pub cost: Option<f64>,
}

/// A step about to be run: what it is, and what would make a recorded result stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Open {
    /// The step.
    pub step: StepKey,
    /// What determines its result.
    pub recipe: Recipe,
    /// The artifact that it produces.
    pub output: String,
    /// The file that shows the artifact, relative to the workspace.
    pub path: String,
}

/// What the implementation answers to [`Durable::begin`].
#[derive(Clone, Debug)]
pub enum Begin {
    /// A recorded result has this recipe and stands.
    Stands(Box<Artifact>),
    /// The step was asked exactly this before, but its reply was read in another way:
    /// these recorded replies, latest first, may fit now. If none does, go on with `attempt`.
    Reread {
        /// The recorded replies.
        replies: Vec<ChatReply>,
        /// The attempt to go on with.
        attempt: u32,
    },
    /// Nothing stands: go on with this attempt, begun or not.
    Attempt(u32),
}

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A time between the two, in milliseconds, that differs from run to run, so that a
    /// fleet of runs does not come back all at once.
    Between(u64, u64),
}

/// What a wait gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The time is over.
    Elapsed,
}

/// Why the interpreter must stop without an outcome. Never recorded as one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stop {
    /// A person or the system asked the run to stop.
    #[error("the run was interrupted")]
    Cancelled,
    /// The journal, a blob or the workspace failed.
    #[error("{0}")]
    Storage(Failure),
}

/// A fact that the interpreter decided; what it did is in [`Call`]s.
#[derive(Clone, Debug)]
pub enum Decided {
    /// An attempt begins.
    Started(StepStarted),
    /// A reply was read.
    Read(ReplyRead),
    /// The step completed; durable, and its file written, when the call returns.
    Completed(StepCompleted),
    /// The step failed for good.
    Failed(StepFailed),
    /// The step is not run.
    Skipped(StepSkipped),
}

/// One of several things that may run side by side.
pub type Branch<'a> = BoxFuture<'a, Result<BranchEnd, Stop>>;

/// How a branch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchEnd {
    /// What comes after may run.
    Done,
    /// A step failed that stops the run.
    Halt,
}

/// Durable execution, as the interpreter sees it.
pub trait Durable: Send + Sync {
    /// Opens a step: tells whether a recorded result stands, else which attempt to run.
    fn begin<'a>(&'a self, open: &'a Open) -> BoxFuture<'a, Result<Begin, Stop>>;

    /// Performs a call, or returns its recorded outcome.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Outcome, Stop>>;

    /// Records what was decided. Facts that are recorded already are not recorded twice.
    fn record(&self, fact: Decided) -> BoxFuture<'_, Result<(), Stop>>;

    /// Runs branches, at most `limit` at once; the ends come in the order of the list.
    fn branches<'a>(&'a self, list: Vec<Branch<'a>>, limit: usize) -> BoxFuture<'a, Result<Vec<BranchEnd>, Stop>>;

    /// Waits durably.
    fn wait(&self, key: CallKey, on: Wait) -> BoxFuture<'_, Result<Answer, Stop>>;
}

/// Does what a call says. Given to the implementation of [`Durable`] when it is built.
pub trait Perform: Send + Sync + 'static {
    /// Performs the call once; never fails otherwise than in the outcome.
    fn perform(&self, call: Call) -> BoxFuture<'static, Outcome>;
}

/// A lossy sign of life of a call in flight.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The call was sent.
    Sent(CallKey),
    /// The model is reading the prompt: tokens done and in all.
    Reading(CallKey, u32, u32),
    /// The model wrote some text.
    Text(CallKey, String),
    /// The model wrote some reasoning, with its length in bytes.
    Reasoning(CallKey, usize),
    /// The call waits this many milliseconds before its step is tried again.
    Backoff(StepKey, u64),
}

/// Follows a run: every durable event after it is durable, and signals in between.
pub trait Observer: Send + Sync {
    /// A fact was recorded.
    fn event(&self, event: &Event);
    /// Something happened that is not recorded.
    fn signal(&self, signal: &Signal);
}
