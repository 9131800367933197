//! A run with its project, journal and model server in virtual time: only the clock differs from the real program.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orch::agent::{EnvLookup, ModelRegistry};
use orch::clock::Clock as _;
use orch::config::{self, Project};
use orch::durable::{CallProgress, Observer};
use orch::engine::budget::Budgets;
use orch::engine::perform::{Performer, RecordReplay};
use orch::engine::rate_limit::{ProviderLimits, RateLimiters};
use orch::engine::{self, Plan, PlannedModel, StepDefaults};
use orch::folder::{FolderAccess, NoFollowFolder};
use orch::model::event::{ApprovalAnswered, ApprovalDecision, CallEnded, Event, Fact, RunResumed, RunStarted};
use orch::model::{FailureClass, ModelRef, RunId, RunState, StepKey};
use orch::process::{SandboxHost, SandboxProbe};
use orch::secret::Redactor;
use orch::session::{SessionError, plan_project, to_run_end};
use orch::store::{ApprovalPrompter, CancelSwitch, InboxMessage, Journal, LocalRun, Lock, RunParts, Workspace};
use serde_json::Map;

use super::clock::{CallsInFlight, VirtualClock};
use super::server::{ScriptedReply, serve};
use crate::support::Orch;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// One run of a project.
pub(crate) struct SimulatedRun {
    files: Orch,
    journal: Journal,
    run: RunId,
    pub(crate) clock: Arc<VirtualClock>,
    calls: Arc<CallsInFlight>,
    pauses: Arc<Mutex<Vec<u64>>>,
    /// When the process died, if it did.
    died: Option<jiff::Timestamp>,
}

/// A person's answer to the question of a step, and the time until it.
pub(crate) type Answers = Arc<dyn Fn(&str) -> (Duration, bool) + Send + Sync>;

/// What happens during a session.
#[derive(Default)]
pub(crate) struct Session {
    /// The answers of a person at the terminal.
    pub(crate) person: Option<Answers>,
    /// After which time the process dies.
    pub(crate) dies: Option<Duration>,
    /// After which times a stop is requested.
    pub(crate) stops: Vec<Duration>,
}

/// Runs a test in virtual time, with the steps of a pipeline and the replies of the server.
pub(crate) fn simulate(
    pipeline: &str,
    script: impl Fn(&str, usize) -> ScriptedReply + Send + Sync + 'static,
    test: impl AsyncFnOnce(SimulatedRun),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async move {
        let (clock, calls) = (Arc::new(VirtualClock::new()), Arc::new(CallsInFlight::default()));
        let url = serve(Arc::new(script), calls.clone(), clock.clone()).await;
        let files = Orch::empty();
        files.write(
            "orch.yaml",
            &format!("providers:\n  lab: {{ dialect: openai, base_url: \"{url}\", requests_per_minute: 100 }}\n"),
        );
        files.write("prompts/p.md", "Answer.\n");
        files.write("pipelines/main.yaml", &format!("name: hours\nagents: {{ a: {{ model: lab/m }} }}\n{pipeline}"));
        let journal = Journal::open(&files.path().join(".orch")).unwrap();
        let run = RunId(uuid::Uuid::now_v7());
        test(SimulatedRun { files, journal, run, clock, calls, pauses: Arc::default(), died: None }).await;
    });
}

/// The person at the terminal.
struct Person {
    clock: Arc<VirtualClock>,
    says: Answers,
}

impl ApprovalPrompter for Person {
    fn prompt(&self, step: StepKey, _: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let (clock, (after, approved)) = (self.clock.clone(), (self.says)(step.as_str()));
        async move {
            tokio::time::sleep(after).await;
            Some(decision(approved, clock.now()))
        }
        .boxed()
    }
}

fn decision(approved: bool, at: jiff::Timestamp) -> ApprovalDecision {
    ApprovalDecision { approved, note: String::new(), by: "ada".to_owned(), at }
}

/// Holds time while calls are on their way, and records pauses.
struct CallObserver {
    clock: Arc<VirtualClock>,
    calls: Arc<CallsInFlight>,
    pauses: Arc<Mutex<Vec<u64>>>,
}

impl Observer for CallObserver {
    fn on_event(&self, event: &Event) {
        if let Fact::CallEnded(ended) = &event.fact {
            self.calls.end(ended.call.step.as_str());
        }
    }

    fn on_progress(&self, signal: &CallProgress) {
        match signal {
            CallProgress::Sent(key) => self.calls.begin(key.step.to_string(), &*self.clock),
            // The command prints this before it sleeps in real time.
            CallProgress::Output(key, line) if line == "asleep" => drop(self.calls.arrived(key.step.as_str())),
            CallProgress::Backoff(_, millis) => self.pauses.lock().unwrap().push(*millis),
            _ => {}
        }
    }
}

impl SimulatedRun {
    fn load(&self) -> (Project, Arc<ModelRegistry>) {
        let project = config::load(&self.files.path().join("pipelines/main.yaml"))
            .unwrap_or_else(|found| panic!("{:?}", found.iter().map(|found| &found.message).collect::<Vec<_>>()));
        let found = orch::check::check(&project);
        assert!(!found.iter().any(orch::diagnostic::Diagnostic::is_error), "{found:?}");
        let models = ModelRegistry::new(&project.settings, &variables(), self.files.path().join("cache"));
        (project, Arc::new(models))
    }

    /// Changes the pipeline between two sessions.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        self.files.edit("pipelines/main.yaml", from, to);
    }

    /// Changes `orch.yaml`.
    pub(crate) fn edit_settings(&self, from: &str, to: &str) {
        self.files.edit("orch.yaml", from, to);
    }

    /// Lets time pass while no process runs.
    pub(crate) async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Runs one session; returns the state of the run, or `None` if the process died.
    pub(crate) async fn session(&mut self, how: Session) -> Option<RunState> {
        let (project, models) = self.load();
        let planned = |name: &str| {
            let reference = ModelRef::parse(name).ok_or_else(|| SessionError::internal("no model"))?;
            let provider = models.provider(&reference.provider)?;
            Ok(PlannedModel::new(reference, provider.dialect()))
        };
        let plan = plan_project(&project, Map::new(), &StepDefaults::default(), &planned).unwrap();
        let workspace = Workspace::open(&self.files.path().join("workspace")).unwrap();
        let events = self.events();
        let lock = Lock::acquire(&self.journal.lock_file(self.run), "the run", "a test").unwrap();
        let (clock, calls, pauses) = (self.clock.clone(), self.calls.clone(), self.pauses.clone());
        let observer = Arc::new(CallObserver { clock, calls, pauses });
        let allowed = |provider: &config::ProviderSettings| ProviderLimits {
            requests: provider.requests_per_minute,
            ..ProviderLimits::default()
        };
        let providers = project.settings.providers.iter().map(|(name, provider)| (name.clone(), allowed(provider)));
        let performer = Performer {
            models: models.clone(),
            observer: observer.clone(),
            redactor: Arc::new(Redactor::default()),
            workspace: workspace.folder().to_path_buf(),
            agents_folder: NoFollowFolder::open(self.files.path(), FolderAccess::Private).unwrap().subfolder("homes"),
            artifact_files: plan.artifact_paths(),
            project_files: Vec::new(),
            env_vars: variables(),
            rate_limiters: Arc::new(RateLimiters::new(64, providers)),
            budgets: Budgets::new(&plan, &events, self.died, models),
            record_replay: RecordReplay::default(),
            file_ledger: Arc::default(),
            clock: self.clock.clone(),
            guard: std::path::PathBuf::from(env!("CARGO_BIN_EXE_orch")).into(),
            endings: Arc::default(),
            sandbox: Arc::new(SandboxHost::new(
                SandboxProbe::new(env!("CARGO_BIN_EXE_orch").into()),
                workspace.folder().to_path_buf(),
            )),
        };
        let prompter =
            how.person.map(|says| Arc::new(Person { clock: self.clock.clone(), says }) as Arc<dyn ApprovalPrompter>);
        let switch = CancelSwitch::default();
        let parts = RunParts {
            run: self.run,
            workspace: workspace.clone(),
            perform: Arc::new(performer),
            observer,
            cancel_switch: switch.clone(),
            prompter,
            result_cache: None,
            heartbeat: lock.heartbeat().unwrap(),
            clock: self.clock.clone(),
        };
        let local = LocalRun::open(&self.journal, parts, &events).unwrap();
        local.enqueue(first_fact(&plan, &workspace, self.died.take(), events.is_empty()));
        let messages = self.journal.pending_messages(self.run).unwrap();
        for (_, message) in &messages {
            local.enqueue(message.clone().into_fact());
        }
        let mut run = pin!(engine::interpret(&local, &plan));
        let stops = async {
            for after in &how.stops {
                tokio::time::sleep(*after).await;
                switch.press();
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            ended = &mut run => ended,
            () = async { tokio::time::sleep(how.dies.unwrap()).await }, if how.dies.is_some() => {
                self.died = Some(self.clock.now());
                self.calls.forget();
                return None;
            }
            () = stops => unreachable!(),
        };
        let ended = to_run_end(ended).unwrap();
        local.finish(Fact::RunEnded(ended)).await.unwrap();
        self.journal.remove_messages(&messages.iter().map(|(number, _)| *number).collect::<Vec<_>>()).unwrap();
        Some(local.state())
    }

    /// Runs a session without a person, a death or a stop.
    pub(crate) async fn run_session(&mut self) -> RunState {
        self.session(Session::default()).await.unwrap()
    }

    /// Sends an answer to the one open question from another process.
    pub(crate) fn send_answer(&self, approved: bool) {
        let asked = self.events().into_iter().rev().find_map(|event| match event.fact {
            Fact::ApprovalAsked(asked) => Some(asked),
            _ => None,
        });
        let asked = asked.expect("nobody was asked");
        let answer = decision(approved, self.clock.now());
        let message = ApprovalAnswered {
            step: asked.step,
            attempt: asked.attempt,
            ordinal: asked.ordinal,
            question_digest: asked.question_digest,
            answer,
        };
        self.journal.send_message(self.run, &InboxMessage::Answer(message)).unwrap();
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.journal.events(self.run).unwrap()
    }

    /// The time in milliseconds since the start of the test.
    pub(crate) fn now(&self) -> u64 {
        VirtualClock::millis(self.clock.now())
    }

    /// The recorded calls of a step: when each began and ended, in milliseconds since the start of the test.
    pub(crate) fn calls(&self, step: &str) -> Vec<(u64, u64)> {
        let times = |call: &CallEnded| (VirtualClock::millis(call.started), VirtualClock::millis(call.ended));
        let all = self.events().into_iter().filter_map(|event| match event.fact {
            Fact::CallEnded(call) if call.call.step.as_str() == step => Some(times(&call)),
            _ => None,
        });
        all.collect()
    }

    /// The latest failure of a step.
    pub(crate) fn failure(&self, step: &str) -> Option<(FailureClass, String)> {
        self.events().into_iter().rev().find_map(|event| match event.fact {
            Fact::StepFailed(failed) if failed.step.as_str() == step => {
                Some((failed.failure.class, failed.failure.message))
            }
            _ => None,
        })
    }

    /// When facts of a kind were recorded, in milliseconds since the start of the test.
    pub(crate) fn times(&self, is: impl Fn(&Fact) -> bool) -> Vec<u64> {
        self.events().iter().filter(|event| is(&event.fact)).map(|event| VirtualClock::millis(event.at)).collect()
    }

    /// The pauses before retries that were reported to the observer, in milliseconds.
    pub(crate) fn pauses(&self) -> Vec<u64> {
        self.pauses.lock().unwrap().clone()
    }
}

fn variables() -> EnvLookup {
    Arc::new(|name| (name == "PATH").then(|| "/usr/bin:/bin".to_owned()))
}

/// The first fact of a session.
fn first_fact(plan: &Plan, workspace: &Workspace, last_seen: Option<jiff::Timestamp>, fresh: bool) -> Fact {
    let (models, steps, version) = (BTreeMap::new(), plan.planned_steps(), String::new());
    if !fresh {
        let (model, from, budget) = (None, None, None);
        return Fact::RunResumed(RunResumed {
            models,
            model,
            agents: BTreeMap::new(),
            continue_on_error: false,
            from,
            previous_owner_last_heartbeat: last_seen,
            relocated_to: None,
            missing_files: Vec::new(),
            budget,
            steps,
            version,
        });
    }
    Fact::RunStarted(RunStarted {
        pipeline: "hours".to_owned(),
        root: String::new(),
        file: Path::new("pipelines/main.yaml").display().to_string(),
        workspace: workspace.path_in_journal(),
        inputs: Map::new(),
        model: None,
        agents: BTreeMap::new(),
        models,
        continue_on_error: false,
        budget: None,
        steps,
        tracker_workflow_id: None,
        version,
    })
}
