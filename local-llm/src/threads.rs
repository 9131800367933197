//! Chooses how many threads to compute with.
//!
//! The arithmetic library has one thread pool for the whole process, with one thread for every processor, and each step
//! waits for all of them. On a machine that is busy otherwise, a step lasts as long as the slowest thread takes to be
//! scheduled, so one thread alone is faster. Work can therefore also run inside a thread of the pool, where nested work
//! stays on that thread.

use std::num::NonZero;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use candle_core::utils::barrier_pool;

/// How long the machine is watched before its load is computed: the kernel counts in hundredths of a second.
const WINDOW: Duration = Duration::from_millis(200);

/// If other processes keep more processors than this busy, one thread is as fast as all.
const SPARE: f32 = 0.6;

/// How much processor time other processes use.
#[derive(Debug, Default)]
pub(crate) struct Load {
    since: Option<(Instant, Ticks)>,
    /// How many processors other processes kept busy in the last window.
    others: f32,
}

/// Processor time since the machine started, in hundredths of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    all: u64,
    own: u64,
}

impl Ticks {
    /// Parses `/proc/stat` and `/proc/self/stat`; see proc(5). Time that the host took away counts as busy.
    fn parse(machine: &str, process: &str) -> Option<Self> {
        let mut fields = machine.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        let counts: Vec<u64> = fields.by_ref().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let [user, nice, system, _idle, _wait, irq, softirq, steal] = counts.try_into().ok()?;
        // The program's name is in brackets and may hold spaces; the user time is the 12th field after it.
        let mut fields = process.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut field = || fields.next()?.parse::<u64>().ok();
        Some(Self { all: user + nice + system + irq + softirq + steal, own: field()? + field()? })
    }

    fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::parse(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }
}

impl Load {
    /// Measures the load, and returns whether it is worth using every processor.
    pub(crate) fn all_threads(&mut self, chosen: Option<usize>) -> bool {
        if let Some(threads) = chosen {
            return threads > 1;
        }
        if !enough_processors(usable(), barrier_pool().n_workers()) {
            return false;
        }
        let now = Instant::now();
        match self.since {
            Some((since, _)) if now.duration_since(since) < WINDOW => {}
            Some((since, before)) => {
                if let Some(ticks) = Ticks::now() {
                    self.others = busy(before, ticks, now.duration_since(since));
                    self.since = Some((now, ticks));
                }
            }
            None => self.since = Ticks::now().map(|ticks| (now, ticks)),
        }
        self.others < SPARE
    }
}

/// How many processors this process may use: fewer than the machine has under an affinity mask or a quota.
fn usable() -> usize {
    static USABLE: OnceLock<usize> = OnceLock::new();
    *USABLE.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

/// Whether every thread of the pool (its workers and the caller) has a processor of its own. The threads spin while
/// they wait for one another, so with fewer processors they would keep each other from working.
fn enough_processors(usable: usize, workers: usize) -> bool {
    usable > workers
}

/// How many processors other processes kept busy between two measurements.
fn busy(before: Ticks, after: Ticks, time: Duration) -> f32 {
    let all = after.all.saturating_sub(before.all);
    let others = all.saturating_sub(after.own.saturating_sub(before.own));
    #[allow(clippy::cast_precision_loss)]
    let seconds = others as f32 / 100.0;
    seconds / time.as_secs_f32()
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
            // The caller's thread sleeps until the work is done, instead of spinning.
            let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  10 20 30 4000 50 6 7 8 9 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";

    #[test]
    fn the_time_of_the_machine_and_of_this_process_is_read() {
        let own = "70 (a name) with) S 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20 0";
        assert_eq!(Ticks::parse(STAT, own), Some(Ticks { all: 81, own: 42 }));
        assert_eq!(Ticks::parse("nonsense", own), None);
        assert_eq!(Ticks::parse(STAT, "1 (x) S"), None);
    }

    #[test]
    fn what_this_process_does_itself_is_no_load() {
        let before = Ticks { all: 1000, own: 500 };
        let second = Duration::from_secs(1);
        assert!(busy(before, Ticks { all: 1200, own: 700 }, second) < 0.01);
        assert!((busy(before, Ticks { all: 1200, own: 600 }, second) - 1.0).abs() < 0.01);
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

    #[test]
    fn a_process_that_may_use_fewer_processors_than_the_pool_has_threads_computes_on_one() {
        for (usable, workers, enough) in [(1, 0, true), (1, 1, false), (2, 1, true), (2, 7, false), (8, 7, true)] {
            assert_eq!(enough_processors(usable, workers), enough, "{usable} of {workers} and the caller");
        }
    }
}
