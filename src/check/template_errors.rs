//! Converts the errors of templates and expressions to diagnostics.

use std::ops::Range;

use crate::diagnostic::{Code, Diagnostic};
use crate::template::{TemplateError, TemplateErrorKind};

/// Converts an error of a template or expression to a diagnostic. `set_position` sets its position.
pub(super) fn template_diagnostic(
    error: TemplateError,
    set_position: impl Fn(Diagnostic, Range<usize>) -> Diagnostic,
) -> Diagnostic {
    let code = match error.kind {
        TemplateErrorKind::Refused => Code::UnsupportedTemplate,
        TemplateErrorKind::UnknownCallable => Code::UnknownCallable,
        TemplateErrorKind::MissingInclude => Code::IncludeNotFound,
        TemplateErrorKind::NotShellWord => Code::NotShellWord,
        TemplateErrorKind::Syntax
        | TemplateErrorKind::LimitExceeded
        | TemplateErrorKind::Undefined
        | TemplateErrorKind::WrongType => Code::TemplateSyntax,
    };
    let mut diagnostic = set_position(Diagnostic::error(code, error.message), error.range);
    if let Some(replacement) = error.replacement {
        let (original, corrected) = *replacement;
        diagnostic = diagnostic.with_replacement(&original, Some(&corrected));
    }
    match error.help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}
