//! Which build of which release: the one that was asked for or the newest that fits, or what keeps
//! it from fitting.

use super::minor;
use crate::compat::catalogue::{Build, InstallForm, Release};
use crate::compat::gpu_code::Fit;
use crate::compat::{Catalogue, Version};
use crate::job::Violations;

/// The conditions that a build has to fit.
pub(super) struct Wish<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) python: Version,
    pub(super) is_gpu: bool,
    pub(super) variant: Option<String>,
    pub(super) driver: Option<Version>,
    pub(super) compute: Option<Version>,
}

impl<'a> Wish<'a> {
    /// The build of a release that was asked for, or what comes nearest.
    pub(super) fn asked_for(&self, wanted: &Version) -> Result<(&'a Release, &'a Build), Violations> {
        let of_line = self.catalogue.releases.iter().rev().find(|release| release.version.is_of(wanted));
        let Some(release) = of_line else {
            let near = self.catalogue.nearest_releases(wanted, 3).join(", ");
            let why = format!("is {wanted}, which is not in the catalogue; the nearest are {near}");
            return Err(self.refused("pytorch_version", why, wanted));
        };
        if !release.python.has(&self.python) {
            let why = format!("is {}, and PyTorch {} has wheels for {}", self.python, release.version, release.python);
            return Err(self.refused("python_version", why, &release.version));
        }
        let build = self.build_of(release).map(|build| (release, build));
        build.map_err(|(field, why)| self.refused(field, why, &release.version))
    }

    /// Why there is no plan, with the build that comes nearest.
    fn refused(&self, field: &'static str, why: String, wanted: &Version) -> Violations {
        let mut wrong = Violations::default();
        wrong.add(field, format!("{why}{}", self.nearest_words(field, wanted)));
        wrong
    }

    fn nearest_words(&self, field: &str, wanted: &Version) -> String {
        if let Some((release, build)) = self.nearest(wanted, |build| self.runs(build).is_ok()) {
            let (version, variant) = (&release.version, &build.variant);
            return match field {
                "python_version" => {
                    format!("; the nearest release with wheels for {} is {version} ({variant})", minor(&self.python))
                }
                _ if version == wanted => format!("; the nearest is {variant}"),
                _ => format!("; the nearest that fits is PyTorch {version} ({variant})"),
            };
        }
        // Nothing runs on that driver: the build with code for the GPU that asks least of it.
        let has_code = |build: &Build| match (&self.compute, &build.compute) {
            (Some(compute), Some(coverage)) => coverage.fit(compute) == Fit::Binary,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let with_code = self.candidates().filter(|(_, build)| has_code(build));
        let least = with_code.filter_map(|(release, build)| Some((self.floor(build)?, release, build)));
        let least = least.min_by_key(|(floor, release, _)| (*floor, self.steps_between(&release.version, wanted)));
        match (least, &self.compute) {
            (Some((floor, release, build)), _) => {
                let (version, variant) = (&release.version, &build.variant);
                format!("; the nearest is PyTorch {version} ({variant}), which needs driver {floor} or newer")
            }
            (None, Some(compute)) => {
                format!("; no build for {} in the catalogue holds code for {compute}", minor(&self.python))
            }
            (None, None) => String::new(),
        }
    }

    /// Builds for the Python and the accelerator that were asked for.
    fn candidates(&self) -> impl Iterator<Item = (&'a Release, &'a Build)> {
        let with_python = self.catalogue.releases.iter().filter(|release| release.python.has(&self.python));
        let builds = with_python.flat_map(|release| release.builds.iter().map(move |build| (release, build)));
        builds.filter(|(_, build)| build.cuda.is_some() == self.is_gpu)
    }

    /// The candidate that is nearest to a release, and then to the variant that was asked for.
    fn nearest(&self, wanted: &Version, fits: impl Fn(&Build) -> bool) -> Option<(&'a Release, &'a Build)> {
        let number = |text: &str| text.trim_start_matches("cu").parse::<u32>().unwrap_or(0);
        let from_variant = |build: &Build| match &self.variant {
            Some(variant) => number(&build.variant).abs_diff(number(variant)),
            None => u32::from(build.experimental),
        };
        let fitting = self.candidates().filter(|(_, build)| fits(build));
        fitting.min_by_key(|(release, build)| (self.steps_between(&release.version, wanted), from_variant(build)))
    }

    /// The oldest driver for a build.
    fn floor(&self, build: &Build) -> Option<&'a Version> {
        self.catalogue.toolkit(build.cuda.as_ref()?)?.floor()
    }

    /// How many releases lie between two versions.
    fn steps_between(&self, one: &Version, other: &Version) -> usize {
        let place = |version: &Version| self.catalogue.releases.partition_point(|release| release.version < *version);
        place(one).abs_diff(place(other))
    }

    /// The newest release that fits.
    pub(super) fn newest(&self) -> Result<(&'a Release, &'a Build), Violations> {
        let fits = |release: &&Release| release.python.has(&self.python) && self.build_of(release).is_ok();
        let mut found = self.catalogue.releases.iter().rev().filter(fits);
        // Without its torchvision a release is half a plan; an older one that is whole comes first.
        let newest = found.clone().find(|release| release.torchvision.is_some()).or_else(|| found.next());
        if let Some(release) = newest {
            return self.build_of(release).map(|build| (release, build)).map_err(|(field, why)| one(field, why));
        }
        let with_python = self.catalogue.releases.iter().rev().find(|release| release.python.has(&self.python));
        if let Some((release, Err((field, why)))) = with_python.map(|release| (release, self.build_of(release))) {
            let why = format!("{why} (PyTorch {}, the newest for this Python)", release.version);
            return Err(self.refused(field, why, &release.version));
        }
        let first = self.catalogue.releases.iter().find_map(|release| release.python.min.clone());
        let last = self.catalogue.releases.iter().map(|release| release.python.max.clone()).max();
        let range = first.zip(last).map(|(first, last)| format!("; there are wheels for Python {first} to {last}"));
        let why = format!("is {}, and no release in the catalogue has wheels for it", self.python);
        Err(one("python_version", format!("{why}{}", range.unwrap_or_default())))
    }

    /// The build of a release that fits best, or the field that keeps all from fitting, and why.
    fn build_of<'r>(&self, release: &'r Release) -> Result<&'r Build, (&'static str, String)> {
        let version = &release.version;
        if !self.is_gpu {
            return release.build("cpu").ok_or_else(|| {
                ("pytorch_version", format!("is {version}, of which no source lists a build for the CPU"))
            });
        }
        let cuda: Vec<&Build> = release.builds.iter().filter(|build| build.cuda.is_some()).collect();
        let names = |builds: &[&Build]| builds.iter().map(|build| build.variant.clone()).collect::<Vec<_>>().join(", ");
        if let Some(variant) = &self.variant {
            let Some(build) = release.build(variant) else {
                let there = names(&cuda);
                let why = format!("is {variant}, for which PyTorch {version} was never built; there are {there}");
                return Err(("cuda_variant", why));
            };
            return self.runs(build).map(|()| build);
        }
        let mut why = ("pytorch_version", format!("is {version}, of which no source lists a build for CUDA"));
        let mut fitting = Vec::new();
        for build in cuda.iter().rev() {
            match self.runs(build) {
                Ok(()) => fitting.push(*build),
                Err(error) => why = error,
            }
        }
        // PyPI's own is what everybody has; then the newest toolkit that the release does not call
        // experimental.
        let best = fitting.iter().find(|build| build.pypi && release.install == InstallForm::Wheel);
        let best = best.or_else(|| fitting.iter().find(|build| !build.experimental)).or(fitting.first());
        best.copied().ok_or(why)
    }

    /// Whether the driver and the GPU of the request, where it told them, run a build.
    fn runs(&self, build: &Build) -> Result<(), (&'static str, String)> {
        let toolkit = build.cuda.as_ref().and_then(|cuda| self.catalogue.toolkit(cuda));
        if let (Some(driver), Some(floor)) = (&self.driver, self.floor(build))
            && driver < floor
        {
            return Err(("driver_version", format!("is {driver}, and {} needs {floor} or newer", build.variant)));
        }
        let Some(compute) = &self.compute else { return Ok(()) };
        let Some(coverage) = &build.compute else {
            let why = format!("is {compute}, and no source told what {} holds code for", build.variant);
            return Err(("compute_capability", why));
        };
        match coverage.fit(compute) {
            Fit::Binary => Ok(()),
            Fit::Ptx => match (&self.driver, toolkit) {
                (Some(driver), Some(toolkit)) if !toolkit.is_known_to(driver) => Err((
                    "driver_version",
                    format!("is {driver}, which cannot compile the code of {} for {compute}", build.variant),
                )),
                _ => Ok(()),
            },
            Fit::None => {
                Err(("compute_capability", format!("is {compute}, and {} holds code for {coverage}", build.variant)))
            }
        }
    }
}

fn one(field: &str, description: String) -> Violations {
    let mut wrong = Violations::default();
    wrong.add(field, description);
    wrong
}
