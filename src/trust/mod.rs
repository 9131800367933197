//! Whether a project may send the user's secrets and runs where its `orch.yaml` says.
//!
//! A project that was cloned could name any environment variable as a key and any host as a provider. So
//! what leaves the machine by way of `orch.yaml` is listed as [`Disclosure`]s, and the user agrees to those that
//! go beyond the built-in providers once for each project ([`TrustLedger`]), as with direnv. An agreement holds
//! for one digest of these disclosures: a changed address or variable needs another one.
//!
//! Programs that a pipeline starts (`run:`, CLI agents) are the author's, as in a Makefile. They are not part of
//! the digest: whoever runs a pipeline runs them.

mod disclosure;
mod keys;
mod ledger;

pub use disclosure::{Destination, Disclosure, Disclosures, TrustReason};
pub use keys::{KeyClass, SETTINGS_KEYS};
pub use ledger::{TrustLedger, TrustStatus};
