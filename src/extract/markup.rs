//! Lists the markup that model families put around reasoning, answers and turns.
//!
//! A comment above each group of tokens names the model families that write them, as found in their chat template or
//! tokenizer, or in the reasoning parser of a server that runs them. Tags such as `<think>` are in [`super::marks`];
//! this file has the tokens with a spelling of their own. `docs/extraction.md` shows the same table.

/// What a token means for the text around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// The text up to the closing token is reasoning.
    Reasoning,
    /// Reasoning ends here; its opening token was part of the prompt.
    ReasoningEnd,
    /// The answer follows.
    Answer,
    /// A turn of the model begins.
    ModelTurn,
    /// A turn of another role begins, such as the user or a tool.
    OtherTurn,
    /// The turn ends.
    EndOfTurn,
    /// A special token that the tables do not list.
    Unknown,
}

/// A token found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkupToken<'a> {
    pub(super) kind: TokenKind,
    /// The token as written.
    pub(super) text: &'a str,
    /// The byte after it.
    pub(super) end: usize,
    closes: &'static [&'static str],
}

/// Tokens that open reasoning, each with the tokens that close it.
const REASONING: [(&str, &[&str]); 8] = [
    // gpt-oss, in the harmony format. A channel ends where a message ends or the next one begins.
    ("<|channel|>analysis", &["<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>"]),
    ("<|channel|>commentary", &["<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>"]),
    // Kimi.
    ("◁think▷", &["◁/think▷"]),
    // Cohere Command R7B and Command A.
    ("<|START_THINKING|>", &["<|END_THINKING|>"]),
    // OpenThinker, Sky-T1.
    ("<|begin_of_thought|>", &["<|end_of_thought|>"]),
    // Apertus.
    ("<|inner_prefix|>", &["<|inner_suffix|>"]),
    // Gemma 4.
    ("<|channel>thought", &["<channel|>"]),
    // Solar Open.
    ("<|think|>", &["<|/think|>", "<|end|>"]),
];

/// Tokens before an answer.
const ANSWER: [&str; 6] = [
    // gpt-oss.
    "<|channel|>final<|message|>",
    "<|channel|>final",
    // Cohere.
    "<|START_RESPONSE|>",
    "<|START_TEXT|>",
    // OpenThinker, Sky-T1.
    "<|begin_of_solution|>",
    // Solar Open.
    "<|content|>",
];

/// Tokens that end a turn.
const END_OF_TURN: [&str; 27] = [
    // ChatML: Qwen, Yi, Hermes, LFM, SmolLM and many more.
    "<|im_end|>",
    // Llama 3 and 4.
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|eot|>",
    "<|eom|>",
    // Gemma 1 to 3, then 4.
    "<end_of_turn>",
    "<turn|>",
    "<eos>",
    // Phi, and messages of gpt-oss.
    "<|end|>",
    "<|return|>",
    "<|call|>",
    // GPT-2 and its heirs, Phi, GLM.
    "<|endoftext|>",
    // Llama 2, Mistral.
    "</s>",
    // DeepSeek.
    "<｜end▁of▁sentence｜>",
    // Cohere: the end of a turn, and of the answer in it.
    "<|END_OF_TURN_TOKEN|>",
    "<|END_RESPONSE|>",
    "<|END_TEXT|>",
    // OpenThinker, Sky-T1.
    "<|end_of_solution|>",
    // EXAONE.
    "[|endofturn|]",
    // Seed-OSS.
    "<seed:eos>",
    // MiniMax.
    "[e~[",
    // Apertus.
    "<|assistant_end|>",
    // SmolVLM, Idefics.
    "<end_of_utterance>",
    // StarCoder and Command R checkpoints of older servers.
    "<|end_of_turn|>",
    "<|EOT|>",
    // ERNIE.
    "<|end_of_sentence|>",
];

/// Tokens that are followed by the role of a turn, written as a word.
const TURN_WITH_ROLE: [&str; 9] = [
    "<|im_start|>",
    "<|start_header_id|>",
    "<|header_start|>",
    "<|start_of_role|>",
    "<start_of_turn>",
    "<|turn>",
    "<|start|>",
    "<seed:bos>",
    "]~b]",
];

/// Tokens after the role of a turn.
const ROLE_END: [&str; 5] = ["<|end_header_id|>", "<|header_end|>", "<|end_of_role|>", "<|im_middle|>", "<|message|>"];

/// Tokens that stand for a role by themselves, and whether the role is the model.
const TURN: [(&str, bool); 22] = [
    // Llama 2, Mistral.
    ("<s>[INST]", false),
    ("[INST]", false),
    ("[/INST]", true),
    // Phi, GLM, Zephyr.
    ("<|assistant|>", true),
    ("<|user|>", false),
    ("<|system|>", false),
    ("<|observation|>", false),
    ("<|tool|>", false),
    // Cohere.
    ("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", true),
    ("<|START_OF_TURN_TOKEN|>", false),
    ("<|CHATBOT_TOKEN|>", true),
    ("<|USER_TOKEN|>", false),
    // DeepSeek.
    ("<｜Assistant｜>", true),
    ("<｜User｜>", false),
    // EXAONE.
    ("[|assistant|]", true),
    ("[|user|]", false),
    ("[|system|]", false),
    // Kimi K2.
    ("<|im_assistant|>", true),
    ("<|im_user|>", false),
    ("<|im_system|>", false),
    // Apertus.
    ("<|assistant_start|>", true),
    ("<|user_start|>", false),
];

/// The longest special token, in bytes.
const LONGEST_TOKEN: usize = 80;

/// The token that starts at `at`: a listed one, or else any text of the form `<|name|>`.
pub(super) fn token(text: &str, at: usize) -> Option<MarkupToken<'_>> {
    let rest = text.get(at..)?;
    // Most brackets do not begin a token; the next byte rules them out cheaply.
    let next = rest.as_bytes().get(1).copied().unwrap_or_default();
    let may = match rest.chars().next()? {
        '<' => matches!(next, b'|' | b'/' | b'e' | b's' | b't' | b'c' | 0xef),
        '[' => matches!(next, b'|' | b'e' | b'/') || names_instructions(rest),
        ']' => next == b'~',
        first => first == '◁',
    };
    if !may {
        return None;
    }
    let found = |kind, length: usize, closes| MarkupToken { kind, text: &rest[..length], end: at + length, closes };
    for (open, closes) in REASONING {
        if rest.starts_with(open) {
            return Some(found(TokenKind::Reasoning, open.len() + channel_header(rest, open), closes));
        }
    }
    let lone = REASONING.iter().skip(2).flat_map(|row| row.1).filter(|close| **close != "<|end|>");
    if let Some(close) = lone.copied().find(|close| rest.starts_with(close)) {
        return Some(found(TokenKind::ReasoningEnd, close.len(), &[]));
    }
    if let Some(mark) = ANSWER.iter().find(|mark| rest.starts_with(**mark)) {
        return Some(found(TokenKind::Answer, mark.len() + channel_header(rest, mark), &[]));
    }
    if let Some((length, model)) = turn(rest) {
        return Some(found(if model { TokenKind::ModelTurn } else { TokenKind::OtherTurn }, length, &[]));
    }
    if let Some(end) = END_OF_TURN.iter().find(|end| rest.starts_with(**end)) {
        return Some(found(TokenKind::EndOfTurn, end.len(), &[]));
    }
    unknown(rest).map(|length| found(TokenKind::Unknown, length, &[]))
}

/// The length of the rest of a channel header in the harmony format, up to and including its `<|message|>`:
/// ` <|constrain|>json<|message|>`, ` to=functions.f code<|message|>`. 0 when the header does not end that way.
fn channel_header(rest: &str, open: &str) -> usize {
    let tail = rest.get(open.len()..).unwrap_or_default();
    let near = tail.get(..tail.floor_char_boundary(LONGEST_TOKEN)).unwrap_or_default();
    let Some(at) = near.find(MESSAGE).filter(|_| open.starts_with("<|channel|>")) else { return 0 };
    let words = near.get(..at).unwrap_or_default().replacen("<|constrain|>", "", 1);
    if words.contains(['<', '\n', '{']) { 0 } else { at + MESSAGE.len() }
}

/// The token that ends the header of a message in the harmony format.
const MESSAGE: &str = "<|message|>";

/// Whether a block of instructions, `[INST] … [/INST]`, begins here.
fn names_instructions(rest: &str) -> bool {
    let near = rest.get(..rest.floor_char_boundary(LONGEST_INSTRUCTIONS)).unwrap_or_default();
    near.starts_with("[INST]") && near.contains("[/INST]")
}

/// How many bytes are searched for the end of instructions.
const LONGEST_INSTRUCTIONS: usize = 4096;

/// The header of a turn at the start of the text: its length, and whether the turn is the model's.
fn turn(rest: &str) -> Option<(usize, bool)> {
    let (mut length, mut model, worded) = match TURN.iter().find(|(open, _)| rest.starts_with(open)) {
        Some((open, model)) => (open.len(), *model, false),
        None => (TURN_WITH_ROLE.iter().find(|open| rest.starts_with(**open))?.len(), true, true),
    };
    if worded {
        let tail = rest.get(length..)?;
        let role = tail.get(..tail.bytes().take_while(u8::is_ascii_lowercase).count())?;
        model = matches!(role, "" | "assistant" | "model" | "ai" | "bot" | "chatbot");
        length += role.len();
    }
    let tail = rest.get(length..)?;
    let end = tail.get(..tail.len().min(40)).unwrap_or(tail);
    if let Some((at, close)) = ROLE_END.iter().find_map(|close| Some((end.find(close)?, close)))
        && end.get(..at).is_some_and(|words| !words.contains(['<', '\n', '{']))
    {
        length += at + close.len();
    }
    Some((length, model))
}

/// The length of a special token that the tables do not list: `<|name|>`, or the same with DeepSeek's wide bars.
fn unknown(rest: &str) -> Option<usize> {
    let (bar, inner) = match (rest.strip_prefix("<|"), rest.strip_prefix("<｜")) {
        (Some(inner), _) => ("|>", inner),
        (_, Some(inner)) => ("｜>", inner),
        _ => return None,
    };
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '▁');
    let length = inner.find(|c| !fits(c)).filter(|length| (1..=LONGEST_TOKEN).contains(length))?;
    inner.get(length..)?.starts_with(bar).then_some(rest.len() - inner.len() + length + bar.len())
}

/// The end of the reasoning that a token opens: the start of a token that begins the next message, or the byte after a
/// token that only closes. `None` when nothing closes it.
pub(super) fn reasoning_end(text: &str, open: &MarkupToken<'_>) -> Option<usize> {
    let (at, close) = find_any(text, open.end, open.closes)?;
    Some(if matches!(close, "<|start|>" | "<|channel|>") { at } else { at + close.len() })
}

/// The end of the text that an unknown token encloses, found by the usual names of closing tokens; `None` when no such
/// token follows.
pub(super) fn enclosed_end(text: &str, open: &MarkupToken<'_>) -> Option<usize> {
    let name = bare_name(open.text);
    let mut closes = vec![format!("/{name}"), format!("end_{name}"), format!("{name}_end")];
    let pairs = [("START", "END"), ("BEGIN", "END"), ("start", "end"), ("begin", "end"), ("prefix", "suffix")];
    closes.extend(pairs.iter().filter(|(from, _)| name.contains(from)).map(|(from, to)| name.replace(from, to)));
    let closes: Vec<String> = closes.iter().flat_map(|name| [format!("<|{name}|>"), format!("<｜{name}｜>")]).collect();
    find_any(text, open.end, &closes).map(|(at, close)| at + close.len())
}

/// The first of these tokens at or after `from`, found in one pass over the text.
fn find_any<'c, T: AsRef<str>>(text: &str, from: usize, tokens: &'c [T]) -> Option<(usize, &'c str)> {
    let rest = text.get(from..)?;
    rest.match_indices(['<', '[', '◁']).find_map(|(at, _)| {
        let here = rest.get(at..)?;
        tokens.iter().map(AsRef::as_ref).find(|token| here.starts_with(token)).map(|token| (from + at, token))
    })
}

/// The name of a token, without its brackets and bars.
fn bare_name(token: &str) -> &str {
    token.trim_start_matches(['<', '|', '｜']).trim_end_matches(['>', '|', '｜'])
}

/// Whether an unknown token has the form of a closing token.
pub(super) fn closes(token: &MarkupToken<'_>) -> bool {
    let name = bare_name(token.text).to_ascii_lowercase();
    name.starts_with('/') || name.starts_with("end") || name.contains("_end") || name.contains("suffix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<(TokenKind, usize)> {
        token(text, 0).map(|token| (token.kind, token.end))
    }

    #[test]
    fn tokens_are_known_by_their_rows() {
        assert_eq!(kind("<|channel|>analysis<|message|>x"), Some((TokenKind::Reasoning, 30)));
        assert_eq!(kind("<|channel|>final<|message|>x"), Some((TokenKind::Answer, 27)));
        assert_eq!(kind("◁think▷x"), Some((TokenKind::Reasoning, 11)));
        assert_eq!(kind("<|im_end|>"), Some((TokenKind::EndOfTurn, 10)));
        assert_eq!(kind("<|some_thing|>"), Some((TokenKind::Unknown, 14)));
        for text in ["<|", "<| x |>", "<|>", "<think>", "[x]", "f <| g"] {
            assert_eq!(kind(text), None, "{text}");
        }
    }

    #[test]
    fn the_header_of_a_turn_is_read_with_its_role() {
        let llama = "<|start_header_id|>assistant<|end_header_id|>";
        assert_eq!(kind(&format!("{llama}\n\nx")), Some((TokenKind::ModelTurn, llama.len())));
        assert_eq!(kind("<|im_start|>user\nx"), Some((TokenKind::OtherTurn, 16)));
        assert_eq!(kind("<|start|>assistant<|channel|>final"), Some((TokenKind::ModelTurn, 18)));
        assert_eq!(kind("<start_of_turn>model\n{}"), Some((TokenKind::ModelTurn, 20)));
    }

    #[test]
    fn an_unknown_token_encloses_up_to_its_counterpart() {
        let text = "<|begin_of_plan|>x<|end_of_plan|>y";
        assert_eq!(enclosed_end(text, &token(text, 0).unwrap()), Some(text.len() - 1));
        let text = "<|plan|>x";
        assert_eq!(enclosed_end(text, &token(text, 0).unwrap()), None);
    }
}
