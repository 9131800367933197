//! The tools of MCP servers: returns the recorded list of a server, or asks the server once per session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::durable::{Interrupt, ListTools, ListedTools, ListingFreshness};
use crate::model::event::Fact;

use super::LocalRun;

/// The list of a server in this session.
#[derive(Default)]
struct CurrentListing {
    /// What the server answered last. Steps that need the list at the same time wait for the one that asks the server.
    answer: tokio::sync::Mutex<Option<ListedTools>>,
    /// How often the server gave no list.
    failures: AtomicU64,
}

/// The lists that the servers returned in this session, by the name of the server.
#[derive(Default)]
pub(super) struct CurrentListings(Mutex<HashMap<String, Arc<CurrentListing>>>);

impl CurrentListings {
    fn of_server(&self, server: &str) -> Arc<CurrentListing> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(server.to_owned()).or_default().clone()
    }
}

impl LocalRun {
    /// Returns the tools of a server. Records them if the run has no record of them, or another one.
    pub(super) async fn listed_tools(&self, request: ListTools) -> Result<ListedTools, Interrupt> {
        let ListTools { step, server, freshness } = request;
        let recorded = self.lock().index.listing_for(&step, &server.name);
        if let Some(listing) = recorded.filter(|_| freshness == ListingFreshness::Recorded) {
            return Ok(Ok(listing));
        }
        let current = self.current_listings.of_server(&server.name);
        let failures_before = current.failures.load(Ordering::Relaxed);
        let mut answer = current.answer.lock().await;
        match &*answer {
            Some(Ok(listing)) => return Ok(Ok(listing.clone())),
            // The server failed while this step waited for the answer to another one, and would take as long again.
            Some(Err(failure)) if current.failures.load(Ordering::Relaxed) != failures_before => {
                self.lock().listing_failures.insert(step, failure.clone());
                return Ok(Err(failure.clone()));
            }
            Some(Err(_)) | None => {}
        }
        if let Some(interrupt) = self.pending_interrupt(&step) {
            return Err(interrupt);
        }
        let finally_step = self.finally_step(&step);
        let name = server.name.clone();
        let listed = tokio::select! {
            biased;
            listed = self.perform.list_tools(server) => listed,
            () = self.halt_signal.wait_until_step_halted(&step, finally_step.as_ref()) => {
                return Err(Interrupt::GroupHalted);
            }
            () = self.wait_until_abandoned(finally_step.is_some(), Duration::ZERO) => return Err(Interrupt::Cancelled),
        };
        let fact = match listed {
            Ok(fact) => fact,
            Err(failure) => {
                *answer = Some(Err(failure.clone()));
                current.failures.fetch_add(1, Ordering::Relaxed);
                self.lock().listing_failures.insert(step, failure.clone());
                return Ok(Err(failure));
            }
        };
        let (listing, recorded) = (fact.listing.clone(), self.lock().index.listing(&name));
        if recorded.is_none_or(|recorded| recorded.digest() != listing.digest()) {
            self.append(Fact::ToolsListed(fact)).await?;
        }
        *answer = Some(Ok(listing.clone()));
        Ok(Ok(listing))
    }
}
