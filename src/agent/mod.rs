//! Agents that answer steps: models by name, the choice behind `auto`, and CLI agents.
//!
//! This module turns a model's name in a file into the provider to ask. It does not read the environment; the caller
//! passes in variables.

mod acp;
mod auto;
mod capped;
mod changes;
mod claude;
mod codex;
mod command;
mod exit;
mod identity;
mod lines;
#[cfg(feature = "local")]
pub mod local;
mod models;
mod program;
mod recording;
mod refusals;
mod session_file;
mod shelf;
mod turn;
mod turn_start;

pub use auto::{AutoCandidate, AutoChoice, AutoError, CANDIDATES, choose};
pub use exit::missing;
pub use models::{ModelRegistry, Variables};
pub use program::{AgentEnv, AgentEvent, TurnLimits, TurnResult};
pub use recording::{REPLAY, Recorder, Replay};
pub use shelf::{Shelf, is_own};
pub use turn::{PATIENCE, take_turn};
pub use turn_start::{InterruptedTurn, InterruptedWorkspace, interrupted_turns, turn_recorded};
