//! Measures the nesting depth and the number of values of JSON before orch parses it. Both need limits, since a parser
//! recurses for each level, and a parsed value takes many times the memory of its text.

/// The maximum nesting depth of JSON in a journal or an export. Values from replies have at most 512 levels, and an
/// event adds a few.
pub const MAX_NESTING: usize = 1024;

/// The maximum number of JSON values in an import, and in a foreign run: one that was imported, or whose journal this
/// user's orch did not write on this machine. Another person may have chosen its content.
pub const MAX_VALUES: usize = 5_000_000;

/// An upper bound of the number of values in a JSON text: one, and one more for each comma and each list or object.
pub fn count_values(json: &[u8]) -> usize {
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

/// The nesting depth of the lists and objects in a JSON text. For other text, the result is meaningless.
pub fn nesting_depth(json: &[u8]) -> usize {
    let (mut depth, mut max_depth) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                max_depth = max_depth.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    max_depth
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
        assert_eq!(nesting_depth(br#"{"a": ["[[[", "\"[[", [1]], "b": {}}"#), 3);
        assert_eq!(nesting_depth(b"1"), 0);
        assert_eq!(nesting_depth("[".repeat(20_000).as_bytes()), 20_000);
        assert_eq!(nesting_depth(b"]]["), 1);
    }

    #[test]
    fn the_number_of_values_is_an_upper_bound() {
        assert_eq!(count_values(b"1"), 1);
        assert_eq!(count_values(br#"{"a,": [1, 2, "x,[,"], "b": {"c": null}}"#), 7);
    }
}
