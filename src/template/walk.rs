//! Walks the syntax tree of a template: every statement and expression, parents first.

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

/// The callbacks of a walk.
pub(crate) trait Visit<'a> {
    /// Whether the walk enters the bodies of `for` loops, in which `loop` is a variable of the template.
    fn visits_loop_bodies(&self) -> bool {
        true
    }
    /// Called for each statement, before the statements and expressions inside it.
    fn visit_stmt(&mut self, _stmt: &Stmt<'a>) {}
    /// Called for each expression, before the expressions inside it.
    fn visit_expr(&mut self, _expr: &Expr<'a>) {}
}

/// Walks statements in order.
pub(crate) fn walk_stmts<'a>(list: &[Stmt<'a>], visit: &mut impl Visit<'a>) {
    for stmt in list {
        walk_stmt(stmt, visit);
    }
}

/// Walks a statement.
pub(crate) fn walk_stmt<'a>(stmt: &Stmt<'a>, visit: &mut impl Visit<'a>) {
    visit.visit_stmt(stmt);
    match stmt {
        Stmt::Template(inner) => walk_stmts(&inner.children, visit),
        Stmt::EmitExpr(inner) => walk_expr(&inner.expr, visit),
        Stmt::ForLoop(inner) => {
            walk_exprs([&inner.target, &inner.iter].into_iter().chain(&inner.filter_expr), visit);
            if visit.visits_loop_bodies() {
                walk_stmts(&inner.body, visit);
            }
            walk_stmts(&inner.else_body, visit);
        }
        Stmt::IfCond(inner) => {
            walk_expr(&inner.expr, visit);
            walk_stmts(&inner.true_body, visit);
            walk_stmts(&inner.false_body, visit);
        }
        Stmt::WithBlock(inner) => {
            walk_exprs(inner.assignments.iter().flat_map(|(target, value)| [target, value]), visit);
            walk_stmts(&inner.body, visit);
        }
        Stmt::Set(inner) => walk_exprs([&inner.target, &inner.expr], visit),
        Stmt::SetBlock(inner) => {
            walk_exprs([&inner.target].into_iter().chain(&inner.filter), visit);
            walk_stmts(&inner.body, visit);
        }
        Stmt::AutoEscape(inner) => walk_stmts(&inner.body, visit),
        Stmt::FilterBlock(inner) => {
            walk_expr(&inner.filter, visit);
            walk_stmts(&inner.body, visit);
        }
        Stmt::Include(inner) => walk_expr(&inner.name, visit),
        Stmt::Do(inner) => {
            walk_expr(&inner.call.expr, visit);
            walk_args(&inner.call.args, visit);
        }
        // These statements contain nothing to visit, or the inspection refuses them.
        Stmt::EmitRaw(_)
        | Stmt::Continue(_)
        | Stmt::Break(_)
        | Stmt::Block(_)
        | Stmt::Import(_)
        | Stmt::FromImport(_)
        | Stmt::Extends(_)
        | Stmt::Macro(_)
        | Stmt::CallBlock(_) => {}
    }
}

fn walk_exprs<'a: 'b, 'b>(list: impl IntoIterator<Item = &'b Expr<'a>>, visit: &mut impl Visit<'a>) {
    for expr in list {
        walk_expr(expr, visit);
    }
}

fn walk_args<'a>(list: &[CallArg<'a>], visit: &mut impl Visit<'a>) {
    walk_exprs(list.iter().map(arg_expr), visit);
}

/// The expression of an argument.
pub(crate) fn arg_expr<'a, 'b>(arg: &'b CallArg<'a>) -> &'b Expr<'a> {
    match arg {
        CallArg::Pos(expr) | CallArg::Kwarg(_, expr) | CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => expr,
    }
}

/// Walks an expression.
pub(crate) fn walk_expr<'a>(expr: &Expr<'a>, visit: &mut impl Visit<'a>) {
    visit.visit_expr(expr);
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::Slice(inner) => {
            let parts = [&inner.start, &inner.stop, &inner.step].into_iter().flatten();
            walk_exprs([&inner.expr].into_iter().chain(parts), visit);
        }
        Expr::UnaryOp(inner) => walk_expr(&inner.expr, visit),
        Expr::BinOp(inner) => walk_exprs([&inner.left, &inner.right], visit),
        Expr::Compare(inner) => walk_exprs([&inner.expr].into_iter().chain(inner.ops.iter().map(|op| &op.expr)), visit),
        Expr::IfExpr(inner) => {
            walk_exprs([&inner.test_expr, &inner.true_expr].into_iter().chain(&inner.false_expr), visit);
        }
        Expr::Filter(inner) => {
            walk_exprs(&inner.expr, visit);
            walk_args(&inner.args, visit);
        }
        Expr::Test(inner) => {
            walk_expr(&inner.expr, visit);
            walk_args(&inner.args, visit);
        }
        Expr::GetAttr(inner) => walk_expr(&inner.expr, visit),
        Expr::GetItem(inner) => walk_exprs([&inner.expr, &inner.subscript_expr], visit),
        Expr::Call(inner) => {
            walk_expr(&inner.expr, visit);
            walk_args(&inner.args, visit);
        }
        Expr::List(inner) => walk_exprs(&inner.items, visit),
        Expr::Tuple(inner) => walk_exprs(&inner.items, visit),
        Expr::Map(inner) => walk_exprs(inner.keys.iter().chain(&inner.values), visit),
    }
}
