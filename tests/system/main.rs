//! The real programs over real gRPC: every test starts a daemon of its own on free ports with a
//! state folder of its own, and waits for events, never for time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod archives;
mod artifacts;
mod bad_data;
mod bad_requests;
mod changed_data;
mod clock;
mod compatibility;
mod confinement;
mod crash;
mod daemon;
mod damage;
mod deploy;
mod diverged;
mod earlier;
mod endurance;
mod exported;
mod exported_bad;
mod first_job;
mod full_disk;
mod gpu_jobs;
mod gpu_views;
mod gpus;
mod inspect;
mod limits;
mod memory;
mod mirror;
mod model_judge;
mod mounts;
mod nvml;
mod old_database;
mod pip;
mod private;
mod processor;
mod prometheus;
mod protocol;
mod queue;
mod repair;
mod resume;
mod settings;
mod shortage;
mod slow_disk;
mod slow_validation;
mod small_disk;
mod spec;
mod survival;
mod systemd;
mod tensorboard;
mod terminal;
mod tools;
mod torchctl;
mod turns;
mod warm_start;
mod weights;
