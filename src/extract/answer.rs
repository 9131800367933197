//! Separates the answer in a reply from the markup around it: removes the reasoning before the answer and everything
//! after the end of the model's turn.
//!
//! Steps with a schema and steps with plain text share this module. In plain text, only complete markup counts, and
//! only markup that a model family writes without a request. A tag that the text mentions in a code span, in a fenced
//! block or in the middle of a sentence stays in the text.

use super::fences;
use super::special_tokens::{self, SpecialToken, TokenKind};
use super::tags::{self, TagKind};
use crate::model::text::strip_bom;

/// The answer in a plain-text reply, and a list of the markup that orch removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerText<'a> {
    /// The answer; `None` if the reply contains only reasoning.
    pub text: Option<&'a str>,
    /// Descriptions of the removed text, in order, such as `reasoning in <think>` or `what follows <|im_end|>`.
    pub left_out: Vec<String>,
}

/// Returns the answer in a plain-text reply.
pub fn answer_text(reply: &str) -> AnswerText<'_> {
    let reply = strip_bom(reply);
    let mut preamble = skip_preamble(reply, ReasoningTags::Native);
    let has_reasoning = preamble.left_out.iter().any(|label| label.starts_with("reasoning"));
    let closing_tag =
        (preamble.has_answer && !has_reasoning).then(|| unopened_closing_tag(reply, preamble.start)).flatten();
    if let Some((end, tag)) = closing_tag {
        preamble.left_out.push(format!("reasoning before {tag}"));
        let second_preamble = skip_preamble(reply.get(end..).unwrap_or_default(), ReasoningTags::Native);
        preamble.start = end + second_preamble.start;
        preamble.has_answer = second_preamble.has_answer;
        preamble.left_out.extend(second_preamble.left_out);
    }
    if preamble.left_out.is_empty() {
        preamble.start = 0;
    }
    let mut left_out = preamble.left_out;
    if !preamble.has_answer {
        return AnswerText { text: None, left_out };
    }
    let mut text = reply.get(preamble.start..).unwrap_or_default();
    if let Some((end, token)) = turn_end(text) {
        left_out.push(format!("what follows {token}"));
        text = text.get(..end).unwrap_or_default().trim_end();
    }
    let text = if left_out.is_empty() { text } else { text.trim_start_matches(['\n', '\r', ' ', '\t']) };
    let has_only_reasoning = text.trim().is_empty() && !left_out.is_empty();
    AnswerText { text: (!has_only_reasoning).then_some(text), left_out }
}

/// The tags that count as reasoning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReasoningTags {
    /// Tags that model families write without a request.
    Native,
    /// All reasoning tags that orch recognizes.
    Any,
}

/// The markup at the start of a reply, before its answer.
pub(super) struct Preamble {
    /// The byte at which the answer may start.
    pub(super) start: usize,
    /// Whether anything follows the reasoning.
    pub(super) has_answer: bool,
    /// Descriptions of the markup, in order.
    pub(super) left_out: Vec<String>,
}

/// Skips reasoning and headers of the model's turn at the start of a reply.
pub(super) fn skip_preamble(text: &str, reasoning_tags: ReasoningTags) -> Preamble {
    let mut preamble = Preamble { start: 0, has_answer: true, left_out: Vec::new() };
    loop {
        let tail = text.get(preamble.start..).unwrap_or_default();
        let pos = text.len() - tail.trim_start().len();
        let end = match (special_tokens::token_at(text, pos), tags::tag_at(text, pos)) {
            (Some(token), _) => match token.kind {
                TokenKind::Reasoning => {
                    preamble.left_out.push(format!("reasoning in {}", token.text));
                    special_tokens::reasoning_end(text, &token)
                }
                TokenKind::ModelTurn | TokenKind::EndOfTurn | TokenKind::Answer | TokenKind::ReasoningEnd => {
                    preamble.left_out.push(token.text.to_owned());
                    Some(token.end)
                }
                TokenKind::OtherTurn | TokenKind::Unknown => break,
            },
            (None, Some(tag)) if !tag.is_closing && !tag.is_self_closing && is_reasoning(tag.name, reasoning_tags) => {
                preamble.left_out.push(format!("reasoning in {}", text.get(pos..tag.end).unwrap_or_default()));
                tags::enclosed_end(text, &tag)
            }
            _ => break,
        };
        preamble.start = end.unwrap_or(text.len());
    }
    let is_blank = text.get(preamble.start..).is_none_or(|tail| tail.trim().is_empty());
    preamble.has_answer = !is_blank || preamble.left_out.is_empty();
    preamble
}

fn is_reasoning(name: &str, reasoning_tags: ReasoningTags) -> bool {
    tags::tag_kind(name) == TagKind::Reasoning
        && (reasoning_tags == ReasoningTags::Any || tags::is_native_reasoning(name))
}

/// Finds a closing reasoning tag whose opening tag was part of the prompt. The tag must begin or end its line. Returns
/// the byte after the tag, and the tag.
fn unopened_closing_tag(text: &str, start: usize) -> Option<(usize, &str)> {
    let mut closing_tag = None;
    visit_markup(text, start, |pos| {
        let end = match (special_tokens::token_at(text, pos), tags::tag_at(text, pos)) {
            (Some(token), _) if token.kind == TokenKind::ReasoningEnd => token.end,
            (None, Some(tag)) if is_reasoning(tag.name, ReasoningTags::Native) => {
                if !tag.is_closing {
                    // The text itself has the opening tag, so the reasoning did not begin in the prompt.
                    return true;
                }
                tag.end
            }
            _ => return false,
        };
        let starts_line = text.get(..pos).is_some_and(|preceding| preceding.is_empty() || preceding.ends_with('\n'));
        if starts_line || line_after(text, end).is_empty() {
            closing_tag = text.get(pos..end).map(|tag| (end, tag));
            return true;
        }
        false
    });
    closing_tag
}

/// Returns the position in a text at which the model's turn ends, and the token that ends it.
fn turn_end(text: &str) -> Option<(usize, &str)> {
    let mut end = None;
    visit_markup(text, 0, |pos| {
        let token = special_tokens::token_at(text, pos).filter(|token| ends_turn(text, pos, token));
        end = token.map(|token| (pos, token.text));
        end.is_some()
    });
    end
}

/// Whether the token at `pos` ends the turn; false if the text only mentions the token.
fn ends_turn(text: &str, pos: usize, token: &SpecialToken<'_>) -> bool {
    if !matches!(token.kind, TokenKind::EndOfTurn | TokenKind::ModelTurn | TokenKind::OtherTurn) {
        return false;
    }
    let preceding = text.get(..pos).unwrap_or_default();
    let previous = preceding.chars().next_back();
    if previous.is_some_and(|c| matches!(c, '"' | '\'' | '`' | '‘' | '“' | '(')) {
        return false;
    }
    let following = line_after(text, token.end);
    let token_follows = special_tokens::token_at(following, 0).is_some();
    let ends_line = following.is_empty() || token_follows || is_role(following);
    let starts_line = previous.is_none_or(|c| c == '\n');
    let is_attached = previous.is_some_and(|c| !c.is_whitespace());
    match token.text {
        // In HTML, `</s>` closes struck-through text, as in `<s>old</s>`.
        "</s>" => {
            let has_opening_tag = widened_slice(text, pos.saturating_sub(CONTEXT_BYTES), pos).contains("<s>");
            (is_attached || starts_line) && ends_line && !has_opening_tag
        }
        _ if token.kind == TokenKind::EndOfTurn => is_attached || starts_line && ends_line || token_follows,
        _ => is_attached || starts_line,
    }
}

/// The number of bytes before and after a token that orch inspects. The limit keeps the search linear.
const CONTEXT_BYTES: usize = 256;

/// The text from `pos` to the end of its line, trimmed.
fn line_after(text: &str, pos: usize) -> &str {
    widened_slice(text, pos, pos + CONTEXT_BYTES).split('\n').next().unwrap_or_default().trim()
}

/// The text between two positions, widened to the next character boundaries.
fn widened_slice(text: &str, mut start: usize, end: usize) -> &str {
    let mut end = end.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    text.get(start..end).unwrap_or_default()
}

fn is_role(line: &str) -> bool {
    matches!(
        line.trim_end_matches(':'),
        "user" | "assistant" | "system" | "tool" | "model" | "human" | "User" | "Human"
    )
}

/// Calls `visit` with each position outside code at which markup may start, until `visit` returns true.
fn visit_markup(text: &str, start: usize, mut visit: impl FnMut(usize) -> bool) {
    let bytes = text.as_bytes();
    let mut pos = start;
    let mut is_line_start = start == 0 || bytes.get(start - 1) == Some(&b'\n');
    while pos < text.len() {
        if is_line_start && let Some(fence) = fences::fence_at(text, pos) {
            let next_line = fences::line_end(text, pos) + 1;
            // If no fence closes the block, the rest of the text counts as code.
            let Some(closing_fence) = fences::closing_line(text, next_line, &fence) else { return };
            pos = fences::line_end(text, closing_fence);
        }
        is_line_start = false;
        match bytes.get(pos) {
            Some(b'\n') => is_line_start = true,
            Some(b'`') => pos = code_span_end(text, pos),
            Some(b'<' | b'[' | b']') if visit(pos) => return,
            // The first byte of `◁`.
            Some(0xe2) if text.is_char_boundary(pos) && visit(pos) => return,
            _ => {}
        }
        pos += 1;
    }
}

/// The maximum length of a code span, in bytes. A longer one counts as plain text.
const MAX_CODE_SPAN_BYTES: usize = 2000;

/// The last byte of the code span that starts at `start`, or the last opening backtick if no backticks close the span.
fn code_span_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let backticks_at = |pos: usize| bytes.iter().skip(pos).take_while(|b| **b == b'`').count();
    let opening_length = backticks_at(start);
    let mut pos = start + opening_length;
    while let Some(byte) = bytes.get(pos).filter(|_| pos < start + MAX_CODE_SPAN_BYTES) {
        match byte {
            b'`' => {
                let length = backticks_at(pos);
                if length == opening_length {
                    return pos + length - 1;
                }
                pos += length;
            }
            // A code span can't cross a paragraph break.
            b'\n' if bytes.get(pos + 1) == Some(&b'\n') => break,
            _ => pos += 1,
        }
    }
    start + opening_length - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reply: &str) -> Option<&str> {
        answer_text(reply).text
    }

    #[test]
    fn reasoning_before_an_answer_is_removed() {
        for (open, close) in [
            ("<think>", "</think>"),
            ("<thinking>", "</thinking>"),
            ("<thought>", "</thought>"),
            ("<seed:think>", "</seed:think>"),
            ("[THINK]", "[/THINK]"),
            ("◁think▷", "◁/think▷"),
            ("<|START_THINKING|>", "<|END_THINKING|>"),
            ("<|begin_of_thought|>", "<|end_of_thought|>"),
            ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
            ("<|channel>thought\n", "<channel|>"),
            ("<|inner_prefix|>", "<|inner_suffix|>"),
        ] {
            let reply = format!("{open}\nMaybe 7?\n{close}\n\nIt is 5.\n");
            let result = answer_text(&reply);
            assert_eq!(result.text, Some("It is 5.\n"), "{open}");
            assert!(result.left_out[0].contains(open.trim()), "{:?}", result.left_out);
            assert_eq!(answer(&format!("{open}\nMaybe 7?")), None, "{open} that is never closed");
            assert_eq!(answer(&format!("{open}\nMaybe 7?\n{close}\n")), None, "{open} and nothing else");
        }
    }

    #[test]
    fn reasoning_that_began_in_the_prompt_is_removed() {
        assert_eq!(answer("Maybe 7?\n</think>\n\nIt is 5."), Some("It is 5."));
        assert_eq!(answer("Maybe 7?◁/think▷\nIt is 5."), Some("It is 5."));
    }

    #[test]
    fn only_the_first_reasoning_is_removed() {
        let reply = "<think>a</think>\nFirst.\n</think>\nSecond.";
        assert_eq!(answer(reply), Some("First.\n</think>\nSecond."));
        let reply = "Before.\n<think>\na\n</think>\nAfter.";
        assert_eq!(answer(reply), Some(reply));
    }

    #[test]
    fn text_after_the_end_of_the_turn_is_removed() {
        for reply in [
            "It is 5.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>",
            "It is 5.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd now?",
            "It is 5.\n<end_of_turn>\n<start_of_turn>user\nAnd now?",
            "It is 5.<end_of_turn>",
            "It is 5.</s>",
            "It is 5.<|end_of_text|> And now?",
            "<|im_start|>assistant\nIt is 5.<|im_end|>",
            "<|START_RESPONSE|>It is 5.<|END_RESPONSE|>",
            "It is 5.</s><s>[INST] more [/INST] x",
            "<|channel|>final <|constrain|>text<|message|>It is 5.",
            "\u{feff}<think>hm</think>It is 5.",
        ] {
            assert_eq!(answer(reply), Some("It is 5."), "{reply}");
        }
    }

    #[test]
    fn a_text_that_mentions_markup_is_unchanged() {
        for reply in [
            "Put it into `<think>` and `</think>`.\n",
            "The tag <think> opens it and </think> closes it.",
            "Use this:\n```\n<think>\nhm\n</think>\n```\nDone.",
            "A turn ends with <|im_end|> in that format.",
            "A turn ends with `<|im_end|>`\nand begins again.",
            "```text\nhi<|im_end|>\n<|im_start|>user\n```\n",
            "~~old~~ <s>old</s>\nnew",
            "  spaces stay  \n",
            "f <| g |> h",
            "x[1] and [e] and ] and [think]",
        ] {
            let expected = AnswerText { text: Some(reply), left_out: Vec::new() };
            assert_eq!(answer_text(reply), expected, "{reply}");
        }
    }

    #[test]
    fn long_texts_take_linear_time() {
        for unit in ["`", "<", "<think>", "```\n", "◁", "<|im_end|> x ", "``x ", "<|x|>"] {
            let _ = answer_text(&unit.repeat(200_000 / unit.len()));
        }
    }
}
