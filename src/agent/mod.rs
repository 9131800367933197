//! What answers a step: models by name, and which model `auto` is.
//!
//! Owns the way from a model's name in a file to the provider that is asked. Reads no
//! environment: the caller hands in what it says.

mod auto;
#[cfg(feature = "local")]
pub mod local;
mod models;
mod recording;

pub use auto::{AutoChoice, AutoError, CANDIDATES, Candidate, choose};
pub use models::{Models, Variables};
pub use recording::{REPLAY, Recorder, Replay};
