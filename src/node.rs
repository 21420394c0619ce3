//! Facts about this machine: CPUs, memory, operating system, runtime, GPUs that the kernel driver
//! lists, and what shows that it is the driver of a driver-only cluster. Everything is read anew
//! when it is asked for; nothing here changes anything.

mod databricks;
mod filesystem;
mod gpus;
mod landlock;
mod libraries;
mod machine;
mod memory;
mod process;
mod spark;

use std::path::{Path, PathBuf};

use crate::config::Environment;
use crate::proto::v1;
pub use filesystem::unsuitable_filesystem;
pub use landlock::landlock_abi;
pub use libraries::SystemLibraries;
pub use memory::{GroupVersion, JOB_GROUP, Memory};
pub use process::{ProcessStat, process_stat};

/// Where facts come from: the root of the file system and the environment. Tests have roots of
/// their own.
#[derive(Debug, Clone)]
pub struct NodeSource {
    root: PathBuf,
    environment: Environment,
    /// The runtime by the settings, for services: systemd does not hand on the variable that tells
    /// it.
    runtime: Option<String>,
    /// The type of the virtual machine by the settings.
    node_type: Option<String>,
}

impl NodeSource {
    /// Facts of this machine.
    pub fn new(environment: Environment, runtime: Option<String>) -> Self {
        Self::at(PathBuf::from("/"), environment, runtime)
    }

    /// Facts of a machine whose files lie under `root`.
    pub fn at(root: PathBuf, environment: Environment, runtime: Option<String>) -> Self {
        Self { root, environment, runtime, node_type: None }
    }

    /// The same with the type of the virtual machine, where the settings tell it.
    pub fn with_node_type(mut self, node_type: Option<String>) -> Self {
        self.node_type = node_type;
        self
    }

    /// The facts about the system's libraries and devices that compatibility depends on.
    pub fn libraries(&self) -> SystemLibraries {
        libraries::read(self)
    }

    /// The name of the Databricks runtime and of the operating system; empty where they are not
    /// known.
    pub fn runtime_and_os(&self) -> (String, String) {
        (databricks::presence(self).version, machine::os_name(self))
    }

    /// The memory that this process and its children can have.
    pub fn memory(&self) -> Memory {
        memory::read(self)
    }

    /// Processes that the kernel has killed because memory ran out: on this machine, and in the
    /// control group of this process.
    pub fn memory_kills(&self) -> u64 {
        memory::kills(self)
    }

    /// Processes of this job that the kernel has killed because the job reached the limit of its
    /// control group; None where it has none of its own.
    pub fn job_kills(&self) -> Option<u64> {
        memory::job_kills(self)
    }

    /// The control group of this process in which the kernel counts memory, or could.
    pub fn memory_group(&self) -> Option<(GroupVersion, PathBuf)> {
        memory::group(self)
    }

    /// The model of the CPU, as the kernel names it; empty where it does not.
    pub fn cpu_model(&self) -> String {
        machine::cpu_model(self)
    }

    /// The entries of the kernel driver: its version, and the GPUs' models.
    pub fn nvidia_driver(&self) -> (String, Vec<String>) {
        (gpus::driver_version(self), gpus::list(self).into_iter().map(|gpu| gpu.model).collect())
    }

    /// Addresses of NVIDIA display and 3D controllers on the PCI bus, with a driver or without.
    pub fn nvidia_pci_devices(&self) -> Vec<String> {
        gpus::on_the_bus(self)
    }

    /// The cluster as it is now. `devices` is the answer of the runner: None while it has not been
    /// asked, an error where it does not work; in it the GPUs that it can use, or why it can use
    /// none.
    pub fn cluster(&self, cpus: u32, devices: Option<Result<Result<u32, String>, String>>) -> v1::Cluster {
        let node = machine::node(self, cpus);
        let runtime = databricks::presence(self);
        let spark = spark::presence(self);
        let capabilities = capabilities(&node, devices);
        v1::Cluster {
            mode: v1::ClusterMode::DriverOnly.into(),
            workers: 0,
            driver: Some(node),
            databricks_runtime: Some(runtime),
            spark: Some(spark),
            capabilities,
            // The watcher of GPUs and the runner are not of this room.
            gpu_source: None,
            runner_confinement: None,
            launchers: Vec::new(),
        }
    }

    fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn capabilities(node: &v1::Node, devices: Option<Result<Result<u32, String>, String>>) -> Vec<v1::Capability> {
    let capability = |name: &str, available, reason: String| v1::Capability { name: name.into(), available, reason };
    let unasked = || "the runner has not been asked yet; ask again in a second".to_owned();
    let cpu = match &devices {
        Some(Ok(_)) => {
            let words = format!("{} CPUs, {} GB of memory", node.cpu_count, node.memory_bytes / 1_000_000_000);
            capability("cpu_training", true, words)
        }
        Some(Err(reason)) => capability("cpu_training", false, reason.clone()),
        None => capability("cpu_training", false, unasked()),
    };
    let cuda = match devices {
        Some(Ok(Ok(devices))) => capability(
            "cuda_training",
            true,
            format!("the runner's libtorch can use {devices} GPU(s); jobs with device cuda run there"),
        ),
        Some(Ok(Err(reason)) | Err(reason)) if node.gpus.is_empty() => {
            capability("cuda_training", false, format!("the kernel driver lists no NVIDIA GPU, and {reason}"))
        }
        Some(Ok(Err(reason)) | Err(reason)) => capability("cuda_training", false, reason),
        None => capability("cuda_training", false, unasked()),
    };
    vec![
        cpu,
        cuda,
        capability(
            "data_parallel_training",
            false,
            "a job computes on one device; this version does not spread a job over GPUs".into(),
        ),
        capability(
            "multi_node_training",
            false,
            "the cluster has a driver and no workers; training happens on this node alone".into(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn a_databricks_gpu_driver_is_described() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/meminfo", "MemTotal:       64000000 kB\nMemAvailable:   32000000 kB\n");
        write(root.path(), "proc/cpuinfo", "processor : 0\nmodel name\t: AMD EPYC 7V13\n");
        write(root.path(), "etc/os-release", "NAME=x\nPRETTY_NAME=\"Ubuntu 22.04.4 LTS\"\n");
        write(root.path(), "proc/self/cgroup", "0::/system.slice/torchd.service\n");
        write(root.path(), "sys/fs/cgroup/system.slice/memory.max", "max\n");
        write(root.path(), "sys/fs/cgroup/system.slice/torchd.service/memory.max", "32000000000\n");
        write(root.path(), "databricks/spark/VERSION", "3.5.0\n");
        write(
            root.path(),
            "proc/driver/nvidia/gpus/0000:8d:00.0/information",
            "Model: \t\t NVIDIA A10\nIRQ:   \t\t 55\nGPU UUID: \t GPU-1234\nBus Location: \t 0000:8d:00.0\n",
        );
        write(
            root.path(),
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.07  Sat Feb 17 22:55:48 UTC 2024\nGCC version: 11\n",
        );
        let environment = [("DATABRICKS_RUNTIME_VERSION".to_owned(), "15.4".to_owned())].into();
        let cluster = NodeSource::at(root.path().into(), environment, None).cluster(6, None);
        assert_eq!((cluster.mode(), cluster.workers), (v1::ClusterMode::DriverOnly, 0));
        let node = cluster.driver.unwrap();
        assert_eq!((node.memory_bytes, node.memory_available_bytes), (32_000_000_000, 32_000_000_000));
        assert_eq!(
            (node.os.as_str(), node.cpu_model.as_str(), node.cpu_count),
            ("Ubuntu 22.04.4 LTS", "AMD EPYC 7V13", 6)
        );
        assert_eq!((node.gpus[0].model.as_str(), node.gpus[0].uuid.as_str()), ("NVIDIA A10", "GPU-1234"));
        assert_eq!(node.nvidia_driver_version, "535.161.07");
        let runtime = cluster.databricks_runtime.unwrap();
        assert_eq!((runtime.present, runtime.version.as_str()), (true, "15.4"));
        assert_eq!(cluster.spark.unwrap().version, "3.5.0");
    }

    #[test]
    fn what_is_absent_is_told_as_absent() {
        let root = tempfile::tempdir().unwrap();
        let source = NodeSource::at(root.path().into(), Environment::new(), None);
        let cluster = source.cluster(2, Some(Ok(Err("no libtorch_cuda.so".into()))));
        let runtime = cluster.databricks_runtime.unwrap();
        assert!(!runtime.present && runtime.evidence.contains("DATABRICKS_RUNTIME_VERSION"));
        assert!(!cluster.spark.unwrap().present);
        let [cpu, cuda] = &cluster.capabilities[..2] else { panic!("{:?}", cluster.capabilities) };
        assert!(cpu.available && !cuda.available && cuda.reason.contains("no libtorch_cuda.so"), "{}", cuda.reason);
        // Without libtorch nothing is trained anywhere.
        for capability in &source.cluster(2, Some(Err("no libtorch".into()))).capabilities[..2] {
            assert!(!capability.available && capability.reason.contains("no libtorch"), "{capability:?}");
        }
    }
}
