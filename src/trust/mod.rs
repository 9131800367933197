//! Whether a project may send the user's secrets and runs where its `orch.yaml` says.
//!
//! A cloned project could name any environment variable as a key and any host as a provider. So orch lists what
//! `orch.yaml` sends away as [`Disclosure`]s, and the user agrees to those that go beyond the built-in providers, once
//! for each project ([`TrustLedger`]), as with direnv. An agreement covers one digest of these disclosures: a changed
//! address or variable needs a new one.
//!
//! Commands that a pipeline starts (`run:`, CLI agents) are the author's, as in a Makefile. They are not part of the
//! digest: a user who runs a pipeline runs them.

mod disclosure;
mod keys;
mod ledger;

pub use disclosure::{Destination, Disclosure, Disclosures, TrustReason};
pub use keys::{KeyClass, SETTINGS_KEYS};
pub use ledger::{TrustLedger, TrustStatus};
