//! Counts how many sequences of steps of a run can continue, and how many wait for the user.
//!
//! A step that asks the user waits inside of its branch as long as another branch can continue, so that an answer of
//! another process continues this branch at once and touches no other. Only when every sequence waits does the process
//! end; the run then waits for the answer.
//!
//! A branch is an opaque future, and a step that waits does not know in which branch it is. So a task-local value says it:
//! `tokio` sets it whenever it polls the future of the branch.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

tokio::task_local! {
    /// The innermost branch that the task executes.
    static CURRENT_BRANCH: Arc<BranchActivity>;
}

/// The activity of a branch, or of a whole run.
#[derive(Debug)]
pub(super) struct BranchActivity {
    /// The branch that contains the group of this one.
    parent: Option<Arc<Self>>,
    counts: Mutex<ActivityCounts>,
    /// Notified when more sequences may wait than before. All branches of a run share it.
    changed: Arc<Notify>,
}

/// The sequences of steps of a branch, including those of the groups inside of it.
#[derive(Debug)]
struct ActivityCounts {
    /// Those that have not ended. A branch of a group that has not started counts too, since it can continue.
    open: usize,
    /// Those that wait for the user.
    waiting: usize,
}

impl ActivityCounts {
    fn is_blocked(&self) -> bool {
        self.waiting > 0 && self.waiting >= self.open
    }
}

impl Default for BranchActivity {
    fn default() -> Self {
        Self::new(None, Arc::default())
    }
}

impl BranchActivity {
    fn new(parent: Option<Arc<Self>>, changed: Arc<Notify>) -> Self {
        Self { parent, counts: Mutex::new(ActivityCounts { open: 1, waiting: 0 }), changed }
    }

    /// The innermost branch that this task executes; `run` outside of any group.
    pub(super) fn current(run: &Arc<Self>) -> Arc<Self> {
        CURRENT_BRANCH.try_with(Arc::clone).unwrap_or_else(|_| run.clone())
    }

    /// Executes the steps of the branch.
    pub(super) async fn scope<T>(self: Arc<Self>, steps: impl Future<Output = T>) -> T {
        CURRENT_BRANCH.scope(self, steps).await
    }

    /// Whether every sequence of the branch waits for the user.
    pub(super) fn is_blocked(&self) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).is_blocked()
    }

    /// Whether a sequence of the branch waits for the user.
    fn has_waiting(&self) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).waiting > 0
    }

    /// Resolves when every sequence of the branch waits for the user.
    pub(super) async fn wait_until_blocked(&self) {
        loop {
            // Subscribe before checking, so that no change in between is missed.
            let changed = self.changed.notified();
            if self.is_blocked() {
                return;
            }
            changed.await;
        }
    }

    /// Counts one sequence of the branch as waiting until the caller drops the returned value.
    pub(super) fn begin_wait(self: &Arc<Self>) -> UserWait {
        self.change(|counts| counts.waiting += 1);
        UserWait(self.clone())
    }

    /// Changes the counts of this branch and of those that contain it.
    fn change(&self, change: impl Fn(&mut ActivityCounts)) {
        let mut has_waiting = false;
        let mut branch = Some(self);
        while let Some(activity) = branch {
            let mut counts = activity.counts.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut counts);
            has_waiting |= counts.waiting > 0;
            branch = activity.parent.as_deref();
        }
        // Without a sequence that waits, nothing is blocked.
        if has_waiting {
            self.changed.notify_waiters();
        }
    }
}

/// A sequence of steps that waits for the user.
#[derive(Debug)]
pub(super) struct UserWait(Arc<BranchActivity>);

impl Drop for UserWait {
    fn drop(&mut self) {
        self.0.change(|counts| counts.waiting = counts.waiting.saturating_sub(1));
    }
}

/// The branches of a group. While it exists, they take the place of the sequence of steps that contains the group.
#[derive(Debug)]
pub(super) struct GroupActivity {
    parent: Arc<BranchActivity>,
    /// The branches that have not ended.
    open: usize,
}

impl GroupActivity {
    pub(super) fn new(parent: Arc<BranchActivity>, branches: usize) -> Self {
        parent.change(|counts| counts.open = (counts.open + branches).saturating_sub(1));
        Self { parent, open: branches }
    }

    /// The activity of the next branch.
    pub(super) fn new_branch(&self) -> Arc<BranchActivity> {
        Arc::new(BranchActivity::new(Some(self.parent.clone()), self.parent.changed.clone()))
    }

    /// Records how many branches have not ended, without those that will not start any more.
    pub(super) fn set_open(&mut self, open: usize) {
        let ended = self.open.saturating_sub(open);
        if ended > 0 {
            self.parent.change(|counts| counts.open = counts.open.saturating_sub(ended));
            self.open = open;
        }
    }

    /// Whether a branch of the group may wait for the user.
    pub(super) fn has_waiting(&self) -> bool {
        self.parent.has_waiting()
    }

    /// Resolves when more branches may wait than at the time of this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.parent.changed.notified()
    }
}

impl Drop for GroupActivity {
    fn drop(&mut self) {
        let open = self.open;
        self.parent.change(|counts| counts.open = (counts.open + 1).saturating_sub(open));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_blocked_when_every_sequence_waits() {
        let run = Arc::new(BranchActivity::default());
        let wait = run.begin_wait();
        assert!(run.is_blocked());
        drop(wait);
        let mut group = GroupActivity::new(run.clone(), 3);
        let (first, second) = (group.new_branch(), group.new_branch());
        let _first_wait = first.begin_wait();
        assert!(first.is_blocked() && !run.is_blocked() && !second.is_blocked());
        let inner = GroupActivity::new(second.clone(), 2);
        let _inner_wait = inner.new_branch().begin_wait();
        assert!(!second.is_blocked());
        let _other_wait = inner.new_branch().begin_wait();
        assert!(second.is_blocked() && !run.is_blocked(), "the third branch has not started yet");
        group.set_open(2);
        assert!(run.is_blocked());
    }

    #[test]
    fn a_group_that_ends_gives_its_place_back() {
        let run = Arc::new(BranchActivity::default());
        let mut group = GroupActivity::new(run.clone(), 2);
        group.set_open(0);
        drop(group);
        drop(GroupActivity::new(run.clone(), 0));
        assert!(!run.is_blocked());
        let _wait = run.begin_wait();
        assert!(run.is_blocked());
    }
}
