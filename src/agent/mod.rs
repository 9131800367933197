//! The agents of steps: models by name, the choice of a model for `auto`, and CLI agents.
//!
//! This module resolves a model's name in a file to a provider. It does not read the environment; the caller passes the
//! variables.

mod acp;
mod auto;
mod call_files;
mod claude;
mod codex;
mod command;
mod digest_cache;
mod endpoints;
mod env_lookup;
mod exit;
mod files;
mod json_lines;
#[cfg(feature = "local")]
pub mod local;
mod local_models;
mod mcp_servers;
mod models;
mod program;
mod program_starts;
mod recording;
mod refusals;
mod session_file;
mod turn;
mod turn_sandbox;
mod turn_start;

pub use crate::catalog::table_version as catalog_version;
pub use auto::{AUTO_CANDIDATES, AutoCandidate, AutoChoice, AutoError, choose_model};
pub use endpoints::env_addresses;
pub use env_lookup::EnvLookup;
pub use exit::install_hint;
pub use local_models::{LocalModels, is_valid_own_name};
pub use models::ModelRegistry;
pub use program::{AgentEnv, AgentEvent, CallContext, TurnResult};
pub use program_starts::{
    ProgramCall, StartedProgram, find_started_programs, program_start_recorder, remove_program_start,
};
pub use recording::{
    REPLAY_PROVIDER, RecordedExchange, Recorder, RecordingContext, Replay, ReplayOptions, ReplayedChanges,
    ReplayedCommand, ReplayedMcpCall, ReplayedReply, ReplayedToolCall, RunPaths,
};
pub use turn::{DEFAULT_TURN_TIMEOUT, run_turn};
pub use turn_start::{
    InterruptedTurn, InterruptedWorkspace, StartedTurn, TurnStart, changed_after, find_interrupted_turns,
    find_started_turns, remove_turn_start, write_turn_start,
};
