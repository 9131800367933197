//! Reads conditions from comparisons.

use minijinja::Value as TemplateValue;
use minijinja::machinery::ast::{BinOpKind, CompareOpKind, Expr};

use super::condition::{Condition, MAX_PARTS};
use super::expression_keys::{constant_key, one_of_equality};
use super::narrowing::{constant_index, member_of};
use super::truth::ConditionReader;
use super::types::Type;

impl ConditionReader<'_, '_> {
    pub(super) fn chained_comparison(self, op: CompareOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Condition {
        let kind = match op {
            CompareOpKind::Eq => BinOpKind::Eq,
            CompareOpKind::Ne => BinOpKind::Ne,
            CompareOpKind::Lt => BinOpKind::Lt,
            CompareOpKind::Lte => BinOpKind::Lte,
            CompareOpKind::Gt => BinOpKind::Gt,
            CompareOpKind::Gte => BinOpKind::Gte,
            CompareOpKind::In => BinOpKind::In,
            CompareOpKind::NotIn => return self.membership(left, right).negate(),
        };
        self.comparison(kind, left, right).unwrap_or_else(Condition::opaque)
    }

    /// When a comparison is true; `None` for any other operator.
    pub(super) fn comparison(self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Option<Condition> {
        use BinOpKind::{Eq, Gt, Gte, In, Lt, Lte, Ne};
        let test = self.length_test(op, left, right).or_else(|| self.iteration_test(op, left, right));
        let result = match (op, test.or_else(|| self.last_iteration_test(op, left, right))) {
            (Eq | Ne | Lt | Lte | Gt | Gte, Some(condition)) => return Some(condition),
            (In, _) => return Some(self.membership(left, right)),
            (Eq, None) => self.equality(left, right),
            (Ne, None) => self.equality(left, right).negate(),
            (Lt, None) => self.order(left, right),
            (Gte, None) => self.order(left, right).negate(),
            (Gt, None) => self.order(right, left),
            (Lte, None) => self.order(right, left).negate(),
            (_, _) => return None,
        };
        Some(Condition::all([self.presence(left), self.presence(right), result]))
    }

    /// When a comparison of a length with 0 or 1 is true, such as `plan.steps | length > 0`.
    fn length_test(self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Option<Condition> {
        use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
        let Expr::Filter(filter) = left else { return None };
        let operand = filter.expr.as_ref().filter(|_| matches!(filter.name, "length" | "count"))?;
        let nonempty = self.truth(operand);
        match (op, constant_index(right)?) {
            (Gt | Ne, 0) | (Gte, 1) => Some(nonempty),
            (Eq | Lte, 0) | (Lt, 1) => Some(nonempty.negate()),
            (_, _) => None,
        }
    }

    /// When a comparison of the index of an item with the number of items shows that it is the last, such as
    /// `loop.index < loop.length`.
    fn last_iteration_test(self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Option<Condition> {
        use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
        let (Expr::GetAttr(first), Expr::GetAttr(second)) = (left, right) else { return None };
        let is_loop = |expr: &Expr<'_>| matches!(expr, Expr::Var(var) if var.id == "loop");
        let key = self.key(&first.expr).filter(|_| is_loop(&first.expr) && is_loop(&second.expr))?;
        let is_last = Condition::test(format!("{key}.last"));
        match (first.name, op, second.name) {
            ("index", Lt | Ne, "length") | ("length", Gt | Ne, "index") => Some(is_last.negate()),
            ("index", Gte | Eq, "length") | ("length", Lte | Eq, "index") => Some(is_last),
            (_, _, _) => None,
        }
    }

    /// When a comparison of the index of an item or iteration shows that it is the first or the last, such as
    /// `loop.index > 1` or `loop.revindex > 1`.
    fn iteration_test(self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Option<Condition> {
        use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
        let Expr::GetAttr(attribute) = left else { return None };
        let (first_index, edge) = match attribute.name {
            "index" => (1, "first"),
            "index0" => (0, "first"),
            "revindex" => (1, "last"),
            "revindex0" => (0, "last"),
            _ => return None,
        };
        let is_loop =
            self.iteration(&attribute.expr).is_some() || matches!(&attribute.expr, Expr::Var(var) if var.id == "loop");
        let key = self.key(&attribute.expr).filter(|_| is_loop)?;
        let is_at_edge = Condition::test(format!("{key}.{edge}"));
        match (op, constant_index(right)?.checked_sub(first_index)?) {
            (Gt | Ne, 0) | (Gte, 1) => Some(is_at_edge.negate()),
            (Eq | Lte, 0) | (Lt, 1) => Some(is_at_edge),
            (_, _) => None,
        }
    }

    fn order(self, smaller: &Expr<'_>, larger: &Expr<'_>) -> Condition {
        match (self.key(smaller), self.key(larger)) {
            (Some(smaller), Some(larger)) => Condition::test(format!("{smaller} < {larger}")),
            (_, _) => Condition::opaque(),
        }
    }

    /// When `item in container` is true.
    pub(super) fn membership(self, item: &Expr<'_>, container: &Expr<'_>) -> Condition {
        if let Expr::List(list) = container
            && list.items.len() <= MAX_PARTS
        {
            let equalities = list.items.iter().map(|constant| self.equality(item, constant));
            return Condition::all([self.presence(item), Condition::any(equalities)]);
        }
        let is_member = match (self.key(item), self.key(container)) {
            (Some(item), Some(container)) => Condition::test(format!("{item} in {container}")),
            (_, _) => Condition::opaque(),
        };
        Condition::all([self.presence(item), self.presence(container), is_member])
    }

    /// When two values that are defined are equal.
    pub(super) fn equality(self, left: &Expr<'_>, right: &Expr<'_>) -> Condition {
        match (left, right) {
            (Expr::Const(constant), other) | (other, Expr::Const(constant)) => {
                self.constant_equality(other, &constant.value)
            }
            (_, _) => match (self.key(left), self.key(right)) {
                (Some(left), Some(right)) if left == right => Condition::Always,
                (Some(left), Some(right)) => {
                    let (first, second) = if left < right { (left, right) } else { (right, left) };
                    Condition::test(format!("{first} == {second}"))
                }
                (_, _) => Condition::opaque(),
            },
        }
    }

    pub(super) fn constant_equality(self, value: &Expr<'_>, constant: &TemplateValue) -> Condition {
        let ty = self.value_type(value);
        if let Some(status) = constant.as_str()
            && let Some(condition) = self.step_status(value, status)
        {
            return condition;
        }
        if let (Type::Bool | Type::Flag(_), Ok(flag)) = (&ty, bool::try_from(constant.clone())) {
            let is_true = self.nonempty_value(value);
            return if flag { is_true } else { is_true.negate() };
        }
        let Some(key) = self.key(value) else { return Condition::opaque() };
        if let (Type::Text(Some(texts)), Some(text)) = (&ty, constant.as_str()) {
            return one_of_equality(&key, texts, text);
        }
        match constant_key(constant) {
            Some(constant) => Condition::equality(key, &constant),
            None => Condition::test(format!("{key} == {constant}")),
        }
    }

    /// When a step that has ended has a status; `None` if the expression is not the status of such a step.
    pub(super) fn step_status(self, expr: &Expr<'_>, status: &str) -> Option<Condition> {
        let (base, _) = member_of(expr).filter(|(_, name)| *name == "status")?;
        let (_, completion) = self.ended_step(base)?;
        let completion = completion?;
        Some(match status {
            "completed" => completion.completed,
            "failed" => completion.failed,
            "skipped" => completion.skipped,
            _ => Condition::Never,
        })
    }
}
