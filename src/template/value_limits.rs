//! Limits the size and depth of template values, and charges fuel for reading them.
//!
//! A value is a tree of nodes: its lists, objects, keys and scalars. Several places of a tree may share one node.
//! `{% set ns.s = [ns.s, ns.s] %}` doubles the number of nodes without copying anything, and `[x] * 1000000` creates
//! its items only when something reads them. MiniJinja charges fuel only for copied data, so comparing, sorting or
//! printing such a value could run almost endlessly or exhaust the stack. Therefore every operation that reads a whole
//! value first consumes fuel for each of its nodes, and values that a template stores in a variable are limited in size
//! and depth.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value as TemplateValue};

/// The maximum number of nodes of a value. A shared node counts at each of its places.
const MAX_NODES: u64 = 1_000_000;
/// The maximum nesting depth of lists and objects.
const MAX_DEPTH: usize = 200;
/// The number of nodes that one unit of fuel pays for.
const NODES_PER_FUEL: u64 = 32;
/// The number of bytes of a string that one unit of fuel pays for, as in MiniJinja.
const BYTES_PER_FUEL: u64 = 64;

/// The part of its arguments that a filter or test reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadExtent {
    /// At most a few items.
    Few,
    /// All items, but not their contents.
    Items,
    /// Everything, including the contents of items: it compares, sorts or prints.
    Whole,
}

/// Consumes fuel for the data that a filter or test is about to read.
pub(super) fn charge_fuel(state: &State<'_, '_>, extent: ReadExtent, values: &[TemplateValue]) -> Result<(), Error> {
    // Every filter and test may read a whole string argument.
    let text_bytes =
        values.iter().filter_map(TemplateValue::as_str).fold(0, |sum: u64, text| sum.saturating_add(text.len() as u64));
    state.consume_fuel(text_bytes / BYTES_PER_FUEL)?;
    match extent {
        ReadExtent::Few => Ok(()),
        ReadExtent::Items => {
            let items = values
                .iter()
                .filter_map(TemplateValue::len)
                .fold(0, |sum: u64, count| sum.saturating_add(count as u64));
            state.consume_fuel(items / NODES_PER_FUEL)
        }
        ReadExtent::Whole => values.iter().try_for_each(|value| charge_fuel_for_whole_value(state, value)),
    }
}

/// Consumes fuel for reading a whole value. Refuses a value that is too large or too deep, or that contains a
/// namespace.
pub(super) fn charge_fuel_for_whole_value(state: &State<'_, '_>, value: &TemplateValue) -> Result<(), Error> {
    let mut counter = NodeCounter::default();
    let result = counter.count_value(value, 0);
    // Consumes fuel even if orch then refuses the value, because reading its nodes was work.
    state.consume_fuel(counter.count / NODES_PER_FUEL)?;
    result
}

#[derive(Default)]
struct NodeCounter {
    count: u64,
}

impl NodeCounter {
    fn count_value(&mut self, value: &TemplateValue, depth: usize) -> Result<(), Error> {
        self.count += 1;
        if self.count > MAX_NODES {
            return Err(too_large_error("the value has more than a million nodes (lists, objects, keys and scalars)"));
        }
        let kind = value.kind();
        if !matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err(too_large_error("the value is nested more than 200 levels deep"));
        }
        // A namespace can contain itself, so its nodes would never end.
        if depth > 0 && is_namespace(value) {
            return Err(nested_namespace_error());
        }
        self.count_children(value, kind, depth)
    }

    fn count_children(&mut self, value: &TemplateValue, kind: ValueKind, depth: usize) -> Result<(), Error> {
        for item in value.try_iter()? {
            self.count_value(&item, depth + 1)?;
            if kind == ValueKind::Map {
                self.count_value(&value.get_item(&item)?, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Whether `namespace()` created a value. MiniJinja's type is private, so this compares the type's name.
fn is_namespace(value: &TemplateValue) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.repr() == ObjectRepr::Map && object.type_name().ends_with("::Namespace"))
}

fn nested_namespace_error() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a namespace can't be part of another value")
}

fn too_large_error(message: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, message)
}

/// The filter `__check_size`. orch inserts it into every template around assigned values, results of expressions, and
/// operands of `~` and `in`, to limit their size (see `inspect.rs`).
pub(super) fn check_size(state: &State<'_, '_>, value: &TemplateValue) -> Result<TemplateValue, Error> {
    charge_fuel_for_whole_value(state, value)?;
    Ok(value.clone())
}

/// Limits the size of an operand of a comparison, for the filter `__check_operand`. Also consumes fuel for a string,
/// because a comparison reads it.
pub(super) fn check_operand(state: &State<'_, '_>, value: &TemplateValue) -> Result<TemplateValue, Error> {
    state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / BYTES_PER_FUEL)?;
    check_size(state, value)
}

/// The filter `__check_member`. orch inserts it around values that an assignment adds to a namespace, to limit their
/// size, and to refuse a namespace in a namespace.
pub(super) fn check_member(state: &State<'_, '_>, value: &TemplateValue) -> Result<TemplateValue, Error> {
    if is_namespace(value) { Err(nested_namespace_error()) } else { check_size(state, value) }
}
