//! Other builds of PyTorch that a machine can run.

use super::Case;
use super::remedy::{Change, Way};
use crate::compat::catalogue::{Build, Release};
use crate::compat::gpu_code::Fit;
use crate::compat::install::replace_command;
use crate::compat::{Catalogue, Version};

/// The machine that a build has to run on. None leaves the choice open.
struct Wanted<'a> {
    driver: Option<&'a Version>,
    python: Option<&'a Version>,
    gpus: Vec<&'a Version>,
    /// Code that the driver has to compile will do, too.
    with_ptx: bool,
}

impl Wanted<'_> {
    fn is_met_by(&self, catalogue: &Catalogue, build: &Build) -> bool {
        let Some(toolkit) = build.cuda.as_ref().and_then(|cuda| catalogue.toolkit(cuda)) else { return false };
        let runs = self.driver.is_none_or(|driver| toolkit.floor().is_some_and(|floor| driver >= floor));
        let Some(coverage) = &build.compute else { return false };
        let has_code = |compute: &&Version| match coverage.fit(compute) {
            Fit::Binary => true,
            Fit::Ptx => self.with_ptx && self.driver.is_some_and(|driver| toolkit.is_known_to(driver)),
            Fit::None => false,
        };
        runs && self.gpus.iter().all(has_code)
    }

    /// The best build of a release: of the newest toolkit, one that the release does not call
    /// experimental first.
    fn best_of<'c>(&self, catalogue: &Catalogue, release: &'c Release) -> Option<&'c Build> {
        if self.python.is_some_and(|python| !release.python.has(python)) {
            return None;
        }
        let fitting = release.builds.iter().rev().filter(|build| self.is_met_by(catalogue, build));
        let mut fitting = fitting.peekable();
        let newest = fitting.peek().copied();
        fitting.find(|build| !build.experimental).or(newest)
    }
}

/// Ways to other builds, behind ways that are as good: builds with finished code that run on this
/// driver; then those that need another driver as well; then those whose code this driver has to
/// compile.
pub(super) fn to_other_builds(case: &Case<'_>, mut as_good: Vec<Way>) -> Vec<Vec<Way>> {
    let driver = case.facts.driver.as_ref();
    let ways = |with_ptx: bool| {
        let chosen = chosen(case, driver, with_ptx, |_| true).into_iter();
        chosen.map(|(release, build)| to_build(case, release, build)).collect::<Vec<_>>()
    };
    as_good.extend(ways(false));
    vec![as_good, builds_with_driver(case), ways(true)]
}

/// Ways to a build with finished code, together with a driver for it that knows the GPUs.
pub(super) fn builds_with_driver(case: &Case<'_>) -> Vec<Way> {
    let floor_of = |build: &Build| build.cuda.as_ref().and_then(|cuda| case.catalogue.toolkit(cuda)?.floor().cloned());
    let has_driver = |build: &Build| floor_of(build).is_some_and(|floor| case.has_driver_from(&floor));
    let ways = chosen(case, None, false, has_driver).into_iter().filter_map(|(release, build)| {
        let floor = floor_of(build)?;
        let mut way = to_build(case, release, build);
        way.remedy.text = format!("{}. {}", case.driver_change(&floor), way.remedy.text);
        way.changes.push(Change::Driver(floor));
        Some(way)
    });
    ways.collect()
}

/// The build of a release that this machine can run, if there is one.
pub(super) fn build_of<'c>(case: &Case<'c>, release: &'c Release) -> Option<Way> {
    wanted(case, case.facts.driver.as_ref(), false)
        .best_of(case.catalogue, release)
        .map(|build| to_build(case, release, build))
}

fn wanted<'a>(case: &Case<'a>, driver: Option<&'a Version>, with_ptx: bool) -> Wanted<'a> {
    let gpus = case.facts.gpus.as_deref().unwrap_or_default();
    let gpus = gpus.iter().filter_map(|gpu| gpu.compute.as_ref()).collect();
    Wanted { driver, python: case.python(), gpus, with_ptx }
}

/// Of the same release, of the nearest, and of the newest, the build that meets what is wanted and
/// is possible.
fn chosen<'a>(
    case: &Case<'a>,
    driver: Option<&'a Version>,
    with_ptx: bool,
    is_possible: impl Fn(&Build) -> bool,
) -> Vec<(&'a Release, &'a Build)> {
    if case.is_trial {
        return Vec::new();
    }
    let wanted = wanted(case, driver, with_ptx);
    let releases = case.catalogue.releases.iter();
    let fitting = releases.filter_map(|release| Some((release, wanted.best_of(case.catalogue, release)?)));
    let fitting: Vec<_> = fitting.filter(|(_, build)| is_possible(build)).collect();
    // Without its torchvision a release is half of what is needed.
    let newest = fitting.iter().rfind(|(release, _)| release.torchvision.is_some());
    let Some(own) = &case.facts.torch.version else { return newest.copied().into_iter().collect() };
    let place = |version: &Version| case.catalogue.releases.partition_point(|release| release.version < *version);
    let distance = |release: &Release| place(&release.version).abs_diff(place(own));
    let same = fitting.iter().find(|(release, _)| release.version == *own);
    let others = fitting.iter().rev().filter(|(release, _)| release.version != *own);
    let nearest = others.min_by_key(|(release, _)| distance(release));
    let mut chosen: Vec<(&Release, &Build)> = Vec::new();
    for (release, build) in [same, nearest, newest].into_iter().flatten().copied() {
        if chosen.iter().all(|(other, _)| other.version != release.version) {
            chosen.push((release, build));
        }
    }
    chosen
}

/// The way to a build.
pub(super) fn to_build(case: &Case<'_>, release: &Release, build: &Build) -> Way {
    let Release { version, python, .. } = release;
    let variant = &build.variant;
    let change = Change::Torch { version: version.clone(), variant: variant.clone() };
    let command = replace_command(release, build);
    if case.facts.torch.built_for.is_none() {
        let text = format!("Install PyTorch {version} built for {variant} ({python}).");
        return Way::new(text, &[command], vec![change]);
    }
    // torchd's runner loads its libraries from a folder, and not from what pip has installed.
    let folder = format!("/opt/torchd-libtorch-{variant}");
    let text = format!(
        "Install PyTorch {version} built for {variant} ({python}) into a folder of its own, and name {folder}/torch/lib \
         as runner.libtorch_dir in the settings."
    );
    let command = command.replacen("pip install", &format!("pip install --target {folder}"), 1);
    Way::new(text, &[command], vec![change])
}
