//! Numbers as files store them, and as they are in batches.

use super::Dtype;

/// A type of numbers in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The values that it can hold.
    pub kind: Kind,
    /// Whether the highest byte comes first.
    pub is_big_endian: bool,
}

/// The values that a type can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names are those of Rust and PyTorch")]
pub enum Kind {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

/// A number that the type of a batch does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Misfit {
    /// NaN, an infinity, or a number that is one as a 32-bit float.
    Float(f64),
    /// Above the highest 64-bit integer.
    Whole(u64),
}

impl Misfit {
    /// The fault of an example of an array that holds it, in words that follow the file's
    /// path.
    pub(super) fn told_of(self, name: &str, example: u64) -> String {
        let (found, right) = match self {
            Self::Float(value) if value.is_finite() => (value.to_string(), "every value must be a 32-bit float"),
            Self::Float(value) => (value.to_string(), "every value must be finite"),
            Self::Whole(value) => (value.to_string(), "every value must be below 2^63"),
        };
        format!("holds {found} in {name:?}, in the example {example} counted from 0; {right}")
    }
}

impl Kind {
    /// Bytes of a value.
    pub fn width(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "truth values",
            Self::U8 => "unsigned bytes",
            Self::I8 => "signed bytes",
            Self::U16 => "unsigned 16-bit integers",
            Self::I16 => "16-bit integers",
            Self::U32 => "unsigned 32-bit integers",
            Self::I32 => "32-bit integers",
            Self::U64 => "unsigned 64-bit integers",
            Self::I64 => "64-bit integers",
            Self::F16 => "16-bit floats",
            Self::Bf16 => "bfloat16 numbers",
            Self::F32 => "32-bit floats",
            Self::F64 => "64-bit floats",
        }
    }

    /// Whether its values have fractions.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// The type of targets: classes where it has whole numbers.
    pub(super) fn of_target(self) -> Dtype {
        if self.is_float() { Dtype::F32 } else { Dtype::I64 }
    }
}

impl Numbers {
    /// Numbers whose lowest byte comes first.
    pub(super) fn little_endian(kind: Kind) -> Self {
        Self { kind, is_big_endian: false }
    }

    /// Whether other ones are stored alike.
    pub(super) fn are_like(self, other: Self) -> bool {
        self.kind == other.kind && (self.kind.width() == 1 || self.is_big_endian == other.is_big_endian)
    }

    /// Their type in messages.
    pub(super) fn in_words(self) -> String {
        let order = if self.is_big_endian && self.kind.width() > 1 { " in big-endian order" } else { "" };
        format!("{}{order}", self.kind.name())
    }

    /// Whether batches of that type have them as they are stored.
    pub(super) fn are(self, dtype: Dtype) -> bool {
        match dtype {
            Dtype::Pixel => self.kind == Kind::U8,
            Dtype::F32 => self == Self::little_endian(Kind::F32),
            Dtype::I64 => self == Self::little_endian(Kind::I64),
        }
    }

    /// Hands out each value as a float. 64-bit integers are rounded.
    pub(super) fn each_float(self, bytes: &[u8], mut put: impl FnMut(f64)) {
        let is_big = self.is_big_endian;
        match self.kind {
            Kind::Bool => bytes.iter().for_each(|&value| put(f64::from(u8::from(value != 0)))),
            Kind::U8 => bytes.iter().for_each(|&value| put(value.into())),
            Kind::I8 => each(bytes, is_big, |value| put(i8::from_le_bytes(value).into())),
            Kind::U16 => each(bytes, is_big, |value| put(u16::from_le_bytes(value).into())),
            Kind::I16 => each(bytes, is_big, |value| put(i16::from_le_bytes(value).into())),
            Kind::U32 => each(bytes, is_big, |value| put(u32::from_le_bytes(value).into())),
            Kind::I32 => each(bytes, is_big, |value| put(i32::from_le_bytes(value).into())),
            Kind::U64 => each(bytes, is_big, |value| put(u64::from_le_bytes(value) as f64)),
            Kind::I64 => each(bytes, is_big, |value| put(i64::from_le_bytes(value) as f64)),
            Kind::F16 => each(bytes, is_big, |value| put(half(u16::from_le_bytes(value)).into())),
            Kind::Bf16 => {
                each(bytes, is_big, |value| put(f32::from_bits(u32::from(u16::from_le_bytes(value)) << 16).into()));
            }
            Kind::F32 => each(bytes, is_big, |value| put(f32::from_le_bytes(value).into())),
            Kind::F64 => each(bytes, is_big, |value| put(f64::from_le_bytes(value))),
        }
    }

    /// Hands out each value of a type without fractions; the value itself where it is above the
    /// highest 64-bit integer.
    pub(super) fn each_whole(self, bytes: &[u8], mut put: impl FnMut(Result<i64, u64>)) {
        let is_big = self.is_big_endian;
        match self.kind {
            Kind::I64 => each(bytes, is_big, |value| put(Ok(i64::from_le_bytes(value)))),
            Kind::U64 => each(bytes, is_big, |value| {
                let value = u64::from_le_bytes(value);
                put(i64::try_from(value).map_err(|_| value));
            }),
            // The others are floats exactly.
            _ => self.each_float(bytes, |value| put(Ok(value as i64))),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], is_big_endian: bool, mut put: impl FnMut([u8; N])) {
    for &value in bytes.as_chunks().0 {
        let mut value: [u8; N] = value;
        if is_big_endian {
            value.reverse();
        }
        put(value);
    }
}

/// The value of an IEEE 754 half, which a single holds exactly.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        0x1f if bits & 0x3ff == 0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_read_exactly() {
        // From numpy: np.array([...], dtype="<f2").view("<u2")
        for (bits, value) in [
            (0x0000, 0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn every_type_is_read_in_both_orders() {
        let read = |kind, bytes: &[u8]| {
            let both = [false, true].map(|is_big_endian| {
                let mut bytes = bytes.to_vec();
                if is_big_endian {
                    bytes.reverse();
                }
                let mut found = Vec::new();
                Numbers { kind, is_big_endian }.each_float(&bytes, |value| found.push(value));
                found
            });
            assert_eq!(both[0], both[1], "{kind:?}");
            both[0][0]
        };
        assert_eq!(read(Kind::Bool, &[2]), 1.0);
        assert_eq!(read(Kind::U8, &[200]), 200.0);
        assert_eq!(read(Kind::I8, &[0xff]), -1.0);
        assert_eq!(read(Kind::U16, &[0, 0x80]), 32768.0);
        assert_eq!(read(Kind::I16, &[0, 0x80]), -32768.0);
        assert_eq!(read(Kind::U32, &(1u32 << 31).to_le_bytes()), 2_147_483_648.0);
        assert_eq!(read(Kind::I32, &i32::MIN.to_le_bytes()), -2_147_483_648.0);
        assert_eq!(read(Kind::U64, &5u64.to_le_bytes()), 5.0);
        assert_eq!(read(Kind::I64, &(-5i64).to_le_bytes()), -5.0);
        assert_eq!(read(Kind::F16, &[0, 0x3c]), 1.0);
        assert_eq!(read(Kind::Bf16, &[0x80, 0x3f]), 1.0);
        assert_eq!(read(Kind::F32, &0.1f32.to_le_bytes()), f64::from(0.1f32));
        assert_eq!(read(Kind::F64, &0.1f64.to_le_bytes()), 0.1);
        let mut found = Vec::new();
        Numbers::little_endian(Kind::U64).each_whole(&u64::MAX.to_le_bytes(), |value| found.push(value));
        Numbers::little_endian(Kind::I64).each_whole(&i64::MIN.to_le_bytes(), |value| found.push(value));
        assert_eq!(found, [Err(u64::MAX), Ok(i64::MIN)]);
    }
}
