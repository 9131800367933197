//! The inputs of a run on the command line.

mod cli_inputs;
mod text;

pub(in crate::cli) use cli_inputs::CliInputs;
