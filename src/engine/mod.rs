//! Runs a plan.
//!
//! [`interpret`](interpret::interpret) walks the steps and decides; [`perform`] does what it asks
//! for. Between them stands [`crate::durable`].

mod converse;
pub mod interpret;
mod message;
pub mod perform;
pub mod plan;
mod retry;
mod scope;

pub use interpret::interpret;
pub use plan::{Contract, Defaults, Plan, PlannedModel, Resolve};
