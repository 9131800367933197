//! Finds files that steps wrote and that the user or another process has deleted or reverted since.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use indexmap::IndexSet;

use crate::engine::Plan;
use crate::files::{ExternalReversion, FileLedger, Tree};
use crate::model::event::{CallEnded, CallKind, CallOutput, Event, Fact, MissingFile};
use crate::model::visible::path_for_display;
use crate::model::{CallKey, RunId, StepKey};
use crate::store::{DryRunDurable, Workspace};

use super::dry_run::interpret_recorded;
use super::error::{ExitStatus, RunnerError};
use super::writes::{StepWrite, step_writes, unrecorded_files};

/// The history of the files that the steps of a run wrote.
pub(crate) struct FileHistory {
    /// The files that the steps wrote, with the digests of their contents.
    ledger: FileLedger,
    /// The writes of all attempts, oldest first.
    writes: Vec<StepWrite>,
    /// What the events say about the files, oldest first.
    entries: Vec<LedgerEntry>,
    /// For each end of a step: the `seq` of its event, the step, and whether the step completed.
    step_ends: Vec<(u64, StepKey, bool)>,
    /// The last change of each file of which orch did not record the content: the `seq` of its event, and the step.
    unrecorded: HashMap<String, (u64, StepKey)>,
    /// A step whose program or tool was running when orch died. It may have deleted or reverted files.
    step_running_at_crash: Option<StepKey>,
}

/// What one event says about the files that the steps of a run wrote.
enum LedgerEntry {
    /// The write with this index is in the workspace.
    Written(usize),
    /// The run itself deleted or reverted this file, or the user accepted that it is missing.
    Forgotten(String),
    /// A command ran, whose changes orch does not record.
    CommandEnded,
}

/// A file of a step that the user or another process deleted, or reverted to the contents before the step.
pub(crate) struct RemovedFile {
    /// The path, whether the file was deleted or reverted, and the index of the write in [`FileHistory`].
    file: ExternalReversion,
    /// The step that wrote the file.
    step: StepKey,
    /// The `seq` of the event that records the step's result, if the step completed.
    result_seq: Option<u64>,
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
        let (mut next_write, mut programs) = (0, IndexSet::new());
        for event in events {
            while writes.get(next_write).is_some_and(|write| write.applied_seq == Some(event.seq)) {
                entries.push(LedgerEntry::Written(next_write));
                next_write += 1;
            }
            track_programs(&mut programs, &event.fact);
            match &event.fact {
                Fact::CallEnded(call) => {
                    entries.extend(call.reverted_files.iter().cloned().map(LedgerEntry::Forgotten));
                    if runs_command(call) {
                        entries.push(LedgerEntry::CommandEnded);
                    }
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
        let step_running_at_crash = programs.into_iter().next().map(|call| call.step);
        let ledger = FileLedger::default();
        let mut history = Self { ledger, writes, entries, step_ends, unrecorded, step_running_at_crash };
        history.ledger = history.ledger_of(|_| true).0;
        Ok(history)
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
                LedgerEntry::CommandEnded => ledger.mark_external(),
            }
        }
        (ledger, write_indexes)
    }

    /// A copy of the ledger, for the process that resumes the run.
    pub(crate) fn ledger(&self) -> FileLedger {
        self.ledger.clone()
    }

    /// A step whose program or tool was running when orch died. It may have deleted or reverted files.
    pub(crate) fn step_running_at_crash(&self) -> Option<&StepKey> {
        self.step_running_at_crash.as_ref()
    }

    /// Finds the deleted and reverted files on which the resumed run relies.
    pub(crate) fn removed_files(
        &self,
        workspace: Option<&Workspace>,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<RemovedFile>, RunnerError> {
        let tree = workspace.map(|workspace| Tree::open(workspace.folder())).transpose()?;
        let changed_paths: HashSet<String> =
            self.ledger.reverted_files(tree.as_ref()).into_iter().map(|file| file.path).collect();
        if changed_paths.is_empty() {
            return Ok(Vec::new());
        }
        let reuse = valid_results.reuse()?;
        // A later write of a step that runs again may hide that the file of an earlier step is missing.
        let (needed_files, write_indexes) = self.ledger_of(|write| self.use_of(write, reuse).is_some());
        let mut removed = Vec::new();
        for file in needed_files.reverted_files(tree.as_ref()) {
            let Some(index) = write_indexes.get(file.change_set_index).copied() else { continue };
            let Some(write) = self.writes.get(index).filter(|_| changed_paths.contains(&file.path)) else { continue };
            let result_seq = match self.use_of(write, reuse) {
                Some(WriteUse::Result { seq, .. }) => Some(seq),
                Some(WriteUse::Continued) | None => None,
            };
            let file = ExternalReversion { change_set_index: index, ..file };
            removed.push(RemovedFile { file, step: write.step.clone(), result_seq });
        }
        Ok(removed)
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

    /// Returns a message for each edited file that orch may overwrite, because the step that wrote it may run again.
    pub(crate) fn overwritable_edits(
        &self,
        workspace: &Workspace,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<String>, RunnerError> {
        let edited_files = self.ledger.user_edits(&Tree::open(workspace.folder())?);
        if edited_files.is_empty() {
            return Ok(Vec::new());
        }
        let (reuse, planned) = (valid_results.reuse()?, valid_results.plan.planned_steps());
        let messages = edited_files.into_iter().filter_map(|(path, write_index)| {
            let write = self.writes.get(write_index)?;
            let is_kept = match self.use_of(write, reuse) {
                Some(WriteUse::Result { is_certain, .. }) => is_certain,
                Some(WriteUse::Continued) => true,
                None => false,
            };
            let may_run = !is_kept && planned.iter().any(|step| step.step == write.step.declared_key());
            let file = workspace.folder().join(path);
            may_run
                .then(|| format!("`{}`, which step `{}` wrote, was edited since", path_for_display(&file), write.step))
        });
        Ok(messages.collect())
    }

    /// Returns a message for each file on which the resumed run relies and that orch can't compare with the record.
    pub(crate) fn incomparable_files(
        &self,
        workspace: &Workspace,
        valid_results: &ValidResults<'_>,
    ) -> Result<Vec<String>, RunnerError> {
        let incomparable = self.ledger.incomparable_files(&Tree::open(workspace.folder())?);
        if incomparable.is_empty() {
            return Ok(Vec::new());
        }
        let reuse = valid_results.reuse()?;
        let messages = incomparable.into_iter().filter_map(|(path, reason, write_index)| {
            let write = self.writes.get(write_index)?;
            self.use_of(write, reuse)?;
            let file = workspace.folder().join(path);
            Some(format!(
                "`{}`, which step `{}` wrote, {reason}; orch can't compare it, and resumes as if it were unchanged",
                path_for_display(&file),
                write.step
            ))
        });
        Ok(messages.collect())
    }

    /// Restores all files, or none, to the contents that the steps wrote.
    pub(crate) fn restore(&self, workspace: &Workspace, removed: &[RemovedFile]) -> Result<(), RunnerError> {
        self.check_restorable(removed)?;
        let tree = Tree::open(workspace.folder())?;
        let states = removed.iter().filter_map(|RemovedFile { file, .. }| {
            let change =
                self.writes.get(file.change_set_index)?.changes.files.iter().find(|change| change.path == file.path)?;
            Some((file.path.clone(), change.after.clone()))
        });
        tree.restore(states).map_err(|failure| RunnerError::from(failure).with_status(ExitStatus::Usage)).map(drop)
    }

    /// Checks that orch recorded the last contents of the files.
    pub(crate) fn check_restorable(&self, removed: &[RemovedFile]) -> Result<(), RunnerError> {
        let unknown = removed.iter().filter_map(|RemovedFile { file, .. }| {
            let write = self.writes.get(file.change_set_index)?;
            let (seq, step) = self.unrecorded.get(&file.path)?;
            (Some(*seq) > write.applied_seq).then(|| {
                format!("`{}`: step `{step}` changed it later, and orch did not record its content", file.path)
            })
        });
        let unknown: Vec<String> = unknown.collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let error = RunnerError::usage("these files can't be restored, so orch restored none").with_details(unknown);
        Err(error.with_hint("--accept-changed continues without them; --from STEP runs a step again"))
    }
}

/// Whether this is the end of a command, whose changes orch does not record. The changes of a tool are recorded.
fn runs_command(call: &CallEnded) -> bool {
    let is_command = |output: &CallOutput| output.kind() == CallKind::Command;
    call.call.tool_call.is_none()
        && (call.output.as_ref().is_some_and(is_command) || call.model.is_none() && call.failure.is_some())
}

/// Updates the set of commands, turns and tool calls that may change files, and that have started and not ended.
fn track_programs(programs: &mut IndexSet<CallKey>, fact: &Fact) {
    match fact {
        Fact::CallStarted(fact) => {
            let properties = fact.kind.properties();
            if properties.workspace.runs_program() || properties.keeps_turn_start {
                programs.insert(fact.call.clone());
            }
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
        format!("`{}`, which step `{}` wrote, {change}", path_for_display(&folder.join(&self.file.path)), self.step)
    }
}

/// The results that are still valid, and the attempts that continue. A dry run over the recorded events determines them.
pub(crate) struct ValidResults<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) events: &'a [Event],
    /// A step that runs again even if orch could reuse its result.
    pub(crate) from_step: Option<&'a StepKey>,
    /// The result of [`ValidResults::reuse`], computed on first use.
    pub(crate) reuse_cache: OnceCell<Reuse>,
}

/// The parts of the record that a resume reuses.
pub(crate) struct Reuse {
    /// The reusable results: the `seq` of the event, and whether the reuse is certain.
    results: HashMap<u64, bool>,
    /// For each step with an attempt that continues: the `seq` of the last event with an outcome that it takes.
    last_continued_calls: HashMap<StepKey, u64>,
}

impl ValidResults<'_> {
    fn reuse(&self) -> Result<&Reuse, RunnerError> {
        if let Some(reuse) = self.reuse_cache.get() {
            return Ok(reuse);
        }
        let dry_run = DryRunDurable::new(self.events, self.from_step);
        interpret_recorded(&dry_run, self.plan)?;
        let continued_calls = dry_run.continued_calls();
        let mut last_continued_calls = HashMap::new();
        for event in self.events {
            if let Fact::CallEnded(call) = &event.fact
                && has_outcome(call)
                && continued_calls.contains(&call.call)
            {
                last_continued_calls.insert(call.call.step.clone(), event.seq);
            }
        }
        Ok(self.reuse_cache.get_or_init(|| Reuse { results: dry_run.reusable_results(), last_continued_calls }))
    }
}

/// Whether a resume can take the outcome of this call. A turn or a command without a reply runs again, so nothing
/// depends on its files.
fn has_outcome(call: &CallEnded) -> bool {
    call.reply.is_some() || call.output.is_some() || call.call.tool_call.is_some()
}
