//! Reads conditions about the previous iterations of loops, and about the steps that have ended.

use std::sync::Arc;

use minijinja::machinery::ast::Expr;

use super::condition::Condition;
use super::narrowing::member_of;
use super::step_conditions::StepCompletion;
use super::step_scopes::{IterationNames, IterationTypes, VisibleArtifact};
use super::truth::ConditionReader;
use super::types::Type;
use crate::model::name_scope::{ENDED_STEPS, PARENT_LOOP, PREVIOUS_ITERATION};

impl<'s, 'a> ConditionReader<'s, 'a> {
    /// The iteration whose variable `loop` an expression is: `loop`, `loop.parent`, and so on.
    pub(super) fn iteration(self, expr: &Expr<'_>) -> Option<&'s Arc<IterationNames<'a>>> {
        if matches!(expr, Expr::Var(var) if var.id == "loop") {
            return self.scope.iteration();
        }
        let (base, _) = member_of(expr).filter(|(_, name)| *name == PARENT_LOOP)?;
        self.iteration(base)?.parent.as_ref()
    }

    /// The iteration whose previous results an expression is: `loop.previous`, `loop.parent.previous`, and so on, or a
    /// variable that holds such a value.
    pub(super) fn iteration_after(self, expr: &Expr<'_>) -> Option<&'s Arc<IterationNames<'a>>> {
        if let Expr::Var(var) = expr {
            return self.scope.vars.get(var.id)?.origin.previous_of.as_ref();
        }
        let (base, _) = member_of(expr).filter(|(_, name)| *name == PREVIOUS_ITERATION)?;
        self.iteration(base).filter(|iteration| iteration.previous.is_some())
    }

    /// The results of the previous iteration that an expression is. In the first iteration, the expression is the empty
    /// object instead.
    fn previous_iteration(self, expr: &Expr<'_>) -> Option<&'s IterationTypes<'a>> {
        self.iteration_after(expr)?.previous.as_ref()
    }

    /// When there is a previous iteration, if an expression is its results.
    pub(super) fn previous_iteration_exists(self, expr: &Expr<'_>) -> Option<Condition> {
        Some(Condition::test(format!("{}.first", self.iteration_after(expr)?.variable.key)).negate())
    }

    /// The artifact of the previous iteration that an expression is, such as `loop.previous.review`.
    pub(super) fn previous_artifact(self, expr: &Expr<'_>) -> Option<&'s VisibleArtifact<'a>> {
        let (base, name) = member_of(expr)?;
        self.previous_iteration(base)?.artifacts.get(name)
    }

    /// When a member of the results of the previous iteration exists; `None` if the expression is no such member.
    pub(super) fn previous_member_presence(self, expr: &Expr<'_>) -> Option<Condition> {
        let (base, name) = member_of(expr)?;
        let iteration_exists = self.previous_iteration_exists(base)?;
        if name == ENDED_STEPS {
            return Some(iteration_exists);
        }
        let exported = self.previous_artifact(expr)?.presence.condition.clone();
        Some(Condition::all([iteration_exists, exported]))
    }

    /// The step whose outcome an expression is, such as `steps.build`, by its id, with how it may have ended.
    pub(super) fn ended_step<'e>(self, expr: &'e Expr<'_>) -> Option<(&'e str, Option<StepCompletion>)> {
        let (base, id) = member_of(expr)?;
        if !self.are_steps_of_pipeline(base) {
            return None;
        }
        let Type::StepStatuses(statuses) = self.value_type(base) else { return None };
        Some((id, statuses.get(id)?.clone()))
    }

    /// Whether an expression is `steps`, or the steps of the previous iteration. An output of a called pipeline may
    /// contain the outcomes of its steps, about which other tests have the same names.
    fn are_steps_of_pipeline(self, expr: &Expr<'_>) -> bool {
        if let Expr::Var(var) = expr {
            return var.id == ENDED_STEPS;
        }
        member_of(expr).is_some_and(|(base, name)| name == ENDED_STEPS && self.previous_iteration(base).is_some())
    }
}
