//! GPUs from a profile, for demonstration: readings of real ones, played again. Whatever shows them
//! says so.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Driver, DriverFacts, EventSource, Sample, Session, Unavailable};
use crate::gpu::nvml_reductions;
use crate::proto::{text, v1};

/// The profiles that are built in.
const PROFILES: [(&str, &str); 8] = [
    ("h100", include_str!("profiles/h100.toml")),
    ("h100-mig", include_str!("profiles/h100-mig.toml")),
    ("h200", include_str!("profiles/h200.toml")),
    ("h200-mig", include_str!("profiles/h200-mig.toml")),
    ("l40s", include_str!("profiles/l40s.toml")),
    ("rtx-2080-super", include_str!("profiles/rtx-2080-super.toml")),
    ("rtx-4080-super", include_str!("profiles/rtx-4080-super.toml")),
    ("8xh100", include_str!("profiles/8xh100.toml")),
];

/// The names of the profiles that are built in.
pub fn profile_names() -> Vec<&'static str> {
    PROFILES.iter().map(|(name, _)| *name).collect()
}

/// Why a profile cannot be played: all mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// The file, or the name.
    pub file: String,
    /// The mistakes, each with its line where that is known.
    pub mistakes: Vec<String>,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.mistakes.join("; "))
    }
}

impl std::error::Error for ProfileError {}

/// A profile that can be played.
#[derive(Debug, Clone)]
pub struct Replay {
    name: String,
    profile: v1::GpuProfile,
    /// The length of each phase.
    lengths: Vec<Duration>,
}

impl Replay {
    /// A profile by its name (such as `h100`, or `h100:load` for one phase of it alone), or from a
    /// file, in TOML or JSON.
    pub fn load(source: &Path) -> Result<Self, ProfileError> {
        let name = source.display().to_string();
        let (base, phase) = match name.split_once(':') {
            Some((base, phase)) if PROFILES.iter().any(|(known, _)| *known == base) => (base, Some(phase)),
            _ => (name.as_str(), None),
        };
        let wrong = |mistake: String| ProfileError { file: name.clone(), mistakes: vec![mistake] };
        let built_in = PROFILES.iter().find(|(known, _)| *known == base);
        let content = match built_in {
            Some((_, content)) => (*content).to_owned(),
            None => std::fs::read_to_string(source).map_err(|error| {
                let names = profile_names().join(", ");
                wrong(format!("is neither a profile that is built in ({names}) nor a file that can be read: {error}"))
            })?,
        };
        let is_json = source.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        let mut profile = read(&content, is_json).map_err(|mistakes| ProfileError { file: name.clone(), mistakes })?;
        if let Some(wanted) = phase {
            let known: Vec<_> = profile.phases.iter().map(|phase| phase.name.clone()).collect();
            profile.phases.retain(|phase| phase.name == wanted);
            if profile.phases.is_empty() {
                return Err(wrong(format!("has no phase {wanted:?}; there are {}", known.join(", "))));
            }
        }
        let lengths = profile.phases.iter().map(|phase| length(phase).unwrap_or(Duration::from_secs(60))).collect();
        Ok(Self { name, profile, lengths })
    }
}

impl Driver for Replay {
    fn open(&self) -> Result<Box<dyn Session>, Unavailable> {
        let now = Instant::now();
        Ok(Box::new(Playing { replay: self.clone(), begun: now, last: now, energy: Vec::new() }))
    }
}

/// A profile that is being played.
struct Playing {
    replay: Replay,
    begun: Instant,
    last: Instant,
    /// The energy counters in millijoules, by the order of GPUs.
    energy: Vec<(String, f64)>,
}

impl Session for Playing {
    fn facts(&self) -> DriverFacts {
        let profile = &self.replay.profile;
        DriverFacts {
            driver_version: profile.driver_version.clone(),
            nvml_version: profile.nvml_version.clone(),
            cuda_driver_version: profile.cuda_driver_version.clone(),
            replayed_profile: self.replay.name.clone(),
        }
    }

    fn sample(&mut self) -> Result<Sample, Unavailable> {
        let now = Instant::now();
        let phase = self.replay.phase(now.duration_since(self.begun));
        let since_last = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        let mut gpus = phase.gpus.clone();
        for gpu in &mut gpus {
            gpu.sample_time = Some(SystemTime::now().into());
            let Some(power) = gpu.power.as_mut() else { continue };
            // Energy goes on with the power that is shown, from what the profile begins with.
            let Some(watts) = power.average_milliwatts else { continue };
            let place = self.energy.iter().position(|(uuid, _)| *uuid == gpu.uuid);
            let counter = match place.and_then(|place| self.energy.get_mut(place)) {
                Some((_, counter)) => {
                    *counter += watts as f64 * since_last;
                    *counter
                }
                None => {
                    let start = power.energy_millijoules.unwrap_or(0) as f64;
                    self.energy.push((gpu.uuid.clone(), start));
                    start
                }
            };
            power.energy_millijoules = Some(counter as u64);
            gpu.absent.retain(|absent| absent.field != "power.energy_millijoules");
        }
        Ok(Sample { gpus, lost: Vec::new(), processes: phase.processes.clone() })
    }

    fn events(&self) -> Result<Box<dyn EventSource>, String> {
        Err(format!("the profile {} is replayed, to which nothing happens", self.replay.name))
    }
}

impl Replay {
    /// The phase that is shown after that time.
    fn phase(&self, after: Duration) -> &v1::GpuProfilePhase {
        let round: Duration = self.lengths.iter().sum();
        let mut left = Duration::from_secs_f64(after.as_secs_f64() % round.as_secs_f64().max(1e-3));
        for (phase, length) in self.profile.phases.iter().zip(&self.lengths) {
            if left < *length {
                return phase;
            }
            left -= *length;
        }
        // A profile without phases is refused when it is read.
        &self.profile.phases[0]
    }
}

fn length(phase: &v1::GpuProfilePhase) -> Option<Duration> {
    phase.duration.and_then(|length| Duration::try_from(length).ok())
}

/// Reads and judges a profile: all mistakes, each with its line.
fn read(content: &str, is_json: bool) -> Result<v1::GpuProfile, Vec<String>> {
    let place = |mistakes: Vec<String>| -> Vec<String> {
        mistakes.into_iter().map(|mistake| with_line(content, is_json, mistake)).collect()
    };
    let table = text::to_table(content, is_json).map_err(|error| vec![error])?;
    let mut profile: v1::GpuProfile = text::message(&[table]).map_err(place)?;
    let mut mistakes = Vec::new();
    if profile.phases.is_empty() {
        mistakes.push("phases: is empty; at least one is needed".to_owned());
    }
    let uuids = |phase: &v1::GpuProfilePhase| phase.gpus.iter().map(|gpu| gpu.uuid.clone()).collect::<Vec<_>>();
    let first = profile.phases.first().map(uuids).unwrap_or_default();
    for (number, phase) in profile.phases.iter_mut().enumerate() {
        let at = format!("phases[{number}]");
        if length(phase).is_some_and(|length| length < Duration::from_millis(100)) {
            mistakes.push(format!("{at}.duration: is shorter than 0.1s, the shortest that is right"));
        }
        if uuids(phase) != first {
            mistakes.push(format!("{at}.gpus: are not those of the first phase, in the same order"));
        }
        for (index, gpu) in phase.gpus.iter_mut().enumerate() {
            let at = format!("{at}.gpus[{index}]");
            judge_gpu(&at, gpu, &mut mistakes);
            gpu.name = format!("gpus/{}", gpu.uuid);
            if let Some(bits) = gpu.clocks.as_ref().and_then(|clocks| clocks.reduction_bits) {
                gpu.clock_reductions = nvml_reductions(bits);
            }
        }
        let names: Vec<_> = phase.gpus.iter().map(|gpu| gpu.name.clone()).collect();
        for (index, process) in phase.processes.iter().enumerate() {
            if !names.contains(&process.gpu) {
                let found = &process.gpu;
                mistakes.push(format!("{at}.processes[{index}].gpu: is {found:?}; {} are there", names.join(", ")));
            }
        }
    }
    if mistakes.is_empty() { Ok(profile) } else { Err(place(mistakes)) }
}

fn judge_gpu(at: &str, gpu: &v1::Gpu, mistakes: &mut Vec<String>) {
    if !gpu.uuid.starts_with("GPU-") {
        mistakes.push(format!("{at}.uuid: is {:?}; GPU- and the number of the GPU are right", gpu.uuid));
    }
    let utilization = gpu.utilization.unwrap_or_default();
    for (name, ratio) in [
        ("gpu_ratio", utilization.gpu_ratio),
        ("memory_ratio", utilization.memory_ratio),
        ("encoder_ratio", utilization.encoder_ratio),
        ("decoder_ratio", utilization.decoder_ratio),
    ] {
        if let Some(ratio) = ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
            mistakes.push(format!("{at}.utilization.{name}: is {ratio}; 0 to 1 is right"));
        }
    }
    let memory = gpu.memory.unwrap_or_default();
    if let (Some(used), Some(total)) = (memory.used_bytes, memory.total_bytes)
        && used > total
    {
        mistakes.push(format!("{at}.memory.used_bytes: is {used}, more than the {total} that there are"));
    }
}

/// A mistake with the line of its field in front, where the file is TOML and the field stands in
/// it.
fn with_line(content: &str, is_json: bool, mistake: String) -> String {
    let path = mistake.split(':').next().unwrap_or_default();
    match (is_json, line_of(content, path)) {
        (false, Some(line)) => format!("line {line}: {mistake}"),
        _ => mistake,
    }
}

/// The line of a path such as `phases[1].gpus[0].power`, or of the deepest part of it that the file
/// has.
fn line_of(content: &str, path: &str) -> Option<usize> {
    let table = DeTable::parse(content).ok()?;
    let mut span = None;
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for part in path.replace('[', ".[").split('.') {
        let next = match (part.strip_prefix('[').and_then(|index| index.strip_suffix(']')), value.map(Spanned::get_ref))
        {
            (Some(index), Some(DeValue::Array(items))) => items.get(index.parse::<usize>().ok()?),
            (None, Some(DeValue::Table(inner))) => entry(inner, part, &mut span),
            (None, None) => entry(table.get_ref(), part, &mut span),
            _ => None,
        };
        let Some(next) = next else { break };
        if part.starts_with('[') {
            span = Some(next.span().start);
        }
        value = Some(next);
    }
    span.map(|start| content[..start.min(content.len())].matches('\n').count() + 1)
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str, span: &mut Option<usize>) -> Option<&'a Spanned<DeValue<'i>>> {
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == name)?;
    *span = Some(key.span().start);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(content: &str) -> Vec<String> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), content).unwrap();
        Replay::load(file.path()).unwrap_err().mistakes
    }

    #[test]
    fn every_profile_that_is_built_in_can_be_played() {
        for name in profile_names() {
            let replay = Replay::load(Path::new(name)).unwrap_or_else(|error| panic!("{error}"));
            assert!(replay.profile.source.contains("nvidia_gpu_exporter"), "{name} tells its source");
            let mut session = replay.open().unwrap();
            let sample = session.sample().unwrap();
            assert_eq!(sample.gpus.len(), if name == "8xh100" { 8 } else { 1 });
            assert_eq!(session.facts().replayed_profile, name);
            for gpu in &sample.gpus {
                assert!(gpu.memory.unwrap().total_bytes.unwrap() > 1 << 32, "{name}");
            }
            assert_eq!(name.contains("-mig"), !sample.gpus[0].mig_instances.is_empty());
        }
    }

    #[test]
    fn a_phase_can_be_shown_alone_and_phases_follow_each_other() {
        let load = Replay::load(Path::new("h100:load")).unwrap();
        assert_eq!(load.phase(Duration::ZERO).name, "load");
        let both = Replay::load(Path::new("h100")).unwrap();
        let at = |seconds| both.phase(Duration::from_secs(seconds)).name.clone();
        assert_eq!((at(0), at(29), at(31), at(121)), ("idle".into(), "idle".into(), "load".into(), "idle".into()));
        let error = Replay::load(Path::new("h100:sleep")).unwrap_err().to_string();
        assert!(error.contains("no phase \"sleep\"; there are idle, load"), "{error}");
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_field() {
        let content = "title = \"t\"\n[[phases]]\nname = \"a\"\n[[phases.gpus]]\nuuid = \"GPU-1\"\n\
                       [phases.gpus.power]\naverage_watts = 3\n";
        let told = mistakes(content);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("line 7: phases[0].gpus[0].power.average_watts: no such field"), "{told:?}");
        let content = "[[phases]]\n[[phases.gpus]]\nuuid = \"1\"\n[phases.gpus.utilization]\ngpu_ratio = 55\n\
                       [[phases.processes]]\ngpu = \"gpus/GPU-2\"\n";
        let told = mistakes(content);
        assert!(told[0].starts_with("line 3: phases[0].gpus[0].uuid: is \"1\""), "{told:?}");
        assert!(told[1].starts_with("line 5: phases[0].gpus[0].utilization.gpu_ratio: is 55; 0 to 1"), "{told:?}");
        assert!(told[2].starts_with("line 7: phases[0].processes[0].gpu: is \"gpus/GPU-2\""), "{told:?}");
        assert!(mistakes("phases = 3")[0].contains("a list is needed"));
        assert!(mistakes("")[0].contains("phases: is empty"));
        assert!(mistakes("title = \"x")[0].contains("line 1"));
        let error = Replay::load(Path::new("no-such-profile")).unwrap_err().to_string();
        assert!(error.contains("h100-mig"), "{error}");
    }
}
