//! Keeps the findings for the open projects up to date.
//!
//! The work consists of small units (one pipeline with the files that it names, or the settings and schemas of a root),
//! so that a request never waits long. Each unit records the files that it read. An edit repeats only the units that
//! read the edited file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::documents::Documents;
use super::projects::{self, FileRole, classify_file};
use crate::check::{Strictness, check, check_file, check_prompt, load_valid_settings};
use crate::config::{self, Sources};
use crate::diagnostic::{self, Diagnostic};

/// The maximum number of findings that the server publishes for one file.
const MAX_FINDINGS: usize = 500;

/// A unit of work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CheckUnit {
    /// A pipeline or test case.
    File(PathBuf),
    /// The settings and the schemas of a root, including schemas that no pipeline names.
    Root(PathBuf),
    /// A prompt. The unit has findings only while no pipeline uses the prompt.
    Prompt(PathBuf),
}

/// The result of a unit.
#[derive(Debug, Default)]
struct UnitResult {
    findings: Vec<Diagnostic>,
    read_paths: BTreeSet<PathBuf>,
}

/// The results of all units, and the queue of units to repeat.
#[derive(Debug, Default)]
pub(super) struct Checks {
    roots: BTreeSet<PathBuf>,
    results: BTreeMap<CheckUnit, UnitResult>,
    queue: VecDeque<CheckUnit>,
}

/// The kind of change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// Its content changed.
    ContentChanged,
    /// The file was created, deleted or closed, so that names may now refer to other files.
    ExistenceChanged,
}

impl Checks {
    /// Returns the root that a file belongs to, even if the file was deleted.
    pub(super) fn root_of(&self, path: &Path, sources: &Sources) -> Option<PathBuf> {
        let known_root = || self.roots.iter().rev().find(|root| path.starts_with(root)).cloned();
        classify_file(path, sources).map(|project_file| project_file.root).or_else(known_root)
    }

    /// Records that a file changed, and queues the units that depend on it. Returns the files whose findings
    /// it removed.
    pub(super) fn file_changed(&mut self, path: &Path, event: FileEvent, documents: &Documents) -> BTreeSet<PathBuf> {
        let sources = documents.sources();
        let Some(root) = self.root_of(path, &sources) else { return BTreeSet::new() };
        let reads_file = |(_, result): &(&CheckUnit, &UnitResult)| result.read_paths.contains(path);
        let mut dependents: Vec<CheckUnit> =
            self.results.iter().filter(reads_file).map(|(unit, _)| unit.clone()).collect();
        // No unit reads this file and it is not a project file, so its content has no effect.
        if event == FileEvent::ContentChanged && dependents.is_empty() && classify_file(path, &sources).is_none() {
            return BTreeSet::new();
        }
        let is_new = self.roots.insert(root.clone());
        if is_new || event == FileEvent::ExistenceChanged || dependents.is_empty() {
            return self.queue_root(&root, path, documents, &sources);
        }
        move_to_front(&mut dependents, path);
        for unit in dependents {
            self.enqueue(unit);
        }
        BTreeSet::new()
    }

    /// Queues all units of a root, and removes units whose files no longer exist. Returns the files whose findings
    /// it removed.
    fn queue_root(
        &mut self,
        root: &Path,
        first_path: &Path,
        documents: &Documents,
        sources: &Sources,
    ) -> BTreeSet<PathBuf> {
        let files = projects::pipelines_and_test_cases(root, documents.paths(), sources);
        let mut units: Vec<CheckUnit> = files.into_iter().map(CheckUnit::File).collect();
        units.push(CheckUnit::Root(root.to_owned()));
        let is_prompt = |path: &&Path| {
            let project_file = classify_file(path, sources).filter(|project_file| project_file.root == root);
            project_file.is_some_and(|project_file| matches!(project_file.role, FileRole::Prompt(_)))
        };
        units.extend(documents.paths().filter(is_prompt).map(|path| CheckUnit::Prompt(path.to_owned())));
        move_to_front(&mut units, first_path);
        let is_in_root = |unit: &CheckUnit| match unit {
            CheckUnit::File(path) | CheckUnit::Root(path) | CheckUnit::Prompt(path) => path.starts_with(root),
        };
        let removed: Vec<CheckUnit> =
            self.results.keys().filter(|unit| is_in_root(unit) && !units.contains(unit)).cloned().collect();
        self.queue.retain(|unit| !is_in_root(unit) || units.contains(unit));
        let mut files = BTreeSet::new();
        for unit in removed {
            files.extend(self.results.remove(&unit).into_iter().flat_map(|result| finding_paths(&result.findings)));
        }
        for unit in units {
            self.enqueue(unit);
        }
        files
    }

    fn enqueue(&mut self, unit: CheckUnit) {
        if !self.queue.contains(&unit) {
            self.queue.push_back(unit);
        }
    }

    /// Removes all roots below a folder; returns the files whose findings it removed.
    pub(super) fn remove_folder(&mut self, folder: &Path) -> BTreeSet<PathBuf> {
        self.roots.retain(|root| !root.starts_with(folder));
        let is_in_folder = |unit: &CheckUnit| match unit {
            CheckUnit::File(path) | CheckUnit::Root(path) | CheckUnit::Prompt(path) => path.starts_with(folder),
        };
        self.queue.retain(|unit| !is_in_folder(unit));
        let mut files = BTreeSet::new();
        self.results.retain(|unit, result| {
            if is_in_folder(unit) {
                files.extend(finding_paths(&result.findings));
            }
            !is_in_folder(unit)
        });
        files
    }

    /// Returns whether no unit is queued.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Runs one unit; returns the files whose findings may have changed.
    pub(super) fn run_next(&mut self, documents: &mut Documents) -> BTreeSet<PathBuf> {
        let Some(unit) = self.queue.pop_front() else { return BTreeSet::new() };
        let sources = documents.sources();
        let findings = match &unit {
            CheckUnit::File(path) if config::is_case(path) => check_file(&sources, path, Strictness::Normal),
            CheckUnit::File(path) => match config::load_from(&sources, path) {
                Ok(project) => {
                    documents.mark_valid(path);
                    check(&project)
                }
                Err(findings) => findings,
            },
            CheckUnit::Root(root) => {
                let mut findings = load_valid_settings(&sources, root).err().unwrap_or_default();
                let schemas = config::load_schemas_from(&sources, root);
                findings.extend(schemas.map(|project| check(&project)).unwrap_or_default());
                findings
            }
            CheckUnit::Prompt(path) => self.check_unused_prompt(path, &sources),
        };
        let mut files = finding_paths(&findings);
        let result = UnitResult { findings, read_paths: sources.accessed_paths() };
        files.extend(result.read_paths.iter().filter(|path| documents.version(path).is_some()).cloned());
        files.extend(
            self.results.insert(unit, result).into_iter().flat_map(|previous| finding_paths(&previous.findings)),
        );
        files
    }

    /// Checks a prompt by itself. Returns no findings if a pipeline uses the prompt, because the unit of the pipeline
    /// checks it more thoroughly.
    fn check_unused_prompt(&self, path: &Path, sources: &Sources) -> Vec<Diagnostic> {
        let is_used = self
            .results
            .iter()
            .any(|(unit, result)| matches!(unit, CheckUnit::File(_)) && result.read_paths.contains(path));
        let display_path = path.to_string_lossy().replace('\\', "/");
        match sources.read(path, &display_path) {
            Ok(file) if !is_used => check_prompt(&file),
            Ok(_) => Vec::new(),
            Err(problem) => vec![*problem],
        }
    }

    /// Returns the findings in a file, sorted and without duplicates.
    pub(super) fn findings_in(&self, path: &Path) -> Vec<Diagnostic> {
        let display_path = path.to_string_lossy().replace('\\', "/");
        let is_in_file = |finding: &&Diagnostic| finding.file.as_ref().is_some_and(|file| file.path == display_path);
        let all_findings = self.results.values().flat_map(|result| &result.findings);
        let mut findings: Vec<Diagnostic> = all_findings.filter(is_in_file).cloned().collect();
        diagnostic::sort_and_dedup(&mut findings);
        findings.truncate(MAX_FINDINGS);
        findings
    }

    /// Returns the pipelines whose units read a file. The unit of a pipeline also reads the pipeline itself.
    pub(super) fn pipelines_that_read(&self, path: &Path) -> Vec<PathBuf> {
        let pipelines = self.results.iter().filter_map(|(unit, result)| match unit {
            CheckUnit::File(file) if !config::is_case(file) && result.read_paths.contains(path) => Some(file.clone()),
            CheckUnit::File(_) | CheckUnit::Root(_) | CheckUnit::Prompt(_) => None,
        });
        pipelines.collect()
    }
}

/// Moves the unit of a file to the front.
fn move_to_front(units: &mut [CheckUnit], path: &Path) {
    units.sort_by_key(|unit| !matches!(unit, CheckUnit::File(file) if file == path));
}

fn finding_paths(findings: &[Diagnostic]) -> BTreeSet<PathBuf> {
    findings.iter().filter_map(|finding| finding.file.as_ref()).map(|file| PathBuf::from(&file.path)).collect()
}
