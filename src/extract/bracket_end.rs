//! Estimates the end of bracketed text that can't be parsed as JSON, so that the scanner can skip the text.

/// The byte after bracketed text that can't be parsed: the later of two estimates. `None` if no bracket closes the
/// text.
pub(super) fn estimate_end(text: &str, start: usize) -> Option<usize> {
    let end = end_outside_strings(text, start)?;
    Some(end.max(end_ignoring_quotes(text, start).unwrap_or(text.len())))
}

/// The byte after the bracket that closes the bracket at `start`; `None` if no bracket closes it. Ignores brackets in
/// strings.
///
/// A quote starts a string only where JSON allows one. Otherwise, an apostrophe in prose would hide the closing
/// bracket.
fn end_outside_strings(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut pos = start;
    let mut previous = b'{';
    while let Some(byte) = bytes.get(pos).copied() {
        match byte {
            b'"' | b'\'' if matches!(previous, b'{' | b'[' | b',' | b':') => {
                pos = string_end(bytes, pos)?;
                previous = b'"';
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(pos + 1);
                }
            }
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            previous = byte;
        }
        pos += 1;
    }
    None
}

/// The byte after the bracket that closes the bracket at `start`; `None` if no bracket closes it. Also counts brackets
/// in strings: if the quotes are unreliable, all text before this byte may be inside the brackets.
fn end_ignoring_quotes(text: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let brackets = text.as_bytes().iter().enumerate().skip(start);
    for (pos, byte) in brackets.filter(|(_, byte)| matches!(byte, b'{' | b'[' | b'}' | b']')) {
        depth = if matches!(byte, b'{' | b'[') { depth + 1 } else { depth.saturating_sub(1) };
        if depth == 0 {
            return Some(pos + 1);
        }
    }
    None
}

/// The byte after the string that starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = *bytes.get(start)?;
    let mut is_escaped = false;
    for (i, byte) in bytes.iter().enumerate().skip(start + 1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b if *b == quote && (quote == b'"' || is_closing_single_quote(bytes, i + 1)) => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// Whether a single quote before `end` closes a string, as opposed to an apostrophe.
fn is_closing_single_quote(bytes: &[u8], end: usize) -> bool {
    let next = bytes.iter().skip(end).find(|b| !b.is_ascii_whitespace());
    next.is_none_or(|b| matches!(b, b',' | b':' | b'}' | b']'))
}
