//! Encodes weights in the formats of GGUF files.

use super::TensorType;

fn f16_bits(value: f32) -> u16 {
    // The weights of these files are normal numbers between -8 and 8.
    let bits = value.to_bits();
    let exponent = i32::try_from((bits >> 23) & 0xff).unwrap() - 112;
    let sign = (bits >> 16) & 0x8000;
    if exponent <= 0 {
        return u16::try_from(sign).unwrap();
    }
    let rounded = ((u32::try_from(exponent).unwrap()) << 10 | ((bits >> 13) & 0x3ff)) + ((bits >> 12) & 1);
    u16::try_from(sign | rounded).unwrap()
}

/// The bytes of weights in a format.
pub(crate) fn encode_weights(weights: &[f32], tensor_type: TensorType) -> Vec<u8> {
    match tensor_type {
        TensorType::F32 => weights.iter().flat_map(|weight| weight.to_le_bytes()).collect(),
        TensorType::F16 => weights.iter().flat_map(|weight| f16_bits(*weight).to_le_bytes()).collect(),
        TensorType::Q8 => weights.chunks(32).flat_map(encode_q8_block).collect(),
        TensorType::Unsupported => weights.chunks(32).flat_map(|_| [0; 18]).collect(),
    }
}

fn encode_q8_block(weights: &[f32]) -> Vec<u8> {
    let max = weights.iter().fold(0.0f32, |max, weight| max.max(weight.abs()));
    let scale = max / 127.0;
    let mut bytes = f16_bits(scale).to_le_bytes().to_vec();
    #[allow(clippy::cast_possible_truncation)]
    let quantized = weights.iter().map(|weight| if scale > 0.0 { (weight / scale).round() as i8 } else { 0 });
    bytes.extend(quantized.map(|weight| weight.to_le_bytes()[0]));
    bytes
}
