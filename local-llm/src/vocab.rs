//! The vocabulary of a model: converts text to tokens and tokens to bytes, and holds the trie that the grammar walks.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{AddedToken, Tokenizer};
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::Error;
use crate::gguf::Header;
use crate::spm::{PieceVocab, SPACE};
use crate::words::Words;

/// Token types of the GGUF format.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// Special tokens that end a turn, by their texts: files do not always name all of them.
const ENDS: [&str; 8] =
    ["<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<EOT>"];

/// How text becomes tokens.
enum Encoder {
    /// Merges over bytes (`gpt2` in GGUF files).
    Merges(Box<Tokenizer>),
    /// Scored pieces (`llama` in GGUF files).
    Pieces(Arc<PieceVocab>),
}

/// Tokenizer and trie of a model.
pub(crate) struct Vocab {
    env: TokEnv,
    encoder: Encoder,
    control: Vec<String>,
    ends: Vec<TokenId>,
    reserved: Vec<TokenId>,
    bos: Option<(TokenId, String)>,
    begins: bool,
    chatml: bool,
    eos: String,
}

struct VocabEnv {
    trie: TokTrie,
    /// Reads every text as plain text, without special tokens.
    encoder: Encoder,
}

impl TokenizerEnv for VocabEnv {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| match &self.encoder {
            Encoder::Pieces(pieces) => pieces.inside(text),
            Encoder::Merges(tokenizer) => tokenizer
                .encode_fast(text, false)
                .map(|encoding| encoding.get_ids().to_vec())
                .unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes())),
        })
    }
}

fn fail(what: impl std::fmt::Display) -> Error {
    Error::Format(format!("its tokenizer cannot be read: {what}"))
}

/// Checks that this crate supports the tokenizer of a file.
pub(crate) fn check(header: &Header) -> Result<(), Error> {
    match header.text("tokenizer.ggml.model") {
        Some("llama") => Ok(()),
        Some("gpt2") => words(header.text("tokenizer.ggml.pre")).map(drop),
        Some(other) => {
            Err(Error::Format(format!("its tokenizer is of the type `{other}`, and orch knows `gpt2` and `llama`")))
        }
        None => Err(Error::Format("it brings no tokenizer (`tokenizer.ggml.model`)".to_owned())),
    }
}

/// The rules by which the tokenizer of a file splits text into words.
fn words(name: Option<&str>) -> Result<&'static Words, Error> {
    let Some(name) = name else {
        let words = "it does not say how text is cut into words (`tokenizer.ggml.pre`): an old program made it; take a newer file";
        return Err(Error::Format(words.to_owned()));
    };
    Words::find(name).ok_or_else(|| {
        let known = Words::names().join(", ");
        Error::Format(format!("it cuts text into words in the way of `{name}`, and orch knows {known}"))
    })
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

fn flag(content: &Content, key: &str) -> Option<bool> {
    content.metadata.get(key).and_then(|value| value.to_bool().ok())
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

/// The bytes of a token that is a marker for the model and not text.
fn marked(text: &str) -> Vec<u8> {
    let mut bytes = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_of(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// The tokens of a file, with their types.
struct TokenTable {
    tokens: Vec<String>,
    types: Vec<i64>,
}

impl TokenTable {
    fn read(content: &Content) -> Result<Self, Error> {
        let tokens = strings(content, "tokenizer.ggml.tokens")?;
        let types: Vec<i64> = match content.metadata.get("tokenizer.ggml.token_type") {
            Some(types) => types.to_vec()?.iter().map(|t| number(t).unwrap_or(NORMAL)).collect(),
            None => vec![NORMAL; tokens.len()],
        };
        if types.len() != tokens.len() {
            return Err(fail(format!("{} tokens have {} types", tokens.len(), types.len())));
        }
        Ok(Self { tokens, types })
    }

    fn all(&self) -> impl Iterator<Item = (TokenId, &str, i64)> {
        (0..).zip(self.tokens.iter().zip(&self.types)).map(|(id, (text, kind))| (id, text.as_str(), *kind))
    }

    /// Special tokens, which are recognized wherever their texts occur.
    fn signs(&self) -> impl Iterator<Item = (TokenId, &str, i64)> {
        self.all().filter(|(_, _, kind)| matches!(*kind, CONTROL | USER_DEFINED))
    }

    fn name(&self, id: TokenId) -> Option<String> {
        self.tokens.get(id as usize).cloned()
    }

    /// Encoders with byte-level merges: one that recognizes special tokens, and one that does not.
    fn merges(&self, content: &Content, words: &Words) -> Result<(Encoder, Encoder), Error> {
        let merges = strings(content, "tokenizer.ggml.merges")?
            .into_iter()
            .filter_map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
            .collect();
        let ids = self.tokens.iter().cloned().zip(0..).collect();
        let model = BPE::builder()
            .vocab_and_merges::<tokenizers::models::bpe::Vocab>(ids, merges)
            .ignore_merges(words.whole_words)
            .build()
            .map_err(fail)?;
        let mut tokenizer = Tokenizer::new(model);
        if words.composed {
            tokenizer.with_normalizer(Some(NFC)).map_err(fail)?;
        }
        tokenizer.with_pre_tokenizer(Some(words.pre_tokenizer().map_err(fail)?));
        let plain = tokenizer.clone();
        // Of two special tokens with the same beginning, the tokenizer takes the longer one.
        let added = self.signs().map(|(_, text, _)| AddedToken::from(text.to_owned(), true));
        tokenizer.add_special_tokens(added).map_err(fail)?;
        Ok((Encoder::Merges(Box::new(tokenizer)), Encoder::Merges(Box::new(plain))))
    }

    /// The encoder with scored pieces, twice: it can encode with and without special tokens.
    fn pieces(&self, content: &Content) -> Result<(Encoder, Encoder), Error> {
        let scores = content.metadata.get("tokenizer.ggml.scores").ok_or_else(|| fail("no `tokenizer.ggml.scores`"))?;
        let scores = scores.to_vec()?.iter().map(Value::to_f32).collect::<Result<Vec<f32>, _>>()?;
        let mut bytes = vec![None; 256];
        let mut pieces = HashMap::new();
        for ((id, text, kind), score) in self.all().zip(scores) {
            match (kind, byte_of(text)) {
                (BYTE, Some(byte)) => {
                    if let Some(entry) = bytes.get_mut(usize::from(byte)) {
                        *entry = Some(id);
                    }
                }
                (NORMAL | USER_DEFINED, _) => {
                    pieces.insert(text.to_owned(), (id, score));
                }
                _ => {}
            }
        }
        let unknown = id(content, "tokenizer.ggml.unknown_token_id");
        let signs = self.signs().map(|(id, text, _)| (text.to_owned(), id)).collect();
        let leading = flag(content, "tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let pieces = Arc::new(PieceVocab::new(pieces, bytes, unknown, signs, leading));
        Ok((Encoder::Pieces(Arc::clone(&pieces)), Encoder::Pieces(pieces)))
    }

    /// The bytes that each token adds to a text.
    fn bytes(&self, of_normal: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let bytes = |(_, text, kind): (TokenId, &str, i64)| match kind {
            NORMAL => of_normal(text).unwrap_or_else(|| marked(text)),
            USER_DEFINED => text.as_bytes().to_vec(),
            BYTE => byte_of(text).map_or_else(|| marked(text), |byte| vec![byte]),
            _ => marked(text),
        };
        self.all().map(bytes).collect()
    }
}

impl Vocab {
    /// Reads the vocabulary from the file's metadata.
    pub(crate) fn read(content: &Content) -> Result<Self, Error> {
        let listed = TokenTable::read(content)?;
        let text = |key: &str| content.metadata.get(key).and_then(|value| value.to_string().ok()).map(String::as_str);
        let scored = text("tokenizer.ggml.model") == Some("llama");
        let (encoder, plain, bytes, begins) = if scored {
            let (encoder, plain) = listed.pieces(content)?;
            let bytes = listed.bytes(|text| Some(text.replace(SPACE, " ").into_bytes()));
            (encoder, plain, bytes, true)
        } else {
            let words = words(text("tokenizer.ggml.pre"))?;
            let (encoder, plain) = listed.merges(content, words)?;
            let letters = byte_characters();
            let bytes = listed.bytes(|text| text.chars().map(|letter| letters.get(&letter).copied()).collect());
            (encoder, plain, bytes, words.begins)
        };
        let begins = flag(content, "tokenizer.ggml.add_bos_token").unwrap_or(begins);
        // Old `llama` files that name none use these.
        let usual = |id: TokenId| scored.then_some(id);
        let eos = id(content, "tokenizer.ggml.eos_token_id").or(usual(2)).ok_or_else(|| fail("no end token"))?;
        let bos = id(content, "tokenizer.ggml.bos_token_id").or(usual(1));
        let mut ends = vec![eos];
        ends.extend(["eot", "eom"].iter().filter_map(|name| id(content, &format!("tokenizer.ggml.{name}_token_id"))));
        ends.extend(listed.signs().filter(|(_, text, _)| ENDS.contains(text)).map(|(id, ..)| id));
        ends.sort_unstable();
        ends.dedup();
        let control =
            listed.all().filter(|(_, _, kind)| *kind == CONTROL).map(|(_, text, _)| text.to_owned()).collect();
        let reserved = listed.all().filter(|(_, _, kind)| !matches!(*kind, NORMAL | USER_DEFINED | BYTE));
        let reserved = reserved.map(|(id, ..)| id).collect();
        let count = u32::try_from(bytes.len()).map_err(fail)?;
        let trie = TokTrie::from(&TokRxInfo::new(count, eos), &bytes);
        Ok(Self {
            env: Arc::new(VocabEnv { trie, encoder: plain }),
            encoder,
            control,
            ends,
            reserved,
            bos: bos.and_then(|id| Some((id, listed.name(id)?))),
            begins,
            chatml: listed.signs().any(|(_, text, _)| text == "<|im_start|>"),
            eos: listed.name(eos).ok_or_else(|| fail("the end token is not in the vocabulary"))?,
        })
    }

    /// What the grammar needs to know about the tokens.
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

    /// Text of the beginning-of-sequence token, for chat templates.
    pub(crate) fn bos(&self) -> Option<&str> {
        self.bos.as_ref().map(|(_, text)| text.as_str())
    }

    /// Whether the vocabulary has the special tokens of `ChatML`.
    pub(crate) fn chatml(&self) -> bool {
        self.chatml
    }

    /// Text of the token that ends a reply, for chat templates.
    pub(crate) fn eos(&self) -> &str {
        &self.eos
    }

    /// Bytes that the token adds to a reply; none for special tokens.
    pub(crate) fn bytes(&self, token: TokenId) -> &[u8] {
        let bytes = self.trie().token(token);
        if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { &[] } else { bytes }
    }

    /// The token with exactly these bytes.
    pub(crate) fn token(&self, bytes: &[u8]) -> Option<TokenId> {
        self.trie().token_id(bytes)
    }

    /// Splits bytes that the model did not choose into tokens, each as long as possible and none of them special.
    /// `None` when the vocabulary lacks a byte.
    pub(crate) fn split(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        let tokens = self.trie().greedy_tokenize(bytes);
        let covered: usize = tokens.iter().map(|token| self.bytes(*token).len()).sum();
        (covered == bytes.len()).then_some(tokens)
    }

    /// Tokens of a prompt, with special tokens recognized. They begin with the beginning-of-sequence token where the
    /// model expects it, but never with two of them.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        let mut tokens = match &self.encoder {
            Encoder::Pieces(pieces) => pieces.encode(text),
            Encoder::Merges(tokenizer) => {
                let encoding = tokenizer.encode_fast(text, false);
                let failed = |error| Error::Request(format!("the prompt cannot be tokenized: {error}"));
                encoding.map_err(failed)?.get_ids().to_vec()
            }
        };
        if let Some((bos, _)) = self.bos.as_ref().filter(|(bos, _)| self.begins && tokens.first() != Some(bos)) {
            tokens.insert(0, *bos);
        }
        Ok(tokens)
    }

    /// The text with special tokens broken up, so that a message cannot pretend to be a turn of another role.
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
