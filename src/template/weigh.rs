//! Limits the size and depth of template values, and charges fuel for reading them.
//!
//! Template values share their parts. `{% set ns.s = [ns.s, ns.s] %}` doubles the value without copying anything, and
//! `[x] * 1000000` is a list that is created while it is read. The engine charges fuel only for what it copies, so
//! comparing, sorting or printing such a value could run almost endlessly or exhaust the stack. Therefore every
//! operation that reads a whole value first consumes fuel for each part of it, and values that a template stores in a
//! variable are limited in size and depth.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value as Templated};

/// How many parts a value may have: every list, object, key and scalar, counted each time it occurs.
const MAX_PARTS: u64 = 1_000_000;
/// How deep lists and objects may be nested.
const MAX_DEPTH: usize = 200;
/// How many parts one unit of fuel pays for.
const PARTS_PER_FUEL: u64 = 32;
/// How many bytes of a string one unit of fuel pays for; the same as in the engine.
const BYTES_PER_FUEL: u64 = 64;

/// How much of its values a filter or test reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// At most a few items.
    Few,
    /// All items, but not what is inside of them.
    Items,
    /// Everything, also inside of items: it compares, sorts or prints.
    Whole,
}

/// Consumes fuel for the data that a filter or test is about to read.
pub(super) fn charge(state: &State<'_, '_>, reach: Reach, values: &[Templated]) -> Result<(), Error> {
    // Every filter and test may read the whole of a string that it is given.
    let texts =
        values.iter().filter_map(Templated::as_str).fold(0, |sum: u64, text| sum.saturating_add(text.len() as u64));
    state.consume_fuel(texts / BYTES_PER_FUEL)?;
    match reach {
        Reach::Few => Ok(()),
        Reach::Items => {
            let items =
                values.iter().filter_map(Templated::len).fold(0, |sum: u64, count| sum.saturating_add(count as u64));
            state.consume_fuel(items / PARTS_PER_FUEL)
        }
        Reach::Whole => values.iter().try_for_each(|value| weigh(state, value)),
    }
}

/// Consumes fuel for reading the whole of a value. Refuses a value that is too large or too deep, or that contains a
/// namespace.
pub(super) fn weigh(state: &State<'_, '_>, value: &Templated) -> Result<(), Error> {
    let mut parts = WeighedParts::default();
    let gone_over = parts.add(value, 0);
    // Reading the parts was work even if the value is then refused.
    state.consume_fuel(parts.seen / PARTS_PER_FUEL)?;
    gone_over
}

#[derive(Default)]
struct WeighedParts {
    seen: u64,
}

impl WeighedParts {
    fn add(&mut self, value: &Templated, depth: usize) -> Result<(), Error> {
        self.seen += 1;
        if self.seen > MAX_PARTS {
            return Err(too_much("the value has more than a million parts"));
        }
        let kind = value.kind();
        if !matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err(too_much("the value is nested more than 200 levels deep"));
        }
        // A namespace that contains itself would be endless.
        if depth > 0 && is_namespace(value) {
            return Err(in_another());
        }
        self.inside(value, kind, depth)
    }

    fn inside(&mut self, value: &Templated, kind: ValueKind, depth: usize) -> Result<(), Error> {
        for item in value.try_iter()? {
            self.add(&item, depth + 1)?;
            if kind == ValueKind::Map {
                self.add(&value.get_item(&item)?, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Whether a value was made by `namespace()`. The engine's type is private, so this compares the type's name.
fn is_namespace(value: &Templated) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.repr() == ObjectRepr::Map && object.type_name().ends_with("::Namespace"))
}

fn in_another() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a namespace can't be part of another value")
}

fn too_much(why: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, why)
}

/// The filter for values that are assigned to a variable, results of expressions, and operands of `~` and `in`.
pub(super) fn weighed(state: &State<'_, '_>, value: &Templated) -> Result<Templated, Error> {
    weigh(state, value)?;
    Ok(value.clone())
}

/// The filter for operands of comparisons, which read strings too.
pub(super) fn compared(state: &State<'_, '_>, value: &Templated) -> Result<Templated, Error> {
    state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / BYTES_PER_FUEL)?;
    weighed(state, value)
}

/// The filter for values that become a member of a namespace.
pub(super) fn member(state: &State<'_, '_>, value: &Templated) -> Result<Templated, Error> {
    if is_namespace(value) { Err(in_another()) } else { weighed(state, value) }
}
