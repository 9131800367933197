//! `orch pipeline test`: runs test cases offline, from recordings.

mod new_recordings;
mod workspace_setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::agent::Recorder;
use crate::cli::args::{TrustArgs, agents, lookup};
use crate::cli::error::to_session_error;
use crate::cli::output::Ui;
use crate::cli::startup::{current_dir, runner, runtime};
use crate::config::{self, Document, Project, steps_with_pointers};
use crate::engine::perform::RecordReplay;
use crate::folder::{FolderAccess, NoFollowFolder, TemporaryFolder};
use crate::model::case::{CannedAnswer, Case};
use crate::model::event::ApprovalDecision;
use crate::model::visible::{escape_line_breaks, path_for_display};
use crate::model::{RunState, RunStatus, StepKey, StepState};
use crate::report::human;
use crate::report::junit::{CaseResult, junit_report};
use crate::session::execute::{self, resolve_path};
use crate::session::project_state::{project_root, resolve_link};
use crate::session::trust::Trusted;
use crate::session::{AgentChoices, ExitStatus, IsolatedRun, SessionError, inputs, models, prepare};
use crate::store::{ApprovalPrompter, Journal, Workspace};
use crate::template::{TemplateContext, eval_bool};

use new_recordings::NewRecordings;

/// Run the test cases of a project, offline, from recordings
///
/// A test case specifies a pipeline, its inputs, a folder of recordings and the expected result. orch
/// runs each case with a temporary workspace and journal. Test cases are the YAML files in
/// pipelines/tests/; `orch schema case` prints the schema of their format.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TestArgs {
    /// Test case files, their names, or folders of test cases [default: pipelines/tests/]
    #[arg(value_name = "CASE")]
    cases: Vec<PathBuf>,

    /// Call the models and record their replies again
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
    let mut results = Vec::new();
    for file in files {
        let start = Instant::now();
        let name = path_for_display(&resolve_path(&file, &current_dir));
        let problems = match run_case(args, &file, &current_dir, ui).map_err(to_session_error) {
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
    match args.format {
        TestFormat::Human => ui.write_text(&format!("\n{} passed, {failed} failed", results.len() - failed))?,
        TestFormat::Junit => {
            let report = junit_report(&results).map_err(|error| SessionError::internal(error.to_string()))?;
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
fn case_files(args: &TestArgs, current_dir: &Path) -> Result<Vec<PathBuf>, SessionError> {
    let paths = if args.cases.is_empty() {
        let root = project_root(current_dir);
        vec![root.join("pipelines").join("tests")]
    } else {
        let find_case = |path: &PathBuf| Ok(current_dir.join(lookup::find_case(path, current_dir)?));
        args.cases.iter().map(find_case).collect::<Result<Vec<_>, SessionError>>()?
    };
    let hint = "test cases are YAML files in pipelines/tests/; `orch schema case` prints the schema of their format";
    let mut files = Vec::new();
    for path in paths {
        let display_path = path_for_display(&resolve_path(&path, current_dir));
        let read_error = |error: std::io::Error| {
            SessionError::usage(format!("the test cases of `{display_path}` can't be read: {error}"))
        };
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {
                if args.cases.is_empty() {
                    continue;
                }
                return Err(SessionError::usage(format!("there is no test case `{display_path}`")).with_hint(hint));
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
            if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(file);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(SessionError::usage("there are no test cases").with_hint(hint));
    }
    Ok(files)
}

/// Runs one test case, and returns the differences from the expected result.
fn run_case(args: &TestArgs, file: &Path, current_dir: &Path, ui: &Ui) -> Result<Vec<String>> {
    let (document, case) = config::load_case(&resolve_path(file, current_dir)).map_err(SessionError::with_findings)?;
    let folder = file.parent().unwrap_or(current_dir);
    let runner = runner(ui)?;
    let choices = AgentChoices::new(args.model.as_ref(), &agents::by_name(&args.agents)?);
    let project = prepare::load(&folder.join(&case.pipeline), &choices, &runner)?;
    let inputs = inputs::complete_inputs(&project.pipeline, &case.inputs)?;
    let (root, _) = execute::root_and_file(&project, current_dir);
    let runtime = runtime()?;
    let trusted = if args.update {
        runner.ensure_trusted(&root, &project.settings, args.trust.digest().as_deref())?
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
    let (record_replay, resolved_models) = if let Some(new_recordings) = &new_recordings {
        let resolved_models =
            runtime.block_on(models::resolve_and_install(&project, &registry, None, args.yes, &runner))?;
        let recorder =
            Recorder::new(&new_recordings.path()).map_err(|error| path_error(&new_recordings.path(), &error))?;
        (RecordReplay { recorder: Some(Arc::new(recorder)), replay: None }, resolved_models)
    } else {
        let replay = if has_agents(&project) {
            let recordings = check_inside_project(&project, folder.join(&recordings))?;
            let case = path_for_display(&resolve_path(file, current_dir));
            let remedy = format!("record the replies with `orch pipeline test --update {case}`");
            Some(models::open_recordings(&recordings, Some(remedy))?)
        } else {
            None
        };
        (RecordReplay { replay, recorder: None }, models::replayed_models(&project))
    };
    let temporary_folder = TemporaryFolder::new()
        .map_err(|error| SessionError::usage(format!("can't create a temporary folder: {error}")))?;
    let journal = Journal::open(&temporary_folder.path().join("state"))?;
    let workspace = Workspace::open(&temporary_folder.path().join("workspace"))?;
    runtime.block_on(workspace_setup::prepare_workspace(&case, &root, folder, &runner, workspace.folder()))?;
    let state = runtime.block_on(runner.run_isolated(IsolatedRun {
        project: &project,
        inputs,
        choices,
        resolved_models,
        models: registry,
        record_replay: record_replay.clone(),
        journal: &journal,
        workspace: workspace.clone(),
        approver: Arc::new(CannedApprovals(case.answers.clone().into_iter().collect())),
    }))?;
    if execute::exit_status(&state) == ExitStatus::Interrupted {
        let error = SessionError::usage("interrupted before all test cases had run");
        return Err(error.with_status(ExitStatus::Interrupted).into());
    }
    let mut problems = compare_with_expected(&case, &state, &workspace);
    problems.extend(record_replay.recorder.and_then(|recorder| recorder.failure()).map(|failure| failure.to_string()));
    match new_recordings {
        Some(new_recordings) if state.status == case.expect.status.unwrap_or(RunStatus::Completed) => {
            new_recordings.replace_old(&recordings, case.recordings.is_none())?;
        }
        Some(_) => problems.push("the recordings are unchanged".to_owned()),
        None => {}
    }
    Ok(problems)
}

/// Whether any step has an agent. A pipeline without agents needs no recordings.
fn has_agents(project: &Project) -> bool {
    let has_agent_step =
        |project: &Project| steps_with_pointers(&project.pipeline).iter().any(|(_, step)| step.agent.is_some());
    project.with_called_projects().into_iter().any(has_agent_step)
}

/// The folder of a test case's recordings. By default, it has the name of the test case.
fn recordings_folder(document: &Document, case: &Case) -> String {
    let default_name = Path::new(&document.file.path).file_stem().unwrap_or_default();
    case.recordings.clone().unwrap_or_else(|| default_name.to_string_lossy().into_owned())
}

/// Returns the path, or an error if the path leads out of the project through a link.
fn check_inside_project(project: &Project, path: PathBuf) -> Result<PathBuf, SessionError> {
    if config::is_outside_folder(&project.root, &path) {
        let message = format!("`{}` is a link that leads out of the project", path.display());
        return Err(SessionError::usage(message).with_hint("copy its target into the project"));
    }
    Ok(path)
}

fn path_error(path: &Path, error: &std::io::Error) -> SessionError {
    SessionError::usage(format!("`{}`: {error}", path.display()))
}

/// Compares the result of a run with the expected result of the test case, and returns the differences.
fn compare_with_expected(case: &Case, state: &RunState, workspace: &Workspace) -> Vec<String> {
    let mut problems = Vec::new();
    let expected = case.expect.status.unwrap_or(RunStatus::Completed);
    if state.status != expected {
        problems.push(format!("the run {}, expected {}", state.status.as_str(), expected.as_str()));
        let failures =
            state.steps_in_file_order().into_iter().filter_map(|step| Some((&step.key, step.failure.as_ref()?)));
        for (step, failure) in failures {
            problems.push(format!("step {step}: {failure}"));
            problems.extend(failure.hint.clone());
        }
        problems.extend(state.failure.as_ref().map(ToString::to_string));
    }
    for (key, status) in &case.expect.steps {
        match state.steps.iter().find(|step| step.key.as_str() == key) {
            Some(step) if step.status == *status => {}
            Some(step) => problems.push(format!("step {key} is {}, not {}", step.status.as_str(), status.as_str())),
            None => problems.push(format!("there is no step {key}")),
        }
    }
    let mut context = TemplateContext::new();
    for (name, value) in &state.inputs {
        context.insert(name, value);
    }
    // Expressions can use only artifacts with a file. The artifacts of items and of called pipelines have no file.
    let has_file = |step: &&StepState| step.artifact.as_ref().is_some_and(|artifact| artifact.path.is_some());
    for artifact in state.steps_in_file_order().into_iter().filter(has_file).filter_map(|step| step.artifact.as_ref()) {
        context.insert(&artifact.name, &artifact.value);
    }
    for expression in &case.expect.assert {
        match eval_bool(expression, &context) {
            Ok(true) => {}
            Ok(false) => problems.push(format!("`{expression}` is false")),
            Err(error) => problems.push(format!("`{expression}`: {error}")),
        }
    }
    for file in &case.expect.files {
        // Do not follow links that the run created, because they could reveal files outside of the workspace.
        let path = workspace.folder().join(file);
        if config::is_outside_folder(workspace.folder(), &path) || !path.is_file() {
            problems.push(format!("the workspace has no file `{file}`"));
        }
    }
    problems
}

/// Answers approvals with the answers in the test case.
struct CannedApprovals(std::collections::HashMap<String, CannedAnswer>);

impl ApprovalPrompter for CannedApprovals {
    fn prompt(&self, step: StepKey, _: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let answer = self.0.get(step.last_segment()).or_else(|| self.0.get(step.as_str()));
        let decision = answer.map(|answer| ApprovalDecision {
            approved: answer.approved,
            note: answer.note.clone(),
            by: "test".to_owned(),
            at: jiff::Timestamp::now(),
        });
        async move { decision }.boxed()
    }
}
