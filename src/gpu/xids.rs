//! Xids: the numbers that the driver gives its errors, what they mean and what to do, from a table
//! with sources.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::proto::v1::GpuHealthState;

/// The known facts about an Xid.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xid {
    /// Its number.
    pub number: u64,
    /// In short.
    pub name: String,
    /// In a sentence.
    pub meaning: String,
    /// The health of the GPU that follows from it.
    pub effect: Effect,
    /// Where it usually comes from.
    #[serde(default)]
    pub cause: Vec<Cause>,
    /// The remedy.
    pub remedy: String,
    /// The same as commands, where there are some.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Where that was read.
    pub sources: Vec<String>,
}

/// The health of a GPU that follows from an Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: the program that met it is concerned.
    None,
    /// It works and needs somebody's attention.
    Degraded,
    /// It gets no new job.
    Failed,
}

/// Where an Xid comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The GPU, its memory, its links, its power or its cooling.
    Hardware,
    /// The driver or its firmware.
    Driver,
    /// The program that uses the GPU.
    Application,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "source")]
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who read the table; tests check them"))]
    sources: Vec<Source>,
    #[serde(rename = "xid")]
    xids: Vec<Xid>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(test), expect(dead_code, reason = "for those who read the table; tests check them"))]
struct Source {
    id: String,
    title: String,
    url: String,
    #[serde(default)]
    license: String,
}

static XIDS: LazyLock<BTreeMap<u64, Xid>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the table is built in, and a test reads it")]
    let file = read().expect("the table of Xids that is built in can be read");
    file.xids.into_iter().map(|xid| (xid.number, xid)).collect()
});

fn read() -> Result<File, toml::de::Error> {
    toml::from_str(include_str!("xids.toml"))
}

/// The facts about an Xid; None for one that is not in the table.
pub fn xid(number: u64) -> Option<&'static Xid> {
    XIDS.get(&number)
}

impl From<Effect> for GpuHealthState {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::None => Self::Healthy,
            Effect::Degraded => Self::Degraded,
            Effect::Failed => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_words_and_a_source() {
        let file = read().unwrap();
        let known: BTreeSet<_> = file.sources.iter().map(|source| &source.id).collect();
        assert!(file.sources.iter().all(|source| !source.title.is_empty() && source.url.starts_with("https://")));
        assert!(file.sources.iter().all(|source| source.license.len() < 200));
        assert!(file.xids.len() >= 30);
        assert!(file.xids.is_sorted_by(|one, other| one.number < other.number), "in order, each once");
        for xid in &file.xids {
            assert!(!xid.sources.is_empty() && xid.sources.iter().all(|id| known.contains(id)), "{xid:?}");
            assert!(!xid.cause.is_empty(), "{xid:?}");
            for words in [&xid.meaning, &xid.remedy] {
                assert!(words.ends_with('.') && words.len() > 12, "{words}");
            }
        }
    }

    #[test]
    fn what_programs_do_wrong_makes_no_gpu_unhealthy_and_a_fallen_one_fails() {
        for number in [13, 31, 43, 45] {
            assert_eq!(xid(number).unwrap().effect, Effect::None, "{number}");
        }
        for number in [48, 79, 95] {
            assert_eq!(xid(number).unwrap().effect, Effect::Failed, "{number}");
        }
        assert!(xid(1_000_000).is_none());
    }
}
