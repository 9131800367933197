//! The commands, in one folder for each noun: one file per command, with its arguments and its function.

pub(super) mod pipeline;
pub(super) mod project;
pub(super) mod runs;
pub(super) mod utilities;
