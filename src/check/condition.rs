//! Conditions over the values of a run: when an artifact exists, how a step ended, and what a guard has shown.
//!
//! A condition combines elementary tests with `not`, `and` and `or`. Two tests are the same if they have the same text,
//! so texts name variables uniquely: a variable that gets another value also gets another name.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The maximum number of parts of a condition to store. Conditions contain one another, so they could grow
/// exponentially.
pub(super) const MAX_PARTS: usize = 64;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It is always true.
    Always,
    /// It is never true.
    Never,
    /// It is true if the test is true.
    Test(Rc<ConditionTest>),
    /// It is true if the other condition is false.
    Not(Rc<Condition>),
    /// It is true if all of the conditions are true.
    All(Rc<[Condition]>),
    /// It is true if one of the conditions is true.
    Any(Rc<[Condition]>),
}

/// An elementary test, such as whether `plan.kind` equals `"fix"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConditionTest {
    /// The text of the test.
    text: String,
    /// The value that is compared with a constant. It equals at most one constant.
    subject: Option<String>,
}

impl ConditionTest {
    /// Whether at most one of two tests can be true.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.has_same_subject(other) && self.text != other.text
    }

    /// Whether both tests compare the same value with a constant.
    pub(super) fn has_same_subject(&self, other: &Self) -> bool {
        self.subject.is_some() && self.subject == other.subject
    }
}

impl Condition {
    /// The condition that this test is true.
    pub(super) fn test(text: impl Into<String>) -> Self {
        Self::Test(Rc::new(ConditionTest { text: text.into(), subject: None }))
    }

    /// The condition that a value equals a constant. No value equals two constants, so the text of a constant must be
    /// unique among the constants with which a subject is compared.
    pub(super) fn equality(subject: String, constant: &str) -> Self {
        Self::Test(Rc::new(ConditionTest { text: format!("{subject} == {constant}"), subject: Some(subject) }))
    }

    /// A condition about which nothing is known, and which equals no other condition.
    pub(super) fn opaque() -> Self {
        static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);
        Self::test(format!("?{}", NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// Whether the condition is always true, as far as its form shows.
    pub(super) fn is_always(&self) -> bool {
        *self == Self::Always
    }

    /// Whether the condition is never true, as far as its form shows.
    pub(super) fn is_never(&self) -> bool {
        *self == Self::Never
    }

    /// The opposite condition.
    pub(super) fn negate(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            Self::Not(inner) => (*inner).clone(),
            other => Self::Not(Rc::new(other)),
        }
    }

    /// The condition that all of these conditions are true.
    pub(super) fn all(conditions: impl IntoIterator<Item = Self>) -> Self {
        let mut parts: Vec<Self> = Vec::new();
        for condition in conditions {
            match condition {
                Self::Always => {}
                Self::Never => return Self::Never,
                Self::All(inner) => inner.iter().for_each(|part| add_part(&mut parts, part.clone())),
                other => add_part(&mut parts, other),
            }
        }
        if has_opposites(&parts) {
            return Self::Never;
        }
        match parts.len() {
            0 => Self::Always,
            1 => parts.swap_remove(0),
            _ => Self::All(parts.into()),
        }
    }

    /// The condition that one of these conditions is true.
    pub(super) fn any(conditions: impl IntoIterator<Item = Self>) -> Self {
        let mut parts: Vec<Self> = Vec::new();
        for condition in conditions {
            match condition {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::Any(inner) => inner.iter().for_each(|part| add_part(&mut parts, part.clone())),
                other => add_part(&mut parts, other),
            }
        }
        if has_opposites(&parts) {
            return Self::Always;
        }
        match parts.len() {
            0 => Self::Never,
            1 => parts.swap_remove(0),
            _ => Self::Any(parts.into()),
        }
    }

    /// The condition itself, or an opaque condition if it has too many parts to store.
    pub(super) fn bounded(self) -> Self {
        if self.part_count() > MAX_PARTS { Self::opaque() } else { self }
    }

    /// The same condition about values with other names. `rename` returns the new text of a test.
    pub(super) fn rename(&self, rename: &impl Fn(&str) -> String) -> Self {
        match self {
            Self::Always => Self::Always,
            Self::Never => Self::Never,
            Self::Test(test) => {
                let subject = test.subject.as_deref().map(rename);
                Self::Test(Rc::new(ConditionTest { text: rename(&test.text), subject }))
            }
            Self::Not(inner) => inner.rename(rename).negate(),
            Self::All(parts) => Self::all(parts.iter().map(|part| part.rename(rename))),
            Self::Any(parts) => Self::any(parts.iter().map(|part| part.rename(rename))),
        }
    }

    fn part_count(&self) -> usize {
        match self {
            Self::Always | Self::Never | Self::Test(_) => 1,
            Self::Not(inner) => inner.part_count(),
            Self::All(parts) | Self::Any(parts) => 1 + parts.iter().map(Self::part_count).sum::<usize>(),
        }
    }

    /// Visits the elementary tests of the condition. Stops if `visit` returns true, and returns whether it did.
    pub(super) fn any_test(&self, visit: &mut impl FnMut(&Rc<ConditionTest>) -> bool) -> bool {
        match self {
            Self::Always | Self::Never => false,
            Self::Test(test) => visit(test),
            Self::Not(inner) => inner.any_test(visit),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.any_test(visit)),
        }
    }
}

fn add_part(parts: &mut Vec<Condition>, part: Condition) {
    if !parts.contains(&part) {
        parts.push(part);
    }
}

/// Whether one of the conditions is the opposite of another.
fn has_opposites(parts: &[Condition]) -> bool {
    parts.iter().any(|part| matches!(part, Condition::Not(inner) if parts.contains(inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_simplified() {
        let (a, b) = (Condition::test("a"), Condition::test("b"));
        assert_eq!(Condition::all([a.clone(), Condition::Always, a.clone()]), a);
        assert_eq!(Condition::any([Condition::Never, b.clone()]), b);
        assert_eq!(a.clone().negate().negate(), a);
        assert!(Condition::all([a.clone(), b.clone(), a.clone().negate()]).is_never());
        let both = Condition::all([a.clone(), b.clone()]);
        assert!(Condition::any([both.clone(), both.negate()]).is_always());
        assert!(Condition::all([]).is_always());
        assert!(Condition::any([]).is_never());
    }

    #[test]
    fn a_renamed_condition_is_about_other_values() {
        let equality = |subject: &str| Condition::equality(subject.to_owned(), "\"a\"");
        let condition = Condition::any([equality("x.kind").negate(), Condition::test("x.ok")]);
        let renamed = condition.rename(&|text| text.replace("x.", "y."));
        assert_eq!(renamed, Condition::any([equality("y.kind").negate(), Condition::test("y.ok")]));
        assert_ne!(renamed, condition);
    }

    #[test]
    fn a_condition_with_too_many_parts_becomes_opaque() {
        let many = Condition::all((0..100).map(|number| Condition::test(number.to_string())));
        assert!(matches!(many.clone().bounded(), Condition::Test(_)));
        assert_ne!(many.clone().bounded(), many.bounded());
        let few = Condition::all((0..3).map(|number| Condition::test(number.to_string())));
        assert_eq!(few.clone().bounded(), few);
    }
}
