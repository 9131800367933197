//! What people see of a run: consumers of events and signals, and nothing else.
//!
//! Knows events and [`crate::model::RunState`], never the engine or a provider. Writes only
//! to writers that it is given.

pub mod commands;
pub mod human;
pub mod junit;
pub mod lines;
pub mod live;
pub mod screen;
pub mod style;
pub mod summary;
pub mod width;

pub use commands::PrintedCommands;
pub use lines::LineReport;
pub use live::Live;
pub use style::{TerminalStyle, printable};
