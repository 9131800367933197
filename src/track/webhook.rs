//! Posts each event to a webhook, with the same JSON as in the journal, and signs it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use super::{Tracker, TrackerDecision, TrackerMessage, excerpt};
use crate::model::Event;

/// The name of this tracker in the outbox.
pub(super) const NAME: &str = "webhook";

/// Posts events to an address.
pub(super) struct Webhook {
    url: String,
    secret: SecretString,
}

impl Webhook {
    pub(super) fn new(url: &str, secret: SecretString) -> Self {
        Self { url: url.to_owned(), secret }
    }
}

impl Tracker for Webhook {
    fn url(&self) -> &str {
        &self.url
    }

    fn encode(&mut self, event: &Event) -> Vec<TrackerMessage> {
        // This does not fail, since the journal contains the event as JSON.
        let Ok(value) = serde_json::to_value(event) else { return Vec::new() };
        let kind = value["fact"].as_object().and_then(|fact| fact.keys().next().cloned()).unwrap_or_default();
        let delivery_id = format!("{}-{}", event.run.0, event.seq);
        vec![TrackerMessage {
            headers: vec![("x-orch-event", kind), ("x-orch-delivery", delivery_id)],
            body: value.to_string(),
        }]
    }

    fn skip(&mut self, _: &Event) {}

    fn auth_headers(&self, message: &TrackerMessage, now: Timestamp) -> Vec<(&'static str, SecretString)> {
        let timestamp = now.as_second().to_string();
        let signature = signature(self.secret.expose_secret(), &timestamp, &message.body);
        vec![("x-orch-timestamp", timestamp.into()), ("x-orch-signature", format!("sha256={signature}").into())]
    }

    fn parse_reply(&self, status: u16, body: &str) -> TrackerDecision {
        match status {
            200..=299 => TrackerDecision::Accepted,
            // With these statuses, the receiver will never accept this message.
            400 | 413 | 422 => TrackerDecision::Refused(format!("{status}: {}", excerpt(body))),
            _ => TrackerDecision::RetryLater(format!("it replied with status {status}: {}", excerpt(body))),
        }
    }
}

/// HMAC-SHA256 over `TIMESTAMP.BODY`, in hexadecimal.
fn signature(secret: &str, timestamp: &str, body: &str) -> String {
    // HMAC accepts a key of any length, so this can't fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    for part in [timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_of_timestamp_and_body() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        assert_eq!(
            signature("key", "1700000000", "{}"),
            "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
        );
    }

    #[test]
    fn the_status_decides_between_retry_and_refusal() {
        let webhook = Webhook::new("http://127.0.0.1:9", "secret".to_owned().into());
        assert_eq!(webhook.parse_reply(204, ""), TrackerDecision::Accepted);
        assert_eq!(webhook.parse_reply(422, "no\nway"), TrackerDecision::Refused("422: no".into()));
        for status in [301, 401, 404, 429, 500, 503] {
            assert!(matches!(webhook.parse_reply(status, ""), TrackerDecision::RetryLater(_)), "{status}");
        }
    }
}
