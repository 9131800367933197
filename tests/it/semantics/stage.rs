//! Runs the files of a generated pipeline: loaded, checked, planned and interpreted by the program's own
//! code over a real journal and a real workspace; only the calls are scripted.

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
use orch::session::{SessionError, plan_project, run_ended};
use orch::store::{CancelSwitch, Journal, LocalRun, Lock, RunParts, WorkspaceView};
use serde_json::Map;

use super::board::Board;
use super::pipe::Pipe;
use super::script::Script;

/// A project's folder with a journal and a workspace.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    journal: Journal,
    runtime: tokio::runtime::Runtime,
}

/// One run on a stage.
pub(crate) struct Run {
    id: RunId,
    view: WorkspaceView,
    pub(crate) board: Option<Board>,
    /// The virtual time at which the last session was asked to stop.
    pub(crate) stopped: Option<u64>,
}

/// How a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// By itself.
    End,
    /// The process is gone after so many calls.
    Crash(usize),
    /// Somebody asks for a stop after so many calls.
    Stop(usize),
}

/// What a session came to.
pub(crate) enum Came {
    Ended(Box<RunState>),
    /// The virtual time at which the process was gone.
    Crashed(u64),
}

/// Takes the pauses between tries out of a plan: nobody waits for them here.
fn hurry(node: &mut PlanNode) {
    match &mut node.kind {
        NodeKind::Agent(agent) => agent.limits.backoff = Some(Duration::ZERO),
        NodeKind::Command(command) => command.limits.backoff = Some(Duration::ZERO),
        NodeKind::Write(_) | NodeKind::Approve(_) => {}
        NodeKind::Parallel(nodes, _) | NodeKind::Sequence(nodes) => nodes.iter_mut().for_each(hurry),
        NodeKind::Repeat(repeat) => repeat.nodes.iter_mut().for_each(hurry),
        NodeKind::Pipeline(call) => call.body.nodes.iter_mut().chain(&mut call.body.finally).for_each(hurry),
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        // The journal waits for the disk: where there is one in memory, it is spared.
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

    /// The plan of a pipeline's files; the findings where the check refuses it.
    pub(crate) fn plan(&self, pipe: &Pipe, lenient: bool) -> Result<Plan, String> {
        pipe.write(self.folder.path());
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
        plan.body.nodes.iter_mut().chain(&mut plan.body.finally).for_each(hurry);
        Ok(plan)
    }

    pub(crate) fn begin(&self, name: &str) -> Run {
        let view = WorkspaceView::open(&self.folder.path().join("spaces").join(name)).unwrap();
        Run { id: RunId(uuid::Uuid::now_v7()), view, board: None, stopped: None }
    }

    pub(crate) fn events(&self, run: &Run) -> Vec<Event> {
        self.journal.events(run.id).unwrap()
    }

    /// One session of a run.
    pub(crate) fn session(&self, run: &mut Run, plan: &Plan, script: Script, session: u32, until: Until) -> Came {
        let board = Board::new(script, session, run.view.folder(), run.board.as_ref());
        run.board = Some(board.clone());
        run.stopped = None;
        let events = self.events(run);
        let switch = CancelSwitch::default();
        let lock = Lock::acquire(&self.journal.lock_file(run.id), "the run", "a test").unwrap();
        let parts = RunParts {
            run: run.id,
            workspace: run.view.clone(),
            perform: Arc::new(board.clone()),
            observer: Arc::new(board.clone()),
            cancel_switch: switch.clone(),
            prompter: Some(Arc::new(board.clone())),
            result_cache: None,
            heartbeat: lock.heartbeat().unwrap(),
            clock: Arc::new(SystemClock),
        };
        let local = LocalRun::open(&self.journal, parts, &events).unwrap();
        local.enqueue(first(plan, &run.view, events.is_empty()));
        self.runtime.block_on(async {
            let ended = tokio::select! {
                biased;
                ended = engine::interpret(&local, plan) => ended,
                () = drive(&board, &local, (until, &switch, &mut run.stopped)) => {
                    return Came::Crashed(board.now());
                }
            };
            let ended = run_ended(ended).unwrap();
            local.finish(Fact::RunEnded(ended)).await.unwrap();
            Came::Ended(Box::new(local.state()))
        })
    }
}

/// What a session says first.
fn first(plan: &Plan, view: &WorkspaceView, fresh: bool) -> Fact {
    let steps = plan.planned_steps();
    if !fresh {
        return Fact::RunResumed(RunResumed {
            models: BTreeMap::new(),
            model: None,
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
        workspace: view.journal_name(),
        inputs: Map::new(),
        model: None,
        models: BTreeMap::new(),
        continue_on_error: false,
        budget: None,
        steps,
        tracker_workflow_id: None,
        version: String::new(),
    })
}

/// Ends one call after the other, each when everything that follows from the one before has come about;
/// returns when the process shall be gone.
async fn drive(board: &Board, run: &LocalRun, (until, switch, stopped): (Until, &CancelSwitch, &mut Option<u64>)) {
    let mut made = 0;
    loop {
        let mut still = 0;
        let mut before = (0, 0);
        while still < 2 {
            run.flush().await.unwrap();
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            let now = (board.recorded(), board.waiting());
            if board.pauses() {
                // Even no time at all takes a clock a moment.
                tokio::time::sleep(Duration::from_millis(2)).await;
                still = 0;
                continue;
            }
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
        if until == Until::Crash(made) {
            return;
        }
        if until == Until::Stop(made) && stopped.is_none() && board.waiting() > 0 {
            *stopped = Some(board.now());
            switch.press();
            // Even no time of grace at all takes a clock a moment.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        if board.waiting() == 0 {
            // Nothing is in flight: the run is about to end.
            tokio::time::sleep(Duration::from_micros(100)).await;
            continue;
        }
        board.step();
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
        walk(self.view.folder(), self.view.folder(), &mut found);
        found
    }
}
