//! Logs the session of a run: the time for which this process owns the run.

use tracing::{Instrument as _, info, info_span, warn};

use crate::model::{RunId, RunState};

use super::error::RunnerError;

/// Runs a session in a span with the id of the run, and logs how the session started and ended.
pub(super) async fn log_session(
    run: RunId,
    is_resumed: bool,
    session: impl Future<Output = Result<RunState, RunnerError>>,
) -> Result<RunState, RunnerError> {
    let logged = async {
        info!(resumed = is_resumed, "the session starts");
        let result = session.await;
        match &result {
            Ok(state) => info!(status = state.status.as_str(), "the session ended"),
            // The message may quote a path or a server, so the log has only the exit code.
            Err(error) => warn!(exit_code = error.status() as u8, "the session ended with an error"),
        }
        result
    };
    logged.instrument(info_span!("run", run = %run)).await
}

/// Logs that the steps begin again in the same session, because the user answered while the run stopped to wait.
pub(super) fn log_restart() {
    info!("the steps begin again with the answer of the user");
}
