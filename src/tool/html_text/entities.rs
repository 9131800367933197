//! Character references of HTML, such as `&amp;` and `&#65;`.

use std::borrow::Cow;

/// The names that pages use often. orch leaves other names as they are.
const NAMED_ENTITIES: &[(&str, &str)] = &[
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("mdash", "—"),
    ("ndash", "–"),
    ("hellip", "…"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("bull", "•"),
    ("middot", "·"),
    ("times", "×"),
    ("larr", "←"),
    ("rarr", "→"),
    ("le", "≤"),
    ("ge", "≥"),
    ("ne", "≠"),
    ("deg", "°"),
    ("copy", "©"),
    ("reg", "®"),
    ("trade", "™"),
    ("euro", "€"),
    ("pound", "£"),
    ("sect", "§"),
    ("shy", ""),
];
/// The maximum length of a reference, in bytes.
const MAX_REFERENCE_BYTES: usize = 12;

/// Replaces the character references in a text.
pub(super) fn decode_entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        decoded.push_str(rest.get(..start).unwrap_or_default());
        let after = rest.get(start + 1..).unwrap_or_default();
        rest = if let Some((character, after)) = decode_reference(after) {
            decoded.push_str(&character);
            after
        } else {
            decoded.push('&');
            after
        };
    }
    decoded.push_str(rest);
    decoded.into()
}

/// Decodes the reference at the beginning of a text, after its `&`. Returns the character and the text after the `;`.
fn decode_reference(text: &str) -> Option<(Cow<'static, str>, &str)> {
    let beginning = text.get(..text.floor_char_boundary(MAX_REFERENCE_BYTES))?;
    let end = beginning.find(';')?;
    let (name, after) = (text.get(..end)?, text.get(end + 1..)?);
    let Some(number) = name.strip_prefix('#') else {
        let (_, character) = NAMED_ENTITIES.iter().find(|(known, _)| *known == name)?;
        return Some(((*character).into(), after));
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    let character = char::from_u32(code).filter(|c| *c != '\0').unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((character.to_string().into(), after))
}
