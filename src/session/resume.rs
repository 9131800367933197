//! Resumes a run, or shows what a resume would do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::agent::ModelRegistry;
use crate::config::Project;
use crate::diagnostic::did_you_mean;
use crate::engine::Plan;
use crate::engine::perform::RecordReplay;
use crate::model::budget::Budget;
use crate::model::event::{Event, Fact, RunLocation, RunResumed};
use crate::model::{ModelRef, RunId, RunState, RunStatus, StepKey};
use crate::store::{Journal, RunRow, Workspace};

use super::artifact_drift::{AcceptedDrift, ChangedFilesPolicy, DriftCheck, join_limited};
use super::dry_run::{PlannedAction, planned_actions};
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

/// The run to resume with [`Runner::resume`], and the options of the resume.
#[derive(Clone, Debug, Default)]
pub struct ResumeRequest {
    /// The run, by its id or the start of the id; if `None`, the latest run that did not complete.
    pub run: Option<String>,
    /// The workspace to use for a run whose journal was copied from another machine or folder; if `None`, the recorded
    /// workspace.
    pub workspace: Option<PathBuf>,
    /// The folder of the journal.
    pub state: StateFolder,
    /// The model that replaces the model of every agent from now on.
    pub model: Option<String>,
    /// Whether steps that do not depend on a failed step still run.
    pub continue_on_error: bool,
    /// A step that runs again even if its result could be reused.
    pub from_step: Option<String>,
    /// The treatment of files that the user changed or removed since the run wrote them.
    pub changed_files: ChangedFilesPolicy,
    /// Whether the embedded model may be downloaded without asking.
    pub may_download: bool,
    /// The budget that replaces the budget of the file.
    pub budget: Option<Budget>,
    /// A folder into which orch writes each exchange with a model from now on.
    pub recording_folder: Option<PathBuf>,
    /// If the user agreed to what orch.yaml sends to other machines: the digest of it that `orch trust` prints.
    pub trusted_digest: Option<String>,
}

/// The predicted actions of a resume; see [`Runner::dry_run`].
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The run.
    pub run: RunId,
    /// The name of its pipeline.
    pub pipeline: String,
    /// The action for each step.
    pub steps: Vec<PlannedAction>,
}

/// A run that is about to be resumed with the current files.
struct PreparedResume {
    journal: Journal,
    row: RunRow,
    past_state: RunState,
    root: PathBuf,
    workspace_path: PathBuf,
    moved: bool,
    project: Project,
    registry: Arc<ModelRegistry>,
    plan: Plan,
    from: Option<StepKey>,
    resumed: RunResumed,
}

/// The purpose of preparing a resume. A dry run sends no keys or prompts, so the project need not be trusted
/// (`orch trust`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Run,
    DryRun,
}

impl Runner {
    /// Resumes a run that failed, stopped or waits: reads the current files, reuses the recorded results that are still
    /// valid, and runs the other steps.
    ///
    /// # Errors
    /// The run could not be resumed. A run that was resumed and failed is a [`RunResult`].
    pub async fn resume(&self, request: &ResumeRequest) -> Result<RunResult, SessionError> {
        let (journal, row) = self.find_run_to_resume(request)?;
        let run = row.run;
        self.resume_run(request, journal, row).await.map_err(|error| with_run_hint(error, request, run))
    }

    async fn resume_run(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
    ) -> Result<RunResult, SessionError> {
        let (prepared, trusted) = self.prepare_resume(request, journal, row, Purpose::Run).await?;
        let trusted = trusted.ok_or_else(|| SessionError::internal("the project was not trusted"))?;
        let PreparedResume {
            journal,
            row,
            past_state,
            root,
            workspace_path,
            moved,
            project,
            registry,
            plan,
            from,
            resumed,
        } = prepared;
        self.ensure_sandboxes(&plan, false).await?;
        let current_dir = self.current_dir();
        let recording_folder =
            request.recording_folder.as_deref().map(|folder| execute::resolve_path(folder, current_dir));
        let recorder =
            recording_folder.map(|folder| models::open_recorder(&folder, &project.root, self)).transpose()?;
        let record_replay = RecordReplay { recorder, replay: None };
        let workspace = Workspace::open(&workspace_path)?;
        let locks = RunLocks::acquire(&journal, row.run, &workspace)?;
        // Read again under the lock, since the previous owner may have recorded events until it released the lock.
        let events = journal.events(row.run)?;
        let (plan, protected_files) =
            project_files::check_and_protect(plan, &project, current_dir, workspace.folder())?;
        let drift_check = DriftCheck {
            journal: &journal,
            run: row.run,
            workspace: Some(&workspace),
            events: &events,
            last_heartbeat: locks.run.former_owner_last_seen(),
            plan: &plan,
            from_step: from.as_ref(),
        };
        if moved {
            journal.record_workspace_move(row.run, &past_state.workspace, &workspace.path_in_journal())?;
        }
        // Files are restored only after all other checks that can refuse the run have passed.
        let drift = drift_check.find(self)?;
        let (owned_files, paths, edited) =
            (journal.owned_files(&workspace.path_in_journal())?, plan.artifact_paths(), drift.artifact_paths());
        workspace.check_no_foreign_files(
            paths.iter().map(String::as_str).filter(|path| !edited.contains(path)),
            &owned_files,
        )?;
        let accepted = drift.apply_choice(&workspace, request.changed_files, &project, self)?;
        refuse_secrets(&accepted, &registry)?;

        let resumed = RunResumed {
            from,
            previous_owner_last_heartbeat: locks.run.former_owner_last_seen(),
            missing_files: accepted.missing_files,
            relocated_to: new_location(&past_state, &root, &workspace, moved),
            ..resumed
        };
        let mut facts = vec![Fact::RunResumed(resumed)];
        facts.extend(accepted.artifacts.into_iter().map(Fact::ArtifactAccepted));
        let redactor = registry.redactor_with(&execute::listed_secrets(&plan, self));
        facts.extend(interrupted_turns::interrupted_turn_facts(
            (&journal, row.run, &events),
            (&workspace, paths.as_slice(), locks.run.former_owner_last_seen()),
            &redactor,
            self,
        )?);
        let context = RunContext {
            journal: &journal,
            run: row.run,
            events: &events,
            locks: &locks,
            workspace,
            project_files: protected_files,
            plan: &plan,
            models: registry,
            rate_limiters: execute::build_rate_limiters(&project),
            reuse: None,
            approver: None,
            record_replay: record_replay.clone(),
            trackers: Trackers::new(&project.settings.tracker, &self.environment.variable_lookup(), &trusted),
            first_facts: facts,
        };
        let state = execute::execute_run(context, self).await?;
        Ok(RunResult::new(state, journal.state_folder(), &record_replay))
    }

    /// Predicts the action of [`resume`](Self::resume) for each step. Does not change the run, its workspace or its
    /// journal, and calls no model. Downloads a missing embedded model, as a resume does.
    ///
    /// # Errors
    /// The run could not be resumed with the current files.
    pub async fn dry_run(&self, request: &ResumeRequest) -> Result<DryRun, SessionError> {
        let (journal, row) = self.find_run_to_resume(request)?;
        let run = row.run;
        self.dry_run_resume(request, journal, row).await.map_err(|error| with_run_hint(error, request, run))
    }

    async fn dry_run_resume(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
    ) -> Result<DryRun, SessionError> {
        let (prepared, _) = self.prepare_resume(request, journal, row, Purpose::DryRun).await?;
        let PreparedResume { journal, row, past_state, workspace_path, project, plan, from, mut resumed, .. } =
            prepared;
        let workspace = Workspace::open_existing(&workspace_path)?;
        let plan = match &workspace {
            Some(workspace) => {
                project_files::check_and_protect(plan, &project, self.current_dir(), workspace.folder())?.0
            }
            None => plan,
        };
        let run = row.run;
        self.reporter.info(&format!("run {run}: {}", crate::model::visible::escape_line_breaks(&past_state.pipeline)));
        let events = journal.events(run)?;
        let from = from.as_ref();
        let drift_check = DriftCheck {
            journal: &journal,
            run,
            workspace: workspace.as_ref(),
            events: &events,
            last_heartbeat: None,
            plan: &plan,
            from_step: from,
        };
        let drift = drift_check.find(self)?;
        let messages = drift.messages(&workspace_path);
        if !messages.is_empty() {
            let preview = request.changed_files.resume_preview();
            self.reporter.note(&format!("{} since this run wrote it\n      {preview}", join_limited(&messages)));
        }
        let mut accepted = AcceptedDrift::default();
        if let Some(workspace) = workspace.filter(|_| request.changed_files == ChangedFilesPolicy::Accept) {
            accepted = drift.accept(&workspace, &project)?;
        }
        resumed.missing_files = accepted.missing_files;
        let facts = std::iter::once(Fact::RunResumed(resumed))
            .chain(accepted.artifacts.into_iter().map(Fact::ArtifactAccepted));
        let (last_seq, at) = (events.last().map_or(0, |event| event.seq), jiff::Timestamp::now());
        let new_events = (last_seq + 1..).zip(facts).map(|(seq, fact)| Event { run, seq, at, fact });
        let events: Vec<Event> = events.into_iter().chain(new_events).collect();
        Ok(DryRun { run, pipeline: past_state.pipeline, steps: planned_actions(&plan, &events, from)? })
    }

    /// The run to resume, with its journal.
    fn find_run_to_resume(&self, request: &ResumeRequest) -> Result<(Journal, RunRow), SessionError> {
        let journal = request.state.open_journal(&project_root(self.current_dir()))?;
        let row = named_or_latest(&journal, request.run.as_deref())?;
        Ok((journal, row))
    }

    /// Does everything that a resume can do before it writes: loads the run and its files, resolves the models and
    /// makes the plan.
    async fn prepare_resume(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
        purpose: Purpose,
    ) -> Result<(PreparedResume, Option<Trusted>), SessionError> {
        let current_dir = self.current_dir();
        let root = project_root(current_dir);
        let past_state = RunState::fold(row.run, &journal.events(row.run)?);
        let model = request.model.clone().or_else(|| past_state.model.clone());
        let mut location = locate(&journal, &past_state, &request.state, &root)?;
        location.workspace =
            run_workspace(&journal, past_state.run, request.workspace.as_ref(), &location, current_dir)?;
        let Location { root, workspace: workspace_path, has_moved: moved } = location;
        if moved {
            self.reporter.note(&format!(
                "the project was in `{}` in the run's last session; the run continues here",
                past_state.root
            ));
        }
        let project = prepare::load(&pipeline_file(&journal, &past_state, &root)?, model.as_deref(), self)?;
        let trusted = match purpose {
            Purpose::Run => {
                let root = execute::root_and_file(&project, current_dir).0;
                Some(self.ensure_trusted(&root, &project.settings, request.trusted_digest.as_deref())?)
            }
            Purpose::DryRun => None,
        };
        let registry = self.model_registry(&project.root, &project.settings, trusted.as_ref());
        let pinned = request.model.is_none().then_some(&past_state.models);
        refuse_replayed(row.run, pinned)?;
        let models_by_agent =
            models::resolve_and_install(&project, &registry, pinned, request.may_download, self).await?;
        let continue_on_error = request.continue_on_error || past_state.continue_on_error;
        let budget = request.budget.clone().or_else(|| past_state.budget.clone());
        // An input that the pipeline no longer has is dropped; a new input gets its default.
        let is_declared = |(name, _): &(String, Value)| project.pipeline.inputs.contains_key(name);
        let inputs = past_state.inputs.clone().into_iter().filter(is_declared).collect();
        let inputs = inputs::complete_inputs(&project.pipeline, &inputs)?;
        let options = PlanOptions { continue_on_error, budget: budget.clone() };
        let plan = prepare::plan(&project, inputs, &models_by_agent, &registry, &options, self)?;
        let from = request.from_step.as_deref().map(|name| find_step(&plan, name)).transpose()?;
        let resumed = RunResumed {
            models: models_by_agent,
            model,
            continue_on_error,
            from: None,
            budget,
            previous_owner_last_heartbeat: None,
            relocated_to: None,
            missing_files: Vec::new(),
            steps: plan.planned_steps(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let prepared = PreparedResume {
            journal,
            row,
            past_state,
            root,
            workspace_path,
            moved,
            project,
            registry,
            plan,
            from,
            resumed,
        };
        Ok((prepared, trusted))
    }
}

/// Adds a hint with the run's id to an error, if the user did not name the run.
fn with_run_hint(error: SessionError, request: &ResumeRequest, run: RunId) -> SessionError {
    match request.run {
        Some(_) => error,
        None => error.with_hint(format!(
            "without a run id, orch resumes the latest run that did not complete, {run}; `orch runs list` shows others"
        )),
    }
}

/// Refuses a run whose replies were replayed, unless the user names another model.
fn refuse_replayed(run: RunId, pinned: Option<&BTreeMap<String, ModelRef>>) -> Result<(), SessionError> {
    if !pinned.is_some_and(|models_by_agent| {
        models_by_agent.values().any(|model| model.provider == crate::agent::REPLAY_PROVIDER)
    }) {
        return Ok(());
    }
    let error = SessionError::usage(format!("run {run} used recordings in place of models, so it can't be resumed"));
    Err(error.with_hint("start a new run with `orch pipeline run … --replay DIR`, or name a model with --model"))
}

/// The new location of the run, if it differs from the recorded one.
fn new_location(past_state: &RunState, root: &Path, workspace: &Workspace, moved: bool) -> Option<RunLocation> {
    let location = RunLocation { root: root.display().to_string(), workspace: workspace.path_in_journal() };
    (moved || location.workspace != past_state.workspace).then_some(location)
}

/// Refuses artifacts that contain a secret, since orch records artifacts.
fn refuse_secrets(accepted: &AcceptedDrift, models: &ModelRegistry) -> Result<(), SessionError> {
    let redactor = models.redactor();
    match accepted.artifacts.iter().find(|fact| redactor.contains_secret(&fact.artifact.value.to_string())) {
        None => Ok(()),
        Some(fact) => {
            let error = format!("`{}` contains a secret, and orch records artifacts", fact.artifact.name);
            Err(SessionError::usage(error).with_hint("remove the secret from the file"))
        }
    }
}

/// The step of the plan that `--from` names.
pub(crate) fn find_step(plan: &Plan, name: &str) -> Result<StepKey, SessionError> {
    let steps = plan.planned_steps();
    let exact = steps.iter().find(|step| step.step.as_str() == name);
    // The last id of the key is enough, since ids are unique in a file.
    let step = exact.or_else(|| steps.iter().find(|step| step.step.last_segment() == name));
    step.map(|step| step.step.clone()).ok_or_else(|| {
        let keys: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
        let error = SessionError::usage(format!("there is no step `{name}`"));
        match did_you_mean(name, keys.iter().copied()) {
            Some(nearest) => error.with_hint(format!("did you mean `{nearest}`?")),
            None => error.with_hint(format!("the steps are {}", keys.join(", "))),
        }
    })
}

/// The run with this id, or the latest run that did not complete.
fn named_or_latest(journal: &Journal, name: Option<&str>) -> Result<RunRow, SessionError> {
    if let Some(name) = name {
        find_run(journal, name)
    } else {
        let latest = journal.runs(1000)?.into_iter().find(|row| row.status != RunStatus::Completed);
        if latest.is_none() && journal.runs(1)?.is_empty() {
            return Err(SessionError::usage("there are no runs yet").with_hint("`orch pipeline run` starts one"));
        }
        latest.ok_or_else(|| {
            SessionError::usage("every run is completed")
                .with_hint("name a run to repeat its changed steps: `orch runs list` shows all runs")
        })
    }
}
