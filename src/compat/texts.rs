//! Reads versions as people and programs write them: of PyTorch, its builds, Python, and runtimes.
//! All calls read by it.
//!
//! A text is judged by its length first, so that reading takes no longer than its bound allows.
//! The answer to an unreadable text names the text, the right form, and the nearest known value.

use std::fmt;

use super::runtime::RuntimeQuery;
use super::{Catalogue, Version};

/// Longer texts are not read, in bytes.
pub const MOST_BYTES: usize = 256;

/// Characters of an unreadable text that a message shows at most.
const MOST_SHOWN: usize = 80;

/// A version of PyTorch, and the build where the text tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchVersion {
    /// Its number, such as `1.13.1`.
    pub number: Version,
    /// `cpu`, or a CUDA build such as `cu117`.
    pub variant: Option<String>,
}

/// A text in quotes, cut where it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{:?}... ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// Whether a text is short enough to be read.
fn is_short(text: &str) -> bool {
    text.len() <= MOST_BYTES
}

/// The first number in a text, for telling what comes nearest.
fn number_in(text: &str) -> Option<Version> {
    let mut cut = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let parts = text[..cut].split(|c: char| !c.is_ascii_digit() && c != '.');
    parts.filter_map(|part| part.trim_matches('.').parse().ok()).next()
}

/// Without a word in front, whatever its case, and without what joins the two.
fn without<'a>(text: &'a str, words: &[&str]) -> &'a str {
    let found = words.iter().find_map(|word| {
        let (front, rest) = text.split_at_checked(word.len())?;
        front.eq_ignore_ascii_case(word).then_some(rest)
    });
    found.map_or(text, |rest| rest.trim_start_matches([' ', '=', '-']))
}

/// `cpu`, or such as `cu126`.
fn variant_of(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let is_number = |digits: &str| (2..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    (text == "cpu" || text.strip_prefix("cu").is_some_and(is_number)).then_some(text)
}

fn torch(text: &str) -> Option<TorchVersion> {
    let plain = without(without(text.trim(), &["pytorch", "libtorch", "torch"]), &["v"]);
    let (number, build) = match plain.split_once('+') {
        // Some wheels tell more behind the build, such as `+cu117.with.pypi.cudnn`.
        Some((number, build)) => (number, Some(build.split('.').next().unwrap_or(build))),
        None => match plain.strip_suffix(')').and_then(|plain| plain.split_once(" (")) {
            Some((number, build)) => (number, Some(build)),
            None => (plain, None),
        },
    };
    let variant = match build {
        Some(build) => Some(variant_of(build)?),
        None => None,
    };
    Some(TorchVersion { number: number.parse().ok()?, variant })
}

fn variant(text: &str) -> Option<String> {
    let plain = without(text.trim(), &["cuda"]);
    if let Some(variant) = variant_of(plain) {
        return Some(variant);
    }
    // A toolkit: 11.7 is cu117.
    let (major, minor) = without(plain, &["cu"]).split_once('.')?;
    variant_of(&format!("cu{major}{}", minor.split('.').next()?)).filter(|_| minor.len() <= MOST_SHOWN)
}

impl Catalogue {
    /// A version of PyTorch, such as `1.13.1`, `1.13.1+cu117`, `v2.0` or `torch==2.11.0+cpu`.
    pub fn read_torch(&self, text: &str) -> Result<TorchVersion, String> {
        let read = if is_short(text) { torch(text) } else { None };
        read.ok_or_else(|| {
            let near = match number_in(text) {
                Some(number) => self.nearest_releases(&number, 1).pop(),
                None => self.releases.last().map(|release| release.version.to_string()),
            };
            let needed = "a version of PyTorch is needed, such as 2.11.0 or 2.11.0+cu126";
            format!("is {}; {needed}; the nearest known is {}", shown(text), near.unwrap_or_default())
        })
    }

    /// A build of PyTorch: `cpu`, `cu117`, `11.7` or `CUDA 11.7`.
    pub fn read_variant(&self, text: &str) -> Result<String, String> {
        let read = if is_short(text) { variant(text) } else { None };
        read.ok_or_else(|| {
            let builds = self.releases.iter().rev().flat_map(|release| &release.builds);
            let wanted = number_in(text);
            let cuda = builds.filter_map(|build| Some((build.cuda.as_ref()?, &build.variant)));
            let near = match &wanted {
                Some(wanted) => cuda.min_by_key(|(cuda, _)| cuda.distance(wanted)),
                None => cuda.max_by_key(|(cuda, _)| *cuda),
            };
            let near = near.map(|(_, variant)| variant.clone()).unwrap_or_default();
            format!("is {}; cpu, or a CUDA build such as cu126, is needed; the nearest known is {near}", shown(text))
        })
    }

    /// A version of Python, such as `3.10`, `3.10.12` or `Python 3.10.12`.
    pub fn read_python(&self, text: &str) -> Result<Version, String> {
        let read = if is_short(text) { without(text.trim(), &["cpython", "python"]).parse().ok() } else { None };
        read.ok_or_else(|| {
            let last = self.releases.iter().map(|release| &release.python.max).max();
            let near = number_in(text).or_else(|| last.cloned()).map(|version| version.to_string());
            let needed = "a version of Python is needed, such as 3.10";
            format!("is {}; {needed}; the nearest known is {}", shown(text), near.unwrap_or_default())
        })
    }

    /// A runtime, such as `7.3 LTS ML`, `15.4.x-gpu-ml-scala2.12`, `DBR 14.3`, `Databricks Runtime
    /// 7.3 LTS for Machine Learning` or `15.4 LTS ML (includes Apache Spark 3.5.0, GPU, Scala
    /// 2.12)`.
    pub fn read_runtime(&self, text: &str) -> Result<RuntimeQuery, String> {
        text.parse().map_err(|error| {
            let near = match number_in(text) {
                Some(number) => self.nearest_runtimes(&number, 1).pop(),
                None => self.runtimes.iter().rfind(|row| row.name.lts).map(|row| row.name.to_string()),
            };
            format!("{error}; the nearest known is {}", near.unwrap_or_default())
        })
    }
}

impl fmt::Display for TorchVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variant {
            Some(variant) => write!(f, "{}+{variant}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

/// The runtime that a text names: its number, and whether it is the one for machine learning.
pub(super) fn runtime(text: &str) -> Option<(Version, bool)> {
    if !is_short(text) {
        return None;
    }
    let plain = text.trim().to_lowercase();
    let plain = plain.strip_prefix("runtimes/").unwrap_or(&plain);
    let separates = |c: char| !c.is_alphanumeric() && c != '.';
    let mut words = plain.split(separates).filter(|word| !word.is_empty());
    let (mut version, mut is_ml) = (None, false);
    while let Some(word) = words.next() {
        match word {
            "databricks" | "runtime" | "version" | "dbr" | "includes" | "apache" | "for" => {}
            "lts" | "esr" | "beta" | "gpu" | "cpu" | "photon" | "aarch64" => {}
            "ml" => is_ml = true,
            "machine" => is_ml = words.next()? == "learning",
            // A component of the runtime: its version follows.
            "spark" | "scala" => drop(words.next()?.parse::<Version>().ok()?),
            _ if is_part(word, "scala") || is_part(word, "spark") => {}
            _ => {
                let number = word.strip_prefix("dbr").unwrap_or(word);
                let (number, has_ml) = number.strip_suffix("ml").map_or((number, false), |number| (number, true));
                let number = number.strip_suffix("lts").unwrap_or(number);
                let number = number.strip_suffix(".x").unwrap_or(number).parse().ok()?;
                if version.replace(number).is_some() {
                    return None;
                }
                is_ml |= has_ml;
            }
        }
    }
    Some((version?, is_ml))
}

/// Whether a word is a name with a version right behind it, such as `scala2.12`.
fn is_part(word: &str, name: &str) -> bool {
    word.strip_prefix(name).is_some_and(|number| number.parse::<Version>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::embedded;
    use super::*;

    fn catalogue() -> &'static Catalogue {
        embedded()
    }

    #[test]
    fn a_version_of_pytorch_is_read_as_it_is_written() {
        let catalogue = catalogue();
        let cases = [
            ("1.13.1", "1.13.1"),
            ("1.13.1+cu117", "1.13.1+cu117"),
            (" v2.0 ", "2.0"),
            ("torch==2.11.0+cpu", "2.11.0+cpu"),
            ("PyTorch 2.11.0 (cu126)", "2.11.0+cu126"),
            ("2.0.1+cu117.with.pypi.cudnn", "2.0.1+cu117"),
            ("2.6.0+CU124", "2.6.0+cu124"),
        ];
        for (text, read) in cases {
            assert_eq!(catalogue.read_torch(text).unwrap().to_string(), read, "{text}");
        }
        for (text, near) in [
            ("2.7.0a0+git1234", "2.7.0"),
            ("2.5.1+rocm6.2", "2.5.1"),
            ("2.12.0.dev20260301+cu130", "2.12.0"),
            ("latest", "2.14"),
            ("1.13.1+", "1.13.1"),
        ] {
            let words = catalogue.read_torch(text).unwrap_err();
            assert!(
                words.starts_with(&format!("is {text:?}; a version")) && words.ends_with(&format!("known is {near}")),
                "{words}"
            );
        }
    }

    #[test]
    fn a_build_is_read_as_it_is_written() {
        let catalogue = catalogue();
        for text in ["cu117", "11.7", "CUDA 11.7", "cuda11.7", "CUDA-11.7", "cu11.7", "11.7.1"] {
            assert_eq!(catalogue.read_variant(text).unwrap(), "cu117", "{text}");
        }
        assert_eq!(catalogue.read_variant("CPU").unwrap(), "cpu");
        for (text, near) in [("rocm", "cu132"), ("CUDA 12", "cu121"), ("cu", "cu132")] {
            let words = catalogue.read_variant(text).unwrap_err();
            assert!(words.ends_with(&format!("the nearest known is {near}")), "{words}");
        }
    }

    #[test]
    fn runtimes_are_read_as_people_and_programs_write_them() {
        let catalogue = catalogue();
        let cases = [
            ("15.4 LTS ML (includes Apache Spark 3.5.0, GPU, Scala 2.12)", "15.4", true),
            ("15.4 LTS (includes Apache Spark 3.5.0, Scala 2.12)", "15.4", false),
            ("Databricks Runtime 7.3 LTS for Machine Learning", "7.3", true),
            ("Databricks Runtime Version 7.3 LTS ML", "7.3", true),
            ("Runtime: 14.3 LTS (Scala 2.12, Spark 3.5.0)", "14.3", false),
            ("DBR 14.3", "14.3", false),
            ("dbr14.3 ml", "14.3", true),
            ("DBR-14.3", "14.3", false),
            ("ML 14.3", "14.3", true),
            ("15.4LTS ML", "15.4", true),
            ("15.4.x-photon-scala2.12", "15.4", false),
            ("15.4.x-aarch64-gpu-ml-scala2.12", "15.4", true),
        ];
        for (text, number, is_ml) in cases {
            let query = catalogue.read_runtime(text).unwrap_or_else(|words| panic!("{words}"));
            assert_eq!((query.version.to_string().as_str(), query.is_ml), (number, is_ml), "{text}");
        }
        for (text, near) in [
            ("7.3 for Genomics", "7.3 LTS ML"),
            ("7.3 7.4 ML", "7.3 LTS ML"),
            ("15.4 machine", "15.4 LTS ML"),
            ("spark 3.5", "5.0 ML"),
            ("my laptop", "18 LTS ML"),
        ] {
            let words = catalogue.read_runtime(text).unwrap_err();
            assert!(words.starts_with(&format!("is {text:?}")), "{words}");
            assert!(words.contains("a runtime is needed") && words.contains("the nearest known is "), "{words} {near}");
        }
    }

    #[test]
    fn python_is_read_as_it_is_written() {
        let catalogue = catalogue();
        for (text, read) in
            [("3.10", "3.10"), ("Python 3.10.12", "3.10.12"), (" python3.11", "3.11"), ("CPython 3.7", "3.7")]
        {
            assert_eq!(catalogue.read_python(text).unwrap().to_string(), read, "{text}");
        }
        assert!(catalogue.read_python("three").unwrap_err().ends_with("the nearest known is 3.14"));
    }

    #[test]
    fn a_long_text_is_refused_by_its_length_and_not_repeated_whole() {
        let catalogue = catalogue();
        for text in ["7.3 ".repeat(1 << 18), "1.".repeat(1 << 19), "é".repeat(1 << 19), "ml-".repeat(1 << 18)] {
            let told = [
                catalogue.read_torch(&text).unwrap_err(),
                catalogue.read_variant(&text).unwrap_err(),
                catalogue.read_python(&text).unwrap_err(),
                catalogue.read_runtime(&text).unwrap_err(),
                text.parse::<Version>().unwrap_err().to_string(),
            ];
            for words in told {
                assert!(words.len() < 600 && words.contains(&format!("({} bytes)", text.len())), "{words}");
            }
        }
    }

    proptest! {
        #[test]
        fn words_around_a_runtime_change_nothing(
            major in 5_u32..30, minor in 0_u32..10, is_ml: bool, is_lts: bool, front in 0_usize..4, back in 0_usize..4,
        ) {
            let front = ["", "DBR ", "Databricks Runtime ", "runtimes/"][front];
            let lts = if is_lts { " LTS" } else { "" };
            let ml = match (is_ml, back % 2) { (false, _) => "", (true, 0) => " ML", (true, _) => " for Machine Learning" };
            let back = ["", ".x-scala2.12", " (includes Apache Spark 3.5.0, GPU, Scala 2.12)", " (Scala 2.12, Spark 3.5.0)"][back];
            let text = match back.strip_prefix(".x") {
                Some(back) => format!("{front}{major}.{minor}.x{}{back}", if is_ml { "-gpu-ml" } else { "" }),
                None => format!("{front}{major}.{minor}{lts}{ml}{back}"),
            };
            let query: RuntimeQuery = text.parse().unwrap();
            prop_assert_eq!((query.version.to_string(), query.is_ml), (format!("{major}.{minor}"), is_ml), "{}", text);
        }

        #[test]
        fn a_version_with_its_build_reads_back(numbers in proptest::collection::vec(0_u32..1000, 1..=4), build in 0_usize..4) {
            let number = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            let variant = [None, Some("cpu"), Some("cu92"), Some("cu130")][build].map(str::to_owned);
            let version = TorchVersion { number: number.parse().unwrap(), variant };
            prop_assert_eq!(torch(&version.to_string()), Some(version));
        }

        #[test]
        fn no_text_makes_a_reader_panic(text in ".{0,300}") {
            let _ = (torch(&text), variant(&text), runtime(&text), number_in(&text), shown(&text));
        }
    }
}
