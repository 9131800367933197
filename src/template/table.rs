//! Every filter, test and function that prompts and expressions may use: one table for
//! the engine and for the checker.
//!
//! Left out on purpose: what prints variables (`debug`, `pprint`), what marks text as safe
//! or escapes it, what looks things up by a computed name, and what formats by a pattern.

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value as Templated, filters, functions, tests};

use super::value::from_templated;

/// The filter that comparisons run through; users can't write it.
pub(super) const OPERAND: &str = "__operand";

macro_rules! table {
    ($names:ident, $register:ident, $add:ident, $what:literal: $($name:literal = $function:expr,)+) => {
        #[doc = concat!("The names of all ", $what, ", sorted.")]
        pub const $names: &[&str] = &[$($name),+];

        fn $register(env: &mut Environment<'static>) {
            $(env.$add($name, $function);)+
        }
    };
}

table! { FILTERS, add_filters, add_filter, "filters":
    "abs" = filters::abs,
    "batch" = filters::batch,
    "bool" = filters::bool,
    "capitalize" = filters::capitalize,
    "chain" = filters::chain,
    "count" = filters::length,
    "d" = filters::default,
    "default" = filters::default,
    "dictsort" = filters::dictsort,
    "first" = filters::first,
    "float" = filters::float,
    "groupby" = filters::groupby,
    "indent" = indent,
    "int" = filters::int,
    "items" = filters::items,
    "join" = filters::join,
    "last" = filters::last,
    "length" = filters::length,
    "lines" = filters::lines,
    "list" = filters::list,
    "lower" = filters::lower,
    "map" = filters::map,
    "max" = filters::max,
    "min" = filters::min,
    "reject" = filters::reject,
    "rejectattr" = filters::rejectattr,
    "replace" = filters::replace,
    "reverse" = filters::reverse,
    "round" = filters::round,
    "select" = filters::select,
    "selectattr" = filters::selectattr,
    "slice" = filters::slice,
    "sort" = filters::sort,
    "split" = filters::split,
    "string" = filters::string,
    "sum" = filters::sum,
    "title" = filters::title,
    "tojson" = tojson,
    "trim" = filters::trim,
    "unique" = filters::unique,
    "upper" = filters::upper,
    "zip" = filters::zip,
}

table! { TESTS, add_tests, add_test, "tests":
    "!=" = tests::is_ne,
    "<" = tests::is_lt,
    "<=" = tests::is_le,
    "==" = tests::is_eq,
    ">" = tests::is_gt,
    ">=" = tests::is_ge,
    "boolean" = tests::is_boolean,
    "defined" = tests::is_defined,
    "divisibleby" = tests::is_divisibleby,
    "endingwith" = tests::is_endingwith,
    "eq" = tests::is_eq,
    "equalto" = tests::is_eq,
    "even" = tests::is_even,
    "false" = tests::is_false,
    "float" = tests::is_float,
    "ge" = tests::is_ge,
    "gt" = tests::is_gt,
    "in" = tests::is_in,
    "int" = tests::is_integer,
    "integer" = tests::is_integer,
    "iterable" = tests::is_iterable,
    "le" = tests::is_le,
    "lower" = tests::is_lower,
    "lt" = tests::is_lt,
    "mapping" = tests::is_mapping,
    "ne" = tests::is_ne,
    "none" = tests::is_none,
    "number" = tests::is_number,
    "odd" = tests::is_odd,
    "sequence" = tests::is_sequence,
    "startingwith" = tests::is_startingwith,
    "string" = tests::is_string,
    "true" = tests::is_true,
    "undefined" = tests::is_undefined,
    "upper" = tests::is_upper,
}

table! { FUNCTIONS, add_functions, add_function, "functions":
    "dict" = functions::dict,
    "namespace" = functions::namespace,
    "range" = functions::range,
}

/// Gives an empty environment everything in the table.
pub(super) fn register(env: &mut Environment<'static>) {
    add_filters(env);
    add_tests(env);
    add_functions(env);
    env.add_filter(OPERAND, operand);
}

/// Passes a value on unless it is undefined: to compare with nothing is a mistake.
fn operand(state: &State<'_, '_>, value: &Templated) -> Result<Templated, Error> {
    if value.is_undefined() { Err(undefined(state, value)) } else { Ok(value.clone()) }
}

/// The engine's error for an undefined value, which remembers where the value came from.
fn undefined(state: &State<'_, '_>, value: &Templated) -> Error {
    let refused = filters::string(state, value).err();
    refused.unwrap_or_else(|| ErrorKind::UndefinedError.into())
}

/// JSON with two spaces of indentation, or as many as asked for; `0` for one line.
/// Nothing but what JSON needs is escaped.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn tojson(state: &State<'_, '_>, value: &Templated, args: Rest<Templated>, options: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(undefined(state, value));
    }
    let wrong = |text: &'static str| Error::new(ErrorKind::InvalidOperation, text);
    let indent = match args.first() {
        Some(width) => width.as_usize(),
        None => options.get::<Option<Templated>>("indent")?.map_or(Some(2), |width| width.as_usize()),
    };
    options.assert_all_used()?;
    let indent =
        indent.filter(|width| *width <= 16).ok_or_else(|| wrong("the indent must be a number from 0 to 16"))?;
    let json = from_templated(value).ok_or_else(|| wrong("the value is not JSON"))?;
    let text = match indent {
        0 => json.to_string(),
        width => pretty(&json, width).ok_or_else(|| wrong("the value is not JSON"))?,
    };
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(text)
}

fn pretty(value: &serde_json::Value, width: usize) -> Option<String> {
    use serde::Serialize as _;
    let spaces = " ".repeat(width);
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).ok()?;
    String::from_utf8(out).ok()
}

/// Indents all lines but the first, and none that are empty, unless asked to; paid for
/// before anything is allocated.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn indent(state: &State<'_, '_>, text: &str, args: Rest<Templated>, options: Kwargs) -> Result<String, Error> {
    let option = |at: usize, name: &str| match args.get(at) {
        Some(value) => Ok(Some(value.clone())),
        None => options.get::<Option<Templated>>(name),
    };
    let width = option(0, "width")?.map_or(Some(4), |width| width.as_usize());
    let width = width.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the width must be a number"))?;
    let first = option(1, "first")?.is_some_and(|flag| flag.is_true());
    let blank = option(2, "blank")?.is_some_and(|flag| flag.is_true());
    options.assert_all_used()?;
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    state.consume_fuel(lines.saturating_mul(width) as u64 / 64)?;
    let pad = " ".repeat(width);
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let empty = line.trim_end_matches(['\r', '\n']).is_empty();
        if (index > 0 || first) && (!empty || blank) {
            out.push_str(&pad);
        }
        out.push_str(line);
    }
    Ok(out)
}

#[cfg(test)]
mod tests_of_table {
    use super::*;

    #[test]
    fn names_are_sorted_so_that_lists_read_well() {
        for names in [FILTERS, TESTS, FUNCTIONS] {
            assert!(names.is_sorted(), "{names:?}");
        }
    }
}
