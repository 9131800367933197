//! Names the values of expressions in conditions, so that equal expressions have the same name.

use minijinja::Value as TemplateValue;
use minijinja::machinery::ast::{BinOpKind, CallArg, CompareOpKind, Expr, UnaryOpKind};

use super::condition::{Condition, MAX_PARTS};
use super::truth::ConditionReader;

impl ConditionReader<'_, '_> {
    /// The name of an expression's value in conditions. Two expressions with the same name have the same value.
    /// `None` if the value depends on a namespace or on a function.
    pub(super) fn key(self, expr: &Expr<'_>) -> Option<String> {
        if let Some(iteration) = self.iteration(expr) {
            return Some((*iteration.variable.key).to_owned());
        }
        Some(match expr {
            Expr::Var(var) => self.scope.key(var.id)?.to_owned(),
            Expr::Const(constant) => match constant.value.as_str() {
                Some(text) => format!("{text:?}"),
                None => constant.value.to_string(),
            },
            Expr::GetAttr(inner) => format!("{}.{}", self.key(&inner.expr)?, inner.name),
            Expr::GetItem(inner) => match &inner.subscript_expr {
                Expr::Const(constant) if constant.value.as_str().is_some_and(is_identifier) => {
                    format!("{}.{}", self.key(&inner.expr)?, constant.value)
                }
                subscript => format!("{}[{}]", self.key(&inner.expr)?, self.key(subscript)?),
            },
            Expr::Slice(inner) => {
                let [start, stop, step] = [&inner.start, &inner.stop, &inner.step].map(|bound| match bound {
                    Some(bound) => self.key(bound),
                    None => Some(String::new()),
                });
                format!("{}[{}:{}:{}]", self.key(&inner.expr)?, start?, stop?, step?)
            }
            Expr::UnaryOp(inner) => match inner.op {
                UnaryOpKind::Not => format!("(not {})", self.key(&inner.expr)?),
                UnaryOpKind::Neg => format!("(-{})", self.key(&inner.expr)?),
            },
            Expr::BinOp(inner) => {
                format!("({} {} {})", self.key(&inner.left)?, operator(inner.op), self.key(&inner.right)?)
            }
            Expr::Compare(inner) => {
                let mut text = self.key(&inner.expr)?;
                for op in &inner.ops {
                    text.push_str(&format!(" {} {}", comparison_operator(op.op), self.key(&op.expr)?));
                }
                format!("({text})")
            }
            Expr::IfExpr(inner) => {
                let otherwise = match &inner.false_expr {
                    Some(expr) => self.key(expr)?,
                    None => String::new(),
                };
                format!("({} if {} else {otherwise})", self.key(&inner.true_expr)?, self.key(&inner.test_expr)?)
            }
            Expr::Filter(inner) => {
                format!("{}|{}({})", self.key(inner.expr.as_ref()?)?, inner.name, self.argument_keys(&inner.args)?)
            }
            Expr::Test(inner) => {
                format!("({} is {}({}))", self.key(&inner.expr)?, inner.name, self.argument_keys(&inner.args)?)
            }
            Expr::Call(_) => return None,
            Expr::List(inner) => format!("[{}]", self.joined_keys(&inner.items)?),
            Expr::Tuple(inner) => format!("({},)", self.joined_keys(&inner.items)?),
            Expr::Map(inner) => {
                format!("{{{}: {}}}", self.joined_keys(&inner.keys)?, self.joined_keys(&inner.values)?)
            }
        })
    }

    /// The names of arguments.
    pub(super) fn argument_keys(self, args: &[CallArg<'_>]) -> Option<String> {
        let keys: Option<Vec<String>> = args
            .iter()
            .map(|arg| match arg {
                CallArg::Pos(expr) => self.key(expr),
                CallArg::Kwarg(name, expr) => Some(format!("{name}={}", self.key(expr)?)),
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => None,
            })
            .collect();
        Some(keys?.join(", "))
    }

    fn joined_keys(self, items: &[Expr<'_>]) -> Option<String> {
        let keys: Option<Vec<String>> = items.iter().map(|item| self.key(item)).collect();
        Some(keys?.join(", "))
    }
}

/// When a value that is one of `texts` equals a text.
pub(super) fn one_of_equality(key: &str, texts: &[&str], text: &str) -> Condition {
    let equality = |text: &str| Condition::equality(key.to_owned(), &format!("{text:?}"));
    match texts.split_last() {
        _ if !texts.contains(&text) => Condition::Never,
        // If the value is none of the other texts, it is the last one.
        Some((last, others)) if *last == text && others.len() < MAX_PARTS && !others.contains(last) => {
            Condition::any(others.iter().map(|other| equality(other))).negate()
        }
        Some(_) | None => equality(text),
    }
}

/// The text of a constant, if every other text stands for a constant that is not equal to it.
pub(super) fn constant_key(constant: &TemplateValue) -> Option<String> {
    if let Some(text) = constant.as_str() {
        return Some(format!("{text:?}"));
    }
    if constant.is_none() {
        return Some("none".to_owned());
    }
    constant.is_integer().then(|| constant.to_string())
}

/// Whether a template can read a property of this name with a dot.
fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn operator(op: BinOpKind) -> &'static str {
    match op {
        BinOpKind::Eq => "==",
        BinOpKind::Ne => "!=",
        BinOpKind::Lt => "<",
        BinOpKind::Lte => "<=",
        BinOpKind::Gt => ">",
        BinOpKind::Gte => ">=",
        BinOpKind::ScAnd => "and",
        BinOpKind::ScOr => "or",
        BinOpKind::Add => "+",
        BinOpKind::Sub => "-",
        BinOpKind::Mul => "*",
        BinOpKind::Div => "/",
        BinOpKind::FloorDiv => "//",
        BinOpKind::Rem => "%",
        BinOpKind::Pow => "**",
        BinOpKind::Concat => "~",
        BinOpKind::In => "in",
    }
}

fn comparison_operator(op: CompareOpKind) -> &'static str {
    match op {
        CompareOpKind::Eq => "==",
        CompareOpKind::Ne => "!=",
        CompareOpKind::Lt => "<",
        CompareOpKind::Lte => "<=",
        CompareOpKind::Gt => ">",
        CompareOpKind::Gte => ">=",
        CompareOpKind::In => "in",
        CompareOpKind::NotIn => "not in",
    }
}
