//! Files that steps wrote and that were deleted or reverted since, derived from the run's events.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;

use crate::engine::Plan;
use crate::files::{FileLedger, Tree, UndoneFile};
use crate::model::event::{CallOutput, Event, Fact, MissingFile};
use crate::model::{RunId, StepKey};
use crate::store::{DryRunDurable, WorkspaceView};

use super::dry_run::interpret_recorded;
use super::error::{ExitStatus, SessionError};
use super::writes::{StepWrite, written};

/// What a run's events say about the files that its steps wrote.
pub(crate) struct FileHistory {
    /// The files, with their digests.
    laid: FileLedger,
    writes: Vec<StepWrite>,
    /// The ends of steps: the `seq` of the event, the step, and whether it completed.
    ends: Vec<(u64, StepKey, bool)>,
    /// A step whose program was running when orch died, so that it may have removed or reverted files.
    suspect: Option<StepKey>,
}

/// A file that was deleted, or reverted to what it was before.
pub(crate) struct RemovedFile {
    /// The file.
    pub(crate) file: UndoneFile,
    /// The step that wrote it.
    pub(crate) step: StepKey,
    /// The `seq` of the result that the file belongs to.
    pub(crate) completed: Option<u64>,
}

impl FileHistory {
    /// Reads the history from a run's events.
    pub(crate) fn of(run: RunId, events: &[Event]) -> Result<Self, SessionError> {
        let mut writes = written(run, events)?;
        writes.retain(|write| write.done.is_some());
        writes.sort_by_key(|write| write.done);
        let mut record = Self { laid: FileLedger::default(), writes, ends: Vec::new(), suspect: None };
        let (mut next, mut programs) = (0, IndexMap::new());
        for event in events {
            while let Some(write) = record.writes.get(next).filter(|write| write.done == Some(event.seq)) {
                record.laid.lay(&write.look);
                next += 1;
            }
            follow(&mut programs, &event.fact);
            match &event.fact {
                Fact::CallEnded(call) => {
                    call.reverted_files.iter().for_each(|path| record.laid.forget(path));
                    if matches!(call.output, Some(CallOutput::Command(_)))
                        || call.model.is_none() && call.failure.is_some()
                    {
                        record.laid.stir();
                    }
                }
                Fact::RunResumed(fact) => fact.missing_files.iter().for_each(|file| record.laid.forget(&file.path)),
                Fact::StepCompleted(fact) => record.ends.push((event.seq, fact.step.clone(), true)),
                Fact::StepFailed(fact) => record.ends.push((event.seq, fact.step.clone(), false)),
                _ => {}
            }
        }
        record.suspect = programs.into_iter().find_map(|(step, busy)| busy.then_some(step));
        Ok(record)
    }

    /// The files, for the process that resumes the run.
    pub(crate) fn laid(&self) -> FileLedger {
        self.laid.clone()
    }

    /// The step that may have removed or reverted files itself when orch died.
    pub(crate) fn suspect(&self) -> Option<&StepKey> {
        self.suspect.as_ref()
    }

    /// The files of valid results that were deleted or reverted since.
    pub(crate) fn taken(
        &self,
        view: Option<&WorkspaceView>,
        stands: &ValidResults<'_>,
    ) -> Result<Vec<RemovedFile>, SessionError> {
        let tree = view.map(|view| Tree::open(view.folder())).transpose()?;
        let undone = self.laid.undone(tree.as_ref());
        if undone.is_empty() {
            return Ok(Vec::new());
        }
        let standing = stands.told()?;
        let taken = undone.into_iter().filter_map(|file| {
            let write = self.writes.get(file.look)?;
            let (completed, keeps) = self.stands(write, standing);
            keeps.is_some().then(|| RemovedFile { file, step: write.step.clone(), completed })
        });
        Ok(taken.collect())
    }

    /// The result that a write belongs to, if any. Then whether that result is still valid: `true` for certain, `false`
    /// maybe, `None` if not.
    fn stands(&self, write: &StepWrite, standing: &HashMap<u64, bool>) -> (Option<u64>, Option<bool>) {
        match self.ends.iter().find(|(seq, step, _)| Some(*seq) > write.done && *step == write.step) {
            Some((seq, _, true)) => (Some(*seq), standing.get(seq).copied()),
            Some((_, _, false)) => (None, None),
            // The turn runs again, so nothing depends on what it left.
            None if write.cut => (None, None),
            // The step has no result yet; its attempt continues after the write, so the write is needed.
            None => (None, Some(true)),
        }
    }

    /// Messages about files that the user edited and that orch may overwrite, since their steps run again.
    pub(crate) fn in_the_way(
        &self,
        view: &WorkspaceView,
        stands: &ValidResults<'_>,
    ) -> Result<Vec<String>, SessionError> {
        let edited = self.laid.edited(&Tree::open(view.folder())?);
        if edited.is_empty() {
            return Ok(Vec::new());
        }
        let (standing, planned) = (stands.told()?, stands.plan.announced());
        let words = edited.into_iter().filter_map(|(path, look)| {
            let write = self.writes.get(look)?;
            let keeps = self.stands(write, standing).1 == Some(true);
            let runs = !keeps && planned.iter().any(|step| step.step == write.step.place());
            let file = view.folder().join(path);
            runs.then(|| format!("`{}`, which step {} wrote, was edited since", file.display(), write.step))
        });
        Ok(words.collect())
    }

    /// Restores files as their steps wrote them: all or none.
    pub(crate) fn restore(&self, view: &WorkspaceView, taken: &[RemovedFile]) -> Result<(), SessionError> {
        let tree = Tree::open(view.folder())?;
        let wanted = taken.iter().filter_map(|RemovedFile { file, .. }| {
            let made = self.writes.get(file.look)?.look.files.iter().find(|change| change.path == file.path)?;
            Some((file.path.clone(), made.after.clone()))
        });
        tree.restore(wanted).map_err(|failure| SessionError::from(failure).with_status(ExitStatus::Usage)).map(drop)
    }
}

/// Tracks the steps that may be programs, and whether each is running. Steps with a model can't change files; their
/// `max_usage` is known when they start.
fn follow(programs: &mut IndexMap<StepKey, bool>, fact: &Fact) {
    let (step, busy) = match fact {
        Fact::StepStarted(fact) if fact.max_usage.is_none() => {
            programs.insert(fact.step.clone(), true);
            return;
        }
        Fact::RunResumed(_) | Fact::RunEnded(_) => return programs.clear(),
        Fact::CallEnded(fact) => (&fact.call.step, Some(false)),
        Fact::ReplyParsed(fact) if fact.failure.is_some() => (&fact.call.step, Some(true)),
        Fact::StepCompleted(fact) => (&fact.step, None),
        Fact::StepFailed(fact) => (&fact.step, None),
        Fact::ApprovalAsked(fact) => (&fact.step, None),
        _ => return,
    };
    match (busy, programs.get_mut(step)) {
        (Some(busy), Some(known)) => *known = busy,
        (None, Some(_)) => drop(programs.shift_remove(step)),
        (_, None) => {}
    }
}

impl RemovedFile {
    /// What to record when the run continues without the file; `asked` is true if the user chose that.
    pub(crate) fn lost(&self, asked: bool) -> MissingFile {
        MissingFile { path: self.file.path.clone(), completed: self.completed.filter(|_| asked) }
    }

    /// A message about what happened to the file.
    pub(crate) fn words(&self, folder: &Path) -> String {
        let how = if self.file.gone { "was deleted" } else { "was put back to what it was before" };
        format!("`{}`, which step {} wrote, {how}", folder.join(&self.file.path).display(), self.step)
    }
}

/// The results that are still valid, as a dry run over the recorded events finds them.
pub(crate) struct ValidResults<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) events: &'a [Event],
    pub(crate) from: Option<&'a StepKey>,
    /// The results by the `seq` of their events, computed on first use.
    pub(crate) told: OnceCell<HashMap<u64, bool>>,
}

impl ValidResults<'_> {
    /// The valid results by the `seq` of their events, each with whether it is certain to stay valid.
    fn told(&self) -> Result<&HashMap<u64, bool>, SessionError> {
        if let Some(known) = self.told.get() {
            return Ok(known);
        }
        let rehearsal = DryRunDurable::new(self.events, self.from);
        interpret_recorded(&rehearsal, self.plan)?;
        Ok(self.told.get_or_init(|| rehearsal.standing()))
    }
}
