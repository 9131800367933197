//! Resumes a run, or shows what a resume would do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::agent::ModelRegistry;
use crate::config::Project;
use crate::diagnostic::did_you_mean;
use crate::engine::Plan;
use crate::engine::perform::Exchange;
use crate::model::budget::Budget;
use crate::model::event::{Event, Fact, RunPlace, RunResumed};
use crate::model::{ModelRef, RunId, RunState, RunStatus, StepKey};
use crate::store::{Journal, RunRow, WorkspaceView};

use super::artifact_drift::{AcceptedDrift, ChangedFiles, DriftCheck, listed};
use super::dry_run::{PlannedAction, actions};
use super::error::SessionError;
use super::execute::{self, RunContext};
use super::inputs;
use super::location::{Location, locate, pipeline_file, run_workspace};
use super::locks::RunLocks;
use super::prepare::{self, PlanOptions};
use super::project_state::{StateFolder, find_run, project_root};
use super::trackers::Trackers;
use super::trust::Trusted;
use super::{RunResult, Runner, interrupted_turns, models, project_files};

/// What [`Runner::resume`] resumes, and how.
#[derive(Clone, Debug, Default)]
pub struct ResumeRequest {
    /// The run, by its id or the start of it; if `None`, the latest one that did not complete.
    pub run: Option<String>,
    /// The workspace, for a run whose record came from elsewhere; if `None`, the recorded one.
    pub workspace: Option<PathBuf>,
    /// Where the journal is.
    pub state: StateFolder,
    /// The model of every agent from now on.
    pub model: Option<String>,
    /// Whether steps that do not depend on a failed step still run.
    pub continue_on_error: bool,
    /// A step that runs again even if its result could be reused.
    pub from: Option<String>,
    /// What to do with files that were changed or removed since the run wrote them.
    pub changed_files: ChangedFiles,
    /// Whether the embedded model may be downloaded without asking.
    pub may_download: bool,
    /// The budget that replaces the one in the file.
    pub budget: Option<Budget>,
    /// A folder into which each exchange with a model is written from now on.
    pub record: Option<PathBuf>,
    /// The digest of what the user trusts orch.yaml to send; see `orch trust`.
    pub trust: Option<String>,
}

/// What a resume would do; see [`Runner::dry_run`].
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The run.
    pub run: RunId,
    /// The name of its pipeline.
    pub pipeline: String,
    /// What would happen to each step.
    pub steps: Vec<PlannedAction>,
}

/// A run that is about to be resumed with the current files.
struct PreparedResume {
    journal: Journal,
    row: RunRow,
    old: RunState,
    root: PathBuf,
    workspace: PathBuf,
    moved: bool,
    project: Project,
    available: Arc<ModelRegistry>,
    plan: Plan,
    from: Option<StepKey>,
    resumed: RunResumed,
}

/// Why a resume is prepared. A dry run sends nothing, so it does not need the user's agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Run,
    DryRun,
}

impl Runner {
    /// Resumes a run that failed, stopped or waits: reads the files again, reuses the recorded results that are still
    /// valid, and runs the other steps.
    ///
    /// # Errors
    /// The run could not be resumed. A run that was resumed and failed is a [`RunResult`].
    pub async fn resume(&self, request: &ResumeRequest) -> Result<RunResult, SessionError> {
        let (journal, row) = self.found(request)?;
        let run = row.run;
        self.resume_found(request, journal, row).await.map_err(|error| about(error, request, run))
    }

    async fn resume_found(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
    ) -> Result<RunResult, SessionError> {
        let (prepared, trusted) = self.prepare_resume(request, journal, row, Purpose::Run).await?;
        let trusted = trusted.ok_or_else(|| SessionError::internal("the project was not trusted"))?;
        let PreparedResume { journal, row, old, root, workspace, moved, project, available, plan, from, resumed } =
            prepared;
        let here = self.current_dir();
        let record = request.record.as_deref().map(|folder| execute::short_path(folder, here));
        let recorder = record.map(|folder| models::recorder(&folder, &project.root, self)).transpose()?;
        let exchange = Exchange { recorder, replay: None };
        let view = WorkspaceView::open(&workspace)?;
        let locks = RunLocks::take(&journal, row.run, &view)?;
        // Read again under the lock, since the previous owner may have recorded events until it released the lock.
        let events = journal.events(row.run)?;
        let (plan, own) = project_files::checked(plan, &project, here, view.folder())?;
        let edits = DriftCheck {
            journal: &journal,
            run: row.run,
            view: Some(&view),
            events: &events,
            died: locks.run.last_seen(),
            plan: &plan,
            from: from.as_ref(),
        };
        if moved {
            journal.workspace_moved(row.run, &old.workspace, &view.name())?;
        }
        // Files are restored only after all other checks that can refuse the run have passed.
        let found = edits.find(self)?;
        let (records, paths, edited) = (journal.records(&view.name())?, plan.paths(), found.artifacts());
        view.check_free(paths.iter().map(String::as_str).filter(|path| !edited.contains(path)), &records)?;
        let accepted = found.settle(&view, request.changed_files, &project, self)?;
        without_secrets(&accepted, &available)?;

        let place = new_place(&old, &root, &view, moved);
        let resumed = RunResumed {
            from,
            previous_owner_last_heartbeat: locks.run.last_seen(),
            missing_files: accepted.without,
            relocated_to: place,
            ..resumed
        };
        let mut first = vec![Fact::RunResumed(resumed)];
        first.extend(accepted.artifacts.into_iter().map(Fact::ArtifactAccepted));
        let redactor = available.redactor_with(&execute::listed(&plan, self));
        let place = (&view, paths.as_slice(), locks.run.last_seen());
        first.extend(interrupted_turns::turns((&journal, row.run, &events), place, &redactor, self)?);
        let context = RunContext {
            journal: &journal,
            run: row.run,
            events: &events,
            locks: &locks,
            view,
            project: own,
            plan: &plan,
            models: available,
            gates: execute::gates(&project),
            reuse: None,
            asker: None,
            exchange: exchange.clone(),
            trackers: Trackers::new(&project.settings.tracker, &self.environment.variables(), &trusted),
            first,
        };
        let state = execute::execute(context, self).await?;
        Ok(RunResult::new(state, journal.state(), &exchange))
    }

    /// Shows what [`resume`](Self::resume) would do with each step. The run, its workspace and its journal stay
    /// unchanged, and no model is called; a missing embedded model is downloaded as for a resume.
    ///
    /// # Errors
    /// The run could not be resumed with the current files.
    pub async fn dry_run(&self, request: &ResumeRequest) -> Result<DryRun, SessionError> {
        let (journal, row) = self.found(request)?;
        let run = row.run;
        self.dry_run_found(request, journal, row).await.map_err(|error| about(error, request, run))
    }

    async fn dry_run_found(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
    ) -> Result<DryRun, SessionError> {
        let (prepared, _) = self.prepare_resume(request, journal, row, Purpose::DryRun).await?;
        let PreparedResume { journal, row, old, workspace, project, plan, from, mut resumed, .. } = prepared;
        let view = WorkspaceView::existing(&workspace)?;
        let plan = match &view {
            Some(view) => project_files::checked(plan, &project, self.current_dir(), view.folder())?.0,
            None => plan,
        };
        let run = row.run;
        self.reporter.info(&format!("run {run}: {}", crate::model::visible::one_line(&old.pipeline)));
        let events = journal.events(run)?;
        let from = from.as_ref();
        let edits =
            DriftCheck { journal: &journal, run, view: view.as_ref(), events: &events, died: None, plan: &plan, from };
        let found = edits.find(self)?;
        let lines = found.words(&workspace);
        if !lines.is_empty() {
            let outlook = request.changed_files.outlook();
            self.reporter.note(&format!("{} since this run wrote it\n      {outlook}", listed(&lines)));
        }
        let mut accepted = AcceptedDrift::default();
        if let Some(view) = view.filter(|_| request.changed_files == ChangedFiles::Accept) {
            accepted = found.accept(&view, &project)?;
        }
        resumed.missing_files = accepted.without;
        let facts = std::iter::once(Fact::RunResumed(resumed))
            .chain(accepted.artifacts.into_iter().map(Fact::ArtifactAccepted));
        let (seq, at) = (events.last().map_or(0, |event| event.seq), jiff::Timestamp::now());
        let after = (seq + 1..).zip(facts).map(|(seq, fact)| Event { run, seq, at, fact });
        let events: Vec<Event> = events.into_iter().chain(after).collect();
        Ok(DryRun { run, pipeline: old.pipeline, steps: actions(&plan, &events, from)? })
    }

    /// The run to resume, with its journal.
    fn found(&self, request: &ResumeRequest) -> Result<(Journal, RunRow), SessionError> {
        let journal = request.state.journal(&project_root(self.current_dir()))?;
        let row = latest(&journal, request.run.as_deref())?;
        Ok((journal, row))
    }

    /// Prepares everything before the first write of a resume: the run, its files, its models and its plan.
    async fn prepare_resume(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
        purpose: Purpose,
    ) -> Result<(PreparedResume, Option<Trusted>), SessionError> {
        let here = self.current_dir();
        let root = project_root(here);
        let old = RunState::fold(row.run, &journal.events(row.run)?);
        let model = request.model.clone().or_else(|| old.model.clone());
        let mut found = locate(&journal, &old, &request.state, &root)?;
        found.workspace = run_workspace(&journal, old.run, request.workspace.as_ref(), &found, here)?;
        let Location { root, workspace, moved } = found;
        if moved {
            let was = format!("the project was in `{}` when this run was last taken up; it goes on here", old.root);
            self.reporter.note(&was);
        }
        let project = prepare::load(&pipeline_file(&journal, &old, &root)?, model.as_deref(), self)?;
        let trusted = match purpose {
            Purpose::Run => {
                let root = execute::places(&project, here).0;
                Some(self.ensure_trusted(&root, &project.settings, request.trust.as_deref())?)
            }
            Purpose::DryRun => None,
        };
        let available = self.models(&project.root, &project.settings, trusted.as_ref());
        let pinned = request.model.is_none().then_some(&old.models);
        not_replayed(row.run, pinned)?;
        let names = models::resolve(&project, &available, pinned, request.may_download, self).await?;
        let continue_on_error = request.continue_on_error || old.continue_on_error;
        let budget = request.budget.clone().or_else(|| old.budget.clone());
        // An input that was removed since is dropped; one that was added since gets its default.
        let known = |(name, _): &(String, Value)| project.pipeline.inputs.contains_key(name);
        let inputs = old.inputs.clone().into_iter().filter(known).collect();
        let inputs = inputs::of(&project.pipeline, &inputs)?;
        let options = PlanOptions { continue_on_error, budget: budget.clone() };
        let plan = prepare::plan(&project, inputs, &names, &available, &options, self)?;
        let from = request.from.as_deref().map(|name| step_named(&plan, name)).transpose()?;
        let resumed = RunResumed {
            models: names,
            model,
            continue_on_error,
            from: None,
            budget,
            previous_owner_last_heartbeat: None,
            relocated_to: None,
            missing_files: Vec::new(),
            steps: plan.announced(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let prepared =
            PreparedResume { journal, row, old, root, workspace, moved, project, available, plan, from, resumed };
        Ok((prepared, trusted))
    }
}

/// Adds a hint with the run's id to an error, if the user did not name the run.
fn about(error: SessionError, request: &ResumeRequest, run: RunId) -> SessionError {
    match request.run {
        Some(_) => error,
        None => error.hint(format!(
            "this is about run {run}, the latest one that did not complete; `orch runs list` shows others"
        )),
    }
}

/// Refuses a run whose replies were replayed, unless the user names another model.
fn not_replayed(run: RunId, pinned: Option<&BTreeMap<String, ModelRef>>) -> Result<(), SessionError> {
    if !pinned.is_some_and(|names| names.values().any(|model| model.provider == crate::agent::REPLAY)) {
        return Ok(());
    }
    let error = SessionError::usage(format!("run {run} was answered from recordings, and they are not asked again"));
    Err(error.hint("start it again with `orch pipeline run … --replay DIR`, or name a model with --model"))
}

/// The new location of the run, if it differs from the recorded one.
fn new_place(old: &RunState, root: &Path, view: &WorkspaceView, moved: bool) -> Option<RunPlace> {
    let place = RunPlace { root: root.display().to_string(), workspace: view.name() };
    (moved || place.workspace != old.workspace).then_some(place)
}

/// Refuses artifacts that contain a key, since artifacts are recorded.
fn without_secrets(accepted: &AcceptedDrift, models: &ModelRegistry) -> Result<(), SessionError> {
    let redactor = models.redactor();
    match accepted.artifacts.iter().find(|fact| redactor.finds_in(&fact.artifact.value.to_string())) {
        None => Ok(()),
        Some(fact) => {
            let error = format!("`{}` holds a key, and artifacts are recorded", fact.artifact.name);
            Err(SessionError::usage(error).hint("take the key out of the file"))
        }
    }
}

/// The step of the plan that `--from` names.
pub(crate) fn step_named(plan: &Plan, name: &str) -> Result<StepKey, SessionError> {
    let steps = plan.announced();
    let whole = steps.iter().find(|step| step.step.as_str() == name);
    // The last part of the name is enough: ids are unique in a file.
    let found = whole.or_else(|| steps.iter().find(|step| step.step.last() == name));
    found.map(|step| step.step.clone()).ok_or_else(|| {
        let known: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
        let error = SessionError::usage(format!("there is no step `{name}`"));
        match did_you_mean(name, known.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("the steps are {}", known.join(", "))),
        }
    })
}

/// The run with this name, or the latest one that did not complete.
fn latest(journal: &Journal, name: Option<&str>) -> Result<RunRow, SessionError> {
    if let Some(name) = name {
        find_run(journal, name)
    } else {
        let open = journal.runs(1000)?.into_iter().find(|row| row.status != RunStatus::Completed);
        if open.is_none() && journal.runs(1)?.is_empty() {
            return Err(SessionError::usage("there are no runs yet").hint("`orch pipeline run` starts one"));
        }
        open.ok_or_else(|| {
            SessionError::usage("every run is completed")
                .hint("name one to run again what changed: `orch runs list` shows them")
        })
    }
}
