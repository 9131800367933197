//! Reads the weights and the metadata of a model from its file, by name.

use std::io::{Read, Seek};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

use crate::Error;
use crate::repack::Repacker;

type ReaderResult<T> = Result<T, candle_core::Error>;

/// A linear layer: a matrix that is applied to the state, and its bias.
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
    pub(crate) feed_norm: Tensor,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// Reads named values and tensors from a file, and counts the memory that they take.
pub(crate) struct TensorReader<'a, R> {
    content: &'a Content,
    source: &'a mut R,
    pub(crate) bytes: usize,
    lender: Repacker,
    /// The architecture, with which the names of the model's own metadata begin.
    family: String,
}

impl<'a, R: Read + Seek> TensorReader<'a, R> {
    pub(crate) fn new(content: &'a Content, source: &'a mut R) -> Result<Self, Error> {
        let mut reader = Self { content, source, bytes: 0, lender: Repacker::default(), family: String::new() };
        reader.family = reader.meta("general.architecture")?.to_string()?.clone();
        Ok(reader)
    }

    pub(crate) fn family(&self) -> &str {
        &self.family
    }

    fn meta(&self, key: &str) -> Result<&Value, Error> {
        self.content.metadata.get(key).ok_or_else(|| Error::Format(format!("it has no `{key}`")))
    }

    /// A value of the model's own metadata, by its name without the architecture.
    fn own(&self, part: &str) -> Option<&Value> {
        self.content.metadata.get(&format!("{}.{part}", self.family))
    }

    /// A count that the file may leave out.
    pub(crate) fn count_if(&self, part: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.own(part) else { return Ok(None) };
        let whole = value.to_u64().ok().or_else(|| value.to_i32().ok().and_then(|count| u64::try_from(count).ok()));
        let count = whole.and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| Error::Format(format!("`{}.{part}` is not a count", self.family)))
    }

    pub(crate) fn count(&self, part: &str) -> Result<usize, Error> {
        let absent = || Error::Format(format!("it has no `{}.{part}`", self.family));
        self.count_if(part)?.ok_or_else(absent)
    }

    /// A number that the file may leave out.
    pub(crate) fn number_if(&self, part: &str) -> Result<Option<f32>, Error> {
        Ok(self.own(part).map(Value::to_f32).transpose()?)
    }

    pub(crate) fn text_if(&self, part: &str) -> Result<Option<&str>, Error> {
        Ok(self.own(part).map(Value::to_string).transpose()?.map(String::as_str))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn tensor(&mut self, name: &str) -> Result<QTensor, Error> {
        if !self.has(name) {
            return Err(Error::Format(format!("it has no tensor `{name}`")));
        }
        Ok(self.content.tensor(self.source, name, &Device::Cpu)?)
    }

    pub(crate) fn vector(&mut self, name: &str) -> Result<Tensor, Error> {
        Ok(self.tensor(name)?.dequantize(&Device::Cpu)?)
    }

    /// A matrix in a format that has fast kernels; other formats are converted to `Q8_0`.
    pub(crate) fn matrix(&mut self, name: &str) -> Result<QTensor, Error> {
        let tensor = self.tensor(name)?;
        let slow = !matches!(
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
        let tensor = if slow && width.is_multiple_of(GgmlDType::Q8_0.block_size()) {
            QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q8_0)?
        } else {
            tensor
        };
        self.bytes += tensor.storage_size_in_bytes();
        Ok(tensor)
    }

    pub(crate) fn linear(&mut self, name: &str) -> Result<Linear, Error> {
        let weight = self.matrix(&format!("{name}.weight"))?;
        let weight = self.lender.matrix(weight)?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.vector(&bias)?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn head_norms(&mut self, query: &str, key: &str) -> Result<Option<(Tensor, Tensor)>, Error> {
        if self.family != "qwen3" {
            return Ok(None);
        }
        Ok(Some((self.vector(query)?, self.vector(key)?)))
    }

    pub(crate) fn layer(&mut self, index: usize) -> Result<Layer, Error> {
        let at = |part: &str| format!("blk.{index}.{part}");
        Ok(Layer {
            attention_norm: self.vector(&at("attn_norm.weight"))?,
            query: self.linear(&at("attn_q"))?,
            key: self.linear(&at("attn_k"))?,
            value: self.linear(&at("attn_v"))?,
            head_norms: self.head_norms(&at("attn_q_norm.weight"), &at("attn_k_norm.weight"))?,
            output: self.linear(&at("attn_output"))?,
            feed_norm: self.vector(&at("ffn_norm.weight"))?,
            gate: self.linear(&at("ffn_gate"))?,
            up: self.linear(&at("ffn_up"))?,
            down: self.linear(&at("ffn_down"))?,
        })
    }
}
