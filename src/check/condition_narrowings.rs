//! Derives facts about values from a condition, for the branch in which it is true and for the branch in which it is
//! false.

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, UnaryOpKind};

use super::index_paths::{comparison_pairs, index_text};
use super::narrowing::expression_path;
use super::number_narrowing::{compared_range, constant_number, listed_range};
use super::number_range::NumberRange;
use super::scalars::Scalar;
use super::scope::Narrowing;
use super::types::TypeKind;
use crate::template::walk::arg_expr;

/// The kinds of the values that can equal a number: `true` equals 1.
const NUMBERS: &[TypeKind] = &[TypeKind::Number, TypeKind::Bool];

/// The narrowings that follow when the condition evaluates to `outcome`, each with the path of its value.
pub(super) fn condition_narrowings(expr: &Expr<'_>, outcome: bool) -> Vec<(String, Narrowing)> {
    let mut collected = Vec::new();
    collect_narrowings(expr, outcome, &mut collected);
    collected
}

fn collect_narrowings(expr: &Expr<'_>, outcome: bool, narrowings: &mut Vec<(String, Narrowing)>) {
    match expr {
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Not) => {
            collect_narrowings(&inner.expr, !outcome, narrowings);
        }
        Expr::BinOp(inner) => match (inner.op, outcome) {
            (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {
                collect_narrowings(&inner.left, outcome, narrowings);
                collect_narrowings(&inner.right, outcome, narrowings);
            }
            (BinOpKind::ScAnd | BinOpKind::ScOr, _) => {}
            (BinOpKind::In, _) => collect_membership(&inner.left, &inner.right, outcome, narrowings),
            (op, _) => collect_comparison(op, &inner.left, &inner.right, outcome, narrowings),
        },
        Expr::Compare(inner) if outcome => {
            for (op, left, right) in comparison_pairs(inner) {
                collect_comparison(op, left, right, true, narrowings);
            }
        }
        Expr::Test(inner) => {
            if let Some(path) = expression_path(&inner.expr) {
                let established = test_narrowings(inner.name, &inner.args, outcome);
                narrowings.extend(established.into_iter().map(|narrowing| (path.clone(), narrowing)));
            }
            if let ("in", Some(container)) = (inner.name, inner.args.first().map(arg_expr)) {
                collect_member(&inner.expr, container, outcome, narrowings);
            }
        }
        // A length counts as true only if the list is not empty.
        Expr::Filter(_) => {
            if let (Some(path), true) = (length_operand(expr), outcome) {
                narrowings.push((path, Narrowing::Truthy));
            }
        }
        other => {
            let narrowing = if outcome { Narrowing::Truthy } else { Narrowing::Falsy };
            narrowings.extend(expression_path(other).map(|path| (path, narrowing)));
        }
    }
}

/// The path of the value whose length an expression computes.
pub(super) fn length_operand(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Filter(inner) if matches!(inner.name, "length" | "count") => expression_path(inner.expr.as_ref()?),
        _ => None,
    }
}

fn string_constant(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Const(constant) => constant.value.as_str().map(str::to_owned),
        _ => None,
    }
}

fn integer_constant(expr: &Expr<'_>) -> Option<u64> {
    match expr {
        Expr::Const(constant) => constant.value.as_usize().and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// Collects the narrowings that follow from `key in value` and `value in [...]`.
fn collect_membership(item: &Expr<'_>, container: &Expr<'_>, outcome: bool, narrowings: &mut Vec<(String, Narrowing)>) {
    collect_member(item, container, outcome, narrowings);
    if let (Some(path), Expr::List(list)) = (expression_path(item), container) {
        let texts: Option<Vec<String>> = list.items.iter().map(string_constant).collect();
        narrowings.extend(texts.map(|texts| (path.clone(), Narrowing::OneOf(texts, outcome))));
        narrowings.extend(listed_scalars(&list.items, outcome).map(|narrowing| (path.clone(), narrowing)));
        narrowings.extend(listed_range(&list.items, outcome).map(|range| (path, Narrowing::Numbers(range))));
    }
}

/// What `value in [...]` shows if the list contains null, booleans or numbers. If the value is in the list, it may also
/// be one of the other items.
fn listed_scalars(items: &[Expr<'_>], outcome: bool) -> Option<Narrowing> {
    let scalars: Vec<Scalar> = items.iter().filter_map(Scalar::from_constant).collect();
    let are_all = scalars.len() == items.len();
    (!scalars.is_empty() && (are_all || !outcome)).then_some(Narrowing::Scalars(scalars, outcome))
}

/// Collects what `key in value` shows about the member `value[key]`.
fn collect_member(item: &Expr<'_>, container: &Expr<'_>, outcome: bool, narrowings: &mut Vec<(String, Narrowing)>) {
    let Some(path) = expression_path(container).filter(|_| outcome) else { return };
    match (item, index_text(item)) {
        (Expr::Const(_), _) => {
            narrowings.extend(string_constant(item).map(|key| (format!("{path}.{key}"), Narrowing::Defined)));
        }
        (_, Some(key)) => narrowings.push((format!("{path}[{key}]"), Narrowing::Member)),
        (_, None) => {}
    }
}

fn collect_comparison(
    op: BinOpKind,
    left: &Expr<'_>,
    right: &Expr<'_>,
    outcome: bool,
    narrowings: &mut Vec<(String, Narrowing)>,
) {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    // A comparison with an undefined value fails, so a comparison that is true shows that the value is defined.
    if outcome && matches!(op, Eq | Gt | Gte | Lt | Lte) {
        narrowings.extend(expression_path(left).map(|path| (path, Narrowing::Defined)));
    }
    let equal = match (op, outcome) {
        (Eq, true) | (Ne, false) => Some(true),
        (Eq, false) | (Ne, true) => Some(false),
        _ => None,
    };
    for (value, constant) in [(left, right), (right, left)] {
        if let (Some(path), Some(text), Some(equal)) = (expression_path(value), string_constant(constant), equal) {
            narrowings.push((path, Narrowing::OneOf(vec![text], equal)));
        }
    }
    for (value, constant) in [(left, right), (right, left)] {
        let is_null = matches!(constant, Expr::Const(constant) if constant.value.is_none());
        let Some((path, equal)) = expression_path(value).zip(equal) else { continue };
        if let Some(scalar) = Scalar::from_constant(constant) {
            narrowings.push((path.clone(), Narrowing::Scalars(vec![scalar], equal)));
        }
        if is_null {
            let is_null = Narrowing::Kinds(vec![TypeKind::Null], true);
            narrowings.push((path, if equal { is_null } else { Narrowing::NotNull }));
        }
    }
    for (value, op, constant) in [(left, op, right), (right, swap_operands(op), left)] {
        let Some(path) = expression_path(value) else { continue };
        if equal == Some(true) && constant_number(constant).is_some() {
            narrowings.push((path.clone(), Narrowing::Kinds(NUMBERS.to_vec(), true)));
        }
        narrowings.extend(compared_range(op, constant, outcome).map(|range| (path, Narrowing::Numbers(range))));
    }
    let (list, op, other) = match (length_operand(left), length_operand(right)) {
        (Some(list), None) => (list, op, right),
        (None, Some(list)) => (list, swap_operands(op), left),
        _ => return,
    };
    // `n < list | length` shows that `list[n]` exists.
    if let (Some(index), (Gt, true) | (Lte, false)) = (index_text(other), (op, outcome)) {
        narrowings.push((format!("{list}[{index}]"), Narrowing::Defined));
    }
    let Some(count) = integer_constant(other) else { return };
    let max_items = match (op, outcome) {
        (Lt, true) | (Gte, false) => count.checked_sub(1),
        (Lte | Eq, true) | (Gt | Ne, false) => Some(count),
        _ => None,
    };
    narrowings.extend(max_items.map(|max_items| (list.clone(), Narrowing::MaxItems(max_items))));
    let min_items = match (op, outcome) {
        (Gt, true) | (Lte, false) => count.saturating_add(1),
        (Gte | Eq, true) | (Lt | Ne, false) => count,
        (Ne, true) | (Eq, false) if count == 0 => 1,
        _ => return,
    };
    narrowings.push((list, Narrowing::MinItems(min_items)));
}

/// The operator that gives the same result if its operands are swapped.
fn swap_operands(op: BinOpKind) -> BinOpKind {
    match op {
        BinOpKind::Gt => BinOpKind::Lt,
        BinOpKind::Gte => BinOpKind::Lte,
        BinOpKind::Lt => BinOpKind::Gt,
        BinOpKind::Lte => BinOpKind::Gte,
        other => other,
    }
}

/// The narrowings of a value that follow when a test such as `is string` has this outcome.
pub(super) fn test_narrowings(test: &str, args: &[CallArg<'_>], outcome: bool) -> Vec<Narrowing> {
    let mut narrowings = Vec::new();
    match (test, outcome) {
        ("defined", true) | ("undefined", false) => narrowings.push(Narrowing::Defined),
        ("defined", false) | ("undefined", true) => narrowings.push(Narrowing::Undefined),
        ("none", false) => narrowings.push(Narrowing::NotNull),
        // The results of these tests establish nothing: they can be the same for an undefined value, which is a
        // sequence, differs from every other value and is less than every other value.
        ("none" | "false" | "sequence" | "iterable" | "ne" | "!=" | "lt" | "<" | "le" | "<=", _) => {}
        (_, true) => narrowings.extend([Narrowing::Defined, Narrowing::NotNull]),
        (_, false) => {}
    }
    let kinds: &[TypeKind] = match (test, outcome) {
        ("string", _) => &[TypeKind::Text],
        ("mapping", _) => &[TypeKind::Object],
        ("sequence", _) => &[TypeKind::List],
        ("boolean", _) => &[TypeKind::Bool],
        ("number", _) => NUMBERS,
        ("none", _) => &[TypeKind::Null],
        // These tests are false for other numbers, too.
        ("integer" | "int" | "float", true) => &[TypeKind::Number],
        ("even" | "odd", true) => NUMBERS,
        (_, _) => &[],
    };
    if !kinds.is_empty() {
        narrowings.push(Narrowing::Kinds(kinds.to_vec(), outcome));
    }
    let first_arg = args.first().map(arg_expr);
    let texts = match (test, first_arg) {
        ("eq" | "==" | "equalto" | "ne" | "!=", Some(constant)) => string_constant(constant).map(|text| vec![text]),
        ("in", Some(Expr::List(list))) => list.items.iter().map(string_constant).collect(),
        (_, _) => None,
    };
    let is_equal = outcome != matches!(test, "ne" | "!=");
    narrowings.extend(texts.map(|texts| Narrowing::OneOf(texts, is_equal)));
    narrowings.extend(match (test, first_arg) {
        ("true", _) => Some(Narrowing::Scalars(vec![Scalar::Bool(true)], outcome)),
        ("false", _) => Some(Narrowing::Scalars(vec![Scalar::Bool(false)], outcome)),
        ("eq" | "==" | "equalto" | "ne" | "!=", Some(constant)) => {
            Scalar::from_constant(constant).map(|scalar| Narrowing::Scalars(vec![scalar], is_equal))
        }
        ("in", Some(Expr::List(list))) => listed_scalars(&list.items, outcome),
        (_, _) => None,
    });
    let range = match (test, first_arg) {
        ("integer" | "int", _) => outcome.then_some(NumberRange::INTEGERS),
        ("in", Some(Expr::List(list))) => listed_range(&list.items, outcome),
        (_, Some(constant)) => comparison_of_test(test).and_then(|op| compared_range(op, constant, outcome)),
        (_, None) => None,
    };
    narrowings.extend(range.map(Narrowing::Numbers));
    narrowings
}

/// The comparison that a test performs.
pub(super) fn comparison_of_test(test: &str) -> Option<BinOpKind> {
    match test {
        "eq" | "==" | "equalto" => Some(BinOpKind::Eq),
        "ne" | "!=" => Some(BinOpKind::Ne),
        "lt" | "<" => Some(BinOpKind::Lt),
        "le" | "<=" => Some(BinOpKind::Lte),
        "gt" | ">" => Some(BinOpKind::Gt),
        "ge" | ">=" => Some(BinOpKind::Gte),
        _ => None,
    }
}
