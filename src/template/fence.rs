//! Renders data for a prompt as a fenced block that the data can't close.

use serde_json::Value;

/// Renders a value as indented JSON in a fenced block.
pub fn fence(value: &Value) -> String {
    // This is faster than `Display`, whose formatter writes the text in small parts. Serializing a JSON value can't
    // fail.
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| format!("{value:#}"));
    fence_text("json", &text)
}

/// Puts a text into a fenced block of a language, without a line break at the end. The fence is longer than any run of
/// backticks in the text.
pub fn fence_text(language: &str, text: &str) -> String {
    let longest_run = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest_run.max(2) + 1);
    let line_break = if text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{language}\n{text}{line_break}{fence}")
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
