//! The types of the values of tensors, with their names in both formats.

use serde::{Deserialize, Serialize};

/// The type of a tensor's values. In JSON it has its name in safetensors files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Dtype {
    /// Truth value, one byte.
    Bool,
    /// Unsigned integer.
    U8,
    /// Signed integer.
    I8,
    /// Signed integer.
    I16,
    /// Unsigned integer.
    U16,
    /// Signed integer.
    I32,
    /// Unsigned integer.
    U32,
    /// Signed integer.
    I64,
    /// Unsigned integer.
    U64,
    /// Floating point of 4 bits (OCP MXFP4, E2M1).
    F4,
    /// Floating point of 6 bits (OCP MXFP6, E2M3).
    F6E2M3,
    /// Floating point of 6 bits (OCP MXFP6, E3M2).
    F6E3M2,
    /// Floating point of 8 bits (OCP FP8, E5M2).
    F8E5M2,
    /// Floating point of 8 bits without infinities (OCP FP8, E4M3).
    F8E4M3,
    /// Power of two, 8 bits (OCP MX scale, E8M0).
    F8E8M0,
    /// Floating point of 8 bits, E5M2 without infinities and without a negative zero.
    F8E5M2Fnuz,
    /// Floating point of 8 bits, E4M3 without infinities and without a negative zero.
    F8E4M3Fnuz,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an IEEE 754 single.
    Bf16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Complex number of two singles.
    C64,
}

/// One type in both formats.
struct Row {
    dtype: Dtype,
    bits: u64,
    /// In the header of a safetensors file.
    safetensors: &'static str,
    /// In the module `torch`; None for a type that PyTorch has not, or packs differently.
    torch: Option<&'static str>,
    /// The class of storages in the module `torch`; None for the newer types, whose storages are
    /// saved without a type.
    storage: Option<&'static str>,
}

const fn row(
    dtype: Dtype,
    bits: u64,
    safetensors: &'static str,
    torch: Option<&'static str>,
    storage: Option<&'static str>,
) -> Row {
    Row { dtype, bits, safetensors, torch, storage }
}

/// In the order of the enum. Sources: safetensors 0.8 `tensor.rs`; PyTorch 2.11 `torch/storage.py`,
/// `_dtype_to_storage_type_map` and `_new_dtypes`.
const ROWS: [Row; 22] = [
    row(Dtype::Bool, 8, "BOOL", Some("bool"), Some("BoolStorage")),
    row(Dtype::U8, 8, "U8", Some("uint8"), Some("ByteStorage")),
    row(Dtype::I8, 8, "I8", Some("int8"), Some("CharStorage")),
    row(Dtype::I16, 16, "I16", Some("int16"), Some("ShortStorage")),
    row(Dtype::U16, 16, "U16", Some("uint16"), None),
    row(Dtype::I32, 32, "I32", Some("int32"), Some("IntStorage")),
    row(Dtype::U32, 32, "U32", Some("uint32"), None),
    row(Dtype::I64, 64, "I64", Some("int64"), Some("LongStorage")),
    row(Dtype::U64, 64, "U64", Some("uint64"), None),
    row(Dtype::F4, 4, "F4", None, None),
    row(Dtype::F6E2M3, 6, "F6_E2M3", None, None),
    row(Dtype::F6E3M2, 6, "F6_E3M2", None, None),
    row(Dtype::F8E5M2, 8, "F8_E5M2", Some("float8_e5m2"), None),
    row(Dtype::F8E4M3, 8, "F8_E4M3", Some("float8_e4m3fn"), None),
    row(Dtype::F8E8M0, 8, "F8_E8M0", Some("float8_e8m0fnu"), None),
    row(Dtype::F8E5M2Fnuz, 8, "F8_E5M2FNUZ", Some("float8_e5m2fnuz"), None),
    row(Dtype::F8E4M3Fnuz, 8, "F8_E4M3FNUZ", Some("float8_e4m3fnuz"), None),
    row(Dtype::F16, 16, "F16", Some("float16"), Some("HalfStorage")),
    row(Dtype::Bf16, 16, "BF16", Some("bfloat16"), Some("BFloat16Storage")),
    row(Dtype::F32, 32, "F32", Some("float32"), Some("FloatStorage")),
    row(Dtype::F64, 64, "F64", Some("float64"), Some("DoubleStorage")),
    row(Dtype::C64, 64, "C64", Some("complex64"), Some("ComplexFloatStorage")),
];

impl From<Dtype> for &'static str {
    fn from(dtype: Dtype) -> Self {
        dtype.name()
    }
}

impl TryFrom<String> for Dtype {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::of_safetensors(&name).ok_or_else(|| format!("{name:?} is no type of tensors"))
    }
}

impl Dtype {
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Bits of one value.
    pub fn bits(self) -> u64 {
        self.row().bits
    }

    /// Whether its values have fractions, as libtorch takes them.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// Its name in the header of a safetensors file, such as `F32`; also the name in messages.
    pub fn name(self) -> &'static str {
        self.row().safetensors
    }

    /// The type with that name in the header of a safetensors file.
    pub fn of_safetensors(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.safetensors == name).map(|row| row.dtype)
    }

    /// Its name in the module `torch`, such as `float32`.
    pub fn torch_name(self) -> Option<&'static str> {
        self.row().torch
    }

    /// The type with that name in the module `torch`.
    pub fn of_torch(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.torch == Some(name)).map(|row| row.dtype)
    }

    /// The class of its storages in the module `torch`, such as `FloatStorage`.
    pub fn storage_class(self) -> Option<&'static str> {
        self.row().storage
    }

    /// The type whose storages have that class in the module `torch`.
    pub fn of_storage_class(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.storage == Some(name)).map(|row| row.dtype)
    }

    /// How a value is read to learn whether it is finite: its bytes, and the value itself or one
    /// that is NaN, infinite or finite where it is. None for types that hold neither NaN nor an
    /// infinity.
    pub(super) fn decoder(self) -> Option<Decoder> {
        fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.first_chunk().copied().unwrap_or([0; N])
        }
        fn nan_if(is_nan: bool) -> f64 {
            if is_nan { f64::NAN } else { 0.0 }
        }
        match self {
            Self::F64 => Some((8, |bytes| f64::from_le_bytes(word(bytes)))),
            Self::F32 => Some((4, |bytes| f32::from_le_bytes(word(bytes)).into())),
            Self::Bf16 => Some((2, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(word(bytes))) << 16).into())),
            // An exponent of ones is what an F32 with such an exponent is.
            Self::F16 => Some((2, |bytes| {
                let bits = u32::from(u16::from_le_bytes(word(bytes)));
                let exponent = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
                f32::from_bits(((bits & 0x8000) << 16) | exponent | ((bits & 0x3ff) << 13)).into()
            })),
            // NaN where a part is that, else the part that is not finite, where there is one.
            Self::C64 => Some((8, |bytes| {
                let (real, imaginary) = bytes.split_at(4);
                let [real, imaginary] = [real, imaginary].map(|part| f32::from_le_bytes(word(part)));
                f64::from(if real.is_finite() || imaginary.is_nan() { imaginary } else { real })
            })),
            // The upper byte of an F16.
            Self::F8E5M2 => Some((1, |bytes| match bytes {
                [byte] if byte & 0x7f == 0x7c => f64::INFINITY.copysign(if byte & 0x80 == 0 { 1.0 } else { -1.0 }),
                [byte] => nan_if(byte & 0x7f > 0x7c),
                _ => 0.0,
            })),
            Self::F8E4M3 => Some((1, |bytes| nan_if(bytes[0] & 0x7f == 0x7f))),
            Self::F8E8M0 => Some((1, |bytes| nan_if(bytes[0] == 0xff))),
            Self::F8E5M2Fnuz | Self::F8E4M3Fnuz => Some((1, |bytes| nan_if(bytes[0] == 0x80))),
            Self::Bool
            | Self::U8
            | Self::I8
            | Self::I16
            | Self::U16
            | Self::I32
            | Self::U32
            | Self::I64
            | Self::U64
            | Self::F4
            | Self::F6E2M3
            | Self::F6E3M2 => None,
        }
    }
}

/// Bytes of a value, and how it is read.
pub(super) type Decoder = (usize, fn(&[u8]) -> f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_each_of_its_names() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(row.dtype as usize, place);
            assert_eq!(Dtype::of_safetensors(row.dtype.name()), Some(row.dtype));
            assert_eq!(row.torch.and_then(Dtype::of_torch), row.torch.map(|_| row.dtype));
            assert_eq!(row.storage.and_then(Dtype::of_storage_class), row.storage.map(|_| row.dtype));
            let width = row.dtype.decoder().map(|(width, _)| width as u64 * 8);
            assert!(width.is_none_or(|width| width == row.bits), "{}", row.safetensors);
        }
        assert_eq!(Dtype::of_safetensors("float32"), None);
    }
}
