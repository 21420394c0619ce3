//! Ranks on the GPUs of other machines. The daemon's machine has none; those of the ranks are made
//! up, and a stand-in for the runner computes on the CPU (`gpu_jobs`). The outposts, and what they
//! hand the runner, are the real ones.

use std::fs;
use std::process::{Command, Stdio};

use tonic_types::StatusExt;
use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::gpu_jobs::runner;
use super::launches::{Launcher, Rank, attach, free_port, scaled};
use super::nvml::{FakeGpus, gpus, uuid};
use super::ranks::unbroken;
use super::resume::Outcome;
use super::tools;

/// A job of two ranks with a GPU each.
fn on_gpus(change: impl FnOnce(&mut v1::Resources)) -> v1::JobSpec {
    let mut spec = scaled(2, 2);
    let resources = spec.resources.get_or_insert_default();
    resources.device = v1::Device::Cuda.into();
    change(resources);
    spec
}

/// A machine of ranks: its GPUs, and a runner that leaves what CUDA and NCCL would have seen in a
/// file for each rank.
struct Machine {
    fake: FakeGpus,
    settings: [String; 2],
}

impl Machine {
    fn new() -> Self {
        let fake = FakeGpus::new(&gpus(2));
        let runner = runner(&fake, 2);
        let seen = format!(
            "env | grep -E '^(CUDA_VIS|NCCL|TORCH_NCCL)' | sort > {}-${{3##*/}}\n",
            fake.path("seen").display()
        );
        let script = fs::read_to_string(&runner).unwrap();
        fs::write(&runner, script.replace("exec \"$real\"", &(seen + "exec \"$real\""))).unwrap();
        let library = fake.path("libnvidia-ml.so.1");
        let settings = [
            format!("TORCHD__RUNNER__PATH={}", runner.display()),
            format!("TORCHD__GPU__NVML_LIBRARY={}", library.display()),
        ];
        Self { fake, settings }
    }

    /// Starts a rank with these variables of its engine.
    fn rank(
        &self,
        (launcher, launch): (&Launcher, &v1::Launch),
        daemon: &Daemon,
        place: (u32, u16),
        given: &[&str],
    ) -> Rank {
        let mut command = Command::new("env");
        command.args(&self.settings).args(given).arg(env!("CARGO_BIN_EXE_torchd"));
        launcher.rank_by(command, daemon, launch, place, Stdio::inherit())
    }

    fn seen(&self, folder: &str) -> String {
        fs::read_to_string(self.fake.path(&format!("seen-{folder}"))).unwrap()
    }
}

#[tokio::test]
async fn each_rank_of_an_engine_has_the_gpu_of_its_number_on_its_machine() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let machine = Machine::new();
    let job = daemon.create(on_gpus(|_| {})).await;
    let told = job.spec.as_ref().unwrap().resources.unwrap();
    assert_eq!((told.gpu_count, told.ranks), (Some(1), Some(1)), "of each rank");
    let mut launcher = attach(&daemon, 2).await;
    let launch = launcher.launch().await;
    let (port, visible) = (free_port(), format!("CUDA_VISIBLE_DEVICES={},{}", uuid(1), uuid(0)));
    let given = ["LOCAL_RANK=0", "LOCAL_RANK=1"]
        // That one is torchrun's.
        .map(|local| [local, visible.as_str(), "TORCH_NCCL_ASYNC_ERROR_HANDLING=1"]);
    let mut ranks: Vec<_> = (0..)
        .zip(&given)
        .map(|(rank, given)| machine.rank((&launcher, &launch), &daemon, (rank, port), given))
        .collect();
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::Finished, "{}", end.message);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    let seen = |gpu| {
        format!(
            "CUDA_VISIBLE_DEVICES={}\nNCCL_RUNTIME_CONNECT=0\nNCCL_SOCKET_IFNAME==lo\nTORCH_NCCL_ASYNC_ERROR_HANDLING=0\n",
            uuid(gpu)
        )
    };
    assert_eq!((machine.seen("job"), machine.seen("1")), (seen(1), seen(0)));
    let whole = unbroken(&daemon).await;
    Outcome::of(&daemon, &ended).await.assert_same(&whole);
}

#[tokio::test]
async fn a_rank_that_finds_no_gpu_of_its_own_ends_the_attempt_and_says_so() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let machine = Machine::new();
    let job = daemon.create(on_gpus(|_| {})).await;
    let mut launcher = attach(&daemon, 2).await;
    let launch = launcher.launch().await;
    let visible = format!("CUDA_VISIBLE_DEVICES={}", uuid(0));
    let mut rank = machine.rank((&launcher, &launch), &daemon, (1, free_port()), &["LOCAL_RANK=1", &visible]);
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    let words =
        format!("this is rank 1 of its machine (LOCAL_RANK), where CUDA_VISIBLE_DEVICES shows 1: \"{}\"", uuid(0));
    assert!(end.message.contains(&words), "{end:?}");
    assert_eq!((end.reason(), rank.end()), (v1::JobEndReason::StartFailed, Some(1)), "{}", end.message);
}

#[tokio::test]
async fn a_rank_on_another_machine_has_one_gpu_and_shares_it_with_nobody() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    for (spec, field, words) in [
        (
            on_gpus(|resources| resources.gpu_count = Some(2)),
            "spec.resources.gpu_count",
            "is 2 beside scale; world_size says how many ranks there are",
        ),
        (
            on_gpus(|resources| resources.gpu_memory_bytes = Some(1 << 30)),
            "spec.resources.gpu_memory_bytes",
            "is 1073741824 beside scale; a rank on another machine has its GPU for itself",
        ),
    ] {
        let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        let told = status.get_details_bad_request().unwrap().field_violations;
        let told: Vec<_> = told.iter().map(|wrong| (wrong.field.as_str(), wrong.description.as_str())).collect();
        assert_eq!(told, [(field, words)]);
    }
}
