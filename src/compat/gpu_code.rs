//! Whether the code in a build runs on a GPU, by compute capabilities.
//!
//! Binary code for X.Y runs on GPUs X.Z with Z at least Y. PTX for X.Y can be compiled by the driver for every later GPU; that
//! needs a driver that knows the toolkit's PTX. (NVIDIA, CUDA C++ Programming Guide, "Compute capability" and "Application
//! compatibility")

use super::Version;

/// What a build holds code for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coverage {
    binary: Vec<Version>,
    ptx: Vec<Version>,
}

/// How a GPU runs the code of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// There is binary code.
    Binary,
    /// The driver has to compile it.
    Ptx,
    /// Not at all.
    None,
}

impl Coverage {
    /// Reads capabilities such as `8.6` and `12.0+PTX`.
    pub(super) fn read(capabilities: &[String]) -> Result<Self, String> {
        let mut coverage = Self { binary: Vec::new(), ptx: Vec::new() };
        for text in capabilities {
            let (number, is_ptx) = text.strip_suffix("+PTX").map_or((text.as_str(), false), |number| (number, true));
            let number: Version = number.parse().map_err(|error| format!("{text:?} {error}"))?;
            if is_ptx {
                coverage.ptx.push(number.clone());
            }
            coverage.binary.push(number);
        }
        Ok(coverage)
    }

    /// How a GPU of that capability runs it.
    pub(super) fn fit(&self, gpu: &Version) -> Fit {
        if self.binary.iter().any(|code| code.major() == gpu.major() && code <= gpu) {
            Fit::Binary
        } else if self.ptx.iter().any(|code| code <= gpu) {
            Fit::Ptx
        } else {
            Fit::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_code_runs_on_later_minors_and_ptx_on_everything_later() {
        let coverage = Coverage::read(&["3.7+PTX", "5.0", "8.0", "8.6"].map(str::to_owned)).unwrap();
        let cases = [
            ("3.5", Fit::None),
            ("3.7", Fit::Binary),
            ("5.2", Fit::Binary),
            ("6.0", Fit::Ptx),
            ("8.0", Fit::Binary),
            ("8.9", Fit::Binary),
            ("9.0", Fit::Ptx),
        ];
        for (gpu, fit) in cases {
            assert_eq!(coverage.fit(&gpu.parse().unwrap()), fit, "{gpu}");
        }
        let plain = Coverage::read(&["7.5".to_owned(), "8.6".to_owned()]).unwrap();
        assert_eq!(plain.fit(&"8.0".parse().unwrap()), Fit::None);
        assert_eq!(plain.fit(&"12.0".parse().unwrap()), Fit::None);
        assert!(Coverage::read(&["sm_80".to_owned()]).unwrap_err().contains("sm_80"));
    }
}
