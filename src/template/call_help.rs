//! Advice for calls of functions and methods that do not exist.

use minijinja::machinery::ast::{Call, CallArg, Expr};

use super::builtins::FILTERS;
use super::ranges::expr_range;
use crate::diagnostic::equivalents;

/// Returns advice for a call of another language's function, if orch knows its equivalent.
pub(super) fn function_help(text: &str, call: &Call<'_>, name: &str) -> Option<String> {
    equivalents::call_help(name, &arguments(text, call))
}

/// Returns advice for a call of a method.
pub(super) fn method_help(text: &str, call: &Call<'_>, name: &str) -> String {
    let arguments = arguments(text, call);
    let replacement = match (equivalents::call_help(name, &arguments), arguments.first()) {
        (Some(help), _) => help,
        (None, Some(value)) if FILTERS.contains(&name) => format!("write `{value} | {name}`"),
        (None, _) => "use filters, as in `VALUE | length`".to_owned(),
    };
    format!("values are JSON, which has no methods: {replacement}")
}

/// The source texts of the arguments of a call. For a method, the receiver comes first.
fn arguments<'t>(text: &'t str, call: &Call<'_>) -> Vec<&'t str> {
    let receiver = match &call.expr {
        Expr::GetAttr(inner) => Some(expr_range(&inner.expr)),
        _ => None,
    };
    let positional = call.args.iter().filter_map(|arg| match arg {
        CallArg::Pos(expr) => Some(expr_range(expr)),
        _ => None,
    });
    receiver.into_iter().chain(positional).filter_map(|range| text.get(range)).collect()
}
