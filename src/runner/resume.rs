//! Resumes a run, or predicts what a resume would do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::agent::ModelRegistry;
use crate::config::Project;
use crate::engine::Plan;
use crate::engine::perform::RecordReplay;
use crate::model::event::{Event, Fact, RunLocation, RunResumed};
use crate::model::{RunId, RunState, StepKey};
use crate::store::{Journal, Lock, RunRow, Workspace};

use super::agent_choices::AgentChoices;
use super::artifact_drift::{AcceptedDrift, ChangedFilesPolicy, DriftCheck};
use super::dry_run::{PredictedStepAction, predict_actions};
use super::error::RunnerError;
use super::execute::{self, RunContext};
use super::inputs;
use super::location::{Location, locate, pipeline_file, run_workspace};
use super::locks::{RunLocks, remove_project_placeholders};
use super::preflight::PastRun;
use super::prepare::{self, PlanOptions, find_step};
use super::project_state::{find_run_or_latest_incomplete, project_root};
use super::resume_request::ResumeRequest;
use super::run_recording::ResumedProject;
use super::trackers::Trackers;
use super::trust::Trusted;
use super::{RunResult, Runner, interrupted_turns, models, project_files, rate_limits, run_recording, run_replay};

/// The predicted actions of a resume; see [`Runner::dry_run`].
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The run's id.
    pub run: RunId,
    /// The name of the run's pipeline.
    pub pipeline: String,
    /// The action for each step.
    pub steps: Vec<PredictedStepAction>,
}

/// The data of a resume before it writes: the run, and the project with its current files.
struct PreparedResume {
    journal: Journal,
    row: RunRow,
    past_state: RunState,
    root: PathBuf,
    workspace_path: PathBuf,
    has_moved: bool,
    project: Project,
    registry: Arc<ModelRegistry>,
    plan: Plan,
    from_step: Option<StepKey>,
    /// The first fact of the new session. Fields that are not known yet are empty.
    resumed_fact: RunResumed,
}

/// Whether to resume a run, or only to predict what a resume would do. A dry run sends no keys or prompts, so it does
/// not need a trusted project (`orch trust`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResumeMode {
    Resume,
    DryRun,
}

impl Runner {
    /// Resumes a run that failed, stopped or waits. Reads the current files, reuses the recorded results that are still
    /// valid, and runs the other steps.
    ///
    /// # Errors
    /// orch could not resume the run. If the resumed run fails, this function returns a [`RunResult`], not an error.
    pub async fn resume(&self, request: &ResumeRequest) -> Result<RunResult, RunnerError> {
        let (journal, row) = self.find_run_to_resume(request)?;
        let run = row.run;
        Box::pin(self.resume_run(request, journal, row)).await.map_err(|error| with_run_id_hint(error, request, run))
    }

    async fn resume_run(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
    ) -> Result<RunResult, RunnerError> {
        let (prepared, trusted) = self.prepare_resume(request, journal, row, ResumeMode::Resume).await?;
        let trusted = trusted.ok_or_else(|| RunnerError::internal("the project was not trusted"))?;
        let PreparedResume {
            journal,
            row,
            past_state,
            root,
            workspace_path,
            has_moved,
            project,
            registry,
            plan,
            from_step,
            resumed_fact,
        } = prepared;
        let replay = resumed_fact.replay.as_ref();
        let replay = replay.map(|replay| run_replay::open_for_resume(replay, &root, &project)).transpose()?;
        self.ensure_sandboxes(&plan, replay.as_deref(), &workspace_path).await?;
        let past_run = PastRun { journal: &journal, run: row.run, from_step: from_step.as_ref() };
        self.ensure_requirements(&plan, replay.as_deref(), &workspace_path, Some(past_run)).await?;
        let current_dir = self.current_dir();
        let resumed = ResumedProject { past_state: &past_state, journal: &journal, root: &root };
        let recorder = self.recorder_of_resume(request, &resumed, replay.is_some())?;
        let record_replay = RecordReplay { recorder, replay, ..RecordReplay::default() };
        let workspace = Workspace::open(&workspace_path)?;
        let locks = RunLocks::acquire(&journal, row.run, &workspace)?;
        let project_paths = project_files::source_paths(&project, current_dir);
        remove_project_placeholders(&workspace, &root, &project_paths)?;
        // Read again under the lock, since the previous owner may have recorded events until it released the lock.
        let mut events = journal.events(row.run)?;
        let (plan, protected_files) =
            project_files::check_and_protect(plan, &project, current_dir, workspace.folder())?;
        let (paths, recorded_path) = (plan.artifact_paths(), workspace.path_in_journal());
        let last_heartbeat = locks.run.former_owner_last_seen();
        let redactor = registry.redactor_with(&execute::listed_secrets(&plan, self));
        let interrupted = interrupted_turns::find_interrupted_calls(
            (&journal, row.run, &events),
            (&workspace, paths.as_slice(), last_heartbeat),
            &redactor,
            self,
        )?;
        // The run itself made the changes of the interrupted calls, so the check must know them.
        let recorded_count = events.len();
        append_facts(&mut events, row.run, interrupted.facts.iter().cloned());
        let drift_check = DriftCheck {
            journal: &journal,
            run: row.run,
            workspace: Some(&workspace),
            workspace_path: &recorded_path,
            events: &events,
            last_seen_before_restart: last_heartbeat.filter(|_| locks.run.has_machine_restarted()),
            plan: &plan,
            from_step: from_step.as_ref(),
        };
        if has_moved {
            journal.record_workspace_move(row.run, &past_state.workspace, &recorded_path)?;
        }
        // Files are restored only after all other checks that can refuse the run have passed.
        let drift = drift_check.find_drift(self)?;
        let (owned_files, edited) = (journal.owned_files(&recorded_path)?, drift.artifact_paths());
        workspace.check_no_foreign_files(
            paths.iter().map(String::as_str).filter(|path| !edited.contains(path)),
            &owned_files,
        )?;
        let accepted = drift.apply_choice(&drift_check, &workspace, request.changed_files, &project, self)?;
        events.truncate(recorded_count);
        refuse_secrets(&accepted, &registry)?;
        interrupted.remove_unneeded_starts(&journal, row.run);

        let resumed_fact = RunResumed {
            from: from_step,
            previous_owner_last_heartbeat: last_heartbeat,
            missing_files: accepted.missing_files,
            recording_folder: run_recording::folder_in_record(&record_replay, &root),
            relocated_to: changed_location(&past_state, &root, &workspace, has_moved),
            ..resumed_fact
        };
        let accepted_artifacts = accepted.artifacts.into_iter().map(Fact::ArtifactAccepted);
        let facts = [Fact::RunResumed(resumed_fact)].into_iter().chain(accepted_artifacts).chain(interrupted.facts);
        let context = RunContext {
            journal: &journal,
            run: row.run,
            events: &events,
            locks: &locks,
            workspace,
            project_files: protected_files,
            project_paths,
            plan: &plan,
            models: registry,
            rate_limiters: rate_limits::build_rate_limiters(&project),
            result_cache: None,
            approver: None,
            record_replay: record_replay.clone(),
            trackers: Trackers::new(&project.settings.tracker, &self.environment.variable_lookup(), &trusted),
            facts_to_record: facts.collect(),
        };
        let state = execute::execute_run(context, self).await?;
        let is_foreign = journal.is_foreign(row.run)?;
        let resume_options = if is_foreign { run_recording::named_folders(request) } else { Vec::new() };
        Ok(RunResult { resume_options, ..RunResult::new(state, journal.state_folder(), &record_replay) })
    }

    /// Predicts the action of [`resume`](Self::resume) for each step. Does not change the run, its workspace or its
    /// journal, and calls no model. Downloads a missing embedded model, as a resume does.
    ///
    /// # Errors
    /// orch could not resume the run with the current files.
    pub async fn dry_run(&self, request: &ResumeRequest) -> Result<DryRun, RunnerError> {
        let (journal, row) = self.find_run_to_resume(request)?;
        let run = row.run;
        self.dry_run_resume(request, journal, row).await.map_err(|error| with_run_id_hint(error, request, run))
    }

    async fn dry_run_resume(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
    ) -> Result<DryRun, RunnerError> {
        let (prepared, _) = self.prepare_resume(request, journal, row, ResumeMode::DryRun).await?;
        let PreparedResume {
            journal, row, past_state, workspace_path, project, plan, from_step, mut resumed_fact, ..
        } = prepared;
        let workspace = Workspace::open_existing(&workspace_path)?;
        let plan = match &workspace {
            Some(workspace) => {
                project_files::check_and_protect(plan, &project, self.current_dir(), workspace.folder())?.0
            }
            None => plan,
        };
        let run = row.run;
        self.reporter.info(&format!("run {run}: {}", crate::model::visible::escape_line_breaks(&past_state.pipeline)));
        let mut events = journal.events(run)?;
        let from_step = from_step.as_ref();
        let recorded_path =
            workspace.as_ref().map_or_else(|| workspace_path.display().to_string(), Workspace::path_in_journal);
        let drift_check = DriftCheck {
            journal: &journal,
            run,
            workspace: workspace.as_ref(),
            workspace_path: &recorded_path,
            events: &events,
            last_seen_before_restart: Lock::last_seen_before_restart(&journal.lock_file(run)),
            plan: &plan,
            from_step,
        };
        let drift = drift_check.find_drift(self)?;
        if let Some(message) = drift.message(&workspace_path) {
            let preview = request.changed_files.resume_preview();
            self.reporter.note(&format!("{message}\n      {preview}"));
        }
        if request.changed_files == ChangedFilesPolicy::Discard {
            drift.check_discard()?;
        }
        let mut accepted = AcceptedDrift::default();
        if let Some(workspace) = workspace.filter(|_| request.changed_files == ChangedFilesPolicy::Accept) {
            accepted = drift.accept(&workspace, &project)?;
        }
        resumed_fact.missing_files = accepted.missing_files;
        let facts = std::iter::once(Fact::RunResumed(resumed_fact))
            .chain(accepted.artifacts.into_iter().map(Fact::ArtifactAccepted));
        append_facts(&mut events, run, facts);
        Ok(DryRun { run, pipeline: past_state.pipeline, steps: predict_actions(&plan, &events, from_step)? })
    }

    /// Finds the run to resume. Also returns its journal.
    fn find_run_to_resume(&self, request: &ResumeRequest) -> Result<(Journal, RunRow), RunnerError> {
        let journal = request.state.open_journal(&project_root(self.current_dir()))?;
        let row = find_run_or_latest_incomplete(&journal, request.run.as_deref())?;
        Ok((journal, row))
    }

    /// Prepares a resume without writing to the run: loads the run and its files, resolves the models and creates the
    /// plan.
    async fn prepare_resume(
        &self,
        request: &ResumeRequest,
        journal: Journal,
        row: RunRow,
        mode: ResumeMode,
    ) -> Result<(PreparedResume, Option<Trusted>), RunnerError> {
        let current_dir = self.current_dir();
        let root = project_root(current_dir);
        let past_state = RunState::fold(row.run, &journal.events(row.run)?);
        let choices = AgentChoices::for_resume(request, &past_state);
        let mut location = locate(&journal, &past_state, &request.state, &root)?;
        location.workspace =
            run_workspace(&journal, past_state.run, request.workspace.as_ref(), &location, current_dir)?;
        let Location { root, workspace: workspace_path, has_moved } = location;
        if has_moved {
            self.reporter.note(&format!(
                "the project was in `{}` in the run's last session; the run continues here",
                past_state.root
            ));
        }
        let project = prepare::load(&pipeline_file(&journal, &past_state, &root)?, &choices, self)?;
        let replay = run_replay::replay_of_resume(request, &past_state, &journal, &root, current_dir)?;
        let trusted = match mode {
            ResumeMode::Resume => {
                let digest = request.trusted_digest.as_deref();
                Some(self.ensure_session_trusted(replay.is_some(), &project, digest)?)
            }
            ResumeMode::DryRun => None,
        };
        let registry = self.model_registry(&project.root, &project.settings, trusted.as_ref());
        let pinned = request.model.is_none().then_some(&past_state.models);
        let resolved_models = if replay.is_some() {
            models::replayed_models(&project)
        } else {
            models::resolve_and_install(&project, &registry, pinned, request.may_download, self).await?
        };
        let continue_on_error = request.continue_on_error || past_state.continue_on_error;
        let budget = request.budget.clone().or_else(|| past_state.budget.clone());
        // Drop the inputs that the pipeline no longer declares. A new input gets its default.
        let is_declared = |(name, _): &(String, Value)| project.pipeline.inputs.contains_key(name);
        let inputs = past_state.inputs.clone().into_iter().filter(is_declared).collect();
        let inputs = inputs::complete_inputs(&project.pipeline, &inputs)?;
        let options = PlanOptions { continue_on_error, budget: budget.clone(), choices: choices.clone() };
        let plan = prepare::plan(&project, inputs, &resolved_models, &registry, &options, self)?;
        let from_step = request.from_step.as_deref().map(|name| find_step(&plan, name)).transpose()?;
        let resumed_fact = RunResumed {
            models: resolved_models,
            agents: choices.chosen_agents(),
            model: choices.model,
            continue_on_error,
            from: None,
            budget,
            replay,
            recording_folder: None,
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
            has_moved,
            project,
            registry,
            plan,
            from_step,
            resumed_fact,
        };
        Ok((prepared, trusted))
    }
}

/// Adds a hint with the run's id to an error, if the request does not name the run.
fn with_run_id_hint(error: RunnerError, request: &ResumeRequest, run: RunId) -> RunnerError {
    match request.run {
        Some(_) => error,
        None => error.with_hint(format!(
            "without a run id, orch resumes the latest run that did not complete, {run}; `orch runs list` shows others"
        )),
    }
}

/// The current location of the run, if it differs from the recorded location.
fn changed_location(past_state: &RunState, root: &Path, workspace: &Workspace, has_moved: bool) -> Option<RunLocation> {
    let location = RunLocation { root: root.display().to_string(), workspace: workspace.path_in_journal() };
    (has_moved || location.workspace != past_state.workspace).then_some(location)
}

/// Appends facts that the journal does not contain yet as the next events of a run.
fn append_facts(events: &mut Vec<Event>, run: RunId, facts: impl IntoIterator<Item = Fact>) {
    let (last_seq, at) = (events.last().map_or(0, |event| event.seq), jiff::Timestamp::now());
    events.extend((last_seq + 1..).zip(facts).map(|(seq, fact)| Event { run, seq, at, fact }));
}

/// Returns an error if an accepted artifact contains a secret, because orch records artifacts.
fn refuse_secrets(accepted: &AcceptedDrift, models: &ModelRegistry) -> Result<(), RunnerError> {
    let redactor = models.redactor();
    match accepted.artifacts.iter().find(|fact| redactor.contains_secret(&fact.artifact.value.to_string())) {
        None => Ok(()),
        Some(fact) => {
            let error = format!("`{}` contains a secret, and orch records artifacts", fact.artifact.name);
            Err(RunnerError::usage(error).with_hint("remove the secret from the file"))
        }
    }
}
