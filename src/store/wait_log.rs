//! Logs the waits of steps: pauses before another try, and questions to the user. Never logs a question, an answer or a
//! name, which may contain secrets.

use tracing::{Instrument as _, info, info_span};

use crate::durable::{Interrupt, WaitOutcome};
use crate::model::CallKey;

/// Why a step waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaitReason {
    /// orch makes another try after a pause.
    Retry,
    /// The user has to answer a question.
    Answer,
}

impl WaitReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Answer => "answer",
        }
    }
}

/// Waits in a span, and logs how the wait ended.
pub(super) async fn log_wait(
    key: &CallKey,
    reason: WaitReason,
    wait: impl Future<Output = Result<WaitOutcome, Interrupt>>,
) -> Result<WaitOutcome, Interrupt> {
    let logged = async {
        let result = wait.await;
        match (&result, reason) {
            (Ok(WaitOutcome::Answered(decision)), _) => info!(approved = decision.approved, "the user answered"),
            (Ok(WaitOutcome::Elapsed), WaitReason::Retry) => info!("the pause is over"),
            (Ok(WaitOutcome::Elapsed), WaitReason::Answer) => info!("the time for the answer is over"),
            (Err(Interrupt::Parked), _) => info!("the run stops until the user answers"),
            (Err(_), _) => info!("the wait was interrupted"),
        }
        result
    };
    logged.instrument(info_span!("wait", call = %key, step = %key.step, reason = reason.as_str())).await
}
