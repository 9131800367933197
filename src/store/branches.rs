//! Runs branches in parallel, with a limit, and starts no new branch after a failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::durable::{BranchOutcome, GroupBranches, Interrupt};
use crate::history::GroupProgress;
use crate::model::StepKey;

use super::branch_activity::{BranchActivity, GroupActivity};
use super::halt_signal::HaltSignal;

/// What the groups of a run have in common.
pub(super) struct GroupContext<'a> {
    pub(super) halt_signal: &'a HaltSignal,
    pub(super) activity: &'a Arc<BranchActivity>,
}

/// Runs branches, at most `limit` at once, and returns their outcomes in the order of the list.
///
/// A branch that waits for the user does not count against the limit. When it continues, it does not wait for a place,
/// so for a while one branch more than `limit` may run.
///
/// After a branch ends with [`RunFlow::Halt`](crate::durable::RunFlow::Halt), no other branch starts, and each running
/// branch continues to the end of its current call. After a stop of the run, this also waits for the running branches,
/// so that orch records their calls in flight. If the journal fails to record events, this drops all branches at once.
pub(super) async fn run_branches(
    context: GroupContext<'_>,
    can_record: impl Fn() -> bool,
    group: StepKey,
    branches: &dyn GroupBranches,
    limit: usize,
) -> Result<Vec<BranchOutcome>, Interrupt> {
    let GroupContext { halt_signal, activity } = context;
    let mut outcomes: Vec<BranchOutcome> = (0..branches.count()).map(|_| BranchOutcome::NotStarted).collect();
    let mut group_activity = GroupActivity::new(BranchActivity::current(activity), branches.count());
    let mut pending = 0..branches.count();
    let mut running = FuturesUnordered::new();
    let mut activities: BTreeMap<usize, Arc<BranchActivity>> = BTreeMap::new();
    let mut progress = GroupProgress::new(halt_signal.is_group_halted(&group));
    loop {
        // Subscribe before counting, so that no change in between is missed.
        let changed = group_activity.changed();
        let may_start = progress.may_start();
        let waiting = count_blocked(&group_activity, &activities);
        while may_start && running.len() < limit.max(1).saturating_add(waiting) {
            let Some(index) = pending.next() else { break };
            let activity = group_activity.new_branch();
            activities.insert(index, activity.clone());
            running.push(activity.scope(async move { (index, branches.run(index).await) }));
        }
        let ended = tokio::select! {
            biased;
            ended = running.next() => ended,
            () = changed, if may_start && !pending.is_empty() => continue,
        };
        let Some((index, result)) = ended else { break };
        if let Err(Interrupt::Storage(failure)) = &result
            && !can_record()
        {
            return Err(Interrupt::Storage(failure.clone()));
        }
        let was_halted = progress.is_halted();
        let outcome = progress.end_branch(result);
        if progress.is_halted() && !was_halted {
            halt_signal.halt(&group);
        }
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
        activities.remove(&index);
        group_activity.set_open(running.len() + if progress.may_start() { pending.len() } else { 0 });
    }
    progress.finish(outcomes)
}

/// The number of running branches that only wait for the user.
fn count_blocked(group: &GroupActivity, activities: &BTreeMap<usize, Arc<BranchActivity>>) -> usize {
    if !group.has_waiting() {
        return 0;
    }
    activities.values().filter(|activity| activity.is_blocked()).count()
}
