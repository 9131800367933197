//! The tools that MCP servers list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Failure, McpListing, McpServerSpec, StepKey};

/// A request for the tools of an MCP server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListTools {
    /// The step that needs the tools.
    pub step: StepKey,
    /// The server.
    pub server: McpServerSpec,
    /// Whether a recorded list is enough.
    pub freshness: ListingFreshness,
}

/// Which list of tools a step needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListingFreshness {
    /// The last recorded list of the run, if there is one. So a completed step is reused without its server.
    Recorded,
    /// The list of the running server. A step needs it before it calls the server for the first time.
    Current,
}

/// The tools of an MCP server, or why orch could not list them.
pub type ListedTools = Result<Arc<McpListing>, Failure>;
