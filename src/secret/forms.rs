//! The encodings in which a secret is searched for.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The value itself, its lines, and the value in Base64 and hexadecimal, without those that are too short to search
/// for.
pub(super) fn of(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    if value.contains(char::is_whitespace) {
        // Form encoding writes a space as `+`.
        forms.push(value.replace(' ', "+"));
        // The redactor also searches the text with its line breaks removed.
        forms.push(value.replace(['\n', '\r'], ""));
        forms.extend(value.lines().map(str::trim).filter(|line| line.len() >= super::SHORTEST).map(str::to_owned));
    }
    forms.extend([STANDARD_NO_PAD, URL_SAFE_NO_PAD].iter().flat_map(|engine| inside(engine, value.as_bytes())));
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.push(hex.to_ascii_uppercase());
    forms.push(hex);
    forms.retain(|form| form.len() >= super::SHORTEST);
    forms
}

/// Base64 of the value at each of the three offsets that it can have in the encoded bytes, without the characters that
/// depend on the bytes before and after it.
fn inside(engine: &impl base64::Engine, value: &[u8]) -> Vec<String> {
    (0..3_usize)
        .map(|before| {
            let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
            let text = engine.encode(&padded);
            let first = (before * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            text.get(first..last).unwrap_or_default().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn base64_is_found_wherever_the_value_stands() {
        let value = b"sk-a/b+c?d>0123456789";
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let forms = inside(&engine, value);
            for (before, after) in [("", ""), ("u", "x"), ("us", "xy"), ("user:", ""), ("user", "@host")] {
                let whole = engine.encode([before.as_bytes(), value, after.as_bytes()].concat());
                assert!(forms.iter().any(|form| whole.contains(form)), "{before:?} {after:?}: {whole} {forms:?}");
            }
        }
    }
}
