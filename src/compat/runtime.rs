//! Databricks runtimes: the ways in which people and programs write their names, and whether one is
//! supported on a day.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::catalogue::RuntimeRow;
use super::{Catalogue, Date, TorchVersion, Version};
use crate::proto::v1;

/// The name of a Runtime for Machine Learning as the catalogue has it, such as `7.3 LTS ML`. The
/// number is the key.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct RuntimeName {
    /// Its number.
    pub version: Version,
    /// It has long-term support.
    pub lts: bool,
}

/// A runtime as somebody asked for it.
#[derive(Debug, Clone)]
pub struct RuntimeQuery {
    /// Its number.
    pub version: Version,
    /// The one for machine learning was asked for, not the standard one.
    pub is_ml: bool,
    /// As it was written.
    pub text: String,
}

/// A text that names no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {}; a runtime is needed, such as \"7.3 LTS ML\" or \"15.4.x-gpu-ml-scala2.12\"", super::texts::shown(.0))]
pub struct NoRuntime(pub String);

/// A runtime that the catalogue does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{asked:?} is not in the catalogue; the nearest are {}", nearest.join(", "))]
pub struct UnknownRuntime {
    /// The name that was asked for.
    pub asked: String,
    /// The three nearest.
    pub nearest: Vec<String>,
}

/// Which runtimes to list.
#[derive(Debug, Clone)]
pub struct RuntimeFilter {
    /// Only with this PyTorch, or one of this line; with a build, only with that on GPU clusters.
    pub pytorch: Option<TorchVersion>,
    /// Only those that were supported on the day.
    pub supported_only: bool,
    /// Only those with long-term support.
    pub lts_only: bool,
}

/// Whether a runtime is supported, and what tells so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupportOn {
    /// On the day.
    pub status: v1::Support,
    /// The reason for it.
    pub reason: String,
}

impl FromStr for RuntimeQuery {
    type Err = NoRuntime;

    fn from_str(text: &str) -> Result<Self, NoRuntime> {
        let (version, is_ml) = super::texts::runtime(text).ok_or_else(|| NoRuntime(text.to_owned()))?;
        Ok(Self { version, is_ml, text: text.trim().to_owned() })
    }
}

impl TryFrom<String> for RuntimeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("is {text:?}; a name such as \"7.3 LTS ML\" is needed");
        let number = text.strip_suffix(" ML").ok_or_else(wrong)?;
        let (number, lts) = number.strip_suffix(" LTS").map_or((number, false), |number| (number, true));
        Ok(Self { version: number.parse().map_err(|_| wrong())?, lts })
    }
}

impl RuntimeName {
    /// Its resource name, such as `runtimes/7.3-ml`.
    pub fn resource(&self) -> String {
        format!("runtimes/{}-ml", self.version)
    }
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ML", self.version, if self.lts { " LTS" } else { "" })
    }
}

impl Ord for RuntimeName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.version.cmp(&other.version)
    }
}

impl PartialOrd for RuntimeName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RuntimeName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for RuntimeName {}

impl RuntimeRow {
    /// Whether it is supported on a day.
    pub fn support(&self, day: Date) -> SupportOn {
        let told = |status, reason: String| SupportOn { status, reason };
        if let Some(released) = self.released.filter(|released| day < *released) {
            return told(v1::Support::NotReleased, format!("not released before {released}"));
        }
        match (self.released, self.end_of_support) {
            (_, Some(end)) if day > end => told(v1::Support::Ended, format!("support ended on {end}")),
            (Some(_), Some(end)) => told(v1::Support::Supported, format!("supported until {end}")),
            (None, Some(end)) => {
                told(v1::Support::Unknown, format!("support ends on {end}; no source gave the day of the release"))
            }
            (released, None) => match (self.listed_as_ended, self.listed_as_supported) {
                (Some(listed), _) if day >= listed => {
                    told(v1::Support::Ended, format!("listed as ended on {listed}; no source gave the day"))
                }
                (_, Some(listed)) if released.is_some() && day <= listed => {
                    told(v1::Support::Supported, format!("listed as supported on {listed}; no source gave an end"))
                }
                (_, Some(listed)) => {
                    told(v1::Support::Unknown, format!("listed as supported on {listed}; no source gave an end"))
                }
                _ => told(v1::Support::Unknown, "no source gave an end of support".into()),
            },
        }
    }
}

impl RuntimeRow {
    /// The message of a runtime, judged on a day.
    pub fn to_proto(&self, catalogue: &Catalogue, day: Date) -> v1::Runtime {
        let text = |version: &Option<Version>| version.as_ref().map(ToString::to_string).unwrap_or_default();
        let date = |date: Option<Date>| date.map(|date| date.to_string()).unwrap_or_default();
        let support = self.support(day);
        let conflict = |conflict: &super::catalogue::Conflict| v1::Conflict {
            field: conflict.field.clone(),
            value: conflict.value.clone(),
            source: catalogue.sources_of(&[&conflict.source]).pop(),
            counts: conflict.counts.clone(),
        };
        v1::Runtime {
            name: self.name.resource(),
            display_name: self.name.to_string(),
            lts: self.name.lts,
            python_version: text(&self.python),
            pytorch_version: text(&self.pytorch),
            pytorch_cuda_variant: self.pytorch_build.clone().unwrap_or_default(),
            torchvision_version: text(&self.torchvision),
            cuda_version: text(&self.cuda),
            cudnn_version: text(&self.cudnn),
            nccl_version: text(&self.nccl),
            standard_python_version: text(&self.standard_python),
            release_date: date(self.released),
            end_of_support_date: date(self.end_of_support),
            support: support.status.into(),
            support_reason: support.reason,
            notes: self.notes.clone(),
            conflicts: self.conflicts.iter().map(conflict).collect(),
            sources: catalogue.sources_of(&self.sources),
        }
    }
}

impl Catalogue {
    /// The runtime for machine learning of that number.
    pub fn runtime(&self, query: &RuntimeQuery) -> Result<&RuntimeRow, UnknownRuntime> {
        let found = self.runtimes.iter().find(|row| row.name.version == query.version);
        found.ok_or_else(|| {
            let nearest = self.nearest_runtimes(&query.version, 3);
            UnknownRuntime { asked: query.text.clone(), nearest }
        })
    }

    /// The runtimes that are nearest to a number, the nearest first.
    pub(super) fn nearest_runtimes(&self, version: &Version, count: usize) -> Vec<String> {
        let mut near: Vec<&RuntimeRow> = self.runtimes.iter().collect();
        near.sort_by_key(|row| row.name.version.distance(version));
        near.iter().take(count).map(|row| row.name.to_string()).collect()
    }

    /// Python of a runtime, where that is known.
    pub(super) fn python_of(&self, query: &RuntimeQuery) -> Option<&Version> {
        let row = self.runtime(query).ok()?;
        if query.is_ml { row.python.as_ref() } else { row.standard_python.as_ref() }
    }

    /// Runtimes, newest first.
    pub fn list_runtimes(&self, filter: &RuntimeFilter, day: Date) -> Vec<&RuntimeRow> {
        let is_wanted = |row: &&RuntimeRow| {
            let has_pytorch = |wanted: &TorchVersion| {
                row.pytorch.as_ref().is_some_and(|found| found.is_of(&wanted.number))
                    && (wanted.variant.is_none() || wanted.variant == row.pytorch_build)
            };
            filter.pytorch.as_ref().is_none_or(has_pytorch)
                && (!filter.supported_only || row.support(day).status == v1::Support::Supported)
                && (!filter.lts_only || row.name.lts)
        };
        self.runtimes.iter().rev().filter(is_wanted).collect()
    }

    /// The day of the first release that is known.
    pub fn first_day(&self) -> Option<Date> {
        self.runtimes.iter().filter_map(|row| row.released).min()
    }

    /// The releases that are nearest to a version, the nearest first.
    pub(super) fn nearest_releases(&self, version: &Version, count: usize) -> Vec<String> {
        let mut near: Vec<&Version> = self.releases.iter().map(|release| &release.version).collect();
        near.sort_by_key(|other| other.distance(version));
        near.iter().take(count).map(ToString::to_string).collect()
    }

    /// The versions of PyTorch that are nearest to one, the nearest first.
    pub fn nearest_pytorch(&self, version: &Version, count: usize) -> Vec<&Version> {
        let shipped = self.runtimes.iter().filter_map(|row| row.pytorch.as_ref());
        let mut near: Vec<&Version> = self.releases.iter().map(|release| &release.version).chain(shipped).collect();
        near.sort();
        near.dedup();
        near.sort_by_key(|other| other.distance(version));
        near.truncate(count);
        near
    }
}

#[cfg(test)]
mod tests {
    use super::super::embedded;
    use super::*;

    fn catalogue() -> &'static Catalogue {
        embedded()
    }

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn find<'a>(catalogue: &'a Catalogue, name: &str) -> &'a RuntimeRow {
        catalogue.runtime(&name.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_page_of_2020_comes_out_as_it_was_published() {
        let published = [
            ("7.3 LTS ML", "1.6.0", true),
            ("7.2 ML", "1.5.1", true),
            ("7.1 ML", "1.5.1", true),
            ("7.0 ML", "1.5.0", true),
            ("6.6 ML", "1.4.0", true),
            ("6.5 ML", "1.4.0", true),
            ("6.4 ML", "1.4.0", true),
            ("6.3 ML", "1.3.1", false),
            ("5.5 LTS ML", "1.1.0", true),
        ];
        let catalogue = catalogue();
        for (name, pytorch, is_supported) in published {
            let row = find(catalogue, name);
            assert_eq!(row.name.to_string(), name);
            assert_eq!(row.pytorch.as_ref().unwrap().to_string(), pytorch, "{name}");
            let status = row.support(day("2020-10-01")).status;
            let expected = if is_supported { v1::Support::Supported } else { v1::Support::Ended };
            assert_eq!(status, expected, "{name}");
        }
        for (short, long) in [("7.3 ML", "7.3 LTS ML"), ("5.5 ML", "5.5 LTS ML")] {
            assert_eq!(find(catalogue, short).name.to_string(), long);
        }
    }

    #[test]
    fn names_are_read_as_people_and_programs_write_them() {
        let catalogue = catalogue();
        let names =
            ["7.3 ML", "7.3 LTS ML", "7.3.x-gpu-ml-scala2.12", "runtimes/7.3-ml", "7.3", " 7.3 lts ml ", "7.3.x"];
        for name in names {
            assert_eq!(find(catalogue, name).name.to_string(), "7.3 LTS ML", "{name}");
        }
        assert_eq!(find(catalogue, "15.4.x-cpu-ml-scala2.12").name.to_string(), "15.4 LTS ML");
        assert!(!"7.3.x-scala2.12".parse::<RuntimeQuery>().unwrap().is_ml);
        for name in ["", "ML", "seven", "7.3 XL", "7..3 ML", "runtimes/"] {
            assert!(name.parse::<RuntimeQuery>().is_err(), "{name:?}");
        }
        let unknown = catalogue.runtime(&"7.9 ML".parse().unwrap()).unwrap_err();
        assert_eq!(unknown.nearest, ["7.6 ML", "7.5 ML", "7.4 ML"]);
    }

    #[test]
    fn support_is_a_function_of_the_day() {
        use v1::Support::{Ended, NotReleased, Supported, Unknown};
        let catalogue = catalogue();
        let cases = [
            ("7.3 ML", "2020-09-23", NotReleased),
            ("7.3 ML", "2020-09-24", Supported),
            ("7.3 ML", "2022-09-24", Supported),
            ("7.3 ML", "2022-09-25", Ended),
            ("16.1 ML", "2025-06-01", Unknown),
            ("18.1 ML", "2026-12-01", Ended),
            ("18.1 ML", "2026-01-01", Unknown),
            ("19 ML", "2026-07-01", Supported),
            ("19 ML", "2027-07-01", Unknown),
        ];
        for (name, on, status) in cases {
            let support = find(catalogue, name).support(day(on));
            assert_eq!(support.status, status, "{name} on {on}: {}", support.reason);
        }
    }

    #[test]
    fn runtimes_are_listed_newest_first_and_filtered() {
        let catalogue = catalogue();
        let names = |filter: &RuntimeFilter, on: &str| -> Vec<String> {
            catalogue.list_runtimes(filter, day(on)).iter().map(|row| row.name.to_string()).collect()
        };
        let all = RuntimeFilter { pytorch: None, supported_only: false, lts_only: false };
        assert_eq!(names(&all, "2020-10-01").first().map(String::as_str), Some("19 ML"));
        let with =
            |pytorch: &str| RuntimeFilter { pytorch: Some(catalogue.read_torch(pytorch).unwrap()), ..all.clone() };
        assert_eq!(names(&with("1.5"), "2020-10-01"), ["7.2 ML", "7.1 ML", "7.0 ML"]);
        assert_eq!(names(&with("1.13.1+cu117"), "2026-01-01"), ["13.3 LTS ML", "12.2 LTS ML"]);
        assert_eq!(names(&with("1.13.1+cu116"), "2026-01-01"), [""; 0]);
        let filter = RuntimeFilter { supported_only: true, lts_only: true, ..all };
        assert_eq!(names(&filter, "2020-10-01"), ["7.3 LTS ML", "5.5 LTS ML"]);
    }
}
