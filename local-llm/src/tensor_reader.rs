//! Reads the weights and the metadata of a model from its GGUF file, by name.

use std::io::{Read, Seek};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

use crate::Error;
use crate::repack::Repacker;

type ReaderResult<T> = Result<T, candle_core::Error>;

/// A linear layer: a weight matrix and its bias.
pub(crate) struct Linear {
    pub(crate) weight: QMatMul,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn forward(&self, x: &Tensor) -> ReaderResult<Tensor> {
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// The weights of one layer.
pub(crate) struct Layer {
    pub(crate) attention_norm: Tensor,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    /// Norms of the queries and of the keys in each head (`qwen3`).
    pub(crate) head_norms: Option<(Tensor, Tensor)>,
    pub(crate) output: Linear,
    pub(crate) ffn_norm: Tensor,
    pub(crate) ffn_gate: Linear,
    pub(crate) ffn_up: Linear,
    pub(crate) ffn_down: Linear,
}

/// Reads metadata values and tensors from a file by name, and adds up the sizes of the matrices.
pub(crate) struct TensorReader<'a, R> {
    content: &'a Content,
    source: &'a mut R,
    pub(crate) matrix_bytes: usize,
    repacker: Repacker,
    /// The architecture, such as `qwen2`. The keys of metadata values about the model begin with this name.
    architecture: String,
}

impl<'a, R: Read + Seek> TensorReader<'a, R> {
    pub(crate) fn new(content: &'a Content, source: &'a mut R) -> Result<Self, Error> {
        let mut reader =
            Self { content, source, matrix_bytes: 0, repacker: Repacker::default(), architecture: String::new() };
        reader.architecture = reader.metadata("general.architecture")?.to_string()?.clone();
        Ok(reader)
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.architecture
    }

    fn metadata(&self, key: &str) -> Result<&Value, Error> {
        self.content.metadata.get(key).ok_or_else(|| Error::Format(format!("it has no `{key}`")))
    }

    /// Returns a metadata value whose key begins with the name of the architecture; `key` is the rest of the key.
    fn model_value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(&format!("{}.{key}", self.architecture))
    }

    /// Reads a count; `None` if the file does not contain it.
    pub(crate) fn optional_count(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.model_value(key) else { return Ok(None) };
        let number = value.to_u64().ok().or_else(|| value.to_i32().ok().and_then(|count| u64::try_from(count).ok()));
        let count = number.and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| Error::Format(format!("`{}.{key}` is not a count", self.architecture)))
    }

    pub(crate) fn required_count(&self, key: &str) -> Result<usize, Error> {
        let missing = || Error::Format(format!("it has no `{}.{key}`", self.architecture));
        self.optional_count(key)?.ok_or_else(missing)
    }

    /// Reads a number; `None` if the file does not contain it.
    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f32>, Error> {
        Ok(self.model_value(key).map(Value::to_f32).transpose()?)
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&str>, Error> {
        Ok(self.model_value(key).map(Value::to_string).transpose()?.map(String::as_str))
    }

    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn read_tensor(&mut self, name: &str) -> Result<QTensor, Error> {
        if !self.has_tensor(name) {
            return Err(Error::Format(format!("it has no tensor `{name}`")));
        }
        Ok(self.content.tensor(self.source, name, &Device::Cpu)?)
    }

    pub(crate) fn read_vector(&mut self, name: &str) -> Result<Tensor, Error> {
        Ok(self.read_tensor(name)?.dequantize(&Device::Cpu)?)
    }

    /// Reads a matrix. Converts it to `Q8_0` if its format has no fast kernels and its rows consist of whole blocks.
    pub(crate) fn read_matrix(&mut self, name: &str) -> Result<QTensor, Error> {
        let tensor = self.read_tensor(name)?;
        let is_slow = !matches!(
            tensor.dtype(),
            GgmlDType::Q4_0
                | GgmlDType::Q8_0
                | GgmlDType::Q2K
                | GgmlDType::Q3K
                | GgmlDType::Q4K
                | GgmlDType::Q5K
                | GgmlDType::Q6K
        );
        let (_, width) = tensor.shape().dims2()?;
        let tensor = if is_slow && width.is_multiple_of(GgmlDType::Q8_0.block_size()) {
            QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q8_0)?
        } else {
            tensor
        };
        self.matrix_bytes += tensor.storage_size_in_bytes();
        Ok(tensor)
    }

    pub(crate) fn read_linear(&mut self, name: &str) -> Result<Linear, Error> {
        let weight = self.read_matrix(&format!("{name}.weight"))?;
        let weight = self.repacker.wrap_matrix(weight)?;
        let bias = format!("{name}.bias");
        let bias = if self.has_tensor(&bias) { Some(self.read_vector(&bias)?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn read_head_norms(&mut self, query: &str, key: &str) -> Result<Option<(Tensor, Tensor)>, Error> {
        if self.architecture != "qwen3" {
            return Ok(None);
        }
        Ok(Some((self.read_vector(query)?, self.read_vector(key)?)))
    }

    pub(crate) fn read_layer(&mut self, index: usize) -> Result<Layer, Error> {
        let tensor_name = |name: &str| format!("blk.{index}.{name}");
        Ok(Layer {
            attention_norm: self.read_vector(&tensor_name("attn_norm.weight"))?,
            query: self.read_linear(&tensor_name("attn_q"))?,
            key: self.read_linear(&tensor_name("attn_k"))?,
            value: self.read_linear(&tensor_name("attn_v"))?,
            head_norms: self.read_head_norms(&tensor_name("attn_q_norm.weight"), &tensor_name("attn_k_norm.weight"))?,
            output: self.read_linear(&tensor_name("attn_output"))?,
            ffn_norm: self.read_vector(&tensor_name("ffn_norm.weight"))?,
            ffn_gate: self.read_linear(&tensor_name("ffn_gate"))?,
            ffn_up: self.read_linear(&tensor_name("ffn_up"))?,
            ffn_down: self.read_linear(&tensor_name("ffn_down"))?,
        })
    }
}
