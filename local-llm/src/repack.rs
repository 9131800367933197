//! Frees GGUF weights once candle's kernels have repacked them.
//!
//! On x86-64, candle's fast kernels repack a matrix when they first use it, and keep both the repacked and the original
//! weights in memory. If no kernel uses the original weights again, this module frees them.
//!
//! candle reads the original weights through the pointer of a storage, which dangles once they are freed. This is sound
//! because candle reads as many bytes as the storage says that it has, which is none then: a kernel that repacks a freed
//! matrix panics at its first block. Which kernels repack is a property of the version of candle, so `Cargo.toml` names
//! one version exactly. Before an update, read the callers of `as_ptr` and `storage_size_in_bytes` in
//! `candle-core/src/quantized`, and run the tests of this module on a processor with AVX-512.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor, QuantizedType};
use candle_core::{CpuStorage, DType, Device, Error, Module, Tensor};
use half::f16;

/// The number of rows from which some processors use a different kernel.
const MANY_ROWS: usize = 32;

/// A matrix whose original weights can be freed. It records how the kernels use them.
pub(crate) struct RepackedMatrix {
    /// The original weights; `None` once they are freed.
    original: RwLock<Option<Box<dyn QuantizedType>>>,
    dtype: GgmlDType,
    /// Whether a kernel repacked the matrix.
    is_repacked: AtomicBool,
    /// Whether a kernel computed with the original weights.
    is_original_used: AtomicBool,
}

/// The storage through which candle's kernels access the matrix.
struct MatrixView(Arc<RepackedMatrix>);

/// Frees the original weights of matrices if this processor's kernels allow it. Tests the kernels with the first matrix
/// of each type, because each type has kernels of its own.
#[derive(Debug, Default)]
pub(crate) struct Repacker {
    /// The types whose kernels were tested, each with whether they all use the same repacked form.
    tested_types: Vec<(GgmlDType, bool)>,
}

impl Repacker {
    /// Wraps a matrix; frees its original weights if no kernel will use them again.
    pub(crate) fn wrap_matrix(&mut self, tensor: QTensor) -> Result<QMatMul, Error> {
        // Only these types have a repacked form for every number of rows.
        let is_supported = cfg!(target_arch = "x86_64") && matches!(tensor.dtype(), GgmlDType::Q4K | GgmlDType::Q8_0);
        if is_supported && self.every_kernel_repacks(tensor.dtype()) != Some(false) {
            Ok(self.wrap(tensor)?.0)
        } else {
            QMatMul::from_arc(Arc::new(tensor))
        }
    }

    /// Whether all kernels for this type use the same repacked form; `None` if they are not tested yet.
    fn every_kernel_repacks(&self, dtype: GgmlDType) -> Option<bool> {
        self.tested_types.iter().find(|(tested, _)| *tested == dtype).map(|(_, repacks)| *repacks)
    }

    fn wrap(&mut self, tensor: QTensor) -> Result<(QMatMul, Arc<RepackedMatrix>), Error> {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().clone());
        let (_, width) = shape.dims2()?;
        let original = RwLock::new(Some(dtype.from_data(tensor.data()?)));
        drop(tensor);
        let (is_repacked, is_original_used) = (AtomicBool::new(false), AtomicBool::new(false));
        let repacked = Arc::new(RepackedMatrix { original, dtype, is_repacked, is_original_used });
        let view = QTensor::new(QStorage::Cpu(Box::new(MatrixView(Arc::clone(&repacked)))), shape)?;
        let matrix = QMatMul::from_arc(Arc::new(view))?;
        let mut uses_only_repacked = repacked.repacks_in_product(&matrix, 1, width)?;
        if uses_only_repacked && self.every_kernel_repacks(dtype).is_none() {
            // The kernel for many rows must neither repack the matrix again nor use the original weights.
            let repacks_again = repacked.repacks_in_product(&matrix, MANY_ROWS, width)?;
            uses_only_repacked = !repacks_again && !repacked.is_original_used.load(Ordering::SeqCst);
            self.tested_types.push((dtype, uses_only_repacked));
        }
        if uses_only_repacked {
            *repacked.original.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok((matrix, repacked))
    }
}

impl RepackedMatrix {
    /// Whether a product with this many rows repacks the matrix and computes only with the repacked form.
    fn repacks_in_product(&self, matrix: &QMatMul, rows: usize, width: usize) -> Result<bool, Error> {
        self.is_repacked.store(false, Ordering::SeqCst);
        matrix.forward(&Tensor::zeros((rows, width), DType::F32, &Device::Cpu)?)?;
        Ok(self.is_repacked.load(Ordering::SeqCst) && !self.is_original_used.load(Ordering::SeqCst))
    }

    fn with_original<T>(&self, compute: impl FnOnce(&dyn QuantizedType) -> Result<T, Error>) -> Result<T, Error> {
        self.is_original_used.store(true, Ordering::SeqCst);
        let original = self.original.read().unwrap_or_else(PoisonError::into_inner);
        let freed = || Error::Msg("a kernel uses weights that are already freed".to_owned());
        compute(original.as_deref().ok_or_else(freed)?)
    }
}

impl QuantizedType for MatrixView {
    fn dtype(&self) -> GgmlDType {
        self.0.dtype
    }

    fn matmul_t(&self, mkn: (usize, usize, usize), lhs: &[f32], dst: &mut [f32]) -> Result<(), Error> {
        self.0.with_original(|original| original.matmul_t(mkn, lhs, dst))
    }

    fn matmul_t_f16(&self, mkn: (usize, usize, usize), lhs: &[f16], dst: &mut [f16]) -> Result<(), Error> {
        self.0.with_original(|original| original.matmul_t_f16(mkn, lhs, dst))
    }

    fn embedding(&self, ids: &[u32], rows: usize, hidden: usize) -> Result<CpuStorage, Error> {
        self.0.with_original(|original| original.embedding(ids, rows, hidden))
    }

    fn dequantize(&self, elem_count: usize) -> Result<CpuStorage, Error> {
        self.0.with_original(|original| original.dequantize(elem_count))
    }

    /// Zero once the weights are freed, so that no caller reads through the dangling pointer. Nothing frees weights
    /// between the calls for a pointer and its size: [`Repacker::wrap`] frees them before it hands out the matrix.
    fn storage_size_in_bytes(&self) -> usize {
        let original = self.0.original.read().unwrap_or_else(PoisonError::into_inner);
        original.as_deref().map_or(0, QuantizedType::storage_size_in_bytes)
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.is_repacked.store(true, Ordering::SeqCst);
        let original = self.0.original.read().unwrap_or_else(PoisonError::into_inner);
        original.as_deref().map_or(std::ptr::dangling::<u128>().cast(), QuantizedType::as_ptr)
    }

    fn block_size(&self) -> usize {
        self.0.dtype.block_size()
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

    fn matrix(rows: usize, width: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn freed_weights_do_not_change_products() {
        for dtype in [GgmlDType::Q4K, GgmlDType::Q8_0, GgmlDType::Q6K, GgmlDType::Q4_0] {
            let weights = || QTensor::quantize(&matrix(64, 512), dtype).unwrap();
            let plain = QMatMul::from_arc(Arc::new(weights())).unwrap();
            let repacked = Repacker::default().wrap_matrix(weights()).unwrap();
            for rows in [1, 2, 5, 31, 32, 33, 100] {
                let input = matrix(rows, 512);
                let product = |matrix: &QMatMul| matrix.forward(&input).unwrap().to_vec2::<f32>().unwrap();
                assert_eq!(product(&repacked), product(&plain), "{dtype:?}, {rows} rows");
            }
        }
    }

    /// Wraps a matrix of this type; `None` if the kernels of this processor need its original weights.
    #[cfg(target_arch = "x86_64")]
    fn freed_matrix(dtype: GgmlDType) -> Option<(QMatMul, Arc<RepackedMatrix>)> {
        let wrapped = Repacker::default().wrap(QTensor::quantize(&matrix(64, 512), dtype).unwrap()).unwrap();
        let is_freed = wrapped.1.original.read().unwrap().is_none();
        is_freed.then_some(wrapped)
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn no_kernel_asks_for_freed_weights() {
        for dtype in [GgmlDType::Q4K, GgmlDType::Q8_0] {
            let Some((product, freed)) = freed_matrix(dtype) else { continue };
            freed.is_repacked.store(false, Ordering::SeqCst);
            for rows in 1..=100 {
                product.forward(&matrix(rows, 512)).unwrap();
                assert!(!freed.is_repacked.load(Ordering::SeqCst), "{dtype:?} was repacked again for {rows} rows");
                assert!(!freed.is_original_used.load(Ordering::SeqCst), "{dtype:?}, {rows} rows");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn freed_weights_have_no_bytes_to_read() {
        for dtype in [GgmlDType::Q4K, GgmlDType::Q8_0] {
            let Some((QMatMul::QTensor(tensor), _)) = freed_matrix(dtype) else { continue };
            assert_eq!(tensor.storage_size_in_bytes(), 0);
            assert!(tensor.data().unwrap().is_empty());
            assert!(tensor.dequantize(&Device::Cpu).is_err());
            assert!(tensor.embedding(&Tensor::zeros(1, DType::U32, &Device::Cpu).unwrap()).is_err());
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_kernels_of_each_type_are_tested() {
        let mut repacker = Repacker::default();
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K] {
            repacker.wrap(QTensor::quantize(&matrix(64, 512), dtype).unwrap()).unwrap();
            let alone = freed_matrix(dtype).is_some();
            assert_eq!(repacker.every_kernel_repacks(dtype).unwrap_or(false), alone, "{dtype:?}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn weights_are_freed_if_every_kernel_repacks_them() {
        let mut repacker = Repacker::default();
        let (even, freed) = repacker.wrap(QTensor::quantize(&matrix(64, 512), GgmlDType::Q4K).unwrap()).unwrap();
        let is_freed = freed.original.read().unwrap().is_none();
        let every_kernel_repacks = repacker.every_kernel_repacks(GgmlDType::Q4K);
        assert_eq!(Some(is_freed), every_kernel_repacks.or(Some(false)));
        assert!(is_freed || !std::is_x86_feature_detected!("avx2") || every_kernel_repacks == Some(false));
        // A matrix with an odd number of rows has no repacked form, so its original weights remain.
        let (odd, remaining) = repacker.wrap(QTensor::quantize(&matrix(63, 512), GgmlDType::Q4K).unwrap()).unwrap();
        assert!(remaining.original.read().unwrap().is_some());
        assert_eq!(odd.forward(&matrix(40, 512)).unwrap().dims(), [40, 63]);
        assert_eq!(even.forward(&matrix(40, 512)).unwrap().dims(), [40, 64]);
    }
}
