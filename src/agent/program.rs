//! CLI agents: the trait that each kind implements, and what all kinds share.
//!
//! This module prepares a turn (its folders, environment, time limit and prompt) and defines its result. The module
//! `process` runs the programs, and each kind of agent has its own file for how to use its program.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::folder::{OwnFile, OwnFolder};
use crate::model::{
    AgentActivity, AgentTurn, CallKey, ChatReply, Class, Digest, Failure, Message, ReportedUsage, Role, StopReason,
};
use crate::process::{EndingGroups, GuardProgram, ProgramSpec};

use super::Variables;

/// How much output a program may write, in bytes, before orch ends it.
pub(super) const MOST: u64 = 32 << 20;
/// Variables that every program gets: where programs are, the locale, and the network's proxies and certificates.
const BASIC: &[&str] = &[
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
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];
/// The same limit for a program that writes events about everything it does.
const MOST_EVENTS: u64 = 1 << 30;
/// How much of that output is kept for messages, in bytes.
const SHOWN_BYTES: usize = 64 << 10;
/// The text that precedes the prompt when an interrupted program continues its session.
const CUT_OFF: &str = "You were cut off before you had answered. See how far you came, and go on from there. \
                       What you were asked was:";

/// The environment in which the CLI agents of a run work.
#[derive(Clone)]
pub struct AgentEnv {
    /// The workspace, absolute.
    pub workspace: PathBuf,
    /// The folder for this run's CLI agents: their homes and settings.
    pub homes: OwnFolder,
    /// Artifact files in the workspace; changes to them are orch's, not the agent's.
    pub artifacts: Vec<String>,
    /// Looks up variables in the environment of this process.
    pub variables: Variables,
    /// The providers to which the settings allow sending a key over plain HTTP.
    pub unencrypted: Vec<String>,
    /// How to start the guard of a program: orch itself.
    pub guard: GuardProgram,
    /// The process groups of turns that were cut off, until they have ended.
    pub endings: EndingGroups,
}

/// The limits of a turn, and what identifies it.
#[derive(Clone, Debug)]
pub struct TurnLimits {
    /// When the turn starts.
    pub now: Timestamp,
    /// How much it may spend in US dollars, if a budget limits that.
    pub usd: Option<f64>,
    /// The call, which has the same key again after a crash.
    pub call: CallKey,
    /// The digest of the request.
    pub ask: Digest,
}

/// An event during a turn.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// The program wrote text.
    Text(String),
    /// The program used a tool: its name and what it acts on, in one line.
    Tool(String),
    /// The id of the program's own session, which it can continue later.
    Session(String),
    /// The program reported the end of its turn, so its answer is complete.
    Over,
}

/// The result of a turn.
#[derive(Clone, Debug)]
pub struct TurnResult {
    /// The reply, or why there is none.
    pub reply: Result<ChatReply, Failure>,
    /// What the turn cost in US dollars, if the program reports it.
    pub cost: Option<f64>,
    /// What the program did, for a turn without a reply.
    pub work: AgentActivity,
}

impl From<Failure> for TurnResult {
    fn from(failure: Failure) -> Self {
        Self { reply: Err(failure), cost: None, work: AgentActivity::default() }
    }
}

impl TurnResult {
    /// The result of a program that reports only its answer.
    pub(super) fn plain(text: String, turn: &AgentTurn) -> Self {
        Self { reply: Ok(plain(text, turn)), cost: None, work: AgentActivity::default() }
    }
}

/// One kind of CLI agent.
pub(super) trait AgentProgram: Send + Sync {
    /// Takes one turn. A failure that is returned as the error has no cost or usage to report.
    fn turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>>;
}

/// A turn to take.
pub(super) struct TurnJob<'a> {
    /// The turn.
    pub(super) turn: &'a AgentTurn,
    /// Where it runs.
    pub(super) place: &'a AgentEnv,
    /// How long it may take.
    pub(super) limit: Duration,
    /// Its other limits.
    pub(super) bounds: &'a TurnLimits,
    /// Whether it continues a session whose turn was cut off before it had an answer.
    pub(super) interrupted: bool,
}

impl TurnJob<'_> {
    /// The environment of the program: the basic variables, those in `taken` and those that the agent lists. `more`
    /// overrides the first two, but not what the agent lists.
    pub(super) fn environment(&self, taken: &[&str], more: Vec<(String, String)>) -> Vec<(String, String)> {
        let listed = self.turn.program.env.iter().map(String::as_str);
        let names = BASIC.iter().copied().chain(taken.iter().copied()).chain(listed);
        let mut env: Vec<(String, String)> = Vec::new();
        for name in names {
            if let Some(value) = (self.place.variables)(name).filter(|_| env.iter().all(|(known, _)| known != name)) {
                env.push((name.to_owned(), value));
            }
        }
        let own = more.into_iter().filter(|(name, _)| !self.turn.program.env.contains(name));
        let own: Vec<_> = own.collect();
        env.retain(|(name, _)| own.iter().all(|(known, _)| known != name));
        env.extend(own);
        env
    }

    /// A program to run with these arguments, this environment and this standard input.
    pub(super) fn spec(&self, argv: Vec<String>, env: Vec<(String, String)>, stdin: Option<String>) -> ProgramSpec {
        let most = MOST;
        ProgramSpec {
            argv,
            cwd: self.place.workspace.clone(),
            env,
            stdin: stdin.map(String::into_bytes),
            timeout: Some(self.limit),
            cap: usize::try_from(most).unwrap_or(usize::MAX),
            most: Some(most),
            guard: self.place.guard.clone(),
            endings: self.place.endings.clone(),
        }
    }

    /// The text to send to a program that gets the system prompt separately: only the last message if its session has
    /// the earlier ones, otherwise all messages.
    pub(super) fn next_words(&self) -> String {
        let messages = &self.turn.request.messages;
        let alone = self.turn.session.is_some() && !self.interrupted;
        let from = if alone { messages.len().saturating_sub(1) } else { 0 };
        let said = messages.get(from..).unwrap_or_default().iter();
        let said: Vec<String> =
            said.map(|message| if alone { message.content.clone() } else { told(message) }).collect();
        self.after_a_cut(said.join("\n\n"))
    }

    /// The text to send to a program that has no other way to get the system prompt: only the last message if its
    /// session has the rest, otherwise the whole conversation.
    pub(super) fn words(&self) -> String {
        match &self.turn.session {
            Some(_) if !self.interrupted => self.next_words(),
            Some(_) | None => self.after_a_cut(self.whole_talk()),
        }
    }

    fn after_a_cut(&self, words: String) -> String {
        if self.interrupted { format!("{CUT_OFF}\n\n{words}") } else { words }
    }

    /// The home folder of this kind of program in this run; created if it does not exist.
    pub(super) fn home(&self) -> Result<OwnFolder, Failure> {
        self.folder(self.turn.program.kind.as_str())
    }

    /// A folder for the CLI agents of this run; created if it does not exist.
    pub(super) fn folder(&self, name: &str) -> Result<OwnFolder, Failure> {
        self.place.homes.make(name).map_err(|error| {
            let folder = self.place.homes.path().join(name);
            Failure::new(Class::Storage, format!("the folder `{}` can't be made: {error}", folder.display()))
        })
    }

    /// The whole conversation as one text, for a program without a session: the system prompt, an empty line, the
    /// user's message, and after a re-ask the earlier answers and the replies to them.
    pub(super) fn whole_talk(&self) -> String {
        let request = &self.turn.request;
        let mut parts = vec![request.system.clone()];
        parts.extend(request.messages.iter().map(told));
        parts.retain(|part| !part.trim().is_empty());
        parts.join("\n\n")
    }
}

/// Raises the output limit for a program that writes events, and keeps little of the output: orch reads the events as
/// they arrive.
pub(super) fn streams(spec: &mut ProgramSpec) {
    spec.cap = SHOWN_BYTES;
    spec.most = Some(MOST_EVENTS);
}

/// Creates a file for one turn in the program's folder; it is removed when it is dropped.
pub(super) fn file(home: &OwnFolder, name: &str, text: &str) -> Result<TurnFile, Failure> {
    let file = TurnFile(home.file(format!("turn-{}-{name}", uuid::Uuid::now_v7().simple())));
    let written = file.0.create_new().and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map(|()| file).map_err(|error| {
        Failure::new(Class::Storage, format!("a file in `{}` can't be written: {error}", home.path().display()))
    })
}

/// A file that a program reads during one turn.
pub(super) struct TurnFile(OwnFile);

impl TurnFile {
    pub(super) fn path(&self) -> PathBuf {
        self.0.path()
    }
}

impl Drop for TurnFile {
    fn drop(&mut self) {
        // The file may never have been written. One that is left over is removed with the run.
        drop(self.0.remove());
    }
}

/// A message as text, for a conversation that is sent again.
fn told(message: &Message) -> String {
    match message.role {
        Role::User => message.content.clone(),
        Role::Assistant => format!("Your answer was:\n\n{}", message.content),
    }
}

/// The reply of a program that reports only its answer.
pub(super) fn plain(text: String, turn: &AgentTurn) -> ChatReply {
    ChatReply {
        text,
        stop: StopReason::End,
        usage: ReportedUsage::default(),
        model: turn.program.model.clone(),
        id: None,
        constrained: false,
        agent_activity: None,
        remarks: Box::default(),
    }
}
