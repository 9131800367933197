//! The tools of MCP servers: returns the recorded list of a server, or asks the server once per session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::durable::{Interrupt, ListTools, ListedTools, ListingFreshness};
use crate::model::McpListing;
use crate::model::event::Fact;

use super::LocalRun;

/// The list that a server returned in this session; `None` until it has returned one. Steps that need the list at the
/// same time wait for the one that asks the server.
type CurrentListing = Arc<tokio::sync::Mutex<Option<Arc<McpListing>>>>;

/// The lists that the servers returned in this session, by the name of the server.
#[derive(Default)]
pub(super) struct CurrentListings(Mutex<HashMap<String, CurrentListing>>);

impl CurrentListings {
    fn of_server(&self, server: &str) -> CurrentListing {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(server.to_owned()).or_default().clone()
    }
}

impl LocalRun {
    /// Returns the tools of a server. Records them if the run has no record of them, or another one.
    pub(super) async fn listed_tools(&self, request: ListTools) -> Result<ListedTools, Interrupt> {
        let ListTools { step, server, freshness } = request;
        let recorded = self.lock().index.listing(&server.name);
        if let Some(listing) = recorded.filter(|_| freshness == ListingFreshness::Recorded) {
            return Ok(Ok(listing));
        }
        let current = self.current_listings.of_server(&server.name);
        let mut current = current.lock().await;
        if let Some(listing) = &*current {
            return Ok(Ok(listing.clone()));
        }
        if let Some(interrupt) = self.pending_interrupt(&step) {
            return Err(interrupt);
        }
        let finally_step = self.finally_step(&step);
        let name = server.name.clone();
        let listed = tokio::select! {
            biased;
            listed = self.perform.list_tools(server) => listed,
            () = self.halted_groups.wait_until_step_halted(&step, finally_step.as_ref()) => {
                return Err(Interrupt::GroupHalted);
            }
            () = self.wait_until_abandoned(finally_step.is_some(), Duration::ZERO) => return Err(Interrupt::Cancelled),
        };
        let fact = match listed {
            Ok(fact) => fact,
            Err(failure) => return Ok(Err(failure)),
        };
        let (listing, recorded) = (fact.listing.clone(), self.lock().index.listing(&name));
        if recorded.is_none_or(|recorded| recorded.digest() != listing.digest()) {
            self.append(Fact::ToolsListed(fact)).await?;
        }
        *current = Some(listing.clone());
        Ok(Ok(listing))
    }
}
