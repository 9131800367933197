//! Progress on a terminal: a moving line for each step that runs, and a permanent one for each step that has ended.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::durable::{CallProgress, Observer};
use crate::model::visible::one_line;
use crate::model::{Event, Fact, RunId, RunState, StepKey, StepState};

use super::human;
use super::lines::stopping;
use super::screen::{Screen, ScreenTerminal};
use super::style::{TerminalStyle, printable};
use super::summary::{NameColumn, step_line};
use super::width::{columns, fitted, fitted_end, padded};

/// How often the moving lines are redrawn.
const TICK: Duration = Duration::from_millis(100);
/// The frames of the spinner of a running step.
const SPINNER: &[char] = &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Draws the steps of a run while it runs.
pub struct Live {
    inner: Arc<Mutex<LiveState>>,
    /// Dropping this ends the thread that redraws.
    _ticks: Sender<()>,
}

struct LiveState {
    state: RunState,
    style: TerminalStyle,
    screen: Screen,
    /// The running steps, in the order in which they started.
    going_on: Vec<Going>,
    /// The lines that are held back while orch asks the user.
    held: Option<Vec<String>>,
    /// How many questions are open.
    asking: usize,
    /// The column in which the text after a step's name starts.
    names: NameColumn,
    /// Whether moving lines are no longer drawn: the run is over, or its process is about to exit.
    over: bool,
    begun: Instant,
}

struct Going {
    step: StepKey,
    words: String,
    since: Instant,
    written: usize,
}

impl Live {
    /// Follows a run that has these events already, on a terminal.
    pub fn new(run: RunId, events: &[Event], style: TerminalStyle, terminal: ScreenTerminal) -> Self {
        let state = RunState::fold(run, events);
        let inner = Arc::new(Mutex::new(LiveState {
            names: NameColumn::of_steps(&state),
            state,
            style,
            screen: Screen::new(terminal),
            going_on: Vec::new(),
            held: None,
            asking: 0,
            over: false,
            begun: Instant::now(),
        }));
        let (ticks, ended) = channel();
        let drawn = Arc::downgrade(&inner);
        // If the thread can't start, moving lines are redrawn only when an event arrives.
        drop(std::thread::Builder::new().name("progress".to_owned()).spawn(move || tick(&drawn, &ended)));
        Self { inner, _ticks: ticks }
    }

    fn inner(&self) -> MutexGuard<'_, LiveState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    /// Removes the moving lines, even when the run was interrupted.
    fn drop(&mut self) {
        self.inner().screen.clear();
    }
}

/// Redraws the moving lines until the [`Live`] is dropped.
fn tick(inner: &Weak<Mutex<LiveState>>, ended: &Receiver<()>) {
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let Some(inner) = inner.upgrade() else { return };
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.going_on.is_empty() {
            inner.draw("");
        }
    }
}

impl LiveState {
    /// Writes a permanent line.
    fn line(&mut self, text: &str) {
        match &mut self.held {
            Some(held) => held.push(text.to_owned()),
            None => self.draw(&printable(text)),
        }
    }

    fn draw(&mut self, stay: &str) {
        // While orch asks a question, nothing else is drawn.
        if self.held.is_some() {
            return;
        }
        let moving = if self.over { Vec::new() } else { self.moving() };
        self.screen.draw(stay, &moving);
    }

    /// The moving lines for the running steps.
    fn moving(&self) -> Vec<String> {
        let width = self.screen.width();
        let frame = self.begun.elapsed().as_millis() / TICK.as_millis();
        let frame = usize::try_from(frame).unwrap_or_default() % SPINNER.len();
        let spinner = SPINNER.get(frame).copied().unwrap_or_default();
        let name = |going: &Going| printable(going.step.as_str()).into_owned();
        let longest = self.going_on.iter().map(|going| columns(&name(going))).max().unwrap_or_default();
        let column = longest.max(10).min(width / 3);
        let line = |going: &Going| {
            let since = elapsed(going.since.elapsed());
            let name = padded(&fitted_end(&name(going), column), column);
            let left = format!("{spinner} {name} {}", going.words);
            let room = width.saturating_sub(columns(&since) + 1);
            format!("{} {since}", padded(&fitted(&left, room), room))
        };
        self.going_on.iter().map(line).collect()
    }

    fn going(&mut self, step: &StepKey) -> Option<&mut Going> {
        self.going_on.iter_mut().find(|going| going.step == *step)
    }

    fn start(&mut self, step: &StepKey, words: &str) {
        let words = printable(words).into_owned();
        if let Some(going) = self.going(step) {
            (going.words, going.written) = (words, 0);
        } else {
            self.going_on.push(Going { step: step.clone(), words, since: Instant::now(), written: 0 });
        }
        self.draw("");
    }

    fn end(&mut self, key: &StepKey) {
        self.going_on.retain(|going| going.step != *key);
        let names = self.names(key);
        if let Some(line) = self.state.step(key).map(|step| step_line(step, names, self.style)) {
            self.line(&line);
        }
    }

    /// Clears the moving lines and holds output back while orch asks a question.
    fn hush(&mut self) {
        self.asking += 1;
        self.held.get_or_insert_with(Vec::new);
        self.screen.clear();
    }

    /// Writes the lines that were held back, and draws again.
    fn speak(&mut self) {
        for line in self.held.take().unwrap_or_default() {
            self.line(&line);
        }
    }

    /// The column for texts after names, with this step's name taken into account.
    fn names(&mut self, step: &StepKey) -> NameColumn {
        self.names.see(step.as_str());
        self.names.within(Some(self.screen.width()))
    }

    /// Writes a permanent line about a failed call or reply.
    fn trouble(&mut self, step: &StepKey, words: &str) {
        let line = format!("{} {}", self.style.warn("!"), self.names(step).line(step.as_str(), words));
        self.line(&line);
    }

    fn signal(&mut self, signal: &CallProgress) {
        let step = match signal {
            CallProgress::Sent(call)
            | CallProgress::Reading(call, ..)
            | CallProgress::Text(call, _)
            | CallProgress::Reasoning(call, _)
            | CallProgress::Output(call, _) => &call.step,
            CallProgress::Backoff(step, _) => step,
            CallProgress::Asking(_) => return self.hush(),
            CallProgress::Stopping { at_once } => return self.stop(*at_once),
        };
        let Some((model, is_model)) = self.state.step(step).map(|step| (step.who(), step.model.is_some())) else {
            return;
        };
        // The cost of the run so far, if it is known or estimated and not zero.
        let cost = self.state.cost();
        let usd = cost.known().or(cost.estimated()).filter(|usd| *usd > 0.0);
        let spent = usd.map(|_| format!(" · {}", human::cost(cost))).unwrap_or_default();
        let Some(going) = self.going(step) else {
            return;
        };
        let message = match signal {
            CallProgress::Output(_, line) => format!("{model} · {}", human::first_line(line, 120)),
            CallProgress::Sent(_) if is_model => format!("{model} · asked"),
            CallProgress::Sent(_) | CallProgress::Asking(_) | CallProgress::Stopping { .. } => {
                format!("{model} · running")
            }
            CallProgress::Reading(_, done, total) => format!("{model} · reading {done}/{total} tokens"),
            CallProgress::Text(_, text) => {
                going.written += text.len();
                format!("{model} · writing ~{} tokens", human::count((going.written / 4) as u64))
            }
            CallProgress::Reasoning(_, bytes) => {
                going.written += bytes;
                format!("{model} · thinking ~{} tokens", human::count((going.written / 4) as u64))
            }
            CallProgress::Backoff(_, millis) => {
                format!("{model} · waiting {}", human::duration(Duration::from_millis(*millis)))
            }
        };
        going.words = printable(&format!("{message}{spent}")).into_owned();
    }

    /// Prints that the run stops. If the process is about to exit, the moving lines are removed for good.
    fn stop(&mut self, at_once: bool) {
        self.over |= at_once;
        match self.held {
            // The cursor is at the end of a question, so the message needs a line of its own.
            Some(_) => self.screen.put(&format!("\n{}\n", stopping(at_once))),
            None => self.draw(stopping(at_once)),
        }
    }
}

/// How long a step has been running: `7s`, `4m 05s`.
fn elapsed(time: Duration) -> String {
    if time.as_secs() < 60 { format!("{}s", time.as_secs()) } else { human::duration(time) }
}

impl Observer for Live {
    fn event(&self, event: &Event) {
        let inner = &mut *self.inner();
        inner.state.apply(event);
        match &event.fact {
            Fact::RunStarted(fact) => {
                inner.names = NameColumn::of_steps(&inner.state);
                inner.line(&format!("run {}: {}", inner.style.strong(event.run), one_line(&fact.pipeline)));
            }
            Fact::RunResumed(_) => {
                inner.names = NameColumn::of_steps(&inner.state);
                let name = one_line(&inner.state.pipeline).into_owned();
                inner.line(&format!("run {}: {name}, resumed", inner.style.strong(event.run)));
            }
            Fact::StepStarted(fact) => {
                let who = inner.state.step(&fact.step).map_or_else(String::new, StepState::who);
                inner.start(&fact.step, &who);
            }
            Fact::CallEnded(fact) => {
                if let Some(failure) = &fact.failure {
                    inner.trouble(&fact.call.step, &failure.to_string());
                }
            }
            Fact::ReplyParsed(fact) => {
                if let Some(failure) = &fact.failure {
                    inner.trouble(&fact.call.step, &format!("the reply was not taken: {failure}"));
                }
            }
            Fact::StepReused(fact) => inner.end(&fact.step),
            Fact::StepCompleted(fact) => inner.end(&fact.step),
            Fact::StepFailed(fact) => inner.end(&fact.step),
            Fact::StepSkipped(fact) => inner.end(&fact.step),
            Fact::RunEnded(_) => {
                inner.speak();
                inner.over = true;
                inner.going_on.clear();
                inner.screen.clear();
            }
            Fact::ApprovalAnswered(_) => {
                inner.asking = inner.asking.saturating_sub(1);
                if inner.asking == 0 {
                    inner.speak();
                }
            }
            Fact::ApprovalAsked(_) | Fact::ArtifactAccepted(_) => {}
        }
    }

    fn signal(&self, signal: &CallProgress) {
        self.inner().signal(signal);
    }
}
