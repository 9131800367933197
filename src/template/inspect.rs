//! Inspects a template before it runs: what it includes, whether it uses a refused feature, and where it compares
//! values.
//!
//! The engine compares undefined values without an error, and orch does not allow that: it sends each operand of a
//! comparison through a filter that refuses them. The text that runs differs from the text as written only by these
//! insertions, and ranges are mapped back.

use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, CallType, Expr, Stmt};
use minijinja::machinery::{Span, parse, parse_expr};
use minijinja::syntax::SyntaxConfig;

use super::calls;
use super::depth::{too_deep, unreadable};
use super::error::{TemplateError, TemplateErrorKind as Kind};
use super::table::{FILTERS, FUNCTIONS, MEMBER, OPERAND, TESTS, WEIGHED};
use super::tags;
use super::walk::{Visit, walk_expr, walk_stmt};
use super::wrap::{self, Wrap};
use crate::diagnostic::{did_you_mean, equivalents};

/// The syntax of prompts. A line that contains only a tag leaves no empty line behind.
pub(crate) fn syntax() -> SyntaxConfig {
    let mut builder = SyntaxConfig::builder();
    builder.trim_blocks(true).lstrip_blocks(true);
    builder.build().unwrap_or_default()
}

/// What is known about a template or expression that is allowed to run.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// The names of the prompts that it includes, with the byte range of each name.
    pub includes: Vec<(String, Range<usize>)>,
    /// The parts that run through one of orch's own filters.
    wraps: Vec<Wrap>,
    /// The texts to insert for these parts, with their offsets in the text as written.
    inserts: Vec<(usize, &'static str)>,
}

impl Inspection {
    /// The text that runs: the text as written with the insertions.
    pub(super) fn rewritten(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + self.inserts.len() * 16);
        let mut done = 0;
        for (at, insert) in &self.inserts {
            out.push_str(text.get(done..*at).unwrap_or_default());
            out.push_str(insert);
            done = *at;
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }

    /// Maps a range of the text that runs to the text as written.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        let start = self.original_offset(range.start);
        let end = self.original_offset(range.end).max(start);
        // An empty range was inside of an insertion, so the filter has refused the operand that ends there.
        let operand = self.wraps.iter().map(|wrap| &wrap.range).filter(|operand| start == end && operand.end == end);
        operand.min_by_key(|operand| operand.len()).cloned().unwrap_or(start..end)
    }

    fn original_offset(&self, offset: usize) -> usize {
        let mut shift = 0;
        for (at, insert) in &self.inserts {
            let starts = at + shift;
            if offset < starts + insert.len() {
                return offset.min(starts).saturating_sub(shift);
            }
            shift += insert.len();
        }
        offset.saturating_sub(shift)
    }
}

/// The names of the prompts that a template includes; empty if it can't be parsed.
pub fn includes(text: &str) -> Vec<String> {
    if !text.contains("{%") {
        return Vec::new();
    }
    let names = |found: Inspection| found.includes.into_iter().map(|(name, _)| name).collect();
    inspect_template(text).map(names).unwrap_or_default()
}

/// Inspects a template.
///
/// # Errors
/// The syntax error, or every feature that it uses and may not use.
pub fn inspect_template(text: &str) -> Result<Inspection, Vec<TemplateError>> {
    shallow(text, false)?;
    let parsed = parse(text, "template", syntax()).and_then(|parsed| unreadable(text, false).map_or(Ok(parsed), Err));
    let parsed = parsed.map_err(|error| vec![TemplateError::in_template(&error, text)])?;
    let mut inspector = Inspector::new(text);
    walk_stmt(&parsed, &mut inspector);
    inspector.finish().map_err(|errors| errors.into_iter().map(|error| error.with_braces_as_text(text)).collect())
}

/// Inspects an expression.
///
/// # Errors
/// The syntax error, or every feature that it uses and may not use.
pub fn inspect_expression(text: &str) -> Result<Inspection, Vec<TemplateError>> {
    shallow(text, true)?;
    let parsed = parse_expr(text).and_then(|parsed| unreadable(text, true).map_or(Ok(parsed), Err));
    let parsed = parsed.map_err(|error| vec![slip(text).unwrap_or_else(|| TemplateError::syntax(&error, text))])?;
    let mut inspector = Inspector::new(text);
    walk_expr(&parsed, &mut inspector);
    // The whole result is converted to JSON, so its size must be bounded.
    if !is_lookup(&parsed) {
        inspector.wrap(&parsed, WEIGHED_END);
    }
    inspector.finish()
}

/// The error for an expression that can't be parsed, if its syntax is known from another language.
fn slip(text: &str) -> Option<TemplateError> {
    braces(text).or_else(|| equivalents::in_expression(text).map(|slip| TemplateError::slip(text, 0, slip)))
}

/// The error for an expression with the braces of a template around it.
fn braces(text: &str) -> Option<TemplateError> {
    let written = text.trim();
    let inner = written.strip_prefix('$').unwrap_or(written).strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.trim_matches('-').trim();
    // In tools that need these braces, inputs are members of `inputs`.
    let inner = inner.strip_prefix("inputs.").unwrap_or(inner);
    parse_expr(inner).ok()?;
    let range = text.len() - text.trim_start().len()..text.trim_end().len();
    let error = TemplateError::new(Kind::Syntax, text, range, "an expression has no braces".to_owned());
    Some(error.hint(&format!("write `{inner}`")).replaced_by(written, inner))
}

/// Refuses a text whose syntax tree would be too deep to walk.
fn shallow(text: &str, expression: bool) -> Result<(), Vec<TemplateError>> {
    let Some(range) = too_deep(text, expression) else { return Ok(()) };
    let message = "the expression is too long: it has too many operators in a row".to_owned();
    let error = TemplateError::new(Kind::Syntax, text, range, message);
    Err(vec![error.hint("split it, with `{% set %}` or a loop")])
}

/// The byte range of a node.
pub(crate) fn bytes(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

/// The byte range of an expression. The node of a chain such as `a.b[0].c` only has the range of its last link, so the
/// start is that of the chain's first value.
pub(crate) fn extent(expr: &Expr<'_>) -> Range<usize> {
    let own = bytes(expr.span());
    let first = match expr {
        Expr::GetAttr(inner) => Some(&inner.expr),
        Expr::GetItem(inner) => Some(&inner.expr),
        Expr::Slice(inner) => Some(&inner.expr),
        Expr::Call(inner) => Some(&inner.expr),
        Expr::Filter(inner) => inner.expr.as_ref(),
        Expr::Test(inner) => Some(&inner.expr),
        Expr::BinOp(inner) => Some(&inner.left),
        Expr::Compare(inner) => Some(&inner.expr),
        Expr::IfExpr(inner) => Some(&inner.true_expr),
        Expr::UnaryOp(inner) if begins_early(expr) => Some(&inner.expr),
        Expr::Var(_) | Expr::Const(_) | Expr::UnaryOp(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => None,
    };
    let start = match first {
        Some(first) if begins_early(expr) => extent(first).start,
        Some(first) => extent(first).start.min(own.start),
        None => own.start,
    };
    start..own.end
}

/// Whether the range of a node may begin before its first operand, because the parser starts conditional expressions
/// and comparisons at the token before them. `a is not b` is `not` around `a is b`, and `a not in b` around `a in b`,
/// with the same range.
pub(super) fn begins_early(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::IfExpr(_) | Expr::Compare(_) => true,
        Expr::BinOp(inner) => is_in(inner.op) || is_comparison(inner.op),
        Expr::UnaryOp(inner) => {
            let same = bytes(inner.span()) == bytes(inner.expr.span());
            let holds_not = matches!(&inner.expr, Expr::Test(_))
                || matches!(&inner.expr, Expr::BinOp(operation) if is_in(operation.op));
            same && holds_not
        }
        _ => false,
    }
}

/// The byte range of a name at the end of a node, such as a property or a filter without arguments.
pub(crate) fn name_at_end(span: Span, name: &str) -> Range<usize> {
    let end = span.end_offset as usize;
    end.saturating_sub(name.len())..end
}

/// The byte range of the name of a filter or test: its first occurrence after the operand.
pub(crate) fn name_after(text: &str, operand: Option<&Expr<'_>>, span: Span, name: &str) -> Range<usize> {
    let whole = bytes(span);
    let from = operand.map_or(whole.start, |expr| bytes(expr.span()).end).min(whole.end);
    match text.get(from..whole.end).and_then(|rest| rest.find(name)) {
        Some(at) => from + at..from + at + name.len(),
        None => whole,
    }
}

struct Inspector<'t> {
    text: &'t str,
    found: Inspection,
    errors: Vec<TemplateError>,
}

impl<'t> Inspector<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, found: Inspection::default(), errors: Vec::new() }
    }

    fn finish(mut self) -> Result<Inspection, Vec<TemplateError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        self.found.inserts = wrap::inserts(&self.found.wraps);
        Ok(self.found)
    }

    fn refuse(&mut self, range: Range<usize>, what: &str, hint: &str) {
        let error = TemplateError::new(Kind::Refused, self.text, range, format!("{what} cannot be used in prompts"));
        self.errors.push(error.hint(hint));
    }

    fn unknown(&mut self, range: Range<usize>, what: &str, name: &str, known: &[&str]) {
        let message = format!("unknown {what} `{name}`");
        let error = TemplateError::new(Kind::UnknownCallable, self.text, range, message);
        if let Some(right) = equivalents::filter(name, known) {
            let error = error.hint(&format!("write `{right}` in place of `{name}`"));
            return self.errors.push(error.replaced_by(name, right));
        }
        self.errors.push(match did_you_mean(name, known.iter().copied()) {
            Some(close) => error.hint(&format!("did you mean `{close}`?")),
            None if known.len() < 6 => error.hint(&format!("there are only `{}`", known.join("`, `"))),
            None => error,
        });
    }

    /// Sends a part through a filter, unless it is a constant.
    fn wrap(&mut self, expr: &Expr<'_>, close: &'static str) {
        let range = wrap::operand_extent(self.text, expr);
        if !matches!(expr, Expr::Const(_)) && range.end > range.start {
            self.found.wraps.push(Wrap { range, close });
        }
    }

    /// Sends the value of an assignment through a filter that limits its size. A value that is only looked up has been
    /// limited already.
    fn assigned(&mut self, target: &Expr<'_>, value: &Expr<'_>) {
        match (target, value) {
            (Expr::GetAttr(_), _) => self.wrap(value, MEMBER_END),
            (_, value) if is_lookup(value) => {}
            _ => self.wrap(value, WEIGHED_END),
        }
    }
}

const OPERAND_END: &str = concat!(")|", "__operand");
const WEIGHED_END: &str = concat!(")|", "__weighed");
const MEMBER_END: &str = concat!(")|", "__member");
const _: () = assert!(matches!(OPERAND.as_bytes(), b"__operand"));
const _: () = assert!(matches!(WEIGHED.as_bytes(), b"__weighed"));
const _: () = assert!(matches!(MEMBER.as_bytes(), b"__member"));

/// Words that can't be names of variables.
const KEYWORDS: &[&str] = &["and", "else", "if", "in", "is", "not", "or"];

const NO_TYPES: &str = "prompts are checked against schemas before a run, which needs plain templates; use `include`";

impl<'a> Visit<'a> for Inspector<'_> {
    fn stmt(&mut self, stmt: &Stmt<'a>) {
        match stmt {
            Stmt::Include(inner) => match &inner.name {
                Expr::Const(name) if name.value.as_str().is_some() => {
                    let written = name.value.as_str().unwrap_or_default().to_owned();
                    self.found.includes.push((written, bytes(name.span())));
                }
                other => {
                    let range = bytes(other.span());
                    self.refuse(range, "an include by anything but a constant name", "write the name in quotes");
                }
            },
            Stmt::Import(inner) => self.refuse(bytes(inner.span()), "`import`", NO_TYPES),
            Stmt::FromImport(inner) => self.refuse(bytes(inner.span()), "`from … import`", NO_TYPES),
            Stmt::Extends(inner) => self.refuse(bytes(inner.span()), "`extends`", NO_TYPES),
            Stmt::Block(inner) => self.refuse(bytes(inner.span()), "`block`", NO_TYPES),
            Stmt::Macro(inner) => self.refuse(bytes(inner.span()), "`macro`", NO_TYPES),
            Stmt::CallBlock(inner) => self.refuse(bytes(inner.span()), "`call`", NO_TYPES),
            Stmt::AutoEscape(inner) => {
                self.refuse(bytes(inner.span()), "`autoescape`", "nothing is ever escaped in a prompt");
            }
            Stmt::Do(inner) => self.refuse(bytes(inner.span()), "`do`", "write it as `{{ … }}` or `{% set … %}`"),
            Stmt::ForLoop(inner) if inner.recursive => {
                self.refuse(bytes(inner.span()), "a recursive loop", NO_TYPES);
            }
            Stmt::Set(inner) => self.assigned(&inner.target, &inner.expr),
            Stmt::WithBlock(inner) => inner.assignments.iter().for_each(|(to, value)| self.assigned(to, value)),
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

    fn expr(&mut self, expr: &Expr<'a>) {
        match expr {
            // Where the parser expects a value, it takes these words for variables.
            Expr::Var(var) if KEYWORDS.contains(&var.id) => {
                let message = format!("syntax error: unexpected `{}`", var.id);
                let range = bytes(var.span());
                // Tags of other template languages begin with a keyword, such as `{{- if .Values.x }}`.
                let before = self.text.get(..range.start).unwrap_or_default();
                let is_first = before.trim_end().trim_end_matches(['-', '+']).ends_with("{{");
                let as_text = if is_first { tags::braces_as_text(self.text, range.start) } else { None };
                let hint = as_text.unwrap_or_else(|| "put what belongs together in parentheses".to_owned());
                self.errors.push(TemplateError::new(Kind::Syntax, self.text, range, message).hint(&hint));
            }
            Expr::Filter(inner) if !FILTERS.contains(&inner.name) => {
                let range = name_after(self.text, inner.expr.as_ref(), inner.span(), inner.name);
                self.unknown(range, "filter", inner.name, FILTERS);
            }
            Expr::Test(inner) if !TESTS.contains(&inner.name) => {
                let range = name_after(self.text, Some(&inner.expr), inner.span(), inner.name);
                let operand = self.text.get(extent(&inner.expr)).unwrap_or_default();
                match equivalents::call(inner.name, &[operand])
                    .filter(|_| equivalents::filter(inner.name, TESTS).is_none())
                {
                    Some(advice) => {
                        let message = format!("unknown test `{}`", inner.name);
                        let error = TemplateError::new(Kind::UnknownCallable, self.text, range, message);
                        self.errors.push(error.hint(&advice));
                    }
                    None => self.unknown(range, "test", inner.name, TESTS),
                }
            }
            Expr::Call(inner) => match inner.identify_call() {
                CallType::Function(name) if FUNCTIONS.contains(&name) => {}
                CallType::Function(name) => match calls::advice(self.text, inner, name) {
                    Some(advice) => {
                        let message = format!("unknown function `{name}`");
                        let error = TemplateError::new(Kind::UnknownCallable, self.text, extent(&inner.expr), message);
                        self.errors.push(error.hint(&advice));
                    }
                    None => self.unknown(extent(&inner.expr), "function", name, FUNCTIONS),
                },
                CallType::Method(_, name) | CallType::Block(name) => {
                    let range = name_at_end(inner.expr.span(), name);
                    let hint = calls::method(self.text, inner, name);
                    self.refuse(range, &format!("the method `{name}`"), &hint);
                }
                CallType::Object(_) => self.refuse(extent(expr), "a call of a value", "only functions can be called"),
            },
            Expr::BinOp(inner) => {
                let close = match inner.op {
                    op if is_comparison(op) => OPERAND_END,
                    // These operators print or compare their operands.
                    BinOpKind::Concat | BinOpKind::In => WEIGHED_END,
                    _ => return,
                };
                self.wrap(&inner.left, close);
                self.wrap(&inner.right, close);
            }
            Expr::Compare(inner) => {
                self.wrap(&inner.expr, OPERAND_END);
                inner.ops.iter().for_each(|op| self.wrap(&op.expr, OPERAND_END));
            }
            _ => {}
        }
    }
}

/// Whether an expression only looks up a value that exists already.
fn is_lookup(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_))
}

/// Whether an operator is a comparison. `in` is not one, because the engine itself refuses undefined values there.
fn is_comparison(op: BinOpKind) -> bool {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    matches!(op, Eq | Ne | Lt | Lte | Gt | Gte)
}

fn is_in(op: BinOpKind) -> bool {
    matches!(op, BinOpKind::In)
}
