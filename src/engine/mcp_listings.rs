//! The tools of MCP servers, as the steps of a plan request them.

use std::sync::Arc;

use crate::durable::{Interrupt, ListTools, ListedTools, ListingFreshness};
use crate::model::{Failure, McpListing, McpServerSpec, StepKey};

use super::agent_tools::AgentTools;
use super::interpret::Interpreter;

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
