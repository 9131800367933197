//! The limits of concurrent calls and of request rates of a session.

use std::sync::Arc;

use crate::accounts::{DEFAULT_CONCURRENCY, ProviderLimits, RateLimiters};
use crate::config::Project;
use crate::model::BuiltinProvider;
use crate::model::event::Event;
use crate::model::name::LOCAL_PROVIDER;

/// Creates the rate limiters for the limits in a project's settings.
pub(crate) fn build_rate_limiters(project: &Project) -> Arc<RateLimiters> {
    let to_usize = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let settings = &project.settings;
    let providers = settings.providers.iter().map(|(name, entry)| {
        let limits = ProviderLimits {
            concurrency: entry.max_concurrency.map(to_usize),
            requests: entry.requests_per_minute,
            tokens: entry.tokens_per_minute,
        };
        (name.clone(), limits)
    });
    let configured: Vec<(String, ProviderLimits)> = providers.collect();
    // A provider without settings has only the limits that it reports.
    let known_names = BuiltinProvider::names().chain([LOCAL_PROVIDER]);
    let other_names = known_names.filter(|name| !settings.providers.contains_key(*name));
    let others: Vec<_> = other_names.map(|name| (name.to_owned(), ProviderLimits::default())).collect();
    Arc::new(RateLimiters::new(
        settings.limits.max_concurrency.map_or(DEFAULT_CONCURRENCY, to_usize),
        configured.into_iter().chain(others),
    ))
}

/// Informs the rate limiters which providers responded in earlier sessions of the run.
pub(crate) fn restore_rate_limiters(limiters: &Arc<RateLimiters>, events: &[Event]) -> Arc<RateLimiters> {
    limiters.restore(events);
    limiters.clone()
}
