//! Chooses the number of threads for a computation.
//!
//! candle has one thread pool for the process, with one thread for every processor, and each operation waits for all
//! threads. If other processes use the processors too, each operation waits for the thread that the kernel schedules
//! last, so one thread is faster. This module can therefore also run a computation inside a thread of the pool: its
//! operations then stay on that thread.

use std::num::NonZero;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use candle_core::utils::barrier_pool;

/// The minimum time between two measurements of the load: the kernel counts in hundredths of a second.
const MEASUREMENT_INTERVAL: Duration = Duration::from_millis(200);

/// The load from which one thread is as fast as all: the number of processors that other processes keep busy.
const MAX_OTHER_LOAD: f32 = 0.6;

/// Measures how much processor time other processes use.
#[derive(Debug, Default)]
pub(crate) struct SystemLoad {
    last_measurement: Option<(Instant, Ticks)>,
    /// The number of processors that other processes kept busy between the last two measurements.
    busy_processors: f32,
}

/// The processor time since the machine started, in hundredths of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    /// The time of all processes.
    total: u64,
    /// The time of this process.
    process: u64,
}

impl Ticks {
    /// Parses `/proc/stat` and `/proc/self/stat`; see proc(5). Time stolen by a hypervisor counts as busy.
    fn parse(machine: &str, process: &str) -> Option<Self> {
        let mut fields = machine.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        let counts: Vec<u64> = fields.by_ref().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let [user, nice, system, _idle, _wait, irq, softirq, steal] = counts.try_into().ok()?;
        // The program's name is in parentheses and may contain spaces; the user time is the 12th field after it.
        let mut fields = process.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut field = || fields.next()?.parse::<u64>().ok();
        Some(Self { total: user + nice + system + irq + softirq + steal, process: field()? + field()? })
    }

    fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::parse(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }
}

impl SystemLoad {
    /// Measures the load, and returns whether a computation should use every processor.
    pub(crate) fn should_use_all_threads(&mut self, configured: Option<usize>) -> bool {
        if let Some(threads) = configured {
            return threads > 1;
        }
        if !has_enough_processors(usable_processors(), barrier_pool().n_workers()) {
            return false;
        }
        let now = Instant::now();
        match self.last_measurement {
            Some((time, _)) if now.duration_since(time) < MEASUREMENT_INTERVAL => {}
            Some((time, last_ticks)) => {
                if let Some(ticks) = Ticks::now() {
                    self.busy_processors = busy_processors(last_ticks, ticks, now.duration_since(time));
                    self.last_measurement = Some((now, ticks));
                }
            }
            None => self.last_measurement = Ticks::now().map(|ticks| (now, ticks)),
        }
        self.busy_processors < MAX_OTHER_LOAD
    }
}

/// The number of processors that this process may use. An affinity mask or a quota can make it smaller than the number
/// of processors of the machine.
fn usable_processors() -> usize {
    static USABLE_PROCESSORS: OnceLock<usize> = OnceLock::new();
    *USABLE_PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

/// Whether every thread of the pool (its workers and the caller) has its own processor. Waiting threads spin, so with
/// fewer processors they would block the threads that compute.
fn has_enough_processors(usable: usize, workers: usize) -> bool {
    usable > workers
}

/// The number of processors that other processes kept busy between two measurements.
fn busy_processors(before: Ticks, after: Ticks, time: Duration) -> f32 {
    let total = after.total.saturating_sub(before.total);
    let others = total.saturating_sub(after.process.saturating_sub(before.process));
    #[allow(clippy::cast_precision_loss)]
    let seconds = others as f32 / 100.0;
    seconds / time.as_secs_f32()
}

/// Runs `work` on one thread, or lets it use all threads of the pool.
pub(crate) fn run<T: Send>(use_all_threads: bool, work: impl FnOnce() -> T + Send) -> Option<T> {
    let pool = barrier_pool();
    let workers = pool.n_workers();
    if use_all_threads || workers == 0 {
        return Some(work());
    }
    let (done_sender, done_receiver) = sync_channel::<()>(1);
    let (task, result) = (Mutex::new(Some((work, done_sender))), Mutex::new(None));
    let done_receiver = Mutex::new(done_receiver);
    pool.execute(|thread| {
        if thread == 0 {
            let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((work, done_sender)) = task {
                let value = work();
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                drop(done_sender);
            }
        } else if thread == workers {
            // The caller's thread sleeps until the work is complete, instead of spinning.
            let _ = done_receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  10 20 30 4000 50 6 7 8 9 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";

    #[test]
    fn the_time_of_the_machine_and_of_this_process_is_parsed() {
        let process = "70 (a name) with) S 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20 0";
        assert_eq!(Ticks::parse(STAT, process), Some(Ticks { total: 81, process: 42 }));
        assert_eq!(Ticks::parse("nonsense", process), None);
        assert_eq!(Ticks::parse(STAT, "1 (x) S"), None);
    }

    #[test]
    fn the_time_of_this_process_does_not_count_as_load() {
        let before = Ticks { total: 1000, process: 500 };
        let second = Duration::from_secs(1);
        assert!(busy_processors(before, Ticks { total: 1200, process: 700 }, second) < 0.01);
        assert!((busy_processors(before, Ticks { total: 1200, process: 600 }, second) - 1.0).abs() < 0.01);
    }

    #[test]
    fn work_runs_on_one_thread_and_on_all() {
        assert_eq!(run(true, || 1), Some(1));
        assert_eq!(run(false, || 2), Some(2));
    }

    #[test]
    fn a_configured_number_of_threads_is_used() {
        assert!(!SystemLoad::default().should_use_all_threads(Some(1)));
        assert!(SystemLoad::default().should_use_all_threads(Some(2)));
    }

    #[test]
    fn a_process_with_fewer_processors_than_pool_threads_uses_one_thread() {
        for (usable, workers, expected) in [(1, 0, true), (1, 1, false), (2, 1, true), (2, 7, false), (8, 7, true)] {
            assert_eq!(has_enough_processors(usable, workers), expected, "{usable} of {workers} and the caller");
        }
    }
}
