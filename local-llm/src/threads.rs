//! How many threads to compute with.
//!
//! The pool of the arithmetic library is one for the whole process and has one
//! thread for every processor; each step waits for all of them. On a machine
//! that is busy otherwise, a step then lasts as long as the slowest thread
//! takes to be scheduled, and one thread alone is faster. Work can therefore
//! also be run inside a thread of the pool, where nested work stays on that
//! thread.

use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use candle_core::utils::barrier_pool;

/// Tasks that want a processor now, other than this one, smoothed.
#[derive(Debug, Default)]
pub(crate) struct Load {
    others: f32,
    seen: bool,
}

/// Running tasks according to the text of `/proc/loadavg`.
fn runnable(text: &str) -> Option<u16> {
    let (running, _) = text.split_ascii_whitespace().nth(3)?.split_once('/')?;
    running.parse().ok()
}

impl Load {
    /// Looks at the machine and says whether every processor is worth using.
    pub(crate) fn all_threads(&mut self, chosen: Option<usize>) -> bool {
        if let Some(threads) = chosen {
            return threads > 1;
        }
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let Some(running) = runnable(&text) else {
            return true;
        };
        let others = f32::from(running.saturating_sub(1));
        self.others = if self.seen { self.others * 0.8 + others * 0.2 } else { others };
        self.seen = true;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        #[allow(clippy::cast_precision_loss)]
        let idle = cores as f32 - self.others;
        // Half a task more than the idle processors is still worth it.
        idle > cores as f32 - 0.75
    }
}

/// Runs `work` on one thread, or lets it use the whole pool.
pub(crate) fn run<T: Send>(all: bool, work: impl FnOnce() -> T + Send) -> Option<T> {
    let pool = barrier_pool();
    let workers = pool.n_workers();
    if all || workers == 0 {
        return Some(work());
    }
    let (done, wait) = sync_channel::<()>(1);
    let (task, result) = (Mutex::new(Some((work, done))), Mutex::new(None));
    let wait = Mutex::new(wait);
    pool.execute(|thread| {
        if thread == 0 {
            let taken = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((work, done)) = taken {
                let value = work();
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                drop(done);
            }
        } else if thread == workers {
            // The caller sleeps instead of spinning until the work is done.
            let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_tasks_are_read() {
        assert_eq!(runnable("1.84 0.77 0.34 3/88 15186\n"), Some(3));
        assert_eq!(runnable("nonsense"), None);
    }

    #[test]
    fn work_runs_either_way() {
        assert_eq!(run(true, || 1), Some(1));
        assert_eq!(run(false, || 2), Some(2));
    }

    #[test]
    fn a_chosen_count_wins() {
        assert!(!Load::default().all_threads(Some(1)));
        assert!(Load::default().all_threads(Some(2)));
    }
}
