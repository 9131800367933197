//! Loads a model and generates replies with it.

mod compare;

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use candle_core::quantized::gguf_file::Content;
use serde_json::Value;

use crate::Error;
use crate::gguf;
use crate::grammar::Grammars;
use crate::memory;
use crate::network::{Cache, Transformer};
use crate::sampler::TokenSampler;
use crate::template::Template;
use crate::threads::{self, Load};
use crate::vocab::Vocab;
use crate::writer::{ReplyWriter, WriterStep};

/// How many tokens of the prompt are read at once.
const CHUNK: usize = 256;

/// How to load a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// `Some(1)` computes on one thread, a larger number on every processor; `None` checks before every step how busy
    /// the machine is.
    pub threads: Option<usize>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl PromptMessage {
    /// A message with this role.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A request for a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<PromptMessage>,
    /// The JSON Schema that the reply must satisfy; `None` for free text.
    pub schema: Option<Value>,
    /// How many tokens the reply may have at most.
    pub max_tokens: u32,
    /// The sampling temperature; zero always takes the likeliest token.
    pub temperature: f32,
    /// Nucleus sampling: draws only among the likeliest tokens that together have this probability.
    pub top_p: f32,
    /// The seed of the sampler; the same seed gives the same reply.
    pub seed: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self { messages: Vec::new(), schema: None, max_tokens: 512, temperature: 0.0, top_p: 0.95, seed: 0 }
    }
}

/// What happens while a reply is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerateEvent<'a> {
    /// The model is reading the prompt.
    Prompt {
        /// Tokens that are read or cached already.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// More text of the reply; the text of a file arrives line by line. When items of a list repeat, the reply goes
    /// back to where they began, and what was reported of them is not part of it.
    Token(&'a str),
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyEnd {
    /// It is complete.
    End,
    /// It was cut off: it reached the limit, or free text began to repeat itself.
    Length,
    /// The caller asked to stop.
    Cancelled,
}

/// A generated reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedReply {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub stop: ReplyEnd,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of those were cached from the previous request.
    pub cached_tokens: usize,
    /// Tokens of the reply, including those that were taken back.
    pub output_tokens: usize,
    /// Time until the prompt was read.
    pub prompt_time: Duration,
    /// Time spent generating after that.
    pub output_time: Duration,
}

/// What is kept from one request to the next: the tokens that were read, and their keys and values.
struct KeptTokens {
    cache: Cache,
    tokens: Vec<u32>,
    load: Load,
}

impl KeptTokens {
    /// Forgets all but the first `tokens` tokens.
    fn cut(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
        self.cache.truncate(self.tokens.len());
    }
}

/// A loaded model. It serves one request at a time; others wait.
pub struct Model {
    network: Transformer,
    vocab: Vocab,
    template: Template,
    grammars: Grammars,
    threads: Option<usize>,
    kept: Mutex<KeptTokens>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("positions", &self.context()).finish_non_exhaustive()
    }
}

/// Refuses processors on which every step would take seconds.
fn check_processor() -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    if !(std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")) {
        return Err(Error::Processor("the AVX2 and FMA instructions"));
    }
    Ok(())
}

/// The text of a reply, and how much of it was reported to the caller.
#[derive(Default)]
struct ToldText {
    told: Vec<u8>,
    whole: usize,
}

impl ToldText {
    /// The characters of `reply` that were not reported yet, except an incomplete one at its end. If the reply went
    /// back, they begin where it changed.
    fn news(&mut self, reply: Vec<u8>) -> String {
        let same = self.told.iter().zip(&reply).take_while(|(a, b)| a == b).count();
        let from = self.whole.min(same);
        let from = (0..=from).rev().find(|at| reply.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80)).unwrap_or(0);
        let mut news = String::new();
        for chunk in reply.get(from..).unwrap_or_default().utf8_chunks() {
            news.push_str(chunk.valid());
            let open = chunk.invalid();
            let begins = std::str::from_utf8(open).is_err_and(|error| error.error_len().is_none());
            if begins {
                self.whole = reply.len() - open.len();
                self.told = reply;
                return news;
            }
            if !open.is_empty() {
                news.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.whole = reply.len();
        self.told = reply;
        news
    }
}

impl Model {
    /// Loads the weights into memory; takes seconds.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a model of a known family, when too little memory is free, or when the
    /// processor lacks instructions that this crate needs.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self, Error> {
        check_processor()?;
        let unreadable = |source| Error::File { path: path.to_owned(), source };
        let header = gguf::read(path)?;
        header.check()?;
        let needed = header.memory().least;
        if let Some(free) = memory::available().filter(|free| *free < needed) {
            return Err(Error::Memory { needed, free });
        }
        let mut source = BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?);
        let content =
            Content::read(&mut source).map_err(|error| Error::Format(format!("it is not a GGUF file: {error}")))?;
        let vocab = Vocab::read(&content)?;
        let chat = content.metadata.get("tokenizer.chat_template");
        let chat = chat.map(|text| text.to_string()).transpose()?;
        let template = Template::new(chat.map(String::as_str), vocab.bos(), vocab.eos(), vocab.chatml())?;
        let network = Transformer::read(&content, &mut source)?;
        let grammars = Grammars::new(&vocab)?;
        let kept = KeptTokens { cache: network.cache()?, tokens: Vec::new(), load: Load::default() };
        let (threads, kept) = (options.threads, Mutex::new(kept));
        Ok(Self { network, vocab, template, grammars, threads, kept })
    }

    /// How many tokens prompt and reply may have together.
    #[must_use]
    pub fn context(&self) -> usize {
        self.network.positions()
    }

    /// Size of the weights as read, in bytes; kernels may keep a second, repacked form of some.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.network.bytes()
    }

    /// How many tokens the prompt for these messages has.
    ///
    /// # Errors
    ///
    /// When the chat template of the model refuses the messages.
    pub fn count(&self, messages: &[PromptMessage]) -> Result<usize, Error> {
        Ok(self.prompt(messages)?.len())
    }

    fn prompt(&self, messages: &[PromptMessage]) -> Result<Vec<u32>, Error> {
        let disarmed: Vec<PromptMessage> = messages
            .iter()
            .map(|message| PromptMessage::new(&*message.role, self.vocab.disarm(&message.content)))
            .collect();
        self.vocab.encode(&self.template.render(&disarmed)?)
    }

    /// Reads `tokens`, on one thread or on all, depending on how busy the machine is; returns the scores of the next
    /// token.
    fn read(&self, tokens: &[u32], kept: &mut KeptTokens, scores: bool) -> Result<Vec<f32>, Error> {
        let all = kept.load.all_threads(self.threads);
        let cache = &mut kept.cache;
        let read = threads::run(all, || self.network.forward(tokens, cache, scores));
        let read = read.ok_or_else(|| Error::Request("the computation stopped".to_owned()))??;
        kept.tokens.extend_from_slice(tokens);
        Ok(read.unwrap_or_default())
    }

    /// Generates a reply. Calls `event` with the progress, and stops when it returns `Break`.
    ///
    /// # Errors
    ///
    /// When the prompt does not fit the model, the template refuses the
    /// messages, or the computation fails.
    pub fn generate(
        &self,
        request: &Request,
        event: &mut dyn FnMut(GenerateEvent<'_>) -> ControlFlow<()>,
    ) -> Result<GeneratedReply, Error> {
        let begun = Instant::now();
        let mut prompt = self.prompt(&request.messages)?;
        let prompt_tokens = prompt.len();
        let room = self.context().checked_sub(prompt_tokens).filter(|room| *room > 1);
        let Some(room) = room.filter(|_| prompt_tokens > 0) else {
            return Err(Error::TooLong { prompt: prompt_tokens, limit: self.context() });
        };
        let limit = room.min(usize::try_from(request.max_tokens).unwrap_or(room));
        let grammar = request.schema.as_ref().map(|schema| self.grammars.of(schema)).transpose()?;
        let sampler = TokenSampler::new(request.temperature, request.top_p, request.seed);
        let mut writer = ReplyWriter::new(&self.vocab, grammar, sampler, limit);
        let opening = writer.opening();
        prompt.extend_from_slice(&opening);

        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let same = kept.tokens.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        let cached = same.min(prompt.len() - 1).min(kept.cache.len());
        kept.cut(cached);
        let mut reply = GeneratedReply {
            text: String::new(),
            stop: ReplyEnd::Cancelled,
            prompt_tokens,
            cached_tokens: cached.min(prompt_tokens),
            output_tokens: 0,
            prompt_time: Duration::ZERO,
            output_time: Duration::ZERO,
        };

        let total = prompt_tokens;
        if event(GenerateEvent::Prompt { done: reply.cached_tokens, total }).is_break() {
            return Ok(reply);
        }
        let mut scores = Vec::new();
        let mut done = cached;
        while done < prompt.len() {
            let end = prompt.len().min(done + CHUNK);
            scores = self.read(&prompt[done..end], &mut kept, end == prompt.len())?;
            done = end;
            if event(GenerateEvent::Prompt { done: done.min(total), total }).is_break() {
                reply.prompt_time = begun.elapsed();
                return Ok(reply);
            }
        }
        reply.prompt_time = begun.elapsed();

        let mut text = ToldText::default();
        let mut tell = |writer: &ReplyWriter<'_>| match text.news(writer.document()) {
            more if more.is_empty() => ControlFlow::Continue(()),
            more => event(GenerateEvent::Token(&more)),
        };
        let mut flow = tell(&writer);
        while flow.is_continue() {
            match writer.step(&scores)? {
                WriterStep::Go(tokens) => {
                    flow = tell(&writer);
                    if flow.is_continue() && writer.has_room() {
                        scores = self.read(&tokens, &mut kept, true)?;
                    }
                }
                WriterStep::Back(to, tokens) => {
                    kept.cut(prompt_tokens + to);
                    flow = tell(&writer);
                    if flow.is_continue() && writer.has_room() {
                        scores = self.read(&tokens, &mut kept, true)?;
                    }
                }
                WriterStep::Last(_) => {
                    let _ = tell(&writer);
                    reply.stop = ReplyEnd::End;
                    break;
                }
                WriterStep::Cut => {
                    reply.stop = ReplyEnd::Length;
                    break;
                }
            }
        }
        // An incomplete character at the end of a reply that was cut is not part of its text.
        reply.text = ToldText::default().news(writer.document());
        reply.output_tokens = writer.produced();
        reply.output_time = begun.elapsed().saturating_sub(reply.prompt_time);
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_told_whole() {
        let mut text = ToldText::default();
        assert_eq!(text.news(b"a\xc3".into()), "a");
        assert_eq!(text.news(b"a\xc3\xa4b".into()), "äb");
        assert_eq!(text.news("aäb".into()), "");
        assert_eq!(text.news(b"a\xc3\xa4b\xff!".into()), "\u{fffd}!");
        assert_eq!(text.news("aäc".into()), "c");
        assert_eq!(text.news("aöc".into()), "öc");
    }
}
