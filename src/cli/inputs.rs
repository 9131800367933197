//! The inputs of a run, as the command line gives them.

mod given;
mod text;

pub(super) use given::CliInputs;
