//! What the integration tests have in common.

pub mod reply;
pub mod server;
