//! Converts the errors of templates and expressions to failures of steps.

use crate::model::{Failure, FailureClass};
use crate::template::{TemplateError, TemplateErrorKind, variables};

/// The failure for a template that can't be rendered.
pub(super) fn template_failure(error: TemplateError) -> Failure {
    let values: Option<Box<[String]>> = match (error.kind, error.undefined_value()) {
        // The template puts a value where a command line can't have one, so no other value would help.
        (TemplateErrorKind::NotShellWord, _) => Some(Box::default()),
        (_, path) => path.map(|path| Box::from([path.to_owned()])),
    };
    failure(FailureClass::TemplateError, error, values)
}

/// The failure for an expression that can't be evaluated.
pub(super) fn expression_failure(expression: &str, error: TemplateError) -> Failure {
    let values: Box<[String]> = match error.undefined_value() {
        Some(path) => Box::from([path.to_owned()]),
        None => variables(expression).into_iter().collect(),
    };
    failure(FailureClass::ExpressionError, error, Some(values))
}

fn failure(class: FailureClass, error: TemplateError, unusable_values: Option<Box<[String]>>) -> Failure {
    let failure = Failure { unusable_values, ..Failure::new(class, error.to_string()) };
    match (error.kind, error.help) {
        (TemplateErrorKind::Undefined | TemplateErrorKind::NotShellWord, Some(help)) => failure.with_hint(help),
        // For any other error, the engine adds its own hint: to correct the text, or the values that it reads.
        _ => failure,
    }
}
