//! torchd, a training daemon for one machine. ARCHITECTURE.md is the map; the modules stand in
//! layer order here: each uses only what stands above it, and `tests/layers.rs` checks that.

pub mod proto;

pub mod role;

pub mod config;

pub mod metrics;

pub mod fault;

pub mod beneath;

pub mod umask;

pub mod terminal;

pub mod shortage;

pub mod looks;

pub mod gate;

pub mod sha256;

pub mod node;

pub mod record;

pub mod tensor_file;

pub mod dataset;

pub mod exported;

pub mod judging;

pub mod job;

pub mod compat;

pub mod gpu;

pub mod tensorboard;

pub mod journal;

pub mod attempt;

pub mod host;

pub mod mirror;

pub mod uploads;

pub mod store;

pub mod access;
pub mod launches;
pub mod mailbox;

pub mod scheduler;

pub mod supervisor;

pub mod manager;

pub mod doctor;

pub mod checkup;

pub mod exporter;

pub mod services;

pub mod daemon;

pub mod cli;
pub mod outpost;
