//! Trackers: external services that receive the events of runs.
//!
//! This module decides which messages orch sends to trackers and in which order, and handles refusals and unreachable
//! trackers. It uses durable events and the outbox, never the engine or a provider. A run does not fail because of a
//! tracker, and waits for trackers only at its end, for a limited time: deliveries have their own threads, and the
//! outbox records which events are not delivered yet.

mod convex;
mod delivery;
mod follower;
mod http;
mod report;
mod webhook;

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::model::Event;
use crate::network::Network;
use crate::secret::Redactor;

pub use delivery::{DeliveryStart, deliver};
pub use follower::Follower;
pub use report::DeliveryReport;

/// The clock for the timestamps of requests.
pub type TrackerClock = fn() -> Timestamp;

/// A configured tracker: its address, and its secret with the name of its environment variable.
#[derive(Clone, Debug)]
pub enum TrackerTarget {
    /// A Convex deployment with the functions of orch.
    Convex {
        /// Its address, without `/api/…`.
        url: String,
        /// Its deploy key.
        key: Option<(String, SecretString)>,
        /// The proxies and certificates for the connection.
        network: Arc<Network>,
    },
    /// A webhook that receives events.
    Webhook {
        /// Its address.
        url: String,
        /// The secret that signs requests.
        secret: (String, SecretString),
        /// The proxies and certificates for the connection.
        network: Arc<Network>,
    },
}

impl TrackerTarget {
    /// The name under which the outbox records this tracker.
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

    /// A redactor for messages. It removes the secret, and the address, since an address may itself be a secret.
    fn redactor(&self) -> Redactor {
        let (url, secret) = match self {
            Self::Convex { url, key, .. } => (url, key.as_ref()),
            Self::Webhook { url, secret, .. } => (url, Some(secret)),
        };
        let url = SecretString::from(url.clone());
        Redactor::new(secret.map(|(name, secret)| (name.as_str(), secret)).into_iter().chain([("address", &url)]))
    }
}

/// One request to a tracker; an event may need several.
struct TrackerMessage {
    /// The headers that do not depend on the time when orch sends the message.
    headers: Vec<(&'static str, String)>,
    /// The body, as JSON.
    body: String,
}

/// The decision of a tracker about a message.
#[derive(Debug, PartialEq, Eq)]
enum TrackerDecision {
    /// It accepted the message.
    Accepted,
    /// It will never accept the message, for this reason.
    Refused(String),
    /// It can't accept the message now, for this reason.
    RetryLater(String),
}

/// The wire format of one kind of tracker.
trait Tracker: Send {
    /// The address that messages are posted to.
    fn url(&self) -> &str;

    /// Encodes an event as messages. The caller encodes or skips each event of the run exactly once and in order.
    fn encode(&mut self, event: &Event) -> Vec<TrackerMessage>;

    /// Updates the state of the encoder with an event that was delivered earlier.
    fn skip(&mut self, event: &Event);

    /// The headers that authenticate a message.
    fn auth_headers(&self, message: &TrackerMessage, now: Timestamp) -> Vec<(&'static str, SecretString)>;

    /// Parses the tracker's decision about a message from its reply.
    fn parse_reply(&self, status: u16, body: &str) -> TrackerDecision;
}

/// The first non-empty line of a text, truncated to 300 characters.
fn excerpt(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    let excerpt: String = line.chars().take(300).collect();
    if excerpt.len() < line.len() { format!("{excerpt}…") } else { excerpt }
}
