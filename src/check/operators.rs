//! Infers the types of operators, and reports comparisons that can't be true and sums of values that can't be added.

use minijinja::machinery::ast::{BinOpKind, CompareOp, CompareOpKind, Expr};

use super::infer::Checker;
use super::scope::{InferredValue, TypeScope};
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
        let (left_type, right_type) = (self.infer_defined(left, scope).ty, self.infer_defined(right, scope).ty);
        let comparison = match op {
            BinOpKind::Eq | BinOpKind::Ne => Comparison::Equal,
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => Comparison::Order,
            BinOpKind::In => Comparison::Contains,
            BinOpKind::Concat => return InferredValue::defined(Type::Text(None)),
            BinOpKind::Add => return self.infer_sum(left, &left_type, right, &right_type),
            BinOpKind::Mul => return InferredValue::defined(infer_product(&left_type, &right_type)),
            BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => {
                self.check_number(left, &left_type);
                self.check_number(right, &right_type);
                return InferredValue::defined(Type::Number);
            }
            BinOpKind::ScAnd | BinOpKind::ScOr => return InferredValue::unknown(),
        };
        self.check_comparison(comparison, left, &left_type, right, &right_type);
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
        let mut left_type = self.infer_defined(left, scope).ty;
        for op in ops {
            let right_type = self.infer_defined(&op.expr, scope).ty;
            let comparison = match op.op {
                CompareOpKind::Eq | CompareOpKind::Ne => Comparison::Equal,
                CompareOpKind::Lt | CompareOpKind::Lte | CompareOpKind::Gt | CompareOpKind::Gte => Comparison::Order,
                CompareOpKind::In | CompareOpKind::NotIn => Comparison::Contains,
            };
            self.check_comparison(comparison, left, &left_type, &op.expr, &right_type);
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
        let (Some(first), Some(second)) = (left_type.kinds(), right_type.kinds()) else { return };
        if first.iter().any(|kind| second.contains(kind)) {
            return;
        }
        let range = expr_range(left).start..expr_range(right).end;
        let (left_source, right_source) = (self.source(left), self.source(right));
        let describe = |text: &str, ty: &Type<'a>| {
            let type_text = ty.describe();
            if text.starts_with(['"', '\'']) || text == "none" { type_text } else { format!("`{text}`, {type_text},") }
        };
        let has_null = first == [TypeKind::Null] || second == [TypeKind::Null];
        let diagnostic = if comparison == Comparison::Equal && has_null {
            let compared = if first == [TypeKind::Null] { right_source } else { left_source };
            self.warning(Code::NeverEqual, range, format!("`{compared}` is never null"))
        } else if comparison == Comparison::Equal {
            let message = format!(
                "{} can never equal {}",
                describe(left_source, left_type),
                describe(right_source, right_type).trim_end_matches(',')
            );
            self.error(Code::NeverEqual, range, message)
        } else {
            let message = format!(
                "{} cannot be ordered with {}",
                describe(left_source, left_type),
                describe(right_source, right_type).trim_end_matches(',')
            );
            self.error(Code::UnsupportedOperation, range, message)
        };
        self.report(diagnostic);
    }

    /// Reports a comparison with a constant that is not one of the listed values of the other side.
    fn check_constant(&mut self, value: &Expr<'a>, ty: &Type<'a>, constant: &Expr<'a>) {
        let (Type::Text(Some(allowed)), Expr::Const(text)) = (ty, constant) else { return };
        let Some(text) = text.value.as_str() else { return };
        if allowed.contains(&text) {
            return;
        }
        let listed: Vec<String> = allowed.iter().map(|text| format!("`{text}`")).collect();
        let message = format!("`{}` is never `{text}`", self.source(value));
        let diagnostic = self.error(Code::NeverEqual, expr_range(constant), message);
        let diagnostic = diagnostic.with_suggestion(text, allowed.iter().copied());
        self.report(diagnostic.with_help(format!("it is one of {}", listed.join(", "))));
    }

    fn check_contains(
        &mut self,
        item: &Expr<'a>,
        item_type: &Type<'a>,
        container: &Expr<'a>,
        container_type: &Type<'a>,
    ) {
        if let Expr::List(list) = container {
            list.items.iter().for_each(|constant| self.check_constant(item, item_type, constant));
        }
        let element = self.schemas.items(container_type);
        self.check_constant(container, &element, item);
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
        let (Some(first), Some(second)) = (left_type.kinds(), right_type.kinds()) else {
            return InferredValue::unknown();
        };
        let can_add =
            |x: TypeKind, y: TypeKind| x == y && matches!(x, TypeKind::Number | TypeKind::Text | TypeKind::List);
        let pairs: Vec<(TypeKind, TypeKind)> = first.iter().flat_map(|x| second.iter().map(|y| (*x, *y))).collect();
        if let Some((x, y)) = pairs.iter().find(|(x, y)| !can_add(*x, *y)) {
            let range = expr_range(left).start..expr_range(right).end;
            let message = format!("`+` cannot join {} and {}", x.describe(), y.describe());
            let diagnostic = if pairs.iter().any(|(x, y)| can_add(*x, *y)) {
                self.warning(Code::UnsupportedOperation, range, format!("{message}, which may happen here"))
            } else {
                self.error(Code::UnsupportedOperation, range, message)
            };
            let has_string = *x == TypeKind::Text || *y == TypeKind::Text;
            self.report(if has_string {
                diagnostic.with_help("`~` joins values of any type as strings")
            } else {
                diagnostic
            });
        }
        InferredValue::defined(match (left_type.kind(), right_type.kind()) {
            (Some(TypeKind::Number), Some(TypeKind::Number)) => Type::Number,
            (Some(TypeKind::Text), Some(TypeKind::Text)) => Type::Text(None),
            (Some(TypeKind::List), Some(TypeKind::List)) => Type::List(
                union([self.schemas.items(left_type), self.schemas.items(right_type)]).into(),
                left_type.min_length() + right_type.min_length(),
            ),
            (_, _) => Type::Unknown,
        })
    }

    fn check_number(&mut self, expr: &Expr<'a>, ty: &Type<'a>) {
        self.check_operand_kind(
            expr,
            ty,
            |kind| matches!(kind, TypeKind::Number | TypeKind::Bool),
            "not a number",
            "not a number",
        );
    }

    /// Reports an operand whose kind is never, or not always, valid. The message ends with `if_certain` or
    /// `if_possible`.
    pub(super) fn check_operand_kind(
        &mut self,
        expr: &Expr<'a>,
        ty: &Type<'a>,
        is_valid: impl Fn(TypeKind) -> bool,
        if_certain: &str,
        if_possible: &str,
    ) {
        let Some(kinds) = ty.kinds() else { return };
        let Some(wrong) = kinds.iter().find(|kind| !is_valid(**kind)) else { return };
        let source = self.source(expr);
        let range = expr_range(expr);
        let diagnostic = if kinds.iter().any(|kind| is_valid(*kind)) {
            self.warning(
                Code::UnsupportedOperation,
                range,
                format!("`{source}` may be {}, {if_possible}", wrong.describe()),
            )
        } else {
            self.error(Code::UnsupportedOperation, range, format!("`{source}` is {}, {if_certain}", ty.describe()))
        };
        self.report(diagnostic);
    }
}

/// The type of a product: `*` multiplies numbers, and repeats a string.
fn infer_product<'a>(left_type: &Type<'a>, right_type: &Type<'a>) -> Type<'a> {
    match (left_type.kind(), right_type.kind()) {
        (Some(TypeKind::Number), Some(TypeKind::Number)) => Type::Number,
        (Some(TypeKind::Text), _) | (_, Some(TypeKind::Text)) => Type::Text(None),
        _ => Type::Unknown,
    }
}
