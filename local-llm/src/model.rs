//! Loads a model and generates replies with it.

mod compare;
mod generate;

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use candle_core::quantized::gguf_file::Content;
use serde_json::Value;

use crate::Error;
use crate::gguf;
use crate::grammar::GrammarFactory;
use crate::memory;
use crate::network::{KvCache, Transformer};
use crate::template::Template;
use crate::threads::{self, SystemLoad};
use crate::tools::{CallChoice, ModelCall, OfferedTool};
use crate::vocab::Vocab;

use generate::Generation;

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
    /// `system`, `user`, `assistant`, or `tool` for the result of a call.
    pub role: String,
    /// The text.
    pub content: String,
    /// The calls after the text, in a message of the role `assistant`.
    pub calls: Vec<ModelCall>,
}

impl PromptMessage {
    /// Creates a message with this role.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), calls: Vec::new() }
    }
}

/// A request for a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<PromptMessage>,
    /// The JSON Schema that the text of the reply must satisfy; `None` for free text.
    pub schema: Option<Value>,
    /// The tools that the model may call.
    pub tools: Vec<OfferedTool>,
    /// Whether the model may, must or must not call one of the tools.
    pub choice: CallChoice,
    /// The maximum number of tokens of the reply.
    pub max_tokens: u32,
    /// The sampling temperature; at zero, the model always chooses the likeliest token.
    pub temperature: f32,
    /// Nucleus sampling: the model samples only from the likeliest tokens that together have this probability.
    pub top_p: f32,
    /// The seed of the sampler; the same seed gives the same reply.
    pub seed: u64,
    /// Texts that end the reply when the model writes one of them; the reply does not contain that text. They do not
    /// end a call.
    pub stop: Vec<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            schema: None,
            tools: Vec::new(),
            choice: CallChoice::Auto,
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
    /// The model wrote a part of a call, or of the text before its choice between a call and an answer with a schema.
    CallProgress,
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
    /// The text; the text before the call if there is one.
    pub text: String,
    /// The call with which the reply ends. A reply has at most one, because small models write all calls that they
    /// might need at once, before they have seen a result.
    pub call: Option<ModelCall>,
    /// The name of the tool whose call the token limit cut off.
    pub cut_call: Option<String>,
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
        Ok(self.encode_prompt(messages, &[])?.len())
    }

    fn encode_prompt(&self, messages: &[PromptMessage], tools: &[OfferedTool]) -> Result<Vec<u32>, Error> {
        let escape = |text: &str| self.vocab.escape_special_tokens(text);
        let messages: Vec<PromptMessage> = messages.iter().map(|message| message.map_texts(&escape)).collect();
        let tools: Vec<OfferedTool> = tools.iter().map(|tool| tool.map_texts(&escape)).collect();
        self.vocab.encode(&self.template.render(&messages, &tools)?)
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
        Generation::start(self, request, on_event)?.run()
    }
}
