//! Recognizes the special tokens that model families write around reasoning, answers and turns.
//!
//! A comment above each group of tokens names the model families that write these tokens. The sources are the chat
//! templates and tokenizers of the models, and the reasoning parsers of servers that run them. `tags.rs` lists tags
//! such as `<think>`. `docs/extraction.md` contains the same table.

/// The effect of a token on the text around it.
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
pub(super) struct SpecialToken<'a> {
    pub(super) kind: TokenKind,
    /// The token as written.
    pub(super) text: &'a str,
    /// The byte after the token.
    pub(super) end: usize,
    closing_tokens: &'static [&'static str],
}

/// Tokens that open reasoning, each with the tokens that close it.
const REASONING_TOKENS: [(&str, &[&str]); 8] = [
    // gpt-oss, in the harmony format. A channel ends where its message ends or the next message begins.
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
const ANSWER_TOKENS: [&str; 6] = [
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
const END_OF_TURN_TOKENS: [&str; 27] = [
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
    // GPT-2 and its successors, Phi, GLM.
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

/// Tokens before the name of a turn's role.
const ROLE_PREFIX_TOKENS: [&str; 9] = [
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

/// Tokens after the name of a turn's role.
const ROLE_END_TOKENS: [&str; 5] =
    ["<|end_header_id|>", "<|header_end|>", "<|end_of_role|>", "<|im_middle|>", "<|message|>"];

/// Tokens that name the role of a turn, each with whether the role is the model.
const ROLE_TOKENS: [(&str, bool); 22] = [
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

/// The maximum length of a special token, in bytes.
const MAX_TOKEN_BYTES: usize = 80;

/// The token that starts at `pos`: a listed token, or else any text of the form `<|name|>`.
pub(super) fn token_at(text: &str, pos: usize) -> Option<SpecialToken<'_>> {
    let tail = text.get(pos..)?;
    // Most brackets do not begin a token. The next byte is enough to rule them out.
    let second_byte = tail.as_bytes().get(1).copied().unwrap_or_default();
    let may_start_token = match tail.chars().next()? {
        '<' => matches!(second_byte, b'|' | b'/' | b'e' | b's' | b't' | b'c' | 0xef),
        '[' => matches!(second_byte, b'|' | b'e' | b'/') || starts_instructions(tail),
        ']' => second_byte == b'~',
        first => first == '◁',
    };
    if !may_start_token {
        return None;
    }
    let new_token = |kind, length: usize, closing_tokens| SpecialToken {
        kind,
        text: &tail[..length],
        end: pos + length,
        closing_tokens,
    };
    for (token, closing_tokens) in REASONING_TOKENS {
        if tail.starts_with(token) {
            let length = token.len() + channel_header_length(tail, token);
            return Some(new_token(TokenKind::Reasoning, length, closing_tokens));
        }
    }
    // Omits tokens that also occur outside of reasoning: the closing tokens in the first two rows, and `<|end|>`.
    let closing_tokens = REASONING_TOKENS.iter().skip(2).flat_map(|(_, closing_tokens)| *closing_tokens);
    let mut reasoning_ends = closing_tokens.filter(|token| **token != "<|end|>");
    if let Some(token) = reasoning_ends.find(|token| tail.starts_with(**token)) {
        return Some(new_token(TokenKind::ReasoningEnd, token.len(), &[]));
    }
    if let Some(token) = ANSWER_TOKENS.iter().find(|token| tail.starts_with(**token)) {
        return Some(new_token(TokenKind::Answer, token.len() + channel_header_length(tail, token), &[]));
    }
    if let Some((length, is_model)) = turn_header(tail) {
        return Some(new_token(if is_model { TokenKind::ModelTurn } else { TokenKind::OtherTurn }, length, &[]));
    }
    if let Some(token) = END_OF_TURN_TOKENS.iter().find(|token| tail.starts_with(**token)) {
        return Some(new_token(TokenKind::EndOfTurn, token.len(), &[]));
    }
    unknown_token_length(tail).map(|length| new_token(TokenKind::Unknown, length, &[]))
}

/// The length of a channel header in the harmony format after its first token, up to and including its `<|message|>`:
/// ` <|constrain|>json<|message|>`, ` to=functions.f code<|message|>`. 0 if the header does not end with that token.
fn channel_header_length(text: &str, first_token: &str) -> usize {
    let tail = text.get(first_token.len()..).unwrap_or_default();
    let window = tail.get(..tail.floor_char_boundary(MAX_TOKEN_BYTES)).unwrap_or_default();
    let message_pos = window.find(MESSAGE_TOKEN).filter(|_| first_token.starts_with("<|channel|>"));
    let Some(message_pos) = message_pos else { return 0 };
    let header = window.get(..message_pos).unwrap_or_default().replacen("<|constrain|>", "", 1);
    if header.contains(['<', '\n', '{']) { 0 } else { message_pos + MESSAGE_TOKEN.len() }
}

/// The token that ends the header of a message in the harmony format.
const MESSAGE_TOKEN: &str = "<|message|>";

/// Whether a block of instructions, `[INST] … [/INST]`, begins at the start of the text.
fn starts_instructions(text: &str) -> bool {
    let window = text.get(..text.floor_char_boundary(MAX_INSTRUCTION_BYTES)).unwrap_or_default();
    window.starts_with("[INST]") && window.contains("[/INST]")
}

/// The maximum length of a block of instructions, in bytes.
const MAX_INSTRUCTION_BYTES: usize = 4096;

/// The header of a turn at the start of the text: its length, and whether the turn is the model's.
fn turn_header(text: &str) -> Option<(usize, bool)> {
    let role_token = ROLE_TOKENS.iter().find(|(token, _)| text.starts_with(token));
    let (mut length, is_model) = if let Some((token, is_model)) = role_token {
        (token.len(), *is_model)
    } else {
        let token = ROLE_PREFIX_TOKENS.iter().find(|token| text.starts_with(**token))?;
        let after_token = text.get(token.len()..)?;
        let role = after_token.get(..after_token.bytes().take_while(u8::is_ascii_lowercase).count())?;
        let is_model = matches!(role, "" | "assistant" | "model" | "ai" | "bot" | "chatbot");
        (token.len() + role.len(), is_model)
    };
    let tail = text.get(length..)?;
    let window = tail.get(..tail.floor_char_boundary(40)).unwrap_or_default();
    if let Some((pos, token)) = ROLE_END_TOKENS.iter().find_map(|token| Some((window.find(token)?, token)))
        && window.get(..pos).is_some_and(|header| !header.contains(['<', '\n', '{']))
    {
        length += pos + token.len();
    }
    Some((length, is_model))
}

/// The length of a special token that the tables do not list: `<|name|>`, or `<｜name｜>` with the
/// full-width bars of DeepSeek.
fn unknown_token_length(text: &str) -> Option<usize> {
    let (closing, inner) = match (text.strip_prefix("<|"), text.strip_prefix("<｜")) {
        (Some(inner), _) => ("|>", inner),
        (_, Some(inner)) => ("｜>", inner),
        _ => return None,
    };
    let is_name_char = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '▁');
    let name_length = inner.find(|c| !is_name_char(c)).filter(|length| (1..=MAX_TOKEN_BYTES).contains(length))?;
    let opening_length = text.len() - inner.len();
    inner.get(name_length..)?.starts_with(closing).then_some(opening_length + name_length + closing.len())
}

/// The end of the reasoning that a token opens: the start of a token that begins the next message, or the byte after a
/// token that only closes. `None` if nothing closes it.
pub(super) fn reasoning_end(text: &str, opening: &SpecialToken<'_>) -> Option<usize> {
    let (pos, token) = find_first_token(text, opening.end, opening.closing_tokens)?;
    Some(if matches!(token, "<|start|>" | "<|channel|>") { pos } else { pos + token.len() })
}

/// The end of the text that an unknown token encloses, found by the usual names of closing tokens; `None` if no such
/// token follows.
pub(super) fn enclosed_end(text: &str, opening: &SpecialToken<'_>) -> Option<usize> {
    let name = token_name(opening.text);
    let mut closing_names = vec![format!("/{name}"), format!("end_{name}"), format!("{name}_end")];
    let word_pairs = [("START", "END"), ("BEGIN", "END"), ("start", "end"), ("begin", "end"), ("prefix", "suffix")];
    closing_names.extend(
        word_pairs
            .iter()
            .filter(|(opening_word, _)| name.contains(opening_word))
            .map(|(opening_word, closing_word)| name.replace(opening_word, closing_word)),
    );
    let closing_tokens: Vec<String> =
        closing_names.iter().flat_map(|name| [format!("<|{name}|>"), format!("<｜{name}｜>")]).collect();
    find_first_token(text, opening.end, &closing_tokens).map(|(pos, token)| pos + token.len())
}

/// The first of these tokens at or after `start`, with its position. Reads the text only once.
fn find_first_token<'c, T: AsRef<str>>(text: &str, start: usize, tokens: &'c [T]) -> Option<(usize, &'c str)> {
    let text = text.get(start..)?;
    text.match_indices(['<', '[', '◁']).find_map(|(pos, _)| {
        let tail = text.get(pos..)?;
        tokens.iter().map(AsRef::as_ref).find(|token| tail.starts_with(token)).map(|token| (start + pos, token))
    })
}

/// The name of a token, without its brackets and bars.
fn token_name(token: &str) -> &str {
    token.trim_start_matches(['<', '|', '｜']).trim_end_matches(['>', '|', '｜'])
}

/// Whether an unknown token has the form of a closing token.
pub(super) fn looks_like_closing_token(token: &SpecialToken<'_>) -> bool {
    let name = token_name(token.text).to_ascii_lowercase();
    name.starts_with('/') || name.starts_with("end") || name.contains("_end") || name.contains("suffix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<(TokenKind, usize)> {
        token_at(text, 0).map(|token| (token.kind, token.end))
    }

    #[test]
    fn listed_tokens_are_recognized() {
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
    fn the_header_of_a_turn_includes_its_role() {
        let llama = "<|start_header_id|>assistant<|end_header_id|>";
        assert_eq!(kind(&format!("{llama}\n\nx")), Some((TokenKind::ModelTurn, llama.len())));
        assert_eq!(kind("<|im_start|>user\nx"), Some((TokenKind::OtherTurn, 16)));
        assert_eq!(kind("<|start|>assistant<|channel|>final"), Some((TokenKind::ModelTurn, 18)));
        assert_eq!(kind("<start_of_turn>model\n{}"), Some((TokenKind::ModelTurn, 20)));
    }

    #[test]
    fn a_role_ends_within_40_bytes() {
        let header = |text: &str| format!("<|im_start|>user{text}<|im_middle|>x");
        assert_eq!(kind(&header(" é")), Some((TokenKind::OtherTurn, 32)));
        for long_name in ["e".repeat(43), format!(" {}", "é".repeat(21))] {
            assert_eq!(kind(&header(&format!(" {long_name}"))), Some((TokenKind::OtherTurn, 16)), "{long_name}");
            assert_eq!(kind(&header(&format!("  {long_name}"))), Some((TokenKind::OtherTurn, 16)), "{long_name}");
        }
    }

    #[test]
    fn an_unknown_token_encloses_the_text_up_to_its_closing_token() {
        let text = "<|begin_of_plan|>x<|end_of_plan|>y";
        assert_eq!(enclosed_end(text, &token_at(text, 0).unwrap()), Some(text.len() - 1));
        let text = "<|plan|>x";
        assert_eq!(enclosed_end(text, &token_at(text, 0).unwrap()), None);
    }
}
