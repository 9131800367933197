//! The arguments that several commands share, and the code that reads their values.

pub(super) mod agents;
pub(super) mod budget;
mod inputs;
pub(super) mod lookup;
mod output_format;
mod schema;
mod state;
mod time_limit;
mod trust;

pub(super) use inputs::CliInputs;
pub(super) use output_format::OutputFormat;
pub(super) use schema::load_schema;
pub(super) use state::StateArgs;
pub(super) use time_limit::parse_time_limit;
pub(super) use trust::{DIGEST_ARG_ID, TrustArgs};
