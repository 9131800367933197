//! The trait that each kind of CLI agent implements, and the code that all kinds share.
//!
//! This module prepares a turn (its folders, environment, time limit and prompt) and defines its result. The module
//! `process` runs the programs. Each kind of agent has its own file with the arguments and the protocol of its program.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::folder::{NoFollowFile, NoFollowFolder};
use crate::model::{
    AgentActivity, AgentTurn, CallKey, ChatReply, Content, Digest, Failure, FailureClass, Message, ReportedUsage, Role,
    StopReason,
};
use crate::offload::run_on_thread;
use crate::process::{CERTIFICATE_VARIABLES, EndingGroups, ProgramSpec, SandboxContext, SandboxNeeds, SupervisorSpec};

use super::env_lookup::EnvLookup;

/// The maximum size of a program's output, in bytes. orch ends a program that writes more.
const MAX_OUTPUT_BYTES: u64 = 32 << 20;
/// Variables that every program gets, such as the search path, the locale and the network's proxies.
const BASIC_VARIABLES: &[&str] = &[
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SystemRoot",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// The maximum size of the output of a program that writes events, in bytes. orch ends a program that writes more.
const MAX_EVENT_OUTPUT_BYTES: u64 = 1 << 30;
/// The size of the part of that output that orch keeps for messages, in bytes.
const CAPTURED_EVENT_OUTPUT_BYTES: usize = 64 << 10;
/// The text before the prompt when a program continues the session of an interrupted turn.
const RESUME_PREFIX: &str = "You were cut off before you answered. Check how far you got, and continue from there. \
                       The original request:";

/// The environment in which the CLI agents of a run work.
#[derive(Clone)]
pub struct AgentEnv {
    /// The workspace, absolute.
    pub workspace: PathBuf,
    /// The folder for the home folders and settings of this run's CLI agents.
    pub agents_folder: NoFollowFolder,
    /// Artifact files in the workspace; changes to them are orch's, not the agent's.
    pub artifacts: Arc<[String]>,
    /// Looks up variables in the environment of this process.
    pub variables: EnvLookup,
    /// The providers to which the settings allow sending a key over plain HTTP.
    pub insecure_providers: Vec<String>,
    /// How to start the supervisor of each CLI agent, which ends all its processes.
    pub supervisor: SupervisorSpec,
    /// The process groups of interrupted turns, until they have ended.
    pub ending_process_groups: EndingGroups,
    /// The settings and resources that the sandboxes of all programs of the run share.
    pub sandbox: Arc<SandboxContext>,
}

/// The call to which a turn belongs, the start time of the turn, and the limit on its cost.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// When the turn starts.
    pub start_time: Timestamp,
    /// The maximum cost of the turn in US dollars, if a budget limits it.
    pub max_cost: Option<f64>,
    /// The key of the call, which stays the same after a crash.
    pub call_key: CallKey,
    /// The digest of the request.
    pub request_digest: Digest,
}

/// An event during a turn.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// The program wrote text.
    Text(String),
    /// The program used a tool: the tool's name and target, which may have several lines.
    Tool(String),
    /// The id of the program's own session, which it can continue later.
    Session(String),
    /// The program reported the end of its turn, so its reply is complete.
    TurnEnded,
}

/// The result of a turn.
#[derive(Clone, Debug)]
pub struct TurnResult {
    /// The reply, or the reason for its absence.
    pub reply: Result<ChatReply, Failure>,
    /// The cost of the turn in US dollars, if the program reports it.
    pub cost: Option<f64>,
    /// What the program did, and the usage that it reported.
    pub activity: AgentActivity,
}

impl From<Failure> for TurnResult {
    fn from(failure: Failure) -> Self {
        Self { reply: Err(failure), cost: None, activity: AgentActivity::default() }
    }
}

impl TurnResult {
    /// The result of a program that reports only the text of its reply.
    pub(super) fn from_text(text: String, turn: &AgentTurn) -> Self {
        Self { reply: Ok(plain_reply(text, turn)), cost: None, activity: AgentActivity::default() }
    }
}

/// One kind of CLI agent.
pub(super) trait AgentProgram: Send + Sync {
    /// Runs one turn. The result of a failed turn contains the cost and the usage that the program reported. If the
    /// program reported neither, this method returns the failure as an error.
    fn run_turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>>;
}

/// A turn to run.
pub(super) struct TurnJob<'a> {
    /// The turn to run.
    pub(super) turn: &'a AgentTurn,
    /// The environment in which the turn runs.
    pub(super) agent_env: &'a AgentEnv,
    /// How long the turn may take.
    pub(super) timeout: Duration,
    /// The call to which the turn belongs.
    pub(super) context: &'a CallContext,
    /// Whether the turn continues the session of an interrupted attempt, in which the program has not replied yet.
    pub(super) is_resumed: bool,
}

impl TurnJob<'_> {
    /// Runs `work` on a separate thread and waits for its result. A panic in `work` propagates to the caller.
    pub(super) async fn run_on_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        run_on_thread(self.agent_env.ending_process_groups.hold_virtual_time(), work).await
    }

    /// The environment of the program: the basic variables, the variables in `inherited`, and the variables that the
    /// agent lists. `overrides` also sets variables, unless the agent lists them.
    pub(super) fn environment(&self, inherited: &[&str], overrides: Vec<(String, String)>) -> Vec<(String, String)> {
        let listed = self.turn.program.env.iter().map(String::as_str);
        let names = BASIC_VARIABLES.iter().chain(CERTIFICATE_VARIABLES).chain(inherited).copied().chain(listed);
        let mut env: Vec<(String, String)> = Vec::new();
        for name in names {
            if env.iter().all(|(existing, _)| existing != name)
                && let Some(value) = (self.agent_env.variables)(name)
            {
                env.push((name.to_owned(), value));
            }
        }
        let overrides = overrides.into_iter().filter(|(name, _)| !self.turn.program.env.contains(name));
        let overrides: Vec<_> = overrides.collect();
        env.retain(|(name, _)| overrides.iter().all(|(overridden, _)| overridden != name));
        env.extend(overrides);
        env
    }

    /// The program to run with these arguments, this environment and this standard input. If orch confines the program,
    /// its sandbox also allows `needs`.
    pub(super) async fn program_spec(
        &self,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        stdin: Option<String>,
        needs: SandboxNeeds,
    ) -> Result<ProgramSpec, Failure> {
        let sandbox = match &self.turn.program.sandbox {
            None => None,
            Some(sandbox) => {
                let env_value = |name: &&str| env.iter().find(|(variable, _)| variable == name).map(|(_, value)| value);
                let certificates = CERTIFICATE_VARIABLES.iter().filter_map(env_value).map(PathBuf::from);
                let readable = certificates.chain(needs.readable).collect();
                let needs = SandboxNeeds { readable, ..needs };
                Some(Arc::new(self.agent_env.sandbox.prepare(sandbox, needs).await?))
            }
        };
        Ok(ProgramSpec {
            argv,
            cwd: self.agent_env.workspace.clone(),
            env,
            stdin: stdin.map(String::into_bytes),
            timeout: Some(self.timeout),
            max_captured_bytes: usize::try_from(MAX_OUTPUT_BYTES).unwrap_or(usize::MAX),
            max_output_bytes: Some(MAX_OUTPUT_BYTES),
            supervisor: self.agent_env.supervisor.clone(),
            ending_process_groups: self.agent_env.ending_process_groups.clone(),
            sandbox,
        })
    }

    /// The prompt for a program that receives the system prompt in another way. In a re-ask,
    /// the program's session contains the earlier messages, so this is the last message only. In a new session, and in
    /// the session of an interrupted turn, this is all messages.
    pub(super) fn text_without_system_prompt(&self) -> String {
        let messages = &self.turn.request.messages;
        let sends_only_last = self.turn.session.is_some() && !self.is_resumed;
        let start = if sends_only_last { messages.len().saturating_sub(1) } else { 0 };
        let messages = messages.get(start..).unwrap_or_default().iter();
        let texts: Vec<String> = messages
            .map(|message| if sends_only_last { message.content.text().into_owned() } else { message_text(message) })
            .collect();
        self.with_resume_prefix(texts.join("\n\n"))
    }

    /// The prompt for a program that receives the system prompt in the same text. In a re-ask,
    /// the program's session contains the earlier messages, so this is the last message only. In a new session, and in
    /// the session of an interrupted turn, this is the system prompt and all messages.
    pub(super) fn text_with_system_prompt(&self) -> String {
        match &self.turn.session {
            Some(_) if !self.is_resumed => self.text_without_system_prompt(),
            Some(_) | None => self.with_resume_prefix(self.conversation_text()),
        }
    }

    fn with_resume_prefix(&self, text: String) -> String {
        if self.is_resumed { format!("{RESUME_PREFIX}\n\n{text}") } else { text }
    }

    /// Opens the home folder of this kind of program in this run; creates it if necessary.
    pub(super) fn home(&self) -> Result<NoFollowFolder, Failure> {
        self.agent_folder(self.turn.program.kind.as_str())
    }

    /// Opens a folder for the CLI agents of this run; creates it if necessary.
    pub(super) fn agent_folder(&self, name: &str) -> Result<NoFollowFolder, Failure> {
        self.agent_env.agents_folder.create_subfolder(name).map_err(|error| {
            let folder = self.agent_env.agents_folder.path().join(name);
            Failure::new(FailureClass::Storage, format!("the folder `{}` can't be created: {error}", folder.display()))
        })
    }

    /// The whole conversation as one text, for a program without a session: the system prompt, an empty line, and the
    /// messages, which after a re-ask include earlier replies.
    pub(super) fn conversation_text(&self) -> String {
        let request = &self.turn.request;
        let mut parts = vec![request.system.clone()];
        parts.extend(request.messages.iter().map(message_text));
        parts.retain(|part| !part.trim().is_empty());
        parts.join("\n\n")
    }
}

/// Sets the limits for a program that writes events. Such a program may write more than other programs. orch keeps only
/// a part of the output, because it reads the events as they arrive.
pub(super) fn set_event_limits(spec: &mut ProgramSpec) {
    spec.max_captured_bytes = CAPTURED_EVENT_OUTPUT_BYTES;
    spec.max_output_bytes = Some(MAX_EVENT_OUTPUT_BYTES);
}

/// Creates a file for one turn in the program's home folder. Dropping the returned value removes the file.
pub(super) fn create_turn_file(home: &NoFollowFolder, name: &str, text: &str) -> Result<TurnFile, Failure> {
    let file = TurnFile(home.file(format!("turn-{}-{name}", uuid::Uuid::now_v7().simple())));
    let written = file.0.create_new().and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map(|()| file).map_err(|error| {
        Failure::new(FailureClass::Storage, format!("a file in `{}` can't be written: {error}", home.path().display()))
    })
}

/// A file that a program reads during one turn.
pub(super) struct TurnFile(NoFollowFile);

impl TurnFile {
    pub(super) fn path(&self) -> PathBuf {
        self.0.path()
    }
}

impl Drop for TurnFile {
    fn drop(&mut self) {
        // The file may not exist. If its removal fails, the file stays until the user deletes the run.
        drop(self.0.remove());
    }
}

/// A message as text, for a conversation that orch sends again.
fn message_text(message: &Message) -> String {
    match message.role {
        Role::User => message.content.text().into_owned(),
        Role::Assistant => format!("Your answer was:\n\n{}", message.content.text()),
    }
}

/// The reply of a program that reports only its text.
pub(super) fn plain_reply(text: String, turn: &AgentTurn) -> ChatReply {
    ChatReply {
        content: Content::from_text(text),
        stop: StopReason::End,
        usage: ReportedUsage::default(),
        model: turn.program.model.clone(),
        id: None,
        constrained: false,
        details: Box::default(),
    }
}
