//! What the end of a branch means for the other branches of its group, and how the group ends.

use crate::durable::{BranchOutcome, Interrupt, RunFlow};

/// The decisions of a group whose branches run in parallel. It does not depend on the order in which the implementation
/// polls the branches, only on the order in which they end.
#[derive(Debug)]
pub struct GroupProgress {
    /// Whether the group is halted.
    is_halted: bool,
    /// Why the group ends without outcomes.
    interrupt: Option<Interrupt>,
    /// Whether a branch waits for the user and ended for that reason.
    is_parked: bool,
}

impl GroupProgress {
    /// The state before the first branch. `is_halted` is whether the group is halted already.
    pub fn new(is_halted: bool) -> Self {
        Self { is_halted, interrupt: None, is_parked: false }
    }

    /// Whether the group is halted, so that no step starts inside of it.
    pub fn is_halted(&self) -> bool {
        self.is_halted
    }

    /// Whether another branch may start.
    pub fn may_start(&self) -> bool {
        self.interrupt.is_none() && !self.is_halted
    }

    /// Notes how a branch ended. Returns its outcome, as the outcomes of the group contain it.
    pub fn end_branch(&mut self, result: Result<BranchOutcome, Interrupt>) -> BranchOutcome {
        match result {
            Ok(outcome) => {
                self.is_halted |= matches!(outcome, BranchOutcome::Ended(_, RunFlow::Halt));
                return outcome;
            }
            Err(storage_failure @ Interrupt::Storage(_)) => {
                self.is_halted = true;
                self.interrupt.get_or_insert(storage_failure);
            }
            Err(Interrupt::Parked) => self.is_parked = true,
            Err(Interrupt::GroupHalted) if self.is_halted => {}
            // A stop, a budget, or the halt of a group around this one.
            Err(other) => {
                self.interrupt.get_or_insert(other);
            }
        }
        BranchOutcome::Cancelled
    }

    /// The result of the group, after all branches that started have ended.
    pub fn finish(self, outcomes: Vec<BranchOutcome>) -> Result<Vec<BranchOutcome>, Interrupt> {
        match self.interrupt {
            Some(interrupt) => Err(interrupt),
            // A halted group does not wait for the user, since its failure ends it whatever the user decides.
            None if self.is_parked && !self.is_halted => Err(Interrupt::Parked),
            None => Ok(outcomes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Failure, FailureClass};

    fn ended(flow: RunFlow) -> BranchOutcome {
        BranchOutcome::Ended(Box::default(), flow)
    }

    fn storage() -> Interrupt {
        Interrupt::Storage(Failure::new(FailureClass::Storage, "the disk is full"))
    }

    /// Whether the group is halted, whether another branch may start, and how the group ends.
    fn group_after(ends: Vec<Result<BranchOutcome, Interrupt>>) -> (bool, bool, Result<usize, Interrupt>) {
        let mut progress = GroupProgress::new(false);
        let outcomes = ends.into_iter().map(|end| progress.end_branch(end)).collect();
        let (is_halted, may_start) = (progress.is_halted(), progress.may_start());
        (is_halted, may_start, progress.finish(outcomes).map(|outcomes| outcomes.len()))
    }

    #[test]
    fn a_branch_that_continues_changes_nothing() {
        assert!(matches!(group_after(vec![Ok(ended(RunFlow::Continue))]), (false, true, Ok(1))));
    }

    #[test]
    fn a_branch_that_halts_the_group_cancels_the_others() {
        let ends = vec![Ok(ended(RunFlow::Halt)), Err(Interrupt::GroupHalted), Ok(ended(RunFlow::Continue))];
        assert!(matches!(group_after(ends), (true, false, Ok(3))));
    }

    #[test]
    fn a_halted_group_does_not_wait_for_the_user() {
        assert!(matches!(group_after(vec![Err(Interrupt::Parked)]), (false, true, Err(Interrupt::Parked))));
        let ends = vec![Err(Interrupt::Parked), Ok(ended(RunFlow::Halt))];
        assert!(matches!(group_after(ends), (true, false, Ok(2))));
    }

    #[test]
    fn the_halt_of_a_group_around_this_one_interrupts_it() {
        let ends = vec![Err(Interrupt::GroupHalted)];
        assert!(matches!(group_after(ends), (false, false, Err(Interrupt::GroupHalted))));
    }

    #[test]
    fn a_failure_to_store_an_artifact_halts_and_interrupts_the_group() {
        let ends = vec![Err(storage()), Err(Interrupt::GroupHalted)];
        assert!(matches!(group_after(ends), (true, false, Err(Interrupt::Storage(_)))));
        let ends = vec![Err(Interrupt::Cancelled), Err(storage())];
        assert!(matches!(group_after(ends), (true, false, Err(Interrupt::Cancelled))), "the first reason stays");
        let ends = vec![Err(storage()), Err(Interrupt::Cancelled)];
        assert!(matches!(group_after(ends), (true, false, Err(Interrupt::Storage(_)))), "the first reason stays");
    }
}
