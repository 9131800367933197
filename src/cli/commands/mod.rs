//! The commands. Each noun has a folder, and each command has a file with its arguments and its function.

pub(super) mod pipeline;
pub(super) mod project;
pub(super) mod runs;
pub(super) mod tools;
pub(super) mod utilities;
