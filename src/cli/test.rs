//! `orch pipeline test`: runs test cases offline, from recordings.

mod fresh;
mod stage;

use crate::session::execute::short_path;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::agent::Recorder;
use crate::config::{self, Document, Project, places};
use crate::engine::perform::Exchange;
use crate::folder::{FolderAccess, OwnFolder, TemporaryFolder};
use crate::model::case::{CannedAnswer, Case};
use crate::model::event::ApprovalDecision;
use crate::model::visible::{one_line, shown_path};
use crate::model::{RunState, RunStatus, StepKey, StepState};
use crate::report::human;
use crate::report::junit::{CaseResult, junit};
use crate::store::{ApprovalPrompter, Journal, WorkspaceView};
use crate::template::{TemplateContext, eval_bool};

use fresh::Fresh;

use super::trust::TrustArgs;
use super::ui::Ui;
use super::{here, runner, runtime};
use crate::session::execute;
use crate::session::project_state::without_link;
use crate::session::trust::Trusted;
use crate::session::{ExitStatus, IsolatedRun, SessionError, inputs, models, prepare};

/// Run the test cases of a project, offline, from recordings
///
/// A case names a pipeline, its inputs, a folder of recordings and what must come out. It runs in
/// a workspace and with a journal of its own, which are thrown away. Cases are the YAML files in
/// pipelines/tests/; `orch schema case` prints their format.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Test cases by their files or names, or folders of them; those of pipelines/tests/ when left out
    #[arg(value_name = "CASE")]
    cases: Vec<PathBuf>,

    /// Ask the models and record their answers anew
    #[arg(long)]
    update: bool,

    /// The model of every agent, with --update
    #[arg(long, short, value_name = "MODEL", requires = "update")]
    model: Option<String>,

    /// Agree to downloading the embedded model, with --update
    #[arg(long, short, requires = "update")]
    yes: bool,

    /// The form of the results
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: TestFormat,

    #[command(flatten)]
    trust: TrustArgs,
}

/// The form of the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum TestFormat {
    /// A line for each case.
    #[default]
    Human,
    /// A JUnit report on standard output.
    Junit,
}

pub(super) fn run(args: &TestArgs, ui: &mut Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    let files = cases(args, &here)?;
    let quiet = std::mem::replace(&mut ui.quiet, true);
    let mut results = Vec::new();
    for file in files {
        let began = Instant::now();
        let shown = shown_path(&short_path(&file, &here));
        let wrong = match one(args, &file, &here, ui) {
            Ok(wrong) => wrong,
            Err(error) if error.status() == ExitStatus::Interrupted => return Err(error),
            Err(error) if error.findings().is_empty() => {
                let said = std::iter::once(one_line(error.message()).into_owned());
                let said = said.chain(error.details().iter().cloned());
                let said = said.chain(error.hints().iter().map(|hint| format!("hint: {hint}")));
                vec![said.collect::<Vec<_>>().join("\n")]
            }
            Err(error) => {
                ui.error(&error);
                vec!["the files have mistakes".to_owned()]
            }
        };
        let result = CaseResult { name: shown, wrong, took: began.elapsed() };
        if args.format == TestFormat::Human && !quiet {
            tell(&result, ui)?;
        }
        results.push(result);
    }
    ui.quiet = quiet;
    let failed = results.iter().filter(|result| !result.wrong.is_empty()).count();
    match args.format {
        TestFormat::Human => ui.text(&format!("\n{} passed, {failed} failed", results.len() - failed))?,
        TestFormat::Junit => {
            let report = junit(&results).map_err(|error| SessionError::internal(error.to_string()))?;
            ui.data(&report)?;
        }
    }
    Ok(if failed == 0 { ExitStatus::Success } else { ExitStatus::Failed })
}

fn tell(result: &CaseResult, ui: &Ui) -> Result<(), SessionError> {
    let took = human::duration(result.took);
    if result.wrong.is_empty() {
        return ui.text(&format!("{}   {} ({took})", ui.out_style.good("ok"), result.name));
    }
    ui.text(&format!("{} {} ({took})", ui.out_style.bad("FAIL"), result.name))?;
    for line in result.wrong.iter().flat_map(|wrong| wrong.lines()) {
        ui.text(&format!("     {line}"))?;
    }
    Ok(())
}

/// The case files that are meant.
fn cases(args: &TestArgs, here: &Path) -> Result<Vec<PathBuf>, SessionError> {
    let given = if args.cases.is_empty() {
        let root = super::runs::root(here);
        vec![root.join("pipelines").join("tests")]
    } else {
        let named = |path: &PathBuf| Ok(here.join(super::named::case(path, here)?));
        args.cases.iter().map(named).collect::<Result<Vec<_>, SessionError>>()?
    };
    let hint = "a case is a YAML file in pipelines/tests/; `orch schema case` prints its format";
    let mut files = Vec::new();
    for path in given {
        let shown = shown_path(&short_path(&path, here));
        let failed =
            |error: std::io::Error| SessionError::usage(format!("the test cases of `{shown}` can't be read: {error}"));
        match std::fs::metadata(&path) {
            Ok(about) if about.is_dir() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {
                if args.cases.is_empty() {
                    continue;
                }
                return Err(SessionError::usage(format!("there is no test case `{shown}`")).hint(hint));
            }
            Err(error) if args.cases.is_empty() => return Err(failed(error)),
            // What can't be read says why when it is loaded.
            Ok(_) | Err(_) => {
                files.push(path);
                continue;
            }
        }
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(file);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(SessionError::usage("there are no test cases").hint(hint));
    }
    Ok(files)
}

/// Runs one case; what was not as expected.
fn one(args: &TestArgs, file: &Path, here: &Path, ui: &Ui) -> Result<Vec<String>, SessionError> {
    let (document, case) = config::load_case(&short_path(file, here))?;
    let folder = file.parent().unwrap_or(here);
    let runner = runner(ui)?;
    let project = prepare::load(&folder.join(&case.pipeline), args.model.as_deref(), &runner)?;
    let inputs = inputs::of(&project.pipeline, &case.inputs)?;
    let (root, _) = execute::places(&project, here);
    let runtime = runtime()?;
    let trusted = if args.update {
        runner.ensure_trusted(&root, &project.settings, args.trust.digest().as_deref())?
    } else {
        Trusted::not_needed()
    };
    let available = runner.models(&project.root, &project.settings, Some(&trusted));
    let recordings = recordings(&document, &case);
    let cases = OwnFolder::open(&without_link(folder.to_owned()), FolderAccess::Private);
    let cases = cases.map_err(|error| failed(folder, &error))?;
    let swept = fresh::sweep(&cases, &recordings);
    let fresh = if args.update { Some(swept.and_then(|()| Fresh::beside(&cases, &recordings))?) } else { None };
    let (exchange, names) = if let Some(fresh) = &fresh {
        let names = runtime.block_on(models::resolve(&project, &available, None, args.yes, &runner))?;
        let recorder = Recorder::new(&fresh.path()).map_err(|error| failed(&fresh.path(), &error))?;
        (Exchange { recorder: Some(Arc::new(recorder)), replay: None }, names)
    } else {
        let replay =
            if asks(&project) { Some(models::replay(&inside(&project, folder.join(&recordings))?)?) } else { None };
        (Exchange { replay, recorder: None }, models::replayed(&project))
    };
    let place =
        TemporaryFolder::make().map_err(|error| SessionError::usage(format!("no temporary folder: {error}")))?;
    let journal = Journal::open(&place.path().join("state"))?;
    let view = WorkspaceView::open(&place.path().join("workspace"))?;
    runtime.block_on(stage::set(&case, &root, folder, &runner, view.folder()))?;
    let state = runtime.block_on(runner.run_isolated(IsolatedRun {
        project: &project,
        inputs,
        model: args.model.clone(),
        names,
        models: available,
        exchange: exchange.clone(),
        journal: &journal,
        view: view.clone(),
        asker: Arc::new(Canned(case.answers.clone().into_iter().collect())),
    }))?;
    if execute::exit_status(&state) == ExitStatus::Interrupted {
        return Err(SessionError::usage("stopped before the cases were over").with_status(ExitStatus::Interrupted));
    }
    let mut wrong = compare(&case, &state, &view);
    wrong.extend(exchange.recorder.and_then(|recorder| recorder.failure()).map(|failure| failure.to_string()));
    match fresh {
        Some(fresh) if state.status == case.expect.status.unwrap_or(RunStatus::Completed) => {
            fresh.take(&recordings, case.recordings.is_none())?;
        }
        Some(_) => wrong.push("the recordings are as they were".to_owned()),
        None => {}
    }
    Ok(wrong)
}

/// Whether any step asks an agent; a pipeline of commands alone needs no recordings.
fn asks(project: &Project) -> bool {
    let steps = |project: &Project| places(&project.pipeline).iter().any(|(_, step)| step.agent.is_some());
    project.with_called().into_iter().any(steps)
}

/// The folder of a case's recordings: as it says, else named like the case.
fn recordings(document: &Document, case: &Case) -> String {
    let own = Path::new(&document.file.path).file_stem().unwrap_or_default();
    case.recordings.clone().unwrap_or_else(|| own.to_string_lossy().into_owned())
}

/// A path that a link must not lead out of its project.
fn inside(project: &Project, path: PathBuf) -> Result<PathBuf, SessionError> {
    if config::escapes(&project.root, &path) {
        let error = format!("`{}` is a link that leads out of the project", path.display());
        return Err(SessionError::usage(error).hint("copy what it leads to into the project"));
    }
    Ok(path)
}

fn failed(path: &Path, error: &std::io::Error) -> SessionError {
    SessionError::usage(format!("`{}`: {error}", path.display()))
}

/// What was not as the case expects.
fn compare(case: &Case, state: &RunState, view: &WorkspaceView) -> Vec<String> {
    let mut wrong = Vec::new();
    let expected = case.expect.status.unwrap_or(RunStatus::Completed);
    if state.status != expected {
        wrong.push(format!("the run {}, and {} was expected", state.status.as_str(), expected.as_str()));
        let failures = state.in_order().into_iter().filter_map(|step| Some((&step.step, step.failure.as_ref()?)));
        for (step, failure) in failures {
            wrong.push(format!("step {step}: {failure}"));
            wrong.extend(failure.hint.clone());
        }
        wrong.extend(state.failure.as_ref().map(ToString::to_string));
    }
    for (key, status) in &case.expect.steps {
        match state.steps.iter().find(|step| step.step.as_str() == key) {
            Some(step) if step.status == *status => {}
            Some(step) => wrong.push(format!("step {key} is {}, not {}", step.status.as_str(), status.as_str())),
            None => wrong.push(format!("there is no step {key}")),
        }
    }
    let mut context = TemplateContext::new();
    for (name, value) in &state.inputs {
        context.insert(name, value);
    }
    // What an item or a called pipeline gives is local to it, and has no file.
    let shown = |step: &&StepState| step.artifact.as_ref().is_some_and(|artifact| artifact.path.is_some());
    for artifact in state.in_order().into_iter().filter(shown).filter_map(|step| step.artifact.as_ref()) {
        context.insert(&artifact.name, &artifact.value);
    }
    for expression in &case.expect.assert {
        match eval_bool(expression, &context) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("`{expression}` is false")),
            Err(error) => wrong.push(format!("`{expression}`: {error}")),
        }
    }
    for file in &case.expect.files {
        // A link that the run made must not tell what there is elsewhere.
        let path = view.folder().join(file);
        if config::escapes(view.folder(), &path) || !path.is_file() {
            wrong.push(format!("the workspace has no file `{file}`"));
        }
    }
    wrong
}

/// Answers approvals as the case says.
struct Canned(std::collections::HashMap<String, CannedAnswer>);

impl ApprovalPrompter for Canned {
    fn ask(&self, step: StepKey, _: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let answer = self.0.get(step.last()).or_else(|| self.0.get(step.as_str()));
        let verdict = answer.map(|answer| ApprovalDecision {
            approved: answer.approved,
            note: answer.note.clone(),
            by: "test".to_owned(),
            at: jiff::Timestamp::now(),
        });
        async move { verdict }.boxed()
    }
}
