//! Reads strings: exact ones, and those whose quotes need repair.
//!
//! In tolerant mode a quote closes a string only where the following text continues the JSON; elsewhere it is part of
//! the text. A string with two possible readings is refused.

use super::cursor::{Fault, Mode, TextCursor, is_space};
use super::doubts::{Pairs, QuoteRole};
use super::escape;
use super::report::Repair;

/// The position of a string in its value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StringRole {
    Key,
    Member,
    Item,
    /// Outside any bracket.
    Alone,
}

/// The longest key, in bytes. Keys in malformed JSON are short; a longer text is not a key.
const LONGEST_KEY: usize = 200;

const AMBIGUOUS: Fault = Fault::Bad("the quotes of a string are ambiguous");

/// The characters that may close a string that opens with `open`.
fn closers(open: char) -> Option<&'static [char]> {
    Some(match open {
        '"' => &['"'],
        '\'' => &['\''],
        '`' => &['`'],
        '“' | '”' | '„' | '‟' | '＂' => &['”', '“', '"', '‟', '＂'],
        '‘' | '’' | '‚' | '‛' => &['’', '‘', '\'', '‛'],
        '«' => &['»'],
        _ => return None,
    })
}

/// Whether a string may start with this character.
pub(super) fn opens(c: char) -> bool {
    closers(c).is_some()
}

/// Reads the string here; the cursor is at its opening quote.
pub(super) fn read(cursor: &mut TextCursor<'_>, role: StringRole) -> Result<String, Fault> {
    let open = cursor.char().ok_or(Fault::Cut)?;
    if cursor.mode == Mode::Exact {
        return if open == '"' { exact(cursor) } else { Err(Fault::Bad("it is no strict JSON")) };
    }
    let rest = cursor.rest();
    if rest.starts_with("```") {
        return Err(AMBIGUOUS);
    }
    for triple in ["\"\"\"", "'''"] {
        if rest.starts_with(triple) {
            return tripled(cursor, triple);
        }
    }
    match open {
        '"' => {}
        '\'' | '`' => cursor.note(Repair::SingleQuotes)?,
        _ => cursor.note(Repair::SmartQuotes)?,
    }
    cursor.pos += open.len_utf8();
    tolerant(cursor, closers(open).unwrap_or_default(), role)
}

fn exact(cursor: &mut TextCursor<'_>) -> Result<String, Fault> {
    cursor.pos += 1;
    let mut out = String::new();
    loop {
        let rest = cursor.rest();
        let plain = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\').ok_or(Fault::Cut)?;
        out.push_str(rest.get(..plain).unwrap_or_default());
        cursor.pos += plain;
        match cursor.byte() {
            Some(b'"') => {
                cursor.pos += 1;
                return Ok(out);
            }
            Some(b'\\') => escape::read(cursor, &mut out, &['"'])?,
            _ => return Err(Fault::Bad("it is no strict JSON")),
        }
    }
}

/// Reads a string in triple quotes, in which quotes and line breaks need no backslash.
fn tripled(cursor: &mut TextCursor<'_>, quote: &str) -> Result<String, Fault> {
    cursor.note(Repair::TripleQuotes)?;
    cursor.pos += quote.len();
    let rest = cursor.rest();
    let mut length = rest.find(quote).ok_or(Fault::Cut)?;
    // In `"""a "quoted""""` the last three quotes close the string.
    while rest.get(length + 3..).is_some_and(|after| after.starts_with(&quote[..1])) {
        length += 1;
    }
    let body = rest.get(..length).unwrap_or_default();
    // Two forms are ambiguous. `""" is empty"` may be a plain string that begins with two quotes of its own, and in
    // `"""x"" is it", "note": "y """` the closing quotes may belong to the next member.
    let is_one_line = !body.contains('\n');
    let ends = |(at, _): (usize, &str)| {
        body.get(at + 1..).is_some_and(|after| after.trim_start().starts_with([',', ':', '}', ']']))
    };
    if is_one_line
        && (body.starts_with([' ', '"', '\'']) || body.match_indices(quote.get(..1).unwrap_or_default()).any(ends))
    {
        return Err(AMBIGUOUS);
    }
    cursor.pos += length + quote.len();
    let mut inner = TextCursor::new(body, 0, cursor.mode);
    let mut out = String::new();
    while let Some(c) = inner.char() {
        if c == '\\' {
            escape::read(&mut inner, &mut out, &['"', '\''])?;
        } else {
            out.push(c);
            inner.pos += c.len_utf8();
        }
    }
    inner.repairs.into_iter().try_for_each(|repair| cursor.note(repair))?;
    Ok(out)
}

fn tolerant(cursor: &mut TextCursor<'_>, closers: &'static [char], role: StringRole) -> Result<String, Fault> {
    let start = cursor.pos;
    let mut out = String::new();
    let mut inner = InnerQuotes::default();
    loop {
        let c = cursor.char().ok_or(Fault::Cut)?;
        if c == '\\' {
            if let Some(quote) = cursor.rest().chars().nth(1).filter(|next| closers.contains(next)) {
                inner.pairs.see_escaped(cursor.text, cursor.pos, quote, start);
            }
            escape::read(cursor, &mut out, closers)?;
            continue;
        }
        if closers.contains(&c) {
            let after = cursor.pos + c.len_utf8();
            match verdict(cursor, after, role, inner.count) {
                QuoteVerdict::Closes if inner.is_torn() && cursor.doubts.given.is_empty() => return Err(AMBIGUOUS),
                QuoteVerdict::Closes => {
                    let bare_keys = cursor.repairs.contains(&Repair::UnquotedKey);
                    cursor.doubts.string_ends(&inner.pairs, cursor.pos, role, bare_keys);
                    cursor.pos = after;
                    return Ok(out);
                }
                QuoteVerdict::Unclosed => return unclosed(cursor, start, out),
                QuoteVerdict::KeyFollows => return Err(AMBIGUOUS),
                QuoteVerdict::Text if role == StringRole::Key && c != '\'' && c != '’' => return Err(AMBIGUOUS),
                QuoteVerdict::Text => {
                    inner.see(cursor.text, cursor.pos, c, start);
                    if matches!(c, '"' | '\'' | '`') {
                        cursor.note(Repair::UnescapedQuote)?;
                    }
                }
            }
        } else if c < ' ' {
            cursor.note(Repair::RawControl)?;
        }
        if role == StringRole::Key && out.len() > LONGEST_KEY {
            return Err(Fault::Bad("a key does not end"));
        }
        out.push(c);
        cursor.pos += c.len_utf8();
    }
}

/// The quotes inside a string.
#[derive(Default)]
struct InnerQuotes {
    count: usize,
    /// Whether the first of them looks like a closing quote.
    closes: bool,
    pairs: Pairs,
}

impl InnerQuotes {
    fn see(&mut self, text: &str, quote: usize, c: char, start: usize) {
        self.pairs.see(text, quote, c, start);
        if self.count == 0 {
            let after = quote + c.len_utf8();
            let before = text.get(..quote).unwrap_or_default();
            let word =
                !before.ends_with(|c: char| is_space(c) || matches!(c, '(' | '=' | '[' | '{' | '"' | '\'' | '“' | '‘'));
            self.closes = word && text.get(after..).is_some_and(|rest| rest.starts_with(is_space));
        }
        self.count += 1;
    }

    /// Whether the quotes separate two strings, as in `"x" or "y"`, so that they are not inside one.
    fn is_torn(&self) -> bool {
        self.closes && self.count.is_multiple_of(2) && self.pairs.is_open()
    }
}

enum QuoteVerdict {
    Closes,
    /// A colon follows the quoted text, where no key can be.
    KeyFollows,
    /// The quote opens the next key, so the closing quote is missing.
    Unclosed,
    Text,
}

/// What the quote here does: as decided before the reading, or else judged by the following text. `count` is the number
/// of inner quotes before it.
fn verdict(cursor: &TextCursor<'_>, after: usize, role: StringRole, count: usize) -> QuoteVerdict {
    match cursor.doubts.given(cursor.pos) {
        Some(QuoteRole::Closes) => return QuoteVerdict::Closes,
        Some(QuoteRole::Text) => return QuoteVerdict::Text,
        None => {}
    }
    match judge(cursor.text, after, role) {
        // A reading that follows a fork accepts text that looks like a key.
        QuoteVerdict::KeyFollows if !cursor.doubts.given.is_empty() => QuoteVerdict::Text,
        QuoteVerdict::KeyFollows if count == 0 => QuoteVerdict::Unclosed,
        // If the quote opens what looks like the next key, the closing quote before it is missing.
        QuoteVerdict::Text
            if count == 0 && role == StringRole::Member && before_key(cursor.text, cursor.pos, after) =>
        {
            QuoteVerdict::Unclosed
        }
        verdict => verdict,
    }
}

/// Judges the quote before `after` by the following text.
fn judge(text: &str, after: usize, role: StringRole) -> QuoteVerdict {
    let at = skip(text, after);
    let Some(next) = text.get(at..).and_then(|rest| rest.chars().next()) else { return QuoteVerdict::Closes };
    let gap = at > after;
    match (role, next) {
        (StringRole::Key, ':' | '：') | (StringRole::Member, '}') | (StringRole::Item, ']') => {
            QuoteVerdict::from(role == StringRole::Key || closes_well(text, at))
        }
        (StringRole::Key, _) => QuoteVerdict::Text,
        (_, ':' | '：') => QuoteVerdict::KeyFollows,
        (StringRole::Member, ',' | '，') => QuoteVerdict::from(member_follows(text, skip(text, at + next.len_utf8()))),
        (StringRole::Item, ',' | '，') => QuoteVerdict::from(item_follows(text, skip(text, at + next.len_utf8()))),
        (StringRole::Member | StringRole::Item, '/' | '#') => {
            QuoteVerdict::from(gap || text.get(at..).is_some_and(|r| r.starts_with("//") || r.starts_with("/*")))
        }
        (StringRole::Member, _) => QuoteVerdict::from(gap && opens(next) && key_at(text, at)),
        (StringRole::Item, '"') => QuoteVerdict::from(gap),
        (StringRole::Alone | StringRole::Item, _) => QuoteVerdict::Text,
    }
}

impl From<bool> for QuoteVerdict {
    fn from(closes: bool) -> Self {
        if closes { Self::Closes } else { Self::Text }
    }
}

/// Whether more JSON, or the end of it, follows the closing bracket here.
fn closes_well(text: &str, at: usize) -> bool {
    let after = skip(text, at + 1);
    let Some(next) = text.get(after..).and_then(|rest| rest.chars().next()) else { return true };
    let broken = text.get(at..after).is_some_and(|gap| gap.contains('\n'));
    broken
        || matches!(next, ',' | '，' | '}' | ']' | '`' | '<' | '/' | '#' | '{' | '.' | ';' | ')')
        || next.is_alphabetic()
        || (opens(next) && key_at(text, after))
}

/// Whether a member, or the end of an object, starts here.
fn member_follows(text: &str, at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let Some(next) = rest.chars().next() else { return true };
    matches!(next, '}' | ',')
        || rest.starts_with("//")
        || rest.starts_with("/*")
        || next == '#'
        || next == '.'
        || key_at(text, at)
}

/// Whether an item, or the end of an array, starts here.
fn item_follows(text: &str, at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let Some(next) = rest.chars().next() else { return true };
    let word = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let literal = matches!(rest.get(..word), Some("true" | "false" | "null" | "True" | "False" | "None"));
    opens(next) || literal || next.is_ascii_digit() || matches!(next, '{' | '[' | ']' | ',' | '-' | '/' | '#' | '.')
}

/// Whether a key with its colon starts here.
fn key_at(text: &str, at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let Some(first) = rest.chars().next() else { return false };
    let Some(closing) = closers(first) else {
        let word =
            rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '.'))).unwrap_or(rest.len());
        return word > 0 && word <= LONGEST_KEY && colon(text, at + word);
    };
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1).take(LONGEST_KEY) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if closing.contains(&c) && colon(text, at + i + c.len_utf8()) {
            return true;
        } else if c == ',' || c == '"' && closing.contains(&'"') {
            return false;
        }
    }
    false
}

fn colon(text: &str, at: usize) -> bool {
    text.get(skip(text, at)..).is_some_and(|rest| rest.starts_with([':', '：']))
}

/// The position after the white space here.
fn skip(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.find(|c: char| !is_space(c)).unwrap_or(rest.len())
}

/// Whether the quote at `quote` opens the next key, after a comma.
fn before_key(text: &str, quote: usize, after: usize) -> bool {
    let before = text.get(..quote).unwrap_or_default().trim_end_matches(is_space);
    before.ends_with(',')
        && text.get(after..).is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        && key_at(text, quote)
}

/// Ends a string whose closing quote is missing before `, "key":`.
fn unclosed(cursor: &mut TextCursor<'_>, start: usize, mut out: String) -> Result<String, Fault> {
    let said = cursor.text.get(start..cursor.pos).unwrap_or_default();
    let kept = said.trim_end_matches(is_space).strip_suffix(',').ok_or(AMBIGUOUS)?;
    // If the text contains a comma itself, the string could end at either one.
    if kept.contains([',', '\n', '\\']) {
        return Err(AMBIGUOUS);
    }
    cursor.note(Repair::MissingQuote)?;
    cursor.doubts.missing_quote(cursor.pos);
    out.truncate(kept.trim_end().len());
    cursor.pos = start + kept.len();
    Ok(out)
}
