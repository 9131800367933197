//! The names of files in the state folder.

/// The name of the database in the state folder.
pub(super) const DATABASE_FILE: &str = "journal.db";
/// The name of the file about MCP servers in the state folder.
pub(super) const MCP_SERVERS_FILE: &str = "mcp-legacy.json";
/// The folder in the state folder where CLI agents store their files.
pub(super) const AGENTS_FOLDER: &str = "agents";
