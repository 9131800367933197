//! Lists the disclosures of the trackers in `orch.yaml`.

use crate::config::{Address, Settings};
use crate::provider::{is_unencrypted_address, normalized_address};

use super::disclosure::{Destination, Disclosure, TrustReason};

/// Returns the disclosures of the trackers in settings.
pub(super) fn tracker_disclosures(settings: &Settings) -> impl Iterator<Item = Disclosure> {
    let tracker = &settings.tracker;
    let convex = tracker.convex.iter().map(|convex| Disclosure {
        key: "tracker.convex".to_owned(),
        variable: convex.auth.as_ref().map(|auth| auth.env.clone()),
        destination: destination(&convex.url),
        reasons: tracker_reasons(&convex.url),
        insecure: convex.insecure,
        aws_region: None,
        terms: None,
    });
    let webhook = tracker.webhook.iter().map(|webhook| Disclosure {
        key: "tracker.webhook".to_owned(),
        variable: Some(webhook.secret.env.clone()),
        destination: destination(&webhook.url),
        reasons: tracker_reasons(&webhook.url),
        // orch signs the data with the secret and does not send the secret.
        insecure: true,
        aws_region: None,
        terms: None,
    });
    convex.chain(webhook)
}

fn destination(address: &Address) -> Destination {
    match address {
        Address::Plain(url) => Destination::Url(normalized_address(url)),
        Address::Env(name) => Destination::Variable(name.clone()),
    }
}

fn tracker_reasons(address: &Address) -> Vec<TrustReason> {
    let mut reasons = vec![TrustReason::SendsEvents];
    if let Address::Plain(url) = address {
        reasons.extend(is_unencrypted_address(url).then_some(TrustReason::Unencrypted));
    }
    reasons
}
