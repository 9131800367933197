//! Type narrowing: adds to a scope what a condition shows, and narrows the types of values by these facts.

use minijinja::machinery::ast::{Expr, UnaryOpKind};

use super::bindings::ConditionResult;
use super::condition_narrowings::{condition_narrowings, length_operand};
use super::index_paths::index_text;
use super::infer::Checker;
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::truth::ConditionReader;
use super::types::Schemas;

/// The path that an expression consists of, such as `plan.steps[0].title`; `None` for any other expression.
pub(super) fn expression_path(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Var(var) => Some(var.id.to_owned()),
        Expr::GetAttr(attr) => Some(format!("{}.{}", expression_path(&attr.expr)?, attr.name)),
        Expr::GetItem(item) => {
            let base = expression_path(&item.expr)?;
            if let Some(index) = constant_index(&item.subscript_expr) {
                return Some(format!("{base}[{index}]"));
            }
            match &item.subscript_expr {
                Expr::Const(key) => key.value.as_str().map(|name| format!("{base}.{name}")),
                key => index_text(key).map(|key| format!("{base}[{key}]")),
            }
        }
        _ => None,
    }
}

/// The value of which an expression is a member, and the name of the member; `None` for any other expression.
pub(super) fn member_of<'e, 't>(expr: &'e Expr<'t>) -> Option<(&'e Expr<'t>, &'e str)> {
    match expr {
        Expr::GetAttr(inner) => Some((&inner.expr, inner.name)),
        Expr::GetItem(inner) => match &inner.subscript_expr {
            Expr::Const(name) => Some((&inner.expr, name.value.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

/// The integer that an expression consists of, such as `0` or `-1`; `None` for any other expression.
pub(super) fn constant_index(expr: &Expr<'_>) -> Option<i64> {
    match expr {
        Expr::Const(constant) => constant.value.as_i64(),
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Neg) => constant_index(&inner.expr)?.checked_neg(),
        _ => None,
    }
}

/// Adds to a scope what is known if a condition evaluates to `outcome`.
pub(super) fn assume<'a>(schemas: Schemas<'a>, expr: &Expr<'_>, outcome: bool, scope: &mut TypeScope<'a>) {
    let truth = ConditionReader { schemas, scope }.truth(expr);
    let narrowings = expand_results(condition_narrowings(expr, outcome), scope);
    scope.add_narrowings(narrowings);
    scope.add_assumption(if outcome { truth } else { truth.negate() });
}

/// Adds the narrowings that follow from the results of conditions, and from the lengths, that variables hold.
fn expand_results(mut narrowings: Vec<(String, Narrowing)>, scope: &TypeScope<'_>) -> Vec<(String, Narrowing)> {
    let mut expanded = Vec::new();
    for (path, narrowing) in &narrowings {
        let Some(result) = scope.condition_result(path) else { continue };
        match (narrowing, &result.length_of) {
            (Narrowing::Truthy, _) => expanded.extend(result.if_true.iter().cloned()),
            (Narrowing::Falsy, _) => expanded.extend(result.if_false.iter().cloned()),
            (Narrowing::Numbers(range), Some(list)) => {
                let (min, max) = range.count_bounds();
                expanded.push((list.clone(), Narrowing::MinItems(min)));
                expanded.extend(max.map(|max| (list.clone(), Narrowing::MaxItems(max))));
            }
            (_, _) => {}
        }
    }
    narrowings.append(&mut expanded);
    narrowings
}

impl<'a> Checker<'a> {
    /// Adds to a scope what is known if a condition evaluates to `outcome`.
    pub(super) fn assume(&self, expr: &Expr<'_>, outcome: bool, scope: &mut TypeScope<'a>) {
        assume(self.schemas, expr, outcome, scope);
    }

    /// The condition that the value of an expression is the result of.
    pub(super) fn condition_result(&self, expr: &Expr<'_>, scope: &TypeScope<'a>) -> ConditionResult {
        ConditionResult {
            truth: ConditionReader { schemas: self.schemas, scope }.truth(expr),
            if_true: expand_results(condition_narrowings(expr, true), scope),
            if_false: expand_results(condition_narrowings(expr, false), scope),
            length_of: length_operand(expr),
        }
    }

    /// Narrows the value of an expression by the facts that conditions have established, except for the ranges of
    /// numbers.
    pub(super) fn narrow(
        &self,
        inferred: InferredValue<'a>,
        expr: &Expr<'_>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let mut narrowed = inferred;
        let reader = ConditionReader { schemas: self.schemas, scope };
        if let Some(path) = expression_path(expr) {
            narrowed.may_be_undefined &= !scope.has_narrowing(Some(&path), &Narrowing::Defined);
            if scope.has_narrowing(Some(&path), &Narrowing::NotNull) {
                narrowed.ty = narrowed.ty.without_null();
            }
            let is_nonempty = scope.has_narrowing(Some(&path), &Narrowing::Truthy)
                || reader.previous_iteration_exists(expr).is_some_and(|exists| scope.is_implied(&exists));
            if is_nonempty {
                narrowed.ty = narrowed.ty.without_empty_objects();
            }
            for (name, narrowing) in scope.type_narrowings(&path) {
                narrowed.ty = self.narrow_union(&narrowed.ty, name, narrowing);
            }
        }
        if narrowed.may_be_undefined {
            narrowed.may_be_undefined = !scope.is_implied(&reader.presence(expr));
        }
        narrowed
    }
}
