//! Writes small GGUF files with random weights: every architecture, vocabulary and quantization that a test wants.

use std::fs;
use std::path::Path;

/// A value of the header.
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

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Q8,
    /// Four bits, of which this crate knows nothing: `IQ4_NL`.
    Unknown,
}

/// A file that is being made.
pub(crate) struct Gguf {
    values: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, Kind, Vec<u8>)>,
    seed: u64,
}

/// Sizes of a model.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) groups: usize,
    pub(crate) head: usize,
    pub(crate) feed: usize,
    pub(crate) layers: usize,
}

/// Two layers, four heads that share two of keys.
pub(crate) const SMALL: Sizes = Sizes { width: 64, heads: 4, groups: 2, head: 16, feed: 96, layers: 2 };

/// The form of a conversation that most files have.
pub(crate) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Types of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

fn letter(byte: u8) -> char {
    let shown = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if shown(byte) {
        return char::from(byte);
    }
    let hidden = (0..byte).filter(|byte| !shown(*byte)).count();
    char::from_u32(256 + u32::try_from(hidden).unwrap()).unwrap()
}

/// Merges of common words, in the letters of a byte-level vocabulary; each makes a token.
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

fn half(value: f32) -> u16 {
    // Weights of these files are normal numbers between -8 and 8.
    let bits = value.to_bits();
    let exponent = i32::try_from((bits >> 23) & 0xff).unwrap() - 112;
    let sign = (bits >> 16) & 0x8000;
    if exponent <= 0 {
        return u16::try_from(sign).unwrap();
    }
    let rounded = ((u32::try_from(exponent).unwrap()) << 10 | ((bits >> 13) & 0x3ff)) + ((bits >> 12) & 1);
    u16::try_from(sign | rounded).unwrap()
}

fn stored(weights: &[f32], kind: Kind) -> Vec<u8> {
    match kind {
        Kind::F32 => weights.iter().flat_map(|weight| weight.to_le_bytes()).collect(),
        Kind::F16 => weights.iter().flat_map(|weight| half(*weight).to_le_bytes()).collect(),
        Kind::Q8 => weights.chunks(32).flat_map(block).collect(),
        Kind::Unknown => weights.chunks(32).flat_map(|_| [0; 18]).collect(),
    }
}

fn block(weights: &[f32]) -> Vec<u8> {
    let most = weights.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
    let scale = most / 127.0;
    let mut bytes = half(scale).to_le_bytes().to_vec();
    #[allow(clippy::cast_possible_truncation)]
    let steps = weights.iter().map(|weight| if scale > 0.0 { (weight / scale).round() as i8 } else { 0 });
    bytes.extend(steps.map(|step| step.to_le_bytes()[0]));
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn list<T>(bytes: &mut Vec<u8>, kind: u32, items: &[T], mut one: impl FnMut(&mut Vec<u8>, &T)) {
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend((items.len() as u64).to_le_bytes());
    for item in items {
        one(bytes, item);
    }
}

impl Value {
    fn write(&self, bytes: &mut Vec<u8>) {
        let kind = |bytes: &mut Vec<u8>, kind: u32| bytes.extend(kind.to_le_bytes());
        match self {
            Self::U32(number) => {
                kind(bytes, 4);
                bytes.extend(number.to_le_bytes());
            }
            Self::F32(number) => {
                kind(bytes, 6);
                bytes.extend(number.to_le_bytes());
            }
            Self::Flag(flag) => {
                kind(bytes, 7);
                bytes.push(u8::from(*flag));
            }
            Self::Text(words) => {
                kind(bytes, 8);
                text(bytes, words);
            }
            Self::Texts(items) => list(bytes, 8, items, |bytes, item| text(bytes, item)),
            Self::Numbers(items) => list(bytes, 5, items, |bytes, item| bytes.extend(item.to_le_bytes())),
            Self::Floats(items) => list(bytes, 6, items, |bytes, item| bytes.extend(item.to_le_bytes())),
        }
    }
}

impl Gguf {
    /// A file of an architecture, without tokens and weights; another seed gives other weights.
    pub(crate) fn new(architecture: &str, seed: u64) -> Self {
        let values = vec![
            ("general.architecture".to_owned(), Value::Text(architecture.to_owned())),
            ("general.name".to_owned(), Value::Text(format!("Random {architecture}"))),
        ];
        Self { values, tensors: Vec::new(), seed }
    }

    /// A whole model: byte-level vocabulary, `ChatML`, these sizes, matrices of this kind.
    pub(crate) fn model(architecture: &str, sizes: Sizes, kind: Kind, seed: u64) -> Self {
        let pre = if architecture == "llama" { "smollm" } else { "qwen2" };
        Self::new(architecture, seed).merges(pre).with("tokenizer.chat_template", CHATML.into()).weights(sizes, kind)
    }

    /// The same with another value; one of the same name goes.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.values.retain(|(known, _)| known != key);
        self.values.push((key.to_owned(), value));
        self
    }

    /// The same without a value.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.values.retain(|(known, _)| known != key);
        self
    }

    fn architecture(&self) -> String {
        let Some((_, Value::Text(name))) = self.values.first() else { unreachable!() };
        name.clone()
    }

    fn tokens(self, model: &str, listed: Vec<(String, i32)>) -> Self {
        let id = |wanted: &str| u32::try_from(listed.iter().position(|(text, _)| text == wanted).unwrap()).unwrap();
        let end = id("<|im_end|>");
        let (texts, types) = listed.into_iter().unzip();
        self.with("tokenizer.ggml.model", model.into())
            .with("tokenizer.ggml.tokens", Value::Texts(texts))
            .with("tokenizer.ggml.token_type", Value::Numbers(types))
            .with("tokenizer.ggml.eos_token_id", Value::U32(end))
    }

    /// A byte-level vocabulary whose text is cut in this way.
    pub(crate) fn merges(self, pre: &str) -> Self {
        let merges: Vec<&str> = MERGES.into_iter().filter(|merge| !merge.ends_with(' ')).collect();
        let mut listed: Vec<(String, i32)> = (0..=255).map(|byte| (letter(byte).to_string(), NORMAL)).collect();
        listed.extend(merges.iter().map(|merge| (merge.replace(' ', ""), NORMAL)));
        listed.extend(["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(|sign| (sign.to_owned(), CONTROL)));
        let first = u32::try_from(listed.len() - 3).unwrap();
        self.tokens("gpt2", listed)
            .with("tokenizer.ggml.pre", pre.into())
            .with("tokenizer.ggml.merges", Value::Texts(merges.into_iter().map(str::to_owned).collect()))
            .with("tokenizer.ggml.bos_token_id", Value::U32(first))
            .with("tokenizer.ggml.add_bos_token", Value::Flag(false))
    }

    /// A vocabulary of scored pieces.
    pub(crate) fn pieces(self) -> Self {
        let mut listed = vec![("<unk>".to_owned(), UNKNOWN), ("<s>".to_owned(), CONTROL), ("</s>".to_owned(), CONTROL)];
        listed.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
        let words = ["▁t", "he", "▁the", "in", "ing", "an", "and", "▁a", "er", "on", "▁▁", "▁▁▁▁", "ll", "ell", "He"];
        listed.extend(words.map(|word| (word.to_owned(), NORMAL)));
        let letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?:'\"()-ä";
        listed.extend(letters.chars().map(|letter| (letter.to_string(), NORMAL)));
        listed.extend(["<|im_start|>", "<|im_end|>"].map(|sign| (sign.to_owned(), CONTROL)));
        #[allow(clippy::cast_precision_loss)]
        let scores = (0..listed.len()).map(|at| if at < 259 { 0.0 } else { -((at - 258) as f32) }).collect();
        self.tokens("llama", listed)
            .with("tokenizer.ggml.scores", Value::Floats(scores))
            .with("tokenizer.ggml.bos_token_id", Value::U32(1))
            .with("tokenizer.ggml.unknown_token_id", Value::U32(0))
    }

    fn random(&mut self) -> f32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[allow(clippy::cast_precision_loss)]
        let part = (self.seed >> 40) as f32 / 16_777_216.0;
        part * 2.0 - 1.0
    }

    /// A tensor with weights around a middle; its sizes are those of the format, the innermost first.
    fn tensor(&mut self, name: &str, sizes: &[usize], kind: Kind, (middle, spread): (f32, f32)) {
        let weights: Vec<f32> = (0..sizes.iter().product()).map(|_| middle + spread * self.random()).collect();
        let sizes = sizes.iter().map(|size| *size as u64).collect();
        self.tensors.push((name.to_owned(), sizes, kind, stored(&weights, kind)));
    }

    /// Random weights of every tensor that the architecture has, and the values that tell its sizes.
    pub(crate) fn weights(mut self, sizes: Sizes, kind: Kind) -> Self {
        let architecture = self.architecture();
        let Sizes { width, heads, groups, head, feed, layers } = sizes;
        let count = |count: usize| Value::U32(u32::try_from(count).unwrap());
        for (part, value) in [
            ("block_count", count(layers)),
            ("context_length", count(2048)),
            ("embedding_length", count(width)),
            ("feed_forward_length", count(feed)),
            ("attention.head_count", count(heads)),
            ("attention.head_count_kv", count(groups)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("rope.freq_base", Value::F32(10_000.0)),
        ] {
            self = self.with(&format!("{architecture}.{part}"), value);
        }
        if heads * head != width {
            for part in ["attention.key_length", "attention.value_length"] {
                self = self.with(&format!("{architecture}.{part}"), count(head));
            }
            self = self.with(&format!("{architecture}.rope.dimension_count"), count(head));
        } else if architecture == "llama" {
            self = self.with("llama.rope.dimension_count", count(head));
        }
        let tokens = self.values.iter().find_map(|(key, value)| match value {
            Value::Texts(list) if key == "tokenizer.ggml.tokens" => Some(list.len()),
            _ => None,
        });
        let tokens = tokens.expect("tokens come before weights");
        let (norm, matrix) = ((1.0, 0.2), (0.0, 0.25));
        self.tensor("token_embd.weight", &[width, tokens], kind, (0.0, 1.0));
        for layer in 0..layers {
            let at = |part: &str| format!("blk.{layer}.{part}");
            self.tensor(&at("attn_norm.weight"), &[width], Kind::F32, norm);
            self.tensor(&at("attn_q.weight"), &[width, heads * head], kind, matrix);
            self.tensor(&at("attn_k.weight"), &[width, groups * head], kind, matrix);
            self.tensor(&at("attn_v.weight"), &[width, groups * head], kind, matrix);
            if architecture == "qwen2" {
                self.tensor(&at("attn_q.bias"), &[heads * head], Kind::F32, matrix);
                self.tensor(&at("attn_k.bias"), &[groups * head], Kind::F32, matrix);
                self.tensor(&at("attn_v.bias"), &[groups * head], Kind::F32, matrix);
            }
            if architecture == "qwen3" {
                self.tensor(&at("attn_q_norm.weight"), &[head], Kind::F32, norm);
                self.tensor(&at("attn_k_norm.weight"), &[head], Kind::F32, norm);
            }
            self.tensor(&at("attn_output.weight"), &[heads * head, width], kind, matrix);
            self.tensor(&at("ffn_norm.weight"), &[width], Kind::F32, norm);
            self.tensor(&at("ffn_gate.weight"), &[width, feed], kind, matrix);
            self.tensor(&at("ffn_up.weight"), &[width, feed], kind, matrix);
            self.tensor(&at("ffn_down.weight"), &[feed, width], kind, matrix);
        }
        self.tensor("output_norm.weight", &[width], Kind::F32, norm);
        self.tensor("output.weight", &[width, tokens], kind, (0.0, 0.5));
        self
    }

    /// The factors by which Llama 3 divides the frequencies of its rotations.
    pub(crate) fn frequencies(mut self, head: usize) -> Self {
        self.tensor("rope_freqs.weight", &[head / 2], Kind::F32, (3.0, 2.0));
        self
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            text(&mut bytes, key);
            value.write(&mut bytes);
        }
        let mut offset = 0u64;
        for (name, sizes, kind, data) in &self.tensors {
            text(&mut bytes, name);
            bytes.extend(u32::try_from(sizes.len()).unwrap().to_le_bytes());
            for size in sizes {
                bytes.extend(size.to_le_bytes());
            }
            let number: u32 = match kind {
                Kind::F32 => 0,
                Kind::F16 => 1,
                Kind::Q8 => 8,
                Kind::Unknown => 20,
            };
            bytes.extend(number.to_le_bytes());
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
