//! A run with its project, journal and model server in virtual time: only the clock differs from the real program.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orch::accounts::{LocalFiles, ProviderLimits, RateLimiters};
use orch::agent::{EnvLookup, ModelRegistry};
use orch::clock::Clock as _;
use orch::config::{self, Project};
use orch::durable::{CallProgress, Observer};
use orch::engine::budget_meter::BudgetMeter;
use orch::engine::perform::{Performer, RecordReplay};
use orch::engine::{self, Plan, PlannedModel, StepDefaults};
use orch::files::PathIndex;
use orch::folder::{FolderAccess, NoFollowFolder};
use orch::model::event::{ApprovalAnswered, ApprovalDecision, CallEnded, Event, Fact, RunResumed, RunStarted};
use orch::model::{FailureClass, ModelRef, RunId, RunState, StepKey};
use orch::network::Network;
use orch::process::{EndingGroups, SandboxContext, SandboxProbe, SupervisorSpec};
use orch::runner::{PlanBundle, RunnerError, plan_project, to_run_end};
use orch::secret::Redactor;
use orch::store::{ApprovalPrompter, InboxMessage, Journal, LocalRun, Lock, RunParts, StopSignal, Workspace};
use orch::tool::mcp::{McpContext, McpServers};
use serde_json::Map;

use super::clock::{CallsInFlight, VirtualClock};
use super::server::{ScriptedReply, serve};
use crate::support::Orch;
use crate::support::branches::{branch_mode, with_branch_mode};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// One run, with its project, journal and virtual clock.
pub(crate) struct SimulatedRun {
    project: Orch,
    journal: Journal,
    run: RunId,
    pub(crate) clock: Arc<VirtualClock>,
    calls_in_flight: Arc<CallsInFlight>,
    pauses: Arc<Mutex<Vec<u64>>>,
    /// The time at which the process of the last session died, if it did.
    crash_time: Option<jiff::Timestamp>,
}

/// Returns the time until the answer to the question of a step, and whether the answer is an approval.
pub(crate) type AnswerScript = Arc<dyn Fn(&str) -> (Duration, bool) + Send + Sync>;

/// The events from outside during a session.
#[derive(Default)]
pub(crate) struct SessionScript {
    /// The answers of a person at the terminal. Without a person, the run waits for another process.
    pub(crate) answers: Option<AnswerScript>,
    /// The time after which the process dies.
    pub(crate) crash_after: Option<Duration>,
    /// The pauses before the stops, one after another.
    pub(crate) stop_delays: Vec<Duration>,
}

/// The limits of the providers of a project.
fn rate_limiters(project: &Project) -> RateLimiters {
    let limits = |provider: &config::ProviderSettings| ProviderLimits {
        requests: provider.requests_per_minute,
        ..ProviderLimits::default()
    };
    let providers = project.settings.providers.iter();
    RateLimiters::new(64, providers.map(|(name, provider)| (name.clone(), limits(provider))))
}

/// Runs a test in virtual time. `pipeline` contains the steps of the pipeline, and `script` the replies of the server.
pub(crate) fn simulate(
    pipeline: &str,
    script: impl Fn(&str, usize) -> ScriptedReply + Send + Sync + 'static,
    test: impl AsyncFnOnce(SimulatedRun),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async move {
        let (clock, calls_in_flight) = (Arc::new(VirtualClock::new()), Arc::new(CallsInFlight::default()));
        let url = serve(Arc::new(script), calls_in_flight.clone(), clock.clone()).await;
        let project = Orch::empty();
        project.write(
            "orch.yaml",
            &format!("providers:\n  lab: {{ dialect: openai, base_url: \"{url}\", requests_per_minute: 100 }}\n"),
        );
        project.write("prompts/p.md", "Answer.\n");
        project.write("pipelines/main.yaml", &format!("name: hours\nagents: {{ a: {{ model: lab/m }} }}\n{pipeline}"));
        let journal = Journal::open(&project.path().join(".orch")).unwrap();
        let run = RunId(uuid::Uuid::now_v7());
        test(SimulatedRun { project, journal, run, clock, calls_in_flight, pauses: Arc::default(), crash_time: None })
            .await;
    });
}

/// A person at the terminal who answers at scripted times.
struct ScriptedPerson {
    clock: Arc<VirtualClock>,
    answers: AnswerScript,
}

impl ApprovalPrompter for ScriptedPerson {
    fn prompt(&self, step: StepKey, _: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let (clock, (delay, approved)) = (self.clock.clone(), (self.answers)(step.as_str()));
        async move {
            tokio::time::sleep(delay).await;
            Some(decision(approved, clock.now()))
        }
        .boxed()
    }
}

fn decision(approved: bool, at: jiff::Timestamp) -> ApprovalDecision {
    ApprovalDecision { approved, note: String::new(), by: "ada".to_owned(), at }
}

/// Reports the progress of calls to [`CallsInFlight`], and records the pauses before retries.
struct CallObserver {
    clock: Arc<VirtualClock>,
    calls_in_flight: Arc<CallsInFlight>,
    pauses: Arc<Mutex<Vec<u64>>>,
}

impl Observer for CallObserver {
    fn on_event(&self, event: &Event) {
        if let Fact::CallEnded(ended) = &event.fact {
            self.calls_in_flight.end(ended.call.step.as_str());
        }
    }

    fn on_progress(&self, progress: &CallProgress) {
        match progress {
            CallProgress::Sent(key) => self.calls_in_flight.begin(key.step.to_string(), &*self.clock),
            // The command of a test prints this line when it has started, before it sleeps in real time.
            CallProgress::Output(key, line) if line == "asleep" => {
                self.calls_in_flight.on_arrival(key.step.as_str());
            }
            CallProgress::Backoff(_, millis) => self.pauses.lock().unwrap().push(*millis),
            _ => {}
        }
    }
}

impl SimulatedRun {
    fn load(&self) -> (Project, Arc<ModelRegistry>) {
        let project = config::load(&self.project.path().join("pipelines/main.yaml")).unwrap_or_else(|findings| {
            panic!("{:?}", findings.iter().map(|finding| &finding.message).collect::<Vec<_>>())
        });
        let findings = orch::check::check(&project);
        assert!(!findings.iter().any(orch::diagnostic::Diagnostic::is_error), "{findings:?}");
        let models = ModelRegistry::new(&project.settings, &env_lookup(), self.project.path().join("cache"));
        (project, Arc::new(models))
    }

    /// Changes the pipeline between two sessions.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        self.project.edit("pipelines/main.yaml", from, to);
    }

    /// Changes `orch.yaml` between two sessions.
    pub(crate) fn edit_settings(&self, from: &str, to: &str) {
        self.project.edit("orch.yaml", from, to);
    }

    /// Lets time pass while no process runs.
    pub(crate) async fn advance(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Runs one session. Returns the state of the run, or `None` if the process died.
    pub(crate) async fn run_session_with(&mut self, script: SessionScript) -> Option<RunState> {
        let (project, models) = self.load();
        let planned_model = |name: &str| {
            let reference = ModelRef::parse(name).ok_or_else(|| RunnerError::internal("no model"))?;
            let provider = models.provider(&reference.provider)?;
            Ok(PlannedModel::new(reference, provider.dialect()))
        };
        let defaults = StepDefaults::default();
        let plan = plan_project(&project, Map::new(), &defaults, &planned_model).unwrap();
        let collect = || PlanBundle::from_project(&project, &defaults, &planned_model).unwrap();
        let plan = with_branch_mode(plan, branch_mode(), collect, |_| {});
        let workspace = Workspace::open(&self.project.path().join("workspace")).unwrap();
        let events = self.events();
        let lock = Lock::acquire(&self.journal.lock_file(self.run), "the run", "a test").unwrap();
        let (clock, calls_in_flight, pauses) = (self.clock.clone(), self.calls_in_flight.clone(), self.pauses.clone());
        let observer = Arc::new(CallObserver { clock, calls_in_flight, pauses });
        let supervisor = SupervisorSpec::from(std::path::PathBuf::from(env!("CARGO_BIN_EXE_orch")));
        let sandbox = Arc::new(SandboxContext::new(
            SandboxProbe::new(env!("CARGO_BIN_EXE_orch").into()),
            workspace.folder().to_path_buf(),
        ));
        let redactor = Arc::new(Redactor::default());
        let servers = McpServers::new(McpContext {
            sandbox: sandbox.clone(),
            variables: env_lookup(),
            supervisor: supervisor.clone(),
            ending_process_groups: EndingGroups::new(self.clock.clone()),
            network: Arc::new(Network::from_variables(|_| None)),
            redactor: redactor.clone(),
            legacy_servers: None,
            start_limits: orch::tool::mcp::StartLimits::default(),
            can_ask: false,
        });
        let meter = Arc::new(BudgetMeter::new(&plan, models.clone()));
        let performer = Performer {
            models,
            observer: observer.clone(),
            redactor,
            workspace: workspace.folder().to_path_buf(),
            agents_folder: NoFollowFolder::open(self.project.path(), FolderAccess::Private).unwrap().subfolder("homes"),
            artifact_files: Arc::new(PathIndex::new(plan.artifact_paths())),
            project_files: Arc::default(),
            env_vars: env_lookup(),
            rates: Arc::new(rate_limiters(&project)),
            budgets: meter.local_budgets(&plan, &events, self.crash_time),
            meter,
            record_replay: RecordReplay::default(),
            files: Arc::new(LocalFiles::default()),
            clock: self.clock.clone(),
            supervisor,
            endings: Arc::default(),
            sandbox,
            mcp: Arc::new(servers),
            prompter: None,
        };
        let prompter = script.answers.map(|answers| {
            Arc::new(ScriptedPerson { clock: self.clock.clone(), answers }) as Arc<dyn ApprovalPrompter>
        });
        let stop_signal = StopSignal::default();
        let parts = RunParts {
            run: self.run,
            workspace: workspace.clone(),
            perform: Arc::new(performer),
            observer,
            stop_signal: stop_signal.clone(),
            prompter,
            result_cache: None,
            heartbeat: lock.heartbeat().unwrap(),
            clock: self.clock.clone(),
        };
        let local = LocalRun::open(&self.journal, parts, &events).unwrap();
        local.enqueue(first_fact(&plan, &workspace, self.crash_time.take(), events.is_empty()));
        let messages = self.journal.pending_messages(self.run).unwrap();
        for (_, message) in &messages {
            local.enqueue(message.clone().into_fact());
        }
        let mut run = pin!(engine::interpret(&local, &plan));
        let request_stops = async {
            for delay in &script.stop_delays {
                tokio::time::sleep(*delay).await;
                stop_signal.request_stop();
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            ended = &mut run => ended,
            () = async { tokio::time::sleep(script.crash_after.unwrap()).await }, if script.crash_after.is_some() => {
                self.crash_time = Some(self.clock.now());
                self.calls_in_flight.clear();
                return None;
            }
            () = request_stops => unreachable!(),
        };
        let ended = to_run_end(ended).unwrap();
        local.finish(Fact::RunEnded(ended)).await.unwrap();
        self.journal.remove_messages(&messages.iter().map(|(number, _)| *number).collect::<Vec<_>>()).unwrap();
        Some(local.state())
    }

    /// Runs a session to its end, without a person and without a stop.
    pub(crate) async fn run_session(&mut self) -> RunState {
        self.run_session_with(SessionScript::default()).await.unwrap()
    }

    /// Answers the latest question, as another process would do.
    pub(crate) fn send_answer(&self, approved: bool) {
        let question = self.events().into_iter().rev().find_map(|event| match event.fact {
            Fact::ApprovalAsked(question) => Some(question),
            _ => None,
        });
        let question = question.expect("no question was asked");
        let answer = decision(approved, self.clock.now());
        let message = ApprovalAnswered {
            step: question.step,
            attempt: question.attempt,
            ordinal: question.ordinal,
            tool_call: question.tool_call,
            input_round: question.input_round,
            question_digest: question.question_digest,
            answer,
        };
        self.journal.send_message(self.run, &InboxMessage::Answer(message)).unwrap();
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.journal.events(self.run).unwrap()
    }

    /// The time in milliseconds since the start of the test.
    pub(crate) fn now(&self) -> u64 {
        VirtualClock::millis_since_start(self.clock.now())
    }

    /// The start and end times of the recorded calls of a step, in milliseconds since the start of the test.
    pub(crate) fn call_times(&self, step: &str) -> Vec<(u64, u64)> {
        let millis = VirtualClock::millis_since_start;
        let times = |call: &CallEnded| (millis(call.started), millis(call.ended));
        let call_times = self.events().into_iter().filter_map(|event| match event.fact {
            Fact::CallEnded(call) if call.call.step.as_str() == step => Some(times(&call)),
            _ => None,
        });
        call_times.collect()
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

    /// The times at which the matching facts were recorded, in milliseconds since the start of the test.
    pub(crate) fn event_times(&self, is_match: impl Fn(&Fact) -> bool) -> Vec<u64> {
        let events = self.events();
        let matches = events.iter().filter(|event| is_match(&event.fact));
        matches.map(|event| VirtualClock::millis_since_start(event.at)).collect()
    }

    /// The pauses before retries so far, in milliseconds.
    pub(crate) fn pauses(&self) -> Vec<u64> {
        self.pauses.lock().unwrap().clone()
    }
}

fn env_lookup() -> EnvLookup {
    Arc::new(|name| (name == "PATH").then(|| "/usr/bin:/bin".to_owned()))
}

/// The first fact of a session.
fn first_fact(plan: &Plan, workspace: &Workspace, last_heartbeat: Option<jiff::Timestamp>, is_first: bool) -> Fact {
    let (models, steps, version) = (BTreeMap::new(), plan.planned_steps(), String::new());
    if !is_first {
        let (model, from, budget) = (None, None, None);
        return Fact::RunResumed(RunResumed {
            models,
            model,
            agents: BTreeMap::new(),
            continue_on_error: false,
            from,
            previous_owner_last_heartbeat: last_heartbeat,
            relocated_to: None,
            missing_files: Vec::new(),
            budget,
            replay: None,
            recording_folder: None,
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
        replay: None,
        recording_folder: None,
        steps,
        tracker_workflow_id: None,
        version,
    })
}
