//! Runs generated pipelines: the program's own code loads, checks, plans and interprets the files, with a real journal
//! and a real workspace. Only the calls are scripted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orch::check;
use orch::clock::SystemClock;
use orch::config;
use orch::engine::node::{NodeKind, PlanNode};
use orch::engine::{self, Plan, PlannedModel, StepDefaults};
use orch::model::event::{Event, Fact, RunResumed, RunStarted};
use orch::model::{ModelRef, RunId, RunState};
use orch::runner::{BranchMode, PlanBundle, RunnerError, plan_project, to_run_end};
use orch::store::{Journal, LocalRun, Lock, RunParts, StopSignal, Workspace};
use serde_json::Map;

use super::performer::ScriptedPerformer;
use super::pipeline::TestPipeline;
use super::script::Script;
use crate::support::branches::{branch_mode, with_branch_mode};

/// A project folder with a journal and a workspace.
pub(crate) struct Harness {
    folder: tempfile::TempDir,
    journal: Journal,
    runtime: tokio::runtime::Runtime,
    branch_mode: BranchMode,
}

/// One run in the project.
pub(crate) struct Run {
    id: RunId,
    workspace: Workspace,
    pub(crate) performer: Option<ScriptedPerformer>,
    /// The virtual time at which the last session was stopped.
    pub(crate) stop_time: Option<u64>,
}

/// How the harness ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The session runs to its end.
    Complete,
    /// The process dies after this number of calls.
    Crash(usize),
    /// The user stops the run after this number of calls.
    Stop(usize),
}

/// The result of a session.
pub(crate) enum SessionResult {
    /// The session ended with this state.
    Ended(Box<RunState>),
    /// The virtual time at which the process died.
    Crashed(u64),
}

/// Removes the pauses between retries from a plan, so that the test does not wait for them.
fn remove_all_pauses(plan: &mut Plan) {
    plan.body.nodes.iter_mut().chain(&mut plan.body.finally).for_each(remove_pauses);
}

fn remove_pauses(node: &mut PlanNode) {
    match &mut node.kind {
        NodeKind::Agent(agent) => {
            agent.limits.backoff = Some(Duration::ZERO);
            agent.pipelines.iter_mut().for_each(remove_pauses);
        }
        NodeKind::Command(command) => command.limits.backoff = Some(Duration::ZERO),
        NodeKind::Call(call) => call.limits.backoff = Some(Duration::ZERO),
        NodeKind::Write(_) | NodeKind::Approve(_) => {}
        NodeKind::Parallel(nodes, _) | NodeKind::Sequence(nodes) => nodes.iter_mut().for_each(remove_pauses),
        NodeKind::Repeat(repeat) => repeat.nodes.iter_mut().for_each(remove_pauses),
        NodeKind::Pipeline(call) => call.body.nodes.iter_mut().chain(&mut call.body.finally).for_each(remove_pauses),
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with_branches(branch_mode())
    }

    /// A project whose runs execute their branches in this mode.
    pub(crate) fn with_branches(branch_mode: BranchMode) -> Self {
        // Use a file system in memory if there is one, because the journal waits for the disk after each commit.
        let memory_folder = Path::new("/dev/shm");
        let folder =
            if memory_folder.is_dir() { tempfile::tempdir_in(memory_folder) } else { tempfile::tempdir() }.unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("orch.yaml", "providers:\n  lab: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\" }\n");
        write("prompts/p.md", "answer\n");
        write("pipelines/main.yaml", "");
        let journal = Journal::open(&folder.path().join(".orch")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder, journal, runtime, branch_mode }
    }

    /// Writes the files of a pipeline and plans them. Returns the errors if the check rejects the files.
    pub(crate) fn plan(&self, pipeline: &TestPipeline, continue_on_error: bool) -> Result<Plan, String> {
        pipeline.write(self.folder.path());
        let error_messages = |findings: &[orch::diagnostic::Diagnostic]| {
            let errors = findings.iter().filter(|finding| finding.is_error());
            errors.map(|finding| format!("{}: {}", finding.code, finding.message)).collect::<Vec<_>>().join("\n")
        };
        let project = config::load(&self.folder.path().join("pipelines/main.yaml"))
            .map_err(|findings| error_messages(&findings))?;
        let errors = error_messages(&check::check(&project));
        if !errors.is_empty() {
            return Err(errors);
        }
        let defaults = StepDefaults { continue_on_error, ..StepDefaults::default() };
        let planned_model = |name: &str| {
            let reference = ModelRef::parse(name).ok_or_else(|| RunnerError::internal("no model"))?;
            Ok(PlannedModel::new(reference, "openai"))
        };
        let plan = plan_project(&project, Map::new(), &defaults, &planned_model);
        let mut plan = plan.map_err(|error| error.to_string())?;
        remove_all_pauses(&mut plan);
        let collect = || PlanBundle::from_project(&project, &defaults, &planned_model).unwrap();
        Ok(with_branch_mode(plan, self.branch_mode, collect, remove_all_pauses))
    }

    /// Creates a run with an empty workspace.
    pub(crate) fn new_run(&self, name: &str) -> Run {
        let workspace = Workspace::open(&self.folder.path().join("spaces").join(name)).unwrap();
        Run { id: RunId(uuid::Uuid::now_v7()), workspace, performer: None, stop_time: None }
    }

    pub(crate) fn events(&self, run: &Run) -> Vec<Event> {
        self.journal.events(run.id).unwrap()
    }

    /// Runs one session of a run.
    pub(crate) fn run_session(
        &self,
        run: &mut Run,
        plan: &Plan,
        script: Script,
        session: u32,
        session_end: SessionEnd,
    ) -> SessionResult {
        let (folder, previous) = (run.workspace.folder(), run.performer.as_ref());
        let performer = ScriptedPerformer::new(script, session, folder, plan.artifact_paths(), previous);
        run.performer = Some(performer.clone());
        run.stop_time = None;
        let events = self.events(run);
        let stop_signal = StopSignal::default();
        let lock = Lock::acquire(&self.journal.lock_file(run.id), "the run", "a test").unwrap();
        let parts = RunParts {
            run: run.id,
            workspace: run.workspace.clone(),
            perform: Arc::new(performer.clone()),
            observer: Arc::new(performer.clone()),
            stop_signal: stop_signal.clone(),
            prompter: Some(Arc::new(performer.clone())),
            result_cache: None,
            heartbeat: lock.heartbeat().unwrap(),
            clock: Arc::new(SystemClock),
        };
        let local = LocalRun::open(&self.journal, parts, &events).unwrap();
        local.enqueue(first_fact(plan, &run.workspace, events.is_empty()));
        self.runtime.block_on(async {
            let ended = tokio::select! {
                biased;
                ended = engine::interpret(&local, plan) => ended,
                () = drive_calls(&performer, &local, (session_end, &stop_signal, &mut run.stop_time)) => {
                    return SessionResult::Crashed(performer.now());
                }
            };
            let ended = to_run_end(ended).unwrap();
            local.finish(Fact::RunEnded(ended)).await.unwrap();
            SessionResult::Ended(Box::new(local.state()))
        })
    }
}

/// The first fact of a session: the start or the resume of the run.
fn first_fact(plan: &Plan, workspace: &Workspace, is_first: bool) -> Fact {
    let steps = plan.planned_steps();
    if !is_first {
        return Fact::RunResumed(RunResumed {
            models: BTreeMap::new(),
            model: None,
            agents: BTreeMap::new(),
            continue_on_error: false,
            from: None,
            previous_owner_last_heartbeat: None,
            budget: None,
            replay: None,
            recording_folder: None,
            relocated_to: None,
            missing_files: Vec::new(),
            steps,
            version: String::new(),
        });
    }
    Fact::RunStarted(RunStarted {
        pipeline: "generated".to_owned(),
        root: String::new(),
        file: "pipelines/main.yaml".to_owned(),
        workspace: workspace.path_in_journal(),
        inputs: Map::new(),
        model: None,
        agents: BTreeMap::new(),
        models: BTreeMap::new(),
        continue_on_error: false,
        budget: None,
        replay: None,
        recording_folder: None,
        steps,
        tracker_workflow_id: None,
        version: String::new(),
    })
}

/// Ends one call after another. Before each call, waits until the run has processed the previous one. Returns when the
/// process has to die.
async fn drive_calls(
    performer: &ScriptedPerformer,
    run: &LocalRun,
    (session_end, stop_signal, stop_time): (SessionEnd, &StopSignal, &mut Option<u64>),
) {
    let mut ended_calls = 0;
    loop {
        let mut idle_rounds = 0;
        let mut previous = (0, 0);
        while idle_rounds < 2 {
            run.flush().await.unwrap();
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            let now = (performer.recorded_facts(), performer.calls_in_flight());
            if performer.take_backoff() {
                // A timer with a duration of zero still needs a tick of the clock.
                tokio::time::sleep(Duration::from_millis(2)).await;
                idle_rounds = 0;
                continue;
            }
            idle_rounds = if now == previous { idle_rounds + 1 } else { 0 };
            previous = now;
        }
        if session_end == SessionEnd::Crash(ended_calls) {
            return;
        }
        if session_end == SessionEnd::Stop(ended_calls) && stop_time.is_none() && performer.calls_in_flight() > 0 {
            *stop_time = Some(performer.now());
            stop_signal.request_stop();
            // The run needs a tick of the clock to process the stop.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        if performer.calls_in_flight() == 0 {
            // No call is in flight, so the run is about to end.
            tokio::time::sleep(Duration::from_micros(100)).await;
            continue;
        }
        performer.end_next_call();
        ended_calls += 1;
    }
}

impl Run {
    /// The paths and contents of the files in the workspace.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        fn walk(folder: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    let name = path.strip_prefix(root).unwrap().display().to_string();
                    files.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(self.workspace.folder(), self.workspace.folder(), &mut files);
        files
    }
}
