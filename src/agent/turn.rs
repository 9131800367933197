//! One turn of a program from its beginning to its record: its time, its session, what it did.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;

use crate::model::step::Access;
use crate::model::{Class, Failure, ProgramKind, Turn, Work};

use super::acp::Acp;
use super::bookmark::Bookmark;
use super::changes::Listing;
use super::claude::Claude;
use super::codex::Codex;
use super::command::AnyProgram;
use super::program::{AgentProgram, Answer, Bounds, Job, Place, Sign};

/// How long a turn may take when nothing else is said: some programs wait for ever on a dead network.
pub const PATIENCE: Duration = Duration::from_mins(10);
/// Uses of tools that are told, at most.
const MOST_TOOLS: usize = 1000;

fn of(kind: ProgramKind) -> &'static dyn AgentProgram {
    match kind {
        ProgramKind::Claude => &Claude,
        ProgramKind::Codex => &Codex,
        ProgramKind::Acp => &Acp,
        ProgramKind::Command => &AnyProgram,
    }
}

/// Has a program take a turn.
///
/// A turn that was cut off by the end of this process goes on in the program's own session, if it
/// had told one; when that session is not to be had, the turn is taken from the start.
///
/// When `cut` resolves the program is ended, and the answer has why, and what it did by then.
pub async fn take_turn(
    turn: &Turn,
    place: &Place,
    bounds: &Bounds,
    sink: &(dyn Fn(Sign) + Send + Sync),
    cut: impl Future<Output = Failure>,
) -> Answer {
    let limit = match limit(turn, bounds.now) {
        Ok(limit) => limit,
        Err(failure) => return failure.into(),
    };
    let job = Job { turn, place, limit, bounds, interrupted: false };
    let bookmark = Bookmark::of(&place.homes, &bounds.mark);
    let watch = Watch { sink, bookmark: &bookmark, seen: Mutex::default() };
    let before = job.listing().await;
    let mut cut = pin!(cut);
    if let Some(failure) = cut.as_mut().now_or_never() {
        return failure.into();
    }
    // Dropped when it is cut, and the program ends with that.
    let (mut answer, ended) = tokio::select! {
        biased;
        answer = job.resumed_or_taken(&bookmark, &watch) => (answer, true),
        failure = cut => (failure.into(), false),
    };
    let mut work = match (before, job.listing().await) {
        (Some(before), Some(after)) => before.difference(&after),
        // A list that broke off tells nothing, and that is told.
        (None, _) | (_, None) => Work { partial: turn.program.access == Access::Write, ..Work::default() },
    };
    // Whatever came of it is about to be recorded. One that was cut off is to be taken again.
    if ended {
        bookmark.remove();
    }
    let seen = watch.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    work.tools = seen.tools;
    match &mut answer.reply {
        Ok(reply) => {
            work.denied = reply.work.take().map(|work| work.denied).unwrap_or_default();
            reply.work = Some(Box::new(work));
        }
        Err(_) => answer.work = Work { usage: answer.work.usage, session: seen.session, ..work },
    }
    answer
}

/// Listens to what a program does.
struct Watch<'a> {
    sink: &'a (dyn Fn(Sign) + Send + Sync),
    bookmark: &'a Bookmark,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    heard: bool,
    tools: Vec<String>,
    session: Option<String>,
}

impl Watch<'_> {
    fn take(&self, sign: Sign) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &sign {
            Sign::Session(session) => {
                self.bookmark.put(session);
                seen.session = Some(session.clone());
            }
            Sign::Tool(line) => {
                seen.heard = true;
                if seen.tools.len() < MOST_TOOLS {
                    seen.tools.push(line.clone());
                }
            }
            Sign::Text(_) => seen.heard = true,
        }
        drop(seen);
        (self.sink)(sign);
    }

    fn has_heard(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).heard
    }
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
    /// Takes the turn, in the session of one that was cut off if there is one.
    async fn resumed_or_taken(&self, bookmark: &Bookmark, watch: &Watch<'_>) -> Answer {
        if let Some(session) = bookmark.session().filter(|_| self.turn.session.is_none()) {
            let turn = Turn { session: Some(session), ..self.turn.clone() };
            let again = Job { turn: &turn, interrupted: true, ..*self };
            let answer = again.taken(watch).await;
            // A session that kept silent until the time was over has used it up.
            let over = answer.reply.as_ref().is_err_and(|failure| failure.class == Class::Timeout);
            if answer.reply.is_ok() || watch.has_heard() || over {
                return answer;
            }
            bookmark.remove();
        }
        self.taken(watch).await
    }

    /// Takes the turn.
    async fn taken(&self, watch: &Watch<'_>) -> Answer {
        let taken = of(self.turn.program.kind).turn(self, &|sign| watch.take(sign)).await;
        taken.unwrap_or_else(Answer::from)
    }

    /// The files of the workspace, when the program may change them.
    async fn listing(&self) -> Option<Listing> {
        if self.turn.program.access != Access::Write {
            return None;
        }
        let (folder, artifacts) = (self.place.workspace.clone(), self.place.artifacts.clone());
        tokio::task::spawn_blocking(move || Listing::of(&folder, &artifacts)).await.ok()
    }
}
