//! Finds the tags of a template.

use std::ops::Range;

use super::tokens::{TemplateTokenKind, tokenize};

/// A tag of a template.
#[derive(Debug)]
pub(super) struct TemplateTag {
    /// Whether the tag is `{% … %}`.
    pub(super) is_block: bool,
    /// The bytes of the tag's content.
    pub(super) content_range: Range<usize>,
}

/// Returns the tags in a range of a text, except comments and the content of `raw` blocks.
pub(super) fn find_tags(text: &str, region: Range<usize>) -> Vec<TemplateTag> {
    let mut tags = Vec::new();
    let mut offset = region.start;
    while let Some(remaining) = text.get(offset..region.end) {
        let Some(brace) = remaining.find('{') else { break };
        let start = offset + brace;
        let is_block = match text.get(start + 1..region.end).and_then(|remaining| remaining.chars().next()) {
            Some('{') => false,
            Some('%') => true,
            Some('#') => {
                let comment = text.get(start..region.end).unwrap_or_default();
                offset = start + comment.find("#}").map_or(comment.len(), |end| end + 2);
                continue;
            }
            _ => {
                offset = start + 1;
                continue;
            }
        };
        let has_sign = text.get(start + 2..region.end).is_some_and(|remaining| remaining.starts_with(['-', '+']));
        let inner_start = start + 2 + usize::from(has_sign);
        let (inner_end, next) = tag_end(text, inner_start, region.end, if is_block { "%}" } else { "}}" });
        let is_raw = is_block && text.get(inner_start..inner_end).is_some_and(|inner| inner.trim() == "raw");
        tags.push(TemplateTag { is_block, content_range: inner_start..inner_end });
        offset = next;
        if is_raw {
            let raw = text.get(next..region.end).unwrap_or_default();
            offset = next + raw.find("endraw").unwrap_or(raw.len());
        }
    }
    tags
}

/// Returns the end of a tag's content, and the offset at which to continue. A tag without an end extends to the next
/// tag.
fn tag_end(text: &str, start: usize, limit: usize, closing: &str) -> (usize, usize) {
    let remaining = text.get(start..limit).unwrap_or_default();
    let next_tag =
        ["{{", "{%", "{#"].iter().filter_map(|opening| remaining.find(opening)).min().unwrap_or(remaining.len());
    // A bracket inside a string does not end the tag. The search ends at the next tag.
    let tokens = tokenize(text, start..start + next_tag);
    let closing_pair = tokens.windows(2).find(|pair| match pair {
        [first, second] => {
            first.kind == TemplateTokenKind::Punctuation
                && first.end == second.range.start
                && text.get(first.range.start..second.end) == Some(closing)
        }
        _ => false,
    });
    let closing_start = closing_pair.and_then(|pair| pair.first()).map(|token| token.range.start);
    match closing_start.or_else(|| remaining.find(closing).map(|index| start + index)) {
        Some(end) if end - start <= next_tag => {
            let has_sign = text.get(start..end).is_some_and(|inner| inner.ends_with(['-', '+']));
            (end - usize::from(has_sign), end + closing.len())
        }
        _ => (start + next_tag, start + next_tag),
    }
}
