//! Checks the values that a step passes to a called pipeline against the schemas of its inputs.

use minijinja::machinery::ast::Expr;
use serde_json::Value;

use super::infer::{Checker, TextLocation};
use super::narrowing::{expression_path, member_of};
use super::number_range::RequiredOrder;
use super::scope::{Narrowing, TypeScope};
use super::texts::{CallInput, TextChecks};
use super::types::{SchemaNode, Schemas, Type, TypeKind};
use super::value_fit::{FitCheck, KnownValue, property_schema};
use crate::config::child_pointer;
use crate::diagnostic::Code;
use crate::schema::Schema;
use crate::template::{self, TemplateContext, parse_expression};

/// How a value fits an input of a pipeline or an argument of a tool.
pub(super) enum InputFit {
    /// Every value fits.
    Always,
    /// Some values may not fit, for this reason.
    Sometimes(String),
    /// No value fits, for this reason.
    Never(String),
}

impl<'a> TextChecks<'a> {
    /// Reports a value that the input of a called pipeline does not, or may not, accept.
    pub(super) fn check_call_input(&mut self, input: &CallInput<'_, 'a>, ty: &Type<'a>) {
        let input_pointer = child_pointer("/inputs", input.name);
        let Some(schema) = input.called.document.value.pointer(&input_pointer) else { return };
        let diagnostic = match input_fit(input, schema, ty) {
            InputFit::Always => return self.note_unensured_fit(input, &input_pointer, schema, ty),
            InputFit::Sometimes(message) => {
                self.warning_at(Code::InputMismatch, input.pointer, input.range.clone(), message)
            }
            InputFit::Never(message) => self.error_at(Code::InputMismatch, input.pointer, input.range.clone(), message),
        };
        let called = &input.called.document;
        let declaration = called.spans.value(&input_pointer);
        self.push(diagnostic.with_secondary_label(&called.file, declaration, "declared here"));
    }

    /// Notes, for a strict check, that what is known about a value does not ensure that it fits an input.
    fn note_unensured_fit(&mut self, input: &CallInput<'_, 'a>, pointer: &str, schema: &'a Value, ty: &Type<'a>) {
        // The check evaluates constants.
        if template::variables(input.text).is_empty() {
            return;
        }
        let called = input.called;
        let check = FitCheck {
            value_schemas: Schemas(&self.project.schema_documents),
            schemas: Schemas(&called.schema_documents),
        };
        let Ok(parsed) = parse_expression(input.text) else { return };
        let path = expression_path(&parsed);
        let value = KnownValue {
            ty: ty.clone(),
            schema: self.schema_of_value(input, &parsed),
            min_count: input.scope.min_items(path.as_ref()),
            texts: path.as_ref().and_then(|path| listed_texts(path, input.scope)),
        };
        let Some(requirement) = check.unfulfilled(&value, SchemaNode::from_document(schema)) else { return };
        let (source, name) = (input.text.trim(), input.name);
        let message = format!("nothing ensures that `{source}` fits the input `{name}`, which requires {requirement}");
        let diagnostic = self.warning_at(Code::UncheckedValue, input.pointer, input.range.clone(), message);
        let declaration = called.document.spans.value(pointer);
        let diagnostic = diagnostic.with_secondary_label(&called.document.file, declaration, "declared here");
        self.unchecked_uses.push(diagnostic.with_help("require the same in the schema of the value"));
    }

    /// The schema of a value that an expression looks up: of an input, or of a property.
    fn schema_of_value(&self, input: &CallInput<'_, 'a>, expr: &Expr<'a>) -> Option<SchemaNode<'a>> {
        if let Expr::Var(var) = expr {
            let schema = self.project.document.value.pointer(&child_pointer("/inputs", var.id))?;
            return Some(SchemaNode::from_document(schema));
        }
        let (base, name) = member_of(expr)?;
        let mut checker = Checker::new(self.project, Some(input.scoped_step));
        (checker.location, checker.text) = (TextLocation::Yaml(input.pointer.to_owned()), input.text);
        property_schema(&checker.infer(base, input.scope).ty, name)
    }
}

/// The strings to which conditions limit the value at a path.
fn listed_texts(path: &str, scope: &TypeScope<'_>) -> Option<Vec<String>> {
    scope.narrowings().find_map(|(narrowed_path, narrowing)| match narrowing {
        Narrowing::OneOf(texts, true) if narrowed_path == path => Some(texts.clone()),
        _ => None,
    })
}

/// How a value fits an input with this schema.
fn input_fit<'a>(input: &CallInput<'_, 'a>, schema: &'a Value, ty: &Type<'a>) -> InputFit {
    let (name, source) = (input.name, input.text.trim());
    if let Some(mismatch) = constant_mismatch(input, schema) {
        return InputFit::Never(mismatch);
    }
    let input_type = Schemas(&input.called.schema_documents).document_type(schema);
    let (Some(value_kinds), Some(input_kinds)) = (ty.kinds(), input_type.kinds()) else { return InputFit::Always };
    let accepted = input_type.describe();
    if !value_kinds.iter().any(|kind| input_kinds.contains(kind)) {
        let kind = ty.describe();
        return InputFit::Never(format!("`{source}` is {kind}, but the input `{name}` accepts {accepted}"));
    }
    if let Some(kind) = value_kinds.iter().find(|kind| !input_kinds.contains(kind)) {
        let kind = kind.describe();
        return InputFit::Sometimes(format!("`{source}` may be {kind}, but the input `{name}` accepts {accepted}"));
    }
    match listed_text_fit(input, ty, &input_type) {
        InputFit::Always => number_fit(source, &format!("the input `{name}`"), ty, &input_type),
        other => other,
    }
}

/// The reason for which a constant value does not fit an input; `None` if the value fits or is not constant.
fn constant_mismatch(input: &CallInput<'_, '_>, schema: &Value) -> Option<String> {
    if !template::variables(input.text).is_empty() {
        return None;
    }
    let value = template::eval(input.text, &TemplateContext::new()).ok()?;
    let compiled = Schema::compile(input.name, schema.clone()).ok()?;
    let mismatch = compiled.mismatches(&value).into_iter().next()?;
    let (source, name) = (input.text.trim(), input.name);
    let location = match mismatch.pointer.as_str() {
        "" => format!("`{source}`"),
        pointer => format!("`{pointer}` in `{source}`"),
    };
    let (expected, got) = (mismatch.expected, mismatch.got);
    Some(format!("{location} does not fit the input `{name}`: expected {expected}, got {got}"))
}

/// How the listed strings that a value can be fit an input that accepts only some strings.
fn listed_text_fit(input: &CallInput<'_, '_>, ty: &Type<'_>, input_type: &Type<'_>) -> InputFit {
    let (Some(texts), Some(accepted)) = (ty.possible_texts(), input_type.possible_texts()) else {
        return InputFit::Always;
    };
    let Some(refused) = texts.iter().find(|text| !accepted.contains(text)) else { return InputFit::Always };
    let quoted: Vec<String> = accepted.iter().map(|text| format!("`{text}`")).collect();
    let (source, name, listed) = (input.text.trim(), input.name, quoted.join(", "));
    let has_only_texts = ty.kind() == Some(TypeKind::Text);
    if has_only_texts && !texts.iter().any(|text| accepted.contains(text)) {
        return InputFit::Never(format!("`{source}` is never one of {listed}, which the input `{name}` accepts"));
    }
    InputFit::Sometimes(format!("`{source}` may be `{refused}`, but the input `{name}` accepts {listed}"))
}

/// How the numbers that a value can be fit an input that accepts only some numbers. The message calls the value `source`
/// and the input `target`.
pub(super) fn number_fit(source: &str, target: &str, ty: &Type<'_>, input_type: &Type<'_>) -> InputFit {
    let (Some(numbers), Some(accepted)) = (ty.numbers(), input_type.numbers()) else { return InputFit::Always };
    // Nothing says how large a number without bounds is.
    let is_unbounded = numbers.describe().is_none() && (numbers.is_integer || !accepted.is_integer);
    if is_unbounded || numbers.is_empty() || numbers.is_within(accepted) {
        return InputFit::Always;
    }
    let noun = if accepted.is_integer { "integers" } else { "numbers" };
    let accepted_numbers = accepted.describe().map_or_else(|| noun.to_owned(), |bounds| format!("{noun} {bounds}"));
    let suffix = format!("but {target} accepts {accepted_numbers}");
    if ty.kind() == Some(TypeKind::Number) && numbers.is_never(RequiredOrder::Equal, accepted) {
        let range = numbers.describe().unwrap_or_else(|| "a fraction".to_owned());
        return InputFit::Never(format!("`{source}` is {range}, {suffix}"));
    }
    if accepted.is_integer && !numbers.is_integer {
        return InputFit::Sometimes(format!("`{source}` may be a fraction, {suffix}"));
    }
    let range = numbers.describe().unwrap_or_default();
    InputFit::Sometimes(format!("`{source}` may be any number {range}, {suffix}"))
}
