//! The scale section: ranks of a job on other machines.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resources::{Device, MOST_RANKS, Resources};
use super::section::Fields;
use crate::job::Violations;
use crate::proto::v1;

/// How long the engine may take to start all ranks, where the client does not say.
const JOIN: Duration = Duration::from_secs(600);
/// The longest time for that.
const LONGEST_JOIN: Duration = Duration::from_secs(24 * 3600);

/// Where the ranks of a job run, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// The engine that places them.
    pub engine: Engine,
    /// How many are wanted.
    pub world_size: u32,
    /// The fewest with which an attempt begins.
    pub min_world_size: u32,
    /// All ranks have joined within this time, or the attempt fails.
    pub join_timeout: Duration,
    /// The folder of the mailboxes of ranks that have no route to the daemon, as the client named
    /// it.
    pub storage: Option<String>,
}

/// A program that starts ranks on machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// torchrun, of PyTorch.
    Torchrun,
    /// Apache Spark.
    Spark,
}

impl Engine {
    /// All.
    pub const ALL: [Self; 2] = [Self::Torchrun, Self::Spark];

    /// Its name in spec files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torchrun => "torchrun",
            Self::Spark => "spark",
        }
    }

    /// The value of a message; None where that names none.
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| i32::from(engine.to_proto()) == number)
    }

    /// The value of a message.
    pub fn to_proto(self) -> v1::Engine {
        match self {
            Self::Torchrun => v1::Engine::Torchrun,
            Self::Spark => v1::Engine::Spark,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Scale {
    /// Reads the section of a spec; None where there is none, or it is wrong.
    pub(super) fn read(message: &v1::JobSpec, resources: Resources, wrong: &mut Violations) -> Option<Self> {
        let scale = message.scale.as_ref()?;
        let mut fields = Fields::new("scale", wrong);
        let engine = Engine::from_proto(scale.engine);
        if engine.is_none() {
            fields.wrong("engine", format!("is {}; torchrun or spark is needed", scale.engine));
        }
        let (world_size, min) = (scale.world_size, scale.min_world_size.unwrap_or(scale.world_size));
        if world_size == 0 || world_size > MOST_RANKS {
            fields.wrong("world_size", format!("is {world_size}; 1 to {MOST_RANKS} is right"));
        } else if min == 0 || min > world_size {
            fields.wrong("min_world_size", format!("is {min}; 1 to the world_size of {world_size} is right"));
        }
        let join_timeout = match scale.join_timeout {
            None => JOIN,
            Some(told) => Duration::try_from(told)
                .ok()
                .filter(|time| (Duration::from_secs(1)..=LONGEST_JOIN).contains(time))
                .unwrap_or_else(|| {
                    fields.wrong("join_timeout", format!("is {} s; 1 s to one day is right", told.seconds));
                    JOIN
                }),
        };
        if message.program.is_some() {
            fields.wrong_itself("is set, and a program starts its processes itself; launch it by the engine");
        }
        // Each rank has one GPU, or none.
        let count = resources.rank_count();
        if count > 1 {
            let of_gpus = message.resources.is_some_and(|told| told.gpu_count == Some(count));
            let field = if of_gpus { "resources.gpu_count" } else { "resources.ranks" };
            wrong.add(field, format!("is {count} beside scale; world_size says how many ranks there are"));
        }
        let told = resources.device == Device::Cpu || resources.gpu_count == Some(0);
        if let Some(bytes) = resources.gpu_memory_bytes.filter(|bytes| *bytes > 0 && !told) {
            let found = format!("is {bytes} beside scale; a rank on another machine has its GPU for itself");
            wrong.add("resources.gpu_memory_bytes", found);
        }
        let storage = Some(scale.storage.clone()).filter(|storage| !storage.is_empty());
        Some(Self { engine: engine?, world_size, min_world_size: min, join_timeout, storage })
    }

    /// The numbers of ranks with which an attempt may run, the most first: those that divide the
    /// shards.
    pub fn sizes(&self, shards: u32) -> impl Iterator<Item = u32> {
        (self.min_world_size..=self.world_size).rev().filter(move |size| shards.is_multiple_of(*size))
    }

    /// The message that it was read from, every default filled in.
    pub(super) fn to_proto(&self) -> v1::Scale {
        v1::Scale {
            engine: self.engine.to_proto().into(),
            world_size: self.world_size,
            min_world_size: Some(self.min_world_size),
            join_timeout: self.join_timeout.try_into().ok(),
            storage: self.storage.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_has_a_number_of_ranks_that_divides_the_shards() {
        let scale =
            Scale { engine: Engine::Spark, world_size: 8, min_world_size: 2, join_timeout: JOIN, storage: None };
        assert_eq!(scale.sizes(8).collect::<Vec<_>>(), [8, 4, 2]);
        assert_eq!(scale.sizes(24).collect::<Vec<_>>(), [8, 6, 4, 3, 2]);
    }
}
