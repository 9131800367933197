//! Reports a `set` in the body of a loop that has no effect: the variable keeps its value only until the end of the
//! iteration.

use std::collections::HashMap;
use std::ops::Range;

use minijinja::machinery::ast::{Expr, Stmt};

use super::infer::Checker;
use super::scope::TypeScope;
use crate::diagnostic::Code;
use crate::template::expr_range;
use crate::template::walk::{Visit, walk_expr, walk_stmts};

impl<'a> Checker<'a> {
    /// Reports the variables of a template that the body of a loop sets, and that nothing in the body reads except to
    /// set them. `scope` is that before the loop.
    pub(super) fn check_loop_assignments(&mut self, body: &[Stmt<'a>], scope: &TypeScope<'a>) {
        let mut uses = LoopUses::default();
        walk_stmts(body, &mut uses);
        // An included prompt reads the variables, too.
        if uses.has_include {
            return;
        }
        for (name, range) in uses.assignments {
            let is_read = uses.occurrences.get(name) != uses.own_occurrences.get(name);
            if is_read || scope.get(name).is_none() {
                continue;
            }
            let message =
                format!("`set {name}` has no effect: the variable has this value only until the iteration ends");
            let diagnostic = self.warning(Code::UnsupportedOperation, range, message);
            self.report(diagnostic.with_help(format!(
                "write `{{% set ns = namespace({name}=…) %}}` before the loop, and `{{% set ns.{name} = … %}}` in it"
            )));
        }
    }
}

/// How the body of a loop uses variables.
#[derive(Default)]
struct LoopUses<'a> {
    /// The number of places with each variable.
    occurrences: HashMap<&'a str, usize>,
    /// The number of those in the statements that set the variable itself.
    own_occurrences: HashMap<&'a str, usize>,
    /// The variables that the body sets, each with its place.
    assignments: Vec<(&'a str, Range<usize>)>,
    has_include: bool,
}

impl<'a> Visit<'a> for LoopUses<'a> {
    fn visit_stmt(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Set(inner) => {
                if let Expr::Var(var) = &inner.target {
                    let mut value_uses = Self::default();
                    walk_expr(&inner.expr, &mut value_uses);
                    let in_value = value_uses.occurrences.get(var.id).copied().unwrap_or_default();
                    *self.own_occurrences.entry(var.id).or_default() += 1 + in_value;
                    self.assignments.push((var.id, expr_range(&inner.target)));
                }
            }
            Stmt::Include(_) => self.has_include = true,
            _ => {}
        }
    }

    fn visit_expr(&mut self, expr: &Expr<'a>) {
        if let Expr::Var(var) = expr {
            *self.occurrences.entry(var.id).or_default() += 1;
        }
    }
}
