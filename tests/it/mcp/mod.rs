//! MCP servers: their settings, their tools, and what orch allows them.

mod settings;
