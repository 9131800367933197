//! What every implementation of [`Durable`](crate::durable::Durable) needs to know about the recorded events of a run.
//!
//! [`HistoryIndex`] finds what is still valid: results by their fingerprints, outcomes of calls, replies to parse again,
//! answers, and the execution ids that stand for the state of the workspace. The other functions turn what happens into
//! events ([`call_started`], [`call_ended`], [`HistoryIndex::record_of`]) and hold the rules of halted groups, of
//! `finally` and of stops ([`HaltedGroups`], [`GroupProgress`], [`StopLevel`]). The contract that they implement is in
//! the documentation of [`crate::durable`].
//!
//! This module is pure, so that two implementations cannot differ in what a resume reuses: it reads no file, no database
//! and no clock, spawns nothing and waits for nothing. Times are arguments.

mod approvals;
mod call_facts;
mod call_index;
mod call_replies;
mod changed_parts;
mod finally_steps;
mod group_progress;
mod halted_groups;
mod index;
mod pause;
mod step_facts;
mod step_opening;
mod stop_level;

pub use approvals::{approval_answered, approval_asked, question_digest};
pub use call_facts::{call_ended, call_started, outcome_or_interrupt, pipeline_call_started};
pub use group_progress::GroupProgress;
pub use halted_groups::HaltedGroups;
pub use index::HistoryIndex;
pub use pause::pause_millis;
pub use step_facts::StepRecord;
pub use step_opening::{EarlierResult, ReusedStep, completed_with};
pub use stop_level::StopLevel;

#[cfg(test)]
mod tests;
