//! Measures JSON before it is parsed: how deep it is nested and how many values it has. A parser recurses for each
//! level, and a value takes many times the memory of its text, so both need limits.

/// The deepest JSON that a journal or an export may contain. Values from replies are at most 512 levels deep; an event
/// adds a few.
pub const MAX_NESTING: usize = 1024;

/// The most JSON values in an import, and in a run from elsewhere.
pub const MAX_VALUES: usize = 5_000_000;

/// An upper bound of the number of values in a JSON text: one, and one more for each comma and each list or object.
pub fn values(json: &[u8]) -> usize {
    let mut count = 1;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b',' | b'[' | b'{' => count += 1,
            _ => {}
        }
    }
    count
}

/// How deep the lists and objects of a JSON text are nested. Returns a number for other text too.
pub fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert_eq!(nesting(br#"{"a": ["[[[", "\"[[", [1]], "b": {}}"#), 3);
        assert_eq!(nesting(b"1"), 0);
        assert_eq!(nesting("[".repeat(20_000).as_bytes()), 20_000);
        assert_eq!(nesting(b"]]["), 1);
    }

    #[test]
    fn values_are_counted_and_never_too_few() {
        assert_eq!(values(b"1"), 1);
        assert_eq!(values(br#"{"a,": [1, 2, "x,[,"], "b": {"c": null}}"#), 7);
    }
}
