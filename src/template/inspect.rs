//! Inspects a template before it runs: finds its includes and the features that orch refuses, and inserts checks.
//!
//! MiniJinja compares undefined values without an error, and it does not limit the size of values. orch therefore
//! inserts filters into the source text: a filter around each operand of a comparison refuses undefined values, and
//! filters around other expressions limit their size. MiniJinja runs the text with these insertions, and orch maps the
//! positions of errors back to the original text.

use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, CallType, Expr, Stmt};
use minijinja::machinery::{parse, parse_expr};
use minijinja::syntax::SyntaxConfig;

use super::builtins::{CHECK_MEMBER, CHECK_OPERAND, CHECK_SIZE, FILTERS, FUNCTIONS, LIMIT_BOUND, TESTS};
use super::call_help;
use super::depth::{find_invalid_token, find_too_deep_token};
use super::error::{TemplateError, TemplateErrorKind};
use super::filter_wrap::{self, FilterWrap, operand_text};
use super::ranges::{byte_range, expr_range, is_comparison, is_lookup, name_range_after, trailing_name_range};
use super::tags;
use super::walk::{Visit, walk_expr, walk_stmt};
use crate::diagnostic::{equivalents, expression_in_yaml};
use crate::model::most_similar_name;

/// The syntax of prompts. The output has no empty line for a line that contains only a tag.
pub(crate) fn template_syntax() -> SyntaxConfig {
    let mut builder = SyntaxConfig::builder();
    builder.trim_blocks(true).lstrip_blocks(true);
    builder.build().unwrap_or_default()
}

/// The result of inspecting a template or expression that may run.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// The names of the prompts that it includes, with the byte range of each name.
    pub includes: Vec<(String, Range<usize>)>,
    /// The parts of the text around which orch inserts one of its own filters.
    wraps: Vec<FilterWrap>,
    /// The texts to insert for these filters, with their offsets in the original text.
    insertions: Vec<(usize, &'static str)>,
}

impl Inspection {
    /// Returns the text that MiniJinja runs: the original text with the insertions.
    pub(super) fn rewrite(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + self.insertions.len() * 16);
        let mut copied_until = 0;
        for (offset, inserted) in &self.insertions {
            out.push_str(text.get(copied_until..*offset).unwrap_or_default());
            out.push_str(inserted);
            copied_until = *offset;
        }
        out.push_str(text.get(copied_until..).unwrap_or_default());
        out
    }

    /// Maps a range of the text that MiniJinja runs to the original text.
    pub(super) fn original_range(&self, range: Range<usize>) -> Range<usize> {
        let start = self.map_offset(range.start);
        let end = self.map_offset(range.end).max(start);
        // If the result is empty, the range was inside an insertion, so the error comes from an inserted filter. The
        // error then belongs to the operand that ends here.
        let operands = self.wraps.iter().map(|wrap| &wrap.range).filter(|operand| start == end && operand.end == end);
        operands.min_by_key(|operand| operand.len()).cloned().unwrap_or(start..end)
    }

    fn map_offset(&self, offset: usize) -> usize {
        let mut shift = 0;
        for (insert_offset, inserted) in &self.insertions {
            let insert_start = insert_offset + shift;
            if offset < insert_start + inserted.len() {
                return offset.min(insert_start).saturating_sub(shift);
            }
            shift += inserted.len();
        }
        offset.saturating_sub(shift)
    }
}

/// The names of the prompts that a template includes; empty if it can't be parsed.
pub fn includes(text: &str) -> Vec<String> {
    if !text.contains("{%") {
        return Vec::new();
    }
    let names = |inspection: Inspection| inspection.includes.into_iter().map(|(name, _)| name).collect();
    inspect_template(text).map(names).unwrap_or_default()
}

/// Inspects a template.
///
/// # Errors
/// The syntax error, or one error for each feature that the template must not use.
pub fn inspect_template(text: &str) -> Result<Inspection, Vec<TemplateError>> {
    parse_and_inspect_template(text).map(|(_, inspection)| inspection)
}

/// The syntax tree of a template that may run.
///
/// # Errors
/// The same as those of [`inspect_template`].
pub(crate) fn parse_template(text: &str) -> Result<Stmt<'_>, Vec<TemplateError>> {
    parse_and_inspect_template(text).map(|(parsed, _)| parsed)
}

fn parse_and_inspect_template(text: &str) -> Result<(Stmt<'_>, Inspection), Vec<TemplateError>> {
    check_depth(text, false)?;
    let parsed = parse(text, "template", template_syntax())
        .and_then(|parsed| find_invalid_token(text, false).map_or(Ok(parsed), Err));
    let parsed = parsed.map_err(|error| vec![TemplateError::from_template_parser(&error, text)])?;
    let mut inspector = Inspector::new(text);
    walk_stmt(&parsed, &mut inspector);
    match inspector.finish() {
        Ok(inspection) => Ok((parsed, inspection)),
        Err(errors) => Err(errors.into_iter().map(|error| error.with_literal_braces_help(text)).collect()),
    }
}

/// Inspects an expression.
///
/// # Errors
/// The syntax error, or one error for each feature that the expression must not use.
pub fn inspect_expression(text: &str) -> Result<Inspection, Vec<TemplateError>> {
    parse_and_inspect_expression(text).map(|(_, inspection)| inspection)
}

/// The syntax tree of an expression that may run.
///
/// # Errors
/// The same as those of [`inspect_expression`].
pub(crate) fn parse_expression(text: &str) -> Result<Expr<'_>, Vec<TemplateError>> {
    parse_and_inspect_expression(text).map(|(parsed, _)| parsed)
}

fn parse_and_inspect_expression(text: &str) -> Result<(Expr<'_>, Inspection), Vec<TemplateError>> {
    check_depth(text, true)?;
    let parsed = parse_expr(text).and_then(|parsed| find_invalid_token(text, true).map_or(Ok(parsed), Err));
    let parsed = parsed.map_err(|error| {
        vec![foreign_syntax_error(text).unwrap_or_else(|| TemplateError::from_syntax_error(&error, text))]
    })?;
    let mut inspector = Inspector::new(text);
    walk_expr(&parsed, &mut inspector);
    // orch converts the whole result to JSON, so its size must be bounded.
    if !is_lookup(&parsed) {
        inspector.wrap(&parsed, CHECK_SIZE_CLOSING);
    }
    inspector.finish().map(|inspection| (parsed, inspection))
}

/// The error for an expression that can't be parsed, if it uses the syntax of another language.
fn foreign_syntax_error(text: &str) -> Option<TemplateError> {
    let find_mistake = || {
        equivalents::find_expression_mistake(text).map(|mistake| TemplateError::from_syntax_mistake(text, 0, mistake))
    };
    braces_error(text).or_else(find_mistake).or_else(|| inner_braces_error(text))
}

/// The error for an expression with templates as parts, such as `{{ a }} == {{ b }}`.
fn inner_braces_error(text: &str) -> Option<TemplateError> {
    let start = text.find("{{")?;
    let range = start..start + text.get(start..)?.find("}}")? + 2;
    let is_part = text.get(..start).is_some_and(|preceding| !preceding.trim().is_empty())
        || text.get(range.end..).is_some_and(|following| !following.trim().is_empty());
    if !is_part {
        return None;
    }
    let error = TemplateError::new(TemplateErrorKind::Syntax, text, range, "an expression has no braces".to_owned());
    Some(error.with_help("write the names alone, and join texts with `~`, as in `'TEXT' ~ NAME`"))
}

/// The error for an expression with the braces of a template around it.
fn braces_error(text: &str) -> Option<TemplateError> {
    let inner = expression_in_braces(text)?;
    let range = text.len() - text.trim_start().len()..text.trim_end().len();
    let error = TemplateError::new(TemplateErrorKind::Syntax, text, range, "an expression has no braces".to_owned());
    let help = format!("write `{}`", expression_in_yaml(inner));
    Some(error.with_help(&help).with_replacement(text.trim(), inner))
}

/// The expression in a text that consists of an expression with the braces of a template around it.
pub(crate) fn expression_in_braces(text: &str) -> Option<&str> {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix('$').unwrap_or(trimmed).strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.trim_matches('-').trim();
    // In tools that need these braces, inputs are members of `inputs`.
    let inner = inner.strip_prefix("inputs.").unwrap_or(inner);
    parse_expr(inner).is_ok().then_some(inner)
}

/// Refuses a text whose syntax tree would be too deep to walk.
fn check_depth(text: &str, is_expression: bool) -> Result<(), Vec<TemplateError>> {
    let Some(range) = find_too_deep_token(text, is_expression) else { return Ok(()) };
    let message = "the expression is too long: it has too many operators in a row".to_owned();
    let error = TemplateError::new(TemplateErrorKind::Syntax, text, range, message);
    Err(vec![error.with_help("split it, with `{% set %}` or a loop")])
}

struct Inspector<'t> {
    text: &'t str,
    inspection: Inspection,
    errors: Vec<TemplateError>,
}

impl<'t> Inspector<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, inspection: Inspection::default(), errors: Vec::new() }
    }

    fn finish(mut self) -> Result<Inspection, Vec<TemplateError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        self.inspection.insertions = filter_wrap::insertions(&self.inspection.wraps);
        Ok(self.inspection)
    }

    fn refuse(&mut self, range: Range<usize>, feature: &str, help: &str) {
        let error = TemplateError::new(
            TemplateErrorKind::Refused,
            self.text,
            range,
            format!("{feature} cannot be used in prompts"),
        );
        self.errors.push(error.with_help(help));
    }

    /// Reports an unknown filter, test or function with advice of its own.
    fn push_unknown(&mut self, range: Range<usize>, message: &str, help: &str) {
        let error = TemplateError::new(TemplateErrorKind::UnknownCallable, self.text, range, message.to_owned());
        self.errors.push(error.with_help(help));
    }

    fn report_unknown(&mut self, range: Range<usize>, callable_kind: &str, name: &str, known: &[&str]) {
        let message = format!("unknown {callable_kind} `{name}`");
        let error = TemplateError::new(TemplateErrorKind::UnknownCallable, self.text, range, message);
        if let Some(replacement) = equivalents::filter_equivalent(name, known) {
            let error = error.with_help(&format!("write `{replacement}` in place of `{name}`"));
            return self.errors.push(error.with_replacement(name, replacement));
        }
        self.errors.push(match most_similar_name(name, known.iter().copied()) {
            Some(similar) => {
                let error = error.with_help(&format!("did you mean `{}`?", similar.name));
                if similar.is_certain() { error.with_replacement(name, similar.name) } else { error }
            }
            None if known.len() < 6 => error.with_help(&format!("there are only `{}`", known.join("`, `"))),
            None => error,
        });
    }

    /// Adds a filter around an expression, unless the expression is a constant.
    fn wrap(&mut self, expr: &Expr<'_>, closing_text: &'static str) {
        let range = filter_wrap::range_with_parentheses(self.text, expr);
        if !matches!(expr, Expr::Const(_)) && range.end > range.start {
            self.inspection.wraps.push(FilterWrap { range, closing_text });
        }
    }

    /// Adds a filter that limits the size of an assigned value. Omits it for a value that the text only looks up,
    /// because orch has already checked the size of such a value.
    fn wrap_assigned_value(&mut self, target: &Expr<'_>, value: &Expr<'_>) {
        match (target, value) {
            (Expr::GetAttr(_), _) => self.wrap(value, CHECK_MEMBER_CLOSING),
            (_, value) if is_lookup(value) => {}
            _ => self.wrap(value, CHECK_SIZE_CLOSING),
        }
    }
}

// The texts after a wrapped expression, such as `)|__check_size`. `concat!` accepts only literals, so the assertions
// compare them with the names of the filters.
const CHECK_OPERAND_CLOSING: &str = concat!(")|", "__check_operand");
const CHECK_SIZE_CLOSING: &str = concat!(")|", "__check_size");
const CHECK_MEMBER_CLOSING: &str = concat!(")|", "__check_member");
const LIMIT_BOUND_CLOSING: &str = concat!(")|", "__limit_bound");
const _: () = assert!(matches!(LIMIT_BOUND.as_bytes(), b"__limit_bound"));
const _: () = assert!(matches!(CHECK_OPERAND.as_bytes(), b"__check_operand"));
const _: () = assert!(matches!(CHECK_SIZE.as_bytes(), b"__check_size"));
const _: () = assert!(matches!(CHECK_MEMBER.as_bytes(), b"__check_member"));

/// Words that can't be names of variables.
const KEYWORDS: &[&str] = &["and", "else", "if", "in", "is", "not", "or"];

const USE_INCLUDE_HELP: &str =
    "orch checks prompts against schemas before a run, which requires plain templates; use `include`";

impl<'a> Visit<'a> for Inspector<'_> {
    fn visit_stmt(&mut self, stmt: &Stmt<'a>) {
        match stmt {
            Stmt::Include(inner) => match &inner.name {
                Expr::Const(name) if name.value.as_str().is_some() => {
                    let prompt = name.value.as_str().unwrap_or_default().to_owned();
                    self.inspection.includes.push((prompt, byte_range(name.span())));
                }
                other => {
                    let range = byte_range(other.span());
                    self.refuse(range, "an include by anything but a constant name", "write the name in quotes");
                }
            },
            Stmt::Import(inner) => self.refuse(byte_range(inner.span()), "`import`", USE_INCLUDE_HELP),
            Stmt::FromImport(inner) => self.refuse(byte_range(inner.span()), "`from … import`", USE_INCLUDE_HELP),
            Stmt::Extends(inner) => self.refuse(byte_range(inner.span()), "`extends`", USE_INCLUDE_HELP),
            Stmt::Block(inner) => self.refuse(byte_range(inner.span()), "`block`", USE_INCLUDE_HELP),
            Stmt::Macro(inner) => self.refuse(byte_range(inner.span()), "`macro`", USE_INCLUDE_HELP),
            Stmt::CallBlock(inner) => self.refuse(byte_range(inner.span()), "`call`", USE_INCLUDE_HELP),
            Stmt::AutoEscape(inner) => {
                self.refuse(byte_range(inner.span()), "`autoescape`", "orch never escapes text in a prompt");
            }
            Stmt::Do(inner) => self.refuse(byte_range(inner.span()), "`do`", "write it as `{{ … }}` or `{% set … %}`"),
            Stmt::ForLoop(inner) if inner.recursive => {
                self.refuse(byte_range(inner.span()), "a recursive loop", USE_INCLUDE_HELP);
            }
            Stmt::Set(inner) => self.wrap_assigned_value(&inner.target, &inner.expr),
            Stmt::WithBlock(inner) => {
                inner.assignments.iter().for_each(|(target, value)| self.wrap_assigned_value(target, value));
            }
            Stmt::Template(_)
            | Stmt::EmitExpr(_)
            | Stmt::EmitRaw(_)
            | Stmt::ForLoop(_)
            | Stmt::IfCond(_)
            | Stmt::SetBlock(_)
            | Stmt::FilterBlock(_)
            | Stmt::Continue(_)
            | Stmt::Break(_) => {}
        }
    }

    fn visit_expr(&mut self, expr: &Expr<'a>) {
        match expr {
            // Where the parser expects a value, it parses a keyword as the name of a variable.
            Expr::Var(var) if KEYWORDS.contains(&var.id) => {
                let message = format!("syntax error: unexpected `{}`", var.id);
                let range = byte_range(var.span());
                // Tags of other template languages begin with a keyword, such as `{{- if .Values.x }}`.
                let preceding = self.text.get(..range.start).unwrap_or_default();
                let is_first = preceding.trim_end().trim_end_matches(['-', '+']).ends_with("{{");
                let braces_help = if is_first { tags::literal_braces_help(self.text, range.start) } else { None };
                let help = braces_help.unwrap_or_else(|| "put operands that belong together in parentheses".to_owned());
                self.errors
                    .push(TemplateError::new(TemplateErrorKind::Syntax, self.text, range, message).with_help(&help));
            }
            Expr::Filter(inner) if !FILTERS.contains(&inner.name) => {
                let range = name_range_after(self.text, inner.expr.as_ref(), inner.span(), inner.name);
                let operand =
                    inner.expr.as_ref().map_or_else(|| "VALUE".to_owned(), |expr| operand_text(self.text, expr));
                match equivalents::filter_advice(inner.name, &operand) {
                    Some(help) => self.push_unknown(range, &format!("unknown filter `{}`", inner.name), &help),
                    None => self.report_unknown(range, "filter", inner.name, FILTERS),
                }
            }
            Expr::Test(inner) if !TESTS.contains(&inner.name) => {
                let range = name_range_after(self.text, Some(&inner.expr), inner.span(), inner.name);
                match equivalents::call_help(inner.name, &[operand_text(self.text, &inner.expr)])
                    .filter(|_| equivalents::filter_equivalent(inner.name, TESTS).is_none())
                {
                    Some(help) => self.push_unknown(range, &format!("unknown test `{}`", inner.name), &help),
                    None => self.report_unknown(range, "test", inner.name, TESTS),
                }
            }
            Expr::Call(inner) => match inner.identify_call() {
                CallType::Function(name) if FUNCTIONS.contains(&name) => {}
                CallType::Function(name) => match call_help::function_help(self.text, inner, name) {
                    Some(help) => {
                        self.push_unknown(expr_range(&inner.expr), &format!("unknown function `{name}`"), &help);
                    }
                    None => self.report_unknown(expr_range(&inner.expr), "function", name, FUNCTIONS),
                },
                CallType::Method(_, name) | CallType::Block(name) => {
                    let range = trailing_name_range(inner.expr.span(), name);
                    let help = call_help::method_help(self.text, inner, name);
                    self.refuse(range, &format!("the method `{name}`"), &help);
                }
                CallType::Object(_) => {
                    self.refuse(expr_range(expr), "a call of a value", "only functions can be called");
                }
            },
            Expr::BinOp(inner) => {
                let closing_text = match inner.op {
                    op if is_comparison(op) => CHECK_OPERAND_CLOSING,
                    // `~` prints its operands, and `in` compares them.
                    BinOpKind::Concat | BinOpKind::In => CHECK_SIZE_CLOSING,
                    _ => return,
                };
                self.wrap(&inner.left, closing_text);
                self.wrap(&inner.right, closing_text);
            }
            Expr::Slice(inner) => {
                let bounds = [&inner.start, &inner.stop, &inner.step].into_iter().flatten();
                bounds.for_each(|bound| self.wrap(bound, LIMIT_BOUND_CLOSING));
            }
            Expr::Compare(inner) => {
                self.wrap(&inner.expr, CHECK_OPERAND_CLOSING);
                inner.ops.iter().for_each(|op| self.wrap(&op.expr, CHECK_OPERAND_CLOSING));
            }
            _ => {}
        }
    }
}
