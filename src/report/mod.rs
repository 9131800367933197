//! Shows runs to users: progress, summaries and test results.
//!
//! This module reads only events, progress messages and [`crate::model::RunState`], and never uses the engine or a
//! provider. It writes only to writers that the caller passes.

pub mod commands;
mod early_waits;
pub mod human;
pub mod junit;
pub mod lines;
pub mod live;
mod running_steps;
pub mod screen;
pub mod style;
pub mod summary;
mod tool_failures;
pub mod width;

pub use commands::{ResumeOption, SuggestedCommands};
pub use lines::LineReporter;
pub use live::{LineWriter, LiveReporter};
pub use style::{TerminalStyle, to_printable};
