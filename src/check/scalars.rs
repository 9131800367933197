//! Null, booleans and numbers as the constants of conditions.

use minijinja::machinery::ast::Expr;
use minijinja::value::ValueKind;

use super::number_narrowing::constant_number;
use super::number_range::NumberRange;
use super::types::Type;

/// A constant that is no string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// The only number of the range.
    Number(NumberRange),
}

impl Scalar {
    /// The constant that an expression consists of; `None` for a string, and for any other expression.
    pub(super) fn from_constant(expr: &Expr<'_>) -> Option<Self> {
        if let Expr::Const(constant) = expr {
            match constant.value.kind() {
                ValueKind::None => return Some(Self::Null),
                ValueKind::Bool => return Some(Self::Bool(constant.value.is_true())),
                _ => {}
            }
        }
        constant_number(expr).map(|number| Self::Number(NumberRange::exactly(number)))
    }

    /// Whether a value of a type may equal the constant. `true` equals 1, and `false` equals 0.
    pub(super) fn may_equal(self, ty: &Type<'_>) -> bool {
        match ty {
            Type::Unknown => true,
            Type::Null => self == Self::Null,
            Type::Union(branches) => branches.iter().any(|branch| self.may_equal(branch)),
            Type::Bool => self.numbers().is_some_and(|numbers| numbers.contains(0.0) || numbers.contains(1.0)),
            Type::Flag(flag) => self.numbers().is_some_and(|numbers| numbers.contains(number_of(*flag))),
            _ => {
                let common = self.numbers().zip(ty.number_range()).map(|(own, range)| own.intersection(range));
                common.is_some_and(|common| !common.is_empty())
            }
        }
    }

    fn numbers(self) -> Option<NumberRange> {
        match self {
            Self::Null => None,
            Self::Bool(flag) => Some(NumberRange::exactly(number_of(flag))),
            Self::Number(number) => Some(number),
        }
    }
}

fn number_of(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

/// Whether every value of a type is one of these constants.
pub(super) fn is_always_one_of(ty: &Type<'_>, scalars: &[Scalar]) -> bool {
    match ty {
        Type::Null => scalars.contains(&Scalar::Null),
        Type::Bool => [true, false].into_iter().all(|flag| scalars.contains(&Scalar::Bool(flag))),
        Type::Flag(flag) => scalars.contains(&Scalar::Bool(*flag)),
        Type::Union(branches) => branches.iter().all(|branch| is_always_one_of(branch, scalars)),
        _ => ty.number_range().filter(|range| range.is_one_number()).is_some_and(|range| {
            let is_in_range = |scalar: &Scalar| matches!(scalar, Scalar::Number(number) if range.contains(number.min));
            scalars.iter().any(is_in_range)
        }),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse_expr;

    use super::*;

    fn scalar(text: &str) -> Scalar {
        Scalar::from_constant(&parse_expr(text).unwrap()).unwrap()
    }

    #[test]
    fn a_constant_equals_values_of_its_kind() {
        let number = |number| Type::Numeric(NumberRange::exactly(number));
        for (text, ty, expected) in [
            ("true", Type::Flag(true), true),
            ("true", Type::Flag(false), false),
            ("false", Type::Bool, true),
            ("1", Type::Flag(true), true),
            ("2", Type::Bool, false),
            ("2", number(2.0), true),
            ("2.5", Type::Numeric(NumberRange::INTEGERS), false),
            ("-1", number(2.0), false),
            ("none", Type::Null, true),
            ("none", Type::Bool, false),
            ("true", Type::Text(None), false),
        ] {
            assert_eq!(scalar(text).may_equal(&ty), expected, "{text} {ty:?}");
        }
        assert!(Scalar::from_constant(&parse_expr("'a'").unwrap()).is_none());
    }

    #[test]
    fn only_the_listed_constants_are_always_listed() {
        let both = [Scalar::Bool(true), Scalar::Bool(false)];
        assert!(is_always_one_of(&Type::Bool, &both) && !is_always_one_of(&Type::Bool, &both[..1]));
        assert!(is_always_one_of(&Type::Flag(true), &both[..1]) && !is_always_one_of(&Type::Flag(false), &both[..1]));
        let two = Type::Numeric(NumberRange::exactly(2.0));
        assert!(is_always_one_of(&two, &[scalar("1"), scalar("2")]) && !is_always_one_of(&two, &[scalar("1")]));
        assert!(!is_always_one_of(&Type::Unknown, &both));
    }
}
