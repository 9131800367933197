//! The neural network of a `llama`, `qwen2` or `qwen3` model: its quantized weights and its forward pass, with a
//! key-value cache.

use std::io::{Read, Seek};
use std::sync::Arc;

use candle_core::quantized::QMatMul;
use candle_core::quantized::gguf_file::Content;
use candle_core::{D, DType, Device, IndexOp, Tensor};

use crate::Error;
use crate::ops::{self, Rotation};
use crate::tensor_reader::{Layer, Linear, TensorReader};

/// The maximum context length in tokens, even if a model supports more.
pub(crate) const MAX_POSITIONS: usize = 8192;

type NetworkResult<T> = Result<T, candle_core::Error>;

/// The keys and values of all positions processed so far, for every layer.
pub(crate) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
}

impl KvCache {
    /// The number of positions in the cache.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Removes every position from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// A network with its weights in memory.
pub(crate) struct Transformer {
    embedding: QMatMul,
    layers: Vec<Layer>,
    output_norm: Tensor,
    head: Linear,
    cos: Tensor,
    sin: Tensor,
    rotation: Rotation,
    epsilon: f32,
    shape: NetworkShape,
    weight_bytes: usize,
}

/// The dimensions of a network.
struct NetworkShape {
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    positions: usize,
}

impl NetworkShape {
    fn read<R: Read + Seek>(reader: &TensorReader<'_, R>) -> Result<Self, Error> {
        let heads = reader.required_count("attention.head_count")?;
        let kv_heads = reader.optional_count("attention.head_count_kv")?.unwrap_or(heads);
        let width = reader.required_count("embedding_length")?;
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(Error::Format(format!(
                "its {heads} query heads are not a multiple of its {kv_heads} key heads"
            )));
        }
        let head_size = match reader.optional_count("attention.key_length")? {
            Some(size) => size,
            None if width.is_multiple_of(heads) => width / heads,
            None => {
                return Err(Error::Format(format!(
                    "its embedding length {width} is not a multiple of its {heads} heads"
                )));
            }
        };
        let value_size = reader.optional_count("attention.value_length")?.unwrap_or(head_size);
        let rotary_size = reader.optional_count("rope.dimension_count")?.unwrap_or(head_size);
        if value_size != head_size || rotary_size != head_size || head_size == 0 || !head_size.is_multiple_of(2) {
            return Err(Error::Format(format!(
                "its heads have {head_size} dimensions for keys, {value_size} for values and {rotary_size} for \
                 rotation, but orch requires the same even number for all three"
            )));
        }
        let positions = reader.required_count("context_length")?.min(MAX_POSITIONS);
        Ok(Self { heads, kv_heads, head_size, positions })
    }
}

/// Computes the cosines and sines of the rotary embedding for each position.
fn rotary_tables<R: Read + Seek>(
    reader: &mut TensorReader<'_, R>,
    shape: &NetworkShape,
) -> Result<(Tensor, Tensor), Error> {
    let scaling_factor = match reader.optional_text("rope.scaling.type")? {
        None | Some("none") => 1.0,
        Some("linear") => reader.optional_number("rope.scaling.factor")?.filter(|factor| *factor > 0.0).unwrap_or(1.0),
        Some(other) => {
            return Err(Error::Format(format!(
                "its rope scaling is `{other}`, and orch supports `linear` and the factors of Llama 3"
            )));
        }
    };
    let (size, base) = (shape.head_size, reader.optional_number("rope.freq_base")?.unwrap_or(10_000.0));
    #[allow(clippy::cast_precision_loss)]
    let frequencies: Vec<f32> =
        (0..size).step_by(2).map(|i| base.powf(-(i as f32) / size as f32) / scaling_factor).collect();
    let mut frequencies = Tensor::from_vec(frequencies, (1, size / 2), &Device::Cpu)?;
    // Llama 3 divides each frequency by its own factor.
    if reader.has_tensor("rope_freqs.weight") {
        frequencies = (frequencies / reader.read_vector("rope_freqs.weight")?.reshape((1, size / 2))?)?;
    }
    let position_count = u32::try_from(shape.positions).unwrap_or(u32::MAX);
    let positions = Tensor::arange(0u32, position_count, &Device::Cpu)?.to_dtype(DType::F32)?;
    let angles = positions.reshape((shape.positions, 1))?.matmul(&frequencies)?;
    Ok((angles.cos()?, angles.sin()?))
}

impl Transformer {
    /// Reads the weights from a GGUF file.
    pub(crate) fn from_gguf<R: Read + Seek>(content: &Content, source: &mut R) -> Result<Self, Error> {
        let mut reader = TensorReader::new(content, source)?;
        let rotation = if reader.architecture() == "llama" { Rotation::Interleaved } else { Rotation::Halves };
        let shape = NetworkShape::read(&reader)?;
        let missing = || Error::Format("it has no `attention.layer_norm_rms_epsilon`".to_owned());
        let epsilon = reader.optional_number("attention.layer_norm_rms_epsilon")?.ok_or_else(missing)?;
        let (cos, sin) = rotary_tables(&mut reader, &shape)?;
        let layer_count = reader.required_count("block_count")?;
        let layers = (0..layer_count).map(|index| reader.read_layer(index)).collect::<Result<_, _>>()?;
        // The embedding is not repacked, because the forward pass only looks up single rows of it.
        let embedding = QMatMul::from_arc(Arc::new(reader.read_matrix("token_embd.weight")?))?;
        let head = if reader.has_tensor("output.weight") {
            reader.read_linear("output")?
        } else {
            Linear { weight: embedding.clone(), bias: None }
        };
        let output_norm = reader.read_vector("output_norm.weight")?;
        let weight_bytes = reader.matrix_bytes;
        Ok(Self { embedding, layers, output_norm, head, cos, sin, rotation, epsilon, shape, weight_bytes })
    }

    /// The number of positions that fit into the cache.
    pub(crate) fn max_positions(&self) -> usize {
        self.shape.positions
    }

    /// The size of the weights in memory, in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Creates an empty cache for all positions.
    pub(crate) fn new_cache(&self) -> Result<KvCache, Error> {
        let tensor_shape = (self.shape.kv_heads, self.shape.positions, self.shape.head_size);
        let zeros = || Tensor::zeros(tensor_shape, DType::F32, &Device::Cpu);
        let layers = self.layers.iter().map(|_| Ok((zeros()?, zeros()?))).collect::<NetworkResult<_>>()?;
        Ok(KvCache { layers, len: 0 })
    }

    /// Computes the keys and values of `tokens` and appends them to the cache. Returns the logits of the next token if
    /// `with_logits` is set.
    pub(crate) fn forward(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        with_logits: bool,
    ) -> Result<Option<Vec<f32>>, Error> {
        let (count, cached_len) = (tokens.len(), cache.len);
        if count == 0 || cached_len + count > self.shape.positions {
            return Err(Error::PromptTooLong { prompt: cached_len + count, limit: self.shape.positions });
        }
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.embedding(&ids)?;
        let mask = if count == 1 { None } else { Some(causal_mask(count, cached_len)?) };
        for (layer, layer_cache) in self.layers.iter().zip(&cache.layers) {
            let input = ops::rms_norm(&x, &layer.attention_norm, self.epsilon)?;
            x = (x + self.attend(layer, layer_cache, &input, cached_len, mask.as_ref())?)?;
            let input = ops::rms_norm(&x, &layer.ffn_norm, self.epsilon)?;
            let hidden = (layer.ffn_gate.forward(&input)?.silu()? * layer.ffn_up.forward(&input)?)?;
            x = (x + layer.ffn_down.forward(&hidden)?)?;
        }
        cache.len = cached_len + count;
        if !with_logits {
            return Ok(None);
        }
        let last = x.i(count - 1..)?.contiguous()?;
        let input = ops::rms_norm(&last, &self.output_norm, self.epsilon)?;
        Ok(Some(self.head.forward(&input)?.flatten_all()?.to_vec1()?))
    }

    /// Computes the self-attention of one layer: each new position attends to all earlier positions and itself.
    fn attend(
        &self,
        layer: &Layer,
        (keys, values): &(Tensor, Tensor),
        x: &Tensor,
        cached_len: usize,
        mask: Option<&Tensor>,
    ) -> NetworkResult<Tensor> {
        let (count, _) = x.dims2()?;
        let total = cached_len + count;
        let split_heads =
            |y: Tensor, heads: usize| y.reshape((1, count, heads, self.shape.head_size))?.transpose(1, 2)?.contiguous();
        let mut query = split_heads(layer.query.forward(x)?, self.shape.heads)?;
        let mut key = split_heads(layer.key.forward(x)?, self.shape.kv_heads)?;
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            query = ops::rms_norm(&query, query_norm, self.epsilon)?;
            key = ops::rms_norm(&key, key_norm, self.epsilon)?;
        }
        let query = self.rotate(&query, cached_len)?;
        let key = self.rotate(&key, cached_len)?.squeeze(0)?;
        let value = split_heads(layer.value.forward(x)?, self.shape.kv_heads)?.squeeze(0)?;
        keys.slice_set(&key, 1, cached_len)?;
        values.slice_set(&value, 1, cached_len)?;

        let rows = self.shape.heads / self.shape.kv_heads * count;
        let query = query.reshape((self.shape.kv_heads, rows, self.shape.head_size))?;
        #[allow(clippy::cast_precision_loss)]
        let scale = 1.0 / (self.shape.head_size as f64).sqrt();
        let scores = (query * scale)?.matmul(&keys.narrow(1, 0, total)?.transpose(1, 2)?)?;
        let scores = match mask {
            Some(mask) => scores.reshape((self.shape.heads, count, total))?.broadcast_add(mask)?.reshape((
                self.shape.kv_heads,
                rows,
                total,
            ))?,
            None => scores,
        };
        let weights = ops::softmax(&scores)?;
        let output = weights.matmul(&values.narrow(1, 0, total)?)?;
        let output = output
            .reshape((self.shape.heads, count, self.shape.head_size))?
            .transpose(0, 1)?
            .contiguous()?
            .flatten_from(D::Minus2)?;
        layer.output.forward(&output)
    }

    fn rotate(&self, x: &Tensor, cached_len: usize) -> NetworkResult<Tensor> {
        let count = x.dim(2)?;
        let cos = self.cos.narrow(0, cached_len, count)?;
        let sin = self.sin.narrow(0, cached_len, count)?;
        ops::rotate(x, &cos, &sin, self.rotation)
    }
}

/// Creates the attention mask: each of the `count` new positions attends to all earlier ones and itself.
fn causal_mask(count: usize, cached_len: usize) -> NetworkResult<Tensor> {
    let total = cached_len + count;
    let mask: Vec<f32> = (0..count)
        .flat_map(|row| (0..total).map(move |column| if column > cached_len + row { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(mask, (count, total), &Device::Cpu)
}
