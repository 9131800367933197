//! Infers the types of expressions and reports mistakes that would make their evaluation fail.

use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::ast::{BinOpKind, Expr, IfExpr, UnaryOpKind};

use super::arithmetic::range_of;
use super::mapped_filters::MissingItems;
use super::namespaces::AssignedMembers;
use super::narrowing::expression_path;
use super::number_narrowing::narrow_numbers;
use super::number_range::NumberRange;
use super::scope::{InferredValue, TypeScope};
use super::step_scopes::ScopedStep;
use super::types::{ObjectMembers, Schemas, Type, TypeKind, union};
use super::unpacking::AssignedNames;
use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::template::{
    expr_range, expression_range, follows_dollar, literal_braces_help, parse_expression, trailing_name_range,
};

/// The location of the checked text.
#[derive(Clone, Debug)]
pub(super) enum TextLocation {
    /// In a file of its own.
    File(Arc<SourceFile>),
    /// In the pipeline file, as the value at this pointer.
    Yaml(String),
}

/// Checks one text and collects the diagnostics.
pub(super) struct Checker<'a> {
    pub(super) project: &'a Project,
    pub(super) schemas: Schemas<'a>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The uses of values that the checker can't check, because nothing says what the values are.
    pub(super) unchecked_uses: Vec<Diagnostic>,
    /// The variables that the text sets.
    pub(super) assigned_names: AssignedNames<'a>,
    /// The values that the text, with what it includes, assigns to the members of namespaces.
    pub(super) assigned_members: AssignedMembers<'a>,
    /// The inputs of the run that the text uses.
    pub(super) used_inputs: Vec<String>,
    /// The step that uses the text, for advice about an unknown variable; `None` for a text of the whole pipeline.
    pub(super) scoped_step: Option<&'a ScopedStep<'a>>,
    pub(super) location: TextLocation,
    pub(super) text: &'a str,
    /// The prompt that the checker checks, and the includes that lead from it to the current text, in order.
    pub(super) includes: Vec<String>,
    /// Whether the current text is an included prompt, not the text of the step itself.
    pub(super) is_included: bool,
    /// The remaining number of includes to follow. Bounded, because nested includes can multiply.
    pub(super) remaining_includes: usize,
    /// Whether the text only tests whether the next expression to infer exists, as in `x is defined`.
    pub(super) is_existence_test: bool,
    /// Whether the text compares the next expression to infer. Whether a comparison can be true depends on the schema
    /// of a number, and not on the conditions around the comparison: several steps may use a prompt.
    pub(super) is_compared: bool,
    /// What the text does with undefined items of the next expression to infer.
    pub(super) missing_items: MissingItems,
    /// Whether the text is a template, not an expression.
    pub(super) is_template: bool,
    /// Whether the template always prints a text that is not blank, as far as the checker has visited it.
    pub(super) prints_text: bool,
    /// The scopes in which the text uses the name [`COMPLETION_MARKER`](super::probe::COMPLETION_MARKER).
    pub(super) marker_scopes: Vec<TypeScope<'a>>,
}

/// The maximum number of includes to follow in one text.
const MAX_INCLUDES: usize = 500;

/// The tests of templates that fail on an undefined value. Other tests, such as `is string`, return false for it.
const TESTS_FAILING_ON_UNDEFINED: &[&str] =
    &["divisibleby", "endingwith", "even", "lower", "odd", "startingwith", "upper"];

/// The type of an expression. Does not report mistakes in the expression, because its check reports them.
pub(super) fn type_of<'a>(project: &'a Project, text: &'a str, scope: &TypeScope<'a>) -> Type<'a> {
    let Ok(parsed) = parse_expression(text) else { return Type::Unknown };
    let mut checker = Checker::new(project, None);
    checker.text = text;
    checker.infer(&parsed, scope).ty
}

impl<'a> Checker<'a> {
    pub(super) fn new(project: &'a Project, scoped_step: Option<&'a ScopedStep<'a>>) -> Self {
        let (schemas, location) = (Schemas(&project.schema_documents), TextLocation::Yaml(String::new()));
        Self {
            project,
            schemas,
            diagnostics: Vec::new(),
            unchecked_uses: Vec::new(),
            assigned_names: AssignedNames::default(),
            assigned_members: AssignedMembers::default(),
            used_inputs: Vec::new(),
            scoped_step,
            location,
            text: "",
            includes: Vec::new(),
            is_included: false,
            remaining_includes: MAX_INCLUDES,
            is_existence_test: false,
            is_compared: false,
            missing_items: MissingItems::Used,
            is_template: false,
            prints_text: false,
            marker_scopes: Vec::new(),
        }
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Creates an error at a range of the text.
    pub(super) fn error(&self, code: Code, range: Range<usize>, message: String) -> Diagnostic {
        self.set_location(Diagnostic::error(code, message), range)
    }

    /// Creates a warning at a range of the text.
    pub(super) fn warning(&self, code: Code, range: Range<usize>, message: String) -> Diagnostic {
        self.set_location(Diagnostic::warning(code, message), range)
    }

    /// Advice on how to write the braces around this position as plain text.
    pub(super) fn literal_braces_advice(&self, range: &Range<usize>) -> Option<String> {
        literal_braces_help(self.template_text(), range.start)
    }

    /// The whole template for a prompt file; otherwise the checked text, which has no tags if it is an expression.
    pub(super) fn template_text(&self) -> &str {
        match &self.location {
            TextLocation::File(file) => &file.text,
            TextLocation::Yaml(_) => self.text,
        }
    }

    /// Whether a `$` precedes the braces around this position.
    pub(super) fn follows_dollar(&self, range: &Range<usize>) -> bool {
        follows_dollar(self.template_text(), range.start)
    }

    fn set_location(&self, diagnostic: Diagnostic, range: Range<usize>) -> Diagnostic {
        let advice = self.follows_dollar(&range).then(|| self.literal_braces_advice(&range)).flatten();
        let diagnostic = match &self.location {
            TextLocation::File(file) => diagnostic.with_span(file, range),
            TextLocation::Yaml(pointer) => {
                let document = &self.project.document;
                diagnostic.with_span(&document.file, document.span_in_value(pointer, range))
            }
        };
        advice.into_iter().fold(diagnostic, Diagnostic::with_help)
    }

    /// The source text of an expression, with the parentheses inside it.
    pub(super) fn source(&self, expr: &Expr<'_>) -> &'a str {
        self.text.get(expression_range(self.text, expr)).unwrap_or_default()
    }

    /// Infers the value of an expression, and reports the expression if it can be undefined.
    pub(super) fn infer_defined(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        let inferred = self.infer(expr, scope);
        if inferred.may_be_undefined {
            let diagnostic = self.missing_value(expr, &inferred, scope);
            self.report(diagnostic);
        }
        InferredValue::defined(inferred.ty)
    }

    /// Infers the value of an expression that a template prints, joins or iterates over. Unlike
    /// [`infer_defined`](Self::infer_defined), accepts a conditional expression without `else`.
    pub(super) fn infer_printed(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        let inferred = self.infer(expr, scope);
        if inferred.may_be_undefined && !inferred.prints_as_nothing {
            let diagnostic = self.missing_value(expr, &inferred, scope);
            self.report(diagnostic);
        }
        let prints_as_nothing = inferred.may_be_undefined && inferred.prints_as_nothing;
        InferredValue { prints_as_nothing, ..InferredValue::defined(inferred.ty) }
    }

    /// Infers the value of an expression that may be undefined, as in a test.
    pub(super) fn infer(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        let is_existence_test = std::mem::take(&mut self.is_existence_test);
        let is_compared = std::mem::take(&mut self.is_compared);
        let missing_items = std::mem::take(&mut self.missing_items);
        let inferred = match expr {
            Expr::Var(var) if is_existence_test && self.is_optional_parameter(var.id, scope) => {
                InferredValue::new(Type::Unknown, true)
            }
            Expr::Var(var) => self.infer_variable(var.id, expr_range(expr), scope),
            Expr::Const(constant) => InferredValue::defined(constant_type(&constant.value)),
            Expr::GetAttr(inner) => {
                let base = self.infer_base(&inner.expr, scope);
                self.note_unchecked_property(inner, &base.ty, is_existence_test, scope);
                let inferred = self.infer_property(
                    &inner.expr,
                    &base.ty,
                    inner.name,
                    trailing_name_range(inner.span(), inner.name),
                );
                self.require_declared_property(expr, inferred, is_existence_test, scope)
            }
            Expr::GetItem(inner) => {
                let base = self.infer_base(&inner.expr, scope);
                self.note_unchecked_use(&inner.expr, &base.ty);
                let inferred = self.infer_item(&inner.expr, &base.ty, &inner.subscript_expr, scope);
                self.require_declared_property(expr, inferred, is_existence_test, scope)
            }
            Expr::Slice(inner) => self.infer_slice(inner, scope),
            Expr::UnaryOp(inner) => match inner.op {
                UnaryOpKind::Not => {
                    self.infer(&inner.expr, scope);
                    InferredValue::defined(Type::Bool)
                }
                UnaryOpKind::Neg => {
                    let ty = self.infer_defined(&inner.expr, scope).ty;
                    self.note_unchecked_use(&inner.expr, &ty);
                    let is_number = |kind| kind == TypeKind::Number;
                    self.check_operand_kind(&inner.expr, &ty, is_number, "not a number", "not a number");
                    InferredValue::defined(Type::Numeric(range_of(&ty).negate()))
                }
            },
            Expr::BinOp(inner) => match inner.op {
                BinOpKind::ScAnd => self.infer_logical(&inner.left, &inner.right, true, scope),
                BinOpKind::ScOr => self.infer_logical(&inner.left, &inner.right, false, scope),
                op => self.infer_operator(op, &inner.left, &inner.right, scope),
            },
            Expr::Compare(inner) => self.infer_comparison_chain(&inner.expr, &inner.ops, scope),
            Expr::IfExpr(inner) => self.infer_conditional(inner, scope),
            Expr::Filter(inner) => self.infer_filter(inner, missing_items, scope),
            Expr::Test(inner) => {
                self.is_existence_test = matches!(inner.name, "defined" | "undefined");
                self.is_compared = true;
                let operand = if TESTS_FAILING_ON_UNDEFINED.contains(&inner.name) {
                    self.infer_defined(&inner.expr, scope)
                } else {
                    self.infer(&inner.expr, scope)
                };
                self.check_test(inner, &operand.ty, scope);
                InferredValue::defined(Type::Bool)
            }
            Expr::Call(inner) => self.infer_call(inner, scope),
            Expr::List(inner) => self.infer_list(&inner.items, scope),
            Expr::Tuple(inner) => self.infer_list(&inner.items, scope),
            Expr::Map(inner) => {
                let mut members = Some(ObjectMembers::new());
                for (key, value) in inner.keys.iter().zip(&inner.values) {
                    self.infer_defined(key, scope);
                    let ty = self.infer_defined(value, scope).ty;
                    let ty = self.stored_type(value, ty, scope);
                    let name = self.source(key).trim_matches(['"', '\'']);
                    let is_string_key = matches!(key, Expr::Const(constant) if constant.value.as_str() == Some(name));
                    members = members.filter(|_| is_string_key);
                    if let Some(members) = &mut members {
                        members.insert(name, ty);
                    }
                }
                members.map_or_else(InferredValue::unknown, |members| {
                    InferredValue::defined(Type::FixedObject(members.into()))
                })
            }
        };
        let narrowed = self.narrow(inferred, expr, scope);
        if is_compared {
            return narrowed;
        }
        InferredValue { ty: narrow_numbers(narrowed.ty, expression_path(expr).as_ref(), scope), ..narrowed }
    }

    fn infer_conditional(&mut self, inner: &IfExpr<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        self.infer(&inner.test_expr, scope);
        self.check_impossible_status(&inner.test_expr, scope);
        let (mut true_scope, mut false_scope) = (scope.clone(), scope.clone());
        self.assume(&inner.test_expr, true, &mut true_scope);
        self.assume(&inner.test_expr, false, &mut false_scope);
        let first = self.infer(&inner.true_expr, &true_scope);
        match &inner.false_expr {
            Some(false_expr) => either(first, self.infer(false_expr, &false_scope)),
            None => InferredValue {
                prints_as_nothing: !first.may_be_undefined || first.prints_as_nothing,
                ..InferredValue::new(first.ty, true)
            },
        }
    }

    fn infer_list(&mut self, items: &[Expr<'a>], scope: &TypeScope<'a>) -> InferredValue<'a> {
        let types = items.iter().map(|item| {
            let ty = self.infer_defined(item, scope).ty;
            self.stored_type(item, ty, scope)
        });
        let types: Vec<Type<'a>> = types.collect();
        InferredValue::defined(Type::tuple(types))
    }

    /// Infers `and` and `or`. A template evaluates the right side only if the left side is true (`and`) or false
    /// (`or`), so the narrowings that follow from this apply to the right side.
    fn infer_logical(
        &mut self,
        left: &Expr<'a>,
        right: &Expr<'a>,
        is_and: bool,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let left_value = self.infer(left, scope);
        let mut right_scope = scope.clone();
        self.assume(left, is_and, &mut right_scope);
        let right_value = self.infer(right, &right_scope);
        // An `or` returns its left side only if it is true, and an undefined value is not true.
        let left_value = if is_and { left_value } else { InferredValue::defined(left_value.ty.truthy()) };
        either(left_value, right_value)
    }
}

/// The value of an expression that returns one of two values.
fn either<'a>(first: InferredValue<'a>, second: InferredValue<'a>) -> InferredValue<'a> {
    let prints_as_nothing = [&first, &second].iter().all(|value| !value.may_be_undefined || value.prints_as_nothing);
    let may_be_undefined = first.may_be_undefined || second.may_be_undefined;
    InferredValue { prints_as_nothing, ..InferredValue::new(union([first.ty, second.ty]), may_be_undefined) }
}

fn constant_type<'a>(value: &minijinja::Value) -> Type<'a> {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::None => Type::Null,
        ValueKind::Bool => Type::Bool,
        ValueKind::Number => {
            f64::try_from(value.clone()).map_or(Type::Number, |number| Type::Numeric(NumberRange::exactly(number)))
        }
        ValueKind::String if value.is_true() => Type::NonEmptyText,
        ValueKind::String => Type::Text(None),
        _ => Type::Unknown,
    }
}
