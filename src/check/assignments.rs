//! Infers the values that statements assign to variables and to the members of namespaces.

use minijinja::machinery::ast::{BinOpKind, Expr, GetAttr, Spanned, Stmt};

use super::bindings::{AssignedValue, ValueOrigin};
use super::condition::Condition;
use super::infer::Checker;
use super::namespaces::{Namespace, NamespaceSite, assigned_member};
use super::narrowing::expression_path;
use super::scope::{InferredValue, TypeScope, root_name};
use super::truth::ConditionReader;
use super::types::Type;
use super::unpacking::targets;
use crate::diagnostic::Code;
use crate::template::expr_range;
use crate::template::walk::arg_expr;

impl<'a> Checker<'a> {
    /// Checks the statements of a whole text, again and again until the types of the members of its namespaces no longer
    /// change. Only the findings of the last check count.
    pub(super) fn check_until_stable(&mut self, statements: &[Stmt<'a>], scope: &mut TypeScope<'a>) {
        let outer_scope = scope.clone();
        let counts = [
            self.diagnostics.len(),
            self.unchecked_uses.len(),
            self.used_inputs.len(),
            self.marker_scopes.len(),
            self.remaining_includes,
        ];
        let prints_text = self.prints_text;
        loop {
            self.check_statements(statements, scope);
            if !self.assigned_members.end_pass() {
                return;
            }
            let [diagnostics, unchecked_uses, used_inputs, marker_scopes, remaining_includes] = counts;
            self.diagnostics.truncate(diagnostics);
            self.unchecked_uses.truncate(unchecked_uses);
            self.used_inputs.truncate(used_inputs);
            self.marker_scopes.truncate(marker_scopes);
            (self.remaining_includes, self.prints_text) = (remaining_includes, prints_text);
            *scope = outer_scope.clone();
        }
    }

    /// Infers the value of an expression that a template assigns to a variable. Several variables can't unpack an
    /// undefined value.
    pub(super) fn infer_assigned(
        &mut self,
        target: &Expr<'a>,
        expr: &Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> AssignedValue<'a> {
        let finding_count = self.diagnostics.len();
        if targets(target).is_some() {
            let value = self.infer_defined(expr, scope);
            let is_reported = self.diagnostics.len() > finding_count;
            return AssignedValue { is_reported, ..AssignedValue::defined(value) };
        }
        let mut value = self.infer(expr, scope);
        let reader = ConditionReader { schemas: self.schemas, scope };
        let presence = if value.may_be_undefined { reader.presence(expr) } else { Condition::Always };
        let is_namespace = may_be_namespace(expr, scope);
        let namespace = if is_namespace { self.assigned_namespace(expr, &value.ty, scope) } else { None };
        if is_namespace {
            // Its members can change.
            value.ty = Type::Unknown;
        }
        let origin_path = expression_path(expr).filter(|path| {
            !scope.depends_on_namespace(path) && !self.assigned_names.may_change_in_loop(root_name(path))
        });
        AssignedValue {
            value,
            presence,
            result: Some(self.condition_result(expr, scope)),
            is_namespace,
            namespace,
            origin: ValueOrigin { path: origin_path, previous_of: reader.iteration_after(expr).cloned() },
            is_reported: self.diagnostics.len() > finding_count,
        }
    }

    /// The namespace that an expression creates, or that a variable already holds; `None` if its members are unknown.
    fn assigned_namespace(&self, expr: &Expr<'a>, ty: &Type<'a>, scope: &TypeScope<'a>) -> Option<Namespace<'a>> {
        match (expr, ty) {
            (Expr::Var(var), _) => scope.namespace(var.id).cloned(),
            (Expr::Call(_), Type::FixedObject(members)) => {
                let site = NamespaceSite { text: self.text, offset: expr_range(expr).start };
                self.assigned_members.new_namespace(site, members)
            }
            _ => None,
        }
    }

    /// Sets a member of a namespace. Reports a value that is no namespace, whose members can't be set.
    pub(super) fn assign_member(
        &mut self,
        target: &Spanned<GetAttr<'a>>,
        assigned: &AssignedValue<'a>,
        scope: &mut TypeScope<'a>,
    ) {
        let (base, member) = (&target.expr, target.name);
        if let Expr::Var(var) = base {
            if let Some(namespace) = scope.namespace(var.id) {
                let (site, is_known) = (namespace.site, namespace.knows(member));
                // A run ends at a mistake, so the member keeps its earlier values.
                if is_known && assigned.is_reported && matches!(assigned.value.ty, Type::Unknown) {
                    return;
                }
                let value = match &assigned.value {
                    // A template prints the value of a conditional expression without `else`, so the member is not
                    // missing, but nothing is known about its other uses.
                    value if value.may_be_undefined && value.prints_as_nothing => {
                        assigned_member(&Type::Unknown, false)
                    }
                    value => assigned_member(&value.ty, value.may_be_undefined),
                };
                self.assigned_members.add(self.schemas, site, member, &value);
                return scope.set_member(site, member, &value);
            }
            if scope.get(var.id).is_some() && scope.key(var.id).is_none() {
                return self.assigned_members.stop_tracking();
            }
        }
        let finding_count = self.diagnostics.len();
        let ty = self.infer_defined(base, scope).ty;
        if self.diagnostics.len() > finding_count {
            return;
        }
        let source = self.source(base);
        let subject = if ty.kinds().is_some() { ty.describe() } else { "no namespace".to_owned() };
        let message = format!("`{source}` is {subject}, and only a namespace has members that a template can set");
        let diagnostic = self.error(Code::UnsupportedOperation, expr_range(base), message);
        let help = format!("create one: `{{% set ns = namespace() %}}`, then write `{{% set ns.{member} = … %}}`");
        self.report(diagnostic.with_help(help));
    }

    /// Infers the value of which an expression reads a member.
    pub(super) fn infer_base(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        let inferred = self.infer_defined(expr, scope);
        match expr {
            Expr::Var(var) => match scope.namespace(var.id) {
                Some(namespace) => InferredValue::defined(namespace.ty()),
                None => inferred,
            },
            _ => inferred,
        }
    }
}

/// Whether the value of an expression may be a namespace, whose members templates can change.
fn may_be_namespace(expr: &Expr<'_>, scope: &TypeScope<'_>) -> bool {
    match expr {
        Expr::Call(inner) => matches!(&inner.expr, Expr::Var(var) if var.id == "namespace"),
        Expr::Var(var) => scope.key(var.id).is_none(),
        Expr::Filter(inner) => {
            let may_return_operand = matches!(inner.name, "default" | "d" | "first" | "last" | "min" | "max");
            may_return_operand
                && (inner.expr.as_ref().is_some_and(|operand| may_be_namespace(operand, scope))
                    || inner.args.iter().any(|argument| may_be_namespace(arg_expr(argument), scope)))
        }
        Expr::BinOp(inner) => {
            matches!(inner.op, BinOpKind::ScAnd | BinOpKind::ScOr)
                && (may_be_namespace(&inner.left, scope) || may_be_namespace(&inner.right, scope))
        }
        Expr::IfExpr(inner) => {
            may_be_namespace(&inner.true_expr, scope)
                || inner.false_expr.as_ref().is_some_and(|expr| may_be_namespace(expr, scope))
        }
        _ => false,
    }
}
