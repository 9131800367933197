//! Runs a computation on a separate thread, so that it does not block the steps, timers and signals on the run's
//! thread.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::clock::VirtualTimeHold;

/// The stack size of each thread, equal to the usual stack size of a main thread: code that traverses values and
/// schemas recurses up to their depth limits.
const STACK_BYTES: usize = 8 << 20;

/// The minimum size in bytes of a text that orch parses, checks and redacts on a separate thread. A smaller text takes
/// at most a few milliseconds.
pub const LARGE_TEXT_BYTES: usize = 32 << 10;

/// Runs `work` on a separate thread and waits for its result. If no thread can be started, runs it on this one.
///
/// `hold` stops virtual time until the work ends. A panic in `work` propagates to the caller. If the caller drops the
/// future, the work still runs to its end, and orch discards the result.
pub async fn run_on_thread<T: Send + 'static>(hold: VirtualTimeHold, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    run_detached("compute", move || {
        // If the caller dropped its future, the result has no receiver.
        drop(sender.send(catch_unwind(AssertUnwindSafe(work))));
    });
    let result = receiver.await.unwrap_or_else(|_| Err(Box::new("the thread ended early")));
    drop(hold);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Starts `work` on a separate thread. If no thread can be started, runs it on this one. The thread pool of `tokio`
/// would panic instead.
pub fn run_detached(name: &str, work: impl FnOnce() + Send + 'static) {
    run_with_spawn(work, &|task| {
        thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(task).is_ok()
    });
}

/// Passes `work` to `spawn`, which returns whether it started a thread. If it did not, runs `work` on this thread.
fn run_with_spawn(work: impl FnOnce() + Send + 'static, spawn: &dyn Fn(Box<dyn FnOnce() + Send>) -> bool) {
    // A failed spawn drops its closure, so the closure and this function share `work`.
    let shared_work = Arc::new(Mutex::new(Some(work)));
    let take_work = |shared: &Mutex<Option<_>>| shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    let thread_work = shared_work.clone();
    let is_spawned = spawn(Box::new(move || {
        if let Some(work) = take_work(&thread_work) {
            work();
        }
    }));
    if !is_spawned && let Some(work) = take_work(&shared_work) {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn run_on_thread_runs_the_work_on_another_thread() {
        let caller = thread::current().id();
        let worker =
            run_on_thread(Box::new(()), || (thread::current().id(), thread::current().name().map(str::to_owned)));
        let (id, name) = worker.await;
        assert_ne!(id, caller);
        assert_eq!(name.as_deref(), Some("compute"));
    }

    #[test]
    fn if_no_thread_can_be_started_the_caller_runs_the_work() {
        let (sender, receiver) = std::sync::mpsc::channel();
        run_with_spawn(move || sender.send(thread::current().id()).unwrap(), &|work| {
            drop(work);
            false
        });
        assert_eq!(receiver.try_recv(), Ok(thread::current().id()));
    }

    #[tokio::test]
    #[should_panic(expected = "a defect")]
    async fn a_panic_in_the_work_propagates_to_the_caller() {
        run_on_thread(Box::new(()), || panic!("a defect")).await;
    }

    #[tokio::test]
    async fn the_calling_thread_runs_other_futures_during_the_work() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let waiting_work = run_on_thread(Box::new(()), move || receiver.recv().is_ok());
        let other_work = async move { sender.send(()).is_ok() };
        assert_eq!(tokio::join!(waiting_work, other_work), (true, true));
    }
}
