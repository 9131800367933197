//! Reads conditions from expressions: when an expression counts as true, and when its value is defined.
//!
//! A condition may only be used for an expression that orch can evaluate: the condition that `x == 1` is true also
//! contains that `x` is defined, because comparing an undefined value fails.

use minijinja::Value as TemplateValue;
use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, UnaryOpKind};

use super::condition::Condition;
use super::dependent_properties::properties_requiring;
use super::narrowing::{constant_index, member_of};
use super::refined_types::requires_property;
use super::scope::TypeScope;
use super::types::{Property, Schemas, Type, TypeKind, union};
use crate::template::walk::arg_expr;

/// Reads conditions from expressions at one point of a template or pipeline.
#[derive(Clone, Copy)]
pub(super) struct ConditionReader<'s, 'a> {
    pub(super) schemas: Schemas<'a>,
    pub(super) scope: &'s TypeScope<'a>,
}

impl<'a> ConditionReader<'_, 'a> {
    /// When an expression counts as true.
    pub(super) fn truth(self, expr: &Expr<'_>) -> Condition {
        self.read_truth(expr).bounded()
    }

    /// When the value of an expression is defined.
    pub(super) fn presence(self, expr: &Expr<'_>) -> Condition {
        self.read_presence(expr).bounded()
    }

    fn read_truth(self, expr: &Expr<'_>) -> Condition {
        match expr {
            Expr::Const(constant) if constant.value.is_true() => Condition::Always,
            Expr::Const(_) => Condition::Never,
            Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Not) => self.truth(&inner.expr).negate(),
            Expr::BinOp(inner) => match inner.op {
                BinOpKind::ScAnd => Condition::all([self.truth(&inner.left), self.truth(&inner.right)]),
                BinOpKind::ScOr => Condition::any([self.truth(&inner.left), self.truth(&inner.right)]),
                op => self.comparison(op, &inner.left, &inner.right).unwrap_or_else(|| self.nonempty_value(expr)),
            },
            Expr::Compare(inner) => {
                let mut left = &inner.expr;
                Condition::all(inner.ops.iter().map(|op| {
                    let part = self.chained_comparison(op.op, left, &op.expr);
                    left = &op.expr;
                    part
                }))
            }
            Expr::Test(inner) => self.test(inner.name, &inner.expr, &inner.args),
            Expr::Filter(inner) => match (inner.name, &inner.expr) {
                // These filters return nothing, or an empty list, only for an empty operand.
                (
                    "length" | "count" | "list" | "bool" | "batch" | "dictsort" | "groupby" | "items" | "lines" | "map"
                    | "sort" | "unique",
                    Some(operand),
                ) => self.truth(operand),
                ("default" | "d", Some(operand)) => self.default_truth(operand, &inner.args),
                (_, _) => self.nonempty_value(expr),
            },
            Expr::IfExpr(inner) => {
                let condition = self.truth(&inner.test_expr);
                let otherwise = inner.false_expr.as_ref().map_or(Condition::Never, |expr| self.truth(expr));
                Condition::any([
                    Condition::all([condition.clone(), self.truth(&inner.true_expr)]),
                    Condition::all([condition.negate(), otherwise]),
                ])
            }
            Expr::Var(var) => match self.scope.condition_result(var.id) {
                Some(result) => result.truth.clone(),
                None => self.nonempty_value(expr),
            },
            Expr::UnaryOp(_)
            | Expr::GetAttr(_)
            | Expr::GetItem(_)
            | Expr::Slice(_)
            | Expr::Call(_)
            | Expr::List(_)
            | Expr::Tuple(_)
            | Expr::Map(_) => self.nonempty_value(expr),
        }
    }

    fn read_presence(self, expr: &Expr<'_>) -> Condition {
        match expr {
            Expr::Var(var) => self.scope.presence(var.id),
            Expr::GetAttr(inner) => self.member_presence(expr, &inner.expr, inner.name),
            Expr::GetItem(inner) => match &inner.subscript_expr {
                Expr::Const(constant) if constant.value.as_str().is_some() => {
                    self.member_presence(expr, &inner.expr, constant.value.as_str().unwrap_or_default())
                }
                subscript if matches!(constant_index(subscript), Some(0 | -1)) && self.is_list_or_text(&inner.expr) => {
                    self.truth(&inner.expr)
                }
                _ => Condition::all([self.presence(&inner.expr), self.opaque_presence(expr)]),
            },
            Expr::Filter(inner) => match (inner.name, &inner.expr) {
                ("first" | "last" | "min" | "max", Some(operand)) => self.truth(operand),
                ("default" | "d", Some(operand)) => {
                    let default = inner.args.first().map_or(Condition::Always, |arg| self.presence(arg_expr(arg)));
                    // With a second argument, the default also replaces a value that counts as false.
                    let has_flag = inner.args.len() > 1;
                    let is_kept = if has_flag { self.truth(operand) } else { self.presence(operand) };
                    Condition::any([is_kept, default])
                }
                // Any other filter needs a value.
                (_, Some(operand)) => self.presence(operand),
                (_, None) => Condition::Always,
            },
            Expr::BinOp(inner) => match inner.op {
                BinOpKind::ScOr => Condition::any([self.truth(&inner.left), self.presence(&inner.right)]),
                BinOpKind::ScAnd => {
                    let left = self.truth(&inner.left);
                    Condition::any([
                        Condition::all([left.clone(), self.presence(&inner.right)]),
                        Condition::all([left.negate(), self.presence(&inner.left)]),
                    ])
                }
                _ => Condition::Always,
            },
            Expr::IfExpr(inner) => {
                let condition = self.truth(&inner.test_expr);
                let otherwise = inner.false_expr.as_ref().map_or(Condition::Never, |expr| self.presence(expr));
                Condition::any([
                    Condition::all([condition.clone(), self.presence(&inner.true_expr)]),
                    Condition::all([condition.negate(), otherwise]),
                ])
            }
            Expr::Const(_)
            | Expr::UnaryOp(_)
            | Expr::Compare(_)
            | Expr::Test(_)
            | Expr::Slice(_)
            | Expr::Call(_)
            | Expr::List(_)
            | Expr::Tuple(_)
            | Expr::Map(_) => Condition::Always,
        }
    }

    fn member_presence(self, expr: &Expr<'_>, base: &Expr<'_>, name: &str) -> Condition {
        if name == "error"
            && let Some((_, Some(completion))) = self.ended_step(base)
        {
            return Condition::all([self.presence(base), Condition::any([completion.failed, completion.skipped])]);
        }
        let known = self.previous_member_presence(expr).or_else(|| self.neighbor_presence(base, name));
        if let Some(condition) = known.or_else(|| self.item_member_presence(base, name)) {
            return condition;
        }
        let member = match self.member_type(base, name) {
            Some((_, true)) => Condition::Always,
            Some((_, false)) | None => {
                Condition::any([self.opaque_presence(expr), self.is_required_by_other(base, name)])
            }
        };
        Condition::all([self.presence(base), member])
    }

    /// When an object has a property that requires the property `name`.
    fn is_required_by_other(self, base: &Expr<'_>, name: &str) -> Condition {
        let Some(key) = self.key(base) else { return Condition::Never };
        let others = properties_requiring(&self.value_type(base), name);
        Condition::any(others.into_iter().map(|other| match self.member_type(base, other) {
            Some((_, true)) => Condition::Always,
            Some((_, false)) | None => Condition::test(format!("{key}.{other} is defined")),
        }))
    }

    /// When the item before or after the current one exists, if `base` is the `loop` of a template.
    fn neighbor_presence(self, base: &Expr<'_>, name: &str) -> Option<Condition> {
        let edge = match name {
            "previtem" => "first",
            "nextitem" => "last",
            _ => return None,
        };
        let (_, always_exists) = self.member_type(base, name)?;
        let is_loop = matches!(base, Expr::Var(var) if var.id == "loop") && !always_exists;
        let key = self.key(base).filter(|_| is_loop)?;
        Some(Condition::test(format!("{key}.{edge}")).negate())
    }

    fn opaque_presence(self, expr: &Expr<'_>) -> Condition {
        match self.key(expr) {
            Some(key) => Condition::test(format!("{key} is defined")),
            None => Condition::opaque(),
        }
    }

    /// When the value of an expression is defined and not empty.
    pub(super) fn nonempty_value(self, expr: &Expr<'_>) -> Condition {
        if let Some(condition) = self.previous_iteration_exists(expr) {
            return condition;
        }
        let ty = self.value_type(expr);
        let is_never_empty = matches!(expr, Expr::Var(var) if self.scope.is_never_empty(var.id))
            || self.previous_artifact(expr).is_some_and(|artifact| artifact.presence.is_never_empty);
        let nonempty = if is_never_empty || ty.is_always_truthy() {
            Condition::Always
        } else {
            match self.key(expr) {
                Some(key) if ty.without_null().is_always_truthy() => Condition::equality(key, "none").negate(),
                Some(key) => Condition::test(key),
                None => Condition::opaque(),
            }
        };
        Condition::all([self.presence(expr), nonempty])
    }

    fn default_truth(self, operand: &Expr<'_>, args: &[CallArg<'_>]) -> Condition {
        let default = args.first().map_or(Condition::Never, |arg| self.truth(arg_expr(arg)));
        let is_used = if args.len() > 1 { Condition::Always } else { self.presence(operand).negate() };
        Condition::any([self.truth(operand), Condition::all([is_used, default])])
    }

    fn test(self, name: &str, expr: &Expr<'_>, args: &[CallArg<'_>]) -> Condition {
        let first_arg = args.first().map(arg_expr);
        match (name, first_arg) {
            ("defined", _) => self.presence(expr),
            ("undefined", _) => self.presence(expr).negate(),
            ("none", _) => {
                let is_null = self.constant_equality(expr, &TemplateValue::from(()));
                Condition::all([self.presence(expr), is_null])
            }
            ("eq" | "==" | "equalto", Some(other)) => Condition::all([self.presence(expr), self.equality(expr, other)]),
            // An undefined value differs from every other value.
            ("ne" | "!=", Some(other)) => Condition::all([self.presence(expr), self.equality(expr, other)]).negate(),
            ("in", Some(container)) => self.membership(expr, container),
            ("true", _) if matches!(self.value_type(expr), Type::Bool | Type::Flag(_)) => self.nonempty_value(expr),
            (_, _) => {
                let test = match (self.key(expr), self.argument_keys(args)) {
                    (Some(key), Some(args)) => Condition::test(format!("{key} is {name}({args})")),
                    (_, _) => Condition::opaque(),
                };
                // These tests can be true for an undefined value, which is less than every other value.
                let accepts_undefined = matches!(name, "sequence" | "iterable" | "lt" | "<" | "le" | "<=");
                if accepts_undefined { test } else { Condition::all([self.presence(expr), test]) }
            }
        }
    }

    fn is_list_or_text(self, expr: &Expr<'_>) -> bool {
        let kinds = self.value_type(expr).kinds();
        kinds.is_some_and(|kinds| kinds.iter().all(|kind| matches!(kind, TypeKind::List | TypeKind::Text)))
    }

    /// The type of a variable or of a property, before any narrowing; unknown for any other expression.
    pub(super) fn value_type(self, expr: &Expr<'_>) -> Type<'a> {
        match expr {
            Expr::Var(var) => self.scope.get(var.id).map_or(Type::Unknown, |value| value.ty.clone()),
            Expr::Filter(inner) if matches!(inner.name, "split" | "lines") => Type::List(Type::Text(None).into(), 0),
            _ => {
                let member_type = member_of(expr).and_then(|(base, name)| self.member_type(base, name));
                member_type.map_or(Type::Unknown, |(ty, _)| ty)
            }
        }
    }

    /// The type of a property of a value, and whether the property always exists; `None` if the type is unknown.
    fn member_type(self, base: &Expr<'_>, name: &str) -> Option<(Type<'a>, bool)> {
        let (mut types, mut always_exists) = (Vec::new(), true);
        for branch in self.value_type(base).branches() {
            match (self.schemas.property(&branch, name), branch.kind()) {
                (Some(Property::Present(ty)), _) => {
                    types.push(ty);
                    always_exists &= requires_property(&branch, name);
                }
                (Some(Property::Optional(ty)), _) => {
                    types.push(ty);
                    always_exists = false;
                }
                (Some(Property::Absent(_)), _) | (None, Some(_)) => always_exists = false,
                (Some(Property::Open(_)), _) | (None, None) => return None,
            }
        }
        (!types.is_empty()).then(|| (union(types), always_exists))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use minijinja::machinery::parse_expr;
    use serde_json::json;

    use super::*;
    use crate::check::scope::InferredValue;

    /// Whether `goal` is true whenever `assumption` is. The variable `note` may be undefined.
    fn implies(assumption: &str, goal: &str) -> bool {
        let schema = json!({
            "type": "object", "required": ["ok", "kind", "steps", "n"],
            "properties": {
                "ok": { "type": "boolean" }, "n": { "type": "integer" }, "kind": { "enum": ["a", "b", "c"] },
                "more": { "type": "string" }, "steps": { "type": "array" },
                "owner": { "type": ["object", "null"], "required": ["name"] }
            }
        });
        let documents = BTreeMap::new();
        let schemas = Schemas(&documents);
        let mut scope = TypeScope::default();
        scope.bind("plan", InferredValue::defined(schemas.document_type(&schema)));
        scope.bind("note", InferredValue::new(Type::Text(None), true));
        let members = [("first", Type::Bool), ("index", Type::Number), ("index0", Type::Number)];
        scope.bind("loop", InferredValue::defined(Type::FixedObject(Rc::new(members.into_iter().collect()))));
        let reader = ConditionReader { schemas, scope: &scope };
        let truth = |text: &str| reader.truth(&parse_expr(text).unwrap());
        let (assumption, goal) = (truth(assumption), truth(goal));
        scope.add_assumption(assumption);
        scope.is_implied(&goal)
    }

    #[test]
    fn equal_conditions_imply_one_another_however_they_are_written() {
        for (first, second) in [
            ("plan.ok", "plan.ok == true"),
            ("not plan.ok", "plan.ok == false"),
            ("plan.kind == 'a'", "'a' == plan['kind']"),
            ("plan.kind != 'a'", "plan.kind in ['b', 'c']"),
            ("plan.steps", "plan.steps | length > 0"),
            ("plan.steps", "plan.steps | length >= 1"),
            ("not plan.steps", "plan.steps | length == 0"),
            ("plan.more is defined", "plan.more is not undefined"),
            ("note is defined", "not (note is undefined)"),
            ("plan.ok and plan.steps", "not (not plan.ok or not plan.steps)"),
            ("loop.index > 1", "not loop.first"),
            ("loop.index0 == 0", "loop.index == 1"),
            ("plan.n > 3", "3 < plan.n"),
            ("plan.n > 3", "not plan.n <= 3"),
            ("true if plan.ok else false", "plan.ok"),
            ("plan.ok | default(false)", "plan.ok"),
        ] {
            assert!(implies(first, second), "{first} => {second}");
            assert!(implies(second, first), "{second} => {first}");
        }
    }

    #[test]
    fn a_condition_implies_only_what_follows_from_it() {
        for (assumption, goal) in [
            ("note == 'x'", "note is defined"),
            ("note | length > 3", "note is defined"),
            ("note in ['x', 'y']", "note is defined"),
            ("note is string", "note is defined"),
            ("plan.kind == 'a'", "plan.kind != 'b'"),
            ("plan.more", "plan.more is defined"),
            ("plan.owner", "plan.owner is not none"),
        ] {
            assert!(implies(assumption, goal), "{assumption} => {goal}");
            assert!(!implies(goal, assumption), "{goal} => {assumption}");
        }
        for (assumption, goal) in [
            ("note is sequence", "note is defined"),
            ("note is lt(3)", "note is defined"),
            ("note is ne('x')", "note is defined"),
            ("plan.other is defined", "plan.ok"),
            ("plan.n == 1", "plan.n == 2"),
            ("plan.ok or note is defined", "note is defined"),
        ] {
            assert!(!implies(assumption, goal), "{assumption} => {goal}");
        }
    }
}
