//! The output of the command line: data, messages, findings, results of runs, and downloads.

#[cfg(feature = "local")]
mod download;
mod findings;
mod path_base;
mod run_result;
mod terminal_prompter;
mod typed_input;
mod ui;

#[cfg(feature = "local")]
pub(super) use download::DownloadProgressView;
pub(super) use findings::{FindingsArgs, FindingsFormat, print_findings};
pub(super) use run_result::{INCOMPLETE_RECORDING_ADVICE, print_result};
pub(super) use ui::{ColourChoice, Ui, print_argument_error, user_name, wrapped_stop_message};
