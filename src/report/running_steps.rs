//! The running steps of a run, for the live lines.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::durable::CallProgress;
use crate::model::StepKey;

use super::early_waits::EarlyWaits;
use super::style::to_printable;
use super::width::display_width;

/// A running step.
pub(super) struct RunningStep {
    pub(super) key: StepKey,
    pub(super) activity: String,
    pub(super) started_at: Instant,
    /// The length of the reply so far, in bytes.
    pub(super) received_bytes: usize,
}

impl RunningStep {
    /// The name of the step, as a line shows it.
    pub(super) fn name(&self) -> String {
        to_printable(self.key.as_str()).into_owned()
    }
}

/// The running steps, in the order in which they started. All steps of a large `parallel` may run at once, so none is
/// searched among the others.
#[derive(Default)]
pub(super) struct RunningSteps {
    by_start: BTreeMap<u64, RunningStep>,
    /// The position of each step in `by_start`.
    positions: HashMap<StepKey, u64>,
    /// How many steps have a name of this width, in columns.
    name_widths: BTreeMap<usize, usize>,
    next_position: u64,
    early_waits: EarlyWaits,
}

impl RunningSteps {
    /// Remembers that a call waits for budget, if the start of its step is not shown yet.
    pub(super) fn remember_early_wait(&mut self, progress: &CallProgress) {
        match progress {
            CallProgress::AwaitingBudget(key) if !self.positions.contains_key(key) => {
                self.early_waits.add(key);
            }
            CallProgress::Sent(call) => {
                self.early_waits.take(&call.step);
            }
            _ => {}
        }
    }

    /// Whether the call of a step whose start is shown now waits for budget already.
    pub(super) fn take_early_wait(&mut self, key: &StepKey) -> bool {
        self.early_waits.take(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_start.len()
    }

    /// The steps, in the order in which they started.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RunningStep> {
        self.by_start.values()
    }

    /// The width of the longest name, in columns.
    pub(super) fn max_name_width(&self) -> usize {
        self.name_widths.keys().next_back().copied().unwrap_or_default()
    }

    pub(super) fn get_mut(&mut self, key: &StepKey) -> Option<&mut RunningStep> {
        self.by_start.get_mut(self.positions.get(key)?)
    }

    /// Adds a step that does not run yet.
    pub(super) fn add(&mut self, key: &StepKey, activity: String) {
        let step = RunningStep { key: key.clone(), activity, started_at: Instant::now(), received_bytes: 0 };
        *self.name_widths.entry(display_width(&step.name())).or_default() += 1;
        self.positions.insert(key.clone(), self.next_position);
        self.by_start.insert(self.next_position, step);
        self.next_position += 1;
    }

    pub(super) fn remove(&mut self, key: &StepKey) {
        let step = self.positions.remove(key).and_then(|position| self.by_start.remove(&position));
        let Some(width) = step.map(|step| display_width(&step.name())) else { return };
        if let Some(count) = self.name_widths.get_mut(&width) {
            *count -= 1;
            if *count == 0 {
                self.name_widths.remove(&width);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_comes_before_the_start_of_its_step_is_remembered() {
        let (mut steps, key) = (RunningSteps::default(), StepKey::root("a"));
        steps.remember_early_wait(&CallProgress::AwaitingBudget(key.clone()));
        assert!(steps.take_early_wait(&key) && !steps.take_early_wait(&key));
        steps.add(&key, "running".to_owned());
        steps.remember_early_wait(&CallProgress::AwaitingBudget(key.clone()));
        assert!(!steps.take_early_wait(&key));
    }

    #[test]
    fn steps_keep_their_order_and_the_longest_name_counts() {
        let keys = ["b", "a", "long", "c"].map(StepKey::root);
        let mut steps = RunningSteps::default();
        for key in &keys {
            steps.add(key, "running".to_owned());
        }
        let names = |steps: &RunningSteps| steps.iter().map(RunningStep::name).collect::<Vec<_>>();
        assert_eq!((names(&steps).join(" ").as_str(), steps.max_name_width()), ("b a long c", 4));
        steps.remove(&keys[2]);
        steps.remove(&keys[0]);
        steps.remove(&keys[0]);
        assert_eq!((names(&steps).join(" ").as_str(), steps.max_name_width()), ("a c", 1));
        assert!(steps.get_mut(&keys[1]).is_some() && steps.get_mut(&keys[0]).is_none());
        steps.clear();
        assert!(steps.is_empty() && steps.max_name_width() == 0);
    }
}
