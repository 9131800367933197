//! Infers the types of the items that `select`, `reject`, `selectattr` and `rejectattr` return.

use minijinja::machinery::ast::{CallArg, Expr};

use super::condition_narrowings::test_narrowings;
use super::filters::AppliedFilter;
use super::infer::Checker;
use super::scope::Narrowing;
use super::types::Type;
use crate::template::walk::arg_expr;

impl<'a> Checker<'a> {
    /// The type of the items that one of these filters returns.
    pub(super) fn selected_item_type(&self, filter: &AppliedFilter<'_, 'a>) -> Type<'a> {
        let item_type = self.element_type(&filter.base);
        let (path, test_args) = match (filter.name, filter.args) {
            ("select" | "reject", args) => ("", args),
            (_, [attribute, args @ ..]) => match text_constant(attribute) {
                Some(path) => (path, args),
                None => return item_type,
            },
            (_, []) => return item_type,
        };
        // A number in a path is the index of a list.
        if path.split('.').any(|name| name.parse::<usize>().is_ok()) {
            return item_type;
        }
        let selects = matches!(filter.name, "select" | "selectattr");
        let mut narrowings = match test_args {
            [] if selects => vec![Narrowing::Truthy],
            [] => vec![Narrowing::Falsy],
            [test, args @ ..] => match text_constant(test) {
                Some(test) => test_narrowings(test, args, selects),
                None => return item_type,
            },
        };
        // Only a property that is known to exist can be narrowed further.
        narrowings.sort_by_key(|narrowing| !matches!(narrowing, Narrowing::Defined | Narrowing::Truthy));
        narrowings.iter().fold(item_type, |ty, narrowing| self.schemas.refine(&ty, path, narrowing))
    }
}

fn text_constant<'b>(arg: &'b CallArg<'_>) -> Option<&'b str> {
    match (arg, arg_expr(arg)) {
        (CallArg::Pos(_), Expr::Const(constant)) => constant.value.as_str(),
        (_, _) => None,
    }
}
