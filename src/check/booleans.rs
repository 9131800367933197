//! Reports conditions whose value is not, or not always, a boolean.

use minijinja::machinery::ast::Expr;

use super::infer::Checker;
use super::scope::TypeScope;
use super::types::{Type, TypeKind};
use crate::diagnostic::Code;
use crate::template::expr_range;

impl<'a> Checker<'a> {
    /// Reports a condition of this type if it is not, or not always, a boolean. Reports nothing about an unknown type.
    pub(super) fn check_boolean(&mut self, condition: &Expr<'a>, ty: &Type<'a>, scope: &TypeScope<'a>) {
        let Some(kinds) = ty.kinds() else { return };
        let Some(wrong_kind) = kinds.iter().find(|kind| **kind != TypeKind::Bool) else { return };
        let (source, range) = (self.text.trim(), expr_range(condition));
        let is_sometimes_boolean = kinds.contains(&TypeKind::Bool);
        let diagnostic = if is_sometimes_boolean {
            let message = format!("`{source}` may be {}, not `true` or `false`", wrong_kind.describe());
            self.warning(Code::NotBoolean, range, message)
        } else {
            self.error(Code::NotBoolean, range, format!("`{source}` is {}, not `true` or `false`", ty.describe()))
        };
        // `and` and `or` return one of their operands.
        let (operand, operand_type) = self.non_boolean_operand(condition, scope);
        let (text, operand_kinds) = (self.operand_text(operand), operand_type.kinds().unwrap_or_default());
        let has_kind = |kind: TypeKind| operand_kinds.contains(&kind);
        let help = if has_kind(TypeKind::Bool) {
            format!("compare it: `{text} == true`")
        } else if has_kind(TypeKind::Number) {
            format!("compare it: `{text} > 0`")
        } else if has_kind(TypeKind::List) || has_kind(TypeKind::Text) {
            format!("compare its length: `{text} | length > 0`")
        } else {
            format!("test it: `{text} is defined`")
        };
        self.report(diagnostic.with_help(help));
    }
}
