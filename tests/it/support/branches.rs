//! The mode of the suite in which every branch runs as in another process (`ORCH_BRANCHES=serialized`), for tests that
//! interpret a plan themselves.

use orch::engine::Plan;
use orch::runner::{BranchMode, Environment, PlanBundle};

/// The mode of this run of the suite.
pub(crate) fn branch_mode() -> BranchMode {
    Environment::from_process().unwrap().branch_mode().unwrap()
}

/// Runs the branches of a plan in a mode. `collect` returns the bundle of the plan, and `adjust` repeats the changes that
/// the test has made to the plan.
pub(crate) fn with_branch_mode(
    plan: Plan,
    mode: BranchMode,
    collect: impl FnOnce() -> PlanBundle,
    adjust: fn(&mut Plan),
) -> Plan {
    match mode {
        BranchMode::Shared => plan,
        BranchMode::Serialized => {
            let bundle = collect();
            plan.with_serialized_branches(move |project_files| {
                let mut plan = bundle.plan_again(project_files)?;
                adjust(&mut plan);
                Ok(plan)
            })
        }
    }
}
