//! Finds the indexes of items that exist because another list has as many items: the `index` of `for_each` over the list
//! or over a part of it, and the `index` of an outcome in its result.

use std::rc::Rc;

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::infer::{Checker, TextLocation};
use super::loop_facts::{counted_lists, shifted_list};
use super::mapped_lists::{MappedLists, MappedOutput};
use super::narrowing::{constant_index, expression_path};
use super::scope::depends_on;
use crate::config::{child_pointer, step_and_ancestors};
use crate::model::Step;
use crate::model::step::OnError;
use crate::template::parse_expression;

/// Filters whose result contains only items of their operand.
const KEEPING_ITEMS: &[&str] = &["list", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique"];

impl<'a> Checker<'a> {
    /// Whether an expression computes a position in a list from the item of `for_each`: its `index`, or the `index` of
    /// an item that is the outcome of another item.
    pub(super) fn is_position_in(&self, key: &Expr<'_>, list: Option<&str>) -> bool {
        let Some(list) = list else { return false };
        let is_listed = |paths: Vec<String>| paths.iter().any(|path| path == list);
        let mapped = || parse_expression(self.mapped_list()?).ok();
        match key {
            Expr::Var(var) if var.id == "index" => {
                let paths = mapped().map(|mapped| counted_lists(&mapped)).unwrap_or_default();
                is_listed(paths.iter().flat_map(|path| self.lists_as_long_as(path)).collect())
            }
            // The `index` in a part of a list without its first items.
            Expr::BinOp(sum) if matches!(sum.op, BinOpKind::Add) => {
                let is_index = |expr: &Expr<'_>| matches!(expr, Expr::Var(var) if var.id == "index");
                let added = match (&sum.left, &sum.right) {
                    (index, added) | (added, index) if is_index(index) => constant_index(added),
                    _ => None,
                };
                let shifted = mapped().and_then(|mapped| shifted_list(&mapped));
                added.zip(shifted).is_some_and(|(added, (path, shift))| path == list && (0..=shift).contains(&added))
            }
            Expr::GetAttr(member)
                if member.name == "index" && matches!(&member.expr, Expr::Var(var) if var.id == "item") =>
            {
                mapped().is_some_and(|mapped| is_listed(self.lists_of_outcomes(&mapped)))
            }
            _ => false,
        }
    }

    /// The list over which the nearest enclosing `for_each` maps, whose `index` the text sees.
    fn mapped_list(&self) -> Option<&'a str> {
        self.nearest_mapping_step()?.1.for_each.as_deref().map(str::trim)
    }

    /// The nearest enclosing step with `for_each` whose items the text sees, with its pointer.
    fn nearest_mapping_step(&self) -> Option<(String, &'a Step)> {
        let scoped_step = self.scoped_step?;
        // `when` and `for_each` do not see the items of their own step.
        let list_texts = ["when", "for_each"].map(|key| child_pointer(&scoped_step.pointer, key));
        let is_before_items = matches!(&self.location, TextLocation::Yaml(pointer) if list_texts.contains(pointer));
        let pointer = &scoped_step.pointer;
        self.mapping_step_around(pointer, !is_before_items)
    }

    /// The nearest step with `for_each` that encloses the step at a pointer; with `or_itself`, this may be the step
    /// itself.
    fn mapping_step_around(&self, pointer: &str, or_itself: bool) -> Option<(String, &'a Step)> {
        let mut steps = step_and_ancestors(&self.project.pipeline, pointer).into_iter().rev();
        steps.find(|(other, step)| step.for_each.is_some() && (or_itself || other != pointer))
    }

    /// The lists that have at least as many items as the list at a path: the list itself, the results of `for_each`
    /// over it, and the lists for whose items it contains the results of `for_each`.
    pub(super) fn lists_as_long_as(&self, path: &str) -> Vec<String> {
        let lists = self.mapped_lists();
        let mut found = vec![path.to_owned()];
        for mapped in lists.over(path) {
            if !depends_on_item(path) || self.sees_item_around(mapped.step, &lists) {
                found.push(mapped.output.to_owned());
            }
        }
        for mapped in lists.with_output(path).iter().filter(|mapped| mapped.list != path) {
            found.extend(self.counted_lists_of(mapped, &lists));
        }
        found
    }

    /// The lists in which the `index` of each item of an expression is the position of an item: the items are outcomes
    /// of `for_each` over these lists.
    pub(super) fn lists_of_outcomes(&self, items: &Expr<'_>) -> Vec<String> {
        let Some(path) = kept_list(items) else { return Vec::new() };
        let lists = self.mapped_lists();
        let outcomes = lists.with_output(&path).iter();
        let outcomes = outcomes.filter(|mapped| mapped.step.on_error == Some(OnError::Continue));
        outcomes.flat_map(|mapped| self.counted_lists_of(mapped, &lists)).collect()
    }

    /// The lists of a step with `for_each` that have at least as many items as its result, and that mean the same where
    /// the text is.
    fn counted_lists_of(&self, mapped: &MappedOutput<'a>, lists: &MappedLists<'a>) -> Vec<String> {
        let counted = parse_expression(mapped.list).map(|parsed| counted_lists(&parsed)).unwrap_or_default();
        let is_same = |list: &String| !depends_on_item(list) || self.sees_item_around(mapped.step, lists);
        counted.into_iter().filter(is_same).collect()
    }

    /// The steps of the pipeline that map lists.
    fn mapped_lists(&self) -> Rc<MappedLists<'a>> {
        let of_pipeline = || Rc::new(MappedLists::of_pipeline(&self.project.pipeline));
        self.scoped_step.map_or_else(of_pipeline, |scoped_step| Rc::clone(&scoped_step.mapped_lists))
    }

    /// Whether the text sees the item that the list of a step can use.
    fn sees_item_around(&self, step: &Step, lists: &MappedLists<'a>) -> bool {
        let around = lists.pointer_of(step).and_then(|pointer| self.mapping_step_around(pointer, false));
        let seen = self.nearest_mapping_step();
        around.zip(seen).is_some_and(|((around, _), (seen, _))| around == seen)
    }
}

/// Whether a path leads to the item of `for_each`, to a part of it, or to another value that depends on it.
fn depends_on_item(path: &str) -> bool {
    ["item", "index"].iter().any(|name| depends_on(path, name))
}

/// The path of the list from which all items of an expression come.
fn kept_list(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Filter(inner) if KEEPING_ITEMS.contains(&inner.name) => kept_list(inner.expr.as_ref()?),
        Expr::Slice(inner) => kept_list(&inner.expr),
        other => expression_path(other),
    }
}
