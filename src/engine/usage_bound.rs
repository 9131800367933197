//! The upper bound of a call's usage before the call, and the estimate of its unreported usage after the call.

use crate::durable::{CallOutcome, Effect};
use crate::model::{ChatReply, EstimatedUsage, Failure, ModelRef, TurnEstimate, Usage};

/// The upper bound of a call's usage, before the call.
pub(super) enum UsageBound {
    /// A model request uses at most this.
    Request(Usage),
    /// A turn of a CLI agent uses at most this, by the agent's `estimate:`. Its tokens cost the list price of this
    /// model, if there is one.
    Turn(TurnEstimate, Option<ModelRef>),
    /// The call uses no model.
    Nothing,
}

impl UsageBound {
    /// Returns the bound of an effect.
    pub(super) fn from_effect(effect: &Effect) -> Self {
        match effect {
            Effect::ModelRequest(model_request) => Self::Request(model_request.max_usage),
            Effect::Turn(turn) => Self::Turn(turn.estimate, turn.program.price_model()),
            Effect::Command(_) | Effect::Snapshot(_) | Effect::Write(_) => Self::Nothing,
        }
    }

    /// Returns the upper bound of the usage that the call did not report; `None` if nothing is missing or no bound is
    /// known.
    pub(super) fn unreported_usage(&self, outcome: &CallOutcome) -> Option<EstimatedUsage> {
        let reported = outcome.reported_usage().unwrap_or_default();
        match (self, &outcome.result) {
            (Self::Request(max_usage), Ok(_)) => reported.unreported_upper_bound(max_usage),
            // The counts of an interrupted reply are not final: the model may have generated more after the last
            // report.
            (Self::Request(max_usage), Err(failure)) if failure.interrupted => Some(EstimatedUsage {
                input: if reported.input.is_some() { 0 } else { max_usage.input },
                output: max_usage.output.saturating_sub(reported.lower_bound().output),
                unsplit: 0,
            }),
            (Self::Turn(estimate, _), _) if outcome.may_have_generated() && reported.complete().is_none() => {
                let unsplit = estimate.tokens?.saturating_sub(reported.lower_bound().total());
                Some(EstimatedUsage { unsplit, ..EstimatedUsage::default() })
            }
            (Self::Request(_) | Self::Turn(..) | Self::Nothing, _) => None,
        }
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
