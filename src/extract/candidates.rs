//! Where in a reply a JSON value may be.

use serde_json::Value;

use super::Source;

/// Every JSON value of a reply, in order; inner values of a value are not among them.
pub(super) fn gather(text: &str) -> Vec<(Source, Value)> {
    if let Some(value) = parse(text) {
        return vec![(Source::Whole, value)];
    }
    let mut found = Vec::new();
    for (fenced, part) in parts(text) {
        match (fenced, parse(part.trim())) {
            (true, Some(value)) => found.push((Source::Fence, value)),
            _ => balanced(part, &mut found),
        }
    }
    found
}

/// The text cut at fences: prose and the insides of fenced blocks, in order.
fn parts(text: &str) -> Vec<(bool, &str)> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut open: Option<(char, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let here = at;
        at += line.len();
        let Some((mark, length, rest)) = fence(line) else {
            continue;
        };
        match open {
            None => {
                parts.push((false, text.get(start..here).unwrap_or_default()));
                (open, start) = (Some((mark, length)), at);
            }
            Some((m, l)) if m == mark && length >= l && rest.trim().is_empty() => {
                parts.push((true, text.get(start..here).unwrap_or_default()));
                (open, start) = (None, at);
            }
            Some(_) => {}
        }
    }
    parts.push((open.is_some(), text.get(start..).unwrap_or_default()));
    parts
}

/// A line that opens or closes a fenced block: its character, its length, what follows.
fn fence(line: &str) -> Option<(char, usize, &str)> {
    let inner = line.trim_start_matches(' ');
    let mark = inner.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = inner.chars().take_while(|c| *c == mark).count();
    (length >= 3 && line.len() - inner.len() <= 3).then(|| (mark, length, inner.get(length..).unwrap_or_default()))
}

/// The outermost balanced objects and arrays of some prose that are JSON.
fn balanced(text: &str, found: &mut Vec<(Source, Value)>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) =
        bytes.get(at..).and_then(|rest| rest.iter().position(|b| matches!(b, b'{' | b'['))).map(|i| at + i)
    {
        match end_of(bytes, start) {
            // A bracket that is never closed: what is inside belongs to something cut off.
            None => return,
            Some(end) => {
                if let Some(value) = text.get(start..end).and_then(parse) {
                    found.push((Source::Prose, value));
                }
                at = end;
            }
        }
    }
}

/// The end of the balanced value that starts here, strings taken into account.
fn end_of(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut string, mut escaped) = (0_usize, false, false);
    for (i, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            b'{' | b'[' if !string => depth += 1,
            b'}' | b']' if !string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Strict JSON; serde_json bounds the depth at 128.
fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}
