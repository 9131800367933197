//! Advice about calls of functions and methods that do not exist: what to write in their place.

use minijinja::machinery::ast::{Call, CallArg, Expr};

use super::inspect::extent;
use super::table::FILTERS;
use crate::diagnostic::equivalents;

/// What replaces the call of another language's function, if it is known.
pub(super) fn advice(text: &str, call: &Call<'_>, name: &str) -> Option<String> {
    equivalents::call(name, &arguments(text, call))
}

/// What replaces the call of a method.
pub(super) fn method(text: &str, call: &Call<'_>, name: &str) -> String {
    let arguments = arguments(text, call);
    let way = match (equivalents::call(name, &arguments), arguments.first()) {
        (Some(advice), _) => advice,
        (None, Some(value)) if FILTERS.contains(&name) => format!("write `{value} | {name}`"),
        (None, _) => "filters do the work, as in `VALUE | length`".to_owned(),
    };
    format!("values are JSON, which has no methods: {way}")
}

/// The source texts of the arguments of a call. For a method, the value that it is called on comes first.
fn arguments<'t>(text: &'t str, call: &Call<'_>) -> Vec<&'t str> {
    let value = match &call.expr {
        Expr::GetAttr(inner) => Some(extent(&inner.expr)),
        _ => None,
    };
    let positional = call.args.iter().filter_map(|arg| match arg {
        CallArg::Pos(expr) => Some(extent(expr)),
        _ => None,
    });
    value.into_iter().chain(positional).filter_map(|range| text.get(range)).collect()
}
