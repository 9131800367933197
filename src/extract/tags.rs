//! Recognizes markup around text that is not the answer: reasoning, quoted documents, code in another language.

/// The kind of text that a tag encloses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TagKind {
    /// The model's reasoning.
    Reasoning,
    /// Text that the model quotes.
    Document,
    /// Any other tag; the answer may be inside.
    Other,
}

/// Reasoning tags that model families write without a request in the prompt: DeepSeek, Qwen, GLM, MiniMax,
/// Nemotron, Granite, Phi, Hermes, Hunyuan and ERNIE (`think`, also with a prefix as in `seed:think` and `mm:think`),
/// EXAONE (`thought`), and other spellings that servers recognize as reasoning.
const NATIVE_REASONING_TAGS: [&str; 5] = ["think", "thinking", "thought", "reason", "reasoning"];

/// Reasoning tags that prompts request.
const PROMPTED_REASONING_TAGS: [&str; 17] = [
    "thoughts",
    "thought_process",
    "reasoning_process",
    "scratch_pad",
    "draft",
    "drafts",
    "reflection",
    "scratchpad",
    "analysis",
    "rationale",
    "monologue",
    "inner_monologue",
    "internal",
    "chain_of_thought",
    "cot",
    "antthinking",
    "deliberation",
];

/// Tags around text that the model quotes.
const DOCUMENT_TAGS: [&str; 47] = [
    "code",
    "document",
    "documents",
    "doc",
    "docs",
    "document_content",
    "document_contents",
    "file",
    "files",
    "file_content",
    "file_contents",
    "source_code",
    "source",
    "sources",
    "context",
    "quote",
    "quoted",
    "blockquote",
    "q",
    "cite",
    "excerpt",
    "snippet",
    "example",
    "examples",
    "sample",
    "input",
    "user",
    "user_input",
    "user_message",
    "prompt",
    "tool_result",
    "tool_output",
    "tool_response",
    "function_result",
    "function_results",
    "search_result",
    "search_results",
    "observation",
    "web_page",
    "webpage",
    "email",
    "attachment",
    "transcript",
    "diff",
    "patch",
    "untrusted",
    "untrusted_content",
];

/// The kind of a tag, by its name.
pub(super) fn tag_kind(name: &str) -> TagKind {
    let name = normalized_name(name);
    if NATIVE_REASONING_TAGS.contains(&name.as_str()) || PROMPTED_REASONING_TAGS.contains(&name.as_str()) {
        TagKind::Reasoning
    } else if DOCUMENT_TAGS.contains(&name.as_str()) {
        TagKind::Document
    } else {
        TagKind::Other
    }
}

/// Whether model families write this reasoning tag without a request in the prompt.
pub(super) fn is_native_reasoning(name: &str) -> bool {
    NATIVE_REASONING_TAGS.contains(&normalized_name(name).as_str())
}

/// A tag name in lower case, without its prefix and with `_` for `-`: `seed:think` becomes `think`.
fn normalized_name(name: &str) -> String {
    name.rsplit(':').next().unwrap_or(name).to_ascii_lowercase().replace('-', "_")
}

/// Whether `tag` opens a collapsible block (`<details>`) whose summary says that it contains reasoning.
pub(super) fn is_collapsed_reasoning(text: &str, tag: &MarkupTag<'_>) -> bool {
    if !tag.name.eq_ignore_ascii_case("details") {
        return false;
    }
    let content = text.get(tag.end..).map(str::trim_start).unwrap_or_default();
    let Some(summary) = content.strip_prefix("<summary") else { return false };
    let summary: String = summary.chars().take(120).flat_map(char::to_lowercase).collect();
    let summary = summary.split("</summary").next().unwrap_or_default();
    ["reason", "think", "thought", "analys", "draft", "scratch", "deliberat"].iter().any(|word| summary.contains(word))
}

/// A tag in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkupTag<'a> {
    pub(super) name: &'a str,
    pub(super) is_closing: bool,
    /// Whether the tag closes itself: `<file path="x"/>`.
    pub(super) is_self_closing: bool,
    /// The byte after the tag.
    pub(super) end: usize,
}

/// The maximum length of a tag with its attributes, in bytes.
const MAX_TAG_BYTES: usize = 400;

/// The tag at `pos`, which must be a `<` (or a `[`, for `[THINK]`).
pub(super) fn tag_at(text: &str, pos: usize) -> Option<MarkupTag<'_>> {
    let tag_text = text.get(pos..)?;
    let closing_bracket = match tag_text.as_bytes().first()? {
        b'<' => '>',
        b'[' => ']',
        _ => return None,
    };
    let inner = tag_text.get(1..)?;
    let is_closing = inner.starts_with('/');
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let name_length = inner
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':')))
        .filter(|length| *length <= 64)?;
    let name = inner
        .get(..name_length)
        .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.ends_with(':'))?;
    if closing_bracket == ']' && !matches!(name, "THINK" | "THINKING" | "REASONING") {
        return None;
    }
    let tail = inner.get(name_length..)?;
    if !tail.starts_with([closing_bracket, ' ', '/', '\n', '\t', '\r']) {
        return None;
    }
    let attributes_length = tail.bytes().take(MAX_TAG_BYTES).position(|b| b == closing_bracket as u8 || b == b'<')?;
    let attributes = tail.get(..attributes_length)?;
    if tail.as_bytes().get(attributes_length) != Some(&(closing_bracket as u8)) {
        return None;
    }
    let end = pos + 1 + usize::from(is_closing) + name_length + attributes_length + 1;
    Some(MarkupTag { name, is_closing, is_self_closing: attributes.ends_with('/'), end })
}

/// The byte after the tag that closes `opening`; `None` if no tag closes it. Skips nested tags with the same name.
pub(super) fn enclosed_end(text: &str, opening: &MarkupTag<'_>) -> Option<usize> {
    let mut depth = 1_usize;
    let mut pos = opening.end;
    let brackets = if opening.name.starts_with(|c: char| c.is_ascii_uppercase()) { ['<', '['] } else { ['<', '<'] };
    while let Some(offset) = text.get(pos..)?.find(brackets) {
        pos += offset;
        match tag_at(text, pos) {
            Some(tag) if tag.name.eq_ignore_ascii_case(opening.name) && !tag.is_self_closing => {
                pos = tag.end;
                depth = if tag.is_closing { depth - 1 } else { depth + 1 };
                if depth == 0 {
                    return Some(pos);
                }
            }
            _ => pos += 1,
        }
    }
    None
}

/// Whether a block with this info string may contain the answer: JSON, plain text, or no language at all.
pub(super) fn may_contain_answer(info: &str) -> bool {
    JSON_OR_PLAIN_LANGUAGES.contains(&language(info).as_str())
}

/// Whether a block with this info string may be the answer, if it contains only a JSON value and the reply has no other
/// JSON. In these languages, a JSON value is valid code.
pub(super) fn may_contain_single_value(info: &str) -> bool {
    ["python", "py", "python3", "javascript", "js", "typescript", "ts", "yaml", "yml", "markdown", "md"]
        .contains(&language(info).as_str())
}

/// The language of an info string, in lower case.
fn language(info: &str) -> String {
    let info = info.trim().trim_start_matches(['{', '.', '[']);
    let language = info
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '#' | '.')))
        .next()
        .unwrap_or_default();
    language.trim_start_matches('.').to_lowercase()
}

/// The languages of blocks that may contain the answer.
const JSON_OR_PLAIN_LANGUAGES: [&str; 19] = [
    "",
    "json",
    "jsonc",
    "json5",
    "jsonl",
    "ndjson",
    "hjson",
    "geojson",
    "json-ld",
    "jsonld",
    "text",
    "txt",
    "plain",
    "plaintext",
    "output",
    "answer",
    "result",
    "response",
    "none",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_parsed_with_attributes_and_nesting() {
        let file_tag = tag_at("<file path=\"a.rs\">x", 0).unwrap();
        assert_eq!((file_tag.name, file_tag.is_closing, file_tag.end), ("file", false, 18));
        assert!(tag_at("a < b", 2).is_none() && tag_at("<a", 0).is_none() && tag_at("<1>", 0).is_none());
        let text = "<think>a<think>b</think>c</think>d";
        assert_eq!(enclosed_end(text, &tag_at(text, 0).unwrap()), Some(text.len() - 1));
        assert_eq!(tag_kind("Think"), TagKind::Reasoning);
        assert_eq!(tag_kind("file-contents"), TagKind::Document);
    }

    #[test]
    fn only_json_and_plain_text_blocks_may_contain_the_answer() {
        assert!(["", "json", "JSON", " json title=x", "jsonc", "text", "{.json}"].into_iter().all(may_contain_answer));
        assert!(
            ["rust", "python", "yaml", "diff", "js", "markdown", "json.erb"]
                .into_iter()
                .all(|info| !may_contain_answer(info))
        );
    }
}
