//! Trust in projects: whether a project may make orch send secrets and events to addresses in its `orch.yaml`.
//!
//! The `orch.yaml` of a cloned project could name any environment variable as a key and any host as a provider. For
//! that reason, orch makes a list of [`Disclosure`]s: the data that `orch.yaml` makes it send, the keys of its
//! `sandbox` that allow more than the default, and its MCP servers with everything that they may do. Once for each project, the user agrees to the
//! disclosures other than those to built-in providers ([`TrustLedger`]), as with direnv. An agreement covers the digest
//! of these disclosures, so a changed address, variable or program needs a new agreement.
//!
//! The digest does not cover the commands of a pipeline (`run:`, CLI agents): a user who runs a pipeline agrees to its
//! commands, as with a Makefile. But a model decides what CLI agents and the commands of the tool `shell` do, in a sandbox
//! that keeps the user's secrets from them. So an agreement also covers the names of the environment variables that the
//! pipelines pass to confined programs ([`VariableDisclosures`]), if a run can send data to other machines.

mod disclosure;
mod keys;
mod ledger;
mod mcp;
mod providers;
mod sandbox;
mod trackers;
mod variables;

pub use disclosure::{Destination, Disclosure, Disclosures, TrustReason};
pub use keys::{KeyClass, SETTINGS_KEYS};
pub use ledger::{TrustLedger, TrustStatus};
pub use sandbox::{describe_hosts, describe_sandbox};
pub use variables::{VariableDisclosure, VariableDisclosures};
