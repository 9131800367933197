//! The effects that a call can have, and the table of what orch knows about each kind of call.
//!
//! The table has two parts. [`CallKind::properties`] depends only on the kind, so code that has only the journal can
//! use it too. [`Effect::profile`] also depends on the request. All other modules read the table. A new kind therefore
//! needs a variant and an entry here, a performer (`engine/perform.rs`), and a type for its output
//! (`model/call_reply.rs`).

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{ChatRequest, ModelRef};
use super::pricing::PriceBasis;
use super::program::{AgentTurn, TurnEstimate};
use super::sandbox_spec::SandboxSpec;
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
            Self::ModelRequest(ModelRequest { request, max_usage, .. }) => EffectProfile {
                kind: CallKind::Request,
                model_use: Some(ModelUse {
                    request,
                    rate_limited_tokens: Some(max_usage.total()),
                    bound: UsageBound {
                        max_usage: Some(*max_usage),
                        estimate: TurnEstimate::default(),
                        priced_as: Some(PriceBasis::of_request(&request.model, &request.options)),
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
                        priced_as: turn.program.price_model().map(PriceBasis::from),
                    },
                }),
            },
            Self::Command(_) => EffectProfile::without_model(CallKind::Command),
            Self::Snapshot(_) => EffectProfile::without_model(CallKind::Snapshot),
            Self::Write(_) => EffectProfile::without_model(CallKind::Apply),
        }
    }

    /// The properties of the effect's kind.
    pub fn properties(&self) -> CallProperties {
        self.profile().kind.properties()
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
    /// The properties of every call of this kind.
    pub fn properties(self) -> CallProperties {
        match self {
            Self::Request => CallProperties {
                name: "request",
                workspace: WorkspaceUse::None,
                ending: CallEnding::CutOff,
                awaits_start_record: true,
                keeps_turn_start: false,
            },
            Self::Turn => CallProperties {
                name: "turn",
                workspace: WorkspaceUse::Program,
                ending: CallEnding::EndProcesses,
                awaits_start_record: true,
                keeps_turn_start: true,
            },
            Self::Command => CallProperties {
                name: "command",
                workspace: WorkspaceUse::Program,
                ending: CallEnding::EndProcesses,
                awaits_start_record: true,
                keeps_turn_start: false,
            },
            Self::Snapshot => CallProperties {
                name: "snapshot",
                workspace: WorkspaceUse::ListedFiles,
                ending: CallEnding::RunToEnd,
                awaits_start_record: false,
                keeps_turn_start: false,
            },
            Self::Apply => CallProperties {
                name: "apply",
                workspace: WorkspaceUse::ListedFiles,
                ending: CallEnding::RunToEnd,
                awaits_start_record: false,
                keeps_turn_start: false,
            },
        }
    }

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        self.properties().name
    }
}

/// The properties that all calls of a kind have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallProperties {
    /// The stable name, as in the journal.
    pub name: &'static str,
    /// How the call uses the workspace.
    pub workspace: WorkspaceUse,
    /// How orch ends the call when its time is used up or the run stops.
    pub ending: CallEnding,
    /// Whether orch starts the call only when the journal contains `call_started`, because the call costs money or runs
    /// a program. If orch is killed, the event shows the maximum usage of the call, and which program may have changed
    /// files.
    pub awaits_start_record: bool,
    /// Whether a snapshot of the workspace is on disk during the call (`agent/turn_start.rs`), until the outcome is
    /// durable. A resume compares the workspace with it.
    pub keeps_turn_start: bool,
}

/// How a call uses the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkspaceUse {
    /// The call does not see the workspace.
    None,
    /// orch itself reads or writes the files that the call lists.
    ListedFiles,
    /// The call runs a program, which may change any file.
    Program,
}

impl WorkspaceUse {
    /// Whether the call sees the workspace, so that the files of earlier steps must be in place before it starts.
    pub fn sees_files(self) -> bool {
        self != Self::None
    }

    /// Whether the call runs a program, which may delete or revert files of earlier steps.
    pub fn runs_program(self) -> bool {
        self == Self::Program
    }
}

/// How orch ends a call when its time is used up or the run stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnding {
    /// orch cuts the call off. After a stop, it first waits for a grace period. A reply that is complete by then
    /// counts.
    CutOff,
    /// orch ends the processes of the call, without a grace period.
    EndProcesses,
    /// orch lets the call finish, because it must not stop half-way. If the call takes longer than the grace period of
    /// a stop, orch drops it.
    RunToEnd,
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
    /// What is known about the usage before the call.
    pub bound: UsageBound,
}

/// What is known before a call about its usage of a model. By default, nothing is known.
#[derive(Clone, Debug, Default)]
pub struct UsageBound {
    /// The upper bound that orch computes from the request; `None` if orch does not know all requests to the model.
    pub max_usage: Option<Usage>,
    /// The upper bound that the user declared (`estimate:`).
    pub estimate: TurnEstimate,
    /// What determines the price of the tokens, if it is known.
    pub priced_as: Option<PriceBasis>,
}

/// A command to run in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The names and values of the environment variables to which the shell line refers.
    pub values: Vec<(String, String)>,
    /// Names of variables that the command inherits from the environment of the run.
    pub env: Vec<String>,
    /// The folder in which the command runs, relative to the workspace.
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
    /// Workspace paths of artifact files, which a `write` step must not overwrite.
    pub reserved: Vec<String>,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CliAgent;

    const KINDS: [CallKind; 5] =
        [CallKind::Request, CallKind::Turn, CallKind::Command, CallKind::Snapshot, CallKind::Apply];

    #[test]
    fn a_kind_has_the_same_name_in_the_table_and_in_the_journal() {
        for kind in KINDS {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.properties().name);
        }
    }

    #[test]
    fn a_call_that_runs_a_program_awaits_its_start_record_and_ends_its_processes() {
        for properties in KINDS.map(CallKind::properties) {
            let runs_program = properties.workspace.runs_program();
            assert!(!runs_program || properties.awaits_start_record, "{properties:?}");
            assert_eq!(properties.ending == CallEnding::EndProcesses, runs_program, "{properties:?}");
            assert!(runs_program || !properties.keeps_turn_start, "{properties:?}");
        }
    }

    fn request() -> ChatRequest {
        ChatRequest::new(ModelRef::new("lab", "m"), Vec::new(), 10)
    }

    #[test]
    fn a_request_has_a_computed_usage_bound_and_a_turn_has_an_estimate() {
        let max_usage = Usage { input: 20, output: 10, ..Usage::default() };
        let model_request = ModelRequest { request: request(), max_usage, timeout_ms: None, deadline: None };
        let program: CliAgent =
            serde_json::from_value(serde_json::json!({ "kind": "codex", "model": "m", "access": "read" })).unwrap();
        let turn = AgentTurn {
            program,
            request: request(),
            estimate: TurnEstimate { tokens: Some(7), usd: None },
            session: None,
            session_usage: None,
            timeout_ms: None,
            until: None,
        };
        let (request, turn) = (Effect::ModelRequest(model_request), Effect::Turn(Box::new(turn)));
        for effect in [&request, &turn] {
            // If the process dies during the call, the journal must contain an upper bound of the usage.
            assert!(effect.properties().awaits_start_record);
            assert_eq!(effect.model(), Some(&ModelRef::new("lab", "m")));
        }
        let rate_limited_tokens = |effect: &Effect| effect.profile().model_use.unwrap().rate_limited_tokens;
        assert_eq!((rate_limited_tokens(&request), rate_limited_tokens(&turn)), (Some(30), None));
        let (request_bound, turn_bound) = (request.usage_bound(), turn.usage_bound());
        assert_eq!((request_bound.max_usage, turn_bound.max_usage), (Some(max_usage), None));
        assert_eq!((request_bound.estimate.tokens, turn_bound.estimate.tokens), (None, Some(7)));
        assert_eq!(request_bound.priced_as, Some(ModelRef::new("lab", "m").into()));
        assert_eq!(turn_bound.priced_as, Some(ModelRef::new("openai", "m").into()));
    }

    #[test]
    fn a_call_that_writes_files_uses_no_model() {
        let write = Effect::Write(Value::Null);
        assert!(write.model().is_none());
        assert!(write.usage_bound().max_usage.is_none());
        assert!(write.properties().workspace.sees_files());
    }
}
