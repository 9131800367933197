//! Reads the header of a GGUF file, which describes the model, and checks whether this crate can run it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use crate::Error;
use crate::tensor_info::{TensorInfo, stored_bytes, supported_type_names};

/// Architectures that this crate can run.
pub const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// The maximum length of a string in a header, in bytes; a file with a longer one is damaged.
const MAX_STRING_BYTES: u64 = 1 << 26;

/// The maximum number of entries or tensors in a header; a file with more is damaged.
const MAX_ENTRIES: u64 = 1 << 20;

/// A metadata value of the header; for an array, only its length.
#[derive(Debug, Clone, PartialEq)]
enum MetadataValue {
    String(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    ArrayLength(u64),
}

/// The header of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    metadata: HashMap<String, MetadataValue>,
    pub(crate) tensors: Vec<TensorInfo>,
    /// The size of the file, in bytes.
    pub file_bytes: u64,
    /// The size that the file must have according to its header, in bytes.
    expected_bytes: u64,
}

fn invalid_file(message: impl Into<String>) -> Error {
    Error::Format(message.into())
}

/// Reads the numbers and strings of a header in sequence; fails if the file ends too early.
struct GgufReader<R> {
    file: R,
    /// The number of bytes after the current position.
    remaining: u64,
}

impl<R: Read + Seek> GgufReader<R> {
    fn read_bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.reserve(N as u64)?;
        self.file.read_exact(&mut bytes).map_err(|error| invalid_file(format!("orch can't read it: {error}")))?;
        Ok(bytes)
    }

    /// Counts the next bytes as read; fails if the file has fewer bytes left.
    fn reserve(&mut self, count: u64) -> Result<(), Error> {
        self.remaining = self.remaining.checked_sub(count).ok_or_else(|| invalid_file(INCOMPLETE_HEADER))?;
        Ok(())
    }

    fn read_u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.read_bytes()?))
    }

    fn read_u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.read_bytes()?))
    }

    /// Reads the number of tensors or metadata entries; `items` names them in the error.
    fn read_count(&mut self, items: &str) -> Result<u64, Error> {
        let count = self.read_u64()?;
        if count > MAX_ENTRIES {
            Err(invalid_file(format!("its header is damaged: it states that the file has {count} {items}")))
        } else {
            Ok(count)
        }
    }

    fn read_string(&mut self) -> Result<String, Error> {
        let length = self.read_u64()?;
        if length > MAX_STRING_BYTES {
            return Err(invalid_file(format!(
                "its header is damaged: it contains a string with a stated length of {length} bytes"
            )));
        }
        self.reserve(length)?;
        let mut bytes = Vec::new();
        let result = (&mut self.file).take(length).read_to_end(&mut bytes);
        result.map_err(|error| invalid_file(format!("orch can't read it: {error}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn skip(&mut self, count: u64) -> Result<(), Error> {
        self.reserve(count)?;
        let offset = i64::try_from(count).map_err(|_| invalid_file(INCOMPLETE_HEADER))?;
        self.file.seek_relative(offset).map_err(|error| invalid_file(format!("orch can't read it: {error}")))
    }

    fn read_value(&mut self, value_type: u32, depth: u32) -> Result<MetadataValue, Error> {
        Ok(match value_type {
            0 => MetadataValue::Integer(self.read_bytes::<1>()?[0].into()),
            1 => MetadataValue::Integer(i8::from_le_bytes(self.read_bytes()?).into()),
            2 => MetadataValue::Integer(u16::from_le_bytes(self.read_bytes()?).into()),
            3 => MetadataValue::Integer(i16::from_le_bytes(self.read_bytes()?).into()),
            4 => MetadataValue::Integer(self.read_u32()?.into()),
            5 => MetadataValue::Integer(i32::from_le_bytes(self.read_bytes()?).into()),
            6 => MetadataValue::Float(f32::from_le_bytes(self.read_bytes()?).into()),
            7 => MetadataValue::Bool(self.read_bytes::<1>()? != [0]),
            8 => MetadataValue::String(self.read_string()?),
            9 if depth < 4 => self.read_array_length(depth)?,
            10 => MetadataValue::Integer(self.read_u64()?.into()),
            11 => MetadataValue::Integer(i64::from_le_bytes(self.read_bytes()?).into()),
            12 => MetadataValue::Float(f64::from_le_bytes(self.read_bytes()?)),
            other => return Err(invalid_file(format!("its header is damaged: there are no values of type {other}"))),
        })
    }

    fn read_array_length(&mut self, depth: u32) -> Result<MetadataValue, Error> {
        let (item_type, length) = (self.read_u32()?, self.read_u64()?);
        let item_size = match item_type {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            _ => 0,
        };
        if item_size > 0 {
            self.skip(length.checked_mul(item_size).ok_or_else(|| invalid_file(INCOMPLETE_HEADER))?)?;
        } else {
            for _ in 0..length {
                if item_type == 8 {
                    let length = self.read_u64()?;
                    self.skip(length)?;
                } else {
                    self.read_value(item_type, depth + 1)?;
                }
            }
        }
        Ok(MetadataValue::ArrayLength(length))
    }

    /// Reads the description of a tensor, and its offset in the tensor data.
    fn read_tensor(&mut self) -> Result<(TensorInfo, u64), Error> {
        let name = self.read_string()?;
        let dimensions = self.read_u32()?;
        if dimensions > 8 {
            return Err(invalid_file(format!(
                "its header is damaged: the tensor `{name}` has {dimensions} dimensions"
            )));
        }
        let (mut row_length, mut weight_count) = (1u64, 1u64);
        for dimension in 0..dimensions {
            let size = self.read_u64()?;
            if dimension == 0 {
                row_length = size;
            }
            weight_count = weight_count
                .checked_mul(size)
                .ok_or_else(|| invalid_file("its header is damaged: a tensor is too large"))?;
        }
        let (type_number, offset) = (self.read_u32()?, self.read_u64()?);
        let bytes = stored_bytes(type_number, weight_count);
        let is_matrix = dimensions > 1;
        Ok((TensorInfo { name, weight_count, row_length, type_number, is_matrix, bytes }, offset))
    }
}

/// The message for a file that ends before the end of its header.
const INCOMPLETE_HEADER: &str = "it ends in the middle of its header: it is cut off; copy or download it again";

/// Reads the header of a file, and checks that the file is complete.
///
/// # Errors
///
/// [`Error::File`] if this process cannot read the file, or it is a folder. [`Error::Format`] if the file is not a GGUF
/// file of version 2 or 3 in little-endian order, its header is damaged, or the header or the file is cut off.
pub fn read_header(path: &Path) -> Result<Header, Error> {
    let read_error = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let metadata = file.metadata().map_err(read_error)?;
    if metadata.is_dir() {
        return Err(read_error(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut reader = GgufReader { file: BufReader::with_capacity(1 << 16, file), remaining: metadata.len() };
    let header = parse_header(&mut reader, metadata.len())?;
    if header.file_bytes < header.expected_bytes {
        let (actual, expected) = (header.file_bytes, header.expected_bytes);
        return Err(invalid_file(format!(
            "it has {actual} of its {expected} bytes: it is cut off; copy or download it again"
        )));
    }
    Ok(header)
}

fn parse_header<R: Read + Seek>(reader: &mut GgufReader<R>, file_bytes: u64) -> Result<Header, Error> {
    if file_bytes < 4 || reader.read_bytes::<4>()? != *b"GGUF" {
        return Err(invalid_file("it is not a GGUF file: it does not begin with the letters GGUF"));
    }
    let version = reader.read_u32()?;
    if !(2..=3).contains(&version) {
        let is_big_endian = (1..=3).contains(&version.swap_bytes());
        let problem = if is_big_endian { "it is big-endian" } else { "it has an unsupported version" };
        return Err(invalid_file(format!(
            "{problem} (version field: {version}); orch supports only little-endian GGUF files of versions 2 and 3"
        )));
    }
    let (tensor_count, entry_count) = (reader.read_count("tensors")?, reader.read_count("metadata entries")?);
    let mut metadata = HashMap::new();
    for _ in 0..entry_count {
        let key = reader.read_string()?;
        let value_type = reader.read_u32()?;
        metadata.insert(key, reader.read_value(value_type, 0)?);
    }
    let tensors_with_offsets = (0..tensor_count).map(|_| reader.read_tensor()).collect::<Result<Vec<_>, _>>()?;
    let alignment = match metadata.get("general.alignment") {
        Some(MetadataValue::Integer(number)) => u64::try_from(*number).unwrap_or(0).max(1),
        _ => 32,
    };
    let data_start = (file_bytes - reader.remaining).next_multiple_of(alignment);
    let tensor_end =
        |(tensor, offset): &(TensorInfo, u64)| data_start.saturating_add(*offset).saturating_add(tensor.bytes);
    let expected_bytes = tensors_with_offsets.iter().map(tensor_end).max().unwrap_or(0);
    let tensors = tensors_with_offsets.into_iter().map(|(tensor, _)| tensor).collect();
    Ok(Header { metadata, tensors, file_bytes, expected_bytes })
}

impl Header {
    /// Returns the metadata value of a key, if it is a string.
    pub(crate) fn metadata_text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(MetadataValue::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the metadata value of a key, if it is a non-negative integer.
    pub(crate) fn metadata_u64(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key) {
            Some(MetadataValue::Integer(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The architecture of the model.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.metadata_text("general.architecture").unwrap_or("unknown")
    }

    /// The name of the model according to the file.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.metadata_text("general.name")
    }

    /// The number of weights in all tensors.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.weight_count).sum()
    }

    /// Returns an integer metadata value whose key begins with the name of the architecture; `key` is the rest of the
    /// key.
    pub(crate) fn architecture_u64(&self, key: &str) -> Option<u64> {
        self.metadata_u64(&format!("{}.{key}", self.architecture()))
    }

    /// Checks that this crate can run the model.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if the file is only a part of a model, the model is a mixture of experts or has no weights, or
    /// this crate does not support its architecture, the type of a tensor or its tokenizer. The error names what this
    /// crate supports instead.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(count) = self.metadata_u64("split.count").filter(|count| *count > 1) {
            let number = self.metadata_u64("split.no").map_or(1, |number| number + 1);
            return Err(invalid_file(format!(
                "it is part {number} of {count}; join the parts with `llama-gguf-split --merge` from llama.cpp"
            )));
        }
        let architecture = self.architecture();
        if !ARCHITECTURES.contains(&architecture) {
            let supported = ARCHITECTURES.map(|name| format!("`{name}`")).join(", ");
            return Err(invalid_file(format!("its architecture is `{architecture}`, and orch runs {supported}")));
        }
        if self.architecture_u64("expert_count").is_some_and(|count| count > 0) {
            return Err(invalid_file("it is a mixture of experts, and orch runs only dense models"));
        }
        if let Some(tensor) = self.tensors.iter().find(|tensor| !tensor.is_supported()) {
            return Err(invalid_file(format!(
                "its tensor `{}` has the type {}, and orch supports {}; use a file with another quantization, such \
                 as Q4_K_M",
                tensor.name,
                tensor.type_name(),
                supported_type_names().join(", ")
            )));
        }
        if self.tensors.is_empty() {
            return Err(invalid_file("it has no weights; it may contain only a vocabulary"));
        }
        crate::vocab::check_tokenizer(self)
    }

    /// The maximum number of tokens of prompt and reply together.
    #[must_use]
    pub fn context_length(&self) -> u64 {
        let max = crate::network::MAX_POSITIONS as u64;
        self.architecture_u64("context_length").map_or(max, |length| length.min(max))
    }

    /// Whether the file has a chat template.
    #[must_use]
    pub fn has_chat_template(&self) -> bool {
        self.metadata_text("tokenizer.chat_template").is_some()
    }
}
