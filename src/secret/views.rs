//! A text with its escapes undone, which remembers where each byte comes from in the original text.

use std::borrow::Cow;
use std::ops::Range;

/// How many levels of nested escapes are undone.
const DEPTH: usize = 3;

/// A text with some escapes undone.
pub(super) struct DecodedText<'a> {
    bytes: Cow<'a, [u8]>,
    /// For each byte, where it comes from in the original text; `None` when this is the original text.
    from: Option<Vec<Range<usize>>>,
}

/// An escape: how many bytes it takes, and the bytes that it means.
type Escape = (usize, Vec<u8>);

impl DecodedText<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where a part of the decoded text is in the original text.
    pub(super) fn place(&self, part: Range<usize>) -> Range<usize> {
        let Some(from) = &self.from else { return part };
        match (from.get(part.start), from.get(part.end.saturating_sub(1))) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => part,
        }
    }

    /// The text with one kind of escape undone; `None` when it has no such escape.
    fn without(&self, sign: u8, escape: fn(&[u8]) -> Option<Escape>) -> Option<DecodedText<'static>> {
        if !self.bytes.contains(&sign) {
            return None;
        }
        let (mut bytes, mut from) = (Vec::with_capacity(self.bytes.len()), Vec::with_capacity(self.bytes.len()));
        let (mut at, mut any) = (0, false);
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let found = if rest.first() == Some(&sign) { escape(rest) } else { None };
            any |= found.is_some();
            let (taken, meant) = found.unwrap_or_else(|| (1, rest.iter().take(1).copied().collect()));
            let place = self.place(at..at + taken);
            from.extend(meant.iter().map(|_| place.clone()));
            bytes.extend(meant);
            at += taken;
        }
        any.then(|| DecodedText { bytes: bytes.into(), from: Some(from) })
    }

    /// The text without line breaks, since Base64 is often wrapped.
    fn joined(&self) -> Option<DecodedText<'static>> {
        let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
        if !self.bytes.iter().any(|byte| is_break(*byte)) {
            return None;
        }
        let kept = self.bytes.iter().enumerate().filter(|(_, byte)| !is_break(**byte));
        let (bytes, from): (Vec<u8>, Vec<_>) = kept.map(|(at, byte)| (*byte, self.place(at..at + 1))).unzip();
        Some(DecodedText { bytes: bytes.into(), from: Some(from) })
    }
}

/// Calls `look` with every decoding of a text: as it is, and with escapes of JSON and of URLs undone, nested ones too.
pub(super) fn each(text: &str, look: &mut dyn FnMut(&DecodedText<'_>)) {
    let whole = DecodedText { bytes: text.as_bytes().into(), from: None };
    each_below(&whole, DEPTH, look);
}

fn each_below(view: &DecodedText<'_>, depth: usize, look: &mut dyn FnMut(&DecodedText<'_>)) {
    look(view);
    if let Some(joined) = view.joined() {
        look(&joined);
    }
    if depth == 0 {
        return;
    }
    for next in [view.without(b'\\', of_json), view.without(b'%', of_address)].into_iter().flatten() {
        each_below(&next, depth - 1, look);
    }
}

/// `\n`, `\"`, `\u0041`: the escapes of JSON strings, which most languages share.
fn of_json(text: &[u8]) -> Option<Escape> {
    let meant = match text.get(1)? {
        b'u' => return of_unicode(text),
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        other @ (b'"' | b'\\' | b'/' | b'\'') => *other,
        _ => return None,
    };
    Some((2, vec![meant]))
}

fn of_unicode(text: &[u8]) -> Option<Escape> {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        // `from_str_radix` would accept a sign.
        let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [Some(unit(0)?), unit(6)];
    let first = char::decode_utf16(units.into_iter().flatten()).next()?.ok()?;
    Some((6 * first.len_utf16(), first.to_string().into_bytes()))
}

/// `%41`: the escapes of URLs.
fn of_address(text: &[u8]) -> Option<Escape> {
    let digits = std::str::from_utf8(text.get(1..3)?).ok()?;
    let digits = Some(digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((3, vec![u8::from_str_radix(digits, 16).ok()?]))
}
