//! Bounds of template values: how many parts they have, how deep they are, and what it costs to go over them.
//!
//! Values of templates share their parts: `{% set ns.s = [ns.s, ns.s] %}` doubles what a reader of the value meets
//! and copies nothing, and `[x] * 1000000` is a list that is made while it is read. The engine charges fuel for
//! what it copies, so that comparing, sorting or printing such a value would take for ever or exhaust the stack.
//! Whatever goes over a whole value is charged for each part here first, and what a template keeps in a variable
//! has a largest size and depth.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value as Templated};

/// How many parts a value may have: every list, object, key and scalar, each time it is met.
const MAX_PARTS: u64 = 1_000_000;
/// How deep lists and objects may be nested.
const MAX_DEPTH: usize = 200;
/// How many parts are gone over for one unit of fuel.
const PARTS_PER_FUEL: u64 = 32;
/// How many bytes of a text are gone over for one unit of fuel, as the engine counts them.
const BYTES_PER_FUEL: u64 = 64;

/// How a filter or test goes over its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It looks at no more than a few items.
    Few,
    /// It goes over the items, and not into them.
    Items,
    /// It goes over everything that is in the items too: it compares, sorts or prints.
    Whole,
}

/// Charges for what a filter or test is about to do with its values.
pub(super) fn charge(state: &State<'_, '_>, reach: Reach, values: &[Templated]) -> Result<(), Error> {
    // Every filter and test may go over a text that it is given.
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

/// Charges for going over all of a value; refuses one that is too large or too deep, or that has a namespace in it.
pub(super) fn weigh(state: &State<'_, '_>, value: &Templated) -> Result<(), Error> {
    let mut parts = WeighedParts::default();
    let gone_over = parts.add(value, 0);
    // What was gone over was work, also when it was in vain.
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
        // One that holds itself would have no end.
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

/// Whether a value is what `namespace()` gives. The engine's type is private; its name is not.
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

/// The filter that values run through before a template keeps them in a variable, or an operator goes over them.
pub(super) fn weighed(state: &State<'_, '_>, value: &Templated) -> Result<Templated, Error> {
    weigh(state, value)?;
    Ok(value.clone())
}

/// The filter that operands of comparisons run through, which go over texts too.
pub(super) fn compared(state: &State<'_, '_>, value: &Templated) -> Result<Templated, Error> {
    state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / BYTES_PER_FUEL)?;
    weighed(state, value)
}

/// The filter that values run through before they become a member of a namespace.
pub(super) fn member(state: &State<'_, '_>, value: &Templated) -> Result<Templated, Error> {
    if is_namespace(value) { Err(in_another()) } else { weighed(state, value) }
}
