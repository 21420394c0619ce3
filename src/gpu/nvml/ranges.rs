//! The range of each kind of reading. Drivers tell what cannot be: 101 % of a GPU's time, 991 % of
//! a process, and 4294967295 where they know nothing. Such a reading is absent, with the reason.

use std::fmt::Display;

/// The least and the most that a reading can be, in the unit that NVML has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    least: f64,
    most: f64,
    unit: &'static str,
}

const fn range(least: f64, most: f64, unit: &'static str) -> Range {
    Range { least, most, unit }
}

/// The limits are those of nature where there are any; elsewhere they are a multiple of the largest
/// GPU of 2026, and below the numbers that stand for none, which are the largest of 32 and of 64
/// bits.
impl Range {
    pub(super) const PERCENT: Self = range(0.0, 100.0, "%");
    /// Of a difference between two samples, which may overshoot by a rounding.
    pub(super) const SAMPLED_PERCENT: Self = range(0.0, 101.0, "%");
    /// Of the speed up to which a fan is quiet; it can turn faster. (nvml.h, nvmlDeviceGetFanSpeed)
    pub(super) const FAN_PERCENT: Self = range(0.0, 300.0, "%");
    pub(super) const CELSIUS: Self = range(-100.0, 250.0, "degrees");
    pub(super) const MILLIWATTS: Self = range(0.0, 100e6, "mW");
    pub(super) const MEGAHERTZ: Self = range(0.0, 100e3, "MHz");
    pub(super) const MEBIBYTES_PER_SECOND: Self = range(0.0, 100e6, "MiB/s");
    pub(super) const KILOBYTES_PER_SECOND: Self = range(0.0, 1e9, "kB/s");
    /// Generation of PCI Express, or lanes.
    pub(super) const LINK: Self = range(0.0, 128.0, "");
    /// Fans, instances and other parts of one GPU.
    pub(super) const PARTS: Self = range(0.0, 128.0, "");
    /// Counters of 32 bits, and numbers of devices.
    pub(super) const COUNT_32: Self = range(0.0, (u32::MAX - 1) as f64, "");
    /// Counters of 64 bits, of whatever they count. Half of what fits is reached by none.
    pub(super) const COUNT_64: Self = range(0.0, i64::MAX as f64, "");
    /// A thousand times the memory of a GPU.
    pub(super) const BYTES: Self = range(0.0, (1u64 << 50) as f64, "bytes");
    /// Microseconds since 1970, up to the year 9999.
    pub(super) const TIME: Self = range(0.0, 253_402_300_799e6, "us");

    /// A part of something that has `whole` bytes.
    pub(super) fn bytes_of(whole: u64) -> Self {
        range(0.0, whole as f64, "bytes")
    }

    /// Whether a reading can be that.
    pub(super) fn has(&self, value: impl Number) -> bool {
        (self.least..=self.most).contains(&value.number())
    }

    /// Why a reading cannot be that.
    pub(super) fn refusal(&self, value: impl Number) -> String {
        let Self { least, most, unit } = self;
        let told = format!("{value} {unit}");
        format!("the driver tells {}, and it can be {least:.0} to {most:.0} only", told.trim_end())
    }
}

/// A reading that is a number.
pub(super) trait Number: Copy + Display {
    fn number(self) -> f64;
}

impl Number for u32 {
    fn number(self) -> f64 {
        self.into()
    }
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_that_stand_for_none_are_in_no_range() {
        for range in [
            Range::PERCENT,
            Range::SAMPLED_PERCENT,
            Range::FAN_PERCENT,
            Range::CELSIUS,
            Range::MILLIWATTS,
            Range::MEGAHERTZ,
            Range::MEBIBYTES_PER_SECOND,
            Range::KILOBYTES_PER_SECOND,
            Range::LINK,
            Range::PARTS,
            Range::COUNT_32,
        ] {
            assert!(!range.has(u32::MAX) && !range.has(f64::NAN) && range.has(1u32), "{range:?}");
        }
        for range in [Range::COUNT_64, Range::BYTES, Range::TIME] {
            assert!(!range.has(u64::MAX) && !range.has(-1.0) && range.has(1u64), "{range:?}");
        }
        assert!(Range::PERCENT.has(100u32) && !Range::PERCENT.has(101u32));
        assert_eq!(Range::PERCENT.refusal(101u32), "the driver tells 101 %, and it can be 0 to 100 only");
        let none = Range::COUNT_64.refusal(u64::MAX);
        assert_eq!(none, "the driver tells 18446744073709551615, and it can be 0 to 9223372036854775808 only");
        assert!(Range::bytes_of(5).has(5u64) && !Range::bytes_of(5).has(6u64));
    }
}
