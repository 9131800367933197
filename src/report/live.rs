//! Progress on a terminal: a line that moves for the step that is going on, and one that
//! stays for each that has ended.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::durable::{Observer, Signal};
use crate::model::{Event, Fact, RunId, RunState, StepKey, StepState};

use super::human;
use super::style::{Style, printable};
use super::summary::step_line;

/// Draws the steps of a run as they go on.
pub struct Live {
    bars: MultiProgress,
    style: Style,
    inner: Mutex<Inner>,
}

struct Inner {
    state: RunState,
    going_on: HashMap<StepKey, Going>,
    /// Lines that wait while a person is asked.
    held: Option<Vec<String>>,
    /// How many questions are open.
    asking: usize,
}

struct Going {
    bar: ProgressBar,
    written: usize,
}

impl Live {
    /// Follows a run that has the given events already, on standard error.
    pub fn new(run: RunId, events: &[Event], style: Style) -> Self {
        let state = RunState::fold(run, events);
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            style,
            inner: Mutex::new(Inner { state, going_on: HashMap::new(), held: None, asking: 0 }),
        }
    }

    fn line(&self, inner: &mut Inner, text: &str) {
        if let Some(held) = &mut inner.held {
            held.push(text.to_owned());
            return;
        }
        // A terminal that went away must not stop the run.
        drop(self.bars.println(printable(text)));
    }

    fn start(&self, inner: &mut Inner, step: &StepKey, words: String) {
        let going = inner.going_on.entry(step.clone()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {prefix:<10} {wide_msg} {elapsed}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_prefix(printable(step.as_str()).into_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            Going { bar, written: 0 }
        });
        going.written = 0;
        going.bar.set_message(printable(&words).into_owned());
    }

    fn end(&self, inner: &mut Inner, key: &StepKey) {
        if let Some(going) = inner.going_on.remove(key) {
            going.bar.finish_and_clear();
        }
        if let Some(line) = inner.state.step(key).map(|step| step_line(step, self.style)) {
            self.line(inner, &line);
        }
    }

    /// Leaves the terminal to a question.
    fn hush(&self, inner: &mut Inner) {
        inner.asking += 1;
        inner.held.get_or_insert_with(Vec::new);
        // A terminal that went away must not stop the run.
        drop(self.bars.clear());
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Takes the terminal back.
    fn speak(&self, inner: &mut Inner) {
        if let Some(held) = inner.held.take() {
            self.bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            for line in held {
                self.line(inner, &line);
            }
        }
    }

    fn clear(inner: &mut Inner) {
        for (_, going) in inner.going_on.drain() {
            going.bar.finish_and_clear();
        }
    }
}

impl Observer for Live {
    fn event(&self, event: &Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.state.apply(event);
        match &event.fact {
            Fact::RunStarted(fact) => {
                self.line(&mut inner, &format!("run {}: {}", self.style.strong(event.run), fact.pipeline));
            }
            Fact::RunResumed(_) => {
                let name = inner.state.pipeline.clone();
                self.line(&mut inner, &format!("run {}: {name}, resumed", self.style.strong(event.run)));
            }
            Fact::StepStarted(fact) => {
                let who = inner.state.step(&fact.step).map_or_else(String::new, StepState::who);
                self.start(&mut inner, &fact.step, who);
            }
            Fact::CallEnded(fact) => {
                if let Some(failure) = &fact.failure {
                    self.line(&mut inner, &format!("{} {:<10} {failure}", self.style.warn("!"), fact.call.step));
                }
            }
            Fact::ReplyRead(fact) => {
                if let Some(failure) = &fact.failure {
                    self.line(
                        &mut inner,
                        &format!("{} {:<10} the reply was not taken: {failure}", self.style.warn("!"), fact.call.step),
                    );
                }
            }
            Fact::StepKept(fact) => self.end(&mut inner, &fact.step),
            Fact::StepCompleted(fact) => self.end(&mut inner, &fact.step),
            Fact::StepFailed(fact) => self.end(&mut inner, &fact.step),
            Fact::StepSkipped(fact) => self.end(&mut inner, &fact.step),
            Fact::RunEnded(_) => {
                self.speak(&mut inner);
                Self::clear(&mut inner);
            }
            Fact::ApprovalAnswered(_) => {
                inner.asking = inner.asking.saturating_sub(1);
                if inner.asking == 0 {
                    self.speak(&mut inner);
                }
            }
            Fact::ApprovalAsked(_) | Fact::ArtifactAccepted(_) => {}
        }
    }

    fn signal(&self, signal: &Signal) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let step = match signal {
            Signal::Sent(call)
            | Signal::Reading(call, ..)
            | Signal::Text(call, _)
            | Signal::Reasoning(call, _)
            | Signal::Output(call, _) => &call.step,
            Signal::Backoff(step, _) => step,
            Signal::Asking(_) => return self.hush(&mut inner),
        };
        let Some((model, is_model)) = inner.state.step(step).map(|step| (step.who(), step.model.is_some())) else {
            return;
        };
        // What the run has cost so far, once it costs anything that is known.
        let cost = inner.state.cost();
        let usd = cost.known().or(cost.estimated()).filter(|usd| *usd > 0.0);
        let spent = usd.map(|_| format!(" · {}", human::cost(cost))).unwrap_or_default();
        let Some(going) = inner.going_on.get_mut(step) else {
            return;
        };
        let message = match signal {
            Signal::Output(_, line) => format!("{model} · {}", human::first_line(line, 120)),
            Signal::Sent(_) if is_model => format!("{model} · asked"),
            Signal::Sent(_) | Signal::Asking(_) => format!("{model} · running"),
            Signal::Reading(_, done, total) => format!("{model} · reading {done}/{total} tokens"),
            Signal::Text(_, text) => {
                going.written += text.len();
                format!("{model} · writing ~{} tokens", human::count((going.written / 4) as u64))
            }
            Signal::Reasoning(_, bytes) => {
                going.written += bytes;
                format!("{model} · thinking ~{} tokens", human::count((going.written / 4) as u64))
            }
            Signal::Backoff(_, millis) => {
                format!("{model} · waiting {}", human::duration(Duration::from_millis(*millis)))
            }
        };
        going.bar.set_message(printable(&format!("{message}{spent}")).into_owned());
    }
}
