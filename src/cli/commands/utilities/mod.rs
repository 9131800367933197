//! Commands that need no pipeline: for replies, codes, embedded models, editors and shells, and about orch itself.

pub(in crate::cli) mod completions;
pub(in crate::cli) mod explain;
pub(in crate::cli) mod extract;
pub(in crate::cli) mod lsp;
pub(in crate::cli) mod models;
pub(in crate::cli) mod self_update;
pub(in crate::cli) mod version;
