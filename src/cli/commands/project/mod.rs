//! Commands that create, check and trust a project.

pub(in crate::cli) mod doctor;
pub(in crate::cli) mod init;
pub(in crate::cli) mod schema;
pub(in crate::cli) mod trust;
