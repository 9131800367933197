//! Trackers: outside services that are told how runs go.
//!
//! Owns what is sent to them, in which order, and what happens when they don't take it. It
//! knows durable events and the outbox, never the engine or a provider. It promises that a
//! run neither waits for a tracker nor fails because of one: deliveries have a thread of
//! their own, what is not delivered stays in the outbox, and only the end of a run waits,
//! for a bounded time.

mod convex;
mod courier;
mod follow;
mod http;
mod report;
mod webhook;

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::model::Event;
use crate::network::Network;
use crate::secret::Redactor;

pub use courier::{DeliveryStart, deliver};
pub use follow::Follower;
pub use report::DeliveryReport;

/// The clock that requests are stamped with.
pub type TrackerClock = fn() -> Timestamp;

/// A tracker as it is set up: where it is, and its secret with the name of its variable.
#[derive(Clone, Debug)]
pub enum TrackerTarget {
    /// A Convex deployment with our functions.
    Convex {
        /// Its address, without `/api/…`.
        url: String,
        /// Its deploy key.
        key: Option<(String, SecretString)>,
        /// The way there.
        network: Arc<Network>,
    },
    /// A receiver of events.
    Webhook {
        /// Its address.
        url: String,
        /// What requests are signed with.
        secret: (String, SecretString),
        /// The way there.
        network: Arc<Network>,
    },
}

impl TrackerTarget {
    /// The name under which the outbox knows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Convex { .. } => convex::NAME,
            Self::Webhook { .. } => webhook::NAME,
        }
    }

    fn network(&self) -> &Network {
        let (Self::Convex { network, .. } | Self::Webhook { network, .. }) = self;
        network
    }

    fn tracker(&self) -> Box<dyn Tracker> {
        match self {
            Self::Convex { url, key, .. } => {
                Box::new(convex::Convex::new(url, key.as_ref().map(|(_, key)| key.clone())))
            }
            Self::Webhook { url, secret, .. } => Box::new(webhook::Webhook::new(url, secret.1.clone())),
        }
    }

    /// Keeps the address and the secret out of messages: many an address is a secret itself.
    fn redactor(&self) -> Redactor {
        let (url, secret) = match self {
            Self::Convex { url, key, .. } => (url, key.as_ref()),
            Self::Webhook { url, secret, .. } => (url, Some(secret)),
        };
        let url = SecretString::from(url.clone());
        Redactor::new(secret.map(|(name, secret)| (name.as_str(), secret)).into_iter().chain([("address", &url)]))
    }
}

/// What one event is to a tracker.
struct TrackerMessage {
    /// The headers that don't depend on when it is sent.
    headers: Vec<(&'static str, String)>,
    /// The body, JSON.
    body: String,
}

/// What a tracker made of a message.
#[derive(Debug, PartialEq, Eq)]
enum EncodedEvent {
    /// It has it.
    Accepted,
    /// It will never take it, for this reason.
    Refused(String),
    /// It can't take it now, for this reason.
    Later(String),
}

/// The words of one sort of tracker.
trait Tracker: Send {
    /// Where messages are posted to.
    fn url(&self) -> &str;

    /// What an event is to it; every event is given once, in order, from the first.
    fn take(&mut self, event: &Event) -> Vec<TrackerMessage>;

    /// An event that was delivered before.
    fn skip(&mut self, event: &Event);

    /// The headers that prove who sends a message.
    fn proof(&self, message: &TrackerMessage, now: Timestamp) -> Vec<(&'static str, SecretString)>;

    /// What a reply says.
    fn verdict(&self, status: u16, body: &str) -> EncodedEvent;
}

/// The first line of a text, at most 300 characters of it.
fn excerpt(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    let cut: String = line.chars().take(300).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}
