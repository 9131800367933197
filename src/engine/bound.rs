//! What is known of a call's usage before it is made, and what is estimated of it afterwards.

use crate::durable::{CallOutcome, Effect};
use crate::model::{ChatReply, EstimatedUsage, Failure, ModelRef, TurnEstimate, Usage};

/// What is known beforehand of what a call takes.
pub(super) enum Bound {
    /// A request takes this at most.
    Request(Usage),
    /// The turn of a program takes this at most, as its agent says, and is priced as that model if as any.
    Turn(TurnEstimate, Option<ModelRef>),
    /// It asks no model.
    Nothing,
}

impl Bound {
    /// The bound of a call.
    pub(super) fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Ask(ask) => Self::Request(ask.max_usage),
            Effect::Turn(turn) => Self::Turn(turn.estimate, turn.program.priced_as()),
            Effect::Command(_) | Effect::Look(_) | Effect::Write(_) => Self::Nothing,
        }
    }

    /// What a call may have used beyond what was reported, at most.
    pub(super) fn estimated(&self, outcome: &CallOutcome) -> Option<EstimatedUsage> {
        let reported = outcome.reported_usage().unwrap_or_default();
        match (self, &outcome.result) {
            (Self::Request(most), Ok(_)) => reported.missing(most),
            // Of a reply that broke off no count is the last one.
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

/// A reply without counts that can't be true.
pub(super) fn believable(reply: ChatReply) -> ChatReply {
    ChatReply { usage: reply.usage.of_reply(&reply.text), ..reply }
}

/// A failure without counts that can't be true of a reply that broke off.
pub(super) fn believable_failure(failure: Failure) -> Failure {
    if !failure.interrupted {
        return failure;
    }
    // What text there was is not known: no count of it is the last one anyway.
    let usage = failure.used().map(|usage| usage.of_reply("")).filter(|usage| !usage.is_nothing());
    Failure { usage: usage.map(Box::new), ..failure }
}
