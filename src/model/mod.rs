//! The data model of pipelines and runs, as plain data.
//!
//! Defines the terms that every other module uses. Has no I/O, no async code and no imports of other modules of this
//! crate, so that every module may depend on it.

mod activity;
pub mod agent;
mod allowed_host;
pub mod approval;
pub mod budget;
mod builtin_provider;
pub mod bytes;
pub mod call;
pub mod call_reply;
mod canonical;
pub mod chat;
pub mod cli_agent;
pub mod command_mode;
pub mod content;
pub mod cost;
mod count;
pub mod dialect;
pub mod duration;
pub mod effect;
mod effect_spec;
pub mod event;
pub mod failure;
mod fingerprint;
mod folder_pattern;
pub mod http_url;
pub mod id;
pub mod json_number;
pub mod mcp;
pub mod mcp_call;
mod mcp_name;
mod mcp_project;
pub mod name;
pub mod name_scope;
mod nesting;
mod normalizer;
pub mod options;
pub mod pipeline;
mod pipeline_call;
mod placeholder;
pub mod pricing;
pub mod repeated_keys;
pub mod report;
pub mod run;
mod run_event;
mod run_request;
pub mod sandbox;
mod sandbox_spec;
mod sandbox_use;
mod similar_name;
mod skip;
pub mod step;
pub mod step_state;
mod step_status;
mod step_texts;
mod step_values;
pub mod surrogates;
pub mod test_case;
pub mod text;
pub mod tool;
mod tool_grant;
pub mod usage;
pub mod visible;

pub use activity::{AgentActivity, LeftOutReason, describe_partial};
pub use agent::Agents;
pub use allowed_host::{AllowedHost, HostList, is_public_address};
pub use builtin_provider::{BUILTIN_PROVIDERS, BuiltinProvider};
pub use bytes::HumanBytes;
pub use canonical::canonical_json;
pub use chat::{ChatReply, ChatRequest, Message, ReplyDetails, Role, StopReason};
pub use cli_agent::{AgentTurn, CliAgent, CliAgentKind, TurnEstimate, TurnReply};
pub use command_mode::{CommandMode, CommandModes};
pub use content::{Content, ContentBlock};
pub use cost::CostTotal;
pub use count::counted;
pub use dialect::Dialect;
pub use duration::HumanDuration;
pub use event::{Artifact, Event, Fact, Fingerprint, RunStatus};
pub use failure::{Failure, FailureClass};
pub use folder_pattern::FolderPattern;
pub use id::{CallKey, Digest, RunId, StepKey};
pub use mcp::{
    McpAccess, McpCallKind, McpGrant, McpHeader, McpListing, McpServerSpec, McpToolDefinition, McpToolName,
    McpTransport, ToolsListed,
};
pub use mcp_call::{InputAnswers, InputQuestion, InputRequired, McpCallOutput, McpInvocation, is_unanswered_call};
pub use mcp_project::{unsupported_placeholder, with_project_root};
pub use name::ModelRef;
pub use nesting::{MAX_NESTING, MAX_VALUES, count_values, nesting_depth};
pub use normalizer::{Normalizer, PatternError};
pub use options::{ModelOptions, ReasoningEffort};
pub use pipeline::{Agent, InputSchema, Pipeline};
pub use pipeline_call::{PipelineCallOutput, pipeline_call_summary};
pub use placeholder::SETTINGS_PLACEHOLDER;
pub use pricing::PricedModel;
pub use report::RunReport;
pub use run::RunState;
pub use sandbox::{Sandbox, SandboxLevel, SandboxLimits, SandboxNetwork};
pub use sandbox_spec::{
    LoosenedSetting, SandboxOwner, SandboxSpec, allows_agent_host, is_outside_workspace, loosened_settings,
};
pub use sandbox_use::{SandboxConnection, SandboxUse};
pub use similar_name::{SimilarName, most_similar_name};
pub use step::{Step, StepAction};
pub use step_state::StepState;
pub use step_status::StepStatus;
pub use step_texts::{StepText, argument_texts};
pub use test_case::TestCase;
pub use tool::{
    BuiltinTool, ChangedFile, OfferedTools, ToolCallOutput, ToolChoice, ToolDefinition, ToolGrant, ToolInvocation,
    ToolOutput, call_summary,
};
pub use tool_grant::{CommandPattern, PathPattern};
pub use usage::{EstimatedUsage, ReportedUsage, Usage, UsageTotal};
