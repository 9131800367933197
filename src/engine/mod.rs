//! Runs a plan.
//!
//! [`interpret`](interpret::interpret) walks the steps and makes all decisions; [`perform`] carries out the effects
//! that it requests. The interface between them is [`crate::durable`].

mod account;
mod agent;
mod approve;
mod bound;
pub mod budget;
mod command;
mod compute;
mod conversation;
mod each;
mod effects;
pub mod forecast;
pub mod gate;
mod group;
pub mod interpret;
mod leaf;
mod message;
mod model_call;
pub mod node;
pub mod perform;
pub mod plan;
mod planner;
mod reading;
mod retry;
mod scope;
mod spend_history;
mod spent;
mod ways;
mod write;
mod written;

pub use effects::environment;
pub use interpret::interpret;
pub use node::{Contract, PlannedModel};
pub use plan::{Plan, Resolve, StepDefaults};
