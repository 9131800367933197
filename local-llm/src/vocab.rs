//! The vocabulary of a model: converts text to tokens and tokens to bytes, and provides the token trie for the grammar.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{AddedToken, Tokenizer};
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::Error;
use crate::gguf::Header;
use crate::pre_tokenizer::PreTokenizerRules;
use crate::spm::{PieceVocab, SPACE_MARK};

/// Token types of the GGUF format.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// The texts of special tokens that end a turn, because the metadata of some files does not list all of these tokens.
const END_TOKENS: [&str; 8] =
    ["<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<EOT>"];

/// The algorithm that converts text to tokens.
enum Encoder {
    /// Byte-level BPE (`gpt2` in GGUF files).
    Bpe(Box<Tokenizer>),
    /// SentencePiece (`llama` in GGUF files).
    SentencePiece(Arc<PieceVocab>),
}

/// The tokenizer and the token trie of a model.
pub(crate) struct Vocab {
    env: TokEnv,
    /// Encodes prompts: recognizes special tokens.
    encoder: Encoder,
    /// The texts of the tokens that structure a conversation, such as the beginning of a turn.
    control_tokens: Vec<String>,
    end_tokens: Vec<TokenId>,
    reserved_tokens: Vec<TokenId>,
    bos: Option<(TokenId, String)>,
    /// Whether a prompt must begin with the beginning-of-sequence token.
    adds_bos: bool,
    has_chatml: bool,
    eos: String,
}

struct VocabEnv {
    trie: TokTrie,
    /// Encodes text without recognizing special tokens.
    encoder: Encoder,
}

impl TokenizerEnv for VocabEnv {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| match &self.encoder {
            Encoder::SentencePiece(pieces) => pieces.encode_ordinary(text),
            Encoder::Bpe(tokenizer) => tokenizer
                .encode_fast(text, false)
                .map(|encoding| encoding.get_ids().to_vec())
                .unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes())),
        })
    }
}

fn tokenizer_error(detail: impl std::fmt::Display) -> Error {
    Error::Format(format!("orch cannot read its tokenizer: {detail}"))
}

/// Checks that this crate supports the tokenizer of a file.
pub(crate) fn check_tokenizer(header: &Header) -> Result<(), Error> {
    match header.metadata_text("tokenizer.ggml.model") {
        Some("llama") => Ok(()),
        Some("gpt2") => find_pre_tokenizer_rules(header.metadata_text("tokenizer.ggml.pre")).map(drop),
        Some(other) => {
            Err(Error::Format(format!("its tokenizer has the type `{other}`, and orch supports `gpt2` and `llama`")))
        }
        None => Err(Error::Format("it has no tokenizer (`tokenizer.ggml.model`)".to_owned())),
    }
}

/// Finds the rules by which a file splits text into words; `name` is the file's `tokenizer.ggml.pre`.
fn find_pre_tokenizer_rules(name: Option<&str>) -> Result<&'static PreTokenizerRules, Error> {
    let Some(name) = name else {
        let message = "it does not name its rules for splitting text into words (`tokenizer.ggml.pre`), because an old \
                       program converted it; use a newer file";
        return Err(Error::Format(message.to_owned()));
    };
    PreTokenizerRules::find(name).ok_or_else(|| {
        let supported = PreTokenizerRules::all_names().join(", ");
        Error::Format(format!("it splits text into words by the rules `{name}`, and orch supports {supported}"))
    })
}

fn read_strings(content: &Content, key: &str) -> Result<Vec<String>, Error> {
    let values = content.metadata.get(key).ok_or_else(|| tokenizer_error(format!("no `{key}`")))?;
    let values = values.to_vec()?;
    values.iter().map(|value| Ok(value.to_string()?.clone())).collect()
}

fn read_integer(value: &Value) -> Option<i64> {
    let signed = value.to_i32().map(i64::from).or_else(|_| value.to_i64());
    signed.or_else(|_| value.to_u32().map(i64::from)).ok()
}

fn read_token_id(content: &Content, key: &str) -> Option<TokenId> {
    content.metadata.get(key).and_then(read_integer).and_then(|id| TokenId::try_from(id).ok())
}

fn read_flag(content: &Content, key: &str) -> Option<bool> {
    content.metadata.get(key).and_then(|value| value.to_bool().ok())
}

/// Maps each character of a byte-level vocabulary to the byte that it represents.
fn bytes_by_character() -> HashMap<char, u8> {
    let mut next_code = 256;
    (0..=u8::MAX)
        .map(|byte| {
            let is_printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let code = if is_printable {
                u32::from(byte)
            } else {
                next_code += 1;
                next_code - 1
            };
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), byte)
        })
        .collect()
}

/// The bytes of a special token, with the prefix that marks special tokens in the trie.
fn special_token_bytes(text: &str) -> Vec<u8> {
    let mut bytes = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The byte that a token such as `<0x0A>` represents.
fn parse_byte_token(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// The tokens that a file lists, with their types.
struct TokenTable {
    tokens: Vec<String>,
    types: Vec<i64>,
}

impl TokenTable {
    fn from_gguf(content: &Content) -> Result<Self, Error> {
        let tokens = read_strings(content, "tokenizer.ggml.tokens")?;
        let types: Vec<i64> = match content.metadata.get("tokenizer.ggml.token_type") {
            Some(types) => types.to_vec()?.iter().map(|value| read_integer(value).unwrap_or(NORMAL)).collect(),
            None => vec![NORMAL; tokens.len()],
        };
        if types.len() != tokens.len() {
            return Err(tokenizer_error(format!("{} tokens have {} types", tokens.len(), types.len())));
        }
        Ok(Self { tokens, types })
    }

    /// The id, text and type of each token.
    fn entries(&self) -> impl Iterator<Item = (TokenId, &str, i64)> {
        (0..).zip(self.tokens.iter().zip(&self.types)).map(|(id, (text, token_type))| (id, text.as_str(), *token_type))
    }

    /// The id, text and type of each special token. The tokenizer recognizes special tokens wherever their texts occur.
    fn special_tokens(&self) -> impl Iterator<Item = (TokenId, &str, i64)> {
        self.entries().filter(|(_, _, token_type)| matches!(*token_type, CONTROL | USER_DEFINED))
    }

    fn token_text(&self, id: TokenId) -> Option<String> {
        self.tokens.get(id as usize).cloned()
    }

    /// Creates two byte-level BPE encoders: one recognizes special tokens, the other does not.
    fn bpe_encoders(&self, content: &Content, rules: &PreTokenizerRules) -> Result<(Encoder, Encoder), Error> {
        let merges = read_strings(content, "tokenizer.ggml.merges")?
            .into_iter()
            .filter_map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
            .collect();
        let ids = self.tokens.iter().cloned().zip(0..).collect();
        let model = BPE::builder()
            .vocab_and_merges::<tokenizers::models::bpe::Vocab>(ids, merges)
            .ignore_merges(rules.ignore_merges)
            .build()
            .map_err(tokenizer_error)?;
        let mut tokenizer = Tokenizer::new(model);
        if rules.normalizes_nfc {
            tokenizer.with_normalizer(Some(NFC)).map_err(tokenizer_error)?;
        }
        tokenizer.with_pre_tokenizer(Some(rules.pre_tokenizer().map_err(tokenizer_error)?));
        let plain_tokenizer = tokenizer.clone();
        // If one special token is a prefix of another, the tokenizer prefers the longer one.
        let special_tokens = self.special_tokens().map(|(_, text, _)| AddedToken::from(text.to_owned(), true));
        tokenizer.add_special_tokens(special_tokens).map_err(tokenizer_error)?;
        Ok((Encoder::Bpe(Box::new(tokenizer)), Encoder::Bpe(Box::new(plain_tokenizer))))
    }

    /// Returns the same SentencePiece encoder twice, because it can encode with and without special tokens.
    fn sentence_piece_encoders(&self, content: &Content) -> Result<(Encoder, Encoder), Error> {
        let scores = content
            .metadata
            .get("tokenizer.ggml.scores")
            .ok_or_else(|| tokenizer_error("no `tokenizer.ggml.scores`"))?;
        let scores = scores.to_vec()?.iter().map(Value::to_f32).collect::<Result<Vec<f32>, _>>()?;
        let mut byte_tokens = vec![None; 256];
        let mut pieces = HashMap::new();
        for ((id, text, token_type), score) in self.entries().zip(scores) {
            match (token_type, parse_byte_token(text)) {
                (BYTE, Some(byte)) => {
                    if let Some(entry) = byte_tokens.get_mut(usize::from(byte)) {
                        *entry = Some(id);
                    }
                }
                (NORMAL | USER_DEFINED, _) => {
                    pieces.insert(text.to_owned(), (id, score));
                }
                _ => {}
            }
        }
        let unknown = read_token_id(content, "tokenizer.ggml.unknown_token_id");
        let special_tokens = self.special_tokens().map(|(id, text, _)| (text.to_owned(), id)).collect();
        let leading_space = read_flag(content, "tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let pieces = Arc::new(PieceVocab::new(pieces, byte_tokens, unknown, special_tokens, leading_space));
        Ok((Encoder::SentencePiece(Arc::clone(&pieces)), Encoder::SentencePiece(pieces)))
    }

    /// The bytes of each token; `decode_normal` converts the text of a normal token to bytes.
    fn token_bytes(&self, decode_normal: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let bytes = |(_, text, token_type): (TokenId, &str, i64)| match token_type {
            NORMAL => decode_normal(text).unwrap_or_else(|| special_token_bytes(text)),
            USER_DEFINED => text.as_bytes().to_vec(),
            BYTE => parse_byte_token(text).map_or_else(|| special_token_bytes(text), |byte| vec![byte]),
            _ => special_token_bytes(text),
        };
        self.entries().map(bytes).collect()
    }
}

impl Vocab {
    /// Reads the vocabulary from the metadata of a GGUF file.
    pub(crate) fn from_gguf(content: &Content) -> Result<Self, Error> {
        let table = TokenTable::from_gguf(content)?;
        let metadata_text =
            |key: &str| content.metadata.get(key).and_then(|value| value.to_string().ok()).map(String::as_str);
        let is_sentence_piece = metadata_text("tokenizer.ggml.model") == Some("llama");
        let (encoder, plain_encoder, bytes, default_adds_bos) = if is_sentence_piece {
            let (encoder, plain_encoder) = table.sentence_piece_encoders(content)?;
            let bytes = table.token_bytes(|text| Some(text.replace(SPACE_MARK, " ").into_bytes()));
            (encoder, plain_encoder, bytes, true)
        } else {
            let rules = find_pre_tokenizer_rules(metadata_text("tokenizer.ggml.pre"))?;
            let (encoder, plain_encoder) = table.bpe_encoders(content, rules)?;
            let byte_map = bytes_by_character();
            let bytes = table.token_bytes(|text| text.chars().map(|c| byte_map.get(&c).copied()).collect());
            (encoder, plain_encoder, bytes, rules.adds_bos)
        };
        let adds_bos = read_flag(content, "tokenizer.ggml.add_bos_token").unwrap_or(default_adds_bos);
        // Old `llama` files do not list these ids.
        let default_id = |id: TokenId| is_sentence_piece.then_some(id);
        let eos = read_token_id(content, "tokenizer.ggml.eos_token_id")
            .or(default_id(2))
            .ok_or_else(|| tokenizer_error("no end token"))?;
        let bos = read_token_id(content, "tokenizer.ggml.bos_token_id").or(default_id(1));
        let mut end_tokens = vec![eos];
        end_tokens.extend(
            ["eot", "eom"].iter().filter_map(|name| read_token_id(content, &format!("tokenizer.ggml.{name}_token_id"))),
        );
        end_tokens.extend(table.special_tokens().filter(|(_, text, _)| END_TOKENS.contains(text)).map(|(id, ..)| id));
        end_tokens.sort_unstable();
        end_tokens.dedup();
        let control_tokens = table
            .entries()
            .filter(|(_, _, token_type)| *token_type == CONTROL)
            .map(|(_, text, _)| text.to_owned())
            .collect();
        let reserved_tokens =
            table.entries().filter(|(_, _, token_type)| !matches!(*token_type, NORMAL | USER_DEFINED | BYTE));
        let reserved_tokens = reserved_tokens.map(|(id, ..)| id).collect();
        let count = u32::try_from(bytes.len()).map_err(tokenizer_error)?;
        let trie = TokTrie::from(&TokRxInfo::new(count, eos), &bytes);
        Ok(Self {
            env: Arc::new(VocabEnv { trie, encoder: plain_encoder }),
            encoder,
            control_tokens,
            end_tokens,
            reserved_tokens,
            bos: bos.and_then(|id| Some((id, table.token_text(id)?))),
            adds_bos,
            has_chatml: table.special_tokens().any(|(_, text, _)| text == "<|im_start|>"),
            eos: table.token_text(eos).ok_or_else(|| tokenizer_error("the end token is not in the vocabulary"))?,
        })
    }

    /// The token environment for the grammar.
    pub(crate) fn env(&self) -> &TokEnv {
        &self.env
    }

    fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }

    /// The number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.trie().vocab_size()
    }

    /// The tokens that end a reply.
    pub(crate) fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// The tokens that are never part of a reply's text.
    pub(crate) fn reserved_tokens(&self) -> &[TokenId] {
        &self.reserved_tokens
    }

    /// The text of the beginning-of-sequence token, for chat templates.
    pub(crate) fn bos_text(&self) -> Option<&str> {
        self.bos.as_ref().map(|(_, text)| text.as_str())
    }

    /// Whether the vocabulary has the special tokens of `ChatML`.
    pub(crate) fn has_chatml(&self) -> bool {
        self.has_chatml
    }

    /// The text of the end-of-sequence token, for chat templates.
    pub(crate) fn eos_text(&self) -> &str {
        &self.eos
    }

    /// The bytes that the token adds to a reply; empty for special tokens.
    pub(crate) fn token_bytes(&self, token: TokenId) -> &[u8] {
        let bytes = self.trie().token(token);
        if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { &[] } else { bytes }
    }

    /// The token with exactly these bytes.
    pub(crate) fn token_for_bytes(&self, bytes: &[u8]) -> Option<TokenId> {
        self.trie().token_id(bytes)
    }

    /// Splits bytes into ordinary tokens greedily: each token is as long as possible. Returns `None` if the vocabulary
    /// has no token for a byte.
    pub(crate) fn tokenize_greedily(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        let tokens = self.trie().greedy_tokenize(bytes);
        let token_bytes_len: usize = tokens.iter().map(|token| self.token_bytes(*token).len()).sum();
        (token_bytes_len == bytes.len()).then_some(tokens)
    }

    /// Encodes a prompt, and recognizes special tokens. Adds the beginning-of-sequence token if the model expects it
    /// and the prompt does not start with it.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        let mut tokens = match &self.encoder {
            Encoder::SentencePiece(pieces) => pieces.encode(text),
            Encoder::Bpe(tokenizer) => {
                let encoding = tokenizer.encode_fast(text, false);
                let encode_error = |error| Error::InvalidRequest(format!("orch cannot tokenize the prompt: {error}"));
                encoding.map_err(encode_error)?.get_ids().to_vec()
            }
        };
        if let Some((bos, _)) = self.bos.as_ref().filter(|(bos, _)| self.adds_bos && tokens.first() != Some(bos)) {
            tokens.insert(0, *bos);
        }
        Ok(tokens)
    }

    /// Inserts a space into each control token in a text, so that a message cannot imitate a turn of another role.
    pub(crate) fn escape_special_tokens(&self, text: &str) -> String {
        self.control_tokens.iter().fold(text.to_owned(), |text, token| {
            let mut chars = token.chars();
            match chars.next() {
                Some(first) if text.contains(token) => text.replace(token, &format!("{first} {}", chars.as_str())),
                _ => text,
            }
        })
    }
}
