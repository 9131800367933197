//! What users see of a run, derived from its events and signals.
//!
//! This module uses events and [`crate::model::RunState`], never the engine or a provider. It writes only to the
//! writers that it is given.

pub mod commands;
pub mod human;
pub mod junit;
pub mod lines;
pub mod live;
pub mod screen;
pub mod style;
pub mod summary;
pub mod width;

pub use commands::SuggestedCommands;
pub use lines::LineReporter;
pub use live::LiveReporter;
pub use style::{TerminalStyle, to_printable};
