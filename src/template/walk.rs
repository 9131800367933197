//! Walks the syntax tree of a template: every statement and expression, parents first.

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

/// The callbacks of a walk.
pub(crate) trait Visit<'a> {
    /// Called for each statement, before the statements and expressions inside it.
    fn stmt(&mut self, _stmt: &Stmt<'a>) {}
    /// Called for each expression, before the expressions inside it.
    fn expr(&mut self, _expr: &Expr<'a>) {}
}

/// Walks statements in order.
pub(crate) fn stmts<'a>(list: &[Stmt<'a>], visit: &mut impl Visit<'a>) {
    for stmt in list {
        walk_stmt(stmt, visit);
    }
}

/// Walks a statement.
pub(crate) fn walk_stmt<'a>(stmt: &Stmt<'a>, visit: &mut impl Visit<'a>) {
    visit.stmt(stmt);
    match stmt {
        Stmt::Template(inner) => stmts(&inner.children, visit),
        Stmt::EmitExpr(inner) => walk_expr(&inner.expr, visit),
        Stmt::ForLoop(inner) => {
            exprs([&inner.target, &inner.iter].into_iter().chain(&inner.filter_expr), visit);
            stmts(&inner.body, visit);
            stmts(&inner.else_body, visit);
        }
        Stmt::IfCond(inner) => {
            walk_expr(&inner.expr, visit);
            stmts(&inner.true_body, visit);
            stmts(&inner.false_body, visit);
        }
        Stmt::WithBlock(inner) => {
            exprs(inner.assignments.iter().flat_map(|(target, value)| [target, value]), visit);
            stmts(&inner.body, visit);
        }
        Stmt::Set(inner) => exprs([&inner.target, &inner.expr], visit),
        Stmt::SetBlock(inner) => {
            exprs([&inner.target].into_iter().chain(&inner.filter), visit);
            stmts(&inner.body, visit);
        }
        Stmt::AutoEscape(inner) => stmts(&inner.body, visit),
        Stmt::FilterBlock(inner) => {
            walk_expr(&inner.filter, visit);
            stmts(&inner.body, visit);
        }
        Stmt::Include(inner) => walk_expr(&inner.name, visit),
        Stmt::Do(inner) => {
            walk_expr(&inner.call.expr, visit);
            args(&inner.call.args, visit);
        }
        // These contain nothing to visit, or inspection refuses them as a whole.
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

fn exprs<'a: 'b, 'b>(list: impl IntoIterator<Item = &'b Expr<'a>>, visit: &mut impl Visit<'a>) {
    for expr in list {
        walk_expr(expr, visit);
    }
}

fn args<'a>(list: &[CallArg<'a>], visit: &mut impl Visit<'a>) {
    exprs(list.iter().map(arg), visit);
}

/// The expression of an argument.
pub(crate) fn arg<'a, 'b>(arg: &'b CallArg<'a>) -> &'b Expr<'a> {
    match arg {
        CallArg::Pos(expr) | CallArg::Kwarg(_, expr) | CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => expr,
    }
}

/// Walks an expression.
pub(crate) fn walk_expr<'a>(expr: &Expr<'a>, visit: &mut impl Visit<'a>) {
    visit.expr(expr);
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::Slice(inner) => {
            let parts = [&inner.start, &inner.stop, &inner.step].into_iter().flatten();
            exprs([&inner.expr].into_iter().chain(parts), visit);
        }
        Expr::UnaryOp(inner) => walk_expr(&inner.expr, visit),
        Expr::BinOp(inner) => exprs([&inner.left, &inner.right], visit),
        Expr::Compare(inner) => exprs([&inner.expr].into_iter().chain(inner.ops.iter().map(|op| &op.expr)), visit),
        Expr::IfExpr(inner) => {
            exprs([&inner.test_expr, &inner.true_expr].into_iter().chain(&inner.false_expr), visit);
        }
        Expr::Filter(inner) => {
            exprs(&inner.expr, visit);
            args(&inner.args, visit);
        }
        Expr::Test(inner) => {
            walk_expr(&inner.expr, visit);
            args(&inner.args, visit);
        }
        Expr::GetAttr(inner) => walk_expr(&inner.expr, visit),
        Expr::GetItem(inner) => exprs([&inner.expr, &inner.subscript_expr], visit),
        Expr::Call(inner) => {
            walk_expr(&inner.expr, visit);
            args(&inner.args, visit);
        }
        Expr::List(inner) => exprs(&inner.items, visit),
        Expr::Tuple(inner) => exprs(&inner.items, visit),
        Expr::Map(inner) => exprs(inner.keys.iter().chain(&inner.values), visit),
    }
}
