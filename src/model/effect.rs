//! The effects that a call can have, and the table of what orch knows about each kind of call.
//!
//! The table has two parts. [`CallKind::properties`] depends only on the kind, so code that has only the journal can
//! use it too. The kind of a tool call contains the tool, or what the calls of an MCP server may change.
//! [`Effect::profile`] also depends on the request. All other modules read the table. A new kind therefore needs a
//! variant and an entry here, a performer (`engine/perform.rs`), and a type for its output (`model/call_reply.rs`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::ChatRequest;
use super::cli_agent::{AgentTurn, TurnEstimate};
pub use super::effect_spec::{CommandSpec, FilesToWrite, ModelRequest};
use super::mcp::McpCallKind;
use super::mcp_call::McpInvocation;
use super::name::ModelRef;
use super::pricing::PricedModel;
use super::tool::{BuiltinTool, ToolInvocation};
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
    /// Reads the files that a step is about to write, and computes the change set.
    Snapshot(FilesToWrite),
    /// Writes the files; the value is the recorded snapshot.
    Write(Value),
    /// Performs a call of a built-in tool.
    Tool(Box<ToolInvocation>),
    /// Performs a call of a tool of an MCP server.
    McpTool(Box<McpInvocation>),
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
                        priced_as: Some(PricedModel::of_request(&request.model, &request.options)),
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
                        priced_as: turn.program.price_model().map(PricedModel::from),
                    },
                }),
            },
            Self::Command(_) => EffectProfile::without_model(CallKind::Command),
            Self::Snapshot(_) => EffectProfile::without_model(CallKind::Snapshot),
            Self::Write(_) => EffectProfile::without_model(CallKind::Apply),
            Self::Tool(invocation) => EffectProfile::without_model(CallKind::Tool(invocation.tool)),
            Self::McpTool(invocation) => EffectProfile::without_model(CallKind::McpTool(invocation.server.call_kind())),
        }
    }

    /// The properties of the effect's kind.
    pub fn properties(&self) -> CallProperties {
        self.profile().kind.properties()
    }

    /// The model or CLI agent that the call addresses; `None` for commands, files and tools.
    pub fn model(&self) -> Option<&ModelRef> {
        self.profile().model_use.map(|model_use| &model_use.request.model)
    }

    /// What is known before the call about the usage of a model; nothing for commands, files and tools.
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
    /// Reads the files that a step is about to write, and computes the change set.
    Snapshot,
    /// Writes files.
    Apply,
    /// Performs a call of a built-in tool.
    Tool(BuiltinTool),
    /// Performs a call of a tool of an MCP server.
    McpTool(McpCallKind),
    /// Calls a pipeline for a model. The steps of the pipeline have calls of their own.
    Pipeline,
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
            Self::Tool(tool) => tool_properties(tool),
            Self::McpTool(kind) => mcp_tool_properties(kind),
            Self::Pipeline => CallProperties {
                name: "pipeline",
                workspace: WorkspaceUse::None,
                ending: CallEnding::CutOff,
                awaits_start_record: false,
                keeps_turn_start: false,
            },
        }
    }

    /// The stable name. Calls of built-in tools have one name, whatever the tool, and calls of MCP tools another.
    pub fn as_str(self) -> &'static str {
        self.properties().name
    }

    /// Whether orch never repeats a call that was interrupted, because it may have changed something. The model receives
    /// the interruption as the result of the call.
    pub fn is_never_repeated(self) -> bool {
        match self {
            Self::Tool(tool) => !tool.only_reads(),
            Self::McpTool(kind) => !kind.only_reads(),
            // The steps of a called pipeline follow the rules of their kinds.
            Self::Request | Self::Turn | Self::Command | Self::Snapshot | Self::Apply | Self::Pipeline => false,
        }
    }
}

/// The properties of the calls of a tool. A tool that only reads may run again, so orch does not wait for its start
/// record.
fn tool_properties(tool: BuiltinTool) -> CallProperties {
    let reads = CallProperties {
        name: "tool",
        workspace: WorkspaceUse::ListedFiles,
        ending: CallEnding::CutOff,
        awaits_start_record: false,
        keeps_turn_start: false,
    };
    match tool {
        BuiltinTool::Read | BuiltinTool::List | BuiltinTool::Search => reads,
        BuiltinTool::Fetch => CallProperties { workspace: WorkspaceUse::None, ..reads },
        BuiltinTool::Edit | BuiltinTool::Write => {
            CallProperties { ending: CallEnding::RunToEnd, awaits_start_record: true, keeps_turn_start: true, ..reads }
        }
        BuiltinTool::Shell => CallProperties {
            workspace: WorkspaceUse::Program,
            ending: CallEnding::EndProcesses,
            awaits_start_record: true,
            keeps_turn_start: true,
            ..reads
        },
    }
}

/// The properties of the calls of MCP tools. A call that only reads may run again, so orch does not wait for its start
/// record. The server of a call that can change the workspace is ended with the call if the call is interrupted, because
/// it could go on to change files.
fn mcp_tool_properties(kind: McpCallKind) -> CallProperties {
    let reads = CallProperties {
        name: "mcp_tool",
        workspace: WorkspaceUse::None,
        ending: CallEnding::CutOff,
        awaits_start_record: false,
        keeps_turn_start: false,
    };
    match kind {
        McpCallKind::RemoteRead => reads,
        McpCallKind::RemoteWrite => CallProperties { awaits_start_record: true, ..reads },
        McpCallKind::LocalRead => CallProperties { workspace: WorkspaceUse::ListedFiles, ..reads },
        McpCallKind::LocalWrite => {
            CallProperties { workspace: WorkspaceUse::ListedFiles, awaits_start_record: true, ..reads }
        }
        McpCallKind::WorkspaceWrite => CallProperties {
            workspace: WorkspaceUse::Program,
            ending: CallEnding::EndProcesses,
            awaits_start_record: true,
            keeps_turn_start: true,
            ..reads
        },
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
    /// Whether the state of the workspace before the call is on disk during the call (`agent/turn_start.rs`), until the
    /// outcome is durable. A resume compares the workspace with it.
    pub keeps_turn_start: bool,
}

/// How a call uses the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkspaceUse {
    /// The call does not see the workspace.
    None,
    /// orch itself reads or writes the files that the call lists, or a program reads files of the workspace and can
    /// change none.
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
    pub priced_as: Option<PricedModel>,
}

#[cfg(test)]
mod tests;
