//! Runs branches in parallel: at most a fixed number at once, and no new one after one of them failed.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::durable::{Branch, BranchOutcome, Interrupt, RunFlow};
use crate::model::StepKey;

use super::halt::Halted;

/// Runs branches, at most `limit` at once, and returns their outcomes in the order of the list.
///
/// After a branch ends with [`RunFlow::Halt`] no other branch begins; those that have begun continue to the end of the
/// call that they are in. A stop of the whole run also waits for the others, so that their calls in flight are
/// recorded. Only a journal that no longer records ends them at once.
pub(super) async fn run(
    halted: &Halted,
    records: impl Fn() -> bool,
    group: StepKey,
    list: Vec<Branch<'_>>,
    limit: usize,
) -> Result<Vec<BranchOutcome>, Interrupt> {
    let mut ends: Vec<BranchOutcome> = list.iter().map(|_| BranchOutcome::NotBegun).collect();
    let mut waiting = list.into_iter().enumerate();
    let mut running = FuturesUnordered::new();
    let (mut stop, mut parked) = (None, false);
    loop {
        while running.len() < limit.max(1) && stop.is_none() && !halted.is(&group) {
            let Some((index, branch)) = waiting.next() else { break };
            running.push(async move { (index, branch.await) });
        }
        let Some((index, result)) = running.next().await else { break };
        let end = match result {
            Ok(end) => {
                if matches!(end, BranchOutcome::Ended(_, RunFlow::Halt)) {
                    halted.add(&group);
                }
                end
            }
            Err(Interrupt::Storage(failure)) if !records() => return Err(Interrupt::Storage(failure)),
            Err(stopped @ Interrupt::Storage(_)) => {
                halted.add(&group);
                stop.get_or_insert(stopped);
                BranchOutcome::Dropped
            }
            // A branch that waits for the user frees its slot for the next one.
            Err(Interrupt::Parked) => {
                parked = true;
                BranchOutcome::Dropped
            }
            Err(Interrupt::Dropped) if halted.is(&group) => BranchOutcome::Dropped,
            Err(other) => {
                stop = Some(other);
                BranchOutcome::Dropped
            }
        };
        if let Some(slot) = ends.get_mut(index) {
            *slot = end;
        }
    }
    match stop {
        Some(stop) => Err(stop),
        // A failure decides the group, whatever the user would have answered.
        None if parked && !halted.is(&group) => Err(Interrupt::Parked),
        None => Ok(ends),
    }
}
