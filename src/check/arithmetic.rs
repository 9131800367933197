//! Infers the results of arithmetic with their ranges, and reports divisions by what may be 0 and operands that may
//! fail.

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::command_outputs::exit_code_advice;
use super::infer::Checker;
use super::narrowing::{expression_path, member_of};
use super::number_narrowing::{constant_number, narrow_numbers};
use super::number_range::{NumberRange, RequiredOrder};
use super::range_calls::counts_items;
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::truth::ConditionReader;
use super::types::{Type, TypeKind};
use crate::diagnostic::{Code, Diagnostic};
use crate::template::expr_range;

/// The limit of arithmetic with integers.
const LARGEST_INTEGER: &str = "an integer of more than 128 bits fails";

impl<'a> Checker<'a> {
    /// Infers the result of `-`, `/`, `//`, `%` or `**`.
    pub(super) fn infer_arithmetic(
        &mut self,
        op: BinOpKind,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) -> InferredValue<'a> {
        self.check_number(left, left_type);
        self.check_number(right, right_type);
        let (left_range, right_range) = (range_of(left_type), range_of(right_type));
        match op {
            BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem => self.check_divisor(right, right_type),
            BinOpKind::Pow => {
                self.check_power(left, left_type, right, right_type);
                self.note_unlimited_power(left, left_type, right, right_type);
            }
            _ => {}
        }
        let are_integers = left_range.is_integer && right_range.is_integer;
        let range = match op {
            BinOpKind::Sub => left_range.add(right_range.negate()),
            // The floor of a quotient is an integer, also if it is stored as a float.
            BinOpKind::FloorDiv => NumberRange::INTEGERS,
            BinOpKind::Rem if are_integers && right_range.min > 0.0 => {
                NumberRange { max: right_range.max - 1.0, ..NumberRange::FROM_ZERO }
            }
            BinOpKind::Pow if are_integers && right_range.min >= 0.0 => match left_range {
                base if base.min > 0.0 => NumberRange::FROM_ONE,
                base if !base.contains(0.0) => NumberRange::INTEGERS.without_zero(),
                _ => NumberRange::INTEGERS,
            },
            _ => NumberRange::ANY,
        };
        InferredValue::defined(Type::Numeric(range))
    }

    /// Infers a product: `*` multiplies numbers, and repeats a string or a list. Reports operands that it does not
    /// accept.
    pub(super) fn infer_product(
        &mut self,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        self.note_unchecked_use(left, left_type);
        self.note_unchecked_use(right, right_type);
        if let (Some(left_kinds), Some(right_kinds)) = (left_type.kinds(), right_type.kinds()) {
            let pairs = left_kinds.iter().flat_map(|left| right_kinds.iter().map(|right| (*left, *right)));
            let refused: Vec<_> = pairs.clone().filter(|(left, right)| !can_multiply(*left, *right)).collect();
            if let Some((left_kind, right_kind)) = refused.first() {
                let range = expr_range(left).start..expr_range(right).end;
                let message = format!("`*` cannot multiply {} and {}", left_kind.describe(), right_kind.describe());
                let diagnostic = if refused.len() < pairs.count() {
                    self.warning(Code::UnsupportedOperation, range, format!("{message}, which may happen here"))
                } else {
                    self.error(Code::UnsupportedOperation, range, message)
                };
                self.report(diagnostic);
            }
            self.check_repetition(&left_kinds, right, right_type, scope);
            self.check_repetition(&right_kinds, left, left_type, scope);
            self.note_unlimited_product(left, left_type, right, right_type);
        }
        InferredValue::defined(match (left_type.kind(), right_type.kind()) {
            (Some(TypeKind::Number), Some(TypeKind::Number)) => {
                Type::Numeric(range_of(left_type).multiply(range_of(right_type)))
            }
            (Some(TypeKind::Text), _) | (_, Some(TypeKind::Text)) => Type::Text(None),
            (Some(TypeKind::List), Some(_)) => Type::List(self.schemas.item_type(left_type).into(), 0),
            (Some(_), Some(TypeKind::List)) => Type::List(self.schemas.item_type(right_type).into(), 0),
            _ => Type::Unknown,
        })
    }

    /// Reports that a string or a list is repeated a number of times that may be a fraction, or that nothing limits.
    fn check_repetition(&mut self, repeated: &[TypeKind], count: &Expr<'a>, ty: &Type<'a>, scope: &TypeScope<'a>) {
        let Some(kind) = repeated.iter().find(|kind| is_repeatable(**kind)) else { return };
        let Some(range) = ty.numbers() else { return };
        if range.is_integer {
            if range.max.is_infinite() && !counts_items(count, scope) {
                self.note_unlimited_number(count, "`*` makes at most 100 million bytes or items");
            }
            return;
        }
        let message =
            format!("`{}` may be a fraction, and `*` then can't repeat {}", self.source(count), kind.describe());
        let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(count), message);
        self.report(diagnostic.with_help("round it: `… | int`, or divide with `//`"));
    }

    /// Reports a power of what may be 0 with an exponent that may be negative: it is a division by 0.
    fn check_power(&mut self, base: &Expr<'a>, base_type: &Type<'a>, exponent: &Expr<'a>, exponent_type: &Type<'a>) {
        let (Some(bases), Some(exponents)) = (base_type.numbers(), exponent_type.numbers()) else { return };
        if !bases.contains(0.0) || exponents.min >= 0.0 {
            return;
        }
        let range = expr_range(base).start..expr_range(exponent).end;
        let (base, exponent) = (self.source(base), self.source(exponent));
        let diagnostic = if bases.is_zero() && exponents.max < 0.0 {
            let message = format!("`{base}` is 0 and `{exponent}` is negative, and `**` then fails");
            self.error(Code::UnsupportedOperation, range, message)
        } else {
            let message = format!("`{base}` may be 0 and `{exponent}` negative, and `**` then fails");
            self.warning(Code::UnsupportedOperation, range, message)
        };
        self.report(diagnostic);
    }

    /// Notes a power of integers that may have more than 128 bits. The square of an integer of JSON has fewer.
    fn note_unlimited_power(
        &mut self,
        base: &Expr<'a>,
        base_type: &Type<'a>,
        exponent: &Expr<'a>,
        exponent_type: &Type<'a>,
    ) {
        let (Some(bases), Some(exponents)) = (base_type.numbers(), exponent_type.numbers()) else { return };
        if bases.min >= -1.0 && bases.max <= 1.0 {
            return;
        }
        if exponents.max.is_infinite() {
            self.note_unlimited_number(exponent, LARGEST_INTEGER);
        } else if exponents.max > 2.0 && is_unlimited(bases) {
            self.note_unlimited_number(base, LARGEST_INTEGER);
        }
    }

    /// Notes a product of three or more integers that may have more than 128 bits. The product of two integers of JSON
    /// has fewer.
    fn note_unlimited_product(
        &mut self,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) {
        let (Some(left_range), Some(right_range)) = (left_type.numbers(), right_type.numbers()) else { return };
        if !is_unlimited(left_range) || !is_unlimited(right_range) {
            return;
        }
        if is_product(left) {
            self.note_unlimited_number(right, LARGEST_INTEGER);
        } else if is_product(right) {
            self.note_unlimited_number(left, LARGEST_INTEGER);
        }
    }

    /// Reports a divisor that is or may be 0, with which the division fails. `false` counts as 0.
    fn check_divisor(&mut self, divisor: &Expr<'a>, ty: &Type<'a>) {
        let may_be_false = ty.kinds().is_some_and(|kinds| kinds.contains(&TypeKind::Bool));
        let zero = ty.numbers().filter(|range| range.contains(0.0));
        if zero.is_none() && !may_be_false {
            return;
        }
        let source = self.source(divisor);
        if zero.is_some_and(NumberRange::is_zero) && !may_be_false {
            let message = format!("`{source}` is 0, and a division by it fails");
            let diagnostic = self.error(Code::UnsupportedOperation, expr_range(divisor), message);
            return self.report(diagnostic);
        }
        let message = format!("`{source}` may be 0, and a division by it fails");
        let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(divisor), message);
        let operand = self.operand_text(divisor);
        let guard = if self.is_template {
            format!("`{{% if {operand} != 0 %}}…{{% endif %}}`")
        } else {
            format!("`… if {operand} != 0 else …`")
        };
        let help = format!("guard it: {guard}, or exclude 0 in its schema, such as with `\"minimum\": 1`");
        self.report(diagnostic.with_help(help));
    }

    /// Reports a comparison of a number with a constant that its schema never allows.
    pub(super) fn check_number_comparison(
        &mut self,
        op: BinOpKind,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
        scope: &TypeScope<'a>,
    ) {
        let ranges = only_numbers(left_type).zip(only_numbers(right_type));
        let Some((left_range, right_range)) = ranges else { return };
        let left_range = self.range_before_condition(left, scope).unwrap_or(left_range);
        let right_range = self.range_before_condition(right, scope).unwrap_or(right_range);
        let is_never = match op {
            BinOpKind::Lt => left_range.is_never(RequiredOrder::Less, right_range),
            BinOpKind::Lte => left_range.is_never(RequiredOrder::LessOrEqual, right_range),
            BinOpKind::Gt => right_range.is_never(RequiredOrder::Less, left_range),
            BinOpKind::Gte => right_range.is_never(RequiredOrder::LessOrEqual, left_range),
            BinOpKind::Eq | BinOpKind::Ne => left_range.is_never(RequiredOrder::Equal, right_range),
            _ => false,
        };
        let (value, range, constant) = match (constant_number(left), constant_number(right)) {
            (None, Some(constant)) => (left, left_range, constant),
            (Some(constant), None) => (right, right_range, constant),
            _ => return,
        };
        let is_always_equal = left_range.is_one_number() && right_range.is_one_number() && !is_never;
        let is_never_true =
            (is_never && !matches!(op, BinOpKind::Ne)) || (matches!(op, BinOpKind::Ne) && is_always_equal);
        // A template can change the members of its namespaces.
        let is_limited = is_limited_by_schema(value, range, constant) && !scope.is_namespace_member(value);
        if !(is_never || is_never_true) || !is_limited {
            return;
        }
        if has_no_number(left, left_type, scope) || has_no_number(right, right_type, scope) {
            return;
        }
        let range_text = range.describe().unwrap_or_else(|| "an integer".to_owned());
        let source = self.source(value);
        let whole_range = expr_range(left).start..expr_range(right).end;
        let diagnostic = if matches!(op, BinOpKind::Eq) || !is_never_true {
            self.error(Code::NeverEqual, whole_range, format!("`{source}` is never {constant}"))
        } else {
            let comparison = self.text.get(whole_range.clone()).unwrap_or_default();
            self.warning(Code::NeverTrue, whole_range, format!("`{comparison}` is never true"))
        };
        let diagnostic = diagnostic.with_help(format!("`{source}` is {range_text}"));
        let base = member_of(value).filter(|(_, name)| *name == "exit_code").map(|(base, _)| self.source(base));
        let advice = base.and_then(|base| exit_code_advice(self.project, base));
        self.report(advice.into_iter().fold(diagnostic, Diagnostic::with_help));
    }

    /// The range of a number that tells cases apart, if a condition about it has selected cases: another step may use
    /// the same prompt without the condition.
    fn range_before_condition(&self, value: &Expr<'a>, scope: &TypeScope<'a>) -> Option<NumberRange> {
        let path = expression_path(value)?;
        let is_about_number =
            |narrowing: &Narrowing| matches!(narrowing, Narrowing::Numbers(_) | Narrowing::Scalars(..));
        let mut own = scope.narrowings().filter(|(narrowed, _)| *narrowed == path);
        if !own.any(|(_, narrowing)| is_about_number(narrowing)) {
            return None;
        }
        only_numbers(&ConditionReader { schemas: self.schemas, scope }.value_type(value))
    }
}

/// Whether the schema of a number and the conditions around it leave no number: the text is never used, and the check
/// has reported the condition.
fn has_no_number<'a>(expr: &Expr<'a>, ty: &Type<'a>, scope: &TypeScope<'a>) -> bool {
    let narrowed = narrow_numbers(ty.clone(), expression_path(expr).as_ref(), scope);
    narrowed.numbers().is_some_and(NumberRange::is_empty)
}

/// Whether nothing limits the numbers of a range to both sides.
fn is_unlimited(range: NumberRange) -> bool {
    range.min.is_infinite() || range.max.is_infinite()
}

/// Whether an expression multiplies numbers.
fn is_product(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::BinOp(inner) if matches!(inner.op, BinOpKind::Mul | BinOpKind::Pow))
}

/// Whether `*` accepts operands of these kinds.
fn can_multiply(left: TypeKind, right: TypeKind) -> bool {
    let is_number = |kind: TypeKind| matches!(kind, TypeKind::Number | TypeKind::Bool);
    (is_number(left) && (is_number(right) || is_repeatable(right))) || (is_repeatable(left) && is_number(right))
}

/// Whether `*` repeats values of a kind.
fn is_repeatable(kind: TypeKind) -> bool {
    matches!(kind, TypeKind::Text | TypeKind::List)
}

/// Whether a schema limits a value to a range that does not contain the constant. A length, or a variable that may
/// contain one, may be compared with a number below its minimum: such a test for an empty list is harmless. A variable
/// with one value may be a switch that the author changes.
fn is_limited_by_schema(value: &Expr<'_>, range: NumberRange, constant: f64) -> bool {
    match value {
        Expr::Filter(inner) => matches!(inner.name, "length" | "count") && constant >= range.max,
        Expr::Var(_) => constant >= range.max && !range.is_one_number(),
        Expr::GetAttr(_) | Expr::GetItem(_) => true,
        _ => false,
    }
}

/// The range of the numbers of a type; all numbers if it may be something else.
pub(super) fn range_of(ty: &Type<'_>) -> NumberRange {
    only_numbers(ty).unwrap_or(NumberRange::ANY)
}

/// The range of a type that allows only numbers.
fn only_numbers(ty: &Type<'_>) -> Option<NumberRange> {
    let has_only_numbers = ty.kinds()?.iter().all(|kind| *kind == TypeKind::Number);
    ty.numbers().filter(|_| has_only_numbers)
}
