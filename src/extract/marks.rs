//! Recognizes markup around text that is not the answer: reasoning, quoted documents, code in another language.

/// What a tag says about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkKind {
    /// The model's reasoning.
    Reasoning,
    /// Text that the model quotes.
    Document,
    /// Any other tag; the answer may be inside.
    Other,
}

/// Reasoning tags that model families write without a request in the prompt: DeepSeek, Qwen, GLM, MiniMax, Nemotron,
/// Granite, Phi, Hermes, Hunyuan and ERNIE (`think`, also with a prefix as in `seed:think` and `mm:think`), EXAONE
/// (`thought`), and the spellings that servers treat in the same way.
const NATIVE: [&str; 5] = ["think", "thinking", "thought", "reason", "reasoning"];

/// Reasoning tags that prompts ask for.
const REASONING: [&str; 17] = [
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

const DOCUMENT: [&str; 47] = [
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
pub(super) fn kind(name: &str) -> MarkKind {
    let lower = local(name);
    if NATIVE.contains(&lower.as_str()) || REASONING.contains(&lower.as_str()) {
        MarkKind::Reasoning
    } else if DOCUMENT.contains(&lower.as_str()) {
        MarkKind::Document
    } else {
        MarkKind::Other
    }
}

/// Whether model families write this reasoning tag themselves.
pub(super) fn is_native(name: &str) -> bool {
    NATIVE.contains(&local(name).as_str())
}

/// A tag name in lower case, without its prefix: `seed:think` becomes `think`.
fn local(name: &str) -> String {
    name.rsplit(':').next().unwrap_or(name).to_ascii_lowercase().replace('-', "_")
}

/// Whether `tag` opens a collapsible block (`<details>`) whose summary says that it contains reasoning.
pub(super) fn folds_reasoning(text: &str, tag: &MarkupTag<'_>) -> bool {
    let Some(rest) = text.get(tag.end..).map(str::trim_start).filter(|_| tag.name.eq_ignore_ascii_case("details"))
    else {
        return false;
    };
    let Some(summary) = rest.strip_prefix("<summary") else { return false };
    let words: String = summary.chars().take(120).flat_map(char::to_lowercase).collect();
    let words = words.split("</summary").next().unwrap_or_default();
    ["reason", "think", "thought", "analys", "draft", "scratch", "deliberat"].iter().any(|word| words.contains(word))
}

/// A tag in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkupTag<'a> {
    pub(super) name: &'a str,
    pub(super) closing: bool,
    /// Whether the tag closes itself: `<file path="x"/>`.
    pub(super) empty: bool,
    /// The byte after it.
    pub(super) end: usize,
}

/// The longest tag, in bytes, with its attributes.
const LONGEST_TAG: usize = 400;

/// The tag at `at`, which must be a `<` (or a `[`, for `[THINK]`).
pub(super) fn tag(text: &str, at: usize) -> Option<MarkupTag<'_>> {
    let rest = text.get(at..)?;
    let close = match rest.as_bytes().first()? {
        b'<' => '>',
        b'[' => ']',
        _ => return None,
    };
    let inner = rest.get(1..)?;
    let closing = inner.starts_with('/');
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let length = inner
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':')))
        .filter(|length| *length <= 64)?;
    let name = inner
        .get(..length)
        .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.ends_with(':'))?;
    if close == ']' && !matches!(name, "THINK" | "THINKING" | "REASONING") {
        return None;
    }
    let tail = inner.get(length..)?;
    if !tail.starts_with([close, ' ', '/', '\n', '\t', '\r']) {
        return None;
    }
    let stop = tail.bytes().take(LONGEST_TAG).position(|b| b == close as u8 || b == b'<')?;
    let attributes = tail.get(..stop)?;
    if tail.as_bytes().get(stop) != Some(&(close as u8)) {
        return None;
    }
    let end = at + 1 + usize::from(closing) + length + stop + 1;
    Some(MarkupTag { name, closing, empty: attributes.ends_with('/'), end })
}

/// The byte after the tag that closes `open`, with nested tags of the same name counted; `None` when no tag closes it.
pub(super) fn close(text: &str, open: &MarkupTag<'_>) -> Option<usize> {
    let mut depth = 1_usize;
    let mut at = open.end;
    let bracket = if open.name.starts_with(|c: char| c.is_ascii_uppercase()) { ['<', '['] } else { ['<', '<'] };
    while let Some(found) = text.get(at..)?.find(bracket) {
        at += found;
        match tag(text, at) {
            Some(tag) if tag.name.eq_ignore_ascii_case(open.name) && !tag.empty => {
                at = tag.end;
                depth = if tag.closing { depth - 1 } else { depth + 1 };
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
    None
}

/// Whether a block with this info string may contain the answer: JSON, plain text, or no language at all.
pub(super) fn may_answer(info: &str) -> bool {
    PLAIN.contains(&label(info).as_str())
}

/// Whether a block with this info string may contain the answer when the block is a single JSON value and the reply has
/// no other JSON. These are languages in which a JSON value is valid too.
pub(super) fn may_hold_only_json(info: &str) -> bool {
    ["python", "py", "python3", "javascript", "js", "typescript", "ts", "yaml", "yml", "markdown", "md"]
        .contains(&label(info).as_str())
}

/// The language of an info string, in lower case.
fn label(info: &str) -> String {
    let info = info.trim().trim_start_matches(['{', '.', '[']);
    let word = info
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '#' | '.')))
        .next()
        .unwrap_or_default();
    word.trim_start_matches('.').to_lowercase()
}

const PLAIN: [&str; 19] = [
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
    fn tags_are_read_with_attributes_and_nesting() {
        let found = tag("<file path=\"a.rs\">x", 0).unwrap();
        assert_eq!((found.name, found.closing, found.end), ("file", false, 18));
        assert!(tag("a < b", 2).is_none() && tag("<a", 0).is_none() && tag("<1>", 0).is_none());
        let text = "<think>a<think>b</think>c</think>d";
        assert_eq!(close(text, &tag(text, 0).unwrap()), Some(text.len() - 1));
        assert_eq!(kind("Think"), MarkKind::Reasoning);
        assert_eq!(kind("file-contents"), MarkKind::Document);
    }

    #[test]
    fn only_json_and_plain_blocks_may_answer() {
        assert!(["", "json", "JSON", " json title=x", "jsonc", "text", "{.json}"].into_iter().all(may_answer));
        assert!(
            ["rust", "python", "yaml", "diff", "js", "markdown", "json.erb"].into_iter().all(|info| !may_answer(info))
        );
    }
}
