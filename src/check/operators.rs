//! Infers the types of expressions with operators. Reports comparisons that can't be true, and operands that an
//! operator does not support.

use minijinja::machinery::ast::{BinOpKind, CompareOp, CompareOpKind, Expr};

use super::index_paths::operator_kind;
use super::infer::Checker;
use super::null_texts::is_sometimes_null;
use super::scope::{InferredValue, TypeScope};
use super::tested_values::are_comparable;
use super::types::{Type, TypeKind, union};
use crate::diagnostic::Code;
use crate::template::expr_range;

/// The kind of a comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Order,
    Contains,
}

impl<'a> Checker<'a> {
    /// Infers the value of an operator other than `and` and `or`.
    pub(super) fn infer_operator(
        &mut self,
        op: BinOpKind,
        left: &Expr<'a>,
        right: &Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
        if matches!(op, BinOpKind::Concat) {
            for operand in [left, right] {
                let finding_count = self.diagnostics.len();
                let ty = self.infer_printed(operand, scope).ty;
                if self.diagnostics.len() == finding_count {
                    self.check_null_text(operand, &ty);
                }
            }
            return InferredValue::defined(Type::Text(None));
        }
        let is_compared = matches!(op, Eq | Ne | Lt | Lte | Gt | Gte);
        self.is_compared = is_compared;
        let left_type = self.infer_defined(left, scope).ty;
        self.is_compared = is_compared;
        let right_type = self.infer_defined(right, scope).ty;
        let comparison = match op {
            BinOpKind::Eq | BinOpKind::Ne => Comparison::Equal,
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => Comparison::Order,
            BinOpKind::In => Comparison::Contains,
            BinOpKind::Add => return self.infer_sum(left, &left_type, right, &right_type),
            BinOpKind::Mul => return self.infer_product(left, &left_type, right, &right_type, scope),
            BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => {
                return self.infer_arithmetic(op, left, &left_type, right, &right_type);
            }
            BinOpKind::Concat | BinOpKind::ScAnd | BinOpKind::ScOr => return InferredValue::unknown(),
        };
        self.check_comparison(comparison, left, &left_type, right, &right_type);
        self.check_number_comparison(op, left, &left_type, right, &right_type, scope);
        self.check_line_break(op, left, right, scope);
        InferredValue::defined(Type::Bool)
    }

    /// Infers the value of a chain of comparisons such as `1 < x < 3`.
    pub(super) fn infer_comparison_chain(
        &mut self,
        first: &Expr<'a>,
        ops: &[CompareOp<'a>],
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let mut left = first;
        self.is_compared = true;
        let mut left_type = self.infer_defined(left, scope).ty;
        for op in ops {
            self.is_compared = true;
            let right_type = self.infer_defined(&op.expr, scope).ty;
            let comparison = match op.op {
                CompareOpKind::Eq | CompareOpKind::Ne => Comparison::Equal,
                CompareOpKind::Lt | CompareOpKind::Lte | CompareOpKind::Gt | CompareOpKind::Gte => Comparison::Order,
                CompareOpKind::In | CompareOpKind::NotIn => Comparison::Contains,
            };
            self.check_comparison(comparison, left, &left_type, &op.expr, &right_type);
            if let Some(kind) = operator_kind(op) {
                self.check_number_comparison(kind, left, &left_type, &op.expr, &right_type, scope);
            }
            (left, left_type) = (&op.expr, right_type);
        }
        InferredValue::defined(Type::Bool)
    }

    fn check_comparison(
        &mut self,
        comparison: Comparison,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) {
        match comparison {
            Comparison::Contains => self.check_contains(left, left_type, right, right_type),
            Comparison::Equal => {
                self.check_constant(left, left_type, right);
                self.check_constant(right, right_type, left);
                self.check_filtered_text(left, right);
                self.check_filtered_text(right, left);
                self.check_comparable(comparison, left, left_type, right, right_type);
            }
            Comparison::Order => self.check_comparable(comparison, left, left_type, right, right_type),
        }
    }

    /// Reports two values that can't be compared because they have no common kind.
    fn check_comparable(
        &mut self,
        comparison: Comparison,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) {
        let (Some(left_kinds), Some(right_kinds)) = (left_type.kinds(), right_type.kinds()) else { return };
        let is_equality = comparison == Comparison::Equal;
        if self.check_boolean_number(is_equality, left, left_type, right, right_type)
            || left_kinds.iter().any(|left| right_kinds.iter().any(|right| are_comparable(*left, *right)))
        {
            return;
        }
        let range = expr_range(left).start..expr_range(right).end;
        let (left_source, right_source) = (self.source(left), self.source(right));
        let describe_operand = |text: &str, ty: &Type<'a>| {
            let type_text = ty.describe();
            if text.starts_with(['"', '\'']) || text == "none" { type_text } else { format!("`{text}`, {type_text},") }
        };
        let is_null_test = left_kinds == [TypeKind::Null] || right_kinds == [TypeKind::Null];
        let diagnostic = if comparison == Comparison::Equal && is_null_test {
            let compared = if left_kinds == [TypeKind::Null] { right_source } else { left_source };
            self.warning(Code::NeverEqual, range, format!("`{compared}` is never null"))
        } else if comparison == Comparison::Equal {
            let message = format!(
                "{} can never equal {}",
                describe_operand(left_source, left_type),
                describe_operand(right_source, right_type).trim_end_matches(',')
            );
            self.error(Code::NeverEqual, range, message)
        } else {
            let message = format!(
                "{} cannot be ordered with {}",
                describe_operand(left_source, left_type),
                describe_operand(right_source, right_type).trim_end_matches(',')
            );
            self.error(Code::UnsupportedOperation, range, message)
        };
        self.report(diagnostic);
    }

    /// Reports a comparison of a value with a constant string, if the value's schema lists its strings without this
    /// one.
    fn check_constant(&mut self, value: &Expr<'a>, ty: &Type<'a>, constant: &Expr<'a>) {
        let subject = format!("`{}`", self.source(value));
        self.check_listed_text(&subject, ty, constant);
    }

    /// Like [`check_constant`](Self::check_constant), for a value that the message calls `subject`.
    pub(super) fn check_listed_text(&mut self, subject: &str, ty: &Type<'a>, constant: &Expr<'a>) {
        let (Some(allowed), Expr::Const(text)) = (ty.possible_texts(), constant) else { return };
        let Some(text) = text.value.as_str() else { return };
        if allowed.contains(&text) {
            return;
        }
        let quoted: Vec<String> = allowed.iter().map(|text| format!("`{text}`")).collect();
        let message = format!("{subject} is never `{text}`");
        let diagnostic = self.error(Code::NeverEqual, expr_range(constant), message);
        let diagnostic = diagnostic.with_suggestion(text, allowed.iter().copied());
        self.report(diagnostic.with_help(format!("it is one of {}", quoted.join(", "))));
    }

    fn check_contains(
        &mut self,
        item: &Expr<'a>,
        item_type: &Type<'a>,
        container: &Expr<'a>,
        container_type: &Type<'a>,
    ) {
        if let Expr::List(list) = container {
            for constant in &list.items {
                self.check_constant(item, item_type, constant);
                self.check_filtered_text(item, constant);
            }
        }
        let container_item_type = self.schemas.item_type(container_type);
        self.check_constant(container, &container_item_type, item);
        let is_container = |kind: TypeKind| matches!(kind, TypeKind::Text | TypeKind::List | TypeKind::Object);
        self.check_operand_kind(
            container,
            container_type,
            is_container,
            "so it contains nothing",
            "so it may contain nothing",
        );
    }

    fn infer_sum(
        &mut self,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) -> InferredValue<'a> {
        self.note_unchecked_use(left, left_type);
        self.note_unchecked_use(right, right_type);
        let (Some(left_kinds), Some(right_kinds)) = (left_type.kinds(), right_type.kinds()) else {
            return InferredValue::unknown();
        };
        // `true` counts as 1, and `false` as 0.
        let is_number = |kind: TypeKind| matches!(kind, TypeKind::Bool | TypeKind::Number);
        let can_add = |left: TypeKind, right: TypeKind| {
            (is_number(left) && is_number(right)) || (left == right && matches!(left, TypeKind::Text | TypeKind::List))
        };
        let kind_pairs: Vec<(TypeKind, TypeKind)> =
            left_kinds.iter().flat_map(|left| right_kinds.iter().map(|right| (*left, *right))).collect();
        if let Some((left_kind, right_kind)) = kind_pairs.iter().find(|(left, right)| !can_add(*left, *right)) {
            let range = expr_range(left).start..expr_range(right).end;
            let message = format!("`+` cannot join {} and {}", left_kind.describe(), right_kind.describe());
            let diagnostic = if kind_pairs.iter().any(|(left, right)| can_add(*left, *right)) {
                self.warning(Code::UnsupportedOperation, range, format!("{message}, which may happen here"))
            } else {
                self.error(Code::UnsupportedOperation, range, message)
            };
            let has_string = *left_kind == TypeKind::Text || *right_kind == TypeKind::Text;
            let nullable = [(left, left_type), (right, right_type)].into_iter().find(|(_, ty)| is_sometimes_null(ty));
            self.report(match nullable {
                Some((operand, _)) => diagnostic.with_help(self.null_advice(operand)),
                None if has_string => diagnostic.with_help("`~` joins values of any type as strings"),
                None => diagnostic,
            });
        }
        // The sum exists only for operands of the same kind, where booleans are numbers.
        let are_both = |kind: TypeKind| left_kinds.contains(&kind) && right_kinds.contains(&kind);
        let numbers = left_type.numbers().zip(right_type.numbers());
        let number = numbers.map(|(left, right)| Type::Numeric(left.add(right)));
        let has_boolean = left_kinds.iter().chain(&right_kinds).any(|kind| *kind == TypeKind::Bool);
        let can_be_number = |kinds: &[TypeKind]| kinds.iter().any(|kind| is_number(*kind));
        let counted =
            (has_boolean && can_be_number(&left_kinds) && can_be_number(&right_kinds)).then_some(Type::Number);
        let text = are_both(TypeKind::Text).then_some(Type::Text(None));
        let list = are_both(TypeKind::List).then(|| self.schemas.concatenation(left_type, right_type));
        InferredValue::defined(union(number.into_iter().chain(counted).chain(text).chain(list)))
    }

    pub(super) fn check_number(&mut self, expr: &Expr<'a>, ty: &Type<'a>) {
        self.note_unchecked_use(expr, ty);
        self.check_operand_kind(
            expr,
            ty,
            |kind| matches!(kind, TypeKind::Number | TypeKind::Bool),
            "not a number",
            "not a number",
        );
    }

    /// Reports an operand whose kind is never valid or not always valid. The message ends with `if_never` or
    /// `if_not_always`.
    pub(super) fn check_operand_kind(
        &mut self,
        expr: &Expr<'a>,
        ty: &Type<'a>,
        is_valid: impl Fn(TypeKind) -> bool,
        if_never: &str,
        if_not_always: &str,
    ) {
        let Some(kinds) = ty.kinds() else { return };
        let Some(invalid_kind) = kinds.iter().find(|kind| !is_valid(**kind)) else { return };
        let source = self.source(expr);
        let range = expr_range(expr);
        let diagnostic = if kinds.iter().any(|kind| is_valid(*kind)) {
            self.warning(
                Code::UnsupportedOperation,
                range,
                format!("`{source}` may be {}, {if_not_always}", invalid_kind.describe()),
            )
        } else {
            self.error(Code::UnsupportedOperation, range, format!("`{source}` is {}, {if_never}", ty.describe()))
        };
        self.report(diagnostic);
    }
}
