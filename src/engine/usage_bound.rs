//! The estimate of a call's unreported usage after the call, and reported counts that are not plausible.

use crate::durable::CallOutcome;
use crate::model::effect::UsageBound;
use crate::model::{ChatReply, EstimatedUsage, Failure};

/// Returns the upper bound of the usage that the call did not report; `None` if nothing is missing or no bound is
/// known.
pub(super) fn unreported_usage(bound: &UsageBound, outcome: &CallOutcome) -> Option<EstimatedUsage> {
    let reported = outcome.reported_usage().unwrap_or_default();
    match (&bound.max_usage, &outcome.result) {
        (Some(max_usage), Ok(_)) => reported.unreported_upper_bound(max_usage),
        // The counts of an interrupted reply are not final: the model may have generated more after the last report.
        (Some(max_usage), Err(failure)) if failure.interrupted => Some(EstimatedUsage {
            input: if reported.input.is_some() { 0 } else { max_usage.input },
            output: max_usage.output.saturating_sub(reported.lower_bound().output),
            unsplit: 0,
        }),
        (None, _) if outcome.may_have_generated() && reported.complete().is_none() => {
            let unsplit = bound.estimate.tokens?.saturating_sub(reported.lower_bound().total());
            Some(EstimatedUsage { unsplit, ..EstimatedUsage::default() })
        }
        (Some(_) | None, _) => None,
    }
}

/// Removes implausible token counts from a reply.
pub(super) fn with_plausible_usage(reply: ChatReply) -> ChatReply {
    ChatReply { usage: reply.usage.plausible_for_reply(&reply.text()), ..reply }
}

/// Removes implausible token counts from the failure of an interrupted reply.
pub(super) fn failure_with_plausible_usage(failure: Failure) -> Failure {
    if !failure.interrupted {
        return failure;
    }
    // The partial text is not available here, and its output count is not final anyway, so a count of 0 may stay.
    let usage = failure.reported_usage().map(|usage| usage.plausible_for_reply("")).filter(|usage| !usage.is_empty());
    Failure { usage: usage.map(Box::new), ..failure }
}
