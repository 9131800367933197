//! Writes small GGUF files with random weights for tests, in several architectures, vocabularies and quantizations.

#[path = "gguf_weights.rs"]
mod gguf_weights;

use std::fs;
use std::path::Path;

use gguf_weights::encode_weights;

/// A metadata value of the header.
#[derive(Clone)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<i32>),
    Floats(Vec<f32>),
}

/// The type of the weights in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    F32,
    F16,
    Q8,
    /// A type that this crate does not support: `IQ4_NL`.
    Unsupported,
}

/// A builder for a GGUF file.
pub(crate) struct Gguf {
    values: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, TensorType, Vec<u8>)>,
    seed: u64,
}

/// The dimensions of a model.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) feed_forward: usize,
    pub(crate) layers: usize,
}

/// A small model: two layers, four query heads and two key heads.
pub(crate) const SMALL: Sizes = Sizes { width: 64, heads: 4, kv_heads: 2, head_size: 16, feed_forward: 96, layers: 2 };

/// The `ChatML` template, which most files contain.
pub(crate) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The token types of the GGUF format.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

fn byte_character(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_printable(byte) {
        return char::from(byte);
    }
    let index = (0..byte).filter(|byte| !is_printable(*byte)).count();
    char::from_u32(256 + u32::try_from(index).unwrap()).unwrap()
}

/// The BPE merges, in the characters of a byte-level vocabulary; each merge defines a token.
const MERGES: [&str; 43] = [
    "Ġ t",
    "Ġt h",
    "Ġth e",
    "i n",
    "e r",
    "a n",
    "Ġ a",
    "o n",
    "r e",
    "Ġ s",
    "Ġ w",
    "o r",
    "e n",
    "Ġ c",
    "i s",
    "i t",
    "Ġ o",
    "e s",
    "h e",
    "l l",
    "Ġ p",
    "o u",
    "in g",
    "e d",
    "an d",
    "Ġ f",
    "a t",
    "Ġ 1",
    "1 2",
    "12 3",
    "Ġ ( ",
    "Ċ Ċ",
    "Ġ Ġ",
    "ĠĠ ĠĠ",
    "! !",
    "H e",
    "Ġ W",
    "or l",
    "Ã ¤",
    "l o",
    "` `",
    "`` `",
    "``` Ċ",
];

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn write_list<T>(bytes: &mut Vec<u8>, item_type: u32, items: &[T], mut write_item: impl FnMut(&mut Vec<u8>, &T)) {
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(item_type.to_le_bytes());
    bytes.extend((items.len() as u64).to_le_bytes());
    for item in items {
        write_item(bytes, item);
    }
}

impl Value {
    fn write(&self, bytes: &mut Vec<u8>) {
        let write_type = |bytes: &mut Vec<u8>, value_type: u32| bytes.extend(value_type.to_le_bytes());
        match self {
            Self::U32(number) => {
                write_type(bytes, 4);
                bytes.extend(number.to_le_bytes());
            }
            Self::F32(number) => {
                write_type(bytes, 6);
                bytes.extend(number.to_le_bytes());
            }
            Self::Flag(flag) => {
                write_type(bytes, 7);
                bytes.push(u8::from(*flag));
            }
            Self::Text(value) => {
                write_type(bytes, 8);
                write_text(bytes, value);
            }
            Self::Texts(items) => write_list(bytes, 8, items, |bytes, item| write_text(bytes, item)),
            Self::Numbers(items) => write_list(bytes, 5, items, |bytes, item| bytes.extend(item.to_le_bytes())),
            Self::Floats(items) => write_list(bytes, 6, items, |bytes, item| bytes.extend(item.to_le_bytes())),
        }
    }
}

impl Gguf {
    /// Creates a file without tokens and weights. Each seed gives different weights.
    pub(crate) fn new(architecture: &str, seed: u64) -> Self {
        let values = vec![
            ("general.architecture".to_owned(), Value::Text(architecture.to_owned())),
            ("general.name".to_owned(), Value::Text(format!("Random {architecture}"))),
        ];
        Self { values, tensors: Vec::new(), seed }
    }

    /// Creates a complete model: with a byte-level vocabulary, `ChatML`, these sizes, and matrices of this type.
    pub(crate) fn model(architecture: &str, sizes: Sizes, matrix_type: TensorType, seed: u64) -> Self {
        let pre = if architecture == "llama" { "smollm" } else { "qwen2" };
        Self::new(architecture, seed)
            .with_bpe_vocab(pre)
            .with("tokenizer.chat_template", CHATML.into())
            .with_weights(sizes, matrix_type)
    }

    /// Sets a metadata value; replaces an earlier value of the same key.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.values.retain(|(name, _)| name != key);
        self.values.push((key.to_owned(), value));
        self
    }

    /// Removes a metadata value.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.values.retain(|(name, _)| name != key);
        self
    }

    fn architecture(&self) -> String {
        let Some((_, Value::Text(name))) = self.values.first() else { unreachable!() };
        name.clone()
    }

    fn with_tokens(self, model: &str, tokens: Vec<(String, i32)>) -> Self {
        let token_id =
            |wanted: &str| u32::try_from(tokens.iter().position(|(text, _)| text == wanted).unwrap()).unwrap();
        let end = token_id("<|im_end|>");
        let (texts, types) = tokens.into_iter().unzip();
        self.with("tokenizer.ggml.model", model.into())
            .with("tokenizer.ggml.tokens", Value::Texts(texts))
            .with("tokenizer.ggml.token_type", Value::Numbers(types))
            .with("tokenizer.ggml.eos_token_id", Value::U32(end))
    }

    /// Adds a byte-level vocabulary; `pre` names the rules for splitting text into words.
    pub(crate) fn with_bpe_vocab(self, pre: &str) -> Self {
        let merges: Vec<&str> = MERGES.into_iter().filter(|merge| !merge.ends_with(' ')).collect();
        let mut tokens: Vec<(String, i32)> = (0..=255).map(|byte| (byte_character(byte).to_string(), NORMAL)).collect();
        tokens.extend(merges.iter().map(|merge| (merge.replace(' ', ""), NORMAL)));
        tokens.extend(["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(|text| (text.to_owned(), CONTROL)));
        let bos = u32::try_from(tokens.len() - 3).unwrap();
        self.with_tokens("gpt2", tokens)
            .with("tokenizer.ggml.pre", pre.into())
            .with("tokenizer.ggml.merges", Value::Texts(merges.into_iter().map(str::to_owned).collect()))
            .with("tokenizer.ggml.bos_token_id", Value::U32(bos))
            .with("tokenizer.ggml.add_bos_token", Value::Flag(false))
    }

    /// Adds merges, and the tokens that they define, to a byte-level vocabulary.
    pub(crate) fn with_merges(mut self, merges: &[&str]) -> Self {
        for (key, value) in &mut self.values {
            match (key.as_str(), value) {
                ("tokenizer.ggml.tokens", Value::Texts(list)) => {
                    list.extend(merges.iter().map(|merge| merge.replace(' ', "")));
                }
                ("tokenizer.ggml.token_type", Value::Numbers(list)) => list.extend(merges.iter().map(|_| NORMAL)),
                ("tokenizer.ggml.merges", Value::Texts(list)) => {
                    list.extend(merges.iter().map(|merge| (*merge).to_owned()));
                }
                _ => {}
            }
        }
        self
    }

    /// Changes the type of a token to user-defined: in some files, the end-of-turn token has this type.
    pub(crate) fn with_user_defined_token(mut self, text: &str) -> Self {
        let index = self.values.iter().find_map(|(key, value)| match value {
            Value::Texts(list) if key == "tokenizer.ggml.tokens" => list.iter().position(|token| token == text),
            _ => None,
        });
        for (key, value) in &mut self.values {
            if let ("tokenizer.ggml.token_type", Value::Numbers(list)) = (key.as_str(), value) {
                list[index.unwrap()] = USER_DEFINED;
            }
        }
        self
    }

    /// Adds a SentencePiece vocabulary.
    pub(crate) fn with_sentencepiece_vocab(self) -> Self {
        let mut tokens = vec![("<unk>".to_owned(), UNKNOWN), ("<s>".to_owned(), CONTROL), ("</s>".to_owned(), CONTROL)];
        tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
        let words = ["▁t", "he", "▁the", "in", "ing", "an", "and", "▁a", "er", "on", "▁▁", "▁▁▁▁", "ll", "ell", "He"];
        tokens.extend(words.map(|word| (word.to_owned(), NORMAL)));
        let characters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?:'\"()-ä";
        tokens.extend(characters.chars().map(|c| (c.to_string(), NORMAL)));
        tokens.extend(["<|im_start|>", "<|im_end|>"].map(|text| (text.to_owned(), CONTROL)));
        #[allow(clippy::cast_precision_loss)]
        let scores = (0..tokens.len()).map(|id| if id < 259 { 0.0 } else { -((id - 258) as f32) }).collect();
        self.with_tokens("llama", tokens)
            .with("tokenizer.ggml.scores", Value::Floats(scores))
            .with("tokenizer.ggml.bos_token_id", Value::U32(1))
            .with("tokenizer.ggml.unknown_token_id", Value::U32(0))
    }

    fn next_random(&mut self) -> f32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[allow(clippy::cast_precision_loss)]
        let fraction = (self.seed >> 40) as f32 / 16_777_216.0;
        fraction * 2.0 - 1.0
    }

    /// Adds a tensor with random weights around a mean. `sizes` are in the order of the format, innermost dimension
    /// first.
    fn add_tensor(&mut self, name: &str, sizes: &[usize], tensor_type: TensorType, (mean, spread): (f32, f32)) {
        let weights: Vec<f32> = (0..sizes.iter().product()).map(|_| mean + spread * self.next_random()).collect();
        let sizes = sizes.iter().map(|size| *size as u64).collect();
        self.tensors.push((name.to_owned(), sizes, tensor_type, encode_weights(&weights, tensor_type)));
    }

    /// Adds every tensor of the architecture with random weights, and the metadata values for these sizes.
    pub(crate) fn with_weights(mut self, sizes: Sizes, matrix_type: TensorType) -> Self {
        let architecture = self.architecture();
        let Sizes { width, heads, kv_heads, head_size, feed_forward, layers } = sizes;
        let count = |count: usize| Value::U32(u32::try_from(count).unwrap());
        for (key, value) in [
            ("block_count", count(layers)),
            ("context_length", count(2048)),
            ("embedding_length", count(width)),
            ("feed_forward_length", count(feed_forward)),
            ("attention.head_count", count(heads)),
            ("attention.head_count_kv", count(kv_heads)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("rope.freq_base", Value::F32(10_000.0)),
        ] {
            self = self.with(&format!("{architecture}.{key}"), value);
        }
        if heads * head_size != width {
            for key in ["attention.key_length", "attention.value_length"] {
                self = self.with(&format!("{architecture}.{key}"), count(head_size));
            }
            self = self.with(&format!("{architecture}.rope.dimension_count"), count(head_size));
        } else if architecture == "llama" {
            self = self.with("llama.rope.dimension_count", count(head_size));
        }
        let token_count = self.values.iter().find_map(|(key, value)| match value {
            Value::Texts(list) if key == "tokenizer.ggml.tokens" => Some(list.len()),
            _ => None,
        });
        let token_count = token_count.expect("the vocabulary must be added before the weights");
        let (norm, matrix) = ((1.0, 0.2), (0.0, 0.25));
        self.add_tensor("token_embd.weight", &[width, token_count], matrix_type, (0.0, 1.0));
        for layer in 0..layers {
            let tensor_name = |name: &str| format!("blk.{layer}.{name}");
            self.add_tensor(&tensor_name("attn_norm.weight"), &[width], TensorType::F32, norm);
            self.add_tensor(&tensor_name("attn_q.weight"), &[width, heads * head_size], matrix_type, matrix);
            self.add_tensor(&tensor_name("attn_k.weight"), &[width, kv_heads * head_size], matrix_type, matrix);
            self.add_tensor(&tensor_name("attn_v.weight"), &[width, kv_heads * head_size], matrix_type, matrix);
            if architecture == "qwen2" {
                self.add_tensor(&tensor_name("attn_q.bias"), &[heads * head_size], TensorType::F32, matrix);
                self.add_tensor(&tensor_name("attn_k.bias"), &[kv_heads * head_size], TensorType::F32, matrix);
                self.add_tensor(&tensor_name("attn_v.bias"), &[kv_heads * head_size], TensorType::F32, matrix);
            }
            if architecture == "qwen3" {
                self.add_tensor(&tensor_name("attn_q_norm.weight"), &[head_size], TensorType::F32, norm);
                self.add_tensor(&tensor_name("attn_k_norm.weight"), &[head_size], TensorType::F32, norm);
            }
            self.add_tensor(&tensor_name("attn_output.weight"), &[heads * head_size, width], matrix_type, matrix);
            self.add_tensor(&tensor_name("ffn_norm.weight"), &[width], TensorType::F32, norm);
            self.add_tensor(&tensor_name("ffn_gate.weight"), &[width, feed_forward], matrix_type, matrix);
            self.add_tensor(&tensor_name("ffn_up.weight"), &[width, feed_forward], matrix_type, matrix);
            self.add_tensor(&tensor_name("ffn_down.weight"), &[feed_forward, width], matrix_type, matrix);
        }
        self.add_tensor("output_norm.weight", &[width], TensorType::F32, norm);
        self.add_tensor("output.weight", &[width, token_count], matrix_type, (0.0, 0.5));
        self
    }

    /// Adds the factors by which Llama 3 divides the frequencies of its rotary embedding.
    pub(crate) fn with_rope_factors(mut self, head_size: usize) -> Self {
        self.add_tensor("rope_freqs.weight", &[head_size / 2], TensorType::F32, (3.0, 2.0));
        self
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            write_text(&mut bytes, key);
            value.write(&mut bytes);
        }
        let mut offset = 0u64;
        for (name, sizes, tensor_type, data) in &self.tensors {
            write_text(&mut bytes, name);
            bytes.extend(u32::try_from(sizes.len()).unwrap().to_le_bytes());
            for size in sizes {
                bytes.extend(size.to_le_bytes());
            }
            let type_number: u32 = match tensor_type {
                TensorType::F32 => 0,
                TensorType::F16 => 1,
                TensorType::Q8 => 8,
                TensorType::Unsupported => 20,
            };
            bytes.extend(type_number.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += (data.len() as u64).next_multiple_of(32);
        }
        for (.., data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(data);
        }
        bytes
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
