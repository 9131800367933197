//! Runs a plan.
//!
//! [`interpret`](interpret::interpret) walks the steps and makes all decisions; [`perform`] carries out the effects
//! that it requests. The interface between them is [`crate::durable`].

mod agent;
mod agent_tools;
mod approve;
mod artifact_flow;
pub mod budget;
mod budget_ledger;
mod call;
mod call_arguments;
mod call_batches;
mod call_endings;
mod call_nodes;
mod call_result;
mod call_spend;
mod command;
mod compute;
mod conversation;
mod earlier_calls;
mod effects;
mod for_each;
pub mod forecast;
mod group;
mod hints;
pub mod interpret;
mod interrupted_call;
mod interruption;
mod mcp_answerer;
mod mcp_effect;
mod mcp_listings;
pub(crate) mod mcp_questions;
mod message;
mod model_call;
pub mod node;
pub mod perform;
mod pipeline_digest;
mod pipeline_tools;
pub mod plan;
mod planned_model;
mod planner;
pub mod rate_limit;
mod record_replay;
mod repetition_guard;
mod reply_failures;
mod reply_reader;
mod retry;
mod round_values;
mod scope;
mod shared_map;
mod spend_history;
mod step_execution;
mod template_failure;
mod tool_calls;
mod tool_conversation;
mod tool_effect;
mod tool_loop;
mod tool_results;
mod tool_target;
mod usage_bound;
mod write;

pub use agent_tools::AgentTools;
pub use interpret::interpret;
pub use node::ArtifactType;
pub use plan::{Plan, PlannedSandbox, Resolve, StepDefaults};
pub use planned_model::PlannedModel;
