//! Progress on a terminal: a line that moves for the step that is going on, and one that
//! stays for each that has ended.

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

/// How often what moves is drawn.
const TICK: Duration = Duration::from_millis(100);
/// What turns while a step goes on.
const SPINNER: &[char] = &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Draws the steps of a run as they go on.
pub struct Live {
    inner: Arc<Mutex<LiveState>>,
    /// Ends the thread that draws, as it is dropped.
    _ticks: Sender<()>,
}

struct LiveState {
    state: RunState,
    style: TerminalStyle,
    screen: Screen,
    /// Steps that go on, in the order in which they began.
    going_on: Vec<Going>,
    /// Lines that wait while a person is asked.
    held: Option<Vec<String>>,
    /// How many questions are open.
    asking: usize,
    /// Where what is said of steps begins.
    names: NameColumn,
    /// Whether nothing moves any more: the run is over, or its process is about to end.
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
    /// Follows a run that has the given events already, on a terminal.
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
        // Without the thread what moves is drawn when something happens.
        drop(std::thread::Builder::new().name("progress".to_owned()).spawn(move || tick(&drawn, &ended)));
        Self { inner, _ticks: ticks }
    }

    fn inner(&self) -> MutexGuard<'_, LiveState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    /// Nothing that moves is left behind, also when the run broke off.
    fn drop(&mut self) {
        self.inner().screen.clear();
    }
}

/// Draws what moves until nobody follows the run any more.
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
    /// A line that stays.
    fn line(&mut self, text: &str) {
        match &mut self.held {
            Some(held) => held.push(text.to_owned()),
            None => self.draw(&printable(text)),
        }
    }

    fn draw(&mut self, stay: &str) {
        // A question has the terminal for itself.
        if self.held.is_some() {
            return;
        }
        let moving = if self.over { Vec::new() } else { self.moving() };
        self.screen.draw(stay, &moving);
    }

    /// The lines of the steps that go on.
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

    /// Leaves the terminal to a question.
    fn hush(&mut self) {
        self.asking += 1;
        self.held.get_or_insert_with(Vec::new);
        self.screen.clear();
    }

    /// Takes the terminal back.
    fn speak(&mut self) {
        for line in self.held.take().unwrap_or_default() {
            self.line(&line);
        }
    }

    /// The column behind the names of steps, this one among them.
    fn names(&mut self, step: &StepKey) -> NameColumn {
        self.names.see(step.as_str());
        self.names.within(Some(self.screen.width()))
    }

    /// What a failed call or reply is told with.
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
        // What the run has cost so far, once it costs anything that is known.
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

    /// Says that the run stops; before the process ends, nothing that moves may be left.
    fn stop(&mut self, at_once: bool) {
        self.over |= at_once;
        match self.held {
            // The cursor stands behind a question.
            Some(_) => self.screen.put(&format!("\n{}\n", stopping(at_once))),
            None => self.draw(stopping(at_once)),
        }
    }
}

/// How long a step goes on: `7s`, `4m 05s`.
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
