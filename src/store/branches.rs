//! Runs branches in parallel, with a limit, and starts no new branch after a failure.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::durable::{Branch, BranchOutcome, Interrupt, RunFlow};
use crate::model::StepKey;

use super::halted_groups::HaltedGroups;

/// Runs branches, at most `limit` at once, and returns their outcomes in the order of the list.
///
/// After a branch ends with [`RunFlow::Halt`], no other branch starts, and each running branch continues to the end of
/// its current call. After a stop of the run, this also waits for the running branches, so that orch records their
/// calls in flight. If the journal fails to record events, this drops all branches at once.
pub(super) async fn run_branches(
    halted_groups: &HaltedGroups,
    can_record: impl Fn() -> bool,
    group: StepKey,
    branches: Vec<Branch<'_>>,
    limit: usize,
) -> Result<Vec<BranchOutcome>, Interrupt> {
    let mut outcomes: Vec<BranchOutcome> = branches.iter().map(|_| BranchOutcome::NotStarted).collect();
    let mut pending = branches.into_iter().enumerate();
    let mut running = FuturesUnordered::new();
    let (mut interrupt, mut parked) = (None, false);
    loop {
        while running.len() < limit.max(1) && interrupt.is_none() && !halted_groups.is_group_halted(&group) {
            let Some((index, branch)) = pending.next() else { break };
            running.push(async move { (index, branch.await) });
        }
        let Some((index, result)) = running.next().await else { break };
        let outcome = match result {
            Ok(outcome) => {
                if matches!(outcome, BranchOutcome::Ended(_, RunFlow::Halt)) {
                    halted_groups.add(&group);
                }
                outcome
            }
            Err(Interrupt::Storage(failure)) if !can_record() => return Err(Interrupt::Storage(failure)),
            Err(storage_failure @ Interrupt::Storage(_)) => {
                halted_groups.add(&group);
                interrupt.get_or_insert(storage_failure);
                BranchOutcome::Cancelled
            }
            // A branch that waits for the user does not count against the limit, so the next branch may start.
            Err(Interrupt::Parked) => {
                parked = true;
                BranchOutcome::Cancelled
            }
            Err(Interrupt::GroupHalted) if halted_groups.is_group_halted(&group) => BranchOutcome::Cancelled,
            Err(other) => {
                interrupt = Some(other);
                BranchOutcome::Cancelled
            }
        };
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
    }
    match interrupt {
        Some(interrupt) => Err(interrupt),
        // A halted group does not wait for the user, since its failure ends it whatever the user decides.
        None if parked && !halted_groups.is_group_halted(&group) => Err(Interrupt::Parked),
        None => Ok(outcomes),
    }
}
