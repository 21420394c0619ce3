//! Which build of which release: the one that was asked for or the newest that fits, or what keeps it from fitting.

use super::minor;
use crate::compat::catalogue::{Build, InstallForm, Release};
use crate::compat::gpu_code::Fit;
use crate::compat::{Catalogue, Version};
use crate::job::Violations;

/// What a build has to fit.
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
            let near: Vec<_> = self.catalogue.releases.iter().map(|release| &release.version).collect();
            let mut near: Vec<_> = near.into_iter().map(|version| (version.distance(wanted), version)).collect();
            near.sort();
            let near: Vec<_> = near.iter().take(3).map(|(_, version)| version.to_string()).collect();
            return Err(one(
                "pytorch_version",
                format!("is {wanted}, which is not in the catalogue; the nearest are {}", near.join(", ")),
            ));
        };
        if !release.python.has(&self.python) {
            let other = self.catalogue.releases.iter().filter(|release| release.python.has(&self.python));
            let nearest = other.min_by_key(|release| self.steps_between(&release.version, wanted));
            let nearest = nearest.map(|release| {
                format!("; the nearest release with wheels for {} is {}", minor(&self.python), release.version)
            });
            return Err(one(
                "python_version",
                format!(
                    "is {}, and PyTorch {} has wheels for {}{}",
                    self.python,
                    release.version,
                    release.python,
                    nearest.unwrap_or_default()
                ),
            ));
        }
        self.build_of(release).map(|build| (release, build)).map_err(|(field, why)| {
            let nearest = if field == "cuda_variant" { None } else { self.nearest(wanted) };
            let nearest = nearest.map(|(release, build)| {
                format!("; the nearest that fits is PyTorch {} ({})", release.version, build.variant)
            });
            one(field, format!("{why}{}", nearest.unwrap_or_default()))
        })
    }

    /// What fits and is nearest to a release.
    fn nearest(&self, wanted: &Version) -> Option<(&'a Release, &'a Build)> {
        let with_python = self.catalogue.releases.iter().filter(|release| release.python.has(&self.python));
        let fitting = with_python.filter_map(|release| Some((release, self.build_of(release).ok()?)));
        fitting.min_by_key(|(release, _)| self.steps_between(&release.version, wanted))
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
        let Some(release) = newest else {
            let with_python = self.catalogue.releases.iter().rev().find(|release| release.python.has(&self.python));
            let why = match with_python.map(|release| (release, self.build_of(release))) {
                Some((release, Err((field, why)))) => {
                    return Err(one(field, format!("{why} (PyTorch {}, the newest for this Python)", release.version)));
                }
                _ => {
                    let first = self.catalogue.releases.iter().find_map(|release| release.python.min.clone());
                    let last = self.catalogue.releases.iter().map(|release| release.python.max.clone()).max();
                    let range =
                        first.zip(last).map(|(first, last)| format!("; there are wheels for Python {first} to {last}"));
                    format!(
                        "is {}, and no release in the catalogue has wheels for it{}",
                        self.python,
                        range.unwrap_or_default()
                    )
                }
            };
            return Err(one("python_version", why));
        };
        self.build_of(release).map(|build| (release, build)).map_err(|(field, why)| one(field, why))
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
                let number = |text: &str| text.trim_start_matches("cu").parse::<i64>().unwrap_or(0);
                let nearest = cuda.iter().min_by_key(|build| (number(&build.variant) - number(variant)).abs());
                let nearest = nearest.map(|build| build.variant.as_str()).unwrap_or("none");
                return Err((
                    "cuda_variant",
                    format!(
                        "is {variant}, for which PyTorch {version} was never built; there are {}, and the nearest is {nearest}",
                        names(&cuda)
                    ),
                ));
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
        // PyPI's own is what everybody has; then the newest toolkit that the release does not call experimental.
        let best = fitting.iter().find(|build| build.pypi && release.install == InstallForm::Wheel);
        let best = best.or_else(|| fitting.iter().find(|build| !build.experimental)).or(fitting.first());
        best.copied().ok_or(why)
    }

    /// Whether the driver and the GPU of the request, where it told them, run a build.
    fn runs(&self, build: &Build) -> Result<(), (&'static str, String)> {
        let toolkit = build.cuda.as_ref().and_then(|cuda| self.catalogue.toolkit(cuda));
        if let (Some(driver), Some(toolkit)) = (&self.driver, toolkit)
            && let Some(floor) = toolkit.floor().filter(|floor| driver < *floor)
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
