//! What the record of a run contains of the changes in its workspace, and where it is incomplete.

use std::collections::{HashMap, HashSet};
use std::fmt;

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;

use crate::files::{ChangeSet, FileChange, UnrecordedChange};
use crate::model::event::{CallKind, Event, Fact};
use crate::model::{AgentActivity, LeftOutReason, RunId, StepKey};
use crate::store::Journal;

use super::error::RunnerError;
use super::interrupted_turns::unrecorded_turns;
use super::writes::{StepWrite, UnrecordedFile, step_writes, unrecorded_files};

/// Why orch did not record the content of a file, if an older version of orch recorded no reason.
const UNKNOWN_REASON: &str = "it is large, unreadable or not a regular file, it contains a secret, or another process may \
                              have changed it";

/// The file changes of a run, from all attempts of its steps in all sessions.
pub(crate) struct RecordedChanges {
    /// The recorded changes, oldest first.
    pub(crate) writes: Vec<StepWrite>,
    /// The changed files whose contents orch did not record, oldest first, without repetitions.
    pub(crate) unrecorded: Vec<UnrecordedFile>,
    /// The places at which the list of changed files itself is incomplete.
    pub(crate) gaps: Vec<ChangeGap>,
    /// Whether commands ran, whose changes orch does not record.
    pub(crate) commands_ran: bool,
}

/// A place at which the list of changed files is incomplete, so that other files may have changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct ChangeGap {
    /// The step whose changes are incomplete; `None` if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<StepKey>,
    /// Why they are incomplete, as a sentence.
    pub(crate) reason: String,
}

impl fmt::Display for ChangeGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "{step}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl UnrecordedFile {
    /// Why orch did not record the content, as a clause with `it` for the file.
    pub(crate) fn clause(&self) -> &'static str {
        self.reason.map_or(UNKNOWN_REASON, LeftOutReason::as_clause)
    }
}

impl RecordedChanges {
    /// Reads the changes from a run's events, and from the files about turns that have not ended.
    ///
    /// # Errors
    /// An event contains changes that this version can't read.
    pub(crate) fn read(journal: &Journal, run: RunId, events: &[Event]) -> Result<Self, RunnerError> {
        let mut known_files = HashSet::new();
        let mut unrecorded = unrecorded_files(events);
        unrecorded.retain(|file| known_files.insert((file.step.clone(), file.path.clone(), file.clause())));
        let mut gaps = partial_lists(events);
        let (calls, errors) = unrecorded_turns(journal, run, events);
        for call in calls {
            let name = if call.is_tool_call { "tool call" } else { "turn" };
            let reason = format!(
                "the changes of a {name} are not recorded, because it has not ended or orch was killed during it; \
                 after a kill, `orch pipeline resume {run}` records them"
            );
            gaps.push(ChangeGap { step: Some(call.step), reason });
        }
        gaps.extend(errors.into_iter().map(|error| ChangeGap {
            step: None,
            reason: format!("the changes of an interrupted turn or tool call are unknown: {error}"),
        }));
        Ok(Self { writes: step_writes(run, events)?, unrecorded, gaps, commands_ran: has_commands(events) })
    }

    /// The message about a run without recorded changes. It says what orch does not know.
    pub(crate) fn describe_no_changes(&self, run: RunId) -> String {
        let is_incomplete = !self.gaps.is_empty() || self.writes.iter().any(|write| write.applied_seq.is_none());
        let limits = match (is_incomplete, self.commands_ran) {
            (false, false) => "",
            (true, false) => ", as far as orch knows",
            (_, true) => ", as far as orch knows; orch does not know the changes of commands",
        };
        format!("run {run} changed no files{limits}")
    }

    /// The changes to revert, oldest first. Of a write that may not have happened, they contain only the files that
    /// later changes found in the written state, and those that did not change later. The user may have edited the
    /// others before the step wrote them.
    pub(crate) fn change_sets_to_revert(&self) -> Vec<ChangeSet> {
        let mut change_sets = Vec::new();
        for (index, write) in self.writes.iter().enumerate() {
            let mut changes = write.changes.clone();
            if write.applied_seq.is_none() {
                let later_changes = || self.writes.iter().skip(index + 1).flat_map(|write| &write.changes.files);
                changes.files.retain(|change| {
                    let next_change = later_changes().find(|later| later.path == change.path);
                    next_change.is_none_or(|next| is_continued_by(change, next))
                });
            }
            change_sets.push(changes);
        }
        change_sets
    }

    /// The files that orch can't restore without `--force`, or not at all, each with the reason.
    pub(crate) fn unrecorded_changes(&self) -> Vec<UnrecordedChange> {
        let mut first_recorded: HashMap<&str, u64> = HashMap::new();
        for write in &self.writes {
            for change in &write.changes.files {
                first_recorded.entry(&change.path).or_insert(write.recorded_seq);
            }
        }
        let mut changes: IndexMap<&str, UnrecordedChange> = IndexMap::new();
        for file in &self.unrecorded {
            changes.entry(&file.path).or_insert_with(|| UnrecordedChange {
                path: file.path.clone(),
                reason: format!(
                    "was changed by step `{}`, but orch did not record its content: {}",
                    file.step,
                    file.clause()
                ),
                hides_original: first_recorded.get(file.path.as_str()).is_none_or(|seq| file.seq < *seq),
            });
        }
        changes.into_values().collect()
    }
}

/// Whether the file had the content after `change` when it was changed the next time.
fn is_continued_by(change: &FileChange, next: &FileChange) -> bool {
    change.after.as_ref().map(|state| &state.content) == next.before.as_ref().map(|state| &state.content)
}

/// The recorded lists of changed files that are incomplete: for each step, every reason once.
fn partial_lists(events: &[Event]) -> Vec<ChangeGap> {
    let mut gaps: IndexSet<ChangeGap> = IndexSet::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let note = call.activity().and_then(AgentActivity::partial_note);
        gaps.extend(note.map(|reason| ChangeGap { step: Some(call.call.step.clone()), reason }));
    }
    gaps.into_iter().collect()
}

/// Whether a command ran, whose changes orch does not record.
fn has_commands(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(&event.fact, Fact::CallStarted(call) if call.kind == CallKind::Command))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::files::{Content, FileState};
    use crate::model::Digest;

    /// A write that changes the file `a` from the first to the second text.
    fn write(seq: u64, before: &str, after: &str, is_applied: bool) -> StepWrite {
        let state = |text: &str| Some(FileState { content: Content::from(text.as_bytes().to_vec()), mode: None });
        let change = FileChange { path: "a".to_owned(), before: state(before), after: state(after) };
        StepWrite {
            step: StepKey::root("files"),
            changes: ChangeSet { files: vec![change], ..ChangeSet::default() },
            recorded_seq: seq,
            applied_seq: is_applied.then_some(seq + 1),
            is_agent_turn: false,
        }
    }

    fn nothing_recorded() -> RecordedChanges {
        RecordedChanges { writes: Vec::new(), unrecorded: Vec::new(), gaps: Vec::new(), commands_ran: false }
    }

    #[test]
    fn a_run_without_recorded_changes_says_what_orch_does_not_know() {
        let run = RunId(uuid::Uuid::nil());
        let gap = || ChangeGap { step: None, reason: "the changes are unknown".to_owned() };
        let commands = "orch does not know the changes of commands";
        for (gaps, commands_ran, expected) in [
            (Vec::new(), false, format!("run {run} changed no files")),
            (vec![gap()], false, format!("run {run} changed no files, as far as orch knows")),
            (Vec::new(), true, format!("run {run} changed no files, as far as orch knows; {commands}")),
            (vec![gap()], true, format!("run {run} changed no files, as far as orch knows; {commands}")),
        ] {
            let recorded = RecordedChanges { gaps, commands_ran, ..nothing_recorded() };
            assert_eq!(recorded.describe_no_changes(run), expected);
        }
        let recorded = RecordedChanges { writes: vec![write(1, "0", "1", false)], ..nothing_recorded() };
        assert!(recorded.describe_no_changes(run).ends_with(", as far as orch knows"));
    }

    #[test]
    fn each_reason_of_an_incomplete_list_is_given_once_for_each_step() {
        let ended = |seq: u64, step: &str, reason: &str| {
            let call = json!({
                "call": { "step": step, "attempt": 1, "ordinal": seq },
                "request_digest": Digest::compute(b"request"),
                "started": "2026-01-01T00:00:00Z",
                "ended": "2026-01-01T00:00:01Z",
                "agent_activity": AgentActivity::with_unknown_changes(reason),
            });
            let fact = Fact::CallEnded(serde_json::from_value(call).unwrap());
            Event { run: RunId(uuid::Uuid::nil()), seq, at: Timestamp::UNIX_EPOCH, fact }
        };
        let events = [ended(1, "a", "x"), ended(2, "a", "x"), ended(3, "a", "y"), ended(4, "b", "x")];
        let gaps: Vec<String> = partial_lists(&events).iter().map(ToString::to_string).collect();
        let expected = [("a", "x"), ("a", "y"), ("b", "x")].map(|(step, reason)| {
            format!("{step}: orch could not compare everything: {reason}; files may have changed")
        });
        assert_eq!(gaps, expected);
    }

    #[test]
    fn a_write_that_did_not_happen_does_not_determine_the_state_before_the_run() {
        let counts = |writes: Vec<StepWrite>| -> Vec<usize> {
            let recorded = RecordedChanges { writes, ..nothing_recorded() };
            recorded.change_sets_to_revert().iter().map(|change_set| change_set.files.len()).collect()
        };
        // The step failed, because the user edited the file, and then wrote the edited file.
        assert_eq!(counts(vec![write(1, "0", "1", false), write(3, "mine", "2", true)]), [0, 1]);
        // The next attempt found what the killed one had written.
        assert_eq!(counts(vec![write(1, "0", "1", false), write(3, "1", "2", true)]), [1, 1]);
        assert_eq!(counts(vec![write(1, "0", "1", false)]), [1]);
    }

    #[test]
    fn the_original_of_a_file_is_known_only_if_its_first_change_was_recorded() {
        for (seq, hides_original) in [(1, true), (5, false)] {
            let reason = Some(LeftOutReason::TooLarge);
            let file = UnrecordedFile { step: StepKey::root("code"), path: "a".to_owned(), reason, seq };
            let writes = vec![write(3, "0", "1", true)];
            let recorded = RecordedChanges { writes, unrecorded: vec![file], ..nothing_recorded() };
            let changes = recorded.unrecorded_changes();
            assert_eq!((changes.len(), changes[0].hides_original), (1, hides_original));
            assert!(changes[0].reason.starts_with("was changed by step `code`, but"), "{changes:?}");
        }
    }
}
