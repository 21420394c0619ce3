//! Numbers that the file has for data types, layouts and memory formats. They are not those of
//! c10, which operators take. (PyTorch, torch/_export/serde/schema.py)

use crate::tensor_file::Dtype;

/// Type, its number in the file, its number in c10 (c10/core/ScalarType.h).
const DTYPES: [(Dtype, i64, i64); 19] = [
    (Dtype::U8, 1, 0),
    (Dtype::I8, 2, 1),
    (Dtype::I16, 3, 2),
    (Dtype::I32, 4, 3),
    (Dtype::I64, 5, 4),
    (Dtype::F16, 6, 5),
    (Dtype::F32, 7, 6),
    (Dtype::F64, 8, 7),
    (Dtype::C64, 10, 9),
    (Dtype::Bool, 12, 11),
    (Dtype::Bf16, 13, 15),
    (Dtype::U16, 28, 27),
    (Dtype::F8E4M3, 29, 24),
    (Dtype::F8E5M2, 30, 23),
    (Dtype::F8E4M3Fnuz, 31, 26),
    (Dtype::F8E5M2Fnuz, 32, 25),
    (Dtype::F8E8M0, 33, 44),
    (Dtype::U32, 34, 28),
    (Dtype::U64, 35, 29),
];

/// The type with this number in the file.
pub(super) fn dtype(number: i64) -> Option<Dtype> {
    DTYPES.iter().find(|row| row.1 == number).map(|row| row.0)
}

/// c10's number of a type; None for one that PyTorch has not.
pub fn c10(dtype: Dtype) -> Option<i64> {
    DTYPES.iter().find(|row| row.0 == dtype).map(|row| row.2)
}

/// Whether it holds fractions, so that a gradient exists.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64)
}

/// PyTorch's name of a type.
pub(super) fn name(dtype: Dtype) -> &'static str {
    dtype.torch_name().unwrap_or_else(|| dtype.name())
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
    fn no_type_and_no_number_stands_twice() {
        for (place, row) in DTYPES.iter().enumerate() {
            for other in &DTYPES[place + 1..] {
                assert!(row.0 != other.0 && row.1 != other.1 && row.2 != other.2, "{row:?}");
            }
            assert_eq!((dtype(row.1), c10(row.0)), (Some(row.0), Some(row.2)));
            assert!(row.0.torch_name().is_some(), "{row:?}");
        }
        assert_eq!((dtype(0), dtype(9), dtype(14)), (None, None, None));
    }
}
