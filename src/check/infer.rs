//! Infers the types of expressions and reports what can go wrong when they are evaluated.

use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::facts::{facts, index, path};
use super::scope::{KnownValue, TypeScope};
use super::sites::Site;
use super::types::{ObjectMembers, Schemas, Type, TypeKind, union};
use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::template::walk::arg;
use crate::template::{braces_as_text, extent, follows_dollar, name_at_end};

/// Where the checked text is written.
#[derive(Clone, Debug)]
pub(super) enum ExpressionPlace {
    /// In a file of its own.
    File(Arc<SourceFile>),
    /// In the pipeline file, as the value at this pointer.
    Yaml(String),
}

/// Checks one text and collects what it finds.
pub(super) struct Checker<'a> {
    pub(super) project: &'a Project,
    pub(super) schemas: Schemas<'a>,
    pub(super) found: Vec<Diagnostic>,
    /// The inputs of the run that the text uses.
    pub(super) used: Vec<String>,
    /// The step that uses the text; without one, the text belongs to the whole pipeline. Decides the advice about an
    /// unknown variable.
    pub(super) site: Option<&'a Site<'a>>,
    pub(super) place: ExpressionPlace,
    pub(super) text: &'a str,
    pub(super) includes: Vec<String>,
    /// How many more includes may be followed. Bounded, because nested includes can multiply.
    pub(super) budget: usize,
    /// Whether the next inferred value is only tested for existence, as in `x is defined`.
    pub(super) asking: bool,
    /// The scopes in which the text uses the name [`MARK`](super::probe::MARK).
    pub(super) seen: Vec<TypeScope<'a>>,
}

/// Tests that fail on an undefined value. Others, such as `is string`, are false for it.
const NEED_A_VALUE: &[&str] = &["divisibleby", "endingwith", "even", "lower", "odd", "startingwith", "upper"];

impl<'a> Checker<'a> {
    pub(super) fn new(project: &'a Project, site: Option<&'a Site<'a>>) -> Self {
        let (schemas, place) = (Schemas(&project.schema_documents), ExpressionPlace::Yaml(String::new()));
        Self {
            project,
            schemas,
            found: Vec::new(),
            used: Vec::new(),
            site,
            place,
            text: "",
            includes: Vec::new(),
            budget: 500,
            asking: false,
            seen: Vec::new(),
        }
    }

    pub(super) fn report(&mut self, problem: Diagnostic) {
        self.found.push(problem);
    }

    pub(super) fn error(&self, code: Code, range: Range<usize>, message: String) -> Diagnostic {
        self.located(Diagnostic::error(code, message), range)
    }

    pub(super) fn warning(&self, code: Code, range: Range<usize>, message: String) -> Diagnostic {
        self.located(Diagnostic::warning(code, message), range)
    }

    /// Advice on how to write the braces around this position as plain text.
    pub(super) fn braces_as_text(&self, range: &Range<usize>) -> Option<String> {
        braces_as_text(self.template_text(), range.start)
    }

    /// The whole template for a prompt file; otherwise the checked text, which has no tags if it is an expression.
    pub(super) fn template_text(&self) -> &str {
        match &self.place {
            ExpressionPlace::File(file) => &file.text,
            ExpressionPlace::Yaml(_) => self.text,
        }
    }

    /// Whether a `$` precedes the braces around this position.
    pub(super) fn follows_dollar(&self, range: &Range<usize>) -> bool {
        follows_dollar(self.template_text(), range.start)
    }

    fn located(&self, problem: Diagnostic, range: Range<usize>) -> Diagnostic {
        let advice = self.follows_dollar(&range).then(|| self.braces_as_text(&range)).flatten();
        let problem = match &self.place {
            ExpressionPlace::File(file) => problem.at(file, range),
            ExpressionPlace::Yaml(pointer) => {
                let document = &self.project.document;
                problem.at(&document.file, document.within(pointer, range))
            }
        };
        advice.into_iter().fold(problem, Diagnostic::help)
    }

    /// The source text of an expression.
    pub(super) fn source(&self, expr: &Expr<'_>) -> &'a str {
        self.text.get(extent(expr)).unwrap_or_default()
    }

    /// Infers what an expression is, and reports it if it can be undefined.
    pub(super) fn value(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> KnownValue<'a> {
        let known = self.infer(expr, scope);
        if known.maybe {
            let written = self.source(expr).to_owned();
            let problem = self.warning(Code::MaybeMissing, extent(expr), format!("`{written}` may be missing"));
            let test = match list_of(expr) {
                Some(list) => self.source(list).to_owned(),
                None => format!("{written} is defined"),
            };
            let guard = match &self.place {
                ExpressionPlace::Yaml(pointer) if !pointer.ends_with("/message") => format!("`{test} and …`"),
                _ => format!("`{{% if {test} %}}…{{% endif %}}`"),
            };
            self.report(problem.help(format!("guard it: {guard}, or give it a value: `{written} | default(…)`")));
        }
        KnownValue::is(known.ty)
    }

    /// Infers what an expression is, which may be undefined, as in a test.
    pub(super) fn infer(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> KnownValue<'a> {
        let asking = std::mem::take(&mut self.asking);
        let known = match expr {
            Expr::Var(var) => self.variable(var.id, extent(expr), scope),
            Expr::Const(constant) => KnownValue::is(constant_type(&constant.value)),
            Expr::GetAttr(inner) => {
                let base = self.value(&inner.expr, scope);
                let known = self.property(&inner.expr, &base.ty, inner.name, name_at_end(inner.span(), inner.name));
                self.named(expr, known, asking, scope)
            }
            Expr::GetItem(inner) => {
                let base = self.value(&inner.expr, scope);
                let known = self.item(&inner.expr, &base.ty, &inner.subscript_expr, scope);
                self.named(expr, known, asking, scope)
            }
            Expr::Slice(inner) => {
                let base = self.value(&inner.expr, scope);
                for part in [&inner.start, &inner.stop, &inner.step].into_iter().flatten() {
                    self.value(part, scope);
                }
                KnownValue::is(match base.ty.kind() {
                    Some(TypeKind::List) => Type::List(self.schemas.items(&base.ty).into(), 0),
                    Some(TypeKind::Text) => Type::Text(None),
                    _ => Type::Unknown,
                })
            }
            Expr::UnaryOp(inner) => match inner.op {
                UnaryOpKind::Not => {
                    self.infer(&inner.expr, scope);
                    KnownValue::is(Type::Bool)
                }
                UnaryOpKind::Neg => {
                    self.value(&inner.expr, scope);
                    KnownValue::is(Type::Number)
                }
            },
            Expr::BinOp(inner) => match inner.op {
                BinOpKind::ScAnd => self.both(&inner.left, &inner.right, true, scope),
                BinOpKind::ScOr => self.both(&inner.left, &inner.right, false, scope),
                op => self.operator(op, &inner.left, &inner.right, scope),
            },
            Expr::Compare(inner) => self.chain(&inner.expr, &inner.ops, scope),
            Expr::IfExpr(inner) => {
                self.infer(&inner.test_expr, scope);
                let (mut yes, mut no) = (scope.clone(), scope.clone());
                yes.learn(facts(&inner.test_expr, true));
                no.learn(facts(&inner.test_expr, false));
                let first = self.infer(&inner.true_expr, &yes);
                match &inner.false_expr {
                    Some(other) => either(first, self.infer(other, &no)),
                    None => KnownValue { ty: Type::Unknown, ..first },
                }
            }
            Expr::Filter(inner) => self.filter(inner, scope),
            Expr::Test(inner) => {
                self.asking = matches!(inner.name, "defined" | "undefined");
                if NEED_A_VALUE.contains(&inner.name) {
                    self.value(&inner.expr, scope);
                } else {
                    self.infer(&inner.expr, scope);
                }
                for argument in &inner.args {
                    self.value(arg(argument), scope);
                }
                KnownValue::is(Type::Bool)
            }
            Expr::Call(inner) => {
                for argument in &inner.args {
                    self.value(arg(argument), scope);
                }
                let is_range = matches!(&inner.expr, Expr::Var(var) if var.id == "range");
                KnownValue::is(if is_range { Type::List(Type::Number.into(), 0) } else { Type::Unknown })
            }
            Expr::List(inner) => self.list(&inner.items, scope),
            Expr::Tuple(inner) => self.list(&inner.items, scope),
            Expr::Map(inner) => {
                let mut members = Some(ObjectMembers::new());
                for (key, value) in inner.keys.iter().zip(&inner.values) {
                    self.value(key, scope);
                    let ty = self.value(value, scope).ty;
                    let name = self.source(key).trim_matches(['"', '\'']);
                    let plain = matches!(key, Expr::Const(constant) if constant.value.as_str() == Some(name));
                    members = members.filter(|_| plain);
                    if let Some(members) = &mut members {
                        members.insert(name, ty);
                    }
                }
                members.map_or_else(KnownValue::unknown, |members| KnownValue::is(Type::Fixed(members.into())))
            }
        };
        self.narrowed(known, path(expr).as_ref(), scope)
    }

    fn list(&mut self, items: &[Expr<'a>], scope: &TypeScope<'a>) -> KnownValue<'a> {
        let types: Vec<Type<'a>> = items.iter().map(|item| self.value(item, scope).ty).collect();
        let length = types.len() as u64;
        KnownValue::is(Type::List(union(types).into(), length))
    }

    /// Infers `and` and `or`. The right side is evaluated only if the left side is true (`and`) or false (`or`), so the
    /// facts that follow from that hold in it.
    fn both(&mut self, left: &Expr<'a>, right: &Expr<'a>, and: bool, scope: &TypeScope<'a>) -> KnownValue<'a> {
        let first = self.infer(left, scope);
        let mut inside = scope.clone();
        inside.learn(facts(left, and));
        let second = self.infer(right, &inside);
        // An `or` returns its left side only if that is true, and then it is defined.
        let first = if and { first } else { KnownValue::is(first.ty) };
        either(first, second)
    }
}

/// The list that an expression takes the first or last item of; that item is missing only if the list is empty.
fn list_of<'a, 'b>(expr: &'b Expr<'a>) -> Option<&'b Expr<'a>> {
    match expr {
        Expr::GetItem(inner) => match &inner.subscript_expr {
            key if matches!(index(key), Some(0 | -1)) => Some(&inner.expr),
            _ => None,
        },
        Expr::Filter(inner) if matches!(inner.name, "first" | "last" | "min" | "max") => inner.expr.as_ref(),
        _ => None,
    }
}

/// A value that is one of the two.
fn either<'a>(first: KnownValue<'a>, second: KnownValue<'a>) -> KnownValue<'a> {
    KnownValue::maybe(union([first.ty, second.ty]), first.maybe || second.maybe)
}

fn constant_type<'a>(value: &minijinja::Value) -> Type<'a> {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::None => Type::Null,
        ValueKind::Bool => Type::Bool,
        ValueKind::Number => Type::Number,
        ValueKind::String => Type::Text(None),
        _ => Type::Unknown,
    }
}
