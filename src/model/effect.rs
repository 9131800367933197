//! The effects that a call can have, and the kinds of call.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{ChatRequest, ModelRef};
use super::program::AgentTurn;
use super::usage::Usage;

/// The kinds of effect that a call can have.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Sends a request to a model.
    ModelRequest(ModelRequest),
    /// Runs a turn of a CLI agent.
    Turn(Box<AgentTurn>),
    /// Runs a command in the workspace.
    Command(CommandSpec),
    /// Takes a snapshot of the files that are about to be written.
    Snapshot(FilesToWrite),
    /// Writes the files; the value is the recorded snapshot.
    Write(Value),
}

impl Effect {
    /// The model or CLI agent that the call addresses; `None` for commands and files.
    pub fn model(&self) -> Option<&ModelRef> {
        match self {
            Self::ModelRequest(ask) => Some(&ask.request.model),
            Self::Turn(turn) => Some(&turn.request.model),
            Self::Command(_) | Self::Snapshot(_) | Self::Write(_) => None,
        }
    }
}

/// A command to run in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment variables with the values that a shell line refers to: names with values.
    pub values: Vec<(String, String)>,
    /// Names of variables that the command inherits from the environment of the run.
    pub env: Vec<String>,
    /// The folder in which the command runs, relative to the workspace.
    pub cwd: String,
    /// The text that it receives on standard input.
    pub stdin: Option<String>,
    /// The time limit, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// Files to put into the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesToWrite {
    /// The list of files, as JSON, unchanged from the artifact.
    pub files: Value,
    /// Workspace paths of artifact files, which a `write` step must not overwrite.
    pub reserved: Vec<String>,
}

/// A model request with its time limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelRequest {
    /// The request.
    pub request: ChatRequest,
    /// The upper bound of its usage, computed from the request.
    pub max_usage: Usage,
    /// The time limit of the whole request, in milliseconds; the provider's default when absent.
    pub timeout_ms: Option<u64>,
    /// The step's deadline; the request ends then at the latest.
    pub deadline: Option<Timestamp>,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// Sends a request to a model.
    Request,
    /// Runs a turn of a CLI agent.
    Turn,
    /// Runs a command.
    Command,
    /// Reads the files that are about to be written.
    Snapshot,
    /// Writes files.
    Apply,
}

impl CallKind {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Turn => "turn",
            Self::Command => "command",
            Self::Snapshot => "snapshot",
            Self::Apply => "apply",
        }
    }
}
