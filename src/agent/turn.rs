//! One turn of a program from its beginning to its record: its time, its session, what it did.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::model::failure::RAISE_DEADLINE;
use crate::model::step::Access;
use crate::model::{Class, Failure, ProgramKind, Turn, Work};

use super::acp::Acp;
use super::bookmark::Bookmark;
use super::changes::Listing;
use super::claude::Claude;
use super::codex::Codex;
use super::command::AnyProgram;
use super::ends::it_said;
use super::program::{AgentProgram, Answer, Bounds, Job, Place, Sign};
use super::turn_start;

/// How long a turn may take when nothing else is said: some programs wait for ever on a dead network.
pub const PATIENCE: Duration = Duration::from_mins(10);
/// Uses of tools that are told, at most.
const MOST_TOOLS: usize = 1000;

/// How much is remembered of what a program says, for a message, in bytes.
const MOST_SAID: usize = 8 << 10;

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
/// When `cut` resolves the program is ended, and the answer has why, and what it did by then. After the end of its
/// turn it is not cut off any more.
pub async fn take_turn(
    turn: &Turn,
    place: &Place,
    bounds: &Bounds,
    sink: &(dyn Fn(Sign) + Send + Sync),
    cut: impl Future<Output = Failure>,
) -> Answer {
    let (limit, by_deadline) = match limit(turn, bounds.now) {
        Ok(limit) => limit,
        Err(failure) => return failure.into(),
    };
    let job = Job { turn, place, limit, bounds, interrupted: false };
    let bookmark = Bookmark::of(&place.homes, &format!("{} {}", bounds.call, bounds.ask));
    let watch = Watch { sink, bookmark: &bookmark, seen: Mutex::default(), another: Notify::new() };
    let before = match job.before().await {
        Ok(before) => before,
        Err(failure) => return failure.into(),
    };
    // What is paid for and whole is kept.
    let mut cut = pin!(async {
        let failure = cut.await;
        while watch.seen().over {
            watch.another.notified().await;
        }
        failure
    });
    if let Some(failure) = cut.as_mut().now_or_never() {
        // It never ran.
        return failure.of_step().into();
    }
    // Dropped when it is cut, and the program ends with that.
    let (mut answer, ended) = tokio::select! {
        biased;
        answer = job.resumed_or_taken(&bookmark, &watch) => (answer, true),
        failure = cut => (failure.into(), false),
    };
    // Until then it may still write.
    place.endings.settled().await;
    let mut work = match (before, job.listing().await) {
        (Some(before), Some(after)) => before.difference(&after),
        // A list that broke off tells nothing, and that is told.
        (None, _) | (_, None) => Work { partial: turn.program.access == Access::Write, ..Work::default() },
    };
    // Whatever came of it is about to be recorded. One that was cut off is to be taken again.
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
            let told = reply.work.take().map(|work| *work).unwrap_or_default();
            (work.denied, work.session_usage) = (told.denied, told.session_usage);
            reply.work = Some(Box::new(work));
        }
        Err(failure) => {
            let reported = answer.work.usage.is_some_and(|usage| usage.whole().is_some());
            failure.broke_off |= !reported && may_have_asked(failure.class, seen.heard);
            answer.work = Work { usage: answer.work.usage, session: seen.session, ..work };
        }
    }
    answer
}

/// Whether a program whose turn failed may have had answers of its model that were not counted.
fn may_have_asked(class: Class, heard: bool) -> bool {
    match class {
        // It never ran.
        Class::NotInstalled | Class::Storage => false,
        // Its first request was turned down, unless it did something before.
        Class::Auth | Class::BadRequest | Class::RateLimited | Class::ProviderUnavailable => heard,
        _ => true,
    }
}

/// Listens to what a program does.
struct Watch<'a> {
    sink: &'a (dyn Fn(Sign) + Send + Sync),
    bookmark: &'a Bookmark,
    seen: Mutex<Seen>,
    /// Told when another attempt begins.
    another: Notify,
}

#[derive(Default)]
struct Seen {
    heard: bool,
    over: bool,
    /// The end of what it said since it last used a tool, or that use.
    last: String,
    tools: Vec<String>,
    session: Option<String>,
}

impl Seen {
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
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, sign: Sign) {
        let mut seen = self.seen();
        match &sign {
            Sign::Session(session) => {
                self.bookmark.put(session);
                seen.session = Some(session.clone());
            }
            Sign::Tool(line) => {
                seen.heard = true;
                seen.last = format!("(it used a tool: {line})");
                if seen.tools.len() < MOST_TOOLS {
                    seen.tools.push(line.clone());
                }
            }
            Sign::Text(text) => seen.says(text),
            Sign::Over => seen.over = true,
        }
        drop(seen);
        (self.sink)(sign);
    }

    /// Another attempt begins, which may be cut off as the first.
    fn begins_again(&self) {
        self.seen().over = false;
        self.another.notify_one();
    }

    fn has_heard(&self) -> bool {
        self.seen().heard
    }
}

/// How long a turn may take, and whether the step's deadline says so.
fn limit(turn: &Turn, now: Timestamp) -> Result<(Duration, bool), Failure> {
    let limit = turn.timeout_ms.map_or(PATIENCE, Duration::from_millis);
    let Some(until) = turn.until else { return Ok((limit, false)) };
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    if left.is_zero() {
        return Err(Failure::new(Class::Timeout, "the step's deadline is over").with_hint(RAISE_DEADLINE));
    }
    Ok((limit.min(left), left < limit))
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
    async fn taken(&self, watch: &Watch<'_>) -> Answer {
        let taken = of(self.turn.program.kind).turn(self, &|sign| watch.take(sign)).await;
        taken.unwrap_or_else(Answer::from)
    }

    /// The files of the workspace before the turn, noted on disk: a kill must not make them unknown.
    async fn before(&self) -> Result<Option<Listing>, Failure> {
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

    /// The files of the workspace, when the program may change them.
    async fn listing(&self) -> Option<Listing> {
        if self.turn.program.access != Access::Write {
            return None;
        }
        let (folder, artifacts) = (self.place.workspace.clone(), self.place.artifacts.clone());
        tokio::task::spawn_blocking(move || Listing::of(&folder, &artifacts)).await.ok()
    }
}
