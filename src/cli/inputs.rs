//! The inputs of a run on the command line.

mod cli_inputs;
mod text;

pub(super) use cli_inputs::CliInputs;
