//! `orch pipeline validate`.

mod fix;
mod servers;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::agent::ModelRegistry;
use crate::check::{self, SharedSuppressions, Strictness};
use crate::cli::args::{TrustArgs, lookup};
use crate::cli::output::{FindingsArgs, FindingsFormat, Ui, print_findings};
use crate::cli::startup::runner;
use crate::config::{self, Sources};
use crate::diagnostic::{self, Diagnostic};
use crate::model::visible::escape_line_breaks;
use crate::runner::execute::resolve_path;
use crate::runner::models::{self, MissingKeys};
use crate::runner::project_state::{pipeline_files, project_root};
use crate::runner::{ExitStatus, Runner, RunnerError};
use crate::trust::{Disclosures, VariableDisclosures};

use servers::ProbeResults;

/// Check pipelines, prompts and schemas without running anything
///
/// Reports all findings at once, each with its file, line, column and advice. Without a path, orch checks every
/// pipeline and test case of the project. The exit code is 2 if there are errors, otherwise 0.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ValidateArgs {
    /// Pipeline files, names of pipelines, test case files, or folders of these [default: pipelines/]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    findings_args: FindingsArgs,

    /// Also report values that other YAML tools cannot read, and values about which the schemas say too little to check
    /// their uses
    #[arg(long)]
    strict: bool,

    /// Apply unambiguous fixes and list them, then check again
    #[arg(long)]
    fix: bool,

    /// Print the first changes that `--fix` would make as a diff, and change nothing
    #[arg(long, requires = "fix", conflicts_with = "format")]
    dry_run: bool,

    /// Also start the MCP servers that the pipelines name, and report tools that a server does not have
    #[arg(long, conflicts_with = "watch")]
    probe: bool,

    #[command(flatten)]
    trust: TrustArgs,

    /// Check again whenever a file of the project changes, until Ctrl-C
    #[arg(long, conflicts_with = "fix")]
    watch: bool,
}

pub(super) fn run(args: &ValidateArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    if args.watch {
        return watch::run(args, &runner, ui);
    }
    validate_once(args, &runner, ui)
}

fn validate_once(args: &ValidateArgs, runner: &Runner, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = runner.current_dir();
    let (paths, load_findings) = selected_files(&args.paths, current_dir)?;
    let strictness = if args.strict { Strictness::Strict } else { Strictness::Normal };
    let is_whole_project = args.paths.is_empty();
    let check_paths = |strictness| check_all(&paths, CheckOptions { strictness, is_whole_project }, runner);
    if args.fix {
        // Without `--strict`, the last check does not report values that other YAML tools cannot read.
        let check_fixable = || check_paths(Strictness::Portable).findings;
        if args.dry_run {
            ui.write_data(&fix::first_round_diff(&check_fixable()))?;
        } else {
            fix::apply_fixes(&check_fixable, ui)?;
        }
    }
    let CheckResults { mut findings, missing_keys, missing_requirements, .. } = check_paths(strictness);
    findings.extend(load_findings);
    let probed =
        if args.probe { servers::probe_servers(&paths, &args.trust, runner)? } else { ProbeResults::default() };
    findings.extend(probed.findings);
    diagnostic::sort_and_dedup(&mut findings);
    let checked_files: Vec<String> = paths.iter().map(|path| display_path(path)).collect();
    let noun = if paths.iter().any(|path| config::is_case(path)) { "file" } else { "pipeline" };
    let mut code = print_findings(&args.findings_args, &checked_files, findings, noun, ui)?;
    for failure in &probed.failures {
        ui.print_error(failure);
        code = ExitStatus::Usage;
    }
    if args.findings_args.format == FindingsFormat::Human {
        for note in disclosure_notes(&paths, runner)? {
            ui.print_always(&escape_line_breaks(&format!("{} {note}", ui.stderr_style.warning("note:"))));
        }
        for (variable, model) in missing_keys {
            let note = format!("{} {variable} is not set; {model} needs it to run", ui.stderr_style.warning("note:"));
            ui.print_always(&escape_line_breaks(&note));
        }
        for requirement in missing_requirements {
            let note = format!("{} {requirement}", ui.stderr_style.warning("note:"));
            ui.print_always(&escape_line_breaks(&note));
        }
    }
    Ok(code)
}

/// The shortest paths of the selected files. Also returns findings for the files and folders that orch can't read.
fn selected_files(paths: &[PathBuf], current_dir: &Path) -> Result<(Vec<PathBuf>, Vec<Diagnostic>), RunnerError> {
    let mut findings = Vec::new();
    if paths.is_empty() {
        let root = project_root(current_dir);
        let (mut files, findings) = pipeline_files(&root, current_dir);
        let cases = config::list_cases(&root);
        if !files.is_empty() {
            files.extend(cases.iter().map(|name| root.join(name)));
        }
        if files.is_empty() && !findings.iter().any(Diagnostic::is_error) {
            let error = RunnerError::usage("the project has no pipelines");
            return Err(error.with_hint("`orch init` creates a project with one"));
        }
        return Ok((files.iter().map(|path| resolve_path(path, current_dir)).collect(), findings));
    }
    let mut unique_files: Vec<PathBuf> = Vec::new();
    for path in paths {
        let files = if path.is_dir() {
            let (contained_files, problems) = config::pipelines_below(path);
            findings.extend(problems);
            if contained_files.is_empty() && !findings.iter().any(Diagnostic::is_error) {
                let error = RunnerError::usage(format!("there is no pipeline in `{}`", display_path(path)));
                return Err(error.with_hint("pipelines are `.yaml` files, usually in a folder `pipelines/`"));
            }
            contained_files
        } else {
            vec![lookup::find_pipeline(path, current_dir)?]
        };
        for file in files {
            let file = resolve_path(file.strip_prefix(".").unwrap_or(&file), current_dir);
            if !unique_files.contains(&file) {
                unique_files.push(file);
            }
        }
    }
    Ok((unique_files, findings))
}

/// The stack size of a thread that checks files, equal to the usual stack size of a main thread.
const CHECK_STACK_BYTES: usize = 8 << 20;

/// What a check covers.
#[derive(Clone, Copy)]
struct CheckOptions {
    strictness: Strictness,
    /// Whether the files are all pipelines and test cases of the project.
    is_whole_project: bool,
}

/// The results of the checks of several files.
#[derive(Default)]
struct CheckResults {
    findings: Vec<Diagnostic>,
    missing_keys: MissingKeys,
    /// Sentences about what MCP servers need and this machine lacks.
    missing_requirements: BTreeSet<String>,
    suppressions: SharedSuppressions,
}

impl CheckResults {
    fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.missing_keys.extend(other.missing_keys);
        self.missing_requirements.extend(other.missing_requirements);
        self.suppressions.merge(other.suppressions);
    }
}

/// Checks all files in parallel. Reports a finding only once, even if several pipelines use the same schema. A missing
/// key, variable or program is not a finding, because it depends on the machine.
fn check_all(paths: &[PathBuf], options: CheckOptions, runner: &Runner) -> CheckResults {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk_size = paths.len().div_ceil(threads).max(1);
    let mut results = CheckResults::default();
    std::thread::scope(|scope| {
        let spawn_check = |chunk| {
            let thread = std::thread::Builder::new().stack_size(CHECK_STACK_BYTES);
            (chunk, thread.spawn_scoped(scope, move || check_files(chunk, options, runner)))
        };
        let threads: Vec<_> = paths.chunks(chunk_size).map(spawn_check).collect();
        for (chunk, thread) in threads {
            results.merge(match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // If the system can't start another thread, check the files on this thread.
                Err(_) => check_files(chunk, options, runner),
            });
        }
    });
    if options.is_whole_project && !results.findings.iter().any(Diagnostic::is_error) {
        results.findings.extend(std::mem::take(&mut results.suppressions).into_unused());
    }
    diagnostic::sort_and_dedup(&mut results.findings);
    results
}

fn check_files(paths: &[PathBuf], options: CheckOptions, runner: &Runner) -> CheckResults {
    let mut results = CheckResults::default();
    for path in paths {
        let sources = runner.environment.sources();
        if config::is_case(path) {
            results.findings.extend(check::check_file(&sources, path, options.strictness));
            continue;
        }
        match config::load_from(&sources, path) {
            Ok(project) => {
                let (findings, suppressions) = check::check_with_suppressions(&project, options.strictness);
                results.findings.extend(findings);
                results.suppressions.merge(suppressions);
                results.missing_keys.extend(missing_keys(&project, runner));
                let missing = runner.missing_for_project(&project).into_iter();
                results.missing_requirements.extend(missing.map(|requirement| requirement.message));
            }
            Err(problems) => results.findings.extend(problems),
        }
    }
    results
}

fn missing_keys(project: &config::Project, runner: &Runner) -> MissingKeys {
    let model_refs = check::named_models(project);
    if model_refs.is_empty() {
        return MissingKeys::new();
    }
    let registry = ModelRegistry::new(&project.settings, &runner.environment.variable_lookup(), PathBuf::new());
    models::missing_keys(&model_refs, &registry)
}

/// Returns a line for each setting that sends data to another machine. Skips invalid settings, which have findings.
fn disclosure_notes(paths: &[PathBuf], runner: &Runner) -> Result<Vec<String>> {
    let roots: BTreeSet<PathBuf> = paths.iter().map(|path| config::find_root(path)).collect();
    let mut lines = Vec::new();
    for root in roots {
        let Ok(settings) = check::load_valid_settings(&Sources::default(), &root) else { continue };
        let disclosures = Disclosures::from_settings(&settings);
        let no_variables = VariableDisclosures::default();
        let trusted = runner.is_trusted(&runner.current_dir().join(&root), &disclosures, &no_variables)?;
        for disclosure in disclosures.needing_agreement() {
            let advice = if trusted { "" } else { "; a run needs `orch trust` first" };
            lines.push(format!("{disclosure}{advice}"));
        }
    }
    Ok(lines)
}

fn display_path(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}
