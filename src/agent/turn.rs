//! One turn of a CLI agent: its time limit, its session, and what it changed in the workspace.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::model::failure::RAISE_DEADLINE;
use crate::model::step::Access;
use crate::model::{AgentActivity, AgentTurn, Class, Failure, ProgramKind};

use super::acp::AcpAgent;
use super::changes::FileSnapshot;
use super::claude::ClaudeAgent;
use super::codex::CodexAgent;
use super::command::CommandAgent;
use super::exit::it_said;
use super::program::{AgentEnv, AgentEvent, AgentProgram, TurnJob, TurnLimits, TurnResult};
use super::session_file::Bookmark;
use super::turn_start;

/// How long a turn may take by default: some programs wait forever on a dead network.
pub const PATIENCE: Duration = Duration::from_mins(10);
/// How many tool uses are reported at most.
const MOST_TOOLS: usize = 1000;

/// How much of a program's last text is kept for messages, in bytes.
const MOST_SAID: usize = 8 << 10;

fn of(kind: ProgramKind) -> &'static dyn AgentProgram {
    match kind {
        ProgramKind::Claude => &ClaudeAgent,
        ProgramKind::Codex => &CodexAgent,
        ProgramKind::Acp => &AcpAgent,
        ProgramKind::Command => &CommandAgent,
    }
}

/// Runs one turn of a CLI agent.
///
/// If an earlier attempt at the turn was cut off, the program continues its own session, provided that it had reported
/// one. If that session can't be used, the turn starts from the beginning.
///
/// When `cut` resolves, orch ends the program; the result then has that failure and what the program did so far. A turn
/// whose end the program has reported is not cut off any more.
pub async fn take_turn(
    turn: &AgentTurn,
    place: &AgentEnv,
    bounds: &TurnLimits,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
    cut: impl Future<Output = Failure>,
) -> TurnResult {
    let (limit, by_deadline) = match limit(turn, bounds.now) {
        Ok(limit) => limit,
        Err(failure) => return failure.into(),
    };
    let job = TurnJob { turn, place, limit, bounds, interrupted: false };
    let bookmark = Bookmark::of(&place.homes, &format!("{} {}", bounds.call, bounds.ask));
    let watch = Watch { sink, bookmark: &bookmark, seen: Mutex::default(), another: Notify::new() };
    let before = match job.before().await {
        Ok(before) => before,
        Err(failure) => return failure.into(),
    };
    // Once the program has reported the end of its turn, its answer is complete and paid for: then a cut takes effect
    // only if another attempt starts.
    let mut cut = pin!(async {
        let failure = cut.await;
        while watch.seen().over {
            watch.another.notified().await;
        }
        failure
    });
    if let Some(failure) = cut.as_mut().now_or_never() {
        // The program never started.
        return failure.of_step().into();
    }
    // A cut drops this future, which ends the program.
    let (mut answer, ended) = tokio::select! {
        biased;
        answer = job.resumed_or_taken(&bookmark, &watch) => (answer, true),
        failure = cut => (failure.into(), false),
    };
    // Until its processes have ended, the program may still write files.
    place.endings.settled().await;
    let mut work = match (before, job.listing().await) {
        (Some(before), Some(after)) => before.difference(&after),
        // Without both snapshots the changes are unknown; `partial` reports that if the agent may write.
        (None, _) | (_, None) => {
            AgentActivity { partial: turn.program.access == Access::Write, ..AgentActivity::default() }
        }
    };
    // The caller records the result of a turn that ended. A turn that was cut off runs again and may continue its
    // session.
    if ended {
        bookmark.remove();
    }
    let seen = std::mem::take(&mut *watch.seen());
    work.tools = seen.tools;
    if let Err(failure) = &mut answer.reply
        && failure.class == Class::Timeout
    {
        failure.message.push_str(&it_said(&seen.last));
        if by_deadline {
            *failure = failure.clone().of_deadline();
        }
    }
    match &mut answer.reply {
        Ok(reply) => {
            let told = reply.agent_activity.take().map(|work| *work).unwrap_or_default();
            (work.denied, work.session_usage) = (told.denied, told.session_usage);
            reply.agent_activity = Some(Box::new(work));
        }
        Err(failure) => {
            let reported = answer.work.usage.is_some_and(|usage| usage.whole().is_some());
            failure.interrupted |= !reported && may_have_asked(failure.class, seen.heard);
            answer.work = AgentActivity { usage: answer.work.usage, session: seen.session, ..work };
        }
    }
    answer
}

/// Whether a program whose turn failed may have used tokens that it did not report.
fn may_have_asked(class: Class, heard: bool) -> bool {
    match class {
        // The program never ran.
        Class::NotInstalled | Class::Storage => false,
        // The provider rejected the first request, unless the program did something before.
        Class::Auth | Class::BadRequest | Class::RateLimited | Class::ProviderUnavailable => heard,
        _ => true,
    }
}

/// Receives the events of a turn.
struct Watch<'a> {
    sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    bookmark: &'a Bookmark,
    seen: Mutex<WatchedTurn>,
    /// Notified when another attempt starts.
    another: Notify,
}

#[derive(Default)]
struct WatchedTurn {
    heard: bool,
    over: bool,
    /// The end of the text since the last tool use, or that tool use.
    last: String,
    tools: Vec<String>,
    session: Option<String>,
}

impl WatchedTurn {
    fn says(&mut self, text: &str) {
        self.heard = true;
        if self.last.starts_with("(it used a tool") {
            self.last.clear();
        }
        self.last.push_str(text);
        if self.last.len() > MOST_SAID {
            let start = self.last.ceil_char_boundary(self.last.len() - MOST_SAID / 2);
            self.last.drain(..start);
        }
    }
}

impl Watch<'_> {
    fn seen(&self) -> MutexGuard<'_, WatchedTurn> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, sign: AgentEvent) {
        let mut seen = self.seen();
        match &sign {
            AgentEvent::Session(session) => {
                self.bookmark.put(session);
                seen.session = Some(session.clone());
            }
            AgentEvent::Tool(line) => {
                seen.heard = true;
                seen.last = format!("(it used a tool: {line})");
                if seen.tools.len() < MOST_TOOLS {
                    seen.tools.push(line.clone());
                }
            }
            AgentEvent::Text(text) => seen.says(text),
            AgentEvent::Over => seen.over = true,
        }
        drop(seen);
        (self.sink)(sign);
    }

    /// Marks the start of another attempt, which may be cut off like the first.
    fn begins_again(&self) {
        self.seen().over = false;
        self.another.notify_one();
    }

    fn has_heard(&self) -> bool {
        self.seen().heard
    }
}

/// The time limit of a turn, and whether it comes from the step's deadline.
fn limit(turn: &AgentTurn, now: Timestamp) -> Result<(Duration, bool), Failure> {
    let limit = turn.timeout_ms.map_or(PATIENCE, Duration::from_millis);
    let Some(until) = turn.until else { return Ok((limit, false)) };
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    if left.is_zero() {
        return Err(Failure::new(Class::Timeout, "the step's deadline is over").with_hint(RAISE_DEADLINE));
    }
    Ok((limit.min(left), left < limit))
}

impl TurnJob<'_> {
    /// Takes the turn, in the session of an earlier attempt that was cut off if there is one.
    async fn resumed_or_taken(&self, bookmark: &Bookmark, watch: &Watch<'_>) -> TurnResult {
        if let Some(session) = bookmark.session().filter(|_| self.turn.session.is_none()) {
            let turn = AgentTurn { session: Some(session), ..self.turn.clone() };
            let again = TurnJob { turn: &turn, interrupted: true, ..*self };
            let answer = again.taken(watch).await;
            // A session that was silent until the time-out has used up the turn's time.
            let over = answer.reply.as_ref().is_err_and(|failure| failure.class == Class::Timeout);
            let paid = answer.cost.is_some_and(|usd| usd > 0.0)
                || answer.work.usage.is_some_and(|usage| usage.at_least().total() > 0);
            if answer.reply.is_ok() || watch.has_heard() || over || paid {
                return answer;
            }
            bookmark.remove();
            watch.begins_again();
        }
        self.taken(watch).await
    }

    /// Takes the turn.
    async fn taken(&self, watch: &Watch<'_>) -> TurnResult {
        let taken = of(self.turn.program.kind).turn(self, &|sign| watch.take(sign)).await;
        taken.unwrap_or_else(TurnResult::from)
    }

    /// The files of the workspace before the turn. They are also written to disk, so that they are known even after a
    /// kill.
    async fn before(&self) -> Result<Option<FileSnapshot>, Failure> {
        let Some(listing) = self.listing().await else { return Ok(None) };
        let (place, bounds, model) = (self.place.clone(), self.bounds.clone(), self.turn.request.model.clone());
        let noted =
            tokio::task::spawn_blocking(move || turn_start::put(&place, &bounds, &model, &listing).map(|()| listing));
        let noted = noted.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        noted.map(Some).map_err(|error| {
            let folder = self.place.homes.path().display();
            Failure::new(Class::Storage, format!("the files before the turn can't be recorded in `{folder}`: {error}"))
        })
    }

    /// A snapshot of the workspace, if the program may change files.
    async fn listing(&self) -> Option<FileSnapshot> {
        if self.turn.program.access != Access::Write {
            return None;
        }
        let (folder, artifacts) = (self.place.workspace.clone(), self.place.artifacts.clone());
        tokio::task::spawn_blocking(move || FileSnapshot::of(&folder, &artifacts)).await.ok()
    }
}
