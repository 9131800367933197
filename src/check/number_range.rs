//! The numbers that a type allows, and how arithmetic, comparisons and conditions change them.

use std::hash::{Hash, Hasher};

use serde_json::{Map, Value};

/// The numbers between two bounds. The bounds are never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NumberRange {
    /// Whether all of them are integers.
    pub(super) is_integer: bool,
    /// The lower bound; negative infinity if there is none.
    pub(super) min: f64,
    /// The upper bound; infinity if there is none.
    pub(super) max: f64,
    /// Whether the lower bound itself is excluded.
    pub(super) excludes_min: bool,
    /// Whether the upper bound itself is excluded.
    pub(super) excludes_max: bool,
    /// Whether 0 is excluded, even if it lies between the bounds.
    pub(super) excludes_zero: bool,
}

impl Eq for NumberRange {}

impl Hash for NumberRange {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Adding 0 gives 0 and -0, which are equal, the same bits.
        let bounds = [self.min, self.max].map(|bound| (bound + 0.0).to_bits());
        let flags = [self.is_integer, self.excludes_min, self.excludes_max, self.excludes_zero];
        (bounds, flags).hash(state);
    }
}

/// The order that a comparison requires of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequiredOrder {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
}

impl NumberRange {
    /// All numbers.
    pub(super) const ANY: Self = Self {
        is_integer: false,
        min: f64::NEG_INFINITY,
        max: f64::INFINITY,
        excludes_min: false,
        excludes_max: false,
        excludes_zero: false,
    };
    /// All integers.
    pub(super) const INTEGERS: Self = Self { is_integer: true, ..Self::ANY };
    /// The integers from 0.
    pub(super) const FROM_ZERO: Self = Self { min: 0.0, ..Self::INTEGERS };
    /// The integers from 1.
    pub(super) const FROM_ONE: Self = Self { min: 1.0, ..Self::INTEGERS };
    /// All numbers but 0.
    pub(super) const NOT_ZERO: Self = Self { excludes_zero: true, ..Self::ANY };

    /// One number.
    pub(super) fn exactly(number: f64) -> Self {
        Self { is_integer: number.fract() == 0.0, min: number, max: number, ..Self::ANY }
    }

    /// The counts from `min` to `max`.
    pub(super) fn counts(min: u64, max: Option<u64>) -> Self {
        // A lower bound may be too low, and an upper bound may be missing: the range then only allows more numbers.
        let min = u32::try_from(min).unwrap_or(u32::MAX);
        let max = max.and_then(|max| u32::try_from(max).ok()).map_or(f64::INFINITY, f64::from);
        Self { min: f64::from(min), max, ..Self::INTEGERS }
    }

    /// The smallest and the largest count in the range; `None` if it has no largest one. The smallest may be too low.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a conversion from floats saturates")]
    pub(super) fn count_bounds(self) -> (u64, Option<u64>) {
        let counts = Self::FROM_ZERO.intersection(self);
        (counts.min as u64, counts.max.is_finite().then_some(counts.max as u64))
    }

    /// The numbers that a schema of the type `number` or `integer` allows.
    pub(super) fn from_schema(map: &Map<String, Value>, is_integer: bool) -> Self {
        let mut range = Self { is_integer, ..Self::ANY };
        let number = |keyword: &str| map.get(keyword).and_then(Value::as_f64);
        // In draft 4, `exclusiveMinimum` is a boolean.
        let is_true = |keyword: &str| map.get(keyword) == Some(&Value::Bool(true));
        if let Some(min) = number("minimum") {
            range.raise_min(min, is_true("exclusiveMinimum"));
        }
        if let Some(max) = number("maximum") {
            range.lower_max(max, is_true("exclusiveMaximum"));
        }
        if let Some(min) = number("exclusiveMinimum") {
            range.raise_min(min, true);
        }
        if let Some(max) = number("exclusiveMaximum") {
            range.lower_max(max, true);
        }
        range
    }

    fn raise_min(&mut self, min: f64, is_excluded: bool) {
        // Between integers, an excluded bound is the next integer.
        let (min, is_excluded) = match (self.is_integer, is_excluded) {
            (true, true) => (min.floor() + 1.0, false),
            (true, false) => (min.ceil(), false),
            (false, _) => (min, is_excluded),
        };
        if min > self.min || (min >= self.min && is_excluded) {
            (self.min, self.excludes_min) = (min, is_excluded);
        }
    }

    fn lower_max(&mut self, max: f64, is_excluded: bool) {
        let (max, is_excluded) = match (self.is_integer, is_excluded) {
            (true, true) => (max.ceil() - 1.0, false),
            (true, false) => (max.floor(), false),
            (false, _) => (max, is_excluded),
        };
        if max < self.max || (max <= self.max && is_excluded) {
            (self.max, self.excludes_max) = (max, is_excluded);
        }
    }

    /// Whether it contains a number.
    pub(super) fn contains(self, number: f64) -> bool {
        let is_above = number > self.min || (number >= self.min && !self.excludes_min);
        let is_below = number < self.max || (number <= self.max && !self.excludes_max);
        let is_zero_allowed = number != 0.0 || !self.excludes_zero;
        is_above && is_below && is_zero_allowed && (!self.is_integer || number.fract() == 0.0)
    }

    /// Whether it has both bounds and they are the same number.
    pub(super) fn is_one_number(self) -> bool {
        self.min.is_finite() && self.min >= self.max && !self.is_empty()
    }

    /// Whether no number is in it.
    pub(super) fn is_empty(self) -> bool {
        self.min > self.max || (self.min >= self.max && !self.contains(self.min))
    }

    /// Whether 0 is the only number in it.
    pub(super) fn is_zero(self) -> bool {
        self.is_one_number() && self.contains(0.0)
    }

    /// The numbers in one of two ranges, and those between them.
    pub(super) fn union(self, other: Self) -> Self {
        let (min, excludes_min) = if self.min < other.min {
            (self.min, self.excludes_min)
        } else if other.min < self.min {
            (other.min, other.excludes_min)
        } else {
            (self.min, self.excludes_min && other.excludes_min)
        };
        let (max, excludes_max) = if self.max > other.max {
            (self.max, self.excludes_max)
        } else if other.max > self.max {
            (other.max, other.excludes_max)
        } else {
            (self.max, self.excludes_max && other.excludes_max)
        };
        Self {
            is_integer: self.is_integer && other.is_integer,
            min,
            max,
            excludes_min,
            excludes_max,
            excludes_zero: !self.contains(0.0) && !other.contains(0.0),
        }
    }

    /// The numbers in both ranges.
    pub(super) fn intersection(self, other: Self) -> Self {
        let mut range = Self { is_integer: self.is_integer || other.is_integer, ..Self::ANY };
        for bounds in [self, other] {
            range.raise_min(bounds.min, bounds.excludes_min);
            range.lower_max(bounds.max, bounds.excludes_max);
        }
        if self.excludes_zero || other.excludes_zero { range.without_zero() } else { range }
    }

    /// The numbers that count as true.
    pub(super) fn without_zero(self) -> Self {
        let mut range = Self { excludes_zero: true, ..self };
        if range.min >= 0.0 {
            range.raise_min(0.0, true);
        }
        if range.max <= 0.0 {
            range.lower_max(0.0, true);
        }
        range
    }

    /// The sums of a number of each range.
    pub(super) fn add(self, other: Self) -> Self {
        Self {
            is_integer: self.is_integer && other.is_integer,
            min: self.min + other.min,
            max: self.max + other.max,
            excludes_min: self.excludes_min || other.excludes_min,
            excludes_max: self.excludes_max || other.excludes_max,
            excludes_zero: false,
        }
        .without_nan()
    }

    /// The numbers with the opposite sign.
    pub(super) fn negate(self) -> Self {
        Self {
            min: -self.max,
            max: -self.min,
            excludes_min: self.excludes_max,
            excludes_max: self.excludes_min,
            ..self
        }
    }

    /// The products of a number of each range.
    pub(super) fn multiply(self, other: Self) -> Self {
        let products = [self.min * other.min, self.min * other.max, self.max * other.min, self.max * other.max];
        // 0 times infinity is NaN, but no number is infinite.
        let products = products.map(|product| if product.is_nan() { 0.0 } else { product });
        let range = Self {
            is_integer: self.is_integer && other.is_integer,
            min: products.into_iter().fold(f64::INFINITY, f64::min),
            max: products.into_iter().fold(f64::NEG_INFINITY, f64::max),
            ..Self::ANY
        };
        if self.contains(0.0) || other.contains(0.0) { range } else { range.without_zero() }
    }

    /// The distances of the numbers from 0.
    pub(super) fn abs(self) -> Self {
        if self.min >= 0.0 {
            return self;
        }
        if self.max <= 0.0 {
            return self.negate();
        }
        Self { min: 0.0, max: self.max.max(-self.min), excludes_min: false, excludes_max: false, ..self }
    }

    /// Removes bounds that are not numbers, which arithmetic with infinities can produce.
    fn without_nan(self) -> Self {
        let min = if self.min.is_nan() { f64::NEG_INFINITY } else { self.min };
        let max = if self.max.is_nan() { f64::INFINITY } else { self.max };
        Self { min, max, ..self }
    }

    /// Whether no number of this range stands in this order to a number of the other range.
    pub(super) fn is_never(self, order: RequiredOrder, other: Self) -> bool {
        let touches_excluded = self.excludes_min || other.excludes_max;
        match order {
            RequiredOrder::Less => self.min >= other.max,
            RequiredOrder::LessOrEqual => self.min > other.max || (self.min >= other.max && touches_excluded),
            RequiredOrder::Equal => {
                self.is_never(RequiredOrder::LessOrEqual, other)
                    || other.is_never(RequiredOrder::LessOrEqual, self)
                    || (other.is_one_number() && !self.contains(other.min))
                    || (self.is_one_number() && !other.contains(self.min))
            }
        }
    }

    /// Whether every number of this range is in the other range.
    pub(super) fn is_within(self, other: Self) -> bool {
        let is_above = self.min > other.min || (self.min >= other.min && (self.excludes_min || !other.excludes_min));
        let is_below = self.max < other.max || (self.max <= other.max && (self.excludes_max || !other.excludes_max));
        let has_integers = self.is_integer || !other.is_integer;
        is_above && is_below && has_integers && (!other.excludes_zero || !self.contains(0.0))
    }

    /// Describes the range for a message, such as `from 0 to 10`; `None` if it has no bounds.
    pub(super) fn describe(self) -> Option<String> {
        let (from, to) = (self.min.is_finite(), self.max.is_finite());
        let above = if self.excludes_min { "more than" } else { "at least" };
        let below = if self.excludes_max { "less than" } else { "at most" };
        match (from, to) {
            (true, true) if self.is_one_number() => Some(format!("{}", self.min)),
            (true, true) if !self.excludes_min && !self.excludes_max => {
                Some(format!("from {} to {}", self.min, self.max))
            }
            (true, true) => Some(format!("{above} {} and {below} {}", self.min, self.max)),
            (true, false) => Some(format!("{above} {}", self.min)),
            (false, true) => Some(format!("{below} {}", self.max)),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(schema: &Value) -> NumberRange {
        NumberRange::from_schema(schema.as_object().unwrap(), schema["type"] == "integer")
    }

    #[test]
    fn the_bounds_of_a_schema_decide_whether_0_is_possible() {
        for (schema, may_be_zero) in [
            (json!({ "type": "integer" }), true),
            (json!({ "type": "integer", "minimum": 1 }), false),
            (json!({ "type": "integer", "minimum": 0 }), true),
            (json!({ "type": "number", "exclusiveMinimum": 0 }), false),
            (json!({ "type": "number", "minimum": 0, "exclusiveMinimum": true }), false),
            (json!({ "type": "integer", "exclusiveMinimum": 0.5 }), false),
            (json!({ "type": "integer", "maximum": -1 }), false),
            (json!({ "type": "number", "exclusiveMaximum": 0 }), false),
        ] {
            assert_eq!(range(&schema).contains(0.0), may_be_zero, "{schema}");
        }
    }

    #[test]
    fn arithmetic_keeps_what_is_certain_about_the_bounds() {
        let from_zero = NumberRange::FROM_ZERO;
        assert!(!from_zero.add(NumberRange::exactly(1.0)).contains(0.0));
        assert!(from_zero.add(NumberRange::exactly(-1.0)).contains(0.0));
        assert!(!NumberRange::FROM_ONE.multiply(NumberRange::FROM_ONE).contains(0.0));
        assert!(from_zero.multiply(NumberRange::FROM_ONE).contains(0.0));
        let score = range(&json!({ "type": "integer", "minimum": -2, "maximum": 10 }));
        assert_eq!(score.multiply(NumberRange::exactly(-3.0)).describe().as_deref(), Some("from -30 to 6"));
        assert_eq!(NumberRange::ANY.multiply(score).describe(), None);
        assert!(!from_zero.without_zero().contains(0.0) && from_zero.without_zero().contains(1.0));
        assert!(NumberRange::ANY.add(NumberRange::ANY.negate()).contains(0.0));
        assert!(!NumberRange::exactly(-1.0).union(NumberRange::exactly(1.0)).contains(0.0));
        assert!(NumberRange::ANY.abs().contains(0.0) && !NumberRange::ANY.abs().contains(-1.0));
        assert!(!NumberRange::ANY.without_zero().abs().contains(0.0));
        let negative = range(&json!({ "type": "integer", "maximum": -1 }));
        assert!(!negative.abs().contains(0.0) && negative.abs().contains(1.0) && !negative.abs().contains(-1.0));
    }

    #[test]
    fn an_intersection_has_the_tighter_bounds() {
        let score = range(&json!({ "type": "integer", "minimum": 0, "maximum": 10 }));
        let above = NumberRange { min: 2.5, excludes_min: true, ..NumberRange::ANY };
        let below = NumberRange { max: 6.0, excludes_max: true, ..NumberRange::ANY };
        let both = score.intersection(above).intersection(below);
        assert_eq!((both.min, both.max, both.is_integer), (3.0, 5.0, true));
        assert_eq!(score.intersection(NumberRange::NOT_ZERO).describe().as_deref(), Some("from 1 to 10"));
        assert!(above.intersection(NumberRange { max: 2.5, ..NumberRange::ANY }).is_empty());
        assert_eq!(above.count_bounds(), (3, None));
        assert_eq!(below.count_bounds(), (0, Some(5)));
        assert_eq!(NumberRange::NOT_ZERO.count_bounds(), (1, None));
        assert!(score.intersection(NumberRange::exactly(11.0)).is_empty());
        assert!(NumberRange::exactly(0.0).intersection(NumberRange::NOT_ZERO).is_empty());
        assert!(!score.intersection(NumberRange::exactly(10.0)).is_empty() && !NumberRange::ANY.is_empty());
        // An integer that a schema allows may have a fractional bound.
        assert_eq!(
            range(&json!({ "type": "integer", "minimum": 0.5, "maximum": 1.5 })).describe().as_deref(),
            Some("1")
        );
    }

    #[test]
    fn an_order_that_no_two_numbers_have_is_found() {
        let score = range(&json!({ "type": "integer", "minimum": 0, "maximum": 10 }));
        let ten = NumberRange::exactly(10.0);
        assert!(ten.is_never(RequiredOrder::Less, score) && !ten.is_never(RequiredOrder::LessOrEqual, score));
        assert!(NumberRange::exactly(11.0).is_never(RequiredOrder::LessOrEqual, score));
        assert!(score.is_never(RequiredOrder::Equal, NumberRange::exactly(11.0)));
        assert!(score.is_never(RequiredOrder::Equal, NumberRange::exactly(2.5)));
        assert!(!score.is_never(RequiredOrder::Equal, NumberRange::exactly(10.0)));
        assert_eq!(score.describe().as_deref(), Some("from 0 to 10"));
        assert!(ten.is_within(score) && !score.is_within(ten) && score.is_within(NumberRange::FROM_ZERO));
        assert!(!NumberRange::exactly(0.5).is_within(score) && !score.is_within(score.without_zero()));
    }
}
