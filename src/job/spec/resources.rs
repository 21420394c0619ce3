//! The resources section: which part of the machine a job wants.

use super::memory::RUNNER_BYTES;
use super::section::Fields;
use crate::job::Violations;
use crate::proto::v1;

/// The part of the machine that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Where to compute.
    pub device: Device,
    /// GPUs, if the client said.
    pub gpu_count: Option<u32>,
    /// Threads, if the client said.
    pub cpu_threads: Option<u32>,
    /// Memory on the GPU within which the job stays, if it shares one.
    pub gpu_memory_bytes: Option<u64>,
    /// Memory of the host that the runner has resident at most, if the client said.
    pub memory_limit_bytes: Option<u64>,
    /// How threads of computation wait for each other, if the client said.
    pub thread_wait: Option<ThreadWait>,
    /// Processes that train it together, if the client said.
    pub ranks: Option<u32>,
}

/// The most ranks of a job.
pub(super) const MOST_RANKS: u32 = 64;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// CUDA where it works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU.
    Cuda,
}

/// How threads of computation wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadWait {
    /// They spin where there are cores for all of them.
    Adaptive,
    /// They sleep.
    Passive,
    /// They spin.
    Active,
    /// As libtorch's own OpenMP runtime has it.
    Openmp,
}

impl ThreadWait {
    /// All.
    pub const ALL: [Self; 4] = [Self::Adaptive, Self::Passive, Self::Active, Self::Openmp];

    /// Its name in settings and spec files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Passive => "passive",
            Self::Active => "active",
            Self::Openmp => "openmp",
        }
    }

    /// The one of that name; adaptive where there is none.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|wait| wait.name() == name).unwrap_or(Self::Adaptive)
    }

    /// The value of the message; None for none.
    ///
    /// # Errors
    /// The number means nothing.
    pub fn from_proto(number: i32) -> Result<Option<Self>, String> {
        match v1::ThreadWait::try_from(number) {
            Ok(v1::ThreadWait::Unspecified) => Ok(None),
            Ok(v1::ThreadWait::Adaptive) => Ok(Some(Self::Adaptive)),
            Ok(v1::ThreadWait::Passive) => Ok(Some(Self::Passive)),
            Ok(v1::ThreadWait::Active) => Ok(Some(Self::Active)),
            Ok(v1::ThreadWait::Openmp) => Ok(Some(Self::Openmp)),
            Err(_) => Err(format!("is {number}; adaptive, passive, active or openmp is needed")),
        }
    }

    /// The value of a message.
    pub fn to_proto(self) -> v1::ThreadWait {
        match self {
            Self::Adaptive => v1::ThreadWait::Adaptive,
            Self::Passive => v1::ThreadWait::Passive,
            Self::Active => v1::ThreadWait::Active,
            Self::Openmp => v1::ThreadWait::Openmp,
        }
    }
}

impl Resources {
    /// Reads the section of a spec, as far as it is right. A program may take any little memory; a
    /// model comes with libtorch.
    pub(super) fn read(message: Option<&v1::Resources>, is_model: bool, wrong: &mut Violations) -> Self {
        let message = message.copied().unwrap_or_default();
        let mut fields = Fields::new("resources", wrong);
        let device = match v1::Device::try_from(message.device) {
            Ok(v1::Device::Unspecified | v1::Device::Auto) => Device::Auto,
            Ok(v1::Device::Cpu) => Device::Cpu,
            Ok(v1::Device::Cuda) => Device::Cuda,
            Err(_) => {
                fields.wrong("device", format!("is {}; auto, cpu or cuda is needed", message.device));
                Device::Auto
            }
        };
        match (message.gpu_count, device) {
            (Some(0), Device::Cuda) => {
                fields.wrong("gpu_count", "is 0 while resources.device is cuda; at least 1 is needed")
            }
            (Some(count @ 1..), Device::Cpu) => {
                fields.wrong("gpu_count", format!("is {count} while resources.device is cpu; 0 is needed"));
            }
            (Some(count), _) if count > MOST_RANKS => {
                fields.wrong("gpu_count", format!("is {count}; at most {MOST_RANKS} is right"));
            }
            _ => {}
        }
        fields.at_least_one("cpu_threads", message.cpu_threads, 1);
        if message.gpu_memory_bytes == Some(0) {
            fields.wrong("gpu_memory_bytes", "is 0; leave it out for a GPU of the job's own");
        }
        if message.gpu_memory_bytes.is_some() && (device == Device::Cpu || message.gpu_count == Some(0)) {
            fields.wrong("gpu_memory_bytes", "is set, and the job computes on the CPU");
        }
        let least = if is_model { RUNNER_BYTES } else { 0 };
        if let Some(limit) = message.memory_limit_bytes.filter(|limit| *limit <= least) {
            fields.wrong(
                "memory_limit_bytes",
                match is_model {
                    true => {
                        format!("is {limit}; a runner takes {least} before it has any data, so that more is needed")
                    }
                    false => "is 0; leave it out for no limit".to_owned(),
                },
            );
        }
        let thread_wait = ThreadWait::from_proto(message.thread_wait).unwrap_or_else(|problem| {
            fields.wrong("thread_wait", problem);
            None
        });
        if thread_wait.is_some() && !is_model {
            fields.wrong("thread_wait", "is set, and a program has threads of its own: its environment decides");
        }
        // A model has a rank on each of its GPUs: one number tells both.
        let of_ranks = message.ranks.filter(|ranks| is_model && device == Device::Cuda && *ranks > 1);
        // One mistake is told once.
        let gpu_count = message.gpu_count.filter(|count| *count <= MOST_RANKS).or(of_ranks);
        let gpus = gpu_count.unwrap_or(u32::from(device == Device::Cuda));
        let ranks = message.ranks.or((is_model && gpus > 1).then_some(gpus));
        match ranks {
            Some(count) if count == 0 || count > MOST_RANKS => {
                fields.wrong("ranks", format!("is {count}; 1 to {MOST_RANKS} is right"))
            }
            Some(count @ 2..) if !is_model => {
                fields.wrong("ranks", format!("is {count}, and a program starts its processes itself"));
            }
            Some(count) if is_model && gpus > 0 && count != gpus => {
                let why = format!("the job has {gpus} of resources.gpu_count, on each of which a rank computes");
                fields.wrong("ranks", format!("is {count}, and {why}; leave it out, or make both the same"));
            }
            _ => {}
        }
        let v1::Resources { cpu_threads, gpu_memory_bytes, memory_limit_bytes, .. } = message;
        Self { device, gpu_count, cpu_threads, gpu_memory_bytes, memory_limit_bytes, thread_wait, ranks }
    }

    /// Fields of the section that may change while a job is paused.
    pub(super) const EDITABLE: [&str; 2] = ["ranks", "gpu_count"];

    /// The GPUs that it needs; None for none.
    pub fn gpus(&self) -> Option<u32> {
        self.gpu_count.filter(|count| *count > 0)
    }

    /// Whether it is told to compute on GPUs.
    pub fn is_on_gpu(&self) -> bool {
        self.device == Device::Cuda || self.gpus().is_some()
    }

    /// How many processes train it.
    pub fn rank_count(&self) -> u32 {
        self.ranks.unwrap_or(1).max(1)
    }

    /// The threads of all ranks together, if the client said.
    pub fn slots(&self) -> Option<u32> {
        self.cpu_threads.map(|threads| threads.saturating_mul(self.rank_count()))
    }

    /// The message that it was read from.
    pub(super) fn to_proto(self) -> v1::Resources {
        let device = match self.device {
            Device::Auto => v1::Device::Auto,
            Device::Cpu => v1::Device::Cpu,
            Device::Cuda => v1::Device::Cuda,
        };
        let Self { device: _, gpu_count, cpu_threads, gpu_memory_bytes, memory_limit_bytes, thread_wait, ranks } = self;
        v1::Resources {
            device: device.into(),
            gpu_count,
            cpu_threads,
            gpu_memory_bytes,
            memory_limit_bytes,
            thread_wait: thread_wait.map_or(v1::ThreadWait::Unspecified, ThreadWait::to_proto).into(),
            ranks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The section as a model or a program has it, and what is wrong with it.
    fn read(message: v1::Resources, is_model: bool) -> (Resources, String) {
        let mut wrong = Violations::default();
        (Resources::read(Some(&message), is_model, &mut wrong), wrong.to_string())
    }

    #[test]
    fn a_model_has_a_rank_on_each_gpu_and_a_program_has_all_of_them() {
        let of = |gpus, ranks| v1::Resources { gpu_count: Some(gpus), ranks, ..v1::Resources::default() };
        for (gpus, ranks, is_model, right) in
            [(2, None, true, 2), (1, None, true, 1), (2, Some(2), true, 2), (8, None, false, 1)]
        {
            let (read, wrong) = read(of(gpus, ranks), is_model);
            assert_eq!((read.rank_count(), read.gpus(), wrong.as_str()), (right, Some(gpus), ""));
        }
        let by_ranks = v1::Resources { gpu_count: None, device: v1::Device::Cuda.into(), ..of(0, Some(4)) };
        assert_eq!(read(by_ranks, true).0.gpus(), Some(4));
        for (gpus, ranks, device, field) in [
            (2, Some(3), v1::Device::Cuda, "resources.ranks: is 3"),
            (1, Some(2), v1::Device::Auto, "resources.ranks: is 2"),
            (65, None, v1::Device::Auto, "resources.gpu_count: is 65; at most 64"),
            (2, None, v1::Device::Cpu, "resources.gpu_count: is 2 while resources.device is cpu"),
            (0, None, v1::Device::Cuda, "resources.gpu_count: is 0 while resources.device is cuda"),
        ] {
            let (_, wrong) = read(v1::Resources { device: device.into(), ..of(gpus, ranks) }, true);
            assert!(wrong.contains(field), "{wrong}");
        }
    }

    #[test]
    fn the_threads_of_a_program_are_its_own() {
        let waiting = v1::Resources { thread_wait: v1::ThreadWait::Passive.into(), ..v1::Resources::default() };
        for (is_model, is_right) in [(true, true), (false, false)] {
            let mut wrong = Violations::default();
            let read = Resources::read(Some(&waiting), is_model, &mut wrong);
            assert_eq!((read.thread_wait, wrong.0.is_empty()), (Some(ThreadWait::Passive), is_right), "{wrong}");
        }
    }

    #[test]
    fn the_memory_of_a_program_has_no_least_limit_but_one() {
        let limited = |limit| v1::Resources { memory_limit_bytes: Some(limit), ..v1::Resources::default() };
        for (limit, is_model, is_right) in [(RUNNER_BYTES, true, false), (1, false, true), (0, false, false)] {
            let mut wrong = Violations::default();
            Resources::read(Some(&limited(limit)), is_model, &mut wrong);
            assert_eq!(wrong.to_string().is_empty(), is_right, "{limit} {is_model} {wrong}");
        }
    }
}
