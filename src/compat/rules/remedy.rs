//! Ways out of a finding, and which of them are offered: those after which the machine is judged
//! better.
//!
//! Each way says what it changes in the facts. The changed facts are judged by the same rules, so
//! that no rule has to know all others.

use super::{Case, Found, judge};
use crate::compat::{Catalogue, Date, Facts, Version};
use crate::proto::v1::{Remedy, Severity};

/// The change that a way out makes on the machine.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// The build of PyTorch.
    Torch { version: Version, variant: String },
    /// The driver.
    Driver(Version),
    /// The folder of the forward-compatibility package that the loader finds first; empty for none.
    ForwardDir(&'static str),
}

/// A way out of a finding.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) remedy: Remedy,
    /// All of it is done together.
    pub(super) changes: Vec<Change>,
}

impl Way {
    pub(super) fn new(text: impl Into<String>, commands: &[String], changes: Vec<Change>) -> Self {
        Self { remedy: Remedy { text: text.into(), commands: commands.to_vec() }, changes }
    }
}

/// How many findings there are, the heaviest severity first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    errors: usize,
    unknown: usize,
    warnings: usize,
    others: usize,
}

impl Weight {
    fn of(found: &[Found]) -> Self {
        let count = |severity| found.iter().filter(|found| found.finding.severity() == severity).count();
        let (errors, unknown, warnings) = (count(Severity::Error), count(Severity::Unknown), count(Severity::Warning));
        Self { errors, unknown, warnings, others: found.len() - errors - unknown - warnings }
    }
}

impl Facts {
    fn after(&self, changes: &[Change]) -> Self {
        let mut facts = self.clone();
        for change in changes {
            match change {
                Change::Torch { version, variant } => {
                    facts.torch.version = Some(version.clone());
                    facts.torch.variant = Some(variant.clone());
                    facts.torch.load_error.clear();
                    facts.torch.cuda_load_error.clear();
                    // Another build, or another driver, has to be asked again.
                    facts.torch.cuda_error = None;
                }
                Change::Driver(version) => {
                    facts.driver = Some(version.clone());
                    facts.torch.cuda_error = None;
                }
                Change::ForwardDir(dir) => facts.forward_dir = (*dir).to_owned(),
            }
        }
        facts
    }
}

/// Puts into each finding the remedies that work: after them the finding is gone, and what is left
/// weighs less. Of several, those that leave more errors than another one are not offered.
pub(super) fn offer(catalogue: &Catalogue, facts: &Facts, day: Date, found: &mut [Found]) {
    let before = Weight::of(found);
    for found in found {
        let reason = found.finding.reason.clone();
        let helpful = |ways: Vec<Way>| -> Vec<Remedy> {
            let ends = ways.into_iter().filter_map(|way| {
                let after = judge(catalogue, &facts.after(&way.changes), day, true);
                let is_gone = after.iter().all(|found| found.finding.reason != reason);
                let weight = Weight::of(&after);
                (is_gone && weight < before).then_some((weight.errors, way.remedy))
            });
            let ends: Vec<_> = ends.collect();
            let fewest = ends.iter().map(|(errors, _)| *errors).min();
            ends.into_iter().filter(|(errors, _)| Some(*errors) == fewest).map(|(_, remedy)| remedy).collect()
        };
        let lists = std::mem::take(&mut found.ways).into_iter();
        let remedies = &mut found.finding.remedies;
        // Remedies that change nothing come first, such as the one that nothing has to be done.
        remedies.extend(lists.map(helpful).find(|remedies| !remedies.is_empty()).unwrap_or_default());
        if remedies.is_empty() {
            let text = "No build in the catalogue runs on these GPUs with a driver that knows them: choose other GPUs, or train on the CPU.";
            remedies.push(Remedy { text: text.into(), commands: Vec::new() });
        }
    }
}

/// The last driver branch that knows all GPUs of a machine.
pub(super) struct LastBranch<'a> {
    pub(super) branch: &'a Version,
    /// The GPU that no later one knows.
    pub(super) gpu: &'a str,
    pub(super) sources: &'a [String],
}

impl<'a> Case<'a> {
    /// None where drivers go on to know the GPUs.
    pub(super) fn last_branch(&self) -> Option<LastBranch<'a>> {
        let gpus = self.facts.gpus.as_deref().unwrap_or_default();
        let last = gpus.iter().filter_map(|gpu| {
            let row = self.generation(gpu)?;
            Some(LastBranch { branch: row.last_driver_branch.as_ref()?, gpu: &gpu.name, sources: &row.sources })
        });
        last.min_by(|one, other| one.branch.cmp(other.branch))
    }

    /// Whether there may be a driver from `floor` on that knows all GPUs.
    pub(super) fn has_driver_from(&self, floor: &Version) -> bool {
        self.last_branch().is_none_or(|last| floor.major() <= last.branch.major())
    }

    /// In words, which driver to change to: from `floor` on, and of a branch that knows all GPUs.
    pub(super) fn driver_change(&self, floor: &Version) -> String {
        let goes_back = self.facts.driver.as_ref().is_some_and(|driver| driver > floor);
        match self.last_branch() {
            Some(LastBranch { branch, gpu, .. }) if goes_back => {
                format!("Go back to the driver branch R{branch}, the last that knows {gpu}: {floor} or newer of it")
            }
            Some(LastBranch { branch, gpu, .. }) => {
                format!(
                    "Update the NVIDIA driver to {floor} or newer, up to R{branch}, the last branch that knows {gpu}"
                )
            }
            None => format!("Update the NVIDIA driver to {floor} or newer"),
        }
    }

    /// The way to a driver from `floor` on; None where none of those knows all GPUs.
    pub(super) fn to_driver(&self, floor: &Version) -> Option<Way> {
        let change = Change::Driver(floor.clone());
        self.has_driver_from(floor).then(|| Way::new(format!("{}.", self.driver_change(floor)), &[], vec![change]))
    }
}
