//! The network: the quantized weights of a `llama`, `qwen2` or `qwen3` model and its forward pass, with a key-value
//! cache that can be truncated.

use std::io::{Read, Seek};
use std::sync::Arc;

use candle_core::quantized::QMatMul;
use candle_core::quantized::gguf_file::Content;
use candle_core::{D, DType, Device, IndexOp, Tensor};

use crate::Error;
use crate::reader::{Layer, Linear, TensorReader};

/// The most positions that are kept, whatever the model claims to support.
pub(crate) const MAX_POSITIONS: usize = 8192;

type NetworkResult<T> = Result<T, candle_core::Error>;

/// How the two halves of a rotated pair are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rotation {
    /// Neighbours form a pair (`llama` files).
    Interleaved,
    /// The first and the second half of a head form the pairs (`qwen2` and `qwen3` files).
    Halves,
}

/// Keys and values of the positions read so far, for every layer.
pub(crate) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
}

impl Cache {
    /// How many positions are held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets every position from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// A loaded network.
pub(crate) struct Transformer {
    embedding: QMatMul,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Linear,
    cos: Tensor,
    sin: Tensor,
    rotation: Rotation,
    epsilon: f32,
    shape: NetworkShape,
    bytes: usize,
}

/// The dimensions of a network.
struct NetworkShape {
    heads: usize,
    groups: usize,
    head_size: usize,
    positions: usize,
}

impl NetworkShape {
    fn read<R: Read + Seek>(reader: &TensorReader<'_, R>) -> Result<Self, Error> {
        let heads = reader.count("attention.head_count")?;
        let groups = reader.count_if("attention.head_count_kv")?.unwrap_or(heads);
        let width = reader.count("embedding_length")?;
        if heads == 0 || groups == 0 || !heads.is_multiple_of(groups) {
            return Err(Error::Format(format!("its {heads} heads of queries do not share {groups} of keys evenly")));
        }
        let head_size = match reader.count_if("attention.key_length")? {
            Some(size) => size,
            None if width.is_multiple_of(heads) => width / heads,
            None => return Err(Error::Format(format!("its {heads} heads do not divide its width of {width}"))),
        };
        let of_values = reader.count_if("attention.value_length")?.unwrap_or(head_size);
        let rotated = reader.count_if("rope.dimension_count")?.unwrap_or(head_size);
        if of_values != head_size || rotated != head_size || head_size == 0 || !head_size.is_multiple_of(2) {
            return Err(Error::Format(format!(
                "its heads have {head_size} numbers in keys, {of_values} in values and {rotated} that are rotated: orch \
                 runs models whose heads have one size"
            )));
        }
        let positions = reader.count("context_length")?.min(MAX_POSITIONS);
        Ok(Self { heads, groups, head_size, positions })
    }
}

/// The cosines and sines by which each position is rotated.
fn rotations<R: Read + Seek>(
    reader: &mut TensorReader<'_, R>,
    shape: &NetworkShape,
) -> Result<(Tensor, Tensor), Error> {
    let stretched = match reader.text_if("rope.scaling.type")? {
        None | Some("none") => 1.0,
        Some("linear") => reader.number_if("rope.scaling.factor")?.filter(|factor| *factor > 0.0).unwrap_or(1.0),
        Some(other) => {
            return Err(Error::Format(format!(
                "it stretches positions in the way of `{other}`, and orch knows `linear` and the factors of Llama 3"
            )));
        }
    };
    let (size, base) = (shape.head_size, reader.number_if("rope.freq_base")?.unwrap_or(10_000.0));
    #[allow(clippy::cast_precision_loss)]
    let inverse: Vec<f32> = (0..size).step_by(2).map(|i| base.powf(-(i as f32) / size as f32) / stretched).collect();
    let mut inverse = Tensor::from_vec(inverse, (1, size / 2), &Device::Cpu)?;
    // Llama 3 divides each frequency by its own factor.
    if reader.has("rope_freqs.weight") {
        inverse = (inverse / reader.vector("rope_freqs.weight")?.reshape((1, size / 2))?)?;
    }
    let last = u32::try_from(shape.positions).unwrap_or(u32::MAX);
    let index = Tensor::arange(0u32, last, &Device::Cpu)?.to_dtype(DType::F32)?;
    let angles = index.reshape((shape.positions, 1))?.matmul(&inverse)?;
    Ok((angles.cos()?, angles.sin()?))
}

impl Transformer {
    /// Reads the weights.
    pub(crate) fn read<R: Read + Seek>(content: &Content, source: &mut R) -> Result<Self, Error> {
        let mut reader = TensorReader::new(content, source)?;
        let rotation = if reader.family() == "llama" { Rotation::Interleaved } else { Rotation::Halves };
        let shape = NetworkShape::read(&reader)?;
        let absent = || Error::Format("it has no `attention.layer_norm_rms_epsilon`".to_owned());
        let epsilon = reader.number_if("attention.layer_norm_rms_epsilon")?.ok_or_else(absent)?;
        let (cos, sin) = rotations(&mut reader, &shape)?;
        let count = reader.count("block_count")?;
        let layers = (0..count).map(|index| reader.layer(index)).collect::<Result<_, _>>()?;
        // The embedding keeps the form in which it was read, since single rows of it are looked up.
        let embedding = QMatMul::from_arc(Arc::new(reader.matrix("token_embd.weight")?))?;
        let head = if reader.has("output.weight") {
            reader.linear("output")?
        } else {
            Linear { weight: embedding.clone(), bias: None }
        };
        let norm = reader.vector("output_norm.weight")?;
        let bytes = reader.bytes;
        Ok(Self { embedding, layers, norm, head, cos, sin, rotation, epsilon, shape, bytes })
    }

    /// How many positions fit into the cache.
    pub(crate) fn positions(&self) -> usize {
        self.shape.positions
    }

    /// Bytes of the weights as held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An empty cache with room for every position.
    pub(crate) fn cache(&self) -> Result<Cache, Error> {
        let shape = (self.shape.groups, self.shape.positions, self.shape.head_size);
        let empty = || Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let layers = self.layers.iter().map(|_| Ok((empty()?, empty()?))).collect::<NetworkResult<_>>()?;
        Ok(Cache { layers, len: 0 })
    }

    /// Reads `tokens` after the positions in the cache and adds them to it; returns the scores of the token that
    /// follows if `scores` is set.
    pub(crate) fn forward(&self, tokens: &[u32], cache: &mut Cache, scores: bool) -> Result<Option<Vec<f32>>, Error> {
        let (count, past) = (tokens.len(), cache.len);
        if count == 0 || past + count > self.shape.positions {
            return Err(Error::TooLong { prompt: past + count, limit: self.shape.positions });
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
    ) -> NetworkResult<Tensor> {
        let (count, _) = x.dims2()?;
        let total = past + count;
        let split =
            |y: Tensor, heads: usize| y.reshape((1, count, heads, self.shape.head_size))?.transpose(1, 2)?.contiguous();
        let mut query = split(layer.query.forward(x)?, self.shape.heads)?;
        let mut key = split(layer.key.forward(x)?, self.shape.groups)?;
        if let Some((of_query, of_key)) = &layer.head_norms {
            query = candle_nn::ops::rms_norm(&query, of_query, self.epsilon)?;
            key = candle_nn::ops::rms_norm(&key, of_key, self.epsilon)?;
        }
        let query = self.rotate(&query, past)?;
        let key = self.rotate(&key, past)?.squeeze(0)?;
        let value = split(layer.value.forward(x)?, self.shape.groups)?.squeeze(0)?;
        keys.slice_set(&key, 1, past)?;
        values.slice_set(&value, 1, past)?;

        let rows = self.shape.heads / self.shape.groups * count;
        let query = query.reshape((self.shape.groups, rows, self.shape.head_size))?;
        #[allow(clippy::cast_precision_loss)]
        let scale = 1.0 / (self.shape.head_size as f64).sqrt();
        let scores = (query * scale)?.matmul(&keys.narrow(1, 0, total)?.transpose(1, 2)?)?;
        let scores = match mask {
            Some(mask) => scores.reshape((self.shape.heads, count, total))?.broadcast_add(mask)?.reshape((
                self.shape.groups,
                rows,
                total,
            ))?,
            None => scores,
        };
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let mixed = weights.matmul(&values.narrow(1, 0, total)?)?;
        let mixed = mixed
            .reshape((self.shape.heads, count, self.shape.head_size))?
            .transpose(0, 1)?
            .contiguous()?
            .flatten_from(D::Minus2)?;
        layer.output.forward(&mixed)
    }

    fn rotate(&self, x: &Tensor, past: usize) -> NetworkResult<Tensor> {
        let count = x.dim(2)?;
        let cos = self.cos.narrow(0, past, count)?;
        let sin = self.sin.narrow(0, past, count)?;
        match self.rotation {
            Rotation::Interleaved => candle_nn::rotary_emb::rope_i(x, &cos, &sin),
            Rotation::Halves => candle_nn::rotary_emb::rope(x, &cos, &sin),
        }
    }
}

/// The attention mask: each of the `count` new positions sees all earlier ones and itself.
fn causal(count: usize, past: usize) -> NetworkResult<Tensor> {
    let total = past + count;
    let mask: Vec<f32> = (0..count)
        .flat_map(|row| (0..total).map(move |column| if column > past + row { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(mask, (count, total), &Device::Cpu)
}
