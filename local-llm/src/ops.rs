//! The operations of the network between its matrix products, on `f32` values.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The number of values from which an operation uses all threads.
const PARALLEL_FROM: usize = 1 << 14;

/// The layout of the dimension pairs that the rotary embedding rotates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// Two adjacent dimensions form a pair (`llama` files).
    Interleaved,
    /// A dimension of the first half of a head and one of the second half form a pair (`qwen2` and `qwen3` files).
    Halves,
}

/// Divides each row by the root of its mean square, and multiplies it by `weight`.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    if x.dims().last().copied() != Some(weight.dims1()?) {
        bail!("rows of the shape {:?} do not fit a norm of the shape {:?}", x.shape(), weight.shape())
    }
    x.apply_op2_no_bwd(weight, &RmsNorm { epsilon })
}

/// Turns each row of scores into probabilities.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Softmax)
}

/// Rotates the heads of `x`, of the shape (1, heads, positions, head size), by the angles of each position.
pub(crate) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor, rotation: Rotation) -> Result<Tensor> {
    let (_, _, count, size) = x.dims4()?;
    let pairs = (count, size / 2);
    if !size.is_multiple_of(2) || cos.dims2()? != pairs || sin.dims2()? != pairs {
        bail!("heads of the shape {:?} do not fit angles of the shape {:?}", x.shape(), cos.shape())
    }
    x.apply_op3_no_bwd(cos, sin, &Rotate { rotation })
}

struct RmsNorm {
    epsilon: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = values(weight, weight_layout)?;
        let result = map_chunks(values(x, x_layout)?, weight.len(), |row, result| {
            #[allow(clippy::cast_precision_loss)]
            let mean_square = row.iter().map(|value| value * value).sum::<f32>() / row.len() as f32;
            let root = (mean_square + self.epsilon).sqrt();
            for ((result, value), weight) in result.iter_mut().zip(row).zip(weight) {
                *result = value / root * weight;
            }
        });
        Ok((CpuStorage::F32(result), x_layout.shape().clone()))
    }
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let size = layout.dims().last().copied().unwrap_or(1);
        let result = map_chunks(values(x, layout)?, size, |row, result| {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (result, value) in result.iter_mut().zip(row) {
                *result = (value - max).exp();
            }
            let sum = result.iter().sum::<f32>();
            for value in result.iter_mut() {
                *value /= sum;
            }
        });
        Ok((CpuStorage::F32(result), layout.shape().clone()))
    }
}

struct Rotate {
    rotation: Rotation,
}

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, _, count, size) = x_layout.shape().dims4()?;
        let (cos, sin) = (values(cos, cos_layout)?, values(sin, sin_layout)?);
        let result = map_chunks(values(x, x_layout)?, count * size, |head, result| {
            let angles = cos.chunks_exact(size / 2).zip(sin.chunks_exact(size / 2));
            let rows = head.chunks_exact(size).zip(result.chunks_exact_mut(size));
            for ((row, result), (cos, sin)) in rows.zip(angles) {
                self.rotation.rotate_row(row, result, cos, sin);
            }
        });
        Ok((CpuStorage::F32(result), x_layout.shape().clone()))
    }
}

impl Rotation {
    fn rotate_row(self, row: &[f32], result: &mut [f32], cos: &[f32], sin: &[f32]) {
        for (index, (cos_value, sin_value)) in cos.iter().zip(sin).enumerate() {
            let (first, second) = match self {
                Self::Interleaved => (2 * index, 2 * index + 1),
                Self::Halves => (index, index + cos.len()),
            };
            result[first] = row[first] * cos_value - row[second] * sin_value;
            result[second] = row[first] * sin_value + row[second] * cos_value;
        }
    }
}

/// The values of a contiguous tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("the values of the shape {:?} are not contiguous", layout.shape()),
    }
}

/// Computes each chunk of the result from the same chunk of `source`, on all threads if there are many values.
fn map_chunks(source: &[f32], size: usize, compute: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f32> {
    let size = size.max(1);
    let mut result = vec![0.0; source.len()];
    if source.len() < PARALLEL_FROM {
        let chunks = source.chunks_exact(size).zip(result.chunks_exact_mut(size));
        chunks.for_each(|(source, result)| compute(source, result));
    } else {
        let chunks = source.par_chunks_exact(size).zip(result.par_chunks_exact_mut(size));
        chunks.for_each(|(source, result)| compute(source, result));
    }
    result
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, IndexOp as _};

    use super::*;

    fn tensor(values: &[f32], shape: impl Into<Shape>) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    #[track_caller]
    fn assert_close(tensor: &Tensor, expected: &[f32]) {
        let found: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(found.len(), expected.len());
        let is_close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(is_close, "{found:?} instead of {expected:?}");
    }

    /// Values without a pattern that repeats in every row.
    fn many_values(count: u16) -> Vec<f32> {
        (0..count).map(|index| (f32::from(index) * 0.37).sin()).collect()
    }

    #[test]
    fn a_norm_divides_by_the_root_of_the_mean_square() {
        let x = tensor(&[1.0, 7.0, 0.0, 10.0], (2, 2));
        let weight = tensor(&[1.0, 2.0], 2);
        assert_close(&rms_norm(&x, &weight, 0.0).unwrap(), &[0.2, 2.8, 0.0, 2.0 * 2.0_f32.sqrt()]);
        assert_close(&rms_norm(&x.i(..1).unwrap(), &weight, 24.0).unwrap(), &[1.0 / 7.0, 2.0]);
        assert!(rms_norm(&x, &tensor(&[1.0; 3], 3), 0.0).is_err());
    }

    #[test]
    fn a_masked_score_has_the_probability_zero() {
        let scores = tensor(&[0.0, 3.0_f32.ln(), f32::NEG_INFINITY, 1000.0, 1000.0, 1000.0], (1, 2, 3));
        let third = 1.0 / 3.0;
        assert_close(&softmax(&scores).unwrap(), &[0.25, 0.75, 0.0, third, third, third]);
    }

    #[test]
    fn each_position_is_rotated_by_its_own_angles() {
        // One head with two positions: the first is rotated by 90 degrees, the second by 0.
        let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], (1, 1, 2, 4));
        let cos = tensor(&[0.0, 0.0, 1.0, 1.0], (2, 2));
        let sin = tensor(&[1.0, 1.0, 0.0, 0.0], (2, 2));
        let interleaved = rotate(&x, &cos, &sin, Rotation::Interleaved).unwrap();
        assert_close(&interleaved, &[-2.0, 1.0, -4.0, 3.0, 5.0, 6.0, 7.0, 8.0]);
        let halves = rotate(&x, &cos, &sin, Rotation::Halves).unwrap();
        assert_close(&halves, &[-3.0, -4.0, 1.0, 2.0, 5.0, 6.0, 7.0, 8.0]);
        assert!(rotate(&x, &cos.i(..1).unwrap(), &sin, Rotation::Halves).is_err());
    }

    #[test]
    fn many_values_have_the_same_results_as_their_rows() {
        let x = tensor(&many_values(32_768), (64, 512));
        assert!(x.elem_count() >= PARALLEL_FROM);
        let weight = tensor(&many_values(512), 512);
        let (norms, shares) = (rms_norm(&x, &weight, 1e-5).unwrap(), softmax(&x).unwrap());
        for index in [0, 17, 63] {
            let row = x.i(index..index + 1).unwrap();
            let expected: Vec<f32> = rms_norm(&row, &weight, 1e-5).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_close(&norms.i(index).unwrap(), &expected);
            let expected: Vec<f32> = softmax(&row).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_close(&shares.i(index).unwrap(), &expected);
        }
    }

    #[test]
    fn many_heads_have_the_same_results_as_each_head() {
        let x = tensor(&many_values(32_768), (1, 16, 32, 64));
        let angles = tensor(&many_values(1024), (32, 32));
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        for rotation in [Rotation::Interleaved, Rotation::Halves] {
            let rotated = rotate(&x, &cos, &sin, rotation).unwrap();
            let head = x.narrow(1, 5, 1).unwrap();
            let alone = rotate(&head, &cos, &sin, rotation).unwrap();
            let expected: Vec<f32> = alone.flatten_all().unwrap().to_vec1().unwrap();
            assert_close(&rotated.narrow(1, 5, 1).unwrap(), &expected);
        }
    }
}
