//! Jobs and the GPUs that they hold. The GPUs are made up (`nvml`), and a stand-in for the runner
//! computes on the CPU what was ordered for CUDA; daemon, leases, and the runner's own reading of
//! its GPU are the real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;
use torchd::proto::v1::gpu_service_client::GpuServiceClient;
use torchd::proto::v1::{self, GpuEventKind, GpuHealthState, JobEndReason, JobState};

use super::daemon::{Daemon, Setup, wait_for};
use super::gpus::{client, watch_until};
use super::nvml::{FakeGpus, gpus, uuid};
use super::resume::Outcome;
use super::spec;

/// A daemon on these GPUs whose runner says that CUDA can use `devices` of them. The variables of
/// the stand-in are written into a copy of it: a runner's environment is cleared.
fn setup(fake: &FakeGpus, devices: usize) -> Setup {
    with_runner(fake.setup(), fake, devices)
}

fn with_runner(setup: Setup, fake: &FakeGpus, devices: usize) -> Setup {
    setup.set("runner.path", runner(fake, devices).to_str().unwrap()).set("runner.stop_grace", "2s")
}

/// The stand-in for the runner.
pub(crate) fn runner(fake: &FakeGpus, devices: usize) -> PathBuf {
    let runner = fake.path("runner");
    let script = fs::read_to_string("tests/native/runner_with_gpus.sh").unwrap();
    let script = script.replace("$RUNNER", env!("CARGO_BIN_EXE_torchd-runner")).replace("$GPUS", &devices.to_string());
    let script = script
        .replace("exec \"$real\"", &format!("export NVML_FAKE={}\nexec \"$real\"", fake.path("scenario").display()));
    fs::write(&runner, script).unwrap();
    fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
    runner
}

fn on_gpu(mut spec: v1::JobSpec, gpu_memory_bytes: Option<u64>) -> v1::JobSpec {
    let device = v1::Device::Cuda.into();
    spec.resources = Some(v1::Resources { device, cpu_threads: Some(1), gpu_memory_bytes, ..Default::default() });
    spec
}

async fn running(daemon: &Daemon, memory: Option<u64>) -> v1::Job {
    let job = daemon.create(on_gpu(spec::endless(), memory)).await;
    daemon.watch_until(&job.name, |job| job.state() == JobState::Running).await
}

fn visible(daemon: &Daemon, job: &v1::Job) -> String {
    fs::read_to_string(daemon.job_folder(&job.name).join("visible")).unwrap()
}

async fn cancel(daemon: &Daemon, job: &v1::Job) {
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    daemon.watch_to_end(&job.name).await;
}

async fn waits_because(daemon: &Daemon, job: &v1::Job, reason: &str) {
    daemon.watch_until(&job.name, |job| job.waiting_reason.contains(reason)).await;
}

#[tokio::test]
async fn every_gpu_is_leased_by_its_uuid_to_one_job_and_comes_back_however_that_ends() {
    let fake = FakeGpus::new(&gpus(2));
    let daemon = setup(&fake, 2).set("jobs.cpu_slots", "4").start();
    let (first, second) = (running(&daemon, None).await, running(&daemon, None).await);
    assert_eq!((visible(&daemon, &first), visible(&daemon, &second)), (uuid(0), uuid(1)));
    let third = daemon.create(on_gpu(spec::endless(), None)).await;
    waits_because(&daemon, &third, "needs a GPU, and all 2 are taken").await;
    let holds = |job: String| move |answer: &v1::WatchGpusResponse| answer.gpus[1].jobs == [job.clone()];
    watch_until(&daemon, "the lease", holds(second.name.clone())).await;
    let series =
        format!("torchd_gpu_job{{uuid=\"{}\",job=\"{}\"}} 1", uuid(1), second.name.trim_start_matches("jobs/"));
    assert!(daemon.page("/metrics").1.contains(&series), "{series}");

    // Cancelled, killed, and finished by itself: each time the next job has the GPU.
    cancel(&daemon, &second).await;
    let third = daemon.watch_until(&third.name, |job| job.state() == JobState::Running).await;
    assert_eq!(visible(&daemon, &third), uuid(1));
    let pid = daemon.runner_pid(&third.name).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let end = daemon.watch_to_end(&third.name).await.end.unwrap();
    assert_eq!(end.reason(), JobEndReason::KilledBySignal);
    let fourth = daemon.create(on_gpu(spec::short(), None)).await;
    assert_eq!(daemon.watch_to_end(&fourth.name).await.state(), JobState::Succeeded);
    assert_eq!(visible(&daemon, &fourth), uuid(1));
    let fifth = running(&daemon, None).await;
    assert_eq!(visible(&daemon, &fifth), uuid(1));
}

#[tokio::test]
async fn jobs_that_name_their_memory_share_a_gpu_as_far_as_it_holds_them() {
    const GB: u64 = 1_000_000_000;
    let fake = FakeGpus::new(&gpus(1));
    let daemon = setup(&fake, 1).set("jobs.cpu_slots", "4").start();
    watch_until(&daemon, "the GPU", |answer| answer.gpus.len() == 1).await;
    let create =
        |memory| v1::CreateJobRequest { spec: Some(on_gpu(spec::endless(), Some(memory))), ..Default::default() };
    // A job that no GPU of this machine can ever hold is refused, once the GPUs are known.
    let status = loop {
        match daemon.jobs().await.create_job(create(90 * GB)).await {
            Err(status) => break status,
            Ok(job) => cancel(&daemon, &job.into_inner()).await,
        }
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    let violation = &status.get_details_bad_request().unwrap().field_violations[0];
    assert_eq!(violation.field, "spec.resources.gpu_memory_bytes");
    assert!(violation.description.contains("the most on this machine is 79500000000, on GPU 0"), "{violation:?}");
    let (first, second) = (running(&daemon, Some(40 * GB)).await, running(&daemon, Some(30 * GB)).await);
    assert_eq!((visible(&daemon, &first), visible(&daemon, &second)), (uuid(0), uuid(0)));
    let third = daemon.create(on_gpu(spec::endless(), Some(10 * GB))).await;
    waits_because(&daemon, &third, "needs 10.0 GB of a GPU's memory, and no one has so much left").await;
    cancel(&daemon, &second).await;
    daemon.watch_until(&third.name, |job| job.state() == JobState::Running).await;
}

#[tokio::test]
async fn instances_are_leased_like_gpus() {
    let scenario =
        gpus(1) + "set 0 mig 1\nmig 0 MIG-a 7 0 1g.10gb 10000000000 0\nmig 0 MIG-b 8 0 1g.10gb 10000000000 0\n";
    let fake = FakeGpus::new(&scenario);
    let daemon = setup(&fake, 1).set("jobs.cpu_slots", "4").start();
    let (first, second) = (running(&daemon, None).await, running(&daemon, None).await);
    assert_eq!((visible(&daemon, &first).as_str(), visible(&daemon, &second).as_str()), ("MIG-a", "MIG-b"));
    let holds = |answer: &v1::WatchGpusResponse| answer.gpus[0].mig_instances[1].jobs == [second.name.clone()];
    watch_until(&daemon, "the lease", holds).await;
}

#[tokio::test]
async fn a_gpu_that_fails_ends_its_job_with_the_xid_and_gets_no_other() {
    let fake = FakeGpus::new(&gpus(2));
    let daemon = setup(&fake, 2).set("jobs.cpu_slots", "4").start();
    let (first, second) = (running(&daemon, None).await, running(&daemon, None).await);
    fake.tell(&(gpus(2) + "event 1 0 8 79\n"));
    let end = daemon.watch_to_end(&first.name).await.end.unwrap();
    assert_eq!(end.reason(), JobEndReason::GpuLost, "{end:?}");
    assert!(
        end.message.contains("GPU 0 (NVIDIA H100 80GB HBM3): Xid 79, GPU has fallen off the bus"),
        "{}",
        end.message
    );
    let third = daemon.create(on_gpu(spec::endless(), None)).await;
    waits_because(&daemon, &third, "GPU 0 (NVIDIA H100 80GB HBM3) has failed: Xid 79").await;
    let events = client(&daemon).await.list_gpu_events(v1::ListGpuEventsRequest::default()).await.unwrap().into_inner();
    let xid = events.events.iter().find(|event| event.kind() == GpuEventKind::Xid).unwrap();
    assert_eq!(xid.jobs, std::slice::from_ref(&first.name), "the event names the job that it hit");
    let still =
        daemon.jobs().await.get_job(v1::GetJobRequest { name: second.name.clone() }).await.unwrap().into_inner();
    assert_eq!(still.state(), JobState::Running, "the other GPU's job goes on");
    let page = daemon.page("/metrics").1;
    assert!(page.contains("torchd_jobs_finished_total{reason=\"gpu_lost\"} 1"));
    // A program's own fault, on the other hand, ends no job.
    fake.tell(&(gpus(2) + "event 1 0 8 79\nevent 2 1 8 13\n"));
    let has_it = |answer: &v1::ListGpuEventsResponse| answer.events.iter().any(|event| event.xid == Some(13));
    let mut gpu_client = client(&daemon).await;
    loop {
        let answer = gpu_client.list_gpu_events(v1::ListGpuEventsRequest::default()).await.unwrap().into_inner();
        if has_it(&answer) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let healthy = |answer: &v1::WatchGpusResponse| {
        answer.gpus[1].health.as_ref().is_some_and(|health| health.state() == GpuHealthState::Healthy)
    };
    watch_until(&daemon, "the other GPU", healthy).await;
}

/// The first process that is seen on a GPU.
async fn first_process(client: &mut GpuServiceClient<Channel>) -> v1::GpuProcess {
    loop {
        let answer = client.list_gpu_processes(v1::ListGpuProcessesRequest::default()).await.unwrap().into_inner();
        if let Some(process) = answer.processes.into_iter().next() {
            return process;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn processes_are_those_of_the_job_whose_runner_they_belong_to() {
    let fake = FakeGpus::new(&gpus(1));
    let daemon = setup(&fake, 1).set("jobs.cpu_slots", "4").start();
    let job = running(&daemon, None).await;
    let pid = daemon.runner_pid(&job.name).await;
    fake.tell(&(gpus(1) + &format!("process 0 {pid} 3000000000\n")));
    let mut gpu_client = client(&daemon).await;
    let process = first_process(&mut gpu_client).await;
    assert_eq!((process.job.as_str(), process.used_memory_bytes), (job.name.as_str(), Some(3_000_000_000)));
    assert!(!process.left_behind);
    let count = gpu_client.list_gpus(v1::ListGpusRequest::default()).await.unwrap().into_inner().gpus[0].process_count;
    assert_eq!(count.unwrap().foreign, 0);
}

/// On so many GPUs.
fn on_gpus(mut spec: v1::JobSpec, count: u32) -> v1::JobSpec {
    spec.resources = Some(v1::Resources { gpu_count: Some(count), cpu_threads: Some(1), ..Default::default() });
    spec
}

#[tokio::test]
async fn a_model_on_two_gpus_has_a_rank_on_each_and_a_program_sees_both() {
    if !super::tools::has_ranks() {
        return;
    }
    let fake = FakeGpus::new(&gpus(3));
    let daemon = setup(&fake, 3).set("jobs.cpu_slots", "9").set("programs.enabled", "true");
    let daemon = daemon.set("programs.allowed", "/usr/bin:/bin").start();
    let job = daemon.create(on_gpus(spec::endless(), 2)).await;
    let resources = job.spec.as_ref().unwrap().resources.unwrap();
    assert_eq!((resources.gpu_count, resources.ranks), (Some(2), Some(2)));
    daemon.watch_until(&job.name, |job| job.state() == JobState::Running).await;
    let of_second = daemon.job_folder(&job.name).join("ranks/1");
    let seen = fs::read_to_string(of_second.join("visible")).unwrap();
    assert_eq!((visible(&daemon, &job), seen), (uuid(0), uuid(1)));
    let holds = |answer: &v1::WatchGpusResponse| answer.gpus.iter().map(|gpu| gpu.jobs.len()).collect::<Vec<_>>();
    watch_until(&daemon, "the leases", |answer| holds(answer) == [1, 1, 0]).await;
    let more = daemon.create(on_gpus(spec::short(), 2)).await;
    waits_because(&daemon, &more, "needs 2 GPUs, and 1 of 3 are free").await;
    // A process of the second rank is no stranger.
    let pid = super::ranks::process(&daemon, &job.name, 1);
    fake.tell(&(gpus(3) + &format!("process 1 {pid} 3000000000\n")));
    let process = first_process(&mut client(&daemon).await).await;
    assert_eq!(process.job, job.name);
    // The next daemon knows which GPUs the job has.
    let (state_dir, _state) = daemon.crash();
    let daemon = with_runner(fake.watched_by(Setup::in_state(&state_dir)), &fake, 3).set("jobs.cpu_slots", "9");
    let daemon = daemon.set("programs.enabled", "true").set("programs.allowed", "/usr/bin:/bin").start();
    watch_until(&daemon, "the leases", |answer| holds(answer) == [1, 1, 0]).await;
    waits_because(&daemon, &more, "needs 2 GPUs, and 1 of 3 are free").await;
    // The GPU of the second rank fails, and with it the job.
    fake.tell(&(gpus(3) + "event 1 1 8 79\n"));
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!(end.reason(), JobEndReason::GpuLost, "{end:?}");
    assert!(end.message.contains("GPU 1 (NVIDIA H100 80GB HBM3): Xid 79"), "{}", end.message);
    assert_eq!(daemon.watch_to_end(&more.name).await.state(), JobState::Succeeded);
    assert_eq!(visible(&daemon, &more), uuid(0));
    let program = super::programs::shell("printf %s $CUDA_VISIBLE_DEVICES >$TORCHD_PROGRAM_DIR/seen");
    let program = daemon.create(on_gpus(program, 2)).await;
    assert_eq!(daemon.watch_to_end(&program.name).await.state(), JobState::Succeeded);
    let seen = fs::read_to_string(daemon.job_folder(&program.name).join("program/seen")).unwrap();
    assert_eq!(seen, format!("{},{}", uuid(0), uuid(2)));
}

#[tokio::test]
async fn the_numbers_of_two_gpus_are_those_of_one_and_what_cannot_be_is_refused() {
    if !super::tools::has_ranks() {
        return;
    }
    let fake = FakeGpus::new(&gpus(2));
    let daemon = setup(&fake, 2).set("jobs.cpu_slots", "9").start();
    watch_until(&daemon, "the GPUs", |answer| answer.gpus.len() == 2).await;
    let of = |count| on_gpus(super::ranks::job(1), count);
    let one = daemon.create(of(1)).await;
    let right = Outcome::of(&daemon, &daemon.watch_to_end(&one.name).await).await;
    let two = daemon.create(of(2)).await;
    let two = daemon.watch_to_end(&two.name).await;
    right.assert_same(&Outcome::of(&daemon, &two).await);
    for (count, field, words) in [
        (4, "spec.resources.gpu_count", "is 4; this machine has 2 for jobs"),
        (3, "spec.resources.gpu_count", "is 3, which does not divide training.shards, 4"),
        (65, "spec.resources.gpu_count", "is 65; at most 64 is right"),
    ] {
        let request = v1::CreateJobRequest { spec: Some(of(count)), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        let violation = &status.get_details_bad_request().unwrap().field_violations[0];
        assert_eq!((violation.field.as_str(), violation.description.as_str()), (field, words));
    }
}

#[tokio::test]
async fn a_gpu_on_which_others_compute_is_the_reason_to_wait() {
    let scenario = gpus(1) + "process 0 1 2000000000\n";
    let fake = FakeGpus::new(&scenario);
    let daemon = setup(&fake, 1).set("jobs.cpu_slots", "4").start();
    let job = daemon.create(on_gpu(spec::short(), None)).await;
    waits_because(&daemon, &job, "a process of no job computes on GPU 0 (NVIDIA H100 80GB HBM3) and holds 2.0 GB")
        .await;
    // A job that waits for something else than jobs holds back no other.
    let on_cpu = v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() };
    let on_cpu = daemon.create(on_cpu).await;
    assert_eq!(daemon.watch_to_end(&on_cpu.name).await.state(), JobState::Succeeded);
    fake.tell(&gpus(1));
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), JobState::Succeeded);
    fake.tell(&scenario);
    let open = setup(&fake, 1).set("gpu.share_with_foreign_processes", "true").start();
    let job = open.create(on_gpu(spec::short(), None)).await;
    assert_eq!(open.watch_to_end(&job.name).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn a_jobs_share_of_its_gpu_is_in_its_scalars_and_in_its_progress() {
    let fake = FakeGpus::new(&gpus(2));
    let daemon = setup(&fake, 2).env("CUDA_VISIBLE_DEVICES", uuid(1)).set("jobs.cpu_slots", "4").start();
    let job = running(&daemon, None).await;
    assert_eq!(visible(&daemon, &job), uuid(1), "the daemon's own CUDA_VISIBLE_DEVICES is kept");
    let has_share = |job: &v1::Job| job.progress.as_ref().and_then(|progress| progress.gpu).is_some();
    let share = daemon.watch_until(&job.name, has_share).await.progress.unwrap().gpu.unwrap();
    assert_eq!((share.index, share.utilization_ratio, share.memory_used_bytes), (1, Some(0.5), Some(1_000_000_000)));
    assert_eq!(share.energy_joules, Some(0.0));
    fake.tell(&(gpus(2).replace("energy 5000000", "energy 5250000")));
    let has_used = |job: &v1::Job| {
        let share = job.progress.as_ref().and_then(|progress| progress.gpu);
        share.is_some_and(|share| share.energy_joules == Some(250.0))
    };
    daemon.watch_until(&job.name, has_used).await;
    let request =
        v1::ReadScalarsRequest { name: job.name.clone(), tag: "gpu/1/memory_used_bytes".into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    assert!(points.iter().all(|point| point.value == 1e9) && !points.is_empty());
    let events =
        fs::read_dir(daemon.job_folder(&job.name).join("tensorboard")).unwrap().next().unwrap().unwrap().path();
    let tag = b"gpu/1/utilization_ratio";
    wait_for("the tag in the event file", || {
        fs::read(&events).unwrap().windows(tag.len()).any(|part| part == tag).then_some(())
    });
}

#[tokio::test]
async fn the_jobs_of_gpus_are_written_for_a_dcgm_exporter_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeGpus::new(&gpus(2));
    let daemon = setup(&fake, 2)
        .set("jobs.cpu_slots", "4")
        .set("metrics.hpc_job_mapping_dir", folder.path().to_str().unwrap())
        .set("metrics.dcgm_names", "true")
        .start();
    let job = running(&daemon, None).await;
    let id = job.name.trim_start_matches("jobs/");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
    wait_for("the file of GPU 0", || (read("0")? == format!("{id}\n")).then_some(()));
    assert_eq!(read("1").as_deref(), Some(""));
    let label = format!("hpc_job=\"{id}\"");
    wait_for("the label", || daemon.page("/metrics").1.contains(&label).then_some(()));
    let page = daemon.page("/metrics").1;
    let line = |name: &str| page.lines().find(|line| line.starts_with(&format!("{name}{{gpu=\"0\""))).unwrap();
    assert!(line("DCGM_FI_DEV_GPU_UTIL").contains(&label));
    assert!(!line("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION").contains("hpc_job"), "no job on a counter");
    cancel(&daemon, &job).await;
    wait_for("the empty file", || read("0")?.is_empty().then_some(()));
}
