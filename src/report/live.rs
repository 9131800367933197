//! Shows progress on a terminal: a live line for each running step, and a permanent line for each step that has ended.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::durable::{CallProgress, Observer};
use crate::model::cost::CostTotal;
use crate::model::event::CallStarted;
use crate::model::visible::{escape_line_breaks, one_line};
use crate::model::{Event, Fact, RunId, RunState, StepKey, StepState};

use super::human;
use super::lines::stop_message;
use super::running_steps::{RunningStep, RunningSteps};
use super::screen::{Screen, ScreenTerminal};
use super::style::{TerminalStyle, to_printable};
use super::summary::{NameColumn, render_step_line};
use super::tool_failures::{ToolFailures, describe_call_failure, describe_program_failure};
use super::width::{display_width, pad_end, truncate_end, truncate_start, wrap_lines};

/// The interval between two redraws of the live lines.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// The estimated size of a token, for the number of tokens in a live line.
const BYTES_PER_TOKEN: usize = 4;
/// The end of the live line of a step whose call waits for budget.
const AWAITING_BUDGET: &str = " · waiting for budget";
/// The frames of the spinner of a running step.
const SPINNER_FRAMES: &[char] = &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Draws the steps of a run during the run.
pub struct LiveReporter {
    inner: Arc<Mutex<LiveState>>,
    /// Dropping this sender ends the thread that redraws the live lines.
    _redraw_stop: Sender<()>,
}

struct LiveState {
    state: RunState,
    /// The cost of all steps so far. Each piece of a reply shows it, so it is not added up again each time.
    cost: CostTotal,
    style: TerminalStyle,
    screen: Screen,
    running_steps: RunningSteps,
    /// While orch asks the user a question: the permanent lines to write after the answer.
    pending_lines: Option<Vec<String>>,
    /// The number of questions without an answer.
    open_questions: Vec<StepKey>,
    /// The column of the step names.
    name_column: NameColumn,
    tool_failures: ToolFailures,
    /// Whether to stop drawing live lines, because the run has ended or the process is about to exit.
    live_lines_disabled: bool,
    started_at: Instant,
}

impl LiveReporter {
    /// Creates a reporter that draws a run on a terminal. `events` are the run's events so far.
    pub fn new(run: RunId, events: &[Event], style: TerminalStyle, terminal: ScreenTerminal) -> Self {
        let state = RunState::fold(run, events);
        let inner = Arc::new(Mutex::new(LiveState {
            name_column: NameColumn::from_steps(&state),
            cost: state.cost(),
            state,
            style,
            screen: Screen::new(terminal),
            running_steps: RunningSteps::default(),
            pending_lines: None,
            open_questions: Vec::new(),
            tool_failures: ToolFailures::default(),
            live_lines_disabled: false,
            started_at: Instant::now(),
        }));
        let (redraw_stop, stop) = channel();
        let weak_inner = Arc::downgrade(&inner);
        // If the thread can't start, orch redraws the live lines only when an event arrives.
        drop(
            std::thread::Builder::new()
                .name("progress".to_owned())
                .spawn(move || redraw_until_stopped(&weak_inner, &stop)),
        );
        Self { inner, _redraw_stop: redraw_stop }
    }

    /// Returns a writer for permanent lines that are not about an event of the run.
    pub fn line_writer(&self) -> LineWriter {
        LineWriter(Arc::downgrade(&self.inner))
    }

    fn inner(&self) -> MutexGuard<'_, LiveState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LiveReporter {
    /// Removes the live lines of an interrupted run.
    fn drop(&mut self) {
        let inner = &mut *self.inner();
        // A `LineWriter` on another thread may draw once more.
        inner.live_lines_disabled = true;
        inner.screen.clear();
    }
}

/// Writes permanent lines above the live lines of a [`LiveReporter`], as long as the reporter exists.
#[derive(Clone)]
pub struct LineWriter(Weak<Mutex<LiveState>>);

impl LineWriter {
    /// Writes a line, or delays it while orch asks the user a question. Returns false if the reporter no longer exists.
    pub fn write_line(&self, text: &str) -> bool {
        let Some(inner) = self.0.upgrade() else { return false };
        inner.lock().unwrap_or_else(PoisonError::into_inner).write_line(text);
        true
    }
}

/// Redraws the live lines until the [`LiveReporter`] is dropped.
fn redraw_until_stopped(inner: &Weak<Mutex<LiveState>>, stop: &Receiver<()>) {
    while stop.recv_timeout(REDRAW_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(inner) = inner.upgrade() else { return };
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.running_steps.is_empty() {
            inner.draw("");
        }
    }
}

impl LiveState {
    /// Writes a permanent line, or delays it while orch asks the user a question.
    fn write_line(&mut self, text: &str) {
        match &mut self.pending_lines {
            Some(lines) => lines.push(text.to_owned()),
            None => self.draw(&to_printable(text)),
        }
    }

    fn draw(&mut self, permanent: &str) {
        // Draw nothing while orch asks the user a question.
        if self.pending_lines.is_some() {
            return;
        }
        let live_lines = if self.live_lines_disabled { Vec::new() } else { self.live_lines() };
        let line_count = if self.live_lines_disabled { 0 } else { self.running_steps.len() };
        self.screen.draw(permanent, &live_lines, line_count);
    }

    /// The live lines for as many of the running steps as the terminal shows.
    fn live_lines(&self) -> Vec<String> {
        let width = self.screen.width();
        let frame = self.started_at.elapsed().as_millis() / REDRAW_INTERVAL.as_millis();
        let frame = usize::try_from(frame).unwrap_or_default() % SPINNER_FRAMES.len();
        let spinner = SPINNER_FRAMES.get(frame).copied().unwrap_or_default();
        let name_width = self.running_steps.max_name_width().max(10).min(width / 3);
        let line = |step: &RunningStep| {
            let time = format_elapsed(step.started_at.elapsed());
            let name = pad_end(&truncate_start(&step.name(), name_width), name_width);
            let left = format!("{spinner} {name} {}", step.activity);
            let left_width = width.saturating_sub(display_width(&time) + 1);
            format!("{} {time}", pad_end(&truncate_end(&left, left_width), left_width))
        };
        self.running_steps.iter().take(self.screen.max_live_lines()).map(line).collect()
    }

    /// Applies an event to the state of the run and to the cost.
    fn apply(&mut self, event: &Event) {
        self.state.apply(event);
        match &event.fact {
            Fact::CallEnded(fact) if self.state.step(&fact.call.step).is_some() => self.cost += fact.cost_total(),
            // The plan is another one, and calls in flight count as lost.
            Fact::RunStarted(_) | Fact::RunResumed(_) => self.cost = self.state.cost(),
            _ => {}
        }
    }

    fn start_step(&mut self, key: &StepKey, performer_label: &str) {
        let mut activity = to_printable(performer_label).into_owned();
        if self.running_steps.take_early_wait(key) {
            activity.push_str(AWAITING_BUDGET);
        }
        if let Some(step) = self.running_steps.get_mut(key) {
            (step.activity, step.received_bytes) = (activity, 0);
        } else {
            self.running_steps.add(key, activity);
        }
        self.draw("");
    }

    fn end_step(&mut self, key: &StepKey) {
        self.running_steps.remove(key);
        let name_column = self.fit_name_column(key);
        if let Some(line) = self.state.step(key).map(|step| render_step_line(step, name_column, self.style)) {
            self.write_line(&line);
        }
    }

    /// Removes the live lines and delays all output while orch asks the user a question.
    fn suspend(&mut self, step: &StepKey) {
        self.open_questions.push(step.clone());
        self.pending_lines.get_or_insert_with(Vec::new);
        self.screen.clear();
    }

    /// Continues to draw if no other question is on the terminal. The question of this step may not have been on it:
    /// another process can answer a question that no user sees here.
    fn end_question(&mut self, step: &StepKey) {
        if let Some(index) = self.open_questions.iter().position(|open| open == step) {
            self.open_questions.swap_remove(index);
            if self.open_questions.is_empty() {
                self.resume();
            }
        }
    }

    /// Writes the delayed lines and continues to draw.
    fn resume(&mut self) {
        for line in self.pending_lines.take().unwrap_or_default() {
            self.write_line(&line);
        }
    }

    /// Adds the name of a step to the name column, and returns the column for the current width of the terminal.
    fn fit_name_column(&mut self, key: &StepKey) -> NameColumn {
        self.name_column.add_name(key.as_str());
        self.name_column.fit_to_terminal(Some(self.screen.width()))
    }

    /// Writes a permanent line about a failed call or a rejected reply.
    fn write_failure(&mut self, key: &StepKey, message: &str) {
        let line = format!("{} {}", self.style.warning("!"), self.fit_name_column(key).align(key.as_str(), message));
        self.write_line(&line);
    }

    /// Shows the tool that the model of a step called, in the live line of the step.
    fn show_tool(&mut self, fact: &CallStarted) {
        let Some((tool, arguments)) = fact.tool_and_arguments() else { return };
        let Some(label) = self.state.step(&fact.call.step).map(StepState::performer_label) else { return };
        let arguments = one_line(arguments, 120);
        if let Some(step) = self.running_steps.get_mut(&fact.call.step) {
            step.activity = to_printable(format!("{label} · {tool} {arguments}").trim_end()).into_owned();
        }
    }

    /// Updates the live line of the step to which this progress belongs.
    fn show_progress(&mut self, progress: &CallProgress) {
        self.running_steps.remember_early_wait(progress);
        // The start record of a tool call has shown the tool already.
        if matches!(progress, CallProgress::Sent(call) if call.tool_call.is_some()) {
            return;
        }
        let key = match progress {
            CallProgress::Sent(call)
            | CallProgress::ReadingPrompt(call, ..)
            | CallProgress::Text(call, _)
            | CallProgress::Reasoning(call, _)
            | CallProgress::Output(call, _) => &call.step,
            CallProgress::Backoff(key, _) | CallProgress::AwaitingBudget(key) => key,
            CallProgress::ListingFailed(key, failure) => {
                return self.write_failure(key, &describe_program_failure(failure));
            }
            CallProgress::AwaitingApproval(step) => return self.suspend(step),
            CallProgress::ApprovalEnded(step) => return self.end_question(step),
            CallProgress::Stopping { immediately } => return self.write_stop_message(*immediately),
        };
        let Some((performer_label, is_model)) =
            self.state.step(key).map(|step| (step.performer_label(), step.model.is_some()))
        else {
            return;
        };
        // Show the cost of the run so far, unless it is unknown or zero.
        let cost = self.cost;
        let usd = cost.exact().or(cost.upper_bound()).filter(|usd| *usd > 0.0);
        let cost_suffix = usd.map(|_| format!(" · {}", human::format_cost(cost))).unwrap_or_default();
        let Some(step) = self.running_steps.get_mut(key) else {
            return;
        };
        let message = match progress {
            CallProgress::Output(_, line) => format!("{performer_label} · {}", one_line(line, 120)),
            CallProgress::Sent(_) if is_model => format!("{performer_label} · waiting for the reply"),
            CallProgress::Sent(_)
            | CallProgress::AwaitingApproval(_)
            | CallProgress::ApprovalEnded(_)
            | CallProgress::ListingFailed(..)
            | CallProgress::Stopping { .. } => {
                format!("{performer_label} · running")
            }
            CallProgress::ReadingPrompt(_, processed_tokens, total) => {
                format!("{performer_label} · reading {processed_tokens}/{total} tokens")
            }
            CallProgress::Text(_, text) => {
                step.received_bytes += text.len();
                format!(
                    "{performer_label} · writing ~{} tokens",
                    human::format_count((step.received_bytes / BYTES_PER_TOKEN) as u64)
                )
            }
            CallProgress::Reasoning(_, bytes) => {
                step.received_bytes += bytes;
                format!(
                    "{performer_label} · thinking ~{} tokens",
                    human::format_count((step.received_bytes / BYTES_PER_TOKEN) as u64)
                )
            }
            CallProgress::Backoff(_, millis) => {
                format!("{performer_label} · waiting {}", human::format_duration(Duration::from_millis(*millis)))
            }
            CallProgress::AwaitingBudget(_) => format!("{performer_label}{AWAITING_BUDGET}"),
        };
        step.activity = to_printable(&format!("{message}{cost_suffix}")).into_owned();
    }

    /// Prints that the run stops. If the process exits immediately, also removes the live lines.
    fn write_stop_message(&mut self, immediately: bool) {
        self.live_lines_disabled |= immediately;
        match self.pending_lines {
            // The cursor is at the end of a question, so start a new line.
            Some(_) => {
                let message = wrap_lines(stop_message(immediately), self.screen.width());
                self.screen.write_raw(&format!("\n{message}\n"));
            }
            None => self.draw(stop_message(immediately)),
        }
    }
}

/// Formats the time since the start of a step: `7s`, `4m 05s`.
fn format_elapsed(time: Duration) -> String {
    if time.as_secs() < 60 { format!("{}s", time.as_secs()) } else { human::format_duration(time) }
}

impl Observer for LiveReporter {
    fn on_event(&self, event: &Event) {
        let inner = &mut *self.inner();
        inner.apply(event);
        for failure in inner.tool_failures.describe(&event.fact) {
            if let Some(step) = event.fact.step() {
                inner.write_failure(step, &failure);
            }
        }
        match &event.fact {
            Fact::RunStarted(fact) => {
                inner.name_column = NameColumn::from_steps(&inner.state);
                inner.write_line(&format!(
                    "run {}: {}",
                    inner.style.bold(event.run),
                    escape_line_breaks(&fact.pipeline)
                ));
            }
            Fact::RunResumed(_) => {
                inner.name_column = NameColumn::from_steps(&inner.state);
                let name = escape_line_breaks(&inner.state.pipeline).into_owned();
                inner.write_line(&format!("run {}: {name}, resumed", inner.style.bold(event.run)));
            }
            Fact::StepStarted(fact) => {
                let performer_label = inner.state.step(&fact.step).map_or_else(String::new, StepState::performer_label);
                inner.start_step(&fact.step, &performer_label);
            }
            Fact::CallEnded(fact) => {
                if let Some(failure) = &fact.failure {
                    inner.write_failure(&fact.call.step, &describe_call_failure(failure));
                }
            }
            Fact::ReplyParsed(fact) => {
                if let Some(failure) = &fact.failure {
                    inner.write_failure(&fact.call.step, &format!("orch rejected the reply: {failure}"));
                }
            }
            Fact::StepReused(fact) => inner.end_step(&fact.step),
            Fact::StepCompleted(fact) => inner.end_step(&fact.step),
            Fact::StepFailed(fact) => inner.end_step(&fact.step),
            Fact::StepSkipped(fact) => inner.end_step(&fact.step),
            Fact::RunEnded(_) => {
                inner.resume();
                inner.live_lines_disabled = true;
                inner.running_steps.clear();
                inner.screen.clear();
            }
            Fact::ApprovalAnswered(fact) => inner.end_question(&fact.step),
            Fact::CallStarted(fact) => inner.show_tool(fact),
            Fact::ToolsListed(fact) => {
                for note in &fact.notes {
                    let (mark, server) = (inner.style.warning("!"), &fact.listing.server);
                    let line = format!("{mark} MCP server {server}: {}", escape_line_breaks(note));
                    inner.write_line(&line);
                }
            }
            Fact::BudgetRaised(fact) => inner.write_line(&escape_line_breaks(&fact.to_string())),
            // Progress says that the run stops, also after a signal.
            Fact::ApprovalAsked(_) | Fact::ArtifactAccepted(_) | Fact::CancelRequested(_) => {}
        }
    }

    fn on_progress(&self, progress: &CallProgress) {
        self.inner().show_progress(progress);
    }
}
