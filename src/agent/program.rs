//! Agents that are programs: one trait, and what every kind shares.
//!
//! Owns how a turn is prepared (its folder, environment, time and words) and what its end
//! means. Processes are `process`'s; how one program is talked to is its own file's.

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

/// How much a program may write, in bytes, before it is ended.
pub(super) const MOST: u64 = 32 << 20;
/// Variables that every program sees: where programs are, the language, and the way to the network.
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
/// How much a program may write that tells all it does, in bytes.
const MOST_EVENTS: u64 = 1 << 30;
/// How much of that is kept for messages, in bytes.
const SHOWN_BYTES: usize = 64 << 10;
/// What an interrupted program is told before what it was asked.
const CUT_OFF: &str = "You were cut off before you had answered. See how far you came, and go on from there. \
                       What you were asked was:";

/// Where programs run.
#[derive(Clone)]
pub struct AgentEnv {
    /// The workspace, absolute.
    pub workspace: PathBuf,
    /// The folder of this run's programs: their homes and settings.
    pub homes: OwnFolder,
    /// Files of the workspace that show artifacts: nobody's work but ours.
    pub artifacts: Vec<String>,
    /// The environment of this process.
    pub variables: Variables,
    /// The providers whose keys may be sent over plain HTTP, by the settings.
    pub unencrypted: Vec<String>,
    /// The guard of programs: orch itself.
    pub guard: GuardProgram,
    /// Where what is left of a program goes when its turn is cut off.
    pub endings: EndingGroups,
}

/// What bounds a turn, and what tells it from others.
#[derive(Clone, Debug)]
pub struct TurnLimits {
    /// When the program is asked.
    pub now: Timestamp,
    /// What it may spend in US dollars, if anything limits that.
    pub usd: Option<f64>,
    /// The call: the same again after a crash.
    pub call: CallKey,
    /// The digest of what it asks.
    pub ask: Digest,
}

/// A sign of life of a turn.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// The program said something.
    Text(String),
    /// The program used a tool: its name and what it is about, in a line.
    Tool(String),
    /// The program works in this session of its own, which it can go on in.
    Session(String),
    /// The program told the end of its turn: its answer is whole.
    Over,
}

/// What a turn gave.
#[derive(Clone, Debug)]
pub struct TurnResult {
    /// The reply, or why there is none.
    pub reply: Result<ChatReply, Failure>,
    /// What it cost in US dollars, as the program says.
    pub cost: Option<f64>,
    /// What it did when there is no reply to say it.
    pub work: AgentActivity,
}

impl From<Failure> for TurnResult {
    fn from(failure: Failure) -> Self {
        Self { reply: Err(failure), cost: None, work: AgentActivity::default() }
    }
}

impl TurnResult {
    /// The answer of a program that says nothing about itself.
    pub(super) fn plain(text: String, turn: &AgentTurn) -> Self {
        Self { reply: Ok(plain(text, turn)), cost: None, work: AgentActivity::default() }
    }
}

/// One kind of agent program.
pub(super) trait AgentProgram: Send + Sync {
    /// Takes one turn; an error that comes beside the answer cost nothing.
    fn turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>>;
}

/// A turn about to be taken.
pub(super) struct TurnJob<'a> {
    /// The turn.
    pub(super) turn: &'a AgentTurn,
    /// Where it runs.
    pub(super) place: &'a AgentEnv,
    /// How long it may take.
    pub(super) limit: Duration,
    /// What else bounds it.
    pub(super) bounds: &'a TurnLimits,
    /// Whether it goes on in a session in which it never answered.
    pub(super) interrupted: bool,
}

impl TurnJob<'_> {
    /// The environment: the basic variables, those that the agent lists, and `more` where neither sets them.
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

    /// The program to run with this environment and standard input.
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

    /// What is said in the program's own session, beside a system prompt that it is given otherwise.
    pub(super) fn next_words(&self) -> String {
        let messages = &self.turn.request.messages;
        let alone = self.turn.session.is_some() && !self.interrupted;
        let from = if alone { messages.len().saturating_sub(1) } else { 0 };
        let said = messages.get(from..).unwrap_or_default().iter();
        let said: Vec<String> =
            said.map(|message| if alone { message.content.clone() } else { told(message) }).collect();
        self.after_a_cut(said.join("\n\n"))
    }

    /// What is said to a program that has no other way to be given the system prompt.
    pub(super) fn words(&self) -> String {
        match &self.turn.session {
            Some(_) if !self.interrupted => self.next_words(),
            Some(_) | None => self.after_a_cut(self.whole_talk()),
        }
    }

    fn after_a_cut(&self, words: String) -> String {
        if self.interrupted { format!("{CUT_OFF}\n\n{words}") } else { words }
    }

    /// A folder of this run for a kind of program; made when it is not there.
    pub(super) fn home(&self) -> Result<OwnFolder, Failure> {
        self.folder(self.turn.program.kind.as_str())
    }

    /// A folder of this run's programs; made when it is not there.
    pub(super) fn folder(&self, name: &str) -> Result<OwnFolder, Failure> {
        self.place.homes.make(name).map_err(|error| {
            let folder = self.place.homes.path().join(name);
            Failure::new(Class::Storage, format!("the folder `{}` can't be made: {error}", folder.display()))
        })
    }

    /// The whole talk as one text, for a program without a session: the system prompt, an empty line,
    /// the user's message, and after a re-ask the answers and what was said to them.
    pub(super) fn whole_talk(&self) -> String {
        let request = &self.turn.request;
        let mut parts = vec![request.system.clone()];
        parts.extend(request.messages.iter().map(told));
        parts.retain(|part| !part.trim().is_empty());
        parts.join("\n\n")
    }
}

/// Makes room for a program that tells all it does: only what its lines say is kept.
pub(super) fn streams(spec: &mut ProgramSpec) {
    spec.cap = SHOWN_BYTES;
    spec.most = Some(MOST_EVENTS);
}

/// A file for one turn in the program's own folder; it goes when it is dropped.
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
        // It may never have been written; one that is left goes with the run.
        drop(self.0.remove());
    }
}

/// A message of a talk that is told again.
fn told(message: &Message) -> String {
    match message.role {
        Role::User => message.content.clone(),
        Role::Assistant => format!("Your answer was:\n\n{}", message.content),
    }
}

/// A reply of a program that says nothing about itself.
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
