//! Reads the header of a GGUF file: what the file holds, and whether this crate can run it, without reading a weight.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use crate::Error;

/// Architectures that this crate can run.
pub const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// The longest text in a header, in bytes; a file that claims a longer one is damaged.
const LONGEST_TEXT: u64 = 1 << 26;

/// The most entries or tensors in a header; a file that claims more is damaged.
const MOST: u64 = 1 << 20;

/// The types of tensors, by number: name, weights per block, bytes per block, whether this crate computes with it.
const TYPES: [(u32, &str, u64, u64, bool); 31] = [
    (0, "F32", 1, 4, true),
    (1, "F16", 1, 2, true),
    (2, "Q4_0", 32, 18, true),
    (3, "Q4_1", 32, 20, true),
    (6, "Q5_0", 32, 22, true),
    (7, "Q5_1", 32, 24, true),
    (8, "Q8_0", 32, 34, true),
    (9, "Q8_1", 32, 36, true),
    (10, "Q2_K", 256, 84, true),
    (11, "Q3_K", 256, 110, true),
    (12, "Q4_K", 256, 144, true),
    (13, "Q5_K", 256, 176, true),
    (14, "Q6_K", 256, 210, true),
    (15, "Q8_K", 256, 292, true),
    (16, "IQ2_XXS", 256, 66, false),
    (17, "IQ2_XS", 256, 74, false),
    (18, "IQ3_XXS", 256, 98, false),
    (19, "IQ1_S", 256, 50, false),
    (20, "IQ4_NL", 32, 18, false),
    (21, "IQ3_S", 256, 110, false),
    (22, "IQ2_S", 256, 82, false),
    (23, "IQ4_XS", 256, 136, false),
    (24, "I8", 1, 1, false),
    (25, "I16", 1, 2, false),
    (26, "I32", 1, 4, false),
    (27, "I64", 1, 8, false),
    (28, "F64", 1, 8, false),
    (29, "IQ1_M", 256, 56, false),
    (30, "BF16", 1, 2, true),
    (34, "TQ1_0", 256, 54, false),
    (35, "TQ2_0", 256, 66, false),
];

/// A value of the header; for a list, only its length.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Number(i128),
    Float(f64),
    Flag(bool),
    List(u64),
}

/// A tensor of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Number of weights.
    pub(crate) weights: u64,
    /// Number of its type in the GGUF format.
    kind: u32,
    /// Whether it is a matrix rather than a vector.
    matrix: bool,
    /// Its size in the file, in bytes.
    pub(crate) bytes: u64,
}

impl Tensor {
    /// Its size in memory, in bytes: held once, and together with the second form that kernels keep.
    pub(crate) fn held(&self) -> (u64, u64) {
        if !self.matrix {
            let once = self.weights.saturating_mul(4);
            return (once, once);
        }
        // The types that kernels repack. On x86-64, the original weights of `Q4_K` and `Q8_0` are freed afterwards.
        let x86 = cfg!(target_arch = "x86_64");
        let twice = self.bytes.saturating_mul(2);
        match self.kind {
            12 if x86 => (self.bytes, self.bytes / 144 * 192),
            14 if x86 => (self.bytes, self.bytes / 210 * 530),
            2 | 8 | 12 | 13 | 14 if !x86 => (self.bytes, twice),
            2 | 8 | 10 | 11 | 12 | 13 | 14 => (self.bytes, self.bytes),
            // All other types are converted to `Q8_0`.
            _ => {
                let once = self.weights.div_ceil(32).saturating_mul(34);
                (once, if x86 { once } else { once.saturating_mul(2) })
            }
        }
    }
}

/// What the header of a GGUF file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    values: HashMap<String, Value>,
    pub(crate) tensors: Vec<Tensor>,
    /// Size of the file.
    pub bytes: u64,
    /// Size of the complete file.
    whole: u64,
}

fn fail(words: impl Into<String>) -> Error {
    Error::Format(words.into())
}

/// The name of a tensor type.
fn kind_name(kind: u32) -> String {
    let known = TYPES.iter().find(|known| known.0 == kind);
    known.map_or_else(|| format!("number {kind}"), |known| known.1.to_owned())
}

/// Reads numbers and texts one after the other; if the file ends too early, it was cut off.
struct GgufReader<R> {
    file: R,
    left: u64,
}

impl<R: Read + Seek> GgufReader<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.take(N as u64)?;
        self.file.read_exact(&mut bytes).map_err(|error| fail(format!("it can't be read: {error}")))?;
        Ok(bytes)
    }

    fn take(&mut self, count: u64) -> Result<(), Error> {
        self.left = self.left.checked_sub(count).ok_or_else(|| fail(CUT))?;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn count(&mut self, what: &str) -> Result<u64, Error> {
        let count = self.u64()?;
        if count > MOST { Err(fail(format!("its header is damaged: it claims {count} {what}"))) } else { Ok(count) }
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.u64()?;
        if length > LONGEST_TEXT {
            return Err(fail(format!("its header is damaged: it claims a text of {length} bytes")));
        }
        self.take(length)?;
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(length).read_to_end(&mut bytes);
        read.map_err(|error| fail(format!("it can't be read: {error}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn skip(&mut self, count: u64) -> Result<(), Error> {
        self.take(count)?;
        let far = i64::try_from(count).map_err(|_| fail(CUT))?;
        self.file.seek_relative(far).map_err(|error| fail(format!("it can't be read: {error}")))
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value, Error> {
        Ok(match kind {
            0 => Value::Number(self.bytes::<1>()?[0].into()),
            1 => Value::Number(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Number(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Number(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Number(self.u32()?.into()),
            5 => Value::Number(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Flag(self.bytes::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 if depth < 4 => self.list(depth)?,
            10 => Value::Number(self.u64()?.into()),
            11 => Value::Number(i64::from_le_bytes(self.bytes()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(fail(format!("its header is damaged: there are no values of type {other}"))),
        })
    }

    fn list(&mut self, depth: u32) -> Result<Value, Error> {
        let (kind, length) = (self.u32()?, self.u64()?);
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            _ => 0,
        };
        if size > 0 {
            self.skip(length.checked_mul(size).ok_or_else(|| fail(CUT))?)?;
        } else {
            for _ in 0..length {
                if kind == 8 {
                    let length = self.u64()?;
                    self.skip(length)?;
                } else {
                    self.value(kind, depth + 1)?;
                }
            }
        }
        Ok(Value::List(length))
    }

    fn tensor(&mut self) -> Result<(Tensor, u64), Error> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > 8 {
            return Err(fail(format!("its header is damaged: the tensor `{name}` has {dimensions} dimensions")));
        }
        let mut weights = 1u64;
        for _ in 0..dimensions {
            let size = self.u64()?;
            weights = weights.checked_mul(size).ok_or_else(|| fail("its header is damaged: a tensor is too large"))?;
        }
        let (kind, offset) = (self.u32()?, self.u64()?);
        let block = TYPES.iter().find(|known| known.0 == kind);
        let bytes = block.map_or(0, |(_, _, block, bytes, _)| weights.div_ceil(*block).saturating_mul(*bytes));
        Ok((Tensor { name, weights, kind, matrix: dimensions > 1, bytes }, offset))
    }
}

/// The message for a file that ends before its header does.
const CUT: &str = "it ends in the middle of its header: it is cut off; copy or download it again";

/// Reads the header of a file, and checks that the file is complete.
///
/// # Errors
///
/// The file cannot be read, is not a GGUF file, or is cut off.
pub fn read(path: &Path) -> Result<Header, Error> {
    let unreadable = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if found.is_dir() {
        return Err(unreadable(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut source = GgufReader { file: BufReader::with_capacity(1 << 16, file), left: found.len() };
    let header = header(&mut source, found.len())?;
    if header.bytes < header.whole {
        let (has, of) = (header.bytes, header.whole);
        return Err(fail(format!("it has {has} of its {of} bytes: it is cut off; copy or download it again")));
    }
    Ok(header)
}

fn header<R: Read + Seek>(source: &mut GgufReader<R>, bytes: u64) -> Result<Header, Error> {
    if bytes < 4 || source.bytes::<4>()? != *b"GGUF" {
        return Err(fail("it is not a GGUF file: it does not begin with the letters GGUF"));
    }
    let version = source.u32()?;
    if !(2..=3).contains(&version) {
        let other = if version.swap_bytes() <= 3 { "it is big-endian" } else { "it is of another version" };
        return Err(fail(format!(
            "{other} (its version reads {version}), and orch reads little-endian GGUF of versions 2 and 3"
        )));
    }
    let (tensors, entries) = (source.count("tensors")?, source.count("entries")?);
    let mut values = HashMap::new();
    for _ in 0..entries {
        let key = source.text()?;
        let kind = source.u32()?;
        values.insert(key, source.value(kind, 0)?);
    }
    let list = (0..tensors).map(|_| source.tensor()).collect::<Result<Vec<_>, _>>()?;
    let alignment = match values.get("general.alignment") {
        Some(Value::Number(number)) => u64::try_from(*number).unwrap_or(0).max(1),
        _ => 32,
    };
    let start = (bytes - source.left).next_multiple_of(alignment);
    let end = |(tensor, offset): &(Tensor, u64)| start.saturating_add(*offset).saturating_add(tensor.bytes);
    let whole = list.iter().map(end).max().unwrap_or(0);
    let tensors = list.into_iter().map(|(tensor, _)| tensor).collect();
    Ok(Header { values, tensors, bytes, whole })
}

impl Header {
    /// A text of the header.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A count of the header.
    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Number(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The architecture that the file names.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or("unknown")
    }

    /// The name that the file gives its model.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text("general.name")
    }

    /// Number of weights in all tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.weights).sum()
    }

    /// A count in the model's own metadata; `part` is its name without the architecture.
    pub(crate) fn own(&self, part: &str) -> Option<u64> {
        self.count(&format!("{}.{part}", self.architecture()))
    }

    /// Checks that this crate can run the model.
    ///
    /// # Errors
    ///
    /// The error says what is not supported, and what is.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(count) = self.count("split.count").filter(|count| *count > 1) {
            let number = self.count("split.no").map_or(1, |number| number + 1);
            return Err(fail(format!(
                "it is part {number} of {count}; join the parts with `llama-gguf-split --merge` of llama.cpp"
            )));
        }
        let architecture = self.architecture();
        if !ARCHITECTURES.contains(&architecture) {
            let known = ARCHITECTURES.map(|name| format!("`{name}`")).join(", ");
            return Err(fail(format!("its architecture is `{architecture}`, and orch runs {known}")));
        }
        if self.own("expert_count").is_some_and(|count| count > 0) {
            return Err(fail("it is a mixture of experts, and orch runs only dense models"));
        }
        if let Some(tensor) = self.tensors.iter().find(|tensor| !is_computed(tensor.kind)) {
            let known: Vec<&str> = TYPES.iter().filter(|known| known.4).map(|known| known.1).collect();
            return Err(fail(format!(
                "its tensor `{}` has the type {}, and orch computes with {}; take the file in another quantization, \
                 such as Q4_K_M",
                tensor.name,
                kind_name(tensor.kind),
                known.join(", ")
            )));
        }
        if self.tensors.is_empty() {
            return Err(fail("it has no weights; it may hold a vocabulary alone"));
        }
        crate::vocab::check(self)
    }

    /// How many tokens a prompt and its reply may have together.
    #[must_use]
    pub fn context(&self) -> u64 {
        let most = crate::network::MAX_POSITIONS as u64;
        self.own("context_length").map_or(most, |length| length.min(most))
    }

    /// Whether the file has a chat template.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.text("tokenizer.chat_template").is_some()
    }
}

fn is_computed(kind: u32) -> bool {
    TYPES.iter().any(|known| known.0 == kind && known.4)
}
