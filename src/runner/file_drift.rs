//! Finds files that steps wrote and that are no longer as the run left them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::files::{DifferingFile, FileDifference, FileLedger, Tree};
use crate::model::event::{CallEnded, Event, Fact, MissingFile};
use crate::model::visible::path_for_display;
use crate::model::{RunId, StepKey};
use crate::store::{DryRunDurable, Workspace};

use super::artifact_drift::DriftCheck;
use super::dry_run::interpret_recorded;
use super::error::{ExitStatus, RunnerError};
use super::writes::{StepWrite, step_writes, unrecorded_files};

/// The history of the files that the steps of a run wrote.
pub(crate) struct FileHistory {
    /// The writes of all attempts, oldest first.
    writes: Vec<StepWrite>,
    /// What the events say about the files, oldest first.
    entries: Vec<LedgerEntry>,
    /// For each end of a step: the `seq` of its event, the step, and whether the step completed.
    step_ends: Vec<(u64, StepKey, bool)>,
    /// The last change of each file of which orch did not record the content: the `seq` of its event, and the step.
    unrecorded: HashMap<String, (u64, StepKey)>,
}

/// What one event says about the files that the steps of a run wrote.
enum LedgerEntry {
    /// The write with this index is in the workspace.
    Written(usize),
    /// The run itself deleted or reverted this file, or the user accepted that it is missing.
    Forgotten(String),
}

/// The files of steps that are not as the run left them.
#[derive(Default)]
pub(crate) struct StepFileDrift {
    /// The files whose recorded contents are lost, or that orch can't read, and on which the resumed run relies.
    pub(crate) removed: Vec<RemovedFile>,
    /// A message for each edited file that orch may overwrite, because the step that wrote it may run again.
    pub(crate) overwritable: Vec<String>,
}

/// A file of a step that is deleted, replaced by another entry, has its contents before the step again, or can't be
/// read.
pub(crate) struct RemovedFile {
    /// The path relative to the workspace.
    path: String,
    state: RemovedState,
    /// The index of the write in [`FileHistory`].
    write_index: usize,
    /// The step that wrote the file.
    step: StepKey,
    /// The `seq` of the event that records the step's result, if the step completed.
    result_seq: Option<u64>,
}

/// What orch knows about the content of a removed file.
enum RemovedState {
    /// It is lost: what happened to the file, as the predicate of a sentence.
    Lost(String),
    /// Nothing, because of this error of the system.
    Unknown(String),
}

/// How a resume uses the files of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteUse {
    /// It reuses the result with this `seq`, certainly or possibly. The step had these files in its workspace.
    Result { seq: u64, is_certain: bool },
    /// It continues the attempt that made the write, or one that began with these files in its workspace.
    Continued,
}

impl FileHistory {
    /// Reads the history from a run's events.
    pub(crate) fn from_events(run: RunId, events: &[Event]) -> Result<Self, RunnerError> {
        let mut writes = step_writes(run, events)?;
        writes.retain(|write| write.applied_seq.is_some());
        writes.sort_by_key(|write| write.applied_seq);
        let (mut entries, mut step_ends) = (Vec::new(), Vec::new());
        let mut next_write = 0;
        for event in events {
            while writes.get(next_write).is_some_and(|write| write.applied_seq == Some(event.seq)) {
                entries.push(LedgerEntry::Written(next_write));
                next_write += 1;
            }
            match &event.fact {
                Fact::CallEnded(call) => {
                    entries.extend(call.reverted_files.iter().cloned().map(LedgerEntry::Forgotten));
                }
                Fact::RunResumed(fact) => {
                    let missing = fact.missing_files.iter().map(|file| file.path.clone());
                    entries.extend(missing.map(LedgerEntry::Forgotten));
                }
                Fact::StepCompleted(fact) => step_ends.push((event.seq, fact.step.clone(), true)),
                Fact::StepFailed(fact) => step_ends.push((event.seq, fact.step.clone(), false)),
                _ => {}
            }
        }
        let unrecorded = unrecorded_files(events).into_iter().map(|file| (file.path, (file.seq, file.step))).collect();
        Ok(Self { writes, entries, step_ends, unrecorded })
    }

    /// A ledger of the writes for which `is_included` is true, and the index of the write for each of its change sets.
    fn ledger_of(&self, is_included: impl Fn(&StepWrite) -> bool) -> (FileLedger, Vec<usize>) {
        let (mut ledger, mut write_indexes) = (FileLedger::default(), Vec::new());
        for entry in &self.entries {
            match entry {
                LedgerEntry::Written(index) => {
                    if let Some(write) = self.writes.get(*index).filter(|write| is_included(write)) {
                        ledger.record(&write.changes);
                        write_indexes.push(*index);
                    }
                }
                LedgerEntry::Forgotten(path) => ledger.forget(path),
            }
        }
        (ledger, write_indexes)
    }

    /// The files that the steps wrote, with the digests of their contents.
    pub(crate) fn ledger(&self) -> FileLedger {
        self.ledger_of(|_| true).0
    }

    /// Compares the files with their last recorded contents, and finds those that concern the resumed run.
    pub(crate) fn find_drift(&self, check: &DriftCheck<'_>) -> Result<StepFileDrift, RunnerError> {
        let tree = check.workspace.map(|workspace| Tree::open(workspace.folder())).transpose()?;
        let differing = self.ledger().differing_files(tree.as_ref());
        if differing.is_empty() {
            return Ok(StepFileDrift::default());
        }
        let reuse = Reuse::predict(check)?;
        let (edited, lost): (Vec<_>, Vec<_>) =
            differing.into_iter().partition(|file| file.difference == FileDifference::Edited);
        let lost_paths: HashSet<String> = lost.into_iter().map(|file| file.path).collect();
        // A later write of a step that runs again may hide that the file of an earlier step is missing.
        let (needed_files, write_indexes) = self.ledger_of(|write| self.use_of(write, &reuse).is_some());
        let needed = needed_files.differing_files(tree.as_ref()).into_iter();
        let removed = needed
            .filter(|file| lost_paths.contains(&file.path))
            .filter_map(|file| self.removed_file(file, &write_indexes, &reuse));
        let planned: HashSet<StepKey> = check.plan.planned_steps().into_iter().map(|step| step.step).collect();
        let overwritable = edited.into_iter().filter_map(|file| {
            let write = self.writes.get(file.change_set_index)?;
            let is_kept = match self.use_of(write, &reuse) {
                Some(WriteUse::Result { is_certain, .. }) => is_certain,
                Some(WriteUse::Continued) => true,
                None => false,
            };
            let may_run = !is_kept && planned.contains(&write.step.declared_key());
            let path = check.workspace?.folder().join(file.path);
            may_run
                .then(|| format!("`{}`, which step `{}` wrote, was changed since", path_for_display(&path), write.step))
        });
        Ok(StepFileDrift { removed: removed.collect(), overwritable: overwritable.collect() })
    }

    /// The file with the step that wrote it; `None` if it has new content. `write_indexes` has the index of the write for
    /// each change set.
    fn removed_file(&self, file: DifferingFile, write_indexes: &[usize], reuse: &Reuse) -> Option<RemovedFile> {
        let write_index = *write_indexes.get(file.change_set_index)?;
        let write = self.writes.get(write_index)?;
        let result_seq = match self.use_of(write, reuse) {
            Some(WriteUse::Result { seq, .. }) => Some(seq),
            Some(WriteUse::Continued) | None => None,
        };
        let DifferingFile { path, difference, .. } = file;
        let state = match difference {
            FileDifference::Deleted => RemovedState::Lost("was deleted".to_owned()),
            FileDifference::Reverted => RemovedState::Lost("was reverted to its earlier contents".to_owned()),
            FileDifference::Replaced(reason) => RemovedState::Lost(format!("was changed (it {reason})")),
            FileDifference::Unknown(reason) => RemovedState::Unknown(reason),
            FileDifference::Edited => return None,
        };
        Some(RemovedFile { path, state, write_index, step: write.step.clone(), result_seq })
    }

    /// How a resume uses the files of a write; `None` if the step runs again from the start, so that nothing depends on
    /// them.
    ///
    /// The files of all attempts of a step count, and not only those of the attempt that completed: later attempts
    /// found them in the workspace.
    fn use_of(&self, write: &StepWrite, reuse: &Reuse) -> Option<WriteUse> {
        let later_ends =
            self.step_ends.iter().filter(|(seq, step, _)| Some(*seq) > write.applied_seq && *step == write.step);
        let later_results: Vec<u64> =
            later_ends.filter(|(_, _, is_completed)| *is_completed).map(|(seq, ..)| *seq).collect();
        let reused = later_results.iter().rev().find_map(|seq| Some((*seq, *reuse.results.get(seq)?)));
        if let Some((seq, is_certain)) = reused {
            return Some(WriteUse::Result { seq, is_certain });
        }
        let last_continued = *reuse.last_continued_calls.get(&write.step)?;
        let is_continued =
            Some(last_continued) >= write.applied_seq && later_results.last().is_none_or(|seq| last_continued > *seq);
        is_continued.then_some(WriteUse::Continued)
    }

    /// Restores all files, or none, to the contents that the steps wrote.
    pub(crate) fn restore(&self, workspace: &Workspace, removed: &[RemovedFile]) -> Result<(), RunnerError> {
        self.check_restorable(removed)?;
        let tree = Tree::open(workspace.folder())?;
        let states = removed.iter().filter_map(|RemovedFile { path, write_index, .. }| {
            let changes = &self.writes.get(*write_index)?.changes;
            let change = changes.files.iter().find(|change| change.path == *path)?;
            Some((path.clone(), change.after.clone()))
        });
        tree.restore(states).map_err(|failure| RunnerError::from(failure).with_status(ExitStatus::Usage)).map(drop)
    }

    /// Checks that orch recorded the last contents of the files.
    pub(crate) fn check_restorable(&self, removed: &[RemovedFile]) -> Result<(), RunnerError> {
        let unknown = removed.iter().filter_map(|RemovedFile { path, write_index, .. }| {
            let write = self.writes.get(*write_index)?;
            let (seq, step) = self.unrecorded.get(path)?;
            (Some(*seq) > write.applied_seq)
                .then(|| format!("`{path}`: step `{step}` changed it later, and orch did not record its content"))
        });
        let unknown: Vec<String> = unknown.collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let error = RunnerError::usage("these files can't be restored, so orch restored none").with_details(unknown);
        Err(error.with_hint("--accept-changed continues without them; --from STEP runs a step again"))
    }
}

impl RemovedFile {
    /// Records that the user continues the run without the file.
    pub(crate) fn to_missing_file(&self) -> MissingFile {
        MissingFile { path: self.path.clone(), result_seq: self.result_seq }
    }

    /// A message about what happened to the file; an error with a message if orch can't find out.
    pub(crate) fn message(&self, folder: &Path) -> Result<String, String> {
        let file = format!("`{}`, which step `{}` wrote,", path_for_display(&folder.join(&self.path)), self.step);
        match &self.state {
            RemovedState::Lost(change) => Ok(format!("{file} {change}")),
            RemovedState::Unknown(reason) => Err(format!("{file} can't be compared: {reason}")),
        }
    }
}

/// The parts of the record that a resume reuses.
struct Reuse {
    /// The reusable results: the `seq` of the event, and whether the reuse is certain.
    results: HashMap<u64, bool>,
    /// For each step with an attempt that continues: the `seq` of the last event with an outcome that it takes.
    last_continued_calls: HashMap<StepKey, u64>,
}

impl Reuse {
    /// Determines the results that are still valid, and the attempts that continue, by a dry run over the events.
    fn predict(check: &DriftCheck<'_>) -> Result<Self, RunnerError> {
        let dry_run = DryRunDurable::new(check.events, check.from_step);
        interpret_recorded(&dry_run, check.plan)?;
        let continued_calls = dry_run.continued_calls();
        let mut last_continued_calls = HashMap::new();
        for event in check.events {
            if let Fact::CallEnded(call) = &event.fact
                && has_outcome(call)
                && continued_calls.contains(&call.call)
            {
                last_continued_calls.insert(call.call.step.clone(), event.seq);
            }
        }
        Ok(Self { results: dry_run.reusable_results(), last_continued_calls })
    }
}

/// Whether a resume can take the outcome of this call. A turn or a command without a reply runs again, so nothing
/// depends on its files.
fn has_outcome(call: &CallEnded) -> bool {
    call.reply.is_some() || call.output.is_some() || call.call.tool_call.is_some()
}
