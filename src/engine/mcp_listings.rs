//! The tools of MCP servers, as the steps of a plan request them.

use std::sync::Arc;

use crate::durable::{Interrupt, ListTools, ListedTools, ListingFreshness};
use crate::model::{Failure, FailureClass, McpListing, McpServerSpec, McpToolDefinition, StepKey};

use super::agent_tools::AgentTools;
use super::interpret::Interpreter;

/// The maximum number of names in a message about a missing tool.
const MAX_NAMED_TOOLS: usize = 20;

/// The lists of several servers, in their order, or why one of them has none.
pub(super) type Listings = Result<Vec<Arc<McpListing>>, Failure>;

impl Interpreter<'_> {
    /// The tools of a server that a step needs.
    pub(super) async fn list_tools(
        self,
        step: &StepKey,
        server: &McpServerSpec,
        freshness: ListingFreshness,
    ) -> Result<ListedTools, Interrupt> {
        self.durable.list_tools(ListTools { step: step.clone(), server: server.clone(), freshness }).await
    }

    /// The tools of all servers of an agent, in the order of the servers.
    pub(super) async fn listings(
        self,
        step: &StepKey,
        tools: &AgentTools,
        freshness: ListingFreshness,
    ) -> Result<Listings, Interrupt> {
        let mut listings = Vec::with_capacity(tools.servers.len());
        for server in &tools.servers {
            match self.list_tools(step, server, freshness).await? {
                Ok(listing) => listings.push(listing),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Ok(listings))
    }
}

/// The tool with this name in a server's list.
///
/// # Errors
/// The server lists no such tool.
pub(super) fn find_tool<'l>(listing: &'l McpListing, tool: &str) -> Result<&'l McpToolDefinition, Failure> {
    listing.find(tool).ok_or_else(|| {
        let names: Vec<String> =
            listing.tools.iter().take(MAX_NAMED_TOOLS).map(|definition| format!("`{}`", definition.name)).collect();
        let more = listing.tools.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let has = if names.is_empty() { "none".to_owned() } else { format!("{}{more}", names.join(", ")) };
        let message = format!("the MCP server `{}` has no tool `{tool}`; it has {has}", listing.server);
        let hint = "correct `call:` of the step; a server may also offer other tools with other settings";
        Failure::new(FailureClass::BadRequest, message).with_hint(hint)
    })
}
