//! `orch pipeline test`: runs test cases offline, from recordings.

mod case_recordings;
mod expectations;
mod failed_run;
mod new_recordings;
mod workspace_setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::agent::Recorder;
use crate::check;
use crate::cli::args::{TrustArgs, agents, lookup};
use crate::cli::error::to_runner_error;
use crate::cli::output::{INCOMPLETE_RECORDING_ADVICE, Ui};
use crate::cli::startup::{current_dir, runner, runtime};
use crate::config::{self, Document};
use crate::engine::perform::RecordReplay;
use crate::folder::{FolderAccess, NoFollowFolder, TemporaryFolder};
use crate::model::RunStatus;
use crate::model::test_case::TestCase;
use crate::model::visible::{escape_line_breaks, path_for_display};
use crate::report::human;
use crate::report::junit::{CaseResult, junit_report};
use crate::runner::execute::{self, resolve_path};
use crate::runner::passed_variables::variables_needing_agreement;
use crate::runner::project_state::{project_root, resolve_link};
use crate::runner::trust::Trusted;
use crate::runner::{AgentChoices, ExitStatus, IsolatedRun, RunnerError, inputs, models, prepare, run_replay};
use crate::store::{Journal, Workspace};

use case_recordings::UnusedNormalizers;
use expectations::CannedApprovals;
use failed_run::{FailedRun, STATE_FOLDER, WORKSPACE_FOLDER};
use new_recordings::NewRecordings;

/// Run the test cases of a project, offline, from recordings
///
/// A test case specifies a pipeline, its inputs, a folder of recordings and the expected result. The
/// recordings replace the models and, unless the case says `commands: run`, the commands. orch runs each
/// case with a temporary workspace and journal. Test cases are the YAML files in pipelines/tests/;
/// `orch schema case` prints the schema of their format.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TestArgs {
    /// Test case files, their names, or folders of test cases [default: pipelines/tests/]
    #[arg(value_name = "CASE")]
    cases: Vec<PathBuf>,

    /// Call the models, run the commands, and record their replies and results again
    #[arg(long)]
    update: bool,

    /// The model for every agent, with --update
    #[arg(long, short, value_name = "MODEL", requires = "update")]
    model: Option<String>,

    /// The model or CLI agent in place of one agent, as for `orch pipeline run`, with --update; can be repeated
    #[arg(long = "agent", value_name = "NAME=MODEL", value_parser = agents::parse, requires = "update")]
    agents: Vec<(String, String)>,

    /// Download the embedded model without asking, with --update
    #[arg(long, short, requires = "update")]
    yes: bool,

    /// Keep the workspace and the journal of each failed test case, and print where they are
    #[arg(long)]
    keep: bool,

    /// The format of the results
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: TestFormat,

    #[command(flatten)]
    trust: TrustArgs,
}

/// The format of the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum TestFormat {
    /// One line for each test case.
    #[default]
    Human,
    /// A JUnit report on standard output.
    Junit,
}

pub(super) fn run(args: &TestArgs, ui: &mut Ui) -> Result<ExitStatus> {
    let current_dir = current_dir()?;
    let files = case_files(args, &current_dir)?;
    if args.update {
        check_choices(args, &files, &current_dir, ui)?;
    }
    let quiet = std::mem::replace(&mut ui.quiet, true);
    let (mut results, mut warnings) = (Vec::new(), CaseWarnings::default());
    for file in files {
        let start = Instant::now();
        let name = path_for_display(&resolve_path(&file, &current_dir));
        let problems = match run_case(args, &file, &mut warnings, ui).map_err(to_runner_error) {
            Ok(problems) => problems,
            Err(error) if error.status() == ExitStatus::Interrupted => return Err(error.into()),
            Err(error) if error.findings().is_empty() => {
                let lines = std::iter::once(escape_line_breaks(error.message()).into_owned());
                let lines = lines.chain(error.details().iter().cloned());
                let lines = lines.chain(error.hints().iter().map(|hint| format!("hint: {hint}")));
                vec![lines.collect::<Vec<_>>().join("\n")]
            }
            Err(error) => {
                ui.print_error(&error);
                vec!["the files contain errors".to_owned()]
            }
        };
        let result = CaseResult { name, problems, duration: start.elapsed() };
        if args.format == TestFormat::Human && !quiet {
            print_result(&result, ui)?;
        }
        results.push(result);
    }
    ui.quiet = quiet;
    let failed = results.iter().filter(|result| !result.problems.is_empty()).count();
    let normalizer_warnings = warnings.unused_normalizers.warnings(failed == 0 && args.cases.is_empty());
    for warning in warnings.of_recordings.iter().map(String::as_str).chain(normalizer_warnings) {
        ui.print_always(&format!("{} {}", ui.stderr_style.warning("warning:"), escape_line_breaks(warning)));
    }
    match args.format {
        TestFormat::Human => ui.write_text(&format!("\n{} passed, {failed} failed", results.len() - failed))?,
        TestFormat::Junit => {
            let report = junit_report(&results).map_err(|error| RunnerError::internal(error.to_string()))?;
            ui.write_data(&report)?;
        }
    }
    Ok(if failed == 0 { ExitStatus::Success } else { ExitStatus::Failed })
}

/// Checks `--model` and `--agent` before the first case, because a mistake there is a mistake in every case.
fn check_choices(args: &TestArgs, files: &[PathBuf], current_dir: &Path, ui: &Ui) -> Result<()> {
    let choices = AgentChoices::new(args.model.as_ref(), &agents::by_name(&args.agents)?);
    // A case that can't be loaded fails with its own findings.
    let pipeline_of = |file: &PathBuf| {
        let (_, case) = config::load_case(&resolve_path(file, current_dir)).ok()?;
        Some(file.parent().unwrap_or(current_dir).join(case.pipeline))
    };
    let Some(pipelines) = files.iter().map(pipeline_of).collect::<Option<Vec<PathBuf>>>() else { return Ok(()) };
    prepare::check_choices(&pipelines, &choices, &runner(ui)?)?;
    Ok(())
}

fn print_result(result: &CaseResult, ui: &Ui) -> Result<()> {
    let duration = human::format_duration(result.duration);
    if result.problems.is_empty() {
        return ui.write_text(&format!("{}   {} ({duration})", ui.stdout_style.success("ok"), result.name));
    }
    ui.write_text(&format!("{} {} ({duration})", ui.stdout_style.error("FAIL"), result.name))?;
    for line in result.problems.iter().flat_map(|problem| problem.lines()) {
        ui.write_text(&format!("     {line}"))?;
    }
    Ok(())
}

/// The files of the selected test cases.
fn case_files(args: &TestArgs, current_dir: &Path) -> Result<Vec<PathBuf>, RunnerError> {
    let paths = if args.cases.is_empty() {
        let root = project_root(current_dir);
        vec![root.join("pipelines").join("tests")]
    } else {
        let find_case = |path: &PathBuf| Ok(current_dir.join(lookup::find_case(path, current_dir)?));
        args.cases.iter().map(find_case).collect::<Result<Vec<_>, RunnerError>>()?
    };
    let hint = "test cases are YAML files in pipelines/tests/; `orch schema case` prints the schema of their format";
    let mut files = Vec::new();
    for path in paths {
        let display_path = path_for_display(&resolve_path(&path, current_dir));
        let read_error = |error: std::io::Error| {
            RunnerError::usage(format!("the test cases of `{display_path}` can't be read: {error}"))
        };
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {
                if args.cases.is_empty() {
                    continue;
                }
                return Err(RunnerError::usage(format!("there is no test case `{display_path}`")).with_hint(hint));
            }
            Err(error) if args.cases.is_empty() => return Err(read_error(error)),
            // If orch can't read the file, it reports the error when it loads the file.
            Ok(_) | Err(_) => {
                files.push(path);
                continue;
            }
        }
        for entry in std::fs::read_dir(&path).map_err(read_error)? {
            let file = entry.map_err(read_error)?.path();
            let is_yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if is_yaml && !file.ends_with(config::SETTINGS_FILE) {
                files.push(file);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(RunnerError::usage("there are no test cases").with_hint(hint));
    }
    Ok(files)
}

/// What the user should know about the test cases, whether they passed or not.
#[derive(Debug, Default)]
struct CaseWarnings {
    unused_normalizers: UnusedNormalizers,
    /// What the recordings lack, each as a sentence that names the test case.
    of_recordings: Vec<String>,
}

/// Runs one test case, and returns the differences from the expected result. Adds to `warnings` the normalizers of a
/// passed test, and what the recordings lack.
fn run_case(args: &TestArgs, file: &Path, warnings: &mut CaseWarnings, ui: &Ui) -> Result<Vec<String>> {
    let current_dir = current_dir()?;
    let (document, case) = config::load_case(&resolve_path(file, &current_dir)).map_err(RunnerError::with_findings)?;
    let findings = check::check_case_normalizers(&document, &case.normalize);
    if !findings.is_empty() {
        return Err(RunnerError::with_findings(findings).into());
    }
    let folder = file.parent().unwrap_or(&current_dir);
    let runner = runner(ui)?;
    let choices = AgentChoices::new(args.model.as_ref(), &agents::by_name(&args.agents)?);
    let project = prepare::load(&folder.join(&case.pipeline), &choices, &runner)?;
    let inputs = inputs::complete_inputs(&project.pipeline, &case.inputs)?;
    let (root, _) = execute::root_and_file(&project, &current_dir);
    let runtime = runtime()?;
    let trusted = if args.update {
        let variables = variables_needing_agreement(&project);
        runner.ensure_trusted(&root, &project.settings, &variables, args.trust.digest().as_deref())?
    } else {
        Trusted::not_needed()
    };
    let registry = runner.model_registry(&project.root, &project.settings, Some(&trusted));
    let recordings = recordings_folder(&document, &case);
    let case_folder = NoFollowFolder::open(&resolve_link(folder.to_owned()), FolderAccess::Private);
    let case_folder = case_folder.map_err(|error| path_error(folder, &error))?;
    let cleanup_result = new_recordings::remove_abandoned_folders(&case_folder, &recordings);
    let new_recordings = if args.update {
        Some(cleanup_result.and_then(|()| NewRecordings::create_beside(&case_folder, &recordings))?)
    } else {
        None
    };
    let name = path_for_display(&resolve_path(file, &current_dir));
    let (record_replay, resolved_models) = if let Some(new_recordings) = &new_recordings {
        let resolved_models =
            runtime.block_on(models::resolve_and_install(&project, &registry, None, args.yes, &runner))?;
        let recorder =
            Recorder::new(&new_recordings.path()).map_err(|error| path_error(&new_recordings.path(), &error))?;
        let recorder = Some(Arc::new(recorder.with_commands(case.commands.clone())));
        (RecordReplay { recorder, ..RecordReplay::default() }, resolved_models)
    } else {
        let replay = case_recordings::open_replay(&case, &name, &project, folder.join(&recordings))?;
        (RecordReplay { replay, ..RecordReplay::default() }, models::replayed_models(&project))
    };
    let temporary_folder = TemporaryFolder::new()
        .map_err(|error| RunnerError::usage(format!("can't create a temporary folder: {error}")))?;
    let journal = Journal::open(&temporary_folder.path().join(STATE_FOLDER))?;
    let workspace = Workspace::open(&temporary_folder.path().join(WORKSPACE_FOLDER))?;
    runtime.block_on(workspace_setup::prepare_workspace(&case, &root, folder, &runner, workspace.folder()))?;
    let replay_in_record = || run_replay::replay_record(&folder.join(&recordings), &case.commands, &root, &current_dir);
    let state = runtime.block_on(runner.run_isolated(IsolatedRun {
        project: &project,
        inputs,
        choices,
        resolved_models,
        models: registry,
        replay: record_replay.replay.as_ref().map(|_| replay_in_record()),
        record_replay: record_replay.clone(),
        journal: &journal,
        workspace: workspace.clone(),
        approver: Arc::new(CannedApprovals::new(case.answers.clone())),
    }))?;
    if execute::exit_status(&state) == ExitStatus::Interrupted {
        let error = RunnerError::usage("interrupted before all test cases had run");
        return Err(error.with_status(ExitStatus::Interrupted).into());
    }
    let mut problems = expectations::compare_with_expected(&case, &state, &workspace);
    let omissions = record_replay.omissions().into_iter();
    let incomplete = omissions.map(|omission| format!("{omission}; {INCOMPLETE_RECORDING_ADVICE}"));
    let RecordReplay { recorder, replay, .. } = record_replay;
    let ran_commands = if replay.is_none() && !args.update {
        case_recordings::warning_about_commands(&case, &project, &recordings)
    } else {
        None
    };
    let of_case = |sentence: String| format!("{}: {sentence}", document.file.path);
    warnings.of_recordings.extend(incomplete.chain(ran_commands).map(of_case));
    problems.extend(recorder.and_then(|recorder| recorder.failure()).map(|failure| failure.to_string()));
    if problems.is_empty() && !args.update {
        warnings.unused_normalizers.add(&document, &case, &project, replay.as_deref());
    }
    match new_recordings {
        Some(new_recordings) if state.status == case.expect.status.unwrap_or(RunStatus::Completed) => {
            new_recordings.replace_old(&recordings, case.recordings.is_none())?;
        }
        Some(_) => problems.push("the recordings are unchanged".to_owned()),
        None => {}
    }
    if problems.is_empty() {
        return Ok(problems);
    }
    // The journal is complete and closed before its folder is deleted or kept.
    drop(journal);
    let update = if args.update { "--update " } else { "" };
    let keep_command = format!("orch pipeline test {update}--keep {name}");
    let failed_run = FailedRun { keep_command, run: state.run, folder: temporary_folder };
    Ok(if args.keep { failed_run.keep(&problems) } else { failed_run.delete(problems) })
}

/// The folder of a test case's recordings. By default, it has the name of the test case.
fn recordings_folder(document: &Document, case: &TestCase) -> String {
    let default_name = Path::new(&document.file.path).file_stem().unwrap_or_default();
    case.recordings.clone().unwrap_or_else(|| default_name.to_string_lossy().into_owned())
}

fn path_error(path: &Path, error: &std::io::Error) -> RunnerError {
    RunnerError::usage(format!("`{}`: {error}", path.display()))
}
