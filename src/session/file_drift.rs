//! Finds files that steps wrote and that the user or another process has deleted or reverted since.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexSet;

use crate::engine::Plan;
use crate::files::{ExternalReversion, FileLedger, Tree};
use crate::model::event::{CallEnded, CallOutput, Event, Fact, MissingFile};
use crate::model::{CallKey, RunId, StepKey};
use crate::store::{DryRunDurable, Workspace};

use super::dry_run::interpret_recorded;
use super::error::{ExitStatus, SessionError};
use super::writes::{StepWrite, step_writes};

/// The history of the files that the steps of a run wrote.
pub(crate) struct FileHistory {
    /// The files that the steps wrote, with the digests of their contents.
    ledger: FileLedger,
    writes: Vec<StepWrite>,
    /// For each end of a step: the `seq` of its event, the step, and whether the step completed.
    step_ends: Vec<(u64, StepKey, bool)>,
    /// A step whose program or tool was running when orch died. It may have deleted or reverted files.
    step_running_at_crash: Option<StepKey>,
}

/// A file of a step that the user or another process deleted, or reverted to the contents before the step.
pub(crate) struct RemovedFile {
    /// The path, and whether the file was deleted or reverted.
    pub(crate) file: ExternalReversion,
    /// The step that wrote the file.
    pub(crate) step: StepKey,
    /// The `seq` of the event that records the step's result, if the step completed.
    pub(crate) result_seq: Option<u64>,
}

impl FileHistory {
    /// Reads the history from a run's events.
    pub(crate) fn from_events(run: RunId, events: &[Event]) -> Result<Self, SessionError> {
        let mut writes = step_writes(run, events)?;
        writes.retain(|write| write.applied_seq.is_some());
        writes.sort_by_key(|write| write.applied_seq);
        let mut history =
            Self { ledger: FileLedger::default(), writes, step_ends: Vec::new(), step_running_at_crash: None };
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
                    if runs_command(call) {
                        history.ledger.mark_external();
                    }
                }
                Fact::RunResumed(fact) => fact.missing_files.iter().for_each(|file| history.ledger.forget(&file.path)),
                Fact::StepCompleted(fact) => history.step_ends.push((event.seq, fact.step.clone(), true)),
                Fact::StepFailed(fact) => history.step_ends.push((event.seq, fact.step.clone(), false)),
                _ => {}
            }
        }
        history.step_running_at_crash = programs.into_iter().next().map(|call| call.step);
        Ok(history)
    }

    /// A copy of the ledger, for the process that resumes the run.
    pub(crate) fn ledger(&self) -> FileLedger {
        self.ledger.clone()
    }

    /// A step whose program or tool was running when orch died. It may have deleted or reverted files.
    pub(crate) fn step_running_at_crash(&self) -> Option<&StepKey> {
        self.step_running_at_crash.as_ref()
    }

    /// Finds the deleted and reverted files that belong to valid results.
    pub(crate) fn removed_files(
        &self,
        workspace: Option<&Workspace>,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<RemovedFile>, SessionError> {
        let tree = workspace.map(|workspace| Tree::open(workspace.folder())).transpose()?;
        let reverted_files = self.ledger.reverted_files(tree.as_ref());
        if reverted_files.is_empty() {
            return Ok(Vec::new());
        }
        let validity = valid_results.validity()?;
        let removed = reverted_files.into_iter().filter_map(|file| {
            let write = self.writes.get(file.change_set_index)?;
            let (result_seq, is_valid) = self.find_result(write, validity);
            is_valid.is_some().then(|| RemovedFile { file, step: write.step.clone(), result_seq })
        });
        Ok(removed.collect())
    }

    /// Finds the result of the step that made a write. Returns the `seq` of its event, if the step completed, and
    /// whether the result is certainly valid (`Some(true)`), possibly valid (`Some(false)`) or invalid (`None`).
    fn find_result(&self, write: &StepWrite, validity: &HashMap<u64, bool>) -> (Option<u64>, Option<bool>) {
        match self.step_ends.iter().find(|(seq, step, _)| Some(*seq) > write.applied_seq && *step == write.step) {
            Some((seq, _, true)) => (Some(*seq), validity.get(seq).copied()),
            Some((_, _, false)) => (None, None),
            // The turn runs again, so nothing depends on its changes.
            None if write.may_be_incomplete => (None, None),
            // The step has no result yet. Its attempt continues after the write and needs the written files.
            None => (None, Some(true)),
        }
    }

    /// Returns a message for each edited file that orch may overwrite, because the step that wrote it may run again.
    pub(crate) fn overwritable_edits(
        &self,
        workspace: &Workspace,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<String>, SessionError> {
        let edited_files = self.ledger.user_edits(&Tree::open(workspace.folder())?);
        if edited_files.is_empty() {
            return Ok(Vec::new());
        }
        let (validity, planned) = (valid_results.validity()?, valid_results.plan.planned_steps());
        let messages = edited_files.into_iter().filter_map(|(path, write_index)| {
            let write = self.writes.get(write_index)?;
            let is_valid = self.find_result(write, validity).1 == Some(true);
            let may_run = !is_valid && planned.iter().any(|step| step.step == write.step.declared_key());
            let file = workspace.folder().join(path);
            may_run.then(|| format!("`{}`, which step {} wrote, was edited since", file.display(), write.step))
        });
        Ok(messages.collect())
    }

    /// Returns a message for each file that orch can't compare with the record of a result that may be valid.
    pub(crate) fn incomparable_files(
        &self,
        workspace: &Workspace,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<String>, SessionError> {
        let incomparable = self.ledger.incomparable_files(&Tree::open(workspace.folder())?);
        if incomparable.is_empty() {
            return Ok(Vec::new());
        }
        let validity = valid_results.validity()?;
        let messages = incomparable.into_iter().filter_map(|(path, reason, write_index)| {
            let write = self.writes.get(write_index)?;
            self.find_result(write, validity).1?;
            let file = workspace.folder().join(path);
            Some(format!(
                "`{}`, which step {} wrote, {reason}; orch can't compare it, and resumes as if it were unchanged",
                file.display(),
                write.step
            ))
        });
        Ok(messages.collect())
    }

    /// Restores all files, or none, to the contents that the steps wrote.
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

/// Whether this is the end of a command, whose changes orch does not record. The changes of a tool are recorded.
fn runs_command(call: &CallEnded) -> bool {
    let is_command = |output: &CallOutput| output.kind().properties().workspace.runs_program();
    call.call.tool_call.is_none()
        && (call.output.as_ref().is_some_and(is_command) || call.model.is_none() && call.failure.is_some())
}

/// Updates the set of commands, turns and tool calls that may change files, and that have started and not ended.
fn track_programs(programs: &mut IndexSet<CallKey>, fact: &Fact) {
    match fact {
        Fact::CallStarted(fact) if fact.kind.properties().workspace.runs_program() || fact.kind.is_never_repeated() => {
            programs.insert(fact.call.clone());
        }
        Fact::CallEnded(fact) => drop(programs.shift_remove(&fact.call)),
        Fact::RunResumed(_) | Fact::RunEnded(_) => programs.clear(),
        _ => {}
    }
}

impl RemovedFile {
    /// Records that the run continues without the file. `is_accepted` is whether the user chose this.
    pub(crate) fn to_missing_file(&self, is_accepted: bool) -> MissingFile {
        MissingFile { path: self.file.path.clone(), result_seq: self.result_seq.filter(|_| is_accepted) }
    }

    /// A message that the file was deleted or reverted.
    pub(crate) fn message(&self, folder: &Path) -> String {
        let change = if self.file.is_deleted { "was deleted" } else { "was reverted to its earlier contents" };
        format!("`{}`, which step {} wrote, {change}", folder.join(&self.file.path).display(), self.step)
    }
}

/// The results that are still valid. A dry run over the recorded events determines them.
pub(crate) struct ValidResults<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) events: &'a [Event],
    /// A step that runs again even if orch could reuse its result.
    pub(crate) from_step: Option<&'a StepKey>,
    /// The result of [`ValidResults::validity`], computed on first use.
    pub(crate) validity_cache: OnceCell<HashMap<u64, bool>>,
}

impl ValidResults<'_> {
    /// For each result that may be valid: the `seq` of its event, and whether the result is certainly valid.
    fn validity(&self) -> Result<&HashMap<u64, bool>, SessionError> {
        if let Some(validity) = self.validity_cache.get() {
            return Ok(validity);
        }
        let dry_run = DryRunDurable::new(self.events, self.from_step);
        interpret_recorded(&dry_run, self.plan)?;
        Ok(self.validity_cache.get_or_init(|| dry_run.reusable_results()))
    }
}
