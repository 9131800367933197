//! Data in a prompt: a fenced block that its content cannot close.

use serde_json::Value;

/// The value as indented JSON in a fenced block.
pub fn fence(value: &Value) -> String {
    // Written at once and not through a formatter, as by `Display`, whose text is the same; a value can always be written.
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| format!("{value:#}"));
    fence_text("json", &text)
}

/// The text as a fenced block in the language, its fence longer than any run of
/// backticks inside, without a line break at its end.
pub fn fence_text(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{language}\n{text}{end}{fence}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{fence, fence_text};

    #[test]
    fn content_cannot_close_its_fence() {
        assert_eq!(fence(&json!({"a": "<1>"})), "```json\n{\n  \"a\": \"<1>\"\n}\n```");
        assert_eq!(fence(&json!("```")), "````json\n\"```\"\n````");
        assert_eq!(fence_text("", "a ``` b\n"), "````\na ``` b\n````");
        assert_eq!(fence_text("md", "`````"), "``````md\n`````\n``````");
    }
}
