//! Files that steps wrote and that were deleted or reverted since, according to the run's events.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexSet;

use crate::engine::Plan;
use crate::files::{ExternalReversion, FileLedger, Tree};
use crate::model::event::{Event, Fact, MissingFile};
use crate::model::{CallKey, RunId, StepKey};
use crate::store::{DryRunDurable, Workspace};

use super::dry_run::interpret_recorded;
use super::error::{ExitStatus, SessionError};
use super::writes::{StepWrite, step_writes};

/// The history of the files that a run's steps wrote, from the run's events.
pub(crate) struct FileHistory {
    /// The files, with their digests.
    ledger: FileLedger,
    writes: Vec<StepWrite>,
    /// The `seq` of the end of each step, the step, and whether it completed.
    step_ends: Vec<(u64, StepKey, bool)>,
    /// A step whose program was running when orch died, so that it may have deleted or reverted files.
    suspect: Option<StepKey>,
}

/// A file that was deleted, or reverted to its earlier contents.
pub(crate) struct RemovedFile {
    /// The file.
    pub(crate) file: ExternalReversion,
    /// The step that wrote it.
    pub(crate) step: StepKey,
    /// The `seq` of the step's result, if the step completed.
    pub(crate) completed: Option<u64>,
}

impl FileHistory {
    /// Reads the history from a run's events.
    pub(crate) fn from_events(run: RunId, events: &[Event]) -> Result<Self, SessionError> {
        let mut writes = step_writes(run, events)?;
        writes.retain(|write| write.applied_seq.is_some());
        writes.sort_by_key(|write| write.applied_seq);
        let mut history = Self { ledger: FileLedger::default(), writes, step_ends: Vec::new(), suspect: None };
        let (mut next_write, mut programs) = (0, IndexSet::new());
        for event in events {
            while let Some(write) = history.writes.get(next_write).filter(|write| write.applied_seq == Some(event.seq))
            {
                history.ledger.record(&write.changes);
                next_write += 1;
            }
            track_programs(&mut programs, &event.fact);
            match &event.fact {
                Fact::CallEnded(call) => {
                    call.reverted_files.iter().for_each(|path| history.ledger.forget(path));
                    if call.output.as_ref().is_some_and(|output| output.kind().properties().workspace.runs_program())
                        || call.model.is_none() && call.failure.is_some()
                    {
                        history.ledger.mark_external();
                    }
                }
                Fact::RunResumed(fact) => fact.missing_files.iter().for_each(|file| history.ledger.forget(&file.path)),
                Fact::StepCompleted(fact) => history.step_ends.push((event.seq, fact.step.clone(), true)),
                Fact::StepFailed(fact) => history.step_ends.push((event.seq, fact.step.clone(), false)),
                _ => {}
            }
        }
        history.suspect = programs.into_iter().next().map(|call| call.step);
        Ok(history)
    }

    /// The ledger of the files, for the process that resumes the run.
    pub(crate) fn ledger(&self) -> FileLedger {
        self.ledger.clone()
    }

    /// The step that may have deleted or reverted files itself when orch died.
    pub(crate) fn suspect(&self) -> Option<&StepKey> {
        self.suspect.as_ref()
    }

    /// The files of valid results that were deleted or reverted since.
    pub(crate) fn removed_files(
        &self,
        workspace: Option<&Workspace>,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<RemovedFile>, SessionError> {
        let tree = workspace.map(|workspace| Tree::open(workspace.folder())).transpose()?;
        let undone = self.ledger.reverted_files(tree.as_ref());
        if undone.is_empty() {
            return Ok(Vec::new());
        }
        let validity = valid_results.validity()?;
        let removed = undone.into_iter().filter_map(|file| {
            let write = self.writes.get(file.change_set_index)?;
            let (completed, is_valid) = self.result_of(write, validity);
            is_valid.is_some().then(|| RemovedFile { file, step: write.step.clone(), completed })
        });
        Ok(removed.collect())
    }

    /// The result of the step that made a write, if any, and its validity: `Some(true)` if it is certainly valid,
    /// `Some(false)` if it may be valid, `None` if it is not.
    fn result_of(&self, write: &StepWrite, validity: &HashMap<u64, bool>) -> (Option<u64>, Option<bool>) {
        match self.step_ends.iter().find(|(seq, step, _)| Some(*seq) > write.applied_seq && *step == write.step) {
            Some((seq, _, true)) => (Some(*seq), validity.get(seq).copied()),
            Some((_, _, false)) => (None, None),
            // The turn runs again, so nothing depends on its changes.
            None if write.may_be_incomplete => (None, None),
            // The step has no result yet; its attempt continues after the write, so the write is needed.
            None => (None, Some(true)),
        }
    }

    /// Messages about files that the user edited and that orch may overwrite, since their steps may run again.
    pub(crate) fn overwritable_edits(
        &self,
        workspace: &Workspace,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<String>, SessionError> {
        let edited = self.ledger.user_edits(&Tree::open(workspace.folder())?);
        if edited.is_empty() {
            return Ok(Vec::new());
        }
        let (validity, planned) = (valid_results.validity()?, valid_results.plan.planned_steps());
        let messages = edited.into_iter().filter_map(|(path, write_index)| {
            let write = self.writes.get(write_index)?;
            let is_valid = self.result_of(write, validity).1 == Some(true);
            let may_run = !is_valid && planned.iter().any(|step| step.step == write.step.declared_key());
            let file = workspace.folder().join(path);
            may_run.then(|| format!("`{}`, which step {} wrote, was edited since", file.display(), write.step))
        });
        Ok(messages.collect())
    }

    /// Restores files as their steps wrote them: all or none.
    pub(crate) fn restore(&self, workspace: &Workspace, removed: &[RemovedFile]) -> Result<(), SessionError> {
        let tree = Tree::open(workspace.folder())?;
        let states = removed.iter().filter_map(|RemovedFile { file, .. }| {
            let change =
                self.writes.get(file.change_set_index)?.changes.files.iter().find(|change| change.path == file.path)?;
            Some((file.path.clone(), change.after.clone()))
        });
        tree.restore(states).map_err(|failure| SessionError::from(failure).with_status(ExitStatus::Usage)).map(drop)
    }
}

/// Tracks the running programs: the commands and turns that have started and not ended.
fn track_programs(programs: &mut IndexSet<CallKey>, fact: &Fact) {
    match fact {
        Fact::CallStarted(fact) if fact.kind.properties().workspace.runs_program() => {
            programs.insert(fact.call.clone());
        }
        Fact::CallEnded(fact) => drop(programs.shift_remove(&fact.call)),
        Fact::RunResumed(_) | Fact::RunEnded(_) => programs.clear(),
        _ => {}
    }
}

impl RemovedFile {
    /// The record of a run that continues without the file; `is_accepted` is whether the user chose that.
    pub(crate) fn to_missing_file(&self, is_accepted: bool) -> MissingFile {
        MissingFile { path: self.file.path.clone(), result_seq: self.completed.filter(|_| is_accepted) }
    }

    /// A message about the deletion or reversion of the file.
    pub(crate) fn message(&self, folder: &Path) -> String {
        let change = if self.file.is_deleted { "was deleted" } else { "was reverted to its earlier contents" };
        format!("`{}`, which step {} wrote, {change}", folder.join(&self.file.path).display(), self.step)
    }
}

/// The results that are still valid, according to a dry run over the recorded events.
pub(crate) struct ValidResults<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) events: &'a [Event],
    pub(crate) from_step: Option<&'a StepKey>,
    /// The validity of the results, computed on first use.
    pub(crate) validity_cache: OnceCell<HashMap<u64, bool>>,
}

impl ValidResults<'_> {
    /// The valid results by the `seq` of their events, each with whether its validity is certain.
    fn validity(&self) -> Result<&HashMap<u64, bool>, SessionError> {
        if let Some(validity) = self.validity_cache.get() {
            return Ok(validity);
        }
        let dry_run = DryRunDurable::new(self.events, self.from_step);
        interpret_recorded(&dry_run, self.plan)?;
        Ok(self.validity_cache.get_or_init(|| dry_run.reusable_results()))
    }
}
