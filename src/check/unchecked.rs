//! Notes the uses of values about which the files say too little, for `validate --strict`.

use std::collections::HashSet;

use minijinja::machinery::ast::{Expr, GetAttr, Spanned};

use super::infer::Checker;
use super::narrowing::expression_path;
use super::scope::{Narrowing, TypeScope, root_name};
use super::types::{Property, Type};
use crate::diagnostic::{Code, Diagnostic};
use crate::template::{byte_range, expr_range};

/// The help for a value of unknown type.
pub(super) const UNCHECKED_HELP: &str = "describe it in its schema: its type, its properties or its items";

/// The maximum number of notes about one text.
const MAX_NOTES: usize = 1000;

impl<'a> Checker<'a> {
    /// Notes that an expression uses a value of unknown type in a way that not every value supports.
    pub(super) fn note_unchecked_use(&mut self, value: &Expr<'a>, ty: &Type<'a>) {
        if !matches!(ty, Type::Unknown) || self.unchecked_uses.len() >= MAX_NOTES || self.is_in_namespace(value) {
            return;
        }
        let message = format!("nothing says what `{}` is, so its use can't be checked", self.source(value));
        let diagnostic = self.warning(Code::UncheckedValue, expr_range(value), message);
        self.unchecked_uses.push(diagnostic.with_help(UNCHECKED_HELP));
    }

    /// Notes that an expression reads a property of a value of unknown type, or one that the schema leaves open.
    pub(super) fn note_unchecked_property(
        &mut self,
        property: &Spanned<GetAttr<'a>>,
        base: &Type<'a>,
        is_existence_test: bool,
        scope: &TypeScope<'a>,
    ) {
        self.note_unchecked_use(&property.expr, base);
        if is_existence_test || self.unchecked_uses.len() >= MAX_NOTES {
            return;
        }
        let name = property.name;
        let is_unspecified = base.branches().iter().any(|branch| {
            matches!(self.schemas.property(branch, name), Some(Property::Present(_)))
                && self.schemas.leaves_open(branch, name)
        });
        let path = expression_path(&property.expr).map(|path| format!("{path}.{name}"));
        if !is_unspecified || scope.has_narrowing(path.as_ref(), &Narrowing::Defined) {
            return;
        }
        let source = self.source(&property.expr);
        let message = format!("the schema of `{source}` does not say whether `{name}` exists");
        let range = expr_range(&property.expr).start..byte_range(property.span()).end;
        let diagnostic = self.warning(Code::UncheckedValue, range, message);
        let help = format!("declare it under `properties`, or test it first: `{source}.{name} is defined`");
        self.unchecked_uses.push(diagnostic.with_help(help));
    }

    /// Notes that the schema of a number does not limit it, although an operation does. `limit` describes the limit.
    pub(super) fn note_unlimited_number(&mut self, value: &Expr<'a>, limit: &str) {
        if self.unchecked_uses.len() >= MAX_NOTES {
            return;
        }
        let message = format!("nothing says how large `{}` is: {limit}", self.source(value));
        let diagnostic = self.warning(Code::UncheckedValue, expr_range(value), message);
        self.unchecked_uses.push(diagnostic.with_help("limit it in its schema, such as with `\"maximum\": 100`"));
    }

    /// Whether a value is a member of a namespace, which the template itself sets.
    fn is_in_namespace(&self, value: &Expr<'a>) -> bool {
        let path = expression_path(value).unwrap_or_default();
        self.assigned_names.namespaces.contains(root_name(&path))
    }
}

/// The notes without those at the position of a finding or of an earlier note, which are about the same value or about
/// its first part.
pub(super) fn distinct_notes(notes: Vec<Diagnostic>, findings: &[Diagnostic]) -> Vec<Diagnostic> {
    let position = |diagnostic: &Diagnostic| {
        let start = diagnostic.span.as_ref().map(|span| span.start);
        (diagnostic.file.as_ref().map(|file| file.path.clone()), start)
    };
    let mut seen: HashSet<_> = findings.iter().map(position).collect();
    notes.into_iter().filter(|note| seen.insert(position(note))).collect()
}
