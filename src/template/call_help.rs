//! Advice for calls of functions and methods that do not exist.

use minijinja::machinery::ast::{Call, CallArg, Expr};

use super::builtins::FILTERS;
use super::filter_wrap::operand_text;
use crate::diagnostic::{did_you_mean, equivalents};

/// Returns advice for a call of another language's function, if orch knows its equivalent.
pub(super) fn function_help(text: &str, call: &Call<'_>, name: &str) -> Option<String> {
    equivalents::call_help(name, &arguments(text, call))
}

/// Returns advice for a call of a method.
pub(super) fn method_help(text: &str, call: &Call<'_>, name: &str) -> String {
    let arguments = arguments(text, call);
    let value = arguments.first().map_or("VALUE", String::as_str);
    let filter = FILTERS.iter().copied().find(|filter| *filter == name);
    let replacement = match (equivalents::call_help(name, &arguments), filter) {
        (Some(help), _) => help,
        (None, Some(filter)) => format!("write `{value} | {filter}`"),
        (None, None) => match did_you_mean(name, FILTERS.iter().copied()) {
            Some(filter) => format!("did you mean `{value} | {filter}`?"),
            None => format!("only filters change a value, as in `{value} | FILTER`; they are those of Jinja"),
        },
    };
    format!("values are JSON, which has no methods: {replacement}")
}

/// The arguments of a call as operands. For a method, the receiver comes first.
fn arguments(text: &str, call: &Call<'_>) -> Vec<String> {
    let receiver = match &call.expr {
        Expr::GetAttr(inner) => Some(&inner.expr),
        _ => None,
    };
    let positional = call.args.iter().filter_map(|arg| match arg {
        CallArg::Pos(expr) => Some(expr),
        _ => None,
    });
    receiver.into_iter().chain(positional).map(|expr| without_methods(text, expr)).collect()
}

/// The text of an operand, with the equivalent of a method in place of its call: `title | trim` for `title.strip()`.
fn without_methods(text: &str, expr: &Expr<'_>) -> String {
    let equivalent = || {
        let Expr::Call(call) = expr else { return None };
        let Expr::GetAttr(method) = &call.expr else { return None };
        let arguments = arguments(text, call);
        let value = arguments.first()?;
        let help = equivalents::call_help(method.name, &arguments);
        let replacement = help.as_deref().and_then(|help| help.strip_prefix("write `")?.strip_suffix('`'));
        match replacement {
            Some(replacement) => Some(replacement.to_owned()),
            None => FILTERS.contains(&method.name).then(|| format!("{value} | {}", method.name)),
        }
    };
    equivalent().unwrap_or_else(|| operand_text(text, expr))
}
