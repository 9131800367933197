//! Runs branches in parallel, with a limit, and starts no new branch after a failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::durable::{Branch, BranchOutcome, Interrupt, RunFlow};
use crate::model::StepKey;

use super::branch_activity::{BranchActivity, GroupActivity};
use super::halted_groups::HaltedGroups;

/// What the groups of a run have in common.
pub(super) struct GroupContext<'a> {
    pub(super) halted_groups: &'a HaltedGroups,
    pub(super) activity: &'a Arc<BranchActivity>,
}

/// Runs branches, at most `limit` at once, and returns their outcomes in the order of the list.
///
/// A branch that waits for the user does not count against the limit. When it continues, it does not wait for a place,
/// so for a while one branch more than `limit` may run.
///
/// After a branch ends with [`RunFlow::Halt`], no other branch starts, and each running branch continues to the end of
/// its current call. After a stop of the run, this also waits for the running branches, so that orch records their
/// calls in flight. If the journal fails to record events, this drops all branches at once.
pub(super) async fn run_branches(
    context: GroupContext<'_>,
    can_record: impl Fn() -> bool,
    group: StepKey,
    branches: Vec<Branch<'_>>,
    limit: usize,
) -> Result<Vec<BranchOutcome>, Interrupt> {
    let GroupContext { halted_groups, activity } = context;
    let mut outcomes: Vec<BranchOutcome> = branches.iter().map(|_| BranchOutcome::NotStarted).collect();
    let mut group_activity = GroupActivity::new(BranchActivity::current(activity), branches.len());
    let mut pending = branches.into_iter().enumerate();
    let mut running = FuturesUnordered::new();
    let mut activities: BTreeMap<usize, Arc<BranchActivity>> = BTreeMap::new();
    let (mut interrupt, mut parked) = (None, false);
    loop {
        // Subscribe before counting, so that no change in between is missed.
        let changed = group_activity.changed();
        let may_start = interrupt.is_none() && !halted_groups.is_group_halted(&group);
        let waiting = count_blocked(&group_activity, &activities);
        while may_start && running.len() < limit.max(1).saturating_add(waiting) {
            let Some((index, branch)) = pending.next() else { break };
            let activity = group_activity.new_branch();
            activities.insert(index, activity.clone());
            running.push(activity.scope(async move { (index, branch.await) }));
        }
        let ended = tokio::select! {
            biased;
            ended = running.next() => ended,
            () = changed, if may_start && pending.len() > 0 => continue,
        };
        let Some((index, result)) = ended else { break };
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
        activities.remove(&index);
        let may_start = interrupt.is_none() && !halted_groups.is_group_halted(&group);
        group_activity.set_open(running.len() + if may_start { pending.len() } else { 0 });
    }
    match interrupt {
        Some(interrupt) => Err(interrupt),
        // A halted group does not wait for the user, since its failure ends it whatever the user decides.
        None if parked && !halted_groups.is_group_halted(&group) => Err(Interrupt::Parked),
        None => Ok(outcomes),
    }
}

/// The number of running branches that only wait for the user.
fn count_blocked(group: &GroupActivity, activities: &BTreeMap<usize, Arc<BranchActivity>>) -> usize {
    if !group.has_waiting() {
        return 0;
    }
    activities.values().filter(|activity| activity.is_blocked()).count()
}
