//! Reads conditions about the previous rounds of loops, and about the steps that have ended.

use std::sync::Arc;

use minijinja::machinery::ast::Expr;

use super::condition::Condition;
use super::narrowing::member_of;
use super::step_conditions::StepCompletion;
use super::step_scopes::{RoundNames, RoundTypes, VisibleArtifact};
use super::truth::ConditionReader;
use super::types::Type;
use crate::model::name_scope::{ENDED_STEPS, PARENT_LOOP, PREVIOUS_ROUND};

impl<'s, 'a> ConditionReader<'s, 'a> {
    /// The round whose variable `loop` an expression is: `loop`, `loop.parent`, and so on.
    pub(super) fn round(self, expr: &Expr<'_>) -> Option<&'s Arc<RoundNames<'a>>> {
        if matches!(expr, Expr::Var(var) if var.id == "loop") {
            return self.scope.round();
        }
        let (base, _) = member_of(expr).filter(|(_, name)| *name == PARENT_LOOP)?;
        self.round(base)?.parent.as_ref()
    }

    /// The round whose previous results an expression is: `loop.previous`, `loop.parent.previous`, and so on, or a
    /// variable that holds such a value.
    pub(super) fn round_after(self, expr: &Expr<'_>) -> Option<&'s Arc<RoundNames<'a>>> {
        if let Expr::Var(var) = expr {
            return self.scope.vars.get(var.id)?.origin.previous_of.as_ref();
        }
        let (base, _) = member_of(expr).filter(|(_, name)| *name == PREVIOUS_ROUND)?;
        self.round(base).filter(|round| round.previous.is_some())
    }

    /// The results of the previous round that an expression is. In the first round, the expression is the empty object
    /// instead.
    fn previous_round(self, expr: &Expr<'_>) -> Option<&'s RoundTypes<'a>> {
        self.round_after(expr)?.previous.as_ref()
    }

    /// When there is a previous round, if an expression is its results.
    pub(super) fn previous_round_exists(self, expr: &Expr<'_>) -> Option<Condition> {
        Some(Condition::test(format!("{}.first", self.round_after(expr)?.variable.key)).negate())
    }

    /// The artifact of the previous round that an expression is, such as `loop.previous.review`.
    pub(super) fn previous_artifact(self, expr: &Expr<'_>) -> Option<&'s VisibleArtifact<'a>> {
        let (base, name) = member_of(expr)?;
        self.previous_round(base)?.artifacts.get(name)
    }

    /// When a member of the results of the previous round exists; `None` if the expression is no such member.
    pub(super) fn previous_member_presence(self, expr: &Expr<'_>) -> Option<Condition> {
        let (base, name) = member_of(expr)?;
        let round_exists = self.previous_round_exists(base)?;
        if name == ENDED_STEPS {
            return Some(round_exists);
        }
        let exported = self.previous_artifact(expr)?.presence.condition.clone();
        Some(Condition::all([round_exists, exported]))
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

    /// Whether an expression is `steps`, or the steps of the previous round. An output of a called pipeline may contain
    /// the outcomes of its steps, about which other tests have the same names.
    fn are_steps_of_pipeline(self, expr: &Expr<'_>) -> bool {
        if let Expr::Var(var) = expr {
            return var.id == ENDED_STEPS;
        }
        member_of(expr).is_some_and(|(base, name)| name == ENDED_STEPS && self.previous_round(base).is_some())
    }
}
