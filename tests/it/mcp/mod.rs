//! MCP servers: their settings, their tools, and what orch allows them.

mod eras;
mod hostile;
mod peers;
mod settings;
