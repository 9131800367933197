//! The vocabulary of a model: text to tokens, tokens to bytes, and the trie
//! the grammar walks.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::Error;

/// How `qwen2` files cut text into words.
const QWEN_WORDS: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Token types of the GGUF format.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Tokenizer and trie of a model.
pub(crate) struct Vocab {
    env: TokEnv,
    tokenizer: Tokenizer,
    control: Vec<String>,
    ends: Vec<TokenId>,
    reserved: Vec<TokenId>,
    bos: Option<String>,
    eos: String,
}

struct Env {
    trie: TokTrie,
    tokenizer: Tokenizer,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.tokenizer
                .encode_fast(text, false)
                .map(|encoding| encoding.get_ids().to_vec())
                .unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }
}

fn fail(what: impl std::fmt::Display) -> Error {
    Error::Format(format!("its tokenizer cannot be read: {what}"))
}

fn strings(content: &Content, key: &str) -> Result<Vec<String>, Error> {
    let values = content.metadata.get(key).ok_or_else(|| fail(format!("no `{key}`")))?;
    let values = values.to_vec()?;
    values.iter().map(|value| Ok(value.to_string()?.clone())).collect()
}

fn number(value: &Value) -> Option<i64> {
    let signed = value.to_i32().map(i64::from).or_else(|_| value.to_i64());
    signed.or_else(|_| value.to_u32().map(i64::from)).ok()
}

fn id(content: &Content, key: &str) -> Option<TokenId> {
    content.metadata.get(key).and_then(number).and_then(|id| TokenId::try_from(id).ok())
}

/// The characters that stand for bytes in a byte-level vocabulary.
fn byte_characters() -> HashMap<char, u8> {
    let mut next = 256;
    (0..=u8::MAX)
        .map(|byte| {
            let shown = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let code = if shown {
                u32::from(byte)
            } else {
                next += 1;
                next - 1
            };
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), byte)
        })
        .collect()
}

/// The bytes of a token that the model only uses as a sign.
fn marked(text: &str) -> Vec<u8> {
    let mut bytes = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn words(kind: &str) -> Result<PreTokenizerWrapper, Error> {
    let bytes = |regex| ByteLevel::new(false, false, regex);
    let parts: Vec<PreTokenizerWrapper> = match kind {
        "qwen2" => {
            let pattern = SplitPattern::Regex(QWEN_WORDS.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(fail)?;
            vec![split.into(), bytes(false).into()]
        }
        "smollm" => vec![Digits::new(true).into(), bytes(true).into()],
        _ => vec![bytes(true).into()],
    };
    Ok(Sequence::new(parts).into())
}

impl Vocab {
    /// Reads the vocabulary out of the file's metadata.
    pub(crate) fn read(content: &Content) -> Result<Self, Error> {
        let tokens = strings(content, "tokenizer.ggml.tokens")?;
        let merges = strings(content, "tokenizer.ggml.merges")?
            .into_iter()
            .filter_map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
            .collect();
        let types: Vec<i64> = match content.metadata.get("tokenizer.ggml.token_type") {
            Some(types) => types.to_vec()?.iter().map(|t| number(t).unwrap_or(NORMAL)).collect(),
            None => vec![NORMAL; tokens.len()],
        };
        let kind = match content.metadata.get("tokenizer.ggml.pre") {
            Some(kind) => kind.to_string()?.clone(),
            None => String::new(),
        };
        let eos = id(content, "tokenizer.ggml.eos_token_id").ok_or_else(|| fail("no end token"))?;
        let bos = id(content, "tokenizer.ggml.bos_token_id");
        let name = |id: TokenId| tokens.get(id as usize).cloned();

        let ids = tokens.iter().cloned().zip(0..).collect();
        let model =
            BPE::builder().vocab_and_merges::<tokenizers::models::bpe::Vocab>(ids, merges).build().map_err(fail)?;
        let mut tokenizer = Tokenizer::new(model);
        if kind == "qwen2" {
            tokenizer.with_normalizer(Some(NFC)).map_err(fail)?;
        }
        tokenizer.with_pre_tokenizer(Some(words(&kind)?));
        let plain = tokenizer.clone();

        let of_type = |wanted: i64| tokens.iter().zip(&types).filter(move |(_, t)| **t == wanted).map(|(text, _)| text);
        let control: Vec<String> = of_type(CONTROL).cloned().collect();
        let added = control.iter().chain(of_type(USER_DEFINED));
        tokenizer.add_special_tokens(added.map(|text| AddedToken::from(text.clone(), true))).map_err(fail)?;

        let letters = byte_characters();
        let bytes: Vec<Vec<u8>> = tokens
            .iter()
            .zip(&types)
            .map(|(text, kind)| match *kind {
                NORMAL => text
                    .chars()
                    .map(|letter| letters.get(&letter).copied())
                    .collect::<Option<Vec<u8>>>()
                    .unwrap_or_else(|| marked(text)),
                USER_DEFINED => text.as_bytes().to_vec(),
                _ => marked(text),
            })
            .collect();
        let count = u32::try_from(bytes.len()).map_err(fail)?;
        let reserved = types.iter().zip(0..count).filter(|(t, _)| **t != NORMAL && **t != USER_DEFINED);
        let reserved = reserved.map(|(_, id)| id).collect();
        let mut ends = vec![eos];
        for text in ["<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>"] {
            let found = tokens.iter().zip(0..count).find(|(token, _)| *token == text);
            ends.extend(found.map(|(_, id)| id).filter(|id| *id != eos));
        }
        let info = TokRxInfo::new(count, eos);
        let trie = TokTrie::from(&info, &bytes);
        let eos = name(eos).ok_or_else(|| fail("the end token is not in the vocabulary"))?;
        Ok(Self {
            env: Arc::new(Env { trie, tokenizer: plain }),
            tokenizer,
            control,
            ends,
            reserved,
            bos: bos.and_then(name),
            eos,
        })
    }

    /// What the grammar needs to know of the tokens.
    pub(crate) fn env(&self) -> &TokEnv {
        &self.env
    }

    fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.trie().vocab_size()
    }

    /// Tokens that end a reply.
    pub(crate) fn ends(&self) -> &[TokenId] {
        &self.ends
    }

    /// Tokens that are never part of a reply's text.
    pub(crate) fn reserved(&self) -> &[TokenId] {
        &self.reserved
    }

    /// Text of the token that begins a document, for chat templates.
    pub(crate) fn bos(&self) -> Option<&str> {
        self.bos.as_deref()
    }

    /// Text of the token that ends a reply, for chat templates.
    pub(crate) fn eos(&self) -> &str {
        &self.eos
    }

    /// Bytes the token adds to a reply; none for signs.
    pub(crate) fn bytes(&self, token: TokenId) -> &[u8] {
        let bytes = self.trie().token(token);
        if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { &[] } else { bytes }
    }

    /// The token with exactly these bytes.
    pub(crate) fn token(&self, bytes: &[u8]) -> Option<TokenId> {
        self.trie().token_id(bytes)
    }

    /// Tokens of a prompt, whose signs are read as such.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| Error::Request(format!("the prompt cannot be tokenized: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text with signs of the model broken up, so that a message cannot
    /// pretend to be the turn of somebody else.
    pub(crate) fn disarm(&self, text: &str) -> String {
        self.control.iter().fold(text.to_owned(), |text, sign| {
            let mut letters = sign.chars();
            match letters.next() {
                Some(first) if text.contains(sign) => text.replace(sign, &format!("{first} {}", letters.as_str())),
                _ => text,
            }
        })
    }
}
