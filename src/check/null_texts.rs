//! Reports values that may be null and become text: a template prints `None` for them.

use minijinja::machinery::ast::Expr;

use super::filters::AppliedFilter;
use super::infer::Checker;
use super::types::{Type, TypeKind};
use crate::diagnostic::Code;
use crate::template::expr_range;
use crate::template::signatures::{FILTER_SIGNATURES, OperandKind, Signature};

/// Whether a value of a type may be null, as far as its kinds are known.
pub(super) fn may_be_null(ty: &Type<'_>) -> bool {
    ty.kinds().is_some_and(|kinds| kinds.contains(&TypeKind::Null))
}

/// Whether a value of a type may be null or something else.
pub(super) fn is_sometimes_null(ty: &Type<'_>) -> bool {
    may_be_null(ty) && ty.kind().is_none()
}

impl<'a> Checker<'a> {
    /// Reports an expression that becomes text although its value may be null.
    pub(super) fn check_null_text(&mut self, expr: &Expr<'a>, ty: &Type<'a>) {
        if !may_be_null(ty) || matches!(expr, Expr::Const(_)) {
            return;
        }
        let verb = if ty.kind().is_some() { "is" } else { "may be" };
        let message = format!("`{}` {verb} null, and its text is then `None`", self.source(expr));
        let diagnostic = self.warning(Code::PossiblyMissing, expr_range(expr), message);
        self.report(diagnostic.with_help(self.null_advice(expr)));
    }

    /// Advice for a value that may be null.
    pub(super) fn null_advice(&self, expr: &Expr<'a>) -> String {
        let operand = self.operand_text(expr);
        let guard = self.guard_advice(expr, &format!("{operand} is not none"));
        format!("{guard}, or set a default: `{operand} | default(…, true)`")
    }

    /// Reports a slice of what may be null in place of a string: it is then an empty list.
    pub(super) fn check_null_slice(&mut self, expr: &Expr<'a>, ty: &Type<'a>) {
        if is_sometimes_null(ty) && ty.kinds().is_some_and(|kinds| kinds.contains(&TypeKind::Text)) {
            let message = format!("`{}` may be null, and a slice of it is then an empty list", self.source(expr));
            let diagnostic = self.warning(Code::PossiblyMissing, expr_range(expr), message);
            self.report(diagnostic.with_help(self.null_advice(expr)));
        }
    }

    /// Reports null in the operand of a filter that makes it text.
    pub(super) fn check_null_operand(&mut self, filter: &AppliedFilter<'_, 'a>) {
        let is_text_filter = || {
            let signature = Signature::find(FILTER_SIGNATURES, filter.name);
            signature.is_some_and(|signature| signature.operand == OperandKind::Scalar)
        };
        if filter.name == "string" || is_text_filter() {
            self.check_null_text(filter.operand, &filter.base);
        }
    }
}
