//! Mutations of valid projects: how many mistakes the check reports, and whether it accepts right idioms.
//!
//! `mutations.yaml` has the mutations and what the check must say about each. Mutations that the check misses stay in
//! the file and count. `ORCH_UPDATE=1` writes the figures into the introduction of docs/checks.md.

mod published_schema;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use orch::check::check;
use orch::config::load;
use orch::diagnostic::{Diagnostic, RenderStyle, render_all, render_line};
use serde::Deserialize;
use tempfile::TempDir;

use crate::support::assert_stored;

/// The text about the figures in the introduction of docs/checks.md.
const FIGURES_FILE: &str = "src/diagnostic/explain/mutations.md";
/// The share of mistakes that the check must report, in percent.
const MIN_REPORTED_PERCENT: usize = 95;

/// A change of one file of a project.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    id: String,
    /// `shipped` for this repository, else a folder of `projects/`.
    project: String,
    file: String,
    /// A text that occurs once in the file.
    find: String,
    replace: String,
    expect: Expectation,
    /// The code that a finding must have.
    code: Option<String>,
    /// The line of the file that a finding must be on.
    line: Option<usize>,
    why: String,
}

/// What the check must say about a changed project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expectation {
    /// It has a finding.
    Reported,
    /// It has none.
    Fine,
}

fn mutations() -> Vec<Mutation> {
    serde_yaml::from_str(&fs::read_to_string("tests/it/mutations/mutations.yaml").unwrap()).unwrap()
}

fn project_names(mutations: &[Mutation]) -> BTreeSet<&str> {
    mutations.iter().map(|mutation| mutation.project.as_str()).collect()
}

/// The files directly in a folder, sorted.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// A copy of a project in a temporary folder.
struct ProjectCopy(TempDir);

impl ProjectCopy {
    fn new(name: &str) -> Self {
        let source = match name {
            "shipped" => PathBuf::from("."),
            name => Path::new("tests/it/mutations/projects").join(name),
        };
        let copy = Self(tempfile::tempdir().unwrap());
        let settings = source.join("orch.yaml");
        if settings.exists() {
            fs::copy(settings, copy.path("orch.yaml")).unwrap();
        }
        for folder in ["pipelines", "prompts", "schemas"] {
            fs::create_dir(copy.path(folder)).unwrap();
            for file in files_in(&source.join(folder)) {
                fs::copy(&file, copy.path(folder).join(file.file_name().unwrap())).unwrap();
            }
        }
        copy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What the check says about all pipelines.
    fn findings(&self) -> Vec<Diagnostic> {
        let pipelines = files_in(&self.path("pipelines")).into_iter();
        pipelines
            .flat_map(|pipeline| match load(&pipeline) {
                Ok(project) => check(&project),
                Err(findings) => findings,
            })
            .collect()
    }

    /// What the check says after a change. The change is undone afterwards.
    fn findings_after(&self, mutation: &Mutation) -> Vec<Diagnostic> {
        let path = self.path(&mutation.file);
        let text = fs::read_to_string(&path).unwrap();
        let count = text.matches(&mutation.find).count();
        assert_eq!(count, 1, "{}: `find` must occur once in {}", mutation.id, mutation.file);
        fs::write(&path, text.replace(&mutation.find, &mutation.replace)).unwrap();
        let findings = self.findings();
        fs::write(&path, text).unwrap();
        findings
    }
}

impl Mutation {
    /// Whether a finding reports the mistake: with the code and on the line that the mutation names.
    fn is_reported_by(&self, finding: &Diagnostic) -> bool {
        let has_code = self.code.as_ref().is_none_or(|code| finding.code.as_str() == code);
        let is_in_file = || finding.file.as_ref().is_some_and(|file| file.path.ends_with(&self.file));
        let is_on = |line: usize| is_in_file() && finding.line_column().is_some_and(|(found, _)| found == line);
        has_code && self.line.is_none_or(is_on)
    }

    fn is_as_expected(&self, findings: &[Diagnostic]) -> bool {
        match self.expect {
            Expectation::Reported => findings.iter().any(|finding| self.is_reported_by(finding)),
            Expectation::Fine => findings.is_empty(),
        }
    }

    fn describe(&self, findings: &[Diagnostic]) -> String {
        let wanted = match (&self.code, self.line) {
            (Some(code), Some(line)) => format!(" ({code} in line {line})"),
            (Some(code), None) => format!(" ({code})"),
            (None, Some(line)) => format!(" (line {line})"),
            (None, None) => String::new(),
        };
        let Self { id, project, file, find, replace, why, .. } = self;
        let lines: Vec<String> =
            findings.iter().map(|finding| format!("    {}", render_line(finding).trim_end())).collect();
        format!("{id}{wanted}: {why}\n  {project}/{file}: {find:?} -> {replace:?}\n{}", lines.join("\n"))
    }
}

/// A mutation with what the check says about the changed project.
type CheckedMutation<'a> = (&'a Mutation, Vec<Diagnostic>);

/// Applies the mutations of one project.
fn check_project<'a>(name: &str, mutations: &'a [Mutation]) -> Vec<CheckedMutation<'a>> {
    let copy = ProjectCopy::new(name);
    let of_project = mutations.iter().filter(|mutation| mutation.project == name);
    of_project.map(|mutation| (mutation, copy.findings_after(mutation))).collect()
}

/// Applies every mutation, with a thread for each project.
fn check_all(mutations: &[Mutation]) -> Vec<CheckedMutation<'_>> {
    std::thread::scope(|scope| {
        let names = project_names(mutations).into_iter();
        let threads: Vec<_> = names.map(|name| scope.spawn(move || check_project(name, mutations))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// How many mutations of one expectation the check treats as expected, with a description of each other one.
struct MutationCount {
    total: usize,
    failures: Vec<String>,
}

impl MutationCount {
    fn new(expect: Expectation, checked: &[CheckedMutation<'_>]) -> Self {
        let expected = checked.iter().filter(|(mutation, _)| mutation.expect == expect);
        let failures = expected.clone().filter(|(mutation, findings)| !mutation.is_as_expected(findings));
        Self {
            total: expected.count(),
            failures: failures.map(|(mutation, findings)| mutation.describe(findings)).collect(),
        }
    }

    fn successes(&self) -> usize {
        self.total - self.failures.len()
    }
}

/// The figures as a paragraph for docs/checks.md.
fn figures_text(mistakes: &MutationCount, idioms: &MutationCount) -> String {
    let (total, permille) = (mistakes.total + idioms.total, mistakes.successes() * 1000 / mistakes.total);
    format!(
        "A test makes {total} changes to valid projects: {} mistakes that people make, and {} correct changes.\n\
         `orch pipeline validate` reports {} of the mistakes ({}.{} %) and {} of the correct changes.\n",
        mistakes.total,
        idioms.total,
        mistakes.successes(),
        permille / 10,
        permille % 10,
        idioms.failures.len(),
    )
}

#[test]
fn the_projects_have_no_finding_before_a_mutation() {
    let mutations = mutations();
    for name in project_names(&mutations) {
        let findings = ProjectCopy::new(name).findings();
        assert!(findings.is_empty(), "{name}:\n{}", render_all(&findings, RenderStyle::default()));
    }
}

#[test]
fn the_mutations_are_many_distinct_and_of_both_kinds() {
    let mutations = mutations();
    let ids: BTreeSet<&str> = mutations.iter().map(|mutation| mutation.id.as_str()).collect();
    assert_eq!(ids.len(), mutations.len(), "two mutations have the same id");
    let fine = mutations.iter().filter(|mutation| mutation.expect == Expectation::Fine).count();
    assert!(mutations.len() >= 600 && fine >= 150, "{} mutations, {fine} of them fine", mutations.len());
    for mutation in &mutations {
        assert!(mutation.find != mutation.replace, "{} changes nothing", mutation.id);
        let names_a_finding = mutation.code.is_some() || mutation.line.is_some();
        assert!(mutation.expect == Expectation::Reported || !names_a_finding, "{}: no finding is fine", mutation.id);
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "`--nocapture` shows the mutations that the check misses")]
fn the_check_reports_mistakes_and_accepts_right_idioms() {
    let mutations = mutations();
    let checked = check_all(&mutations);
    let mistakes = MutationCount::new(Expectation::Reported, &checked);
    let idioms = MutationCount::new(Expectation::Fine, &checked);
    println!("{} of {} mistakes are not reported:", mistakes.failures.len(), mistakes.total);
    println!("{}", mistakes.failures.join("\n"));
    let alarms = idioms.failures.join("\n");
    assert!(idioms.failures.is_empty(), "{} false alarms:\n{alarms}", idioms.failures.len());
    let is_enough = mistakes.successes() * 100 >= mistakes.total * MIN_REPORTED_PERCENT;
    assert!(is_enough, "only {} of {} mistakes are reported", mistakes.successes(), mistakes.total);
    assert_stored(FIGURES_FILE, &figures_text(&mistakes, &idioms));
}
