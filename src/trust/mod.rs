//! Trust in projects: whether a project may make orch send secrets and events to addresses in its `orch.yaml`.
//!
//! A cloned project could name any environment variable as a key and any host as a provider. orch therefore lists the
//! data that `orch.yaml` makes it send as [`Disclosure`]s. The user agrees once for each project to those beyond the
//! built-in providers ([`TrustLedger`]), as with direnv, and to a `sandbox` that allows more than the default. An
//! agreement covers one digest of these disclosures, so a changed address or variable needs a new agreement.
//!
//! The digest does not cover the commands of a pipeline (`run:`, CLI agents): as with a Makefile, a user who runs a
//! pipeline runs its commands.

mod disclosure;
mod keys;
mod ledger;
mod sandbox;
mod trackers;

pub use disclosure::{Destination, Disclosure, Disclosures, TrustReason};
pub use keys::{KeyClass, SETTINGS_KEYS};
pub use ledger::{TrustLedger, TrustStatus};
