//! The encodings of a secret for which the redactor searches.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Returns the value itself, its lines, and the value in Base64 and hexadecimal. Omits texts that are too short to
/// search for.
pub(super) fn encodings_of(value: &str) -> Vec<String> {
    let mut encodings = vec![value.to_owned()];
    if value.contains(char::is_whitespace) {
        // Form encoding writes a space as `+`.
        encodings.push(value.replace(' ', "+"));
        // The redactor also searches the text with its line breaks removed.
        encodings.push(value.replace(['\n', '\r'], ""));
        encodings.extend(
            value.lines().map(str::trim).filter(|line| line.len() >= super::MIN_NEEDLE_BYTES).map(str::to_owned),
        );
    }
    let engines = [STANDARD_NO_PAD, URL_SAFE_NO_PAD];
    encodings.extend(engines.iter().flat_map(|engine| aligned_base64(engine, value.as_bytes())));
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    encodings.push(hex.to_ascii_uppercase());
    encodings.push(hex);
    encodings.retain(|encoding| encoding.len() >= super::MIN_NEEDLE_BYTES);
    encodings
}

/// The Base64 characters that encode the value inside longer data. They depend on the position of the value modulo
/// three bytes, so there are three results. Each omits the characters that also encode bytes before or after the value.
fn aligned_base64(engine: &impl base64::Engine, value: &[u8]) -> Vec<String> {
    (0..3_usize)
        .map(|offset| {
            let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(value.iter().copied()).collect();
            let text = engine.encode(&padded);
            let start = (offset * 8).div_ceil(6);
            let end = padded.len() * 8 / 6;
            text.get(start..end).unwrap_or_default().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn base64_is_found_at_any_offset() {
        let value = b"sk-a/b+c?d>0123456789";
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encodings = aligned_base64(&engine, value);
            for (prefix, suffix) in [("", ""), ("u", "x"), ("us", "xy"), ("user:", ""), ("user", "@host")] {
                let encoded = engine.encode([prefix.as_bytes(), value, suffix.as_bytes()].concat());
                assert!(
                    encodings.iter().any(|encoding| encoded.contains(encoding)),
                    "{prefix:?} {suffix:?}: {encoded} {encodings:?}"
                );
            }
        }
    }
}
