//! Environment variables, as the caller passes them in.

use std::sync::Arc;

/// Looks up an environment variable; empty values count as unset.
pub type EnvLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
