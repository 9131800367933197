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
use crate::grammar::GrammarFactory;
use crate::memory;
use crate::network::{KvCache, Transformer};
use crate::reply_stream::{ReplyStream, cut_at_stop};
use crate::sampler::TokenSampler;
use crate::template::Template;
use crate::threads::{self, SystemLoad};
use crate::vocab::Vocab;
use crate::writer::{ReplyWriter, WriterStep};

/// The number of prompt tokens that the model processes in one batch.
const PROMPT_BATCH_TOKENS: usize = 256;

/// Options for loading a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The number of threads: one thread with `Some(1)`, one for every processor with a larger number. With `None`, the
    /// model chooses between the two before every forward pass, depending on the load of the machine.
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
    /// Creates a message with this role.
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
    /// The maximum number of tokens of the reply.
    pub max_tokens: u32,
    /// The sampling temperature; at zero, the model always chooses the likeliest token.
    pub temperature: f32,
    /// Nucleus sampling: the model samples only from the likeliest tokens that together have this probability.
    pub top_p: f32,
    /// The seed of the sampler; the same seed gives the same reply.
    pub seed: u64,
    /// Texts that end the reply when the model writes one of them; the reply does not contain that text.
    pub stop: Vec<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            schema: None,
            max_tokens: 512,
            temperature: 0.0,
            top_p: 0.95,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

/// An event during the generation of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerateEvent<'a> {
    /// The model is reading the prompt.
    PromptProgress {
        /// The number of prompt tokens read so far, including cached ones.
        done: usize,
        /// The number of tokens of the prompt.
        total: usize,
    },
    /// More text of the reply; the content of a file arrives line by line. If the items of a list repeat, the model
    /// removes the repeated items from the reply, although it may have reported their text already. The same applies to
    /// the beginning of a stop text.
    Text(&'a str),
}

/// The reason why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The reply is complete.
    Complete,
    /// The reply is incomplete: it reached the token limit, or free text began to repeat itself.
    Length,
    /// The caller stopped the generation.
    Cancelled,
}

/// A generated reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedReply {
    /// The text.
    pub text: String,
    /// The reason why the reply ended.
    pub finish_reason: FinishReason,
    /// The number of tokens of the prompt.
    pub prompt_tokens: usize,
    /// The number of prompt tokens cached from the previous request.
    pub cached_tokens: usize,
    /// The number of generated tokens, including those that the model removed from the reply again.
    pub output_tokens: usize,
    /// The time for reading the prompt.
    pub prompt_time: Duration,
    /// The time for generating the reply after that.
    pub output_time: Duration,
}

/// The tokens that the model has processed, with their keys and values, so that the next request can reuse a common
/// prefix.
struct PrefixCache {
    kv_cache: KvCache,
    tokens: Vec<u32>,
    load: SystemLoad,
}

impl PrefixCache {
    /// Removes all but the first `token_count` tokens.
    fn truncate(&mut self, token_count: usize) {
        self.tokens.truncate(token_count);
        self.kv_cache.truncate(self.tokens.len());
    }
}

/// A loaded model. It serves one request at a time; other requests wait.
pub struct Model {
    network: Transformer,
    vocab: Vocab,
    template: Template,
    grammars: GrammarFactory,
    threads: Option<usize>,
    prefix_cache: Mutex<PrefixCache>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("positions", &self.context_length()).finish_non_exhaustive()
    }
}

/// Returns an error if the processor lacks vector instructions: without them, every token would take seconds.
fn check_processor() -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    if !(std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")) {
        return Err(Error::UnsupportedProcessor("the AVX2 and FMA instructions"));
    }
    Ok(())
}

impl Model {
    /// Loads the weights into memory; takes seconds.
    ///
    /// # Errors
    ///
    /// When this process cannot read the file, the file is not a supported model, too little memory is free, or the
    /// processor lacks instructions that this crate needs.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self, Error> {
        check_processor()?;
        let read_error = |source| Error::File { path: path.to_owned(), source };
        let header = gguf::read_header(path)?;
        header.check()?;
        let needed = header.memory_estimate().min_bytes;
        if let Some(free) = memory::available_bytes().filter(|free| *free < needed) {
            return Err(Error::InsufficientMemory { needed, free });
        }
        let mut source = BufReader::with_capacity(1 << 20, File::open(path).map_err(read_error)?);
        let content =
            Content::read(&mut source).map_err(|error| Error::Format(format!("it is not a GGUF file: {error}")))?;
        let vocab = Vocab::from_gguf(&content)?;
        let chat_template = content.metadata.get("tokenizer.chat_template");
        let chat_template = chat_template.map(|text| text.to_string()).transpose()?;
        let template =
            Template::new(chat_template.map(String::as_str), vocab.bos_text(), vocab.eos_text(), vocab.has_chatml())?;
        let network = Transformer::from_gguf(&content, &mut source)?;
        let grammars = GrammarFactory::new(&vocab)?;
        let prefix_cache =
            PrefixCache { kv_cache: network.new_cache()?, tokens: Vec::new(), load: SystemLoad::default() };
        let (threads, prefix_cache) = (options.threads, Mutex::new(prefix_cache));
        Ok(Self { network, vocab, template, grammars, threads, prefix_cache })
    }

    /// The maximum number of tokens of prompt and reply together.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.network.max_positions()
    }

    /// The size of the weights in the model file, in bytes; kernels may keep a second, repacked copy of some.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.network.weight_bytes()
    }

    /// Counts the tokens of the prompt for these messages.
    ///
    /// # Errors
    ///
    /// When the chat template of the model rejects the messages.
    pub fn count_tokens(&self, messages: &[PromptMessage]) -> Result<usize, Error> {
        Ok(self.encode_prompt(messages)?.len())
    }

    fn encode_prompt(&self, messages: &[PromptMessage]) -> Result<Vec<u32>, Error> {
        let escaped_messages: Vec<PromptMessage> = messages
            .iter()
            .map(|message| PromptMessage::new(&*message.role, self.vocab.escape_special_tokens(&message.content)))
            .collect();
        self.vocab.encode(&self.template.render(&escaped_messages)?)
    }

    /// Computes the keys and values of `tokens`, and if `with_logits` is set, the logits of the token after them.
    fn forward(&self, tokens: &[u32], prefix_cache: &mut PrefixCache, with_logits: bool) -> Result<Vec<f32>, Error> {
        let use_all_threads = prefix_cache.load.should_use_all_threads(self.threads);
        let cache = &mut prefix_cache.kv_cache;
        let result = threads::run(use_all_threads, || self.network.forward(tokens, cache, with_logits));
        let logits = result.ok_or_else(|| Error::InvalidRequest("the computation stopped".to_owned()))??;
        prefix_cache.tokens.extend_from_slice(tokens);
        Ok(logits.unwrap_or_default())
    }

    /// Generates a reply. Calls `on_event` with the progress, and stops when it returns `Break`.
    ///
    /// # Errors
    ///
    /// When the prompt is too long for the model, the template rejects the messages, or the computation fails.
    pub fn generate(
        &self,
        request: &Request,
        on_event: &mut dyn FnMut(GenerateEvent<'_>) -> ControlFlow<()>,
    ) -> Result<GeneratedReply, Error> {
        let started_at = Instant::now();
        let mut prompt = self.encode_prompt(&request.messages)?;
        let prompt_tokens = prompt.len();
        let max_output = self.context_length().checked_sub(prompt_tokens).filter(|max_output| *max_output > 1);
        let Some(max_output) = max_output.filter(|_| prompt_tokens > 0) else {
            return Err(Error::PromptTooLong { prompt: prompt_tokens, limit: self.context_length() });
        };
        let token_limit = max_output.min(usize::try_from(request.max_tokens).unwrap_or(max_output));
        let grammar = request.schema.as_ref().map(|schema| self.grammars.build(schema)).transpose()?;
        let sampler = TokenSampler::new(request.temperature, request.top_p, request.seed);
        let mut writer = ReplyWriter::new(&self.vocab, grammar, sampler, token_limit);
        let forced_prefix = writer.forced_prefix();
        prompt.extend_from_slice(&forced_prefix);

        let mut prefix_cache = self.prefix_cache.lock().unwrap_or_else(PoisonError::into_inner);
        let common_len = prefix_cache.tokens.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        let cached = common_len.min(prompt.len() - 1).min(prefix_cache.kv_cache.len());
        prefix_cache.truncate(cached);
        let mut reply = GeneratedReply {
            text: String::new(),
            finish_reason: FinishReason::Cancelled,
            prompt_tokens,
            cached_tokens: cached.min(prompt_tokens),
            output_tokens: 0,
            prompt_time: Duration::ZERO,
            output_time: Duration::ZERO,
        };

        let total = prompt_tokens;
        if on_event(GenerateEvent::PromptProgress { done: reply.cached_tokens, total }).is_break() {
            return Ok(reply);
        }
        let mut logits = Vec::new();
        let mut processed = cached;
        while processed < prompt.len() {
            let end = prompt.len().min(processed + PROMPT_BATCH_TOKENS);
            logits = self.forward(&prompt[processed..end], &mut prefix_cache, end == prompt.len())?;
            processed = end;
            if on_event(GenerateEvent::PromptProgress { done: processed.min(total), total }).is_break() {
                reply.prompt_time = started_at.elapsed();
                return Ok(reply);
            }
        }
        reply.prompt_time = started_at.elapsed();

        let mut stream = ReplyStream::default();
        let mut is_stopped = false;
        let mut report_text = |writer: &ReplyWriter<'_>| {
            let (document, has_stop) = cut_at_stop(writer.document(), &request.stop);
            let flow = match stream.take_unreported(document) {
                text if text.is_empty() => ControlFlow::Continue(()),
                text => on_event(GenerateEvent::Text(&text)),
            };
            is_stopped = has_stop && flow.is_continue();
            if is_stopped { ControlFlow::Break(()) } else { flow }
        };
        let mut flow = report_text(&writer);
        while flow.is_continue() {
            match writer.step(&logits)? {
                WriterStep::Continue(tokens) => {
                    flow = report_text(&writer);
                    if flow.is_continue() && writer.has_room() {
                        logits = self.forward(&tokens, &mut prefix_cache, true)?;
                    }
                }
                WriterStep::Rewind(prefix_len, tokens) => {
                    prefix_cache.truncate(prompt_tokens + prefix_len);
                    flow = report_text(&writer);
                    if flow.is_continue() && writer.has_room() {
                        logits = self.forward(&tokens, &mut prefix_cache, true)?;
                    }
                }
                WriterStep::Finish(_) => {
                    let _ = report_text(&writer);
                    reply.finish_reason = FinishReason::Complete;
                    break;
                }
                WriterStep::Truncated => {
                    reply.finish_reason = FinishReason::Length;
                    break;
                }
            }
        }
        if is_stopped {
            reply.finish_reason = FinishReason::Complete;
        }
        // The text of a reply omits an incomplete character at its end.
        reply.text = ReplyStream::default().take_unreported(cut_at_stop(writer.document(), &request.stop).0);
        reply.output_tokens = writer.generated_count();
        reply.output_time = started_at.elapsed().saturating_sub(reply.prompt_time);
        Ok(reply)
    }
}
