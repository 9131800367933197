//! Splits JSON into its parts without parsing it. So the parts of a message can be found although one of them is wrong,
//! and a message can be measured before parsing it takes much memory.

/// What parsing some JSON would cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JsonSize {
    /// The number of its values, or more; the outermost one is not counted.
    pub(super) values: usize,
    /// How many levels its lists and objects are nested.
    pub(super) depth: usize,
}

/// Measures JSON. The number of values is that of the commas and of the brackets that open.
pub(super) fn measure(json: &[u8]) -> JsonSize {
    let (mut size, mut depth) = (JsonSize::default(), 0_usize);
    for (_, byte) in structure(json) {
        match byte {
            b'{' | b'[' => {
                size.values += 1;
                depth += 1;
                size.depth = size.depth.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => size.values += 1,
            _ => {}
        }
    }
    size
}

/// The members of an object with their values; none if this is no object. A part of an object that is no member is left
/// out. The JSON may be cut off.
pub(super) fn members(json: &[u8]) -> Vec<(String, &[u8])> {
    if json.first() == Some(&b'{') { parts(json).into_iter().filter_map(member).collect() } else { Vec::new() }
}

/// The elements of a list; none if this is no list.
pub(super) fn elements(json: &[u8]) -> Vec<&[u8]> {
    if json.first() == Some(&b'[') { parts(json) } else { Vec::new() }
}

/// The value of a member, if the object has it.
pub(super) fn find<'a>(members: &[(String, &'a [u8])], name: &str) -> Option<&'a [u8]> {
    members.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
}

fn member(part: &[u8]) -> Option<(String, &[u8])> {
    let (colon, _) = structure(part).find(|(_, byte)| *byte == b':')?;
    let name = serde_json::from_slice(part.get(..colon)?).ok()?;
    Some((name, part.get(colon + 1..)?.trim_ascii()))
}

/// The parts of a list or an object between its commas.
fn parts(json: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut depth, mut start, mut end) = (Vec::new(), 0_usize, 0, json.len());
    for (position, byte) in structure(json) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth == 1 {
                    start = position + 1;
                }
            }
            b'}' | b']' if depth <= 1 => {
                end = position;
                break;
            }
            b'}' | b']' => depth -= 1,
            b',' if depth == 1 => {
                parts.push(json.get(start..position).unwrap_or_default().trim_ascii());
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(json.get(start..end).unwrap_or_default().trim_ascii());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The brackets, commas and colons outside of texts, with their positions.
fn structure(json: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let (mut is_text, mut is_escaped) = (false, false);
    json.iter().copied().enumerate().filter(move |(_, byte)| {
        if is_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = false,
                _ => {}
            }
            return false;
        }
        is_text = *byte == b'"';
        matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &[u8]) -> &str {
        std::str::from_utf8(json).unwrap()
    }

    #[test]
    fn json_is_measured_without_its_texts() {
        for (json, values, depth) in
            [("5", 0, 0), (r#"{"a":[1,2,{}]}"#, 5, 3), (r#"["[[[,,,", "\"[,"]"#, 2, 1), ("]]}[", 1, 1), ("[[[", 3, 3)]
        {
            assert_eq!(measure(json.as_bytes()), JsonSize { values, depth }, "{json}");
        }
    }

    #[test]
    fn the_members_of_wrong_json_are_found() {
        for (json, expected) in [
            (
                r#"{ "id" : 7, "result": {"a": NaN, "b": ","}, "c": [1, {"d": 2}] }"#,
                "id=7 result={\"a\": NaN, \"b\": \",\"} c=[1, {\"d\": 2}]",
            ),
            (r#"{"id":7,"result":{"a":[1"#, "id=7 result={\"a\":[1"),
            (r#"{"id":7}{"id":8}"#, "id=7"),
            (r#"{"a\"b": 1, 5: 6, "c"}"#, "a\"b=1"),
            ("{", ""),
            ("[1]", ""),
            ("", ""),
        ] {
            let found = members(json.as_bytes());
            let found: Vec<String> = found.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
            assert_eq!(found.join(" "), expected, "{json}");
        }
    }

    #[test]
    fn the_elements_of_a_list_are_found() {
        let found: Vec<&str> = elements(b"[ {\"a\": [1, 2]}, \"x,y\" ,3 ]").into_iter().map(text).collect();
        assert_eq!(found, ["{\"a\": [1, 2]}", "\"x,y\"", "3"]);
        assert!(elements(b"{\"a\": 1}").is_empty() && elements(b"[]").is_empty());
        assert_eq!(find(&members(b"{\"a\": 1, \"b\": 2}"), "b"), Some(&b"2"[..]));
    }
}
