//! The approximate size of the values in a scope.

use serde_json::Value;

use crate::offload::LARGE_TEXT_BYTES;

/// A value that is larger than this counts as this large. So counting a value takes a limited time.
const MAX_COUNTED_SIZE: usize = LARGE_TEXT_BYTES + 1;

/// The sum of the approximate sizes of values, each at most [`MAX_COUNTED_SIZE`]. A scope updates it with each value that
/// it gets: if it counted all its values before each step, the work would grow with the square of the number of steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScopeSize(usize);

impl ScopeSize {
    /// The size of these values.
    pub(super) fn of_values<'v>(values: impl IntoIterator<Item = &'v Value>) -> Self {
        let mut size = Self::default();
        values.into_iter().for_each(|value| size.add(value));
        size
    }

    /// Adds a value.
    pub(super) fn add(&mut self, value: &Value) {
        self.0 = self.0.saturating_add(counted_size(value));
    }

    /// Removes a value that was added.
    pub(super) fn subtract(&mut self, value: &Value) {
        self.0 = self.0.saturating_sub(counted_size(value));
    }

    /// Whether the values are so large that evaluating templates over all of them may take long.
    pub(super) fn is_large(self) -> bool {
        self.0 > LARGE_TEXT_BYTES
    }
}

/// The approximate size of a value as JSON, or [`MAX_COUNTED_SIZE`] if it is larger.
fn counted_size(value: &Value) -> usize {
    let mut remaining = LARGE_TEXT_BYTES;
    if exceeds_size(value, &mut remaining) { MAX_COUNTED_SIZE } else { LARGE_TEXT_BYTES - remaining }
}

/// Whether the approximate size of a value as JSON exceeds `remaining`; if not, subtracts the size from `remaining`.
fn exceeds_size(value: &Value, remaining: &mut usize) -> bool {
    let text_size = match value {
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => 0,
    };
    if !try_subtract(text_size + 4, remaining) {
        return true;
    }
    match value {
        Value::Array(items) => items.iter().any(|item| exceeds_size(item, remaining)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| !try_subtract(name.len(), remaining) || exceeds_size(member, remaining))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Subtracts a size from `remaining`; returns false if the size is larger than `remaining`.
fn try_subtract(size: usize, remaining: &mut usize) -> bool {
    remaining.checked_sub(size).is_some_and(|difference| {
        *remaining = difference;
        true
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exceeds_size_counts_the_names_of_members() {
        let value = json!({ "aaaaaaaa": 1, "bbbbbbbb": { "cccccccc": "dddd" } });
        // 4 bytes for each of the four values, 8 for each name, and 4 for the text.
        for (limit, exceeds) in [(44, false), (43, true)] {
            let mut remaining = limit;
            assert_eq!(exceeds_size(&value, &mut remaining), exceeds, "{limit}");
        }
    }

    #[test]
    fn a_replaced_value_no_longer_counts() {
        let large = json!("x".repeat(2 * LARGE_TEXT_BYTES));
        let mut size = ScopeSize::of_values([&large, &json!(1)]);
        assert!(size.is_large());
        size.subtract(&large);
        assert!(!size.is_large());
        size.add(&json!("x".repeat(LARGE_TEXT_BYTES - 8)));
        assert!(!size.is_large(), "the texts and 4 bytes for each value are exactly the limit");
        size.add(&json!(null));
        assert!(size.is_large());
    }
}
