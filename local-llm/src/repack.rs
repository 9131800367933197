//! Frees GGUF weights once candle's kernels have repacked them.
//!
//! On x86-64, candle's fast kernels repack a matrix when it is first used, and keep that form beside the one that was
//! read. Where they never use the latter again, it would only waste memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor, QuantizedType};
use candle_core::{CpuStorage, DType, Device, Error, Module, Tensor};
use half::f16;

/// From this many rows on, some processors use yet another kernel.
const MANY_ROWS: usize = 32;

/// A matrix whose original weights can be freed, and what the kernels have done with it.
pub(crate) struct RepackedMatrix {
    held: RwLock<Option<Box<dyn QuantizedType>>>,
    kind: GgmlDType,
    /// Whether a kernel repacked it.
    copied: AtomicBool,
    /// Whether a kernel computed with the original weights.
    used: AtomicBool,
}

/// The matrix as candle's kernels see it.
struct MatrixView(Arc<RepackedMatrix>);

/// Frees the original weights of matrices if this processor's kernels allow it, which it learns from the first matrix.
#[derive(Debug, Default)]
pub(crate) struct Repacker {
    every_kernel_copies: Option<bool>,
}

impl Repacker {
    /// Wraps a matrix; frees its original weights if no kernel will use them again.
    pub(crate) fn matrix(&mut self, tensor: QTensor) -> Result<QMatMul, Error> {
        // Only for these types do the kernels have a repacked form for every number of rows.
        let lendable = cfg!(target_arch = "x86_64") && matches!(tensor.dtype(), GgmlDType::Q4K | GgmlDType::Q8_0);
        if lendable && self.every_kernel_copies != Some(false) {
            Ok(self.lend(tensor)?.0)
        } else {
            QMatMul::from_arc(Arc::new(tensor))
        }
    }

    fn lend(&mut self, tensor: QTensor) -> Result<(QMatMul, Arc<RepackedMatrix>), Error> {
        let (kind, shape) = (tensor.dtype(), tensor.shape().clone());
        let (_, width) = shape.dims2()?;
        let held = RwLock::new(Some(kind.from_data(tensor.data()?)));
        drop(tensor);
        let lent =
            Arc::new(RepackedMatrix { held, kind, copied: AtomicBool::new(false), used: AtomicBool::new(false) });
        let view = QTensor::new(QStorage::Cpu(Box::new(MatrixView(Arc::clone(&lent)))), shape)?;
        let matrix = QMatMul::from_arc(Arc::new(view))?;
        let mut alone = lent.is_copied_by(&matrix, 1, width)?;
        if alone && self.every_kernel_copies.is_none() {
            // The kernel for many rows must neither repack the matrix again nor use the original weights.
            let again = lent.is_copied_by(&matrix, MANY_ROWS, width)?;
            alone = !again && !lent.used.load(Ordering::SeqCst);
            self.every_kernel_copies = Some(alone);
        }
        if alone {
            *lent.held.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok((matrix, lent))
    }
}

impl RepackedMatrix {
    /// Whether a product with this many rows repacks the matrix and computes with the repacked form alone.
    fn is_copied_by(&self, matrix: &QMatMul, rows: usize, width: usize) -> Result<bool, Error> {
        self.copied.store(false, Ordering::SeqCst);
        matrix.forward(&Tensor::zeros((rows, width), DType::F32, &Device::Cpu)?)?;
        Ok(self.copied.load(Ordering::SeqCst) && !self.used.load(Ordering::SeqCst))
    }

    fn with<T>(&self, ask: impl FnOnce(&dyn QuantizedType) -> Result<T, Error>) -> Result<T, Error> {
        self.used.store(true, Ordering::SeqCst);
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let gone = || Error::Msg("weights that were let go of are asked for again".to_owned());
        ask(held.as_deref().ok_or_else(gone)?)
    }
}

impl QuantizedType for MatrixView {
    fn dtype(&self) -> GgmlDType {
        self.0.kind
    }

    fn matmul_t(&self, mkn: (usize, usize, usize), lhs: &[f32], dst: &mut [f32]) -> Result<(), Error> {
        self.0.with(|held| held.matmul_t(mkn, lhs, dst))
    }

    fn matmul_t_f16(&self, mkn: (usize, usize, usize), lhs: &[f16], dst: &mut [f16]) -> Result<(), Error> {
        self.0.with(|held| held.matmul_t_f16(mkn, lhs, dst))
    }

    fn embedding(&self, ids: &[u32], rows: usize, hidden: usize) -> Result<CpuStorage, Error> {
        self.0.with(|held| held.embedding(ids, rows, hidden))
    }

    fn dequantize(&self, elem_count: usize) -> Result<CpuStorage, Error> {
        self.0.with(|held| held.dequantize(elem_count))
    }

    /// Zero once the weights are freed, so that no caller reads through the dangling pointer.
    fn storage_size_in_bytes(&self) -> usize {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        held.as_deref().map_or(0, QuantizedType::storage_size_in_bytes)
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.copied.store(true, Ordering::SeqCst);
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        held.as_deref().map_or(std::ptr::dangling::<u128>().cast(), QuantizedType::as_ptr)
    }

    fn block_size(&self) -> usize {
        self.0.kind.block_size()
    }

    fn from_float(&mut self, _: &[f32]) {}

    fn from_float_imatrix(&mut self, _: &[f32], _: &[f32], _: usize) {}

    fn size(&self) -> usize {
        self.storage_size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, width: usize) -> Tensor {
        let all: Vec<f32> = (0..rows * width).map(|at| ((at * 37 % 101) as f32 - 50.0) / 25.0).collect();
        Tensor::from_vec(all, (rows, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn products_are_the_same_with_weights_that_are_gone() {
        for kind in [GgmlDType::Q4K, GgmlDType::Q8_0, GgmlDType::Q6K, GgmlDType::Q4_0] {
            let weights = || QTensor::quantize(&numbers(64, 512), kind).unwrap();
            let plain = QMatMul::from_arc(Arc::new(weights())).unwrap();
            let lent = Repacker::default().matrix(weights()).unwrap();
            for rows in [1, 2, 5, 31, 32, 33, 100] {
                let given = numbers(rows, 512);
                let product = |matrix: &QMatMul| matrix.forward(&given).unwrap().to_vec2::<f32>().unwrap();
                assert_eq!(product(&lent), product(&plain), "{kind:?}, {rows} rows");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn weights_go_where_every_kernel_has_its_own_form_of_them() {
        let mut lender = Repacker::default();
        let (matrix, lent) = lender.lend(QTensor::quantize(&numbers(64, 512), GgmlDType::Q4K).unwrap()).unwrap();
        let gone = lent.held.read().unwrap().is_none();
        assert_eq!(Some(gone), lender.every_kernel_copies.or(Some(false)));
        assert!(gone || !std::is_x86_feature_detected!("avx2") || lender.every_kernel_copies == Some(false));
        // A matrix with an odd number of rows has no repacked form, so these weights stay.
        let (odd, stays) = lender.lend(QTensor::quantize(&numbers(63, 512), GgmlDType::Q4K).unwrap()).unwrap();
        assert!(stays.held.read().unwrap().is_some());
        assert_eq!(odd.forward(&numbers(40, 512)).unwrap().dims(), [40, 63]);
        assert_eq!(matrix.forward(&numbers(40, 512)).unwrap().dims(), [40, 64]);
    }
}
