//! Operators with types: comparisons that can't be true, and sums that can't be made.

use minijinja::machinery::ast::{BinOpKind, CompareOp, CompareOpKind, Expr};

use super::infer::Checker;
use super::scope::{Known, Scope};
use super::types::{Kind, Type, union};
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
        let holds = |kind: Kind| matches!(kind, Kind::Text | Kind::List | Kind::Object);
        self.operand(whole, of, holds, "and contains nothing", "and then contains nothing");
    }

    fn sum(&mut self, left: &Expr<'a>, a: &Type<'a>, right: &Expr<'a>, b: &Type<'a>) -> Known<'a> {
        let (Some(first), Some(second)) = (a.kinds(), b.kinds()) else { return Known::unknown() };
        let fits = |x: Kind, y: Kind| x == y && matches!(x, Kind::Number | Kind::Text | Kind::List);
        let pairs: Vec<(Kind, Kind)> = first.iter().flat_map(|x| second.iter().map(|y| (*x, *y))).collect();
        if let Some((x, y)) = pairs.iter().find(|(x, y)| !fits(*x, *y)) {
            let range = extent(left).start..extent(right).end;
            let message = format!("`+` cannot join {} and {}", x.words(), y.words());
            let problem = if pairs.iter().any(|(x, y)| fits(*x, *y)) {
                self.warning(Code::WrongOperand, range, format!("{message}, as may happen here"))
            } else {
                self.error(Code::WrongOperand, range, message)
            };
            let texts = *x == Kind::Text || *y == Kind::Text;
            self.report(if texts { problem.help("`~` joins anything as text") } else { problem });
        }
        Known::is(match (a.kind(), b.kind()) {
            (Some(Kind::Number), Some(Kind::Number)) => Type::Number,
            (Some(Kind::Text), Some(Kind::Text)) => Type::Text(None),
            (Some(Kind::List), Some(Kind::List)) => Type::List(
                union([self.schemas.items(a), self.schemas.items(b)]).into(),
                a.least_length() + b.least_length(),
            ),
            (_, _) => Type::Unknown,
        })
    }

    fn number(&mut self, expr: &Expr<'a>, ty: &Type<'a>) {
        self.operand(expr, ty, |kind| matches!(kind, Kind::Number | Kind::Bool), "not a number", "not a number");
    }

    /// Reports an operand that is of no kind that will do, or that may be.
    pub(super) fn operand(&mut self, expr: &Expr<'a>, ty: &Type<'a>, fits: impl Fn(Kind) -> bool, is: &str, may: &str) {
        let Some(kinds) = ty.kinds() else { return };
        let Some(wrong) = kinds.iter().find(|kind| !fits(**kind)) else { return };
        let written = self.source(expr);
        let (comma, at) = (if is.starts_with("and") { "" } else { "," }, extent(expr));
        let problem = if kinds.iter().any(|kind| fits(*kind)) {
            self.warning(Code::WrongOperand, at, format!("`{written}` may be {}{comma} {may}", wrong.words()))
        } else {
            self.error(Code::WrongOperand, at, format!("`{written}` is {}{comma} {is}", ty.words()))
        };
        self.report(problem);
    }
}

fn product<'a>(a: &Type<'a>, b: &Type<'a>) -> Type<'a> {
    match (a.kind(), b.kind()) {
        (Some(Kind::Number), Some(Kind::Number)) => Type::Number,
        (Some(Kind::Text), _) | (_, Some(Kind::Text)) => Type::Text(None),
        _ => Type::Unknown,
    }
}
