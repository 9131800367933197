//! Separates the answer in a reply from the markup around it: removes the reasoning before the answer and everything
//! after the end of the model's turn.
//!
//! Steps with a schema and steps with plain text share this module. In plain text only complete markup counts, and only
//! markup that a model family writes itself: a text keeps a tag that it mentions in a code span, in a fenced block or
//! in the middle of a sentence.

use super::fences;
use super::marks::{self, MarkKind};
use super::markup::{self, MarkupToken, TokenKind};
use crate::model::text::without_mark;

/// The answer in a plain-text reply, and what was removed around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerText<'a> {
    /// The answer; `None` when the reply holds nothing but reasoning.
    pub text: Option<&'a str>,
    /// What was removed, in order: `reasoning in <think>`, `what follows <|im_end|>`.
    pub left_out: Vec<String>,
}

/// Returns the answer that a reply in plain text gives.
pub fn answer_text(reply: &str) -> AnswerText<'_> {
    let reply = without_mark(reply);
    let mut lead = leading(reply, Markup::Native);
    let reasoned = lead.left_out.iter().any(|what| what.starts_with("reasoning"));
    if let Some(after) = (lead.answered && !reasoned).then(|| lone_end(reply, lead.start)).flatten() {
        lead.left_out.push(format!("reasoning before {}", after.1));
        let more = leading(reply.get(after.0..).unwrap_or_default(), Markup::Native);
        lead.start = after.0 + more.start;
        lead.answered = more.answered;
        lead.left_out.extend(more.left_out);
    }
    if lead.left_out.is_empty() {
        lead.start = 0;
    }
    let mut left_out = lead.left_out;
    if !lead.answered {
        return AnswerText { text: None, left_out };
    }
    let mut text = reply.get(lead.start..).unwrap_or_default();
    if let Some((at, token)) = turn_end(text) {
        left_out.push(format!("what follows {token}"));
        text = text.get(..at).unwrap_or_default().trim_end();
    }
    let text = if left_out.is_empty() { text } else { text.trim_start_matches(['\n', '\r', ' ', '\t']) };
    let only_reasoning = text.trim().is_empty() && !left_out.is_empty();
    AnswerText { text: (!only_reasoning).then_some(text), left_out }
}

/// Which tags count as reasoning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Markup {
    /// Tags that model families write themselves.
    Native,
    /// All reasoning tags that [`marks`] knows.
    Any,
}

/// The markup at the start of a reply, before its answer.
pub(super) struct Lead {
    /// The byte at which the answer may start.
    pub(super) start: usize,
    /// Whether anything follows the reasoning.
    pub(super) answered: bool,
    pub(super) left_out: Vec<String>,
}

/// Skips headers of the model's turn, and reasoning, at the start of a reply.
pub(super) fn leading(text: &str, markup: Markup) -> Lead {
    let mut lead = Lead { start: 0, answered: true, left_out: Vec::new() };
    loop {
        let rest = text.get(lead.start..).unwrap_or_default();
        let at = text.len() - rest.trim_start().len();
        let end = match (markup::token(text, at), marks::tag(text, at)) {
            (Some(token), _) => match token.kind {
                TokenKind::Reasoning => {
                    lead.left_out.push(format!("reasoning in {}", token.text));
                    markup::reasoning_end(text, &token)
                }
                TokenKind::ModelTurn | TokenKind::EndOfTurn | TokenKind::Answer | TokenKind::ReasoningEnd => {
                    lead.left_out.push(token.text.to_owned());
                    Some(token.end)
                }
                TokenKind::OtherTurn | TokenKind::Unknown => break,
            },
            (None, Some(tag)) if !tag.closing && !tag.empty && is_reasoning(tag.name, markup) => {
                lead.left_out.push(format!("reasoning in {}", text.get(at..tag.end).unwrap_or_default()));
                marks::close(text, &tag)
            }
            _ => break,
        };
        lead.start = end.unwrap_or(text.len());
    }
    let blank = text.get(lead.start..).is_none_or(|rest| rest.trim().is_empty());
    lead.answered = !blank || lead.left_out.is_empty();
    lead
}

fn is_reasoning(name: &str, markup: Markup) -> bool {
    marks::kind(name) == MarkKind::Reasoning && (markup == Markup::Any || marks::is_native(name))
}

/// Finds a closing reasoning tag whose opening tag was part of the prompt. The tag must begin or end its line. Returns
/// the byte after the tag, and the tag.
fn lone_end(text: &str, from: usize) -> Option<(usize, &str)> {
    let mut found = None;
    prose(text, from, |at| {
        let end = match (markup::token(text, at), marks::tag(text, at)) {
            (Some(token), _) if token.kind == TokenKind::ReasoningEnd => token.end,
            (None, Some(tag)) if is_reasoning(tag.name, Markup::Native) => {
                if !tag.closing {
                    // The text itself has the opening tag, so the reasoning did not begin in the prompt.
                    return true;
                }
                tag.end
            }
            _ => return false,
        };
        let starts = text.get(..at).is_some_and(|before| before.is_empty() || before.ends_with('\n'));
        if starts || line_after(text, end).is_empty() {
            found = text.get(at..end).map(|tag| (end, tag));
            return true;
        }
        false
    });
    found
}

/// Returns where the model's turn ends within a text, and the token that ends it.
fn turn_end(text: &str) -> Option<(usize, &str)> {
    let mut found = None;
    prose(text, 0, |at| {
        let token = markup::token(text, at).filter(|token| ends_turn(text, at, token));
        found = token.map(|token| (at, token.text));
        found.is_some()
    });
    found
}

/// Whether a token takes effect here, as opposed to a text that mentions it.
fn ends_turn(text: &str, at: usize, token: &MarkupToken<'_>) -> bool {
    if !matches!(token.kind, TokenKind::EndOfTurn | TokenKind::ModelTurn | TokenKind::OtherTurn) {
        return false;
    }
    let before = text.get(..at).unwrap_or_default();
    let last = before.chars().next_back();
    if last.is_some_and(|c| matches!(c, '"' | '\'' | '`' | '‘' | '“' | '(')) {
        return false;
    }
    let after = line_after(text, token.end);
    let closed = after.is_empty() || markup::token(after, 0).is_some() || is_role(after);
    let starts = last.is_none_or(|c| c == '\n');
    let glued = last.is_some_and(|c| !c.is_whitespace());
    match token.text {
        // `<s>struck</s>` of HTML.
        "</s>" => (glued || starts) && closed && !window(text, at.saturating_sub(WINDOW), at).contains("<s>"),
        _ if token.kind == TokenKind::EndOfTurn => glued || starts && closed || markup::token(after, 0).is_some(),
        _ => glued || starts,
    }
}

/// How many bytes around a token are inspected; the limit keeps the search linear.
const WINDOW: usize = 256;

/// The rest of the line after `at`, trimmed.
fn line_after(text: &str, at: usize) -> &str {
    window(text, at, at + WINDOW).split('\n').next().unwrap_or_default().trim()
}

/// The text between two positions, widened to the next character boundaries.
fn window(text: &str, mut from: usize, to: usize) -> &str {
    let mut to = to.min(text.len());
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    while !text.is_char_boundary(to) {
        to += 1;
    }
    text.get(from..to).unwrap_or_default()
}

fn is_role(line: &str) -> bool {
    matches!(
        line.trim_end_matches(':'),
        "user" | "assistant" | "system" | "tool" | "model" | "human" | "User" | "Human"
    )
}

/// Calls `see` with each place outside code where markup may start, until `see` returns true.
fn prose(text: &str, from: usize, mut see: impl FnMut(usize) -> bool) {
    let bytes = text.as_bytes();
    let mut at = from;
    let mut starts = from == 0 || bytes.get(from - 1) == Some(&b'\n');
    while at < text.len() {
        if starts && let Some(open) = fences::fence(text, at) {
            let line = fences::line_end(text, at) + 1;
            // A fence that is never closed counts as code up to the end of the text.
            let Some(close) = fences::closing(text, line, &open) else { return };
            at = fences::line_end(text, close);
        }
        starts = false;
        match bytes.get(at) {
            Some(b'\n') => starts = true,
            Some(b'`') => at = code_span(text, at),
            Some(b'<' | b'[' | b']') if see(at) => return,
            // The first byte of `◁`.
            Some(0xe2) if text.is_char_boundary(at) && see(at) => return,
            _ => {}
        }
        at += 1;
    }
}

/// The longest code span, in bytes; a longer one is read as plain text.
const LONGEST_SPAN: usize = 2000;

/// The last byte of the code span that starts here, or of its backticks when nothing closes it.
fn code_span(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let run = |at: usize| bytes.iter().skip(at).take_while(|b| **b == b'`').count();
    let length = run(at);
    let mut to = at + length;
    while let Some(byte) = bytes.get(to).filter(|_| to < at + LONGEST_SPAN) {
        match byte {
            b'`' => {
                let here = run(to);
                if here == length {
                    return to + here - 1;
                }
                to += here;
            }
            // A code span can't cross a paragraph break.
            b'\n' if bytes.get(to + 1) == Some(&b'\n') => break,
            _ => to += 1,
        }
    }
    at + length - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reply: &str) -> Option<&str> {
        answer_text(reply).text
    }

    #[test]
    fn reasoning_before_an_answer_is_left_out() {
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
            let found = answer_text(&reply);
            assert_eq!(found.text, Some("It is 5.\n"), "{open}");
            assert!(found.left_out[0].contains(open.trim()), "{:?}", found.left_out);
            assert_eq!(answer(&format!("{open}\nMaybe 7?")), None, "{open} that is never closed");
            assert_eq!(answer(&format!("{open}\nMaybe 7?\n{close}\n")), None, "{open} and nothing else");
        }
    }

    #[test]
    fn reasoning_that_began_in_the_prompt_is_left_out() {
        assert_eq!(answer("Maybe 7?\n</think>\n\nIt is 5."), Some("It is 5."));
        assert_eq!(answer("Maybe 7?◁/think▷\nIt is 5."), Some("It is 5."));
    }

    #[test]
    fn only_the_first_reasoning_is_left_out() {
        let reply = "<think>a</think>\nFirst.\n</think>\nSecond.";
        assert_eq!(answer(reply), Some("First.\n</think>\nSecond."));
        let reply = "Before.\n<think>\na\n</think>\nAfter.";
        assert_eq!(answer(reply), Some(reply));
    }

    #[test]
    fn what_follows_the_end_of_the_turn_is_left_out() {
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
    fn a_text_that_mentions_markup_is_kept_as_it_is() {
        for reply in [
            "Put it into `<think>` and `</think>`.\n",
            "The tag <think> opens it and </think> closes it.",
            "Use this:\n```\n<think>\nhm\n</think>\n```\nDone.",
            "A turn ends with <|im_end|> in that format.",
            "A turn ends with `<|im_end|>`\nand begins anew.",
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
    fn long_texts_are_read_in_one_pass() {
        for unit in ["`", "<", "<think>", "```\n", "◁", "<|im_end|> x ", "``x ", "<|x|>"] {
            let _ = answer_text(&unit.repeat(200_000 / unit.len()));
        }
    }
}
