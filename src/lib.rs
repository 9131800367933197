//! orch: declarative agent pipelines.

pub mod agent;
pub mod check;
pub mod cli;
pub mod config;
pub mod diagnostic;
pub mod durable;
pub mod engine;
pub mod extract;
pub mod model;
pub mod provider;
pub mod report;
pub mod schema;
pub mod secret;
pub mod store;
pub mod template;
