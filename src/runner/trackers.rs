//! The trackers of a session: creates delivery targets from `orch.yaml` and environment variables.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::EnvLookup;
use crate::config::{Address, SecretRef, TrackerSettings};
use crate::model::RunId;
use crate::model::http_url::http_url_error;
use crate::network::Network;
use crate::provider::is_unencrypted_address;
use crate::store::{DeliveryCursor, Outbox, StoreError};
use crate::track::{DeliveryReport, Follower, TrackerTarget};

use super::Runner;
use super::trust::Trusted;

/// The default time limit for the remaining deliveries at the end of a run.
const DEFAULT_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The trackers of a project.
#[derive(Clone, Default)]
pub(crate) struct Trackers {
    /// The delivery targets of the usable trackers.
    pub(crate) targets: Vec<TrackerTarget>,
    /// The names of the unusable trackers, and why each of them is unusable.
    pub(crate) unusable: Vec<(&'static str, String)>,
    flush_timeout: Duration,
}

impl Trackers {
    /// Reads the addresses and secrets of the trackers from `variables`. The [`Trusted`] argument proves that the user
    /// agreed to send events to these addresses.
    pub(crate) fn new(settings: &TrackerSettings, variables: &EnvLookup, _: &Trusted) -> Self {
        let flush_timeout = settings.flush.map_or(DEFAULT_FLUSH_TIMEOUT, |duration| duration.0);
        let mut trackers = Self { targets: Vec::new(), unusable: Vec::new(), flush_timeout };
        let network = Arc::new(Network::from_variables(|name| variables(name)));
        if let Some(convex) = &settings.convex {
            let target = resolve_address(&convex.url, variables).and_then(|url| {
                let key = convex.auth.as_ref().map(|auth| read_secret(auth, variables)).transpose()?;
                if key.is_some() && !convex.insecure && is_unencrypted_address(&url) {
                    return Err(
                        "its address is plain http, so others on the network could read its key: use https://, \
                                or set `insecure: true` under `tracker.convex` of orch.yaml"
                            .to_owned(),
                    );
                }
                Ok(TrackerTarget::Convex { url, key, network: network.clone() })
            });
            trackers.add("convex", target);
        }
        if let Some(webhook) = &settings.webhook {
            let target = resolve_address(&webhook.url, variables).and_then(|url| {
                Ok(TrackerTarget::Webhook { url, secret: read_secret(&webhook.secret, variables)?, network })
            });
            trackers.add("webhook", target);
        }
        trackers
    }

    fn add(&mut self, name: &'static str, target: Result<TrackerTarget, String>) {
        match target {
            Ok(target) => self.targets.push(target),
            Err(reason) => self.unusable.push((name, reason)),
        }
    }

    /// Starts to deliver the events of a run that come after the event `last_seq`.
    pub(crate) fn follow(&self, state_folder: &Path, run: RunId, last_seq: u64, runner: &Runner) -> Follower {
        if !self.targets.is_empty() {
            crate::network::install_tls_provider();
        }
        for (name, reason) in &self.unusable {
            runner.reporter.problem(&format!("{name} can't follow this run: {reason}"));
        }
        if let Err(error) = self.queue_for_later(state_folder, run) {
            runner.reporter.problem(&error.to_string());
        }
        Follower::start(state_folder, run, last_seq, &self.targets, jiff::Timestamp::now)
    }

    /// Adds the unusable trackers to the outbox, so that orch can deliver the run's events later.
    fn queue_for_later(&self, state_folder: &Path, run: RunId) -> Result<(), StoreError> {
        if self.unusable.is_empty() {
            return Ok(());
        }
        let outbox = Outbox::open(state_folder)?;
        for (name, _) in &self.unusable {
            if outbox.cursor(name, run)?.is_none() {
                outbox.advance(name, run, &DeliveryCursor::default())?;
            }
        }
        Ok(())
    }

    /// Waits for the deliveries of a run that has ended, and reports undelivered events.
    pub(crate) async fn finish(&self, follower: Follower, run: RunId, runner: &Runner) {
        for report in follower.finish(self.flush_timeout).await {
            if !report.is_complete() {
                let (name, message) = (report.tracker, delivery_message(&report));
                let command = runner.reporter.command_options().with_options(format!("orch runs track {run}"));
                runner.reporter.problem(&format!("{name}: {message}; `{command}` tries again"));
            }
        }
    }
}

/// A message about the events that orch could not deliver to a tracker, with the reason.
pub(crate) fn delivery_message(report: &DeliveryReport) -> String {
    let mut messages = Vec::new();
    if report.pending() > 0 || report.problem.is_some() {
        let reason = report.problem.as_deref().unwrap_or("orch gave up");
        messages.push(format!("{} not delivered: {reason}", format_event_count(report.pending())));
    }
    if let Some(reason) = &report.refusal {
        messages.push(format!("{} refused: {reason}", format_event_count(report.refused)));
    }
    messages.join("; ")
}

/// Formats a number of events: `1 event`, `2 events`.
pub(crate) fn format_event_count(count: u64) -> String {
    format!("{count} event{}", if count == 1 { "" } else { "s" })
}

fn resolve_address(address: &Address, variables: &EnvLookup) -> Result<String, String> {
    let (url, source) = match address {
        Address::Plain(url) => (url.clone(), "its address".to_owned()),
        Address::Env(name) => {
            let url = variables(name).ok_or_else(|| unset_message(name))?;
            (url.trim().to_owned(), format!("the value of {name}"))
        }
    };
    match http_url_error(&url) {
        Some(reason) => Err(format!("{source} is not an address: {reason}")),
        None => Ok(url),
    }
}

fn read_secret(secret: &SecretRef, variables: &EnvLookup) -> Result<(String, secrecy::SecretString), String> {
    let value = variables(&secret.env).ok_or_else(|| unset_message(&secret.env))?;
    Ok((secret.env.clone(), value.trim().to_owned().into()))
}

fn unset_message(name: &str) -> String {
    format!("{name} is not set")
}
