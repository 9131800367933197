//! The outcome of a command that did not run.

use orch::durable::CallReply;
use orch::model::event::{CallOutput, CommandOutput};

/// What a call of a command returns that ended with this exit code and wrote this text to standard output.
pub(crate) fn command_output(exit_code: i32, stdout: String) -> CallReply {
    CallReply::Output(CallOutput::Command(CommandOutput {
        exit_code,
        stdout,
        stderr: String::new(),
        truncated: false,
        folder: String::new(),
        probable_limit: None,
        hidden_program: None,
        replayed: false,
    }))
}
