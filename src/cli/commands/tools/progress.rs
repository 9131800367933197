//! Prints the progress of a call. A server that reports it without a pause gets only some of the lines.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The shortest time between two lines.
const LINE_INTERVAL: Duration = Duration::from_millis(200);

/// Prints at most one line in each interval, and the last one always.
pub(super) struct ProgressLines<F> {
    print: F,
    state: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    printed_at: Option<Instant>,
    /// The last text, if it is not printed yet.
    waiting: Option<String>,
}

impl<F: Fn(&str)> ProgressLines<F> {
    pub(super) fn new(print: F) -> Self {
        Self { print, state: Mutex::default() }
    }

    /// Prints a text: now, or later if the last line is recent. The next text replaces one that is not printed yet.
    pub(super) fn add(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = Some(text.to_owned());
        if state.printed_at.is_none_or(|printed_at| printed_at.elapsed() >= LINE_INTERVAL) {
            self.print_waiting(&mut state);
        }
    }

    /// Waits for a call, and prints the texts that are added meanwhile.
    pub(super) async fn print_during<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        loop {
            let result = tokio::select! {
                biased;
                result = &mut call => Some(result),
                () = sleep(LINE_INTERVAL) => None,
            };
            self.print_waiting(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(result) = result {
                return result;
            }
        }
    }

    fn print_waiting(&self, state: &mut LineState) {
        if let Some(text) = state.waiting.take() {
            (self.print)(&text);
            state.printed_at = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_printed_in_part_and_the_last_text_always() {
        let lines = Mutex::new(Vec::new());
        let progress = ProgressLines::new(|text: &str| lines.lock().unwrap().push(text.to_owned()));
        let call = async {
            for number in 0..1000 {
                progress.add(&number.to_string());
            }
            sleep(LINE_INTERVAL + Duration::from_millis(50)).await;
            progress.add("a");
            progress.add("b");
        };
        progress.print_during(call).await;
        assert_eq!(*lines.lock().unwrap(), ["0", "999", "b"]);
    }
}
