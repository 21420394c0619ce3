//! Versions as dotted numbers: of PyTorch, Python, CUDA, drivers and libraries alike.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A version such as `2.11.0` or `525.60.13`. Missing numbers count as 0: `2.14` equals `2.14.0`.
/// It is shown as it was written.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Version {
    numbers: Vec<u32>,
    text: String,
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {}; a version of one to five numbers is needed, such as 2.11.0", super::texts::shown(found))]
pub struct VersionError {
    found: String,
}

impl Version {
    /// The first two numbers.
    pub fn minor(&self) -> (u32, u32) {
        (self.number(0), self.number(1))
    }

    /// The first number.
    pub fn major(&self) -> u32 {
        self.number(0)
    }

    /// It is this version or, where this one has fewer numbers, one of its line: `2.7.1` is of
    /// `2.7`.
    pub fn is_of(&self, line: &Self) -> bool {
        (0..line.numbers.len()).all(|place| self.number(place) == line.number(place))
    }

    /// How far another version is away, for telling the nearest ones: the earlier numbers weigh
    /// more.
    pub fn distance(&self, other: &Self) -> [u32; 5] {
        std::array::from_fn(|place| self.number(place).abs_diff(other.number(place)))
    }

    fn number(&self, place: usize) -> u32 {
        self.numbers.get(place).copied().unwrap_or(0)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError { found: text.to_owned() };
        let number = |part: &str| {
            let is_plain = !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { part.parse().map_err(|_| wrong()) } else { Err(wrong()) }
        };
        let numbers: Vec<u32> = text.split('.').map(number).collect::<Result<_, _>>()?;
        if numbers.len() > 5 { Err(wrong()) } else { Ok(Self { numbers, text: text.to_owned() }) }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let places = 0..self.numbers.len().max(other.numbers.len());
        places
            .map(|place| self.number(place).cmp(&other.number(place)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_decide_and_not_letters() {
        let ordered = ["1.4.0", "1.10.0", "1.10.1", "2.0", "2.9.1", "2.14", "525.60.13", "525.105.17"];
        assert!(ordered.windows(2).all(|pair| version(pair[0]) < version(pair[1])));
        assert_eq!(version("2.14"), version("2.14.0"));
        assert!(version("2.7.1").is_of(&version("2.7")) && !version("2.70").is_of(&version("2.7")));
        assert!(version("3.7.6").is_of(&version("3.7")) && version("3").is_of(&version("3.0")));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in
            ["", ".", "1.", ".1", "1..2", "v1.2", "1.2rc1", "1.2.3.4.5.6", "1234567890", "-1", " 1.2", "1.2+cu118"]
        {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        let words = "3.x".parse::<Version>().unwrap_err().to_string();
        assert!(words.contains("\"3.x\"") && words.contains("such as 2.11.0"), "{words}");
    }

    fn any_version() -> impl Strategy<Value = Version> {
        proptest::collection::vec(0_u32..1_000_000_000, 1..=5)
            .prop_map(|numbers| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".").parse().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(one in any_version()) {
            prop_assert_eq!(&one.to_string().parse::<Version>().unwrap(), &one);
        }

        #[test]
        fn trailing_zeros_change_nothing(one in any_version(), other in any_version()) {
            if one.numbers.len() < 5 {
                let padded = version(&format!("{one}.0"));
                prop_assert_eq!(&padded, &one);
                prop_assert_eq!(padded.cmp(&other), one.cmp(&other));
            }
        }

        #[test]
        fn the_order_is_total(one in any_version(), two in any_version(), three in any_version()) {
            prop_assert_eq!(one.cmp(&two), two.cmp(&one).reverse());
            if one <= two && two <= three {
                prop_assert!(one <= three);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<Version>();
        }
    }
}
