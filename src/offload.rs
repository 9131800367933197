//! Runs a computation on a separate thread, so that the run's thread can serve other steps, timers and signals
//! meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::clock::Hold;

/// The stack size of such a thread: that of the main thread, since walks over values and schemas recurse up to their
/// depth limits.
const STACK: usize = 8 << 20;

/// The size in bytes from which text is parsed, checked or redacted on a separate thread. Smaller texts take at most a
/// few milliseconds.
pub const LARGE_TEXT: usize = 32 << 10;

/// Runs `work` on a separate thread and waits for its result. If no thread can be started, runs it on this one.
///
/// `hold` keeps virtual time from jumping meanwhile. A panic of the work continues in the caller. If the future is
/// dropped, the work still runs to its end, and its result is discarded.
pub async fn off_thread<T: Send + 'static>(hold: Hold, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, result) = oneshot::channel();
    run_detached("compute", move || {
        // If the caller dropped its future, the result has no receiver.
        drop(tell.send(catch_unwind(AssertUnwindSafe(work))));
    });
    let result = result.await.unwrap_or_else(|_| Err(Box::new("the thread ended early")));
    drop(hold);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Starts `work` on a separate thread. If no thread can be started, runs it on this one, where the thread pool of the
/// async runtime would panic.
pub fn run_detached(name: &str, work: impl FnOnce() + Send + 'static) {
    run_on(work, &|work| thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work).is_ok());
}

/// Passes `work` to `spawn`, which returns whether it accepted it; otherwise runs it here.
fn run_on(work: impl FnOnce() + Send + 'static, spawn: &dyn Fn(Box<dyn FnOnce() + Send>) -> bool) {
    // A failed spawn drops its closure, so the work is kept outside of the closure too.
    let kept = Arc::new(Mutex::new(Some(work)));
    let take = |kept: &Mutex<Option<_>>| kept.lock().unwrap_or_else(PoisonError::into_inner).take();
    let given = kept.clone();
    let taken = spawn(Box::new(move || {
        if let Some(work) = take(&given) {
            work();
        }
    }));
    if !taken && let Some(work) = take(&kept) {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_another_thread_with_a_stack_of_its_own() {
        let here = thread::current().id();
        let there = off_thread(Box::new(()), || (thread::current().id(), thread::current().name().map(str::to_owned)));
        let (id, name) = there.await;
        assert_ne!(id, here);
        assert_eq!(name.as_deref(), Some("compute"));
    }

    #[test]
    fn where_no_thread_can_be_had_work_is_done_here() {
        let (tell, told) = std::sync::mpsc::channel();
        run_on(move || tell.send(thread::current().id()).unwrap(), &|work| {
            drop(work);
            false
        });
        assert_eq!(told.try_recv(), Ok(thread::current().id()));
    }

    #[tokio::test]
    #[should_panic(expected = "a defect")]
    async fn a_panic_of_the_work_is_one_of_the_caller() {
        off_thread(Box::new(()), || panic!("a defect")).await;
    }

    #[tokio::test]
    async fn other_work_of_the_thread_goes_on_meanwhile() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let waits = off_thread(Box::new(()), move || told.recv().is_ok());
        let tells = async move { tell.send(()).is_ok() };
        assert_eq!(tokio::join!(waits, tells), (true, true));
    }
}
