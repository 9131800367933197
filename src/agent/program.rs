//! Agents that are programs: one trait, and what every kind shares.
//!
//! Owns how a turn is prepared (its folder, environment, time and words) and what its end
//! means. Processes are `process`'s; how one program is talked to is its own file's.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tempfile::NamedTempFile;

use crate::model::step::Access;
use crate::model::{ChatReply, Class, Failure, Message, ProgramKind, Role, StopReason, Turn, Usage, Work};
use crate::process::{Captured, ProcessError, Spec};

use super::Variables;
use super::acp::Acp;
use super::changes::Listing;
use super::claude::Claude;
use super::codex::Codex;
use super::command::AnyProgram;

/// How long a turn may take when nothing else is said: some programs wait for ever on a dead network.
pub const PATIENCE: Duration = Duration::from_mins(10);
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
/// How many lines of a failed program's last words are shown.
const SHOWN: usize = 10;

/// Where programs run.
#[derive(Clone)]
pub struct Place {
    /// The workspace, absolute.
    pub workspace: PathBuf,
    /// The folder of this run's programs, absolute: their homes and settings.
    pub homes: PathBuf,
    /// The environment of this process.
    pub variables: Variables,
}

/// A sign of life of a turn.
#[derive(Clone, Debug)]
pub enum Sign {
    /// The program said something.
    Text(String),
    /// The program used a tool: its name and what it is about, in a line.
    Tool(String),
}

/// What a turn gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The reply, or why there is none.
    pub reply: Result<ChatReply, Failure>,
    /// What it cost in US dollars, as the program says.
    pub cost: Option<f64>,
}

/// One kind of agent program.
pub(super) trait AgentProgram: Send + Sync {
    /// Takes one turn; an error that comes beside the answer cost nothing.
    fn turn<'a>(
        &'a self,
        job: &'a Job<'a>,
        sink: &'a (dyn Fn(Sign) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, Failure>>;
}

/// A turn about to be taken.
pub(super) struct Job<'a> {
    /// The turn.
    pub(super) turn: &'a Turn,
    /// Where it runs.
    pub(super) place: &'a Place,
    /// How long it may take.
    pub(super) limit: Duration,
}

fn of(kind: ProgramKind) -> &'static dyn AgentProgram {
    match kind {
        ProgramKind::Claude => &Claude,
        ProgramKind::Codex => &Codex,
        ProgramKind::Acp => &Acp,
        ProgramKind::Command => &AnyProgram,
    }
}

/// Has a program take a turn; `now` is when it is asked.
pub async fn take_turn(
    turn: &Turn,
    place: &Place,
    now: Timestamp,
    sink: &(dyn Fn(Sign) + Send + Sync),
) -> Result<Answer, Failure> {
    let job = Job { turn, place, limit: limit(turn, now)? };
    let before = job.listing().await;
    let mut answer = of(turn.program.kind).turn(&job, sink).await?;
    if let (Ok(reply), Some(before), Some(after)) = (&mut answer.reply, before, job.listing().await) {
        let denied = reply.work.take().map(|work| work.denied).unwrap_or_default();
        reply.work = Some(Work { denied, ..before.difference(&after) });
    }
    Ok(answer)
}

fn limit(turn: &Turn, now: Timestamp) -> Result<Duration, Failure> {
    let limit = turn.timeout_ms.map_or(PATIENCE, Duration::from_millis);
    let Some(until) = turn.until else { return Ok(limit) };
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    if left.is_zero() {
        let failure = Failure::new(Class::Timeout, "the step's deadline is over");
        return Err(failure.with_hint("raise `deadline:` of the step"));
    }
    Ok(limit.min(left))
}

impl Job<'_> {
    /// The files of the workspace, when the program may change them.
    async fn listing(&self) -> Option<Listing> {
        if self.turn.program.access != Access::Write {
            return None;
        }
        let folder = self.place.workspace.clone();
        tokio::task::spawn_blocking(move || Listing::of(&folder)).await.ok()
    }

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
    pub(super) fn spec(&self, argv: Vec<String>, env: Vec<(String, String)>, stdin: Option<String>) -> Spec {
        let most = MOST;
        Spec {
            argv,
            cwd: self.place.workspace.clone(),
            env,
            stdin: stdin.map(String::into_bytes),
            timeout: Some(self.limit),
            cap: usize::try_from(most).unwrap_or(usize::MAX),
            most: Some(most),
        }
    }

    /// What is said next in the program's own session, or first.
    pub(super) fn next_words(&self) -> String {
        let messages = &self.turn.request.messages;
        let last = messages.last().map(|message| message.content.clone());
        if self.turn.session.is_none() && messages.len() > 1 {
            let all = messages.iter().map(told);
            return all.collect::<Vec<_>>().join("\n\n");
        }
        last.unwrap_or_default()
    }

    /// A folder of this run for a kind of program; made when it is not there.
    pub(super) fn home(&self) -> Result<PathBuf, Failure> {
        let folder = self.place.homes.join(self.turn.program.kind.as_str());
        private_folder(&folder).map_err(|error| {
            Failure::new(Class::Storage, format!("the folder `{}` can't be made: {error}", folder.display()))
        })?;
        Ok(folder)
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

    /// A failure of the process itself.
    pub(super) fn failed(&self, error: &ProcessError) -> Failure {
        match error {
            ProcessError::NotFound(program) => {
                Failure::new(Class::NotInstalled, error.to_string()).with_hint(missing(self.turn.program.kind, program))
            }
            ProcessError::Timeout { last, .. } => {
                let last = if last.is_empty() { String::new() } else { format!("; its last line: {last}") };
                Failure::new(Class::Timeout, format!("{error}{last}")).with_hint("raise `timeout:` of the step")
            }
            ProcessError::TooMuch { .. } => Failure::new(Class::OutputTooLarge, error.to_string())
                .with_hint("a program writes its answer to standard output, and nothing else that is large"),
            ProcessError::Spawn { .. } | ProcessError::Io { .. } => Failure::new(Class::AgentError, error.to_string()),
        }
    }
}

/// Makes room for a program that tells all it does: only what its lines say is kept.
pub(super) fn streams(spec: &mut Spec) {
    spec.cap = SHOWN_BYTES;
    spec.most = Some(MOST_EVENTS);
}

/// A file for one turn in the program's own folder; it goes when it is dropped.
pub(super) fn file(home: &Path, name: &str, text: &str) -> Result<NamedTempFile, Failure> {
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix("turn-").suffix(&format!("-{name}")).tempfile_in(home);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file));
    written.map_err(|error| {
        Failure::new(Class::Storage, format!("a file in `{}` can't be written: {error}", home.display()))
    })
}

/// A message of a talk that is told again.
fn told(message: &Message) -> String {
    match message.role {
        Role::User => message.content.clone(),
        Role::Assistant => format!("Your answer was:\n\n{}", message.content),
    }
}

/// How to get a program that is missing.
pub fn missing(kind: ProgramKind, program: &str) -> String {
    match kind {
        ProgramKind::Claude => "install it: `npm install -g @anthropic-ai/claude-code`".to_owned(),
        ProgramKind::Codex => "install it: `npm install -g @openai/codex`".to_owned(),
        ProgramKind::Acp | ProgramKind::Command => format!("install `{program}`, or give its whole path"),
    }
}

/// A folder that only its owner may look into: programs keep their sessions there.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// A program that ended with a code that is no success, with its last words.
pub(super) fn ended_badly(program: &str, code: i32, last: &[&Captured]) -> Failure {
    let words = last.iter().map(|output| tail(&output.text())).find(|words| !words.is_empty());
    let words = words.map(|words| format!(":\n{words}")).unwrap_or_default();
    let how = if code > 128 { format!(" (signal {})", code - 128) } else { String::new() };
    Failure::new(Class::AgentError, format!("`{program}` ended with exit code {code}{how}{words}"))
        .with_hint("the workspace may hold what it did so far; go on with `orch pipeline resume`")
}

/// A program one of whose lines was too long to be read.
pub(super) fn too_large(program: &str) -> Failure {
    Failure::new(Class::OutputTooLarge, format!("`{program}` wrote a line that is too long to be its answer"))
}

/// What a program says of a failed request to its model.
pub(super) fn of_status(program: &str, status: u16, words: &str, key: &str) -> Failure {
    let class = match status {
        401 | 403 => Class::Auth,
        408 => Class::Timeout,
        429 => Class::RateLimited,
        500.. => Class::ProviderUnavailable,
        _ => Class::BadRequest,
    };
    let mut failure = Failure::new(class, format!("`{program}` failed with status {status}: {words}"));
    failure.status = Some(status);
    match class {
        Class::Auth => failure.with_hint(format!("see whether {key} is set and right; no settings of yours are used")),
        _ => failure,
    }
}

/// The last lines of an output.
pub(super) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
}

/// A reply of a program that says nothing about itself.
pub(super) fn plain(text: String, turn: &Turn) -> ChatReply {
    ChatReply {
        text,
        stop: StopReason::End,
        usage: Usage::default(),
        model: turn.program.model.clone(),
        id: None,
        constrained: false,
        work: None,
    }
}
