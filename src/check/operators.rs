//! Infers the types of operators, and reports comparisons that can't be true and sums of values that can't be added.

use minijinja::machinery::ast::{BinOpKind, CompareOp, CompareOpKind, Expr};

use super::infer::Checker;
use super::scope::{KnownValue, TypeScope};
use super::types::{Type, TypeKind, union};
use crate::diagnostic::Code;
use crate::template::extent;

/// What a comparison checks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Order,
    Contains,
}

impl<'a> Checker<'a> {
    /// Infers an operator other than `and` and `or`.
    pub(super) fn operator(
        &mut self,
        op: BinOpKind,
        left: &Expr<'a>,
        right: &Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> KnownValue<'a> {
        let (a, b) = (self.value(left, scope).ty, self.value(right, scope).ty);
        let asks = match op {
            BinOpKind::Eq | BinOpKind::Ne => Comparison::Equal,
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => Comparison::Order,
            BinOpKind::In => Comparison::Contains,
            BinOpKind::Concat => return KnownValue::is(Type::Text(None)),
            BinOpKind::Add => return self.sum(left, &a, right, &b),
            BinOpKind::Mul => return KnownValue::is(product(&a, &b)),
            BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => {
                self.number(left, &a);
                self.number(right, &b);
                return KnownValue::is(Type::Number);
            }
            BinOpKind::ScAnd | BinOpKind::ScOr => return KnownValue::unknown(),
        };
        self.compare(asks, left, &a, right, &b);
        KnownValue::is(Type::Bool)
    }

    /// Infers a chain of comparisons such as `1 < x < 3`.
    pub(super) fn chain(&mut self, first: &Expr<'a>, ops: &[CompareOp<'a>], scope: &TypeScope<'a>) -> KnownValue<'a> {
        let mut left = first;
        let mut a = self.value(left, scope).ty;
        for op in ops {
            let b = self.value(&op.expr, scope).ty;
            let asks = match op.op {
                CompareOpKind::Eq | CompareOpKind::Ne => Comparison::Equal,
                CompareOpKind::Lt | CompareOpKind::Lte | CompareOpKind::Gt | CompareOpKind::Gte => Comparison::Order,
                CompareOpKind::In | CompareOpKind::NotIn => Comparison::Contains,
            };
            self.compare(asks, left, &a, &op.expr, &b);
            (left, a) = (&op.expr, b);
        }
        KnownValue::is(Type::Bool)
    }

    fn compare(&mut self, asks: Comparison, left: &Expr<'a>, a: &Type<'a>, right: &Expr<'a>, b: &Type<'a>) {
        match asks {
            Comparison::Contains => self.contains(left, a, right, b),
            Comparison::Equal => {
                self.among(left, a, right);
                self.among(right, b, left);
                self.comparable(asks, left, a, right, b);
            }
            Comparison::Order => self.comparable(asks, left, a, right, b),
        }
    }

    /// Reports two values that can't be compared because they have no kind in common.
    fn comparable(&mut self, asks: Comparison, left: &Expr<'a>, a: &Type<'a>, right: &Expr<'a>, b: &Type<'a>) {
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
        let null = first == [TypeKind::Null] || second == [TypeKind::Null];
        let problem = if asks == Comparison::Equal && null {
            let other = if first == [TypeKind::Null] { y } else { x };
            self.warning(Code::NeverEqual, range, format!("`{other}` is never null"))
        } else if asks == Comparison::Equal {
            let message = format!("{} can never equal {}", is(x, a), is(y, b).trim_end_matches(','));
            self.error(Code::NeverEqual, range, message)
        } else {
            let message = format!("{} cannot be ordered with {}", is(x, a), is(y, b).trim_end_matches(','));
            self.error(Code::WrongOperand, range, message)
        };
        self.report(problem);
    }

    /// Reports a comparison with a constant that is not among the few values that the other side can have.
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
        let holds = |kind: TypeKind| matches!(kind, TypeKind::Text | TypeKind::List | TypeKind::Object);
        self.operand(whole, of, holds, "and contains nothing", "and then contains nothing");
    }

    fn sum(&mut self, left: &Expr<'a>, a: &Type<'a>, right: &Expr<'a>, b: &Type<'a>) -> KnownValue<'a> {
        let (Some(first), Some(second)) = (a.kinds(), b.kinds()) else { return KnownValue::unknown() };
        let fits = |x: TypeKind, y: TypeKind| x == y && matches!(x, TypeKind::Number | TypeKind::Text | TypeKind::List);
        let pairs: Vec<(TypeKind, TypeKind)> = first.iter().flat_map(|x| second.iter().map(|y| (*x, *y))).collect();
        if let Some((x, y)) = pairs.iter().find(|(x, y)| !fits(*x, *y)) {
            let range = extent(left).start..extent(right).end;
            let message = format!("`+` cannot join {} and {}", x.words(), y.words());
            let problem = if pairs.iter().any(|(x, y)| fits(*x, *y)) {
                self.warning(Code::WrongOperand, range, format!("{message}, as may happen here"))
            } else {
                self.error(Code::WrongOperand, range, message)
            };
            let texts = *x == TypeKind::Text || *y == TypeKind::Text;
            self.report(if texts { problem.help("`~` joins anything as text") } else { problem });
        }
        KnownValue::is(match (a.kind(), b.kind()) {
            (Some(TypeKind::Number), Some(TypeKind::Number)) => Type::Number,
            (Some(TypeKind::Text), Some(TypeKind::Text)) => Type::Text(None),
            (Some(TypeKind::List), Some(TypeKind::List)) => Type::List(
                union([self.schemas.items(a), self.schemas.items(b)]).into(),
                a.least_length() + b.least_length(),
            ),
            (_, _) => Type::Unknown,
        })
    }

    fn number(&mut self, expr: &Expr<'a>, ty: &Type<'a>) {
        self.operand(
            expr,
            ty,
            |kind| matches!(kind, TypeKind::Number | TypeKind::Bool),
            "not a number",
            "not a number",
        );
    }

    /// Reports an operand whose kind is never, or not always, suitable.
    pub(super) fn operand(
        &mut self,
        expr: &Expr<'a>,
        ty: &Type<'a>,
        fits: impl Fn(TypeKind) -> bool,
        is: &str,
        may: &str,
    ) {
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
        (Some(TypeKind::Number), Some(TypeKind::Number)) => Type::Number,
        (Some(TypeKind::Text), _) | (_, Some(TypeKind::Text)) => Type::Text(None),
        _ => Type::Unknown,
    }
}
