//! MCP servers: their settings, their tools, and what orch allows them.

#[cfg(target_os = "linux")]
mod answers_during_runs;
#[cfg(target_os = "linux")]
mod call_kills;
#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod changed_requests;
#[cfg(target_os = "linux")]
mod cli_agents;
#[cfg(target_os = "linux")]
mod commands;
#[cfg(target_os = "linux")]
mod completed_calls;
#[cfg(target_os = "linux")]
mod conformance;
mod eras;
#[cfg(target_os = "linux")]
mod failed_commands;
mod hostile;
#[cfg(target_os = "linux")]
mod http_errors;
#[cfg(target_os = "linux")]
mod json_bodies;
#[cfg(target_os = "linux")]
mod later_rounds;
#[cfg(target_os = "linux")]
mod log;
mod malformed;
#[cfg(target_os = "linux")]
mod model_calls;
mod peers;
#[cfg(target_os = "linux")]
mod preflight;
#[cfg(target_os = "linux")]
mod project_root;
#[cfg(target_os = "linux")]
mod questions;
#[cfg(target_os = "linux")]
mod questions_during_calls;
#[cfg(target_os = "linux")]
mod recording;
mod request_floods;
#[cfg(target_os = "linux")]
mod resume;
#[cfg(target_os = "linux")]
mod scripted;
#[cfg(target_os = "linux")]
mod secrets;
mod settings;
#[cfg(target_os = "linux")]
mod unsent_calls;
#[cfg(target_os = "linux")]
mod workspace;
