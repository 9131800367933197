//! The trackers of a session: turns settings of `orch.yaml` and variables into delivery targets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Variables;
use crate::config::{Address, SecretRef, TrackerSettings};
use crate::model::RunId;
use crate::model::address::why_no_http_address;
use crate::network::Network;
use crate::provider::is_unencrypted_address;
use crate::store::{DeliveryCursor, Outbox, StoreError};
use crate::track::{DeliveryReport, Follower, TrackerTarget};

use super::Runner;
use super::trust::Trusted;

/// How long the end of a run waits for its trackers by default.
const FLUSH: Duration = Duration::from_secs(5);

/// The trackers of a project.
#[derive(Clone, Default)]
pub(crate) struct Trackers {
    /// The trackers with everything that they need.
    pub(crate) targets: Vec<TrackerTarget>,
    /// The names of the other trackers, each with what is missing.
    pub(crate) off: Vec<(&'static str, String)>,
    flush: Duration,
}

impl Trackers {
    /// Reads addresses and secrets from the environment. [`Trusted`] proves that the user agreed to send runs there.
    pub(crate) fn new(settings: &TrackerSettings, variables: &Variables, _: &Trusted) -> Self {
        let flush = settings.flush.map_or(FLUSH, |span| span.0);
        let mut trackers = Self { targets: Vec::new(), off: Vec::new(), flush };
        let network = Arc::new(Network::from_variables(|name| variables(name)));
        if let Some(convex) = &settings.convex {
            let target = address(&convex.url, variables).and_then(|url| {
                let key = convex.auth.as_ref().map(|auth| secret(auth, variables)).transpose()?;
                if key.is_some() && !convex.insecure && is_unencrypted_address(&url) {
                    return Err("its address is plain http, so its key could be read on its way: use https://, or \
                                set `insecure: true` under `tracker.convex` of orch.yaml"
                        .to_owned());
                }
                Ok(TrackerTarget::Convex { url, key, network: network.clone() })
            });
            trackers.add("convex", target);
        }
        if let Some(webhook) = &settings.webhook {
            let target = address(&webhook.url, variables).and_then(|url| {
                Ok(TrackerTarget::Webhook { url, secret: secret(&webhook.secret, variables)?, network })
            });
            trackers.add("webhook", target);
        }
        trackers
    }

    fn add(&mut self, name: &'static str, target: Result<TrackerTarget, String>) {
        match target {
            Ok(target) => self.targets.push(target),
            Err(why) => self.off.push((name, why)),
        }
    }

    /// Starts to follow a run whose last event so far is `seq`.
    pub(crate) fn follow(&self, state: &Path, run: RunId, seq: u64, runner: &Runner) -> Follower {
        if !self.targets.is_empty() {
            crate::network::prepare_tls();
        }
        for (name, why) in &self.off {
            runner.reporter.problem(&format!("{name} can't follow this run: {why}"));
        }
        if let Err(error) = self.remember(state, run) {
            runner.reporter.problem(&error.to_string());
        }
        Follower::start(state, run, seq, &self.targets, jiff::Timestamp::now)
    }

    /// Adds the trackers that are off to the outbox, so that the run is delivered once they can be used.
    fn remember(&self, state: &Path, run: RunId) -> Result<(), StoreError> {
        if self.off.is_empty() {
            return Ok(());
        }
        let outbox = Outbox::open(state)?;
        for (name, _) in &self.off {
            if outbox.cursor(name, run)?.is_none() {
                outbox.advance(name, run, &DeliveryCursor::default())?;
            }
        }
        Ok(())
    }

    /// Waits for the trackers of a run that has ended, and reports the events that were not delivered.
    pub(crate) async fn finish(&self, follower: Follower, run: RunId, runner: &Runner) {
        for report in follower.finish(self.flush).await {
            if !report.is_complete() {
                let (name, missing) = (report.tracker, missing(&report));
                let again = runner.reporter.commands().of(format!("orch runs track {run}"));
                runner.reporter.problem(&format!("{name}: {missing}; `{again}` tries again"));
            }
        }
    }
}

/// A message about the events that a tracker did not get, and why.
pub(crate) fn missing(report: &DeliveryReport) -> String {
    let mut parts = Vec::new();
    if report.pending() > 0 || report.problem.is_some() {
        let why = report.problem.as_deref().unwrap_or("it was given up");
        parts.push(format!("{} not delivered: {why}", events(report.pending())));
    }
    if let Some(why) = &report.refusal {
        parts.push(format!("{} refused: {why}", events(report.refused)));
    }
    parts.join("; ")
}

/// A number of events as text.
pub(crate) fn events(count: u64) -> String {
    format!("{count} event{}", if count == 1 { "" } else { "s" })
}

fn address(address: &Address, variables: &Variables) -> Result<String, String> {
    let (url, whose) = match address {
        Address::Plain(url) => (url.clone(), "its address".to_owned()),
        Address::Env(name) => {
            let url = variables(name).ok_or_else(|| unset(name))?;
            (url.trim().to_owned(), format!("the value of {name}"))
        }
    };
    match why_no_http_address(&url) {
        Some(why) => Err(format!("{whose} is not an address: {why}")),
        None => Ok(url),
    }
}

fn secret(secret: &SecretRef, variables: &Variables) -> Result<(String, secrecy::SecretString), String> {
    let value = variables(&secret.env).ok_or_else(|| unset(&secret.env))?;
    Ok((secret.env.clone(), value.trim().to_owned().into()))
}

fn unset(name: &str) -> String {
    format!("{name} is not set")
}
