//! The network: quantized weights of a `llama` or `qwen2` model and its
//! forward pass, with a cache of keys and values that can be cut back.

use std::io::{Read, Seek};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, DType, Device, IndexOp, Module, Tensor};

use crate::Error;
use crate::lent::Lender;

/// Positions kept at most, whatever the model claims to support.
const MAX_POSITIONS: usize = 8192;

type Computed<T> = Result<T, candle_core::Error>;

/// How the two halves of a rotated pair are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rotation {
    /// Neighbours form a pair (`llama` files).
    Interleaved,
    /// The first and the second half of a head form the pairs (`qwen2` files).
    Halves,
}

struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    feed_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Keys and values of the positions already read, for every layer.
pub(crate) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
}

impl Cache {
    /// Positions held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets every position from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// A loaded network.
pub(crate) struct Network {
    embedding: QMatMul,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Linear,
    cos: Tensor,
    sin: Tensor,
    rotation: Rotation,
    epsilon: f32,
    heads: usize,
    groups: usize,
    head_size: usize,
    positions: usize,
    bytes: usize,
}

/// Reads named values and tensors from a file, counting the memory they take.
struct Reader<'a, R> {
    content: &'a Content,
    source: &'a mut R,
    bytes: usize,
    lender: Lender,
}

impl<R: Read + Seek> Reader<'_, R> {
    fn meta(&self, key: &str) -> Result<&Value, Error> {
        self.content.metadata.get(key).ok_or_else(|| Error::Format(format!("it has no `{key}`")))
    }

    fn count(&self, key: &str) -> Result<usize, Error> {
        let value = self.meta(key)?;
        let count = value.to_u64().or_else(|_| value.to_u32().map(u64::from));
        count
            .ok()
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| Error::Format(format!("`{key}` is not a count")))
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn tensor(&mut self, name: &str) -> Result<QTensor, Error> {
        if !self.has(name) {
            return Err(Error::Format(format!("it has no tensor `{name}`")));
        }
        Ok(self.content.tensor(self.source, name, &Device::Cpu)?)
    }

    fn vector(&mut self, name: &str) -> Result<Tensor, Error> {
        Ok(self.tensor(name)?.dequantize(&Device::Cpu)?)
    }

    /// A matrix in a format that has fast kernels; others become `Q8_0`.
    fn matrix(&mut self, name: &str) -> Result<QTensor, Error> {
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

    fn linear(&mut self, name: &str) -> Result<Linear, Error> {
        let weight = self.matrix(&format!("{name}.weight"))?;
        let weight = self.lender.matrix(weight)?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.vector(&bias)?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn layer(&mut self, index: usize) -> Result<Layer, Error> {
        let at = |part: &str| format!("blk.{index}.{part}");
        Ok(Layer {
            attention_norm: self.vector(&at("attn_norm.weight"))?,
            query: self.linear(&at("attn_q"))?,
            key: self.linear(&at("attn_k"))?,
            value: self.linear(&at("attn_v"))?,
            output: self.linear(&at("attn_output"))?,
            feed_norm: self.vector(&at("ffn_norm.weight"))?,
            gate: self.linear(&at("ffn_gate"))?,
            up: self.linear(&at("ffn_up"))?,
            down: self.linear(&at("ffn_down"))?,
        })
    }
}

/// Sines and cosines of every position.
fn rotations(positions: usize, size: usize, base: f32) -> Computed<(Tensor, Tensor)> {
    #[allow(clippy::cast_precision_loss)]
    let inverse: Vec<f32> = (0..size).step_by(2).map(|i| base.powf(-(i as f32) / size as f32)).collect();
    let inverse = Tensor::from_vec(inverse, (1, size / 2), &Device::Cpu)?;
    let last = u32::try_from(positions).unwrap_or(u32::MAX);
    let index = Tensor::arange(0u32, last, &Device::Cpu)?.to_dtype(DType::F32)?;
    let angles = index.reshape((positions, 1))?.matmul(&inverse)?;
    Ok((angles.cos()?, angles.sin()?))
}

impl Network {
    /// Reads the weights.
    pub(crate) fn read<R: Read + Seek>(content: &Content, source: &mut R) -> Result<Self, Error> {
        let mut reader = Reader { content, source, bytes: 0, lender: Lender::default() };
        let family = reader.meta("general.architecture")?.to_string()?.clone();
        let rotation = match family.as_str() {
            "llama" => Rotation::Interleaved,
            "qwen2" => Rotation::Halves,
            other => {
                return Err(Error::Format(format!(
                    "models of the family `{other}` are not supported, only `llama` and `qwen2`"
                )));
            }
        };
        let key = |part: &str| format!("{family}.{part}");
        let heads = reader.count(&key("attention.head_count"))?;
        let groups = reader.count(&key("attention.head_count_kv"))?;
        let width = reader.count(&key("embedding_length"))?;
        if heads == 0 || groups == 0 || !width.is_multiple_of(heads) || !heads.is_multiple_of(groups) {
            return Err(Error::Format("its attention heads do not divide its width".to_owned()));
        }
        let head_size = width / heads;
        let positions = reader.count(&key("context_length"))?.min(MAX_POSITIONS);
        let epsilon = reader.meta(&key("attention.layer_norm_rms_epsilon"))?.to_f32()?;
        let base = match content.metadata.get(&key("rope.freq_base")) {
            Some(base) => base.to_f32()?,
            None => 10_000.0,
        };
        let (cos, sin) = rotations(positions, head_size, base)?;
        let count = reader.count(&key("block_count"))?;
        let layers = (0..count).map(|index| reader.layer(index)).collect::<Result<_, _>>()?;
        // Rows of it are looked up, so that it stays as it was read.
        let embedding = QMatMul::from_arc(Arc::new(reader.matrix("token_embd.weight")?))?;
        let head = if reader.has("output.weight") {
            reader.linear("output")?
        } else {
            Linear { weight: embedding.clone(), bias: None }
        };
        let norm = reader.vector("output_norm.weight")?;
        let bytes = reader.bytes;
        Ok(Self {
            embedding,
            layers,
            norm,
            head,
            cos,
            sin,
            rotation,
            epsilon,
            heads,
            groups,
            head_size,
            positions,
            bytes,
        })
    }

    /// How many positions fit the cache.
    pub(crate) fn positions(&self) -> usize {
        self.positions
    }

    /// Bytes of the weights as held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An empty cache for every position.
    pub(crate) fn cache(&self) -> Result<Cache, Error> {
        let shape = (self.groups, self.positions, self.head_size);
        let empty = || Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let layers = self.layers.iter().map(|_| Ok((empty()?, empty()?))).collect::<Computed<_>>()?;
        Ok(Cache { layers, len: 0 })
    }

    /// Reads `tokens` after what the cache holds and adds them to it; gives the
    /// scores of the token that follows when `scores` is set.
    pub(crate) fn forward(&self, tokens: &[u32], cache: &mut Cache, scores: bool) -> Result<Option<Vec<f32>>, Error> {
        let (count, past) = (tokens.len(), cache.len);
        if count == 0 || past + count > self.positions {
            return Err(Error::TooLong { prompt: past + count, limit: self.positions });
        }
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.embedding(&ids)?;
        let mask = if count == 1 { None } else { Some(causal(count, past)?) };
        for (layer, kept) in self.layers.iter().zip(&cache.layers) {
            let normed = candle_nn::ops::rms_norm(&x, &layer.attention_norm, self.epsilon)?;
            x = (x + self.attend(layer, kept, &normed, past, mask.as_ref())?)?;
            let normed = candle_nn::ops::rms_norm(&x, &layer.feed_norm, self.epsilon)?;
            let fed = (layer.gate.forward(&normed)?.silu()? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&fed)?)?;
        }
        cache.len = past + count;
        if !scores {
            return Ok(None);
        }
        let last = x.i(count - 1..)?.contiguous()?;
        let normed = candle_nn::ops::rms_norm(&last, &self.norm, self.epsilon)?;
        Ok(Some(self.head.forward(&normed)?.flatten_all()?.to_vec1()?))
    }

    /// Self-attention of one layer over the new positions and all earlier ones.
    fn attend(
        &self,
        layer: &Layer,
        (keys, values): &(Tensor, Tensor),
        x: &Tensor,
        past: usize,
        mask: Option<&Tensor>,
    ) -> Computed<Tensor> {
        let (count, _) = x.dims2()?;
        let total = past + count;
        let split =
            |y: Tensor, heads: usize| y.reshape((1, count, heads, self.head_size))?.transpose(1, 2)?.contiguous();
        let query = self.rotate(&split(layer.query.forward(x)?, self.heads)?, past)?;
        let key = self.rotate(&split(layer.key.forward(x)?, self.groups)?, past)?.squeeze(0)?;
        let value = split(layer.value.forward(x)?, self.groups)?.squeeze(0)?;
        keys.slice_set(&key, 1, past)?;
        values.slice_set(&value, 1, past)?;

        let rows = self.heads / self.groups * count;
        let query = query.reshape((self.groups, rows, self.head_size))?;
        #[allow(clippy::cast_precision_loss)]
        let scale = 1.0 / (self.head_size as f64).sqrt();
        let scores = (query * scale)?.matmul(&keys.narrow(1, 0, total)?.transpose(1, 2)?)?;
        let scores = match mask {
            Some(mask) => {
                scores.reshape((self.heads, count, total))?.broadcast_add(mask)?.reshape((self.groups, rows, total))?
            }
            None => scores,
        };
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let mixed = weights.matmul(&values.narrow(1, 0, total)?)?;
        let mixed = mixed
            .reshape((self.heads, count, self.head_size))?
            .transpose(0, 1)?
            .contiguous()?
            .flatten_from(D::Minus2)?;
        layer.output.forward(&mixed)
    }

    fn rotate(&self, x: &Tensor, past: usize) -> Computed<Tensor> {
        let count = x.dim(2)?;
        let cos = self.cos.narrow(0, past, count)?;
        let sin = self.sin.narrow(0, past, count)?;
        match self.rotation {
            Rotation::Interleaved => candle_nn::rotary_emb::rope_i(x, &cos, &sin),
            Rotation::Halves => candle_nn::rotary_emb::rope(x, &cos, &sin),
        }
    }
}

/// Lets position `i` of the new ones see all earlier ones and itself.
fn causal(count: usize, past: usize) -> Computed<Tensor> {
    let total = past + count;
    let mask: Vec<f32> = (0..count)
        .flat_map(|row| (0..total).map(move |column| if column > past + row { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(mask, (count, total), &Device::Cpu)
}
