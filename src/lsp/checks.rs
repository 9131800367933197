//! Keeps the findings for the open projects up to date.
//!
//! Work is split into small units (one pipeline with the files that it names, or the settings and schemas of a root),
//! so that a request never waits long. Each unit records which files it read; an edit repeats only the units that read
//! the edited file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::documents::Documents;
use super::projects::{self, FileRole, member};
use crate::check::{check, check_file, check_prompt};
use crate::config::{self, Sources};
use crate::diagnostic::{self, Diagnostic};

/// The most findings that the server publishes for one file.
const MAX_FOUND: usize = 500;

/// A unit of work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CheckUnit {
    /// A pipeline or test case.
    File(PathBuf),
    /// The settings and the schemas of a root, also those that no pipeline names.
    Root(PathBuf),
    /// A prompt; its unit has findings only while no pipeline uses the prompt.
    Prompt(PathBuf),
}

/// The result of a unit.
#[derive(Debug, Default)]
struct UnitResult {
    found: Vec<Diagnostic>,
    asked: BTreeSet<PathBuf>,
}

/// The results of all units, and the queue of units to repeat.
#[derive(Debug, Default)]
pub(super) struct Checks {
    roots: BTreeSet<PathBuf>,
    outcomes: BTreeMap<CheckUnit, UnitResult>,
    queue: VecDeque<CheckUnit>,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// Its content changed.
    Changed,
    /// The file was created, deleted or closed, so that names may now refer to other files.
    Listed,
}

impl Checks {
    /// The root that a file belongs to, even if the file was deleted.
    pub(super) fn root_of(&self, path: &Path, sources: &Sources) -> Option<PathBuf> {
        let known = || self.roots.iter().rev().find(|root| path.starts_with(root)).cloned();
        member(path, sources).map(|member| member.root).or_else(known)
    }

    /// Records that a file changed, and queues the units that depend on it. Returns the files whose findings this
    /// removed.
    pub(super) fn touch(&mut self, path: &Path, event: FileEvent, documents: &Documents) -> BTreeSet<PathBuf> {
        let sources = documents.sources();
        let Some(root) = self.root_of(path, &sources) else { return BTreeSet::new() };
        let asks = |(_, outcome): &(&CheckUnit, &UnitResult)| outcome.asked.contains(path);
        let mut asking: Vec<CheckUnit> = self.outcomes.iter().filter(asks).map(|(piece, _)| piece.clone()).collect();
        // No unit reads this file and it is not a project file, so its content can't matter.
        if event == FileEvent::Changed && asking.is_empty() && member(path, &sources).is_none() {
            return BTreeSet::new();
        }
        let new = self.roots.insert(root.clone());
        if new || event == FileEvent::Listed || asking.is_empty() {
            return self.all(&root, path, documents, &sources);
        }
        own_first(&mut asking, path);
        for piece in asking {
            self.want(piece);
        }
        BTreeSet::new()
    }

    /// Queues all units of a root, and removes those whose files no longer exist. Returns the files whose findings this
    /// removed.
    fn all(&mut self, root: &Path, first: &Path, documents: &Documents, sources: &Sources) -> BTreeSet<PathBuf> {
        let files = projects::files(root, documents.paths(), sources);
        let mut pieces: Vec<CheckUnit> = files.into_iter().map(CheckUnit::File).collect();
        pieces.push(CheckUnit::Root(root.to_owned()));
        let is_prompt = |path: &&Path| {
            let member = member(path, sources).filter(|member| member.root == root);
            member.is_some_and(|member| matches!(member.kind, FileRole::Prompt(_)))
        };
        pieces.extend(documents.paths().filter(is_prompt).map(|path| CheckUnit::Prompt(path.to_owned())));
        own_first(&mut pieces, first);
        let within = |piece: &CheckUnit| match piece {
            CheckUnit::File(path) | CheckUnit::Root(path) | CheckUnit::Prompt(path) => path.starts_with(root),
        };
        let gone: Vec<CheckUnit> =
            self.outcomes.keys().filter(|piece| within(piece) && !pieces.contains(piece)).cloned().collect();
        self.queue.retain(|piece| !within(piece) || pieces.contains(piece));
        let mut files = BTreeSet::new();
        for piece in gone {
            files.extend(self.outcomes.remove(&piece).into_iter().flat_map(|outcome| files_of(&outcome.found)));
        }
        for piece in pieces {
            self.want(piece);
        }
        files
    }

    fn want(&mut self, piece: CheckUnit) {
        if !self.queue.contains(&piece) {
            self.queue.push_back(piece);
        }
    }

    /// Removes all roots below a folder; returns the files whose findings this removed.
    pub(super) fn forget(&mut self, folder: &Path) -> BTreeSet<PathBuf> {
        self.roots.retain(|root| !root.starts_with(folder));
        let below = |piece: &CheckUnit| match piece {
            CheckUnit::File(path) | CheckUnit::Root(path) | CheckUnit::Prompt(path) => path.starts_with(folder),
        };
        self.queue.retain(|piece| !below(piece));
        let mut files = BTreeSet::new();
        self.outcomes.retain(|piece, outcome| {
            if below(piece) {
                files.extend(files_of(&outcome.found));
            }
            !below(piece)
        });
        files
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Runs one unit; returns the files whose findings may have changed.
    pub(super) fn step(&mut self, documents: &mut Documents) -> BTreeSet<PathBuf> {
        let Some(piece) = self.queue.pop_front() else { return BTreeSet::new() };
        let sources = documents.sources();
        let found = match &piece {
            CheckUnit::File(path) if config::is_case(path) => check_file(&sources, path),
            CheckUnit::File(path) => match config::load_from(&sources, path) {
                Ok(project) => {
                    documents.is_good(path);
                    check(&project)
                }
                Err(found) => found,
            },
            CheckUnit::Root(root) => {
                let mut found = config::load_settings_from(&sources, root).err().unwrap_or_default();
                found.extend(config::load_schemas_from(&sources, root).map(|all| check(&all)).unwrap_or_default());
                found
            }
            CheckUnit::Prompt(path) => self.prompt(path, &sources),
        };
        let mut files = files_of(&found);
        let outcome = UnitResult { found, asked: sources.asked() };
        files.extend(outcome.asked.iter().filter(|path| documents.version(path).is_some()).cloned());
        files.extend(self.outcomes.insert(piece, outcome).into_iter().flat_map(|before| files_of(&before.found)));
        files
    }

    /// Checks a prompt alone. Returns nothing if a pipeline uses the prompt, since that pipeline's unit finds more.
    fn prompt(&self, path: &Path, sources: &Sources) -> Vec<Diagnostic> {
        let used = self
            .outcomes
            .iter()
            .any(|(piece, outcome)| matches!(piece, CheckUnit::File(_)) && outcome.asked.contains(path));
        let shown = path.to_string_lossy().replace('\\', "/");
        match sources.read(path, &shown) {
            Ok(file) if !used => check_prompt(&file),
            Ok(_) => Vec::new(),
            Err(problem) => vec![*problem],
        }
    }

    /// All findings in a file, sorted and without duplicates.
    pub(super) fn of(&self, path: &Path) -> Vec<Diagnostic> {
        let shown = path.to_string_lossy().replace('\\', "/");
        let of = |d: &&Diagnostic| d.file.as_ref().is_some_and(|file| file.path == shown);
        let mut found: Vec<Diagnostic> = self.outcomes.values().flat_map(|o| &o.found).filter(of).cloned().collect();
        diagnostic::sort(&mut found);
        found.truncate(MAX_FOUND);
        found
    }

    /// The pipelines whose units read a file. A pipeline counts as a reader of itself.
    pub(super) fn users(&self, path: &Path) -> Vec<PathBuf> {
        let each = self.outcomes.iter().filter_map(|(piece, outcome)| match piece {
            CheckUnit::File(file) if !config::is_case(file) && outcome.asked.contains(path) => Some(file.clone()),
            CheckUnit::File(_) | CheckUnit::Root(_) | CheckUnit::Prompt(_) => None,
        });
        each.collect()
    }
}

/// Moves the unit of the file that the user is looking at to the front.
fn own_first(pieces: &mut [CheckUnit], path: &Path) {
    pieces.sort_by_key(|piece| !matches!(piece, CheckUnit::File(file) if file == path));
}

fn files_of(found: &[Diagnostic]) -> BTreeSet<PathBuf> {
    found.iter().filter_map(|d| d.file.as_ref()).map(|file| PathBuf::from(&file.path)).collect()
}
