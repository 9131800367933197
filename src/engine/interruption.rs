//! The failures of calls that orch ends early, because their time is used up or the run stops.

use futures_util::future::BoxFuture;

use crate::model::{Failure, FailureClass, SandboxUse};

/// Resolves with the failure to report when a call must end: when its time is used up or the run stops.
pub(super) async fn wait_for_interruption(
    time_limit: impl Future<Output = Failure>,
    stop: BoxFuture<'static, ()>,
) -> Failure {
    tokio::select! {
        biased;
        failure = time_limit => failure,
        () = stop => cancelled_failure(),
    }
}

/// The failure of a call that a stop interrupted.
fn cancelled_failure() -> Failure {
    Failure { interrupted: true, ..Failure::new(FailureClass::Cancelled, "the run was stopped") }
}

/// The failure of a call that a stop made orch drop. Names the damage by the program of the call, which a resume then
/// reports as the outcome of the call.
pub(super) fn dropped_failure(sandbox: Option<&SandboxUse>) -> Failure {
    let failure = cancelled_failure();
    match sandbox.and_then(SandboxUse::damage_failure) {
        Some(damage) => {
            Failure { message: format!("{}; {}", failure.message, damage.message), hint: damage.hint, ..failure }
        }
        None => failure,
    }
}
