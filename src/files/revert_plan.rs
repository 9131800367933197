//! Decides what a revert does with each file, before it changes anything.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::commit::{FileUpdate, read_state, remove_leftovers};
use super::obstacles::Obstacles;
use super::path::record_refusal_reason;
use super::problem::escaped_path;
use super::record::{
    ChangeKind, ChangeSet, FileChange, FileState, RevertOutcome, RevertedFile, describe_difference, states_match,
};
use super::repository::NewEntries;
use super::tree::{AccessError, Tree, ancestors_of};

/// The changes of a file that no change set contains, because its content was not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnrecordedChange {
    /// The path relative to the workspace.
    pub path: String,
    /// Why orch can't restore the file, after the word `it`: `was changed …`.
    pub reason: String,
    /// Whether the first of them came before all recorded changes of the file. Then its original state is unknown.
    pub hides_original: bool,
}

/// The files with unrecorded changes, by path.
pub(super) type UnrecordedChanges<'a> = IndexMap<&'a str, &'a UnrecordedChange>;

/// What decides, beside the states of the files, what a revert does.
pub(super) struct RevertRules<'a> {
    unrecorded: &'a UnrecordedChanges<'a>,
    /// The folders that did not exist before the changes.
    new_folders: HashSet<&'a str>,
    /// The folders in which there were files before the changes.
    original_folders: HashSet<&'a str>,
    /// The files that the revert may create.
    new_entries: NewEntries,
    force: bool,
    /// Whether orch only shows what it would do.
    is_preview: bool,
}

impl<'a> RevertRules<'a> {
    pub(super) fn new(
        change_set: &'a ChangeSet,
        unrecorded: &'a UnrecordedChanges<'a>,
        force: bool,
        is_preview: bool,
    ) -> Self {
        let restored = || {
            let files = change_set.files.iter().filter(|change| change.before.is_some());
            files.map(|change| change.path.as_str())
        };
        Self {
            unrecorded,
            new_folders: change_set.new_folders.iter().map(String::as_str).collect(),
            original_folders: restored().flat_map(ancestors_of).collect(),
            new_entries: NewEntries::of_files(restored()),
            force,
            is_preview,
        }
    }
}

/// What a revert does.
pub(super) struct RevertPlan<'a> {
    pub(super) updates: Vec<FileUpdate<'a>>,
    /// The entries in the place of the files that the revert restores.
    pub(super) obstacles: Obstacles,
    /// The outcome for each file.
    pub(super) files: Vec<RevertedFile>,
    /// The folders of the files that have their original state after the revert.
    pub(super) restored_folders: HashSet<&'a str>,
}

/// The outcome for a file, and the reason if orch skips it.
type RevertDecision = (RevertOutcome, Option<String>);

/// A file to revert, with what is in its place.
struct RevertFile<'a> {
    change: &'a FileChange,
    disk_state: DiskState,
}

/// What is at the path of a file.
enum DiskState {
    /// The file with this state; `None` if there is no file.
    Known(Option<FileState>),
    /// Other entries, and why orch can't restore the file as long as they stay.
    Occupied(Obstacles, String),
    /// orch can't revert the file, for this reason.
    Unusable(String),
}

impl<'a> RevertFile<'a> {
    fn path(&self) -> &'a str {
        &self.change.path
    }

    /// Whether a new file must stay if this file can't be restored: it is in the place of this file, or it contains the
    /// content of this file, which was moved.
    fn replacement_reason(&self, new: &Self) -> Option<String> {
        let path = escaped_path(self.path());
        if matches!(&self.disk_state, DiskState::Occupied(obstacles, _) if obstacles.has_file(new.path())) {
            return Some(format!("stays, because it is in the place of `{path}`, which orch can't restore"));
        }
        let (Some(before), None) = (&self.change.before, &self.change.after) else { return None };
        let DiskState::Known(Some(current)) = &new.disk_state else { return None };
        let is_moved = before.content == current.content && !before.content.bytes().is_empty();
        is_moved.then(|| format!("stays, because it has the content of `{path}`, which orch can't restore"))
    }
}

impl Tree {
    /// Decides what a revert does.
    pub(super) fn plan_revert<'a>(&self, change_set: &'a ChangeSet, rules: &RevertRules<'_>) -> RevertPlan<'a> {
        let may_differ = |change: &&FileChange| {
            change.kind() != ChangeKind::Unchanged || rules.unrecorded.contains_key(change.path.as_str())
        };
        let changes = change_set.files.iter().filter(may_differ);
        let files: Vec<RevertFile<'a>> =
            changes.map(|change| RevertFile { change, disk_state: self.examine(change, rules) }).collect();
        let decisions = self.decide(&files, rules);
        let mut plan = RevertPlan {
            updates: Vec::new(),
            obstacles: Obstacles::default(),
            files: Vec::new(),
            restored_folders: HashSet::new(),
        };
        for (RevertFile { change, disk_state }, (outcome, reason)) in files.into_iter().zip(decisions) {
            if outcome != RevertOutcome::Skipped && change.before.is_some() {
                plan.restored_folders.extend(ancestors_of(&change.path));
            }
            if outcome == RevertOutcome::Reverted {
                let current = match disk_state {
                    DiskState::Known(current) => current,
                    DiskState::Occupied(obstacles, _) => {
                        plan.obstacles.extend(obstacles);
                        None
                    }
                    // orch skips such a file.
                    DiskState::Unusable(_) => continue,
                };
                plan.updates.push(FileUpdate { path: &change.path, current, target: change.before.as_ref() });
            }
            plan.files.push(RevertedFile { path: change.path.clone(), outcome, reason });
        }
        plan
    }

    /// Finds out what is in the place of a file.
    fn examine(&self, change: &FileChange, rules: &RevertRules<'_>) -> DiskState {
        let path = change.path.as_str();
        if let Some(reason) = record_refusal_reason(path, change.before.is_some()) {
            return DiskState::Unusable(reason);
        }
        let cleaned = if rules.is_preview { Ok(()) } else { remove_leftovers(self, path) };
        let error = match read_state(self, path).and_then(|state| cleaned.map(|()| state)) {
            Ok(state) => return DiskState::Known(state),
            Err(error) => error,
        };
        let reason = error.to_string();
        if matches!(error, AccessError::Io(..)) {
            return DiskState::Unusable(reason);
        }
        match self.find_obstacles(path) {
            Ok(obstacles) if obstacles.is_empty() => DiskState::Unusable(reason),
            Ok(obstacles) if change.before.is_some() => DiskState::Occupied(obstacles, reason),
            // The folder that was there before the new file is there again.
            Ok(_) if rules.original_folders.contains(path) => DiskState::Known(None),
            // A folder of the new file no longer exists, so neither does the file.
            Ok(obstacles) if obstacles.replace_folder_of(path, |link| rules.unrecorded.contains_key(link)) => {
                DiskState::Known(None)
            }
            Ok(_) | Err(_) => DiskState::Unusable(reason),
        }
    }

    /// The decision about each file. A new file stays if the file that it replaces can't be restored, and then other
    /// files may not be restored either. So orch decides again until no further file stays.
    fn decide(&self, files: &[RevertFile<'_>], rules: &RevertRules<'_>) -> Vec<RevertDecision> {
        let mut kept: HashMap<&str, String> = HashMap::new();
        loop {
            let decisions = self.decide_with_kept(files, rules, &kept);
            let decided = || files.iter().zip(&decisions);
            let unrestored: Vec<&RevertFile<'_>> = decided()
                .filter(|(file, decision)| file.change.before.is_some() && decision.0 == RevertOutcome::Skipped)
                .map(|(file, _)| file)
                .collect();
            let newly_kept: Vec<(&str, String)> = decided()
                .filter(|(file, decision)| file.change.before.is_none() && decision.0 == RevertOutcome::Reverted)
                .filter_map(|(file, _)| {
                    let reason = unrestored.iter().find_map(|old| old.replacement_reason(file))?;
                    Some((file.path(), reason))
                })
                .collect();
            if newly_kept.is_empty() {
                return decisions;
            }
            kept.extend(newly_kept);
        }
    }

    /// The decision about each file if the new files in `kept` stay.
    fn decide_with_kept(
        &self,
        files: &[RevertFile<'_>],
        rules: &RevertRules<'_>,
        kept: &HashMap<&str, String>,
    ) -> Vec<RevertDecision> {
        let is_removed = |file: &&RevertFile<'_>| {
            file.change.before.is_none()
                && !kept.contains_key(file.path())
                && self.decide_file(file, rules, &HashSet::new()).0 == RevertOutcome::Reverted
        };
        let removed: HashSet<&str> = files.iter().filter(is_removed).map(RevertFile::path).collect();
        files
            .iter()
            .map(|file| match kept.get(file.path()) {
                Some(reason) => (RevertOutcome::Skipped, Some(reason.clone())),
                None => self.decide_file(file, rules, &removed),
            })
            .collect()
    }

    fn decide_file(&self, file: &RevertFile<'_>, rules: &RevertRules<'_>, removed: &HashSet<&str>) -> RevertDecision {
        match &file.disk_state {
            DiskState::Known(current) => self.outcome(file.change, current.as_ref(), rules),
            DiskState::Occupied(obstacles, reason) => {
                let is_link_of_program = |link: &str| rules.unrecorded.contains_key(link);
                if obstacles.are_removable(removed, &rules.new_folders, is_link_of_program) {
                    self.outcome(file.change, None, rules)
                } else {
                    (RevertOutcome::Skipped, Some(reason.clone()))
                }
            }
            DiskState::Unusable(reason) => (RevertOutcome::Skipped, Some(reason.clone())),
        }
    }

    /// The decision about a file whose state on disk is `current`.
    fn outcome(&self, change: &FileChange, current: Option<&FileState>, rules: &RevertRules<'_>) -> RevertDecision {
        let unrecorded = rules.unrecorded.get(change.path.as_str()).copied();
        let (outcome, reason) = outcome_of_states(change, unrecorded, current, rules.force);
        if outcome != RevertOutcome::Reverted || change.before.is_none() {
            return (outcome, reason);
        }
        match rules.new_entries.refusal_after_removal(self, &change.path) {
            Ok(None) => (outcome, reason),
            Ok(Some(refusal)) => (RevertOutcome::Skipped, Some(refusal)),
            Err(error) => (RevertOutcome::Skipped, Some(error.to_string())),
        }
    }
}

/// The outcome of reverting a file according to its states, and the reason if orch skips the file.
fn outcome_of_states(
    change: &FileChange,
    unrecorded: Option<&UnrecordedChange>,
    current: Option<&FileState>,
    force: bool,
) -> RevertDecision {
    if let Some(unrecorded) = unrecorded.filter(|unrecorded| unrecorded.hides_original) {
        return (RevertOutcome::Skipped, Some(unrecorded.reason.clone()));
    }
    let writable_before = change.before.as_ref().filter(|before| before.has_privilege_bits()).map(FileState::writable);
    if states_match(current, change.before.as_ref())
        || (writable_before.is_some() && states_match(current, writable_before.as_ref()))
    {
        return (RevertOutcome::Unchanged, None);
    }
    if force {
        return (RevertOutcome::Reverted, None);
    }
    if let Some(unrecorded) = unrecorded {
        return (RevertOutcome::Skipped, Some(unrecorded.reason.clone()));
    }
    if states_match(current, change.after.as_ref()) {
        return (RevertOutcome::Reverted, None);
    }
    let difference = describe_difference(current, change.after.as_ref());
    (RevertOutcome::Skipped, Some(format!("{difference} since orch wrote it")))
}
