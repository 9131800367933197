//! Binds the variables of `for`, `set` and `with`, and checks the values that several variables unpack.

use std::collections::HashSet;

use minijinja::machinery::ast::{Expr, Stmt};

use super::bindings::{AssignedValue, ValueOrigin};
use super::infer::Checker;
use super::narrowing::expression_path;
use super::number_range::NumberRange;
use super::scope::{InferredValue, TypeScope};
use super::types::{Type, TypeKind, union};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::counted;
use crate::template::expr_range;
use crate::template::walk::{Visit, walk_stmts};

/// Where the value of a variable comes from.
#[derive(Clone, Copy)]
pub(super) enum TargetSource<'b, 'a> {
    /// The value of an expression.
    Value(&'b Expr<'a>),
    /// The items of a value of this type.
    Items(&'b Expr<'a>, &'b Type<'a>),
    /// A part of a value that variables unpack.
    Part,
}

impl<'a> Checker<'a> {
    /// Binds a variable to a value, or each of several variables to a part of it.
    pub(super) fn bind_target(
        &mut self,
        target: &Expr<'a>,
        mut assigned: AssignedValue<'a>,
        source: TargetSource<'_, 'a>,
        scope: &mut TypeScope<'a>,
    ) {
        if let Expr::Var(var) = target {
            if self.assigned_names.may_change_in_loop(var.id) {
                assigned.value.ty = without_bounds(&assigned.value.ty);
                assigned.result = None;
                assigned.origin = ValueOrigin::default();
            }
            return scope.assign(var.id, assigned);
        }
        if let Expr::GetAttr(member) = target {
            if let TargetSource::Value(expr) = source {
                assigned.value.ty = self.stored_type(expr, assigned.value.ty, scope);
            }
            return self.assign_member(member, &assigned, scope);
        }
        let Some(targets) = targets(target) else { return };
        let branches = assigned.value.ty.branches();
        self.check_unpacked(target, targets.len(), &assigned.value.ty, source, scope);
        for (position, target) in targets.iter().enumerate() {
            let ty = union(branches.iter().map(|branch| self.schemas.item_type_at(branch, position)));
            let item = AssignedValue {
                is_reported: assigned.is_reported,
                ..AssignedValue::defined(InferredValue::defined(ty))
            };
            self.bind_target(target, item, TargetSource::Part, scope);
        }
    }

    /// Reports a value that is not, or may not be, a list of as many items as there are variables.
    fn check_unpacked(
        &mut self,
        target: &Expr<'a>,
        count: usize,
        ty: &Type<'a>,
        source: TargetSource<'_, 'a>,
        scope: &TypeScope<'a>,
    ) {
        let subject = match source {
            TargetSource::Value(expr) => format!("`{}`", self.source(expr)),
            TargetSource::Items(expr, _) => format!("an item of `{}`", self.source(expr)),
            TargetSource::Part => "a part of the value".to_owned(),
        };
        let Some(kinds) = ty.kinds() else { return };
        if let Some(kind) = kinds.iter().find(|kind| **kind != TypeKind::List) {
            let (is_never_list, kind) = (!kinds.contains(&TypeKind::List), kind.describe());
            let verb = if is_never_list { "is" } else { "may be" };
            let message = format!("{subject} {verb} {kind}, which {count} variables can't unpack");
            let diagnostic = self.unpack_diagnostic(target, is_never_list, message);
            return self.report(match source {
                TargetSource::Items(expr, iterated) if iterated.kind() == Some(TypeKind::Object) => {
                    diagnostic.with_help(format!("for names and values: `{} | items`", self.source(expr)))
                }
                TargetSource::Items(..) | TargetSource::Value(_) | TargetSource::Part => diagnostic,
            });
        }
        let Some((min, max)) = ty.length_range() else { return };
        let path = if let TargetSource::Value(expr) = source { expression_path(expr) } else { None };
        let min = min.max(scope.min_items(path.as_ref()));
        let max = max.into_iter().chain(scope.max_items(path.as_ref())).min();
        let needed = u64::try_from(count).unwrap_or(u64::MAX);
        let is_never_fitting = min > needed || max.is_some_and(|max| max < needed);
        if !is_never_fitting && min == needed && max == Some(needed) {
            return;
        }
        let length = match max {
            Some(max) if max == min => format!("{subject} has {}", counted(max, "item")),
            Some(max) => format!("{subject} has {min} to {}", counted(max, "item")),
            None => format!("{subject} may have any number of items"),
        };
        let message = format!("{length}; {count} variables unpack only a list of {count} items");
        let diagnostic = self.unpack_diagnostic(target, is_never_fitting, message);
        let help = "use one variable and read its items, such as `pair[0]`, or set `minItems` and `maxItems`";
        self.report(diagnostic.with_help(help));
    }

    fn unpack_diagnostic(&self, target: &Expr<'a>, is_error: bool, message: String) -> Diagnostic {
        let range = expr_range(target);
        if is_error {
            self.error(Code::UnsupportedOperation, range, message)
        } else {
            self.warning(Code::UnsupportedOperation, range, message)
        }
    }
}

/// The variables that a text sets.
#[derive(Default)]
pub(super) struct AssignedNames<'a> {
    all: HashSet<&'a str>,
    /// Those that it sets more than once.
    repeated: HashSet<&'a str>,
    /// Those that it sets in the body of a loop.
    in_loops: HashSet<&'a str>,
    /// Those that it sets to a namespace.
    pub(super) namespaces: HashSet<&'a str>,
}

impl<'a> AssignedNames<'a> {
    /// The variables that statements set.
    pub(super) fn in_statements(statements: &[Stmt<'a>]) -> Self {
        let mut names = Self::default();
        walk_stmts(statements, &mut names);
        names
    }

    /// Whether a variable may have the value that the previous iteration of a loop has set, which the checker sees only
    /// later.
    pub(super) fn may_change_in_loop(&self, name: &str) -> bool {
        self.repeated.contains(name) && self.in_loops.contains(name)
    }

    fn add(&mut self, target: &Expr<'a>) {
        if let Expr::Var(var) = target
            && !self.all.insert(var.id)
        {
            self.repeated.insert(var.id);
        }
        targets(target).into_iter().flatten().for_each(|target| self.add(target));
    }
}

impl<'a> Visit<'a> for AssignedNames<'a> {
    fn visit_stmt(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Set(inner) => {
                self.add(&inner.target);
                if let (Expr::Var(var), Expr::Call(call)) = (&inner.target, &inner.expr)
                    && matches!(&call.expr, Expr::Var(function) if function.id == "namespace")
                {
                    self.namespaces.insert(var.id);
                }
            }
            Stmt::SetBlock(inner) => self.add(&inner.target),
            Stmt::ForLoop(inner) => self.in_loops.extend(Self::in_statements(&inner.body).all),
            _ => {}
        }
    }
}

/// The variables that unpack a value; `None` for a single variable.
pub(super) fn targets<'b, 'a>(target: &'b Expr<'a>) -> Option<&'b [Expr<'a>]> {
    match target {
        Expr::List(inner) => Some(&inner.items),
        Expr::Tuple(inner) => Some(&inner.items),
        _ => None,
    }
}

/// The type without the bounds of its numbers.
fn without_bounds<'a>(ty: &Type<'a>) -> Type<'a> {
    union(ty.branches().into_iter().map(|branch| match branch.number_range() {
        Some(range) => Type::Numeric(NumberRange { is_integer: range.is_integer, ..NumberRange::ANY }),
        None => branch,
    }))
}
