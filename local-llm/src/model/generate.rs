//! Generates one reply: an answer, or a call of a tool.
//!
//! A reply has several parts if it has a call. The model chooses tokens only where it has a choice: the text, the name
//! of the tool and its arguments. The tokens between these are given. Each part of the reply has a decoder of its own,
//! and the model reads all parts as one sequence of tokens.

mod call;
mod preamble;

use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use toktrie::TokenId;

use super::{FinishReason, GenerateEvent, GeneratedReply, Model, PROMPT_BATCH_TOKENS, PrefixCache, Request};
use crate::Error;
use crate::decoder::{CallMarkerRule, DecoderStep, ReplyDecoder};
use crate::grammar::Grammar;
use crate::reply_stream::{ReplyStream, cut_at_stop};
use crate::sampler::TokenSampler;
use crate::tools::{CALL_MARKER, CallChoice};

/// Generates one reply.
pub(super) struct Generation<'a> {
    model: &'a Model,
    request: &'a Request,
    on_event: &'a mut dyn FnMut(GenerateEvent<'_>) -> ControlFlow<()>,
    cache: MutexGuard<'a, PrefixCache>,
    started_at: Instant,
    prompt: Vec<TokenId>,
    token_limit: usize,
    /// The logits of the token after those that the model has read.
    logits: Vec<f32>,
    /// The number of samplers so far. Each has another seed.
    sampler_count: u64,
    reply: GeneratedReply,
}

/// A part of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyPart {
    /// The answer.
    Answer,
    /// Text that is the answer, unless a call follows it.
    AnswerOrCall,
    /// Text before a call, or before an answer that must be JSON.
    Preamble,
    /// The arguments of a call.
    Arguments,
}

/// How the writing of a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartEnd {
    /// The part is complete.
    Complete,
    /// The part is incomplete.
    Truncated,
    /// The caller stopped the generation.
    Cancelled,
    /// The text ends with the marker of a call.
    CallBegun,
}

impl<'a> Generation<'a> {
    /// Prepares a reply. Waits until the model has no other request.
    pub(super) fn start(
        model: &'a Model,
        request: &'a Request,
        on_event: &'a mut dyn FnMut(GenerateEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let started_at = Instant::now();
        let prompt = model.encode_prompt(&request.messages, &request.tools)?;
        let max_output = model.context_length().checked_sub(prompt.len()).filter(|max_output| *max_output > 1);
        let Some(max_output) = max_output.filter(|_| !prompt.is_empty()) else {
            return Err(Error::PromptTooLong { prompt: prompt.len(), limit: model.context_length() });
        };
        let token_limit = max_output.min(usize::try_from(request.max_tokens).unwrap_or(max_output));
        let reply = GeneratedReply {
            text: String::new(),
            call: None,
            cut_call: None,
            finish_reason: FinishReason::Cancelled,
            prompt_tokens: prompt.len(),
            cached_tokens: 0,
            output_tokens: 0,
            prompt_time: Duration::ZERO,
            output_time: Duration::ZERO,
        };
        let cache = model.prefix_cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (logits, sampler_count) = (Vec::new(), 0);
        Ok(Self { model, request, on_event, cache, started_at, prompt, token_limit, logits, sampler_count, reply })
    }

    /// Generates the reply.
    pub(super) fn run(mut self) -> Result<GeneratedReply, Error> {
        match self.request.choice {
            _ if self.request.tools.is_empty() => self.write_answer(CallMarkerRule::Ignored)?,
            CallChoice::None => self.write_answer(CallMarkerRule::Banned)?,
            CallChoice::Auto => self.write_answer_or_call()?,
            CallChoice::Required => {
                if self.read_prompt(&[])?.is_continue() {
                    self.write_call(Vec::new(), CALL_MARKER)?;
                }
            }
        }
        self.reply.output_time = self.started_at.elapsed().saturating_sub(self.reply.prompt_time);
        Ok(self.reply)
    }

    fn write_answer(&mut self, rule: CallMarkerRule) -> Result<(), Error> {
        let grammar = self.answer_grammar()?;
        let mut decoder = self.new_decoder(grammar, self.token_limit).with_marker_rule(rule);
        let forced_prefix = decoder.forced_prefix();
        if self.read_prompt(&forced_prefix)?.is_continue() {
            let end = self.write_part(&mut decoder, self.prompt.len(), ReplyPart::Answer)?;
            self.finish_answer(&decoder, end);
        }
        Ok(())
    }

    /// Writes an answer or a call, as the model chooses.
    fn write_answer_or_call(&mut self) -> Result<(), Error> {
        if self.read_prompt(&[])?.is_break() {
            return Ok(());
        }
        if self.request.schema.is_some() { self.write_json_or_call() } else { self.write_text_or_call() }
    }

    /// Writes free text that is the answer, or that comes before a call.
    fn write_text_or_call(&mut self) -> Result<(), Error> {
        let base = self.prompt.len();
        let mut decoder = self.new_decoder(None, self.token_limit).with_marker_rule(CallMarkerRule::EndsText);
        let end = self.write_part(&mut decoder, base, ReplyPart::AnswerOrCall)?;
        self.finish_answer(&decoder, end);
        if end == PartEnd::CallBegun {
            self.reply.text = text_before_marker(&self.reply.text);
            let unread = decoder.unprocessed_tokens(self.processed_count(base)).to_vec();
            self.write_call(unread, "")?;
        }
        Ok(())
    }

    /// Writes a part of the reply. The model has read `base` tokens before it.
    fn write_part(&mut self, decoder: &mut ReplyDecoder<'_>, base: usize, part: ReplyPart) -> Result<PartEnd, Error> {
        let mut stream = ReplyStream::default();
        let mut end = self.report_part(decoder, &mut stream, part);
        while end.is_none() {
            let tokens = match decoder.step(&self.logits)? {
                DecoderStep::Continue(tokens) => tokens,
                DecoderStep::Rewind(prefix_len, tokens) => {
                    self.cache.truncate(base + prefix_len);
                    tokens
                }
                DecoderStep::Finish(_) => {
                    let part = if part == ReplyPart::AnswerOrCall { ReplyPart::Answer } else { part };
                    let _ = self.report_part(decoder, &mut stream, part);
                    return Ok(PartEnd::Complete);
                }
                DecoderStep::Truncated => return Ok(PartEnd::Truncated),
            };
            // If these tokens end the part, the model need not read them now.
            end = self.report_part(decoder, &mut stream, part);
            if end.is_none() && decoder.has_room() {
                self.read(&tokens)?;
            }
        }
        Ok(end.unwrap_or(PartEnd::Complete))
    }

    /// Reports the progress of a part to the caller. Returns the end of the part if it ends here.
    fn report_part(
        &mut self,
        decoder: &ReplyDecoder<'_>,
        stream: &mut ReplyStream,
        part: ReplyPart,
    ) -> Option<PartEnd> {
        if part == ReplyPart::Arguments {
            return (self.on_event)(GenerateEvent::CallProgress).is_break().then_some(PartEnd::Cancelled);
        }
        let (mut document, is_stopped) = cut_at_stop(decoder.document(), &self.request.stop);
        if part == ReplyPart::Preamble {
            return self.report_preamble(&document, is_stopped);
        }
        let mut end = is_stopped.then_some(PartEnd::Complete);
        if part == ReplyPart::AnswerOrCall && !is_stopped {
            end = document.ends_with(CALL_MARKER.as_bytes()).then_some(PartEnd::CallBegun);
            document.truncate(len_before_marker(&document));
        }
        let text = stream.take_unreported(document);
        if !text.is_empty() && (self.on_event)(GenerateEvent::Text(&text)).is_break() {
            return Some(PartEnd::Cancelled);
        }
        end
    }

    fn finish_answer(&mut self, decoder: &ReplyDecoder<'_>, end: PartEnd) {
        self.reply.finish_reason = match end {
            PartEnd::Complete | PartEnd::CallBegun => FinishReason::Complete,
            PartEnd::Truncated => FinishReason::Length,
            PartEnd::Cancelled => FinishReason::Cancelled,
        };
        // The text of a reply omits an incomplete character at its end.
        self.reply.text = ReplyStream::default().take_unreported(cut_at_stop(decoder.document(), &self.request.stop).0);
        self.reply.output_tokens += decoder.generated_count();
    }

    /// Reads the prompt and the tokens with which the reply begins. Reuses the prefix that is in the cache.
    fn read_prompt(&mut self, forced_prefix: &[TokenId]) -> Result<ControlFlow<()>, Error> {
        let tokens = [self.prompt.as_slice(), forced_prefix].concat();
        let common_len = self.cache.tokens.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        let cached = common_len.min(tokens.len() - 1).min(self.cache.kv_cache.len());
        self.cache.truncate(cached);
        let total = self.prompt.len();
        self.reply.cached_tokens = cached.min(total);
        let mut processed = cached;
        let mut flow = (self.on_event)(GenerateEvent::PromptProgress { done: self.reply.cached_tokens, total });
        while flow.is_continue() && processed < tokens.len() {
            let end = tokens.len().min(processed + PROMPT_BATCH_TOKENS);
            self.logits = self.model.forward(&tokens[processed..end], &mut self.cache, end == tokens.len())?;
            processed = end;
            flow = (self.on_event)(GenerateEvent::PromptProgress { done: processed.min(total), total });
        }
        self.reply.prompt_time = self.started_at.elapsed();
        Ok(flow)
    }

    /// Reads tokens of the reply.
    fn read(&mut self, tokens: &[TokenId]) -> Result<(), Error> {
        for batch in tokens.chunks(PROMPT_BATCH_TOKENS) {
            self.logits = self.model.forward(batch, &mut self.cache, true)?;
        }
        Ok(())
    }

    /// The number of tokens that the model has read after the first `base` ones.
    fn processed_count(&self, base: usize) -> usize {
        self.cache.tokens.len().saturating_sub(base)
    }

    /// The number of tokens that the reply may still get after those that the model has read and `unread` more.
    fn room(&self, unread: usize) -> usize {
        self.token_limit.saturating_sub(self.processed_count(self.prompt.len()) + unread)
    }

    fn answer_grammar(&self) -> Result<Option<Grammar>, Error> {
        self.request.schema.as_ref().map(|schema| self.model.grammars.build(schema)).transpose()
    }

    fn new_decoder(&mut self, grammar: Option<Grammar>, limit: usize) -> ReplyDecoder<'a> {
        let (model, sampler) = (self.model, self.new_sampler());
        ReplyDecoder::new(&model.vocab, grammar, sampler, limit)
    }

    /// A sampler for the next choices. The first one has the seed of the request.
    fn new_sampler(&mut self) -> TokenSampler {
        let Request { temperature, top_p, seed, .. } = *self.request;
        let sampler = TokenSampler::new(temperature, top_p, seed.wrapping_add(self.sampler_count << 32));
        self.sampler_count += 1;
        sampler
    }

    /// The tokens of a given text.
    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        self.model.vocab.tokenize_greedily(text.as_bytes()).ok_or_else(|| {
            Error::InvalidRequest(format!("the vocabulary of the model has no tokens for {}", Value::from(text)))
        })
    }
}

/// The text before the marker of a call with which it ends.
fn text_before_marker(text: &str) -> String {
    text.strip_suffix(CALL_MARKER).unwrap_or(text).trim_end().to_owned()
}

/// The length of a text without the marker of a call, or the beginning of one, at its end.
fn len_before_marker(text: &[u8]) -> usize {
    let marker = CALL_MARKER.as_bytes();
    let mut prefixes = (1..=marker.len()).rev().filter_map(|len| marker.get(..len));
    let prefix_len = prefixes.find(|prefix| text.ends_with(prefix)).map_or(0, <[u8]>::len);
    text.len() - prefix_len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_marker_is_held_back() {
        for (text, reported) in [
            ("", ""),
            ("Look", "Look"),
            ("Look <", "Look "),
            ("Look <tool_", "Look "),
            ("Look <tool_call>", "Look "),
            ("Look <tool_call> ", "Look <tool_call> "),
            ("a < b", "a < b"),
        ] {
            assert_eq!(text.get(..len_before_marker(text.as_bytes())), Some(reported), "{text}");
        }
    }
}
