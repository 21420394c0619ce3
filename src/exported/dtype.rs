//! Numbers that the file has for data types, layouts and memory formats. They are not those of
//! c10, which operators take. (PyTorch, torch/_export/serde/schema.py)

/// A type of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// Unsigned, 8 bits.
    Uint8,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754, 16 bits.
    Float16,
    /// IEEE 754, 32 bits.
    Float32,
    /// IEEE 754, 64 bits.
    Float64,
    /// Two float16.
    Complex32,
    /// Two float32.
    Complex64,
    /// Two float64.
    Complex128,
    /// One byte.
    Bool,
    /// The upper half of a float32.
    Bfloat16,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// 4 bits of exponent, finite and NaN.
    Float8E4m3fn,
    /// 5 bits of exponent.
    Float8E5m2,
    /// 4 bits of exponent, no negative zero.
    Float8E4m3fnuz,
    /// 5 bits of exponent, no negative zero.
    Float8E5m2fnuz,
    /// 8 bits of exponent and nothing else.
    Float8E8m0fnu,
}

/// Type, its number in the file, its number in c10 (c10/core/ScalarType.h), bytes, PyTorch's name.
const DTYPES: [(Dtype, i64, i64, u64, &str); 21] = [
    (Dtype::Uint8, 1, 0, 1, "uint8"),
    (Dtype::Int8, 2, 1, 1, "int8"),
    (Dtype::Int16, 3, 2, 2, "int16"),
    (Dtype::Int32, 4, 3, 4, "int32"),
    (Dtype::Int64, 5, 4, 8, "int64"),
    (Dtype::Float16, 6, 5, 2, "float16"),
    (Dtype::Float32, 7, 6, 4, "float32"),
    (Dtype::Float64, 8, 7, 8, "float64"),
    (Dtype::Complex32, 9, 8, 4, "complex32"),
    (Dtype::Complex64, 10, 9, 8, "complex64"),
    (Dtype::Complex128, 11, 10, 16, "complex128"),
    (Dtype::Bool, 12, 11, 1, "bool"),
    (Dtype::Bfloat16, 13, 15, 2, "bfloat16"),
    (Dtype::Uint16, 28, 27, 2, "uint16"),
    (Dtype::Uint32, 34, 28, 4, "uint32"),
    (Dtype::Uint64, 35, 29, 8, "uint64"),
    (Dtype::Float8E4m3fn, 29, 24, 1, "float8_e4m3fn"),
    (Dtype::Float8E5m2, 30, 23, 1, "float8_e5m2"),
    (Dtype::Float8E4m3fnuz, 31, 26, 1, "float8_e4m3fnuz"),
    (Dtype::Float8E5m2fnuz, 32, 25, 1, "float8_e5m2fnuz"),
    (Dtype::Float8E8m0fnu, 33, 44, 1, "float8_e8m0fnu"),
];

impl Dtype {
    fn row(self) -> &'static (Dtype, i64, i64, u64, &'static str) {
        // Every type has a row; a test goes through all of them.
        DTYPES.iter().find(|row| row.0 == self).unwrap_or(&DTYPES[0])
    }

    /// The type with this number in the file.
    pub fn from_file(number: i64) -> Option<Self> {
        DTYPES.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// Its number in c10.
    pub fn c10(self) -> i64 {
        self.row().2
    }

    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        self.row().3
    }

    /// PyTorch's name, without `torch.`.
    pub fn name(self) -> &'static str {
        self.row().4
    }

    /// The type with this name of PyTorch's.
    pub fn from_name(name: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.4 == name).map(|row| row.0)
    }

    /// Whether it holds fractions, so that a gradient exists.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::Bfloat16 | Self::Float32 | Self::Float64)
    }
}

/// c10's number of a memory format (c10/core/MemoryFormat.h) by the file's.
pub(super) fn memory_format(number: i64) -> Option<i64> {
    match number {
        1 => Some(0), // contiguous
        2 => Some(2), // channels last
        3 => Some(3), // channels last, 3D
        4 => Some(1), // preserve
        _ => None,
    }
}

/// c10's number of a layout (c10/core/Layout.h) by the file's; only dense tensors are taken.
pub(super) fn layout(number: i64) -> Option<i64> {
    (number == 7).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_and_no_name_stands_twice_and_every_type_has_its_own_row() {
        for (place, row) in DTYPES.iter().enumerate() {
            assert_eq!(row.0.row(), row);
            for other in &DTYPES[place + 1..] {
                assert!(row.0 != other.0 && row.1 != other.1 && row.2 != other.2 && row.4 != other.4, "{row:?}");
            }
        }
        assert_eq!(Dtype::from_file(13).map(Dtype::c10), Some(15), "bfloat16 is renumbered");
        assert_eq!((Dtype::from_file(0), Dtype::from_file(14)), (None, None));
    }
}
