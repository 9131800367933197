//! How far something reaches that opened a bracket and is no JSON.

/// The byte after what opened a bracket and can't be read: the later of two estimates; none when it is never closed.
pub(super) fn latest(text: &str, start: usize) -> Option<usize> {
    let end = end(text, start)?;
    Some(end.max(end_of_brackets(text, start).unwrap_or(text.len())))
}

/// The byte after the bracket that closes the one at `start`; none when it is never closed.
///
/// A quote counts only where a string can start, so that an apostrophe in prose does not swallow
/// the rest.
fn end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = start;
    let mut before = b'{';
    while let Some(byte) = bytes.get(at).copied() {
        match byte {
            b'"' | b'\'' if matches!(before, b'{' | b'[' | b',' | b':') => {
                at = string_end(bytes, at)?;
                before = b'"';
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            before = byte;
        }
        at += 1;
    }
    None
}

/// The byte after the bracket that closes the one at `start` when quotes count for nothing; none when it is
/// never closed. Where quotes can't be trusted, nothing before it is outside.
fn end_of_brackets(text: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let brackets = text.as_bytes().iter().enumerate().skip(start);
    for (at, byte) in brackets.filter(|(_, byte)| matches!(byte, b'{' | b'[' | b'}' | b']')) {
        depth = if matches!(byte, b'{' | b'[') { depth + 1 } else { depth.saturating_sub(1) };
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The byte after the string that starts here.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = *bytes.get(start)?;
    let mut escaped = false;
    for (i, byte) in bytes.iter().enumerate().skip(start + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b if *b == quote && (quote == b'"' || ends(bytes, i + 1)) => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// Whether what follows a single quote ends a string: it may be an apostrophe.
fn ends(bytes: &[u8], after: usize) -> bool {
    let next = bytes.iter().skip(after).find(|b| !b.is_ascii_whitespace());
    next.is_none_or(|b| matches!(b, b',' | b':' | b'}' | b']'))
}
