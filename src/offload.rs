//! Computation off the thread of a run: on a thread of its own, so that other steps, timers and a wish to stop go on
//! meanwhile.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::clock::Hold;

/// The stack of a thread that computes: as large as that of the main thread, since values and schemas are walked by
/// recursion up to the limits of their depth.
const STACK: usize = 8 << 20;

/// Text from this size on is read, checked or redacted off the thread of the run, in bytes. Less takes a few milliseconds.
pub const LARGE_TEXT: usize = 32 << 10;

/// What is done, and the result or the panic that it ends with.
type Done<T> = Result<T, Box<dyn Any + Send>>;

/// Does work on a thread of its own and waits for its result; where no thread can be had, on this one.
///
/// `hold` keeps virtual time from leaping while the work is done. A panic of the work continues in the caller. When the
/// future is dropped, the work is done to its end and its result is thrown away.
pub async fn off_thread<T: Send + 'static>(hold: Hold, work: impl FnOnce() -> T + Send + 'static) -> T {
    let started = start(move || catch_unwind(AssertUnwindSafe(work)), &spawned);
    let result = match started {
        Started::Elsewhere(result) => result.await.unwrap_or_else(|_| Err(Box::new("the thread ended early"))),
        Started::Here(result) => result,
    };
    drop(hold);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

fn spawned(work: Box<dyn FnOnce() + Send>) -> bool {
    let builder = thread::Builder::new().name("compute".to_owned()).stack_size(STACK);
    builder.spawn(work).is_ok()
}

/// How work was begun.
enum Started<T> {
    /// It goes on elsewhere.
    Elsewhere(oneshot::Receiver<Done<T>>),
    /// It was done at once.
    Here(Done<T>),
}

/// Gives work to `spawn`, which says whether it took it; what is not taken is done here.
fn start<T: Send + 'static>(
    work: impl FnOnce() -> Done<T> + Send + 'static,
    spawn: &dyn Fn(Box<dyn FnOnce() + Send>) -> bool,
) -> Started<T> {
    // A thread that can't be started drops what it was given: the work is kept beside it.
    let kept = Arc::new(Mutex::new(Some(work)));
    let (tell, result) = oneshot::channel();
    let taken = kept.clone();
    let spawned = spawn(Box::new(move || {
        if let Some(work) = taken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The caller may have gone: nobody needs the result then.
            drop(tell.send(work()));
        }
    }));
    if spawned {
        return Started::Elsewhere(result);
    }
    let work = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
    match work {
        Some(work) => Started::Here(work()),
        None => Started::Elsewhere(result),
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
        let here = thread::current().id();
        let started = start(|| Ok(thread::current().id()), &|work| {
            drop(work);
            false
        });
        assert!(matches!(started, Started::Here(Ok(id)) if id == here));
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
