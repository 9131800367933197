//! What the effects of commands, files and requests to models consist of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::{ElidedResult, SentResult};
use super::chat::ChatRequest;
use super::sandbox_spec::SandboxSpec;
use super::usage::Usage;

/// A command to run in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The names and values of the environment variables to which the shell line refers.
    pub values: Vec<(String, String)>,
    /// Names of variables that the command inherits from the environment of the run.
    pub env: Vec<String>,
    /// The working directory of the command, relative to the workspace.
    pub cwd: String,
    /// The text for the command's standard input.
    pub stdin: Option<String>,
    /// The time limit, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The sandbox of the command; `None` if orch does not confine it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
    /// Whether the step may change the workspace, so that a recording contains the files that it changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_write: bool,
}

/// Files to write into the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesToWrite {
    /// The list of files, as JSON, unchanged from the artifact.
    pub files: Value,
}

/// A model request with its time limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelRequest {
    /// The request.
    pub request: ChatRequest,
    /// The upper bound of the usage, computed from the request.
    pub max_usage: Usage,
    /// The time limit of the whole request, in milliseconds; the provider's default when absent.
    pub timeout_ms: Option<u64>,
    /// The step's deadline, at which orch ends the request.
    pub deadline: Option<Timestamp>,
    /// The tool results that this request is the first to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elided_results: Vec<ElidedResult>,
    /// The tool results that this request adds to the conversation and that no recorded output has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_results: Vec<SentResult>,
    /// Whether the texts of failed tool results begin with the line `Error:`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_errors: bool,
}
