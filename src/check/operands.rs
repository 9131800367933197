//! The operands of an expression that a finding is about, and their source text.

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::infer::Checker;
use super::scope::{InferredValue, TypeScope};
use super::types::{Type, TypeKind};
use crate::template::operand_text;

impl<'a> Checker<'a> {
    /// The source text of an expression as it can stand before a filter, a test or an operator.
    pub(super) fn operand_text(&self, expr: &Expr<'_>) -> String {
        operand_text(self.text, expr)
    }

    /// The operand because of which an expression may be undefined, with the scope at this operand; the expression itself
    /// if it is no `and`, `or` or conditional expression.
    pub(super) fn undefined_operand<'e>(
        &self,
        expr: &'e Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> (&'e Expr<'a>, TypeScope<'a>) {
        self.find_operand(expr, scope, &|inferred| inferred.may_be_undefined)
    }

    /// The operand because of which an expression is not, or not always, a boolean, with the type of this operand.
    pub(super) fn non_boolean_operand<'e>(
        &self,
        expr: &'e Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> (&'e Expr<'a>, Type<'a>) {
        let is_other = |inferred: &InferredValue<'a>| {
            inferred.ty.kinds().is_some_and(|kinds| kinds.iter().any(|kind| *kind != TypeKind::Bool))
        };
        let (operand, scope) = self.find_operand(expr, scope, &is_other);
        (operand, self.infer_silently(operand, &scope).ty)
    }

    fn find_operand<'e>(
        &self,
        expr: &'e Expr<'a>,
        scope: &TypeScope<'a>,
        is_wanted: &dyn Fn(&InferredValue<'a>) -> bool,
    ) -> (&'e Expr<'a>, TypeScope<'a>) {
        let mut operands = self.result_operands(expr, scope).into_iter();
        match operands.find(|(operand, scope)| is_wanted(&self.infer_silently(operand, scope))) {
            Some((operand, scope)) => self.find_operand(operand, &scope, is_wanted),
            None => (expr, scope.clone()),
        }
    }

    /// The operands of which an `and`, an `or` or a conditional expression returns one, each with what is known if it is
    /// the result; empty for any other expression.
    fn result_operands<'e>(&self, expr: &'e Expr<'a>, scope: &TypeScope<'a>) -> Vec<(&'e Expr<'a>, TypeScope<'a>)> {
        let assuming = |condition: &Expr<'a>, outcome: bool| {
            let mut scope = scope.clone();
            self.assume(condition, outcome, &mut scope);
            scope
        };
        match expr {
            Expr::BinOp(inner) if matches!(inner.op, BinOpKind::ScAnd | BinOpKind::ScOr) => {
                // An `and` returns its left side only if it is false, and an `or` only if it is true.
                let is_and = matches!(inner.op, BinOpKind::ScAnd);
                vec![(&inner.left, assuming(&inner.left, !is_and)), (&inner.right, assuming(&inner.left, is_and))]
            }
            Expr::IfExpr(inner) => {
                let first = (&inner.true_expr, assuming(&inner.test_expr, true));
                let second = inner.false_expr.as_ref().map(|expr| (expr, assuming(&inner.test_expr, false)));
                std::iter::once(first).chain(second).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Infers the value of an expression without reporting its mistakes.
    fn infer_silently(&self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        let mut checker = Checker::new(self.project, self.scoped_step);
        (checker.location, checker.text) = (self.location.clone(), self.text);
        checker.is_included = self.is_included;
        checker.infer(expr, scope)
    }
}
