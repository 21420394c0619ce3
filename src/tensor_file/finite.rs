//! Reads the values of tensors to learn whether training can begin with them.

use std::collections::HashSet;

use rawzip::ReaderAt;

use super::{Dtype, Problem, Tensor};

/// The floating-point values that a tensor may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Finite ones: those that training computes.
    Finite,
    /// Infinities as well, such as those of masks, and no NaN.
    Infinite,
}

impl Values {
    fn allow(self, value: f64) -> bool {
        match self {
            Self::Finite => value.is_finite(),
            Self::Infinite => !value.is_nan(),
        }
    }

    /// The values that it does not allow, in words.
    pub fn refused(self) -> &'static str {
        match self {
            Self::Finite => "numbers that are not finite",
            Self::Infinite => "NaN",
        }
    }
}

/// Bytes that are read at a time, a multiple of every type's size.
const BLOCK_BYTES: usize = 1 << 16;

/// Tensors whose values can be other than finite, each place once: tied weights are the same.
fn to_judge<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> impl Iterator<Item = &'a Tensor> {
    let mut seen: HashSet<(Dtype, &[u64], u64, &[u64])> = HashSet::new();
    tensors.into_iter().filter(move |tensor| {
        let strides = &tensor.layout.strides;
        tensor.dtype.decoder().is_some() && seen.insert((tensor.dtype, &tensor.shape, tensor.extent().start, strides))
    })
}

/// Bytes that [`judge_values`] reads of a file. More than the file has where its tensors overlap.
pub fn bytes_to_judge<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> u64 {
    to_judge(tensors).map(Tensor::extent).fold(0, |sum, extent| sum.saturating_add(extent.end - extent.start))
}

/// Reads the values of tensors and refuses those that are not allowed. Bytes between the values of
/// a tensor are not judged.
///
/// # Errors
/// [`Problem::Value`] with the first one found, and those of reading.
pub fn judge_values<'a>(
    tensors: impl IntoIterator<Item = &'a Tensor>,
    values: Values,
    source: &dyn ReaderAt,
) -> Result<(), Problem> {
    let mut block = vec![0; BLOCK_BYTES];
    for tensor in to_judge(tensors) {
        let Some((width, value)) = tensor.dtype.decoder() else { continue };
        let row_place = tensor.row_place();
        let extent = tensor.extent();
        let mut at = extent.start;
        while at < extent.end {
            let part = &mut block[..usize::try_from(extent.end - at).unwrap_or(usize::MAX).min(BLOCK_BYTES)];
            source.read_exact_at(part, at).map_err(Problem::Unreadable)?;
            let before = (at - extent.start) / width as u64;
            let read = part.chunks_exact(width).map(value).zip(before..);
            for (value, behind) in read.filter(|(value, _)| !values.allow(*value)) {
                if let Some(place) = row_place(behind) {
                    return Err(Problem::Value { name: tensor.name.clone(), place, value, allowed: values });
                }
            }
            at += part.len() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;

    fn tensor(name: &str, shape: &[u64], first: u64, strides: &[u64]) -> Tensor {
        let layout = Layout { offset: 0, storage_bytes: 24, first, strides: strides.into() };
        Tensor::new(name.into(), Dtype::F32, shape.into(), layout).unwrap()
    }

    #[test]
    fn only_values_of_the_tensor_count_and_are_named_by_their_row() {
        let values = [0.0, f32::NAN, 2.0, 3.0, f32::INFINITY, 5.0];
        let file: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let judge = |tensor: &Tensor| judge_values([tensor], Values::Finite, &&file[..]);
        judge(&tensor("even", &[2], 0, &[2])).unwrap();
        judge(&tensor("apart", &[2, 1], 0, &[3, 1])).unwrap();
        for (tensor, place) in [
            (tensor("all", &[6], 0, &[1]), 1),
            (tensor("rows", &[2, 3], 0, &[3, 1]), 1),
            (tensor("columns", &[3, 2], 0, &[1, 3]), 2),
            (tensor("late", &[2], 3, &[1]), 1),
        ] {
            let found = judge(&tensor).unwrap_err();
            assert!(matches!(found, Problem::Value { place: found, .. } if found == place), "{found}");
        }
    }

    #[test]
    fn infinities_are_refused_where_they_are_not_allowed_and_nan_everywhere() {
        let words = |dtype: Dtype, values: &[f32], allowed: Values| {
            let file: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let layout = Layout { offset: 0, storage_bytes: file.len() as u64, first: 0, strides: [1].into() };
            let count = file.len() as u64 * 8 / dtype.bits();
            let tensor = Tensor::new("mask".into(), dtype, [count].into(), layout).unwrap();
            judge_values([&tensor], allowed, &&file[..]).err().map(|problem| problem.to_string())
        };
        let (infinite, nan) = (f32::NEG_INFINITY, f32::NAN);
        assert_eq!(words(Dtype::F32, &[0.0, infinite], Values::Infinite), None);
        let told = words(Dtype::F32, &[0.0, infinite], Values::Finite).unwrap();
        assert!(told.contains("holds -inf in \"mask\" at place 1") && told.contains("must be finite"), "{told}");
        let told = words(Dtype::F32, &[infinite, nan], Values::Infinite).unwrap();
        assert!(told.contains("holds NaN in \"mask\" at place 1") && told.contains("must be a number"), "{told}");
        assert_eq!(words(Dtype::C64, &[infinite, 0.0, 0.0, infinite], Values::Infinite), None);
        for value in [[infinite, nan], [nan, infinite]] {
            assert!(words(Dtype::C64, &value, Values::Infinite).is_some_and(|told| told.contains("NaN")));
        }
    }

    #[test]
    fn tied_weights_are_read_once() {
        let tied = [tensor("a", &[6], 0, &[1]), tensor("b", &[6], 0, &[1]), tensor("c", &[3], 0, &[1])];
        assert_eq!(bytes_to_judge(&tied), 24 + 12);
    }
}
