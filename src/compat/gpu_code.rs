//! Whether the code in a build runs on a GPU, by compute capabilities.
//!
//! Binary code for X.Y runs on GPUs X.Z with Z at least Y. PTX for X.Y can be compiled by the
//! driver for every later GPU; that needs a driver that knows the toolkit's PTX. (NVIDIA, CUDA C++
//! Programming Guide, "Compute capability" and "Application compatibility")

use std::fmt;

use serde::Deserialize;

use super::Version;

/// The GPUs that a build holds code for: capabilities such as `8.6`, with `+PTX` where the driver
/// can compile for newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Coverage {
    binary: Vec<Version>,
    ptx: Vec<Version>,
    text: String,
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

impl TryFrom<Vec<String>> for Coverage {
    type Error = String;

    fn try_from(capabilities: Vec<String>) -> Result<Self, String> {
        if capabilities.is_empty() {
            return Err("is empty; leave it out where it is not known".into());
        }
        let mut coverage = Self { binary: Vec::new(), ptx: Vec::new(), text: capabilities.join(", ") };
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
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Coverage {
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

    fn read(capabilities: &[&str]) -> Result<Coverage, String> {
        capabilities.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn binary_code_runs_on_later_minors_and_ptx_on_everything_later() {
        let coverage = read(&["3.7+PTX", "5.0", "8.0", "8.6"]).unwrap();
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
        let plain = read(&["7.5", "8.6"]).unwrap();
        assert_eq!(plain.fit(&"8.0".parse().unwrap()), Fit::None);
        assert_eq!(plain.fit(&"12.0".parse().unwrap()), Fit::None);
        assert!(read(&["sm_80"]).unwrap_err().contains("sm_80"));
        assert!(read(&[]).unwrap_err().contains("leave it out"));
    }
}
