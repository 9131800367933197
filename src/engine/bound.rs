//! The upper bound of a call's usage before the call, and the estimate of what it did not report after it.

use crate::durable::{CallOutcome, Effect};
use crate::model::{ChatReply, EstimatedUsage, Failure, ModelRef, TurnEstimate, Usage};

/// What is known about a call's usage before the call.
pub(super) enum Bound {
    /// A model request uses at most this.
    Request(Usage),
    /// A turn of a CLI agent takes at most this, by the agent's `estimate:`. Its tokens cost the list price of the
    /// model, if one is given.
    Turn(TurnEstimate, Option<ModelRef>),
    /// The call asks no model.
    Nothing,
}

impl Bound {
    /// Returns the bound of an effect.
    pub(super) fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Ask(ask) => Self::Request(ask.max_usage),
            Effect::Turn(turn) => Self::Turn(turn.estimate, turn.program.priced_as()),
            Effect::Command(_) | Effect::Look(_) | Effect::Write(_) => Self::Nothing,
        }
    }

    /// Returns the upper bound of the usage that the call did not report; `None` if nothing is missing or no bound is
    /// known.
    pub(super) fn estimated(&self, outcome: &CallOutcome) -> Option<EstimatedUsage> {
        let reported = outcome.reported_usage().unwrap_or_default();
        match (self, &outcome.result) {
            (Self::Request(most), Ok(_)) => reported.missing(most),
            // The counts of an interrupted reply are not final: the model may have generated more after the last
            // report.
            (Self::Request(most), Err(failure)) if failure.interrupted => Some(EstimatedUsage {
                input: if reported.input.is_some() { 0 } else { most.input },
                output: most.output.saturating_sub(reported.at_least().output),
                undivided: 0,
            }),
            (Self::Turn(most, _), _) if outcome.at_work() && reported.whole().is_none() => {
                let undivided = most.tokens?.saturating_sub(reported.at_least().total());
                Some(EstimatedUsage { undivided, ..EstimatedUsage::default() })
            }
            (Self::Request(_) | Self::Turn(..) | Self::Nothing, _) => None,
        }
    }
}

/// Removes token counts that can't be true from a reply.
pub(super) fn believable(reply: ChatReply) -> ChatReply {
    ChatReply { usage: reply.usage.of_reply(&reply.text), ..reply }
}

/// Removes token counts that can't be true from the failure of an interrupted reply.
pub(super) fn believable_failure(failure: Failure) -> Failure {
    if !failure.interrupted {
        return failure;
    }
    // The partial text is not available here, and its output count is not final anyway, so a count of 0 may stay.
    let usage = failure.used().map(|usage| usage.of_reply("")).filter(|usage| !usage.is_nothing());
    Failure { usage: usage.map(Box::new), ..failure }
}
