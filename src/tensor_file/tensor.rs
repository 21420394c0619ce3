//! A tensor of a file: what it is called, and where its values lie.

use std::ops::Range;

use rawzip::ReaderAt;

use super::{Dtype, Problem, source};

/// More dimensions are refused, as PyTorch's own serialization does.
pub(super) const MAX_DIMENSIONS: usize = 64;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its sizes, outermost first; none for a single number.
    pub shape: Vec<u64>,
    /// Where its values lie.
    pub layout: Layout,
}

/// Where the values of a tensor lie. Tensors may share a storage, as tied weights do, and no value
/// lies outside of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The place in the file of the storage's first byte.
    pub offset: u64,
    /// Bytes of the storage.
    pub storage_bytes: u64,
    /// Values of the storage before the tensor's first one.
    pub first: u64,
    /// Values from one index to the next, for each dimension. 0 where a dimension repeats the same
    /// values.
    pub strides: Vec<u64>,
}

/// The strides of a tensor without gaps, row by row.
pub(super) fn contiguous(shape: &[u64]) -> Vec<u64> {
    let mut strides = vec![1_u64; shape.len()];
    for inner in (1..shape.len()).rev() {
        strides[inner - 1] = strides[inner].saturating_mul(shape[inner].max(1));
    }
    strides
}

/// A dimension along which values differ.
struct Dimension {
    size: u64,
    stride: u64,
    /// Values from one index to the next where all lie row by row.
    row: u64,
}

impl Tensor {
    /// A tensor whose layout is sound.
    ///
    /// # Errors
    /// The mistake, in words that follow its name.
    pub fn new(name: String, dtype: Dtype, shape: Vec<u64>, layout: Layout) -> Result<Self, String> {
        let tensor = Self { name, dtype, shape, layout };
        tensor.check()?;
        Ok(tensor)
    }

    /// Whether its values lie side by side, in whatever order.
    pub fn is_dense(&self) -> bool {
        let reach = self.shape.iter().zip(&self.layout.strides).map(|(&size, &stride)| size.saturating_sub(1) * stride);
        self.count() == 0 || reach.sum::<u64>() + 1 == self.count()
    }

    fn check(&self) -> Result<(), String> {
        let Self { dtype, shape, layout, .. } = self;
        if shape.len() > MAX_DIMENSIONS {
            return Err(format!("has {} dimensions; {MAX_DIMENSIONS} at most are read", shape.len()));
        }
        if shape.len() != layout.strides.len() {
            return Err(format!("has {} sizes and {} strides", shape.len(), layout.strides.len()));
        }
        let bits = shape.iter().try_fold(dtype.bits(), |product, &size| product.checked_mul(size));
        if !bits.is_some_and(|bits| bits.is_multiple_of(8)) {
            return Err(format!("is {} {shape:?}, which is no number of bytes", dtype.name()));
        }
        if self.count() == 0 {
            return Ok(());
        }
        let mut dimensions = self.dimensions();
        // From the innermost: none may reach into the next step of one further out.
        dimensions.reverse();
        let mut reach = 0_u64;
        for dimension in &dimensions {
            if dimension.stride <= reach {
                return Err(format!(
                    "is {shape:?} with the strides {:?}, whose values lie over each other: save it with .contiguous()",
                    layout.strides
                ));
            }
            let steps = (dimension.size - 1).checked_mul(dimension.stride);
            reach = steps.and_then(|steps| reach.checked_add(steps)).ok_or("reaches further than a file can")?;
        }
        let end = layout.first.checked_add(reach).and_then(|last| last.checked_add(1));
        let end_bits = end.and_then(|end| end.checked_mul(dtype.bits())).ok_or("reaches further than a file can")?;
        if end_bits.div_ceil(8) > layout.storage_bytes {
            return Err(format!(
                "is {} {shape:?}, whose values end at byte {} of a storage of {}",
                dtype.name(),
                end_bits.div_ceil(8),
                layout.storage_bytes
            ));
        }
        Ok(())
    }

    /// How many values it has. Its sizes were checked when it was made.
    pub fn count(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes of its values, row by row and without gaps.
    pub fn size_bytes(&self) -> u64 {
        self.count() * self.dtype.bits() / 8
    }

    /// Whether its values lie row by row and without gaps.
    pub fn is_contiguous(&self) -> bool {
        let strides = contiguous(&self.shape);
        let all = self.shape.iter().zip(&self.layout.strides).zip(strides);
        self.count() == 0 || all.into_iter().all(|((&size, &stride), row)| size == 1 || stride == row)
    }

    /// The bytes of the file from its first value to its last.
    pub fn extent(&self) -> Range<u64> {
        if self.count() == 0 {
            // The first value does not matter.
            return self.layout.offset..self.layout.offset;
        }
        let bits = self.dtype.bits();
        let from = self.layout.offset + self.layout.first * bits / 8;
        let last: u64 = self.dimensions().iter().map(|dimension| (dimension.size - 1) * dimension.stride).sum();
        // Types of fewer than 8 bits have no gaps.
        let values = if self.is_contiguous() { self.count() } else { last + 1 };
        from..from + (values * bits).div_ceil(8)
    }

    /// The dimensions along which values differ, by their strides from the largest on.
    fn dimensions(&self) -> Vec<Dimension> {
        let rows = contiguous(&self.shape);
        let all = self.shape.iter().zip(&self.layout.strides).zip(rows);
        let mut dimensions: Vec<_> = all
            .filter(|&((&size, &stride), _)| size > 1 && stride > 0)
            .map(|((&size, &stride), row)| Dimension { size, stride, row })
            .collect();
        dimensions.sort_by_key(|dimension| std::cmp::Reverse(dimension.stride));
        dimensions
    }

    /// Maps the offset of a value from the first to its place, row by row; None where the tensor
    /// has no value at that offset. The tensor is not empty.
    pub(super) fn row_place(&self) -> impl Fn(u64) -> Option<u64> {
        let dimensions = self.dimensions();
        move |mut behind| {
            let mut place = 0;
            for Dimension { size, stride, row } in &dimensions {
                let index = (behind / stride).min(size - 1);
                behind -= index * stride;
                place += index * row;
            }
            (behind == 0).then_some(place)
        }
    }

    /// Reads its values from the file that it was found in, row by row and without gaps. Takes
    /// memory for [`Self::size_bytes`], which for a tensor that repeats values may be more than the
    /// file has: the caller has compared the shape with one of a model. A tensor with gaps takes
    /// the bytes between its first and last value besides.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(&self, source: &dyn ReaderAt) -> Result<Vec<u8>, Problem> {
        let Range { start, end } = self.extent();
        let bytes = source::read_at_most(source, start, end - start, end)?;
        if self.is_contiguous() {
            return Ok(bytes);
        }
        // Only types of whole bytes have strides of their own.
        let width = (self.dtype.bits() / 8) as usize;
        let mut values = Vec::with_capacity(self.size_bytes() as usize);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..self.count() {
            let behind: u64 = index.iter().zip(&self.layout.strides).map(|(index, stride)| index * stride).sum();
            let at = behind as usize * width;
            values.extend_from_slice(&bytes[at..at + width]);
            for (index, &size) in index.iter_mut().zip(&self.shape).rev() {
                *index += 1;
                if *index < size {
                    break;
                }
                *index = 0;
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[u64], strides: &[u64], first: u64, storage_bytes: u64) -> Result<Tensor, String> {
        let layout = Layout { offset: 2, storage_bytes, first, strides: strides.into() };
        Tensor::new("x".into(), Dtype::U8, shape.into(), layout)
    }

    #[test]
    fn values_are_gathered_row_by_row_whatever_their_strides() {
        let file: Vec<u8> = (0..=20).collect();
        for (shape, strides, first, values) in [
            (&[2, 3][..], &[3, 1][..], 0, &[2, 3, 4, 5, 6, 7][..]),
            (&[2, 3], &[3, 1], 4, &[6, 7, 8, 9, 10, 11]),
            (&[3, 2], &[1, 3], 0, &[2, 5, 3, 6, 4, 7]),
            (&[2, 2], &[6, 2], 1, &[3, 5, 9, 11]),
            (&[2, 3], &[1, 0], 0, &[2, 2, 2, 3, 3, 3]),
            (&[1, 2], &[100, 1], 0, &[2, 3]),
            (&[0, 3], &[3, 1], 0, &[]),
            (&[], &[], 7, &[9]),
        ] {
            let tensor = tensor(shape, strides, first, 18).unwrap();
            assert_eq!(tensor.read(&&file[..]).unwrap(), values, "{shape:?} {strides:?}");
            let has_gaps = [&[6, 2][..], &[1, 0]].contains(&strides);
            assert_eq!(tensor.is_dense(), !has_gaps, "{shape:?} {strides:?}");
            if values.is_empty() {
                continue;
            }
            let row_place = tensor.row_place();
            let found = (0..18).filter_map(row_place).collect::<std::collections::BTreeSet<_>>();
            let distinct = values.iter().collect::<std::collections::BTreeSet<_>>();
            assert_eq!(found.len(), distinct.len(), "{shape:?} {strides:?}");
        }
    }

    #[test]
    fn a_place_outside_of_its_storage_is_refused_before_anything_is_read() {
        let huge = u64::MAX;
        for (shape, strides, first, words) in [
            (&[3][..], &[1][..], 1, "end at byte 4 of a storage of 3"),
            (&[2, 2], &[2, 1], 0, "end at byte 4"),
            (&[2], &[huge], 1, "further than a file can"),
            (&[3], &[huge / 2 + 1], 0, "further than a file can"),
            (&[huge, huge], &[1, 1], 0, "no number of bytes"),
            (&[huge], &[1], 0, "no number of bytes"),
            (&[1], &[1], huge, "further than a file can"),
            (&[2], &[], 0, "1 sizes and 0 strides"),
            (&[2, 2], &[1, 1], 0, "lie over each other"),
            (&[1; 65], &[1; 65], 0, "65 dimensions"),
        ] {
            let told = tensor(shape, strides, first, 3).unwrap_err();
            assert!(told.contains(words), "{words}: {told}");
        }
        // Nothing of it is ever read.
        assert_eq!(tensor(&[0], &[1], huge, 0).unwrap().extent(), 2..2);
    }
}
