//! How deep JSON is nested, told before it is parsed: what reads it calls itself for each level.

/// The deepest JSON that a journal or an export may hold. Values are at most 512 levels deep when they are taken from a
/// reply; an event adds a few.
pub const MAX_NESTING: usize = 1024;

/// How deep lists and objects of a JSON text are nested; of a text that is no JSON, a number all the same.
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
}
