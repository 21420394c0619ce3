//! The rules: facts of a machine against the catalogue. Each rule is a function that adds what it
//! finds.

mod builds;
mod driver;
mod gpu;
mod libraries;
mod remedy;
mod runtime;
#[cfg(test)]
mod tests;

use super::catalogue::{Build, Generation, Release, Toolkit};
use super::facts::GpuFact;
use super::{Catalogue, Date, Facts, Version};
use crate::proto::v1::{self, Concern, Finding, Severity, Verdict};
pub use libraries::explain_loader;
use remedy::Way;

/// A finding, and the ways out of it that are still to be judged.
struct Found {
    finding: Finding,
    /// Those of a later list are judged only where none of the earlier helps.
    ways: Vec<Vec<Way>>,
}

/// The input of a rule, and the findings so far.
struct Case<'a> {
    catalogue: &'a Catalogue,
    facts: &'a Facts,
    day: Date,
    release: Option<&'a Release>,
    build: Option<&'a Build>,
    toolkit: Option<&'a Toolkit>,
    /// A way out is tried: nobody asks for ways out of what is left.
    is_trial: bool,
    findings: Vec<Found>,
}

impl<'a> Case<'a> {
    /// Adds a finding whose remedies change nothing that is judged here.
    fn add(&mut self, finding: Finding) {
        self.add_with(finding, Vec::new());
    }

    /// Adds a finding with the ways out that are to be judged, the better ones in the earlier
    /// lists.
    fn add_with(&mut self, finding: Finding, ways: Vec<Vec<Way>>) {
        self.findings.push(Found { finding, ways });
    }

    /// The Python that PyTorch is installed into.
    fn python(&self) -> Option<&'a Version> {
        let of_runtime = || self.catalogue.python_of(self.facts.runtime.as_ref()?);
        self.facts.python.as_ref().or_else(of_runtime)
    }

    /// The generation of a GPU, where drivers, toolkits or builds have left it behind.
    fn generation(&self, gpu: &GpuFact) -> Option<&'a Generation> {
        let compute = gpu.compute.as_ref()?;
        self.catalogue.generations.iter().find(|row| (&row.from..=&row.to).contains(&compute))
    }

    /// PyTorch as it is called in findings, such as `PyTorch 2.11.0 (cu126)`.
    fn torch(&self) -> String {
        let torch = &self.facts.torch;
        let version = torch.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let variant = torch.variant.as_ref().map(|variant| format!(" ({variant})")).unwrap_or_default();
        format!("PyTorch{version}{variant}")
    }
}

/// Judges a machine on a day. The facts are put into the report by the caller, who knows where they
/// came from.
pub fn check(catalogue: &Catalogue, facts: &Facts, day: Date) -> v1::CompatibilityReport {
    let mut found = judge(catalogue, facts, day, false);
    remedy::offer(catalogue, facts, day, &mut found);
    let mut findings: Vec<Finding> = found.into_iter().map(|found| found.finding).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    v1::CompatibilityReport {
        verdict: verdict(&findings, |_| true).into(),
        gpu_verdict: (facts.has_gpus() != Some(false)).then(|| {
            verdict(&findings, |concern| matches!(concern, Concern::GpuTraining | Concern::AllTraining)).into()
        }),
        cpu_verdict: verdict(&findings, |concern| concern == Concern::AllTraining).into(),
        findings,
        facts: None,
        as_of: day.to_string(),
    }
}

/// The findings of the rules. Which of the ways out help is judged by the caller.
fn judge(catalogue: &Catalogue, facts: &Facts, day: Date, is_trial: bool) -> Vec<Found> {
    let torch = &facts.torch;
    let release = torch.version.as_ref().and_then(|version| catalogue.release(version));
    let build = release.zip(torch.variant.as_ref()).and_then(|(release, variant)| release.build(variant));
    let toolkit = match build {
        Some(build) => build.cuda.as_ref().and_then(|cuda| catalogue.toolkit(cuda)),
        // A build that the catalogue does not have says its toolkit all the same: cu126 is 12.6.
        None => torch.variant.as_deref().and_then(toolkit_of_variant).and_then(|cuda| catalogue.toolkit(&cuda)),
    };
    let mut case = Case { catalogue, facts, day, release, build, toolkit, is_trial, findings: Vec::new() };
    driver::judge(&mut case);
    gpu::judge(&mut case);
    driver::cuda_error(&mut case);
    libraries::judge(&mut case);
    runtime::judge(&mut case);
    case.findings
}

/// The worst of the findings about some concerns. An unknown fact decides only where it is about
/// training.
fn verdict(findings: &[Finding], is_about: impl Fn(Concern) -> bool) -> Verdict {
    let decides = |finding: &&Finding| {
        let is_training = matches!(finding.concern(), Concern::GpuTraining | Concern::AllTraining);
        is_about(finding.concern()) && (finding.severity() != Severity::Unknown || is_training)
    };
    match findings.iter().filter(decides).map(Finding::severity).max() {
        Some(Severity::Error) => Verdict::Broken,
        Some(Severity::Unknown) => Verdict::Unknown,
        Some(Severity::Warning) => Verdict::Degraded,
        Some(Severity::Info | Severity::Unspecified) | None => Verdict::Ok,
    }
}

/// The toolkit that a variant is built with: `cu126` is 12.6, `cu92` is 9.2.
pub(super) fn toolkit_of_variant(variant: &str) -> Option<Version> {
    let digits = variant.strip_prefix("cu")?;
    let (major, minor) = digits.split_at_checked(digits.len().checked_sub(1)?)?;
    format!("{major}.{minor}").parse().ok()
}

impl Catalogue {
    /// A release by its version.
    pub fn release(&self, version: &Version) -> Option<&Release> {
        self.releases.iter().find(|release| release.version == *version)
    }

    /// A toolkit by major and minor.
    pub fn toolkit(&self, version: &Version) -> Option<&Toolkit> {
        self.toolkits.iter().find(|toolkit| toolkit.version == *version)
    }
}

impl Toolkit {
    /// The oldest driver that runs its programs, without a forward-compatibility package.
    pub(super) fn floor(&self) -> Option<&Version> {
        self.minor_compatibility_driver.as_ref().or(self.driver.as_ref())
    }

    /// Whether a driver knows everything that is in it.
    pub(super) fn is_known_to(&self, driver: &Version) -> bool {
        match (&self.driver, &self.driver_branch) {
            (Some(own), _) => driver >= own,
            (None, Some(branch)) => driver.major() >= branch.major(),
            (None, None) => false,
        }
    }
}
