//! The tensors of a GGUF file: their types, and the memory that they need.

/// The number of weights in a block of `Q8_0`.
const Q8_0_BLOCK_WEIGHTS: u64 = 32;
/// The size of a block of `Q8_0`, in bytes.
const Q8_0_BLOCK_BYTES: u64 = 34;

/// A tensor type of the GGUF format.
struct TensorType {
    /// The number of the type in the format.
    number: u32,
    name: &'static str,
    /// The number of weights in a block.
    block_weights: u64,
    /// The size of a block, in bytes.
    block_bytes: u64,
    /// Whether this crate supports the type.
    is_supported: bool,
}

const fn supported(number: u32, name: &'static str, block_weights: u64, block_bytes: u64) -> TensorType {
    TensorType { number, name, block_weights, block_bytes, is_supported: true }
}

const fn unsupported(number: u32, name: &'static str, block_weights: u64, block_bytes: u64) -> TensorType {
    TensorType { number, name, block_weights, block_bytes, is_supported: false }
}

/// The tensor types that this crate recognizes.
static TENSOR_TYPES: [TensorType; 31] = [
    supported(0, "F32", 1, 4),
    supported(1, "F16", 1, 2),
    supported(2, "Q4_0", 32, 18),
    supported(3, "Q4_1", 32, 20),
    supported(6, "Q5_0", 32, 22),
    supported(7, "Q5_1", 32, 24),
    supported(8, "Q8_0", Q8_0_BLOCK_WEIGHTS, Q8_0_BLOCK_BYTES),
    supported(9, "Q8_1", 32, 36),
    supported(10, "Q2_K", 256, 84),
    supported(11, "Q3_K", 256, 110),
    supported(12, "Q4_K", 256, 144),
    supported(13, "Q5_K", 256, 176),
    supported(14, "Q6_K", 256, 210),
    supported(15, "Q8_K", 256, 292),
    unsupported(16, "IQ2_XXS", 256, 66),
    unsupported(17, "IQ2_XS", 256, 74),
    unsupported(18, "IQ3_XXS", 256, 98),
    unsupported(19, "IQ1_S", 256, 50),
    unsupported(20, "IQ4_NL", 32, 18),
    unsupported(21, "IQ3_S", 256, 110),
    unsupported(22, "IQ2_S", 256, 82),
    unsupported(23, "IQ4_XS", 256, 136),
    unsupported(24, "I8", 1, 1),
    unsupported(25, "I16", 1, 2),
    unsupported(26, "I32", 1, 4),
    unsupported(27, "I64", 1, 8),
    unsupported(28, "F64", 1, 8),
    unsupported(29, "IQ1_M", 256, 56),
    supported(30, "BF16", 1, 2),
    unsupported(34, "TQ1_0", 256, 54),
    unsupported(35, "TQ2_0", 256, 66),
];

fn tensor_type(number: u32) -> Option<&'static TensorType> {
    TENSOR_TYPES.iter().find(|tensor_type| tensor_type.number == number)
}

/// The description of a tensor in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    /// The number of weights.
    pub(crate) weight_count: u64,
    /// The number of weights in a row, which is the first dimension in the file.
    pub(crate) row_length: u64,
    /// The number of the tensor type in the GGUF format.
    pub(crate) type_number: u32,
    /// Whether the tensor has more than one dimension.
    pub(crate) is_matrix: bool,
    /// The size in the file, in bytes.
    pub(crate) bytes: u64,
}

impl TensorInfo {
    /// The minimum and maximum size in memory, in bytes. The maximum includes the repacked copy that kernels keep.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        if !self.is_matrix {
            let bytes = self.weight_count.saturating_mul(4);
            return (bytes, bytes);
        }
        let is_x86 = cfg!(target_arch = "x86_64");
        let double_bytes = self.bytes.saturating_mul(2);
        match tensor_type(self.type_number).map_or("", |tensor_type| tensor_type.name) {
            // The kernels repack each block of 144 bytes into 192 bytes. This crate then frees the original weights.
            "Q4_K" if is_x86 => (self.bytes, self.bytes / 144 * 192),
            // The kernels repack each block of 210 bytes into 320 bytes, and keep the original weights for products
            // with one row.
            "Q6_K" if is_x86 => (self.bytes, self.bytes / 210 * (210 + 320)),
            // The kernels of ARM processors repack blocks into the same size, and keep the original weights.
            "Q4_0" | "Q8_0" | "Q4_K" | "Q5_K" | "Q6_K" if !is_x86 => (self.bytes, double_bytes),
            // On x86, all of these types but Q4_K and Q6_K reach this arm; on ARM, only Q2_K and Q3_K. Of them, the
            // kernels repack only Q8_0, to the same size, and this crate then frees the original.
            "Q4_0" | "Q8_0" | "Q2_K" | "Q3_K" | "Q4_K" | "Q5_K" | "Q6_K" => (self.bytes, self.bytes),
            // This crate converts the other types to `Q8_0` if each row consists of whole blocks.
            _ if self.row_length.is_multiple_of(Q8_0_BLOCK_WEIGHTS) => {
                let bytes = (self.weight_count / Q8_0_BLOCK_WEIGHTS).saturating_mul(Q8_0_BLOCK_BYTES);
                (bytes, if is_x86 { bytes } else { bytes.saturating_mul(2) })
            }
            // The kernels compute with these types as numbers of four bytes.
            "F32" | "F16" | "BF16" => {
                let bytes = self.weight_count.saturating_mul(4);
                (bytes, bytes)
            }
            _ => (self.bytes, self.bytes),
        }
    }

    /// Whether this crate supports the type of the tensor.
    pub(crate) fn is_supported(&self) -> bool {
        tensor_type(self.type_number).is_some_and(|tensor_type| tensor_type.is_supported)
    }

    /// The name of the tensor's type for messages; its number if this crate does not recognize it.
    pub(crate) fn type_name(&self) -> String {
        let name = tensor_type(self.type_number).map(|tensor_type| tensor_type.name.to_owned());
        name.unwrap_or_else(|| format!("number {}", self.type_number))
    }
}

/// The size in a file of this number of weights, in bytes; 0 for a type that this crate does not recognize.
pub(crate) fn stored_bytes(type_number: u32, weight_count: u64) -> u64 {
    tensor_type(type_number).map_or(0, |tensor_type| {
        weight_count.div_ceil(tensor_type.block_weights).saturating_mul(tensor_type.block_bytes)
    })
}

/// The names of the types that this crate supports.
pub(crate) fn supported_type_names() -> Vec<&'static str> {
    TENSOR_TYPES.iter().filter(|tensor_type| tensor_type.is_supported).map(|tensor_type| tensor_type.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_whole_blocks_are_converted() {
        let memory = |type_number: u32, row_length: u64| {
            let weight_count = row_length * 10;
            let bytes = stored_bytes(type_number, weight_count);
            TensorInfo { name: "m".to_owned(), weight_count, row_length, type_number, is_matrix: true, bytes }
                .memory_bytes()
        };
        let copies = if cfg!(target_arch = "x86_64") { 1 } else { 2 };
        for number in [0, 1, 30] {
            assert_eq!(memory(number, 64), (680, 680 * copies), "type {number}");
            assert_eq!(memory(number, 40), (1600, 1600), "type {number}");
        }
    }
}
