//! Progress on a terminal: a live line for each running step, and a permanent line for each step that has ended.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::durable::{CallProgress, Observer};
use crate::model::visible::escape_line_breaks;
use crate::model::{Event, Fact, RunId, RunState, StepKey, StepState};

use super::human;
use super::lines::stop_message;
use super::screen::{Screen, ScreenTerminal};
use super::style::{TerminalStyle, to_printable};
use super::summary::{NameColumn, render_step_line};
use super::width::{display_width, pad_end, truncate_end, truncate_start};

/// The interval between two redraws of the live lines.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// The frames of the spinner of a running step.
const SPINNER: &[char] = &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Draws the steps of a run while it runs.
pub struct LiveReporter {
    inner: Arc<Mutex<LiveState>>,
    /// Dropping this ends the thread that redraws the live lines.
    _redraw_stop: Sender<()>,
}

struct LiveState {
    state: RunState,
    style: TerminalStyle,
    screen: Screen,
    /// The running steps, in the order in which they started.
    running_steps: Vec<RunningStep>,
    /// The permanent lines that wait until the user has answered orch's questions.
    pending_lines: Option<Vec<String>>,
    /// The number of open questions.
    open_questions: usize,
    /// The column in which the text after a step's name starts.
    names: NameColumn,
    /// Whether orch no longer draws live lines, because the run has ended or the process is about to exit.
    has_ended: bool,
    started_at: Instant,
}

struct RunningStep {
    key: StepKey,
    activity: String,
    started_at: Instant,
    /// The length of the reply so far, in bytes.
    received_bytes: usize,
}

impl LiveReporter {
    /// Follows a run that already has these events, on a terminal.
    pub fn new(run: RunId, events: &[Event], style: TerminalStyle, terminal: ScreenTerminal) -> Self {
        let state = RunState::fold(run, events);
        let inner = Arc::new(Mutex::new(LiveState {
            names: NameColumn::from_steps(&state),
            state,
            style,
            screen: Screen::new(terminal),
            running_steps: Vec::new(),
            pending_lines: None,
            open_questions: 0,
            has_ended: false,
            started_at: Instant::now(),
        }));
        let (redraw_stop, stop) = channel();
        let weak_inner = Arc::downgrade(&inner);
        // If the thread can't start, orch redraws the live lines only when an event arrives.
        drop(std::thread::Builder::new().name("progress".to_owned()).spawn(move || redraw(&weak_inner, &stop)));
        Self { inner, _redraw_stop: redraw_stop }
    }

    fn inner(&self) -> MutexGuard<'_, LiveState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LiveReporter {
    /// Removes the live lines, even when the run was interrupted.
    fn drop(&mut self) {
        self.inner().screen.clear();
    }
}

/// Redraws the live lines until the [`LiveReporter`] is dropped.
fn redraw(inner: &Weak<Mutex<LiveState>>, stop: &Receiver<()>) {
    while stop.recv_timeout(REDRAW_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(inner) = inner.upgrade() else { return };
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.running_steps.is_empty() {
            inner.draw("");
        }
    }
}

impl LiveState {
    /// Writes a permanent line.
    fn write_line(&mut self, text: &str) {
        match &mut self.pending_lines {
            Some(lines) => lines.push(text.to_owned()),
            None => self.draw(&to_printable(text)),
        }
    }

    fn draw(&mut self, permanent: &str) {
        // While orch asks a question, it draws nothing else.
        if self.pending_lines.is_some() {
            return;
        }
        let live_lines = if self.has_ended { Vec::new() } else { self.live_lines() };
        self.screen.draw(permanent, &live_lines);
    }

    /// The live lines for the running steps.
    fn live_lines(&self) -> Vec<String> {
        let width = self.screen.width();
        let frame = self.started_at.elapsed().as_millis() / REDRAW_INTERVAL.as_millis();
        let frame = usize::try_from(frame).unwrap_or_default() % SPINNER.len();
        let spinner = SPINNER.get(frame).copied().unwrap_or_default();
        let name = |step: &RunningStep| to_printable(step.key.as_str()).into_owned();
        let longest = self.running_steps.iter().map(|step| display_width(&name(step))).max().unwrap_or_default();
        let name_width = longest.max(10).min(width / 3);
        let line = |step: &RunningStep| {
            let time = format_elapsed(step.started_at.elapsed());
            let name = pad_end(&truncate_start(&name(step), name_width), name_width);
            let left = format!("{spinner} {name} {}", step.activity);
            let left_width = width.saturating_sub(display_width(&time) + 1);
            format!("{} {time}", pad_end(&truncate_end(&left, left_width), left_width))
        };
        self.running_steps.iter().map(line).collect()
    }

    fn running_step(&mut self, key: &StepKey) -> Option<&mut RunningStep> {
        self.running_steps.iter_mut().find(|step| step.key == *key)
    }

    fn start(&mut self, key: &StepKey, activity: &str) {
        let activity = to_printable(activity).into_owned();
        if let Some(step) = self.running_step(key) {
            (step.activity, step.received_bytes) = (activity, 0);
        } else {
            let started_at = Instant::now();
            self.running_steps.push(RunningStep { key: key.clone(), activity, started_at, received_bytes: 0 });
        }
        self.draw("");
    }

    fn end(&mut self, key: &StepKey) {
        self.running_steps.retain(|step| step.key != *key);
        let names = self.name_column(key);
        if let Some(line) = self.state.step(key).map(|step| render_step_line(step, names, self.style)) {
            self.write_line(&line);
        }
    }

    /// Removes the live lines and delays all output while orch asks a question.
    fn suspend(&mut self) {
        self.open_questions += 1;
        self.pending_lines.get_or_insert_with(Vec::new);
        self.screen.clear();
    }

    /// Writes the delayed lines and draws again.
    fn resume(&mut self) {
        for line in self.pending_lines.take().unwrap_or_default() {
            self.write_line(&line);
        }
    }

    /// The name column, after adding the name of this step.
    fn name_column(&mut self, key: &StepKey) -> NameColumn {
        self.names.add_name(key.as_str());
        self.names.fit_to_terminal(Some(self.screen.width()))
    }

    /// Writes a permanent line about a failed call or reply.
    fn write_problem(&mut self, key: &StepKey, message: &str) {
        let line = format!("{} {}", self.style.warning("!"), self.name_column(key).align(key.as_str(), message));
        self.write_line(&line);
    }

    fn signal(&mut self, signal: &CallProgress) {
        let key = match signal {
            CallProgress::Sent(call)
            | CallProgress::ReadingPrompt(call, ..)
            | CallProgress::Text(call, _)
            | CallProgress::Reasoning(call, _)
            | CallProgress::Output(call, _) => &call.step,
            CallProgress::Backoff(key, _) => key,
            CallProgress::AwaitingApproval(_) => return self.suspend(),
            CallProgress::Stopping { immediately: at_once } => return self.write_stop_message(*at_once),
        };
        let Some((executor, is_model)) =
            self.state.step(key).map(|step| (step.performer_label(), step.model.is_some()))
        else {
            return;
        };
        // The cost of the run so far, if it is known or estimated and not zero.
        let cost = self.state.cost();
        let usd = cost.exact().or(cost.upper_bound()).filter(|usd| *usd > 0.0);
        let cost_suffix = usd.map(|_| format!(" · {}", human::format_cost(cost))).unwrap_or_default();
        let Some(step) = self.running_step(key) else {
            return;
        };
        let message = match signal {
            CallProgress::Output(_, line) => format!("{executor} · {}", human::first_line(line, 120)),
            CallProgress::Sent(_) if is_model => format!("{executor} · waiting for the reply"),
            CallProgress::Sent(_) | CallProgress::AwaitingApproval(_) | CallProgress::Stopping { .. } => {
                format!("{executor} · running")
            }
            CallProgress::ReadingPrompt(_, read_tokens, total) => {
                format!("{executor} · reading {read_tokens}/{total} tokens")
            }
            CallProgress::Text(_, text) => {
                step.received_bytes += text.len();
                format!("{executor} · writing ~{} tokens", human::format_count((step.received_bytes / 4) as u64))
            }
            CallProgress::Reasoning(_, bytes) => {
                step.received_bytes += bytes;
                format!("{executor} · thinking ~{} tokens", human::format_count((step.received_bytes / 4) as u64))
            }
            CallProgress::Backoff(_, millis) => {
                format!("{executor} · waiting {}", human::format_duration(Duration::from_millis(*millis)))
            }
        };
        step.activity = to_printable(&format!("{message}{cost_suffix}")).into_owned();
    }

    /// Prints that the run stops. If the process is about to exit, this also removes the live lines for good.
    fn write_stop_message(&mut self, at_once: bool) {
        self.has_ended |= at_once;
        match self.pending_lines {
            // The cursor is at the end of a question, so the message needs a line of its own.
            Some(_) => self.screen.write_raw(&format!("\n{}\n", stop_message(at_once))),
            None => self.draw(stop_message(at_once)),
        }
    }
}

/// The time since the start of a step: `7s`, `4m 05s`.
fn format_elapsed(time: Duration) -> String {
    if time.as_secs() < 60 { format!("{}s", time.as_secs()) } else { human::format_duration(time) }
}

impl Observer for LiveReporter {
    fn on_event(&self, event: &Event) {
        let inner = &mut *self.inner();
        inner.state.apply(event);
        match &event.fact {
            Fact::RunStarted(fact) => {
                inner.names = NameColumn::from_steps(&inner.state);
                inner.write_line(&format!(
                    "run {}: {}",
                    inner.style.bold(event.run),
                    escape_line_breaks(&fact.pipeline)
                ));
            }
            Fact::RunResumed(_) => {
                inner.names = NameColumn::from_steps(&inner.state);
                let name = escape_line_breaks(&inner.state.pipeline).into_owned();
                inner.write_line(&format!("run {}: {name}, resumed", inner.style.bold(event.run)));
            }
            Fact::StepStarted(fact) => {
                let executor = inner.state.step(&fact.step).map_or_else(String::new, StepState::performer_label);
                inner.start(&fact.step, &executor);
            }
            Fact::CallEnded(fact) => {
                if let Some(failure) = &fact.failure {
                    inner.write_problem(&fact.call.step, &failure.to_string());
                }
            }
            Fact::ReplyParsed(fact) => {
                if let Some(failure) = &fact.failure {
                    inner.write_problem(&fact.call.step, &format!("orch rejected the reply: {failure}"));
                }
            }
            Fact::StepReused(fact) => inner.end(&fact.step),
            Fact::StepCompleted(fact) => inner.end(&fact.step),
            Fact::StepFailed(fact) => inner.end(&fact.step),
            Fact::StepSkipped(fact) => inner.end(&fact.step),
            Fact::RunEnded(_) => {
                inner.resume();
                inner.has_ended = true;
                inner.running_steps.clear();
                inner.screen.clear();
            }
            Fact::ApprovalAnswered(_) => {
                inner.open_questions = inner.open_questions.saturating_sub(1);
                if inner.open_questions == 0 {
                    inner.resume();
                }
            }
            Fact::CallStarted(_) | Fact::ApprovalAsked(_) | Fact::ArtifactAccepted(_) => {}
        }
    }

    fn on_progress(&self, signal: &CallProgress) {
        self.inner().signal(signal);
    }
}
