//! Estimates the usage that a call did not report, and removes reported counts that are not plausible.

use crate::durable::CallOutcome;
use crate::model::effect::UsageBound;
use crate::model::{ChatReply, EstimatedUsage, Failure};

/// Returns the upper bound of the usage that the call did not report; `None` if it reported all usage or no bound is
/// known.
pub(super) fn unreported_usage(bound: &UsageBound, outcome: &CallOutcome) -> Option<EstimatedUsage> {
    let reported = outcome.reported_usage().unwrap_or_default();
    match (&bound.max_usage, &outcome.result) {
        (Some(max_usage), Ok(_)) => reported.unreported_upper_bound(max_usage),
        // The counts of an interrupted reply are not final: the model may have generated more tokens after the last
        // report.
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
    // A reply without text may consist of calls.
    let has_content = !reply.content.blocks().is_empty() || !reply.details.omitted_calls.is_empty();
    ChatReply { usage: reply.usage.plausible_for_reply(has_content), ..reply }
}

/// Removes implausible token counts from the failure of an interrupted reply.
pub(super) fn failure_with_plausible_usage(failure: Failure) -> Failure {
    if !failure.interrupted {
        return failure;
    }
    // The partial text is not available here. An output count of 0 may stay, since the count is not final anyway.
    let usage = failure.reported_usage().map(|usage| usage.plausible_for_reply(false));
    let usage = usage.filter(|usage| !usage.is_empty());
    Failure { usage: usage.map(Box::new), ..failure }
}
