//! Every filter, test and function that prompts and expressions may use, in one table for MiniJinja and the checker.
//!
//! The table deliberately omits functions that print variables (`debug`, `pprint`), mark text as safe or escape it,
//! look up values by a computed name, or format by a pattern.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value as TemplateValue, filters, functions, tests};

use super::value::from_template_value;
use super::value_limits::{ReadExtent, charge_fuel, check_member, check_operand, check_size};

/// The filter that orch inserts around operands of comparisons. Prompts themselves can't use it.
pub(super) const CHECK_OPERAND: &str = "__check_operand";
/// The filter that limits the size of a value: of assigned values, results of expressions, and operands of `~` and
/// `in`.
pub(super) const CHECK_SIZE: &str = "__check_size";
/// The filter for values that an assignment adds to a namespace.
pub(super) const CHECK_MEMBER: &str = "__check_member";
/// The filter for the bounds and the step of a slice.
pub(super) const LIMIT_BOUND: &str = "__limit_bound";

macro_rules! table {
    ($names:ident, $register:ident, $add:path, $what:literal: $($extent:ident $name:literal = $function:expr,)+) => {
        #[doc = concat!("The names of all ", $what, ", sorted.")]
        pub const $names: &[&str] = &[$($name),+];

        fn $register(env: &mut Environment<'static>) {
            $($add(env, $name, ReadExtent::$extent, TemplateValue::from_function($function));)+
        }
    };
}

/// Adds a filter that consumes fuel for the data that it reads.
fn add_filter(env: &mut Environment<'static>, name: &'static str, extent: ReadExtent, function: TemplateValue) {
    env.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<TemplateValue>, keyword_args: Kwargs| {
        let args = with_keyword_args(args, keyword_args);
        charge_fuel(state, extent, &args)?;
        function.call(state, &args)
    });
}

/// Adds a test that consumes fuel for the data that it reads.
fn add_test(env: &mut Environment<'static>, name: &'static str, extent: ReadExtent, function: TemplateValue) {
    env.add_test(name, move |state: &mut State<'_, '_>, args: Rest<TemplateValue>, keyword_args: Kwargs| {
        let args = with_keyword_args(args, keyword_args);
        charge_fuel(state, extent, &args)?;
        function.call(state, &args).map(|result| result.is_true())
    });
}

/// Returns all arguments as MiniJinja passes them: keyword arguments together form one more argument at the end.
fn with_keyword_args(Rest(mut args): Rest<TemplateValue>, keyword_args: Kwargs) -> Vec<TemplateValue> {
    if keyword_args.args().next().is_some() {
        args.push(keyword_args.into());
    }
    args
}

/// Adds a function. The value that it creates consumes fuel when a template uses it.
fn add_function(env: &mut Environment<'static>, name: &'static str, _: ReadExtent, function: TemplateValue) {
    env.add_global(name, function);
}

table! { FILTERS, add_filters, add_filter, "filters":
    Few "abs" = filters::abs,
    Items "batch" = filters::batch,
    Few "bool" = filters::bool,
    Whole "capitalize" = filters::capitalize,
    Items "chain" = filters::chain,
    Few "count" = filters::length,
    Few "d" = filters::default,
    Few "default" = filters::default,
    Whole "dictsort" = filters::dictsort,
    Few "first" = filters::first,
    Few "float" = filters::float,
    Whole "groupby" = filters::groupby,
    Whole "indent" = indent,
    Few "int" = filters::int,
    Items "items" = filters::items,
    Whole "join" = filters::join,
    Items "last" = filters::last,
    Few "length" = filters::length,
    Items "lines" = filters::lines,
    Items "list" = filters::list,
    Whole "lower" = filters::lower,
    Items "map" = filters::map,
    Whole "max" = filters::max,
    Whole "min" = filters::min,
    Items "reject" = filters::reject,
    Items "rejectattr" = filters::rejectattr,
    Whole "replace" = filters::replace,
    Items "reverse" = filters::reverse,
    Few "round" = round,
    Items "select" = filters::select,
    Items "selectattr" = filters::selectattr,
    Items "slice" = filters::slice,
    Whole "sort" = filters::sort,
    Items "split" = filters::split,
    Whole "string" = filters::string,
    Whole "sum" = filters::sum,
    Whole "title" = filters::title,
    Whole "tojson" = tojson,
    Whole "trim" = filters::trim,
    Whole "unique" = filters::unique,
    Whole "upper" = filters::upper,
    Items "zip" = filters::zip,
}

table! { TESTS, add_tests, add_test, "tests":
    Whole "!=" = tests::is_ne,
    Whole "<" = tests::is_lt,
    Whole "<=" = tests::is_le,
    Whole "==" = tests::is_eq,
    Whole ">" = tests::is_gt,
    Whole ">=" = tests::is_ge,
    Few "boolean" = tests::is_boolean,
    Few "defined" = tests::is_defined,
    Few "divisibleby" = tests::is_divisibleby,
    Whole "endingwith" = tests::is_endingwith,
    Whole "eq" = tests::is_eq,
    Whole "equalto" = tests::is_eq,
    Few "even" = tests::is_even,
    Few "false" = tests::is_false,
    Few "float" = tests::is_float,
    Whole "ge" = tests::is_ge,
    Whole "gt" = tests::is_gt,
    Whole "in" = tests::is_in,
    Few "int" = tests::is_integer,
    Few "integer" = tests::is_integer,
    Few "iterable" = tests::is_iterable,
    Whole "le" = tests::is_le,
    Few "lower" = tests::is_lower,
    Whole "lt" = tests::is_lt,
    Few "mapping" = tests::is_mapping,
    Whole "ne" = tests::is_ne,
    Few "none" = tests::is_none,
    Few "number" = tests::is_number,
    Few "odd" = tests::is_odd,
    Few "sequence" = tests::is_sequence,
    Whole "startingwith" = tests::is_startingwith,
    Few "string" = tests::is_string,
    Few "true" = tests::is_true,
    Few "undefined" = tests::is_undefined,
    Few "upper" = tests::is_upper,
}

table! { FUNCTIONS, add_functions, add_function, "functions":
    Few "dict" = functions::dict,
    Few "namespace" = functions::namespace,
    Few "range" = functions::range,
}

/// Registers everything in the table in an empty environment.
pub(super) fn register(env: &mut Environment<'static>) {
    add_filters(env);
    add_tests(env);
    add_functions(env);
    env.add_filter(CHECK_OPERAND, check_comparison_operand);
    env.add_filter(CHECK_SIZE, check_size);
    env.add_filter(CHECK_MEMBER, check_member);
    env.add_filter(LIMIT_BOUND, limit_bound);
}

/// Returns the value unchanged. Refuses an undefined value, since comparing it is a mistake, and a value that is too
/// large to compare.
fn check_comparison_operand(state: &State<'_, '_>, value: &TemplateValue) -> Result<TemplateValue, Error> {
    if value.is_undefined() { Err(undefined_error(state, value)) } else { check_operand(state, value) }
}

/// Limits a bound of a slice to the integers that MiniJinja accepts. The slice is the same: no list and no text has more
/// items.
fn limit_bound(value: &TemplateValue) -> TemplateValue {
    limit_integer(value, i64::MAX)
}

/// Replaces an integer that is farther from 0 than the largest one by the largest one with the same sign. Returns any
/// other value unchanged.
fn limit_integer(value: &TemplateValue, largest: i64) -> TemplateValue {
    match i64::try_from(value.clone()) {
        Ok(number) if (-largest..=largest).contains(&number) => value.clone(),
        Ok(number) => TemplateValue::from(if number > 0 { largest } else { -largest }),
        Err(_) if value.kind() != ValueKind::Number => value.clone(),
        Err(_) => match f64::try_from(value.clone()) {
            Ok(number) if number.is_finite() && number.fract() == 0.0 => {
                TemplateValue::from(if number > 0.0 { largest } else { -largest })
            }
            Ok(_) | Err(_) => value.clone(),
        },
    }
}

/// Rounds a number. Accepts a precision of any size: no number has so many digits, so the result is the same.
#[expect(clippy::needless_pass_by_value, reason = "MiniJinja passes arguments by value")]
fn round(
    value: TemplateValue,
    precision: Option<TemplateValue>,
    method: Option<&str>,
    options: Kwargs,
) -> Result<TemplateValue, Error> {
    let precision = match precision {
        Some(precision) => Some(precision),
        None => options.get::<Option<TemplateValue>>("precision")?,
    };
    let method = match method {
        Some(method) => Some(method),
        None => options.get::<Option<&str>>("method")?,
    };
    options.assert_all_used()?;
    let limited = precision.map(|precision| limit_integer(&precision, i64::from(i32::MAX)));
    let precision = limited.map(i32::try_from).transpose()?;
    let no_options: Kwargs = std::iter::empty::<(&str, TemplateValue)>().collect();
    filters::round(value, precision, method, no_options)
}

/// Returns MiniJinja's error for an undefined value. Calls a filter of MiniJinja to create it, because the error then
/// contains the origin of the value.
fn undefined_error(state: &State<'_, '_>, value: &TemplateValue) -> Error {
    let error = filters::string(state, value).err();
    error.unwrap_or_else(|| ErrorKind::UndefinedError.into())
}

/// Renders JSON, indented by two spaces or the requested number; `0` gives one line. Escapes only the characters that
/// JSON requires.
#[expect(clippy::needless_pass_by_value, reason = "MiniJinja passes arguments by value")]
fn tojson(
    state: &State<'_, '_>,
    value: &TemplateValue,
    args: Rest<TemplateValue>,
    options: Kwargs,
) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(undefined_error(state, value));
    }
    let invalid = |text: &'static str| Error::new(ErrorKind::InvalidOperation, text);
    if args.len() > 1 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let indent = match args.first() {
        Some(width) => width.as_usize(),
        None => options.get::<Option<TemplateValue>>("indent")?.map_or(Some(2), |width| width.as_usize()),
    };
    options.assert_all_used()?;
    let indent =
        indent.filter(|width| *width <= 16).ok_or_else(|| invalid("the indent must be a number from 0 to 16"))?;
    let json = from_template_value(value).ok_or_else(|| invalid("the value is not JSON"))?;
    let text = match indent {
        0 => json.to_string(),
        width => to_pretty_json(&json, width).ok_or_else(|| invalid("the value is not JSON"))?,
    };
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(text)
}

fn to_pretty_json(value: &serde_json::Value, width: usize) -> Option<String> {
    use serde::Serialize as _;
    let spaces = " ".repeat(width);
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).ok()?;
    String::from_utf8(out).ok()
}

/// Indents every line except the first line and empty lines, unless the options include them. Consumes the fuel before
/// it allocates memory.
#[expect(clippy::needless_pass_by_value, reason = "MiniJinja passes arguments by value")]
fn indent(state: &State<'_, '_>, text: &str, args: Rest<TemplateValue>, options: Kwargs) -> Result<String, Error> {
    if args.len() > 3 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let option = |index: usize, name: &str| match args.get(index) {
        Some(value) => Ok(Some(value.clone())),
        None => options.get::<Option<TemplateValue>>(name),
    };
    let width = option(0, "width")?.map_or(Some(4), |width| width.as_usize());
    let width = width.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the width must be a number"))?;
    let first = option(1, "first")?.is_some_and(|flag| flag.is_true());
    let blank = option(2, "blank")?.is_some_and(|flag| flag.is_true());
    options.assert_all_used()?;
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    state.consume_fuel(lines.saturating_mul(width) as u64 / 64)?;
    let indentation = " ".repeat(width);
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let empty = line.trim_end_matches(['\r', '\n']).is_empty();
        if (index > 0 || first) && (!empty || blank) {
            out.push_str(&indentation);
        }
        out.push_str(line);
    }
    Ok(out)
}

#[cfg(test)]
mod table_tests {
    use super::*;

    #[test]
    fn the_bounds_of_slices_are_limited_to_what_minijinja_accepts() {
        for (value, expected) in [
            (TemplateValue::from(3), TemplateValue::from(3)),
            (TemplateValue::from(u64::MAX), TemplateValue::from(i64::MAX)),
            (TemplateValue::from(1e30), TemplateValue::from(i64::MAX)),
            (TemplateValue::from(-1e30), TemplateValue::from(-i64::MAX)),
            (TemplateValue::from(i64::MIN), TemplateValue::from(-i64::MAX)),
            (TemplateValue::from(1.5), TemplateValue::from(1.5)),
            (TemplateValue::from("a"), TemplateValue::from("a")),
            (TemplateValue::from(()), TemplateValue::from(())),
        ] {
            assert_eq!(limit_bound(&value), expected, "{value}");
        }
    }

    #[test]
    fn names_are_sorted() {
        for names in [FILTERS, TESTS, FUNCTIONS] {
            assert!(names.is_sorted(), "{names:?}");
        }
    }
}
