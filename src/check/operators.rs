//! Operators with types: comparisons that can't be true, and sums that can't be made.

use minijinja::machinery::ast::{BinOpKind, CompareOp, CompareOpKind, Expr};

use super::infer::Checker;
use super::scope::{Known, Scope};
use super::types::{Kind, Type};
use crate::diagnostic::Code;
use crate::template::extent;

/// What a comparison asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Equal,
    Order,
    Contains,
}

impl<'a> Checker<'a> {
    /// An operator other than `and` and `or`.
    pub(super) fn operator(
        &mut self,
        op: BinOpKind,
        left: &Expr<'a>,
        right: &Expr<'a>,
        scope: &Scope<'a>,
    ) -> Known<'a> {
        let (a, b) = (self.value(left, scope).ty, self.value(right, scope).ty);
        let asks = match op {
            BinOpKind::Eq | BinOpKind::Ne => Asks::Equal,
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => Asks::Order,
            BinOpKind::In => Asks::Contains,
            BinOpKind::Concat => return Known::is(Type::Text(None)),
            BinOpKind::Add => return self.sum(left, &a, right, &b),
            BinOpKind::Mul => return Known::is(product(&a, &b)),
            BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => {
                self.number(left, &a);
                self.number(right, &b);
                return Known::is(Type::Number);
            }
            BinOpKind::ScAnd | BinOpKind::ScOr => return Known::unknown(),
        };
        self.compare(asks, left, &a, right, &b);
        Known::is(Type::Bool)
    }

    /// A chain such as `1 < x < 3`.
    pub(super) fn chain(&mut self, first: &Expr<'a>, ops: &[CompareOp<'a>], scope: &Scope<'a>) -> Known<'a> {
        let mut left = first;
        let mut a = self.value(left, scope).ty;
        for op in ops {
            let b = self.value(&op.expr, scope).ty;
            let asks = match op.op {
                CompareOpKind::Eq | CompareOpKind::Ne => Asks::Equal,
                CompareOpKind::Lt | CompareOpKind::Lte | CompareOpKind::Gt | CompareOpKind::Gte => Asks::Order,
                CompareOpKind::In | CompareOpKind::NotIn => Asks::Contains,
            };
            self.compare(asks, left, &a, &op.expr, &b);
            (left, a) = (&op.expr, b);
        }
        Known::is(Type::Bool)
    }

    fn compare(&mut self, asks: Asks, left: &Expr<'a>, a: &Type<'a>, right: &Expr<'a>, b: &Type<'a>) {
        match asks {
            Asks::Contains => self.contains(left, a, right, b),
            Asks::Equal => {
                self.among(left, a, right);
                self.among(right, b, left);
                self.comparable(asks, left, a, right, b);
            }
            Asks::Order => self.comparable(asks, left, a, right, b),
        }
    }

    /// Reports two values that have no kind in common.
    fn comparable(&mut self, asks: Asks, left: &Expr<'a>, a: &Type<'a>, right: &Expr<'a>, b: &Type<'a>) {
        let (Some(first), Some(second)) = (a.kinds(), b.kinds()) else { return };
        if first.iter().any(|kind| second.contains(kind)) {
            return;
        }
        let range = extent(left).start..extent(right).end;
        let (x, y) = (self.source(left), self.source(right));
        let is = |text: &str, ty: &Type<'a>| {
            let words = ty.words();
            if text.starts_with(['"', '\'']) || text == "none" { words } else { format!("`{text}`, {words},") }
        };
        let null = first == [Kind::Null] || second == [Kind::Null];
        let problem = if asks == Asks::Equal && null {
            let other = if first == [Kind::Null] { y } else { x };
            self.warning(Code::NeverEqual, range, format!("`{other}` is never null"))
        } else if asks == Asks::Equal {
            let message = format!("{} can never equal {}", is(x, a), is(y, b).trim_end_matches(','));
            self.error(Code::NeverEqual, range, message)
        } else {
            let message = format!("{} cannot be ordered with {}", is(x, a), is(y, b).trim_end_matches(','));
            self.error(Code::WrongOperand, range, message)
        };
        self.report(problem);
    }

    /// Reports a constant that a value with few possible values never has.
    fn among(&mut self, value: &Expr<'a>, ty: &Type<'a>, constant: &Expr<'a>) {
        let (Type::Text(Some(allowed)), Expr::Const(text)) = (ty, constant) else { return };
        let Some(text) = text.value.as_str() else { return };
        if allowed.contains(&text) {
            return;
        }
        let shown: Vec<String> = allowed.iter().map(|text| format!("`{text}`")).collect();
        let message = format!("`{}` is never `{text}`", self.source(value));
        let problem = self.error(Code::NeverEqual, extent(constant), message);
        let problem = problem.suggest(text, allowed.iter().copied());
        self.report(problem.help(format!("it is one of {}", shown.join(", "))));
    }

    fn contains(&mut self, item: &Expr<'a>, ty: &Type<'a>, whole: &Expr<'a>, of: &Type<'a>) {
        if let Expr::List(list) = whole {
            list.items.iter().for_each(|constant| self.among(item, ty, constant));
        }
        let element = self.schemas.items(of);
        self.among(whole, &element, item);
        if matches!(of.kind(), Some(Kind::Null | Kind::Bool | Kind::Number)) {
            let message = format!("`{}` is {} and contains nothing", self.source(whole), of.words());
            let problem = self.error(Code::WrongOperand, extent(whole), message);
            self.report(problem);
        }
    }

    fn sum(&mut self, left: &Expr<'a>, a: &Type<'a>, right: &Expr<'a>, b: &Type<'a>) -> Known<'a> {
        let (Some(first), Some(second)) = (a.kind(), b.kind()) else { return Known::unknown() };
        if first == second && matches!(first, Kind::Number | Kind::Text | Kind::List) {
            return Known::is(match first {
                Kind::Number => Type::Number,
                Kind::Text => Type::Text(None),
                _ => Type::Unknown,
            });
        }
        let message = format!("`+` cannot join {} and {}", first.words(), second.words());
        let problem = self.error(Code::WrongOperand, extent(left).start..extent(right).end, message);
        let texts = first == Kind::Text || second == Kind::Text;
        self.report(if texts { problem.help("`~` joins anything as text") } else { problem });
        Known::unknown()
    }

    fn number(&mut self, expr: &Expr<'a>, ty: &Type<'a>) {
        if ty.kind().is_some_and(|kind| !matches!(kind, Kind::Number | Kind::Bool)) {
            let message = format!("`{}` is {}, not a number", self.source(expr), ty.words());
            let problem = self.error(Code::WrongOperand, extent(expr), message);
            self.report(problem);
        }
    }
}

fn product<'a>(a: &Type<'a>, b: &Type<'a>) -> Type<'a> {
    match (a.kind(), b.kind()) {
        (Some(Kind::Number), Some(Kind::Number)) => Type::Number,
        (Some(Kind::Text), _) | (_, Some(Kind::Text)) => Type::Text(None),
        _ => Type::Unknown,
    }
}
