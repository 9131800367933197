//! The effects that a call can have, and the table of what orch knows about each kind of call.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{ChatRequest, ModelRef};
use super::program::{AgentTurn, TurnEstimate};
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
    /// The entry of the effect in the table.
    pub fn profile(&self) -> EffectProfile<'_> {
        match self {
            Self::ModelRequest(ask) => EffectProfile {
                kind: CallKind::Request,
                model_use: Some(ModelUse {
                    request: &ask.request,
                    rate_limited_tokens: Some(ask.max_usage.total()),
                    bound: UsageBound {
                        max_usage: Some(ask.max_usage),
                        estimate: TurnEstimate::default(),
                        priced_as: Some(ask.request.model.clone()),
                    },
                }),
            },
            Self::Turn(turn) => EffectProfile {
                kind: CallKind::Turn,
                model_use: Some(ModelUse {
                    request: &turn.request,
                    // The CLI agent sends its requests itself, so orch can neither count nor delay them.
                    rate_limited_tokens: None,
                    bound: UsageBound {
                        max_usage: None,
                        estimate: turn.estimate,
                        priced_as: turn.program.price_model(),
                    },
                }),
            },
            Self::Command(_) => EffectProfile::without_model(CallKind::Command),
            Self::Snapshot(_) => EffectProfile::without_model(CallKind::Snapshot),
            Self::Write(_) => EffectProfile::without_model(CallKind::Apply),
        }
    }

    /// The model or CLI agent that the call addresses; `None` for commands and files.
    pub fn model(&self) -> Option<&ModelRef> {
        self.profile().model_use.map(|model_use| &model_use.request.model)
    }

    /// What is known before the call about the usage of a model; nothing for commands and files.
    pub fn usage_bound(&self) -> UsageBound {
        self.profile().model_use.map(|model_use| model_use.bound).unwrap_or_default()
    }
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

/// The entry of an effect in the table.
#[derive(Clone, Debug)]
pub struct EffectProfile<'a> {
    /// The kind of the call.
    pub kind: CallKind,
    /// How the call uses a model; `None` if it uses none.
    pub model_use: Option<ModelUse<'a>>,
}

impl EffectProfile<'_> {
    fn without_model(kind: CallKind) -> Self {
        Self { kind, model_use: None }
    }
}

/// How a call uses a model. If the process dies during such a call, the model may have used tokens.
#[derive(Clone, Debug)]
pub struct ModelUse<'a> {
    /// The request, with the model or CLI agent that the call addresses.
    pub request: &'a ChatRequest,
    /// The tokens that the call counts against the limits of its provider; `None` if these limits do not apply.
    pub rate_limited_tokens: Option<u64>,
    /// What is known about its usage.
    pub bound: UsageBound,
}

/// What is known before a call about its usage of a model. The default is that nothing is known.
#[derive(Clone, Debug, Default)]
pub struct UsageBound {
    /// The upper bound that orch computes from the request; `None` if orch does not know all requests to the model.
    pub max_usage: Option<Usage>,
    /// The upper bound that the user declared (`estimate:`).
    pub estimate: TurnEstimate,
    /// The model whose list price applies to the tokens, if any.
    pub priced_as: Option<ModelRef>,
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
