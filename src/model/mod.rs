//! What a pipeline and a run are, as plain data.
//!
//! Defines the terms that every other module uses. Has no I/O, no async code and no imports of other modules of this
//! crate, so that every module may depend on it.

pub mod address;
pub mod agent;
pub mod approval;
pub mod budget;
pub mod call;
mod canonical;
pub mod case;
pub mod chat;
pub mod cost;
pub mod event;
pub mod failure;
pub mod id;
pub mod name;
mod nesting;
pub mod pipeline;
pub mod program;
pub mod report;
pub mod run;
mod run_event;
pub mod span;
pub mod step;
pub mod step_state;
mod step_values;
pub mod text;
pub mod usage;
pub mod visible;

pub use agent::Agents;
pub use canonical::canonical;
pub use case::Case;
pub use chat::{ChatReply, ChatRequest, Message, ModelRef, ReplyRemarks, Role, StopReason};
pub use cost::CostTotal;
pub use event::{Artifact, Event, Fact, Fingerprint, RunStatus};
pub use failure::{Class, Failure};
pub use id::{CallKey, Digest, RunId, StepKey};
pub use nesting::{MAX_NESTING, MAX_VALUES, nesting, values};
pub use pipeline::{Agent, Input, Pipeline};
pub use program::{AgentActivity, AgentTurn, Program, ProgramKind, TurnEstimate};
pub use report::RunReport;
pub use run::RunState;
pub use span::Span;
pub use step::{Step, StepAction};
pub use step_state::{StepState, StepStatus};
pub use usage::{EstimatedUsage, ReportedUsage, Usage, UsageTotal};
