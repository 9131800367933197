//! Runs the files of a generated pipeline: the program's own code loads, checks, plans and interprets them over a real
//! journal and a real workspace. Only the calls are scripted.

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
use orch::session::{SessionError, plan_project, to_run_end};
use orch::store::{CancelSwitch, Journal, LocalRun, Lock, RunParts, Workspace};
use serde_json::Map;

use super::performer::ScriptedPerformer;
use super::pipeline::TestPipeline;
use super::script::Script;

/// A project folder with a journal and a workspace.
pub(crate) struct Harness {
    folder: tempfile::TempDir,
    journal: Journal,
    runtime: tokio::runtime::Runtime,
}

/// One run in the project.
pub(crate) struct Run {
    id: RunId,
    workspace: Workspace,
    pub(crate) performer: Option<ScriptedPerformer>,
    /// The virtual time at which the last session was stopped.
    pub(crate) stopped: Option<u64>,
}

/// How a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// It runs to its end.
    End,
    /// The process dies after so many calls.
    Crash(usize),
    /// A stop is requested after so many calls.
    Stop(usize),
}

/// The result of a session.
pub(crate) enum SessionResult {
    Ended(Box<RunState>),
    /// The virtual time at which the process died.
    Crashed(u64),
}

/// Removes the pauses between retries from a plan, so that the test does not wait for them.
fn remove_pauses(node: &mut PlanNode) {
    match &mut node.kind {
        NodeKind::Agent(agent) => agent.limits.backoff = Some(Duration::ZERO),
        NodeKind::Command(command) => command.limits.backoff = Some(Duration::ZERO),
        NodeKind::Write(_) | NodeKind::Approve(_) => {}
        NodeKind::Parallel(nodes, _) | NodeKind::Sequence(nodes) => nodes.iter_mut().for_each(remove_pauses),
        NodeKind::Repeat(repeat) => repeat.nodes.iter_mut().for_each(remove_pauses),
        NodeKind::Pipeline(call) => call.body.nodes.iter_mut().chain(&mut call.body.finally).for_each(remove_pauses),
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        // The journal waits for the disk, unless there is a folder in memory.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
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
        Self { folder, journal, runtime }
    }

    /// The plan of a pipeline's files, or the findings if the check refuses them.
    pub(crate) fn plan(&self, pipeline: &TestPipeline, lenient: bool) -> Result<Plan, String> {
        pipeline.write(self.folder.path());
        let words = |findings: &[orch::diagnostic::Diagnostic]| {
            let errors = findings.iter().filter(|finding| finding.is_error());
            errors.map(|finding| format!("{}: {}", finding.code, finding.message)).collect::<Vec<_>>().join("\n")
        };
        let project = config::load(&self.folder.path().join("pipelines/main.yaml")).map_err(|found| words(&found))?;
        let found = words(&check::check(&project));
        if !found.is_empty() {
            return Err(found);
        }
        let defaults = StepDefaults { continue_on_error: lenient, ..StepDefaults::default() };
        let planned = |name: &str| {
            let reference = ModelRef::parse(name).ok_or_else(|| SessionError::internal("no model"))?;
            Ok(PlannedModel::new(reference, "openai"))
        };
        let plan = plan_project(&project, Map::new(), &defaults, &planned);
        let mut plan = plan.map_err(|error| error.to_string())?;
        plan.body.nodes.iter_mut().chain(&mut plan.body.finally).for_each(remove_pauses);
        Ok(plan)
    }

    pub(crate) fn begin(&self, name: &str) -> Run {
        let workspace = Workspace::open(&self.folder.path().join("spaces").join(name)).unwrap();
        Run { id: RunId(uuid::Uuid::now_v7()), workspace, performer: None, stopped: None }
    }

    pub(crate) fn events(&self, run: &Run) -> Vec<Event> {
        self.journal.events(run.id).unwrap()
    }

    /// Runs one session.
    pub(crate) fn session(
        &self,
        run: &mut Run,
        plan: &Plan,
        script: Script,
        session: u32,
        until: SessionEnd,
    ) -> SessionResult {
        let performer = ScriptedPerformer::new(script, session, run.workspace.folder(), run.performer.as_ref());
        run.performer = Some(performer.clone());
        run.stopped = None;
        let events = self.events(run);
        let switch = CancelSwitch::default();
        let lock = Lock::acquire(&self.journal.lock_file(run.id), "the run", "a test").unwrap();
        let parts = RunParts {
            run: run.id,
            workspace: run.workspace.clone(),
            perform: Arc::new(performer.clone()),
            observer: Arc::new(performer.clone()),
            cancel_switch: switch.clone(),
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
                () = drive(&performer, &local, (until, &switch, &mut run.stopped)) => {
                    return SessionResult::Crashed(performer.now());
                }
            };
            let ended = to_run_end(ended).unwrap();
            local.finish(Fact::RunEnded(ended)).await.unwrap();
            SessionResult::Ended(Box::new(local.state()))
        })
    }
}

/// The first fact of a session.
fn first_fact(plan: &Plan, workspace: &Workspace, fresh: bool) -> Fact {
    let steps = plan.planned_steps();
    if !fresh {
        return Fact::RunResumed(RunResumed {
            models: BTreeMap::new(),
            model: None,
            agents: BTreeMap::new(),
            continue_on_error: false,
            from: None,
            previous_owner_last_heartbeat: None,
            budget: None,
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
        steps,
        tracker_workflow_id: None,
        version: String::new(),
    })
}

/// Ends one call after another, each after the run has processed the previous one; returns when the process is to die.
async fn drive(
    performer: &ScriptedPerformer,
    run: &LocalRun,
    (until, switch, stopped): (SessionEnd, &CancelSwitch, &mut Option<u64>),
) {
    let mut made = 0;
    loop {
        let mut still = 0;
        let mut before = (0, 0);
        while still < 2 {
            run.flush().await.unwrap();
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            let now = (performer.recorded(), performer.waiting());
            if performer.pauses() {
                // Even a pause of no time takes the clock a moment.
                tokio::time::sleep(Duration::from_millis(2)).await;
                still = 0;
                continue;
            }
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
        if until == SessionEnd::Crash(made) {
            return;
        }
        if until == SessionEnd::Stop(made) && stopped.is_none() && performer.waiting() > 0 {
            *stopped = Some(performer.now());
            switch.press();
            // Even a grace period of no time takes the clock a moment.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        if performer.waiting() == 0 {
            // No call is in flight, so the run is about to end.
            tokio::time::sleep(Duration::from_micros(100)).await;
            continue;
        }
        performer.end_next_call();
        made += 1;
    }
}

impl Run {
    /// The files of the workspace.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        fn walk(folder: &Path, base: &Path, found: &mut BTreeMap<String, String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, base, found);
                } else {
                    let name = path.strip_prefix(base).unwrap().display().to_string();
                    found.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.workspace.folder(), self.workspace.folder(), &mut found);
        found
    }
}
