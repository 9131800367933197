//! Finds the items that exist in the body of a loop: `list[loop.index0]` in a loop over the list, `list[loop.index]`
//! unless the iteration is the last, `list[n]` in a loop over `range(list | length)`, and `object[name]` in a loop over
//! the names of the object.

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, ForLoop};

use super::condition::Condition;
use super::index_paths::index_text;
use super::infer::Checker;
use super::narrowing::{constant_index, expression_path};
use super::number_narrowing::constant_number;
use super::scope::{Narrowing, TypeScope, root_name};
use super::truth::ConditionReader;
use super::types::{Type, TypeKind};
use crate::template::parse_expression;
use crate::template::walk::arg_expr;

/// Filters whose result has at most as many items as their operand.
const NOT_LENGTHENING: &[&str] =
    &["list", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique"];

/// The indexes of items of a list with as many items as a loop has iterations: that of the current item, from either
/// end, and that of the item before it, which is the last one in the first iteration.
const ITERATION_NUMBERS: &[&str] =
    &["loop.index0", "loop.index - 1", "loop.revindex0", "loop.revindex - 1", "loop.index0 - 1", "loop.index - 2"];

/// The indexes of the item after the current one.
const NEXT_NUMBERS: &[&str] = &["loop.index", "loop.index0 + 1"];

/// The maximum number of first items, left out by a loop, after which facts are known about an item.
const MAX_SHIFT: i64 = 8;

impl<'a> Checker<'a> {
    /// The facts about items that hold in the body of a loop over a value of this type.
    pub(super) fn loop_facts(&self, inner: &ForLoop<'a>, iterated: &Type<'a>) -> Vec<(String, Narrowing)> {
        let lists = counted_lists(&inner.iter);
        let lists = lists.iter().flat_map(|path| self.lists_as_long_as(path));
        let by_iteration =
            lists.flat_map(|list| ITERATION_NUMBERS.iter().map(move |number| format!("{list}[{number}]")));
        let by_number = numbered_items(&inner.target, &inner.iter);
        let has_names = self.element_type(iterated).kind() == Some(TypeKind::Text);
        let by_name = named_items(&inner.target, &inner.iter, has_names);
        let by_outcome = self.outcome_positions(inner);
        let paths = by_iteration.chain(by_number).chain(by_name).chain(by_outcome).chain(shifted_items(&inner.iter));
        paths.map(|path| (path, Narrowing::Defined)).collect()
    }

    /// The paths of the items whose position is the `index` of the current item, which is an outcome of `for_each`.
    fn outcome_positions(&self, inner: &ForLoop<'a>) -> Vec<String> {
        let Expr::Var(target) = &inner.target else { return Vec::new() };
        self.lists_of_outcomes(&inner.iter).iter().map(|list| format!("{list}[{}.index]", target.id)).collect()
    }

    /// The conditions that are true in the body of a loop: the item after the current one exists, unless the current
    /// one is the last. `scope` is that of the body.
    pub(super) fn loop_conditions(&self, inner: &ForLoop<'a>, scope: &TypeScope<'a>) -> Vec<Condition> {
        let reader = ConditionReader { schemas: self.schemas, scope };
        let Ok(is_last) = parse_expression("loop.last").map(|expr| reader.truth(&expr)) else { return Vec::new() };
        let lists = counted_lists(&inner.iter);
        let lists = lists.iter().flat_map(|path| self.lists_as_long_as(path));
        let lists = lists.filter(|list| scope.get(root_name(list)).is_some());
        let items = lists.flat_map(|list| NEXT_NUMBERS.iter().map(move |number| format!("{list}[{number}]")));
        let presences = items.filter_map(|item| {
            let parsed = parse_expression(&item).ok()?;
            // The path of a property with another name than an identifier has another meaning as an expression.
            (expression_path(&parsed).as_deref() == Some(item.as_str())).then(|| reader.presence(&parsed))
        });
        presences.map(|presence| Condition::any([is_last.clone(), presence])).collect()
    }
}

/// The paths of the lists that have at least as many items as a loop over the expression has iterations.
pub(super) fn counted_lists(expr: &Expr<'_>) -> Vec<String> {
    match expr {
        Expr::Filter(inner) if inner.name == "zip" => {
            inner.expr.iter().chain(inner.args.iter().map(arg_expr)).flat_map(counted_lists).collect()
        }
        Expr::Filter(inner) if NOT_LENGTHENING.contains(&inner.name) => {
            inner.expr.as_ref().map(counted_lists).unwrap_or_default()
        }
        Expr::Slice(inner) => counted_lists(&inner.expr),
        other => expression_path(other).into_iter().collect(),
    }
}

/// The path of the list of which an expression is a part without its first items, and the number of these.
pub(super) fn shifted_list(expr: &Expr<'_>) -> Option<(String, i64)> {
    let Expr::Slice(slice) = expr else { return None };
    let start = constant_index(slice.start.as_ref()?).filter(|start| *start > 0)?;
    let has_step = slice.step.as_ref().is_some_and(|step| constant_index(step) != Some(1));
    expression_path(&slice.expr).filter(|_| !has_step).map(|path| (path, start))
}

/// The paths of the items of a list, up to the current one, in a loop over a part of the list without its first items.
fn shifted_items(iter: &Expr<'_>) -> Vec<String> {
    let Some((list, shift)) = shifted_list(iter) else { return Vec::new() };
    let numbers = (1..=shift.min(MAX_SHIFT)).flat_map(|shift| {
        let from_one = if shift == 1 { "loop.index".to_owned() } else { format!("loop.index + {}", shift - 1) };
        [format!("loop.index0 + {shift}"), from_one]
    });
    numbers.map(|number| format!("{list}[{number}]")).collect()
}

/// The paths of the items that exist for each number of a loop over `range(list | length)`.
fn numbered_items(target: &Expr<'_>, iter: &Expr<'_>) -> Vec<String> {
    let (Expr::Var(target), Expr::Call(call)) = (target, iter) else { return Vec::new() };
    if !matches!(&call.expr, Expr::Var(function) if function.id == "range") {
        return Vec::new();
    }
    let arguments: Option<Vec<&Expr<'_>>> = call
        .args
        .iter()
        .map(|argument| match argument {
            CallArg::Pos(expr) => Some(expr),
            CallArg::Kwarg(..) | CallArg::PosSplat(_) | CallArg::KwargSplat(_) => None,
        })
        .collect();
    let is_not_negative = |expr: &Expr<'_>| constant_number(expr).is_some_and(|number| number >= 0.0);
    let end = match arguments.as_deref() {
        Some([end]) => *end,
        Some([start, end]) if is_not_negative(start) => *end,
        Some([start, end, step]) if is_not_negative(start) && is_not_negative(step) => *end,
        _ => return Vec::new(),
    };
    let name = target.id;
    match end {
        Expr::BinOp(inner) if matches!(inner.op, BinOpKind::Sub) => {
            let (Some(list), Some(count)) = (list_of_length(&inner.left), constant_number(&inner.right)) else {
                return Vec::new();
            };
            let has_next = count >= 1.0;
            let next = has_next.then(|| format!("{list}[{name} + 1]"));
            [format!("{list}[{name}]")].into_iter().filter(|_| count >= 0.0).chain(next).collect()
        }
        end => list_of_length(end).map(|list| format!("{list}[{name}]")).into_iter().collect(),
    }
}

/// The path of the list whose length an expression computes.
fn list_of_length(expr: &Expr<'_>) -> Option<String> {
    index_text(expr)?.strip_suffix(" | length").map(str::to_owned)
}

/// The paths of the values that exist for each name of an object. `has_names` tells whether the loop is over strings.
fn named_items(target: &Expr<'_>, iter: &Expr<'_>, has_names: bool) -> Vec<String> {
    let (name, objects) = match (target, iter) {
        (name, iter) if has_names => (name, counted_lists(iter)),
        (Expr::Tuple(target), iter) => (target.items.first().unwrap_or(iter), paired_objects(iter)),
        (Expr::List(target), iter) => (target.items.first().unwrap_or(iter), paired_objects(iter)),
        _ => return Vec::new(),
    };
    let Expr::Var(name) = name else { return Vec::new() };
    objects.iter().map(|object| format!("{object}[{}]", name.id)).collect()
}

/// The paths of the objects of whose names and values an expression is a list.
fn paired_objects(iter: &Expr<'_>) -> Vec<String> {
    match iter {
        Expr::Filter(inner) if matches!(inner.name, "items" | "dictsort") => {
            inner.expr.as_ref().map(counted_lists).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
