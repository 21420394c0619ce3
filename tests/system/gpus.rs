//! GPUs as clients see them: through the real interface of NVML, with a library that tests make up,
//! and from replayed profiles.

use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;
use torchd::proto::v1::gpu_service_client::GpuServiceClient;
use torchd::proto::v1::{self, GpuEventKind, GpuHealthState, GpuSourceState};

use super::daemon::{Daemon, Setup};
use super::nvml::{FakeGpus, gpus, uuid};
use super::spec;

pub(crate) async fn client(daemon: &Daemon) -> GpuServiceClient<Channel> {
    GpuServiceClient::new(daemon.channel().await)
}

/// Watches until an answer is as wanted.
pub(crate) async fn watch_until(
    daemon: &Daemon,
    what: &str,
    is_wanted: impl Fn(&v1::WatchGpusResponse) -> bool,
) -> v1::WatchGpusResponse {
    let mut stream = client(daemon).await.watch_gpus(v1::WatchGpusRequest::default()).await.unwrap().into_inner();
    let follow = async {
        loop {
            let answer = stream.message().await.unwrap().expect("the watch goes on");
            if is_wanted(&answer) {
                return answer;
            }
        }
    };
    tokio::time::timeout(super::daemon::LIMIT, follow).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

fn is_in(answer: &v1::WatchGpusResponse, state: GpuSourceState) -> bool {
    answer.source.as_ref().is_some_and(|source| source.state() == state)
}

pub(crate) fn has_gpus(count: usize) -> impl Fn(&v1::WatchGpusResponse) -> bool {
    move |answer| answer.gpus.len() == count
}

fn reason(gpu: &v1::Gpu, field: &str) -> String {
    let absent = gpu.absent.iter().find(|absent| absent.field == field);
    absent.map(|absent| absent.reason.clone()).unwrap_or_default()
}

pub(crate) fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn every_reading_is_taken_by_itself_and_what_is_absent_has_its_reason() {
    let scenario = gpus(2)
        + "fail 0 nvmlDeviceGetTemperature 999\nfail 0 nvmlDeviceGetSerial 3\nfail 1 nvmlDeviceGetUtilizationRates 4\n\
           set 1 field.82 55\nset 1 field.186 310000\nset 1 fans 1\nset 1 fan.0 40\nset 1 nvlink.0 1\nset 1 nvlink.0.2 7\n\
           set 1 field.142 3\nset 1 field.145 0\nset 1 gpm.3 1\nset 1 gpm.2 62\nset 1 gpm.5 41\n";
    let fake = FakeGpus::new(&scenario);
    let daemon = fake.setup().start();
    let is_active = |gpu: &v1::Gpu| gpu.activity.is_some_and(|activity| activity.tensor_ratio.is_some());
    let answer = watch_until(&daemon, "GPM's second sample", |answer| answer.gpus.get(1).is_some_and(is_active)).await;
    let [first, second] = answer.gpus.as_slice() else { panic!("{answer:?}") };
    assert_eq!((first.uuid.as_str(), first.model.as_str()), (uuid(0).as_str(), "NVIDIA H100 80GB HBM3"));
    assert_eq!(first.utilization.unwrap().gpu_ratio, Some(0.5));
    assert_eq!(first.temperature.unwrap().gpu_celsius, None);
    assert!(reason(first, "temperature.gpu_celsius").starts_with("the driver failed"), "{:?}", first.absent);
    assert_eq!(reason(first, "temperature.memory_celsius"), "not supported by this GPU");
    assert_eq!(reason(first, "activity.sm_ratio"), "not supported by this GPU");
    let memory = first.memory.unwrap();
    assert_eq!((memory.total_bytes, memory.used_bytes), (Some(80_000_000_000), Some(1_000_000_000)));
    assert_eq!(memory.free_bytes, Some(78_500_000_000));
    assert_eq!(first.power.unwrap().average_milliwatts, Some(300_000), "the older call, where the field is not told");
    assert_eq!(first.clocks.unwrap().sm_hertz, Some(1_980_000_000));
    assert_eq!(first.clock_reductions().collect::<Vec<_>>(), [v1::ClockReduction::PowerCap]);
    assert_eq!(first.recovery_action(), v1::GpuRecoveryAction::None);

    assert_eq!(second.utilization.unwrap().gpu_ratio, None);
    assert_eq!(reason(second, "utilization.gpu_ratio"), "not permitted to this user");
    assert_eq!(second.temperature.unwrap().memory_celsius, Some(55.0));
    assert_eq!(second.power.unwrap().instant_milliwatts, Some(310_000));
    assert_eq!(second.fans[0].speed_ratio, Some(0.4));
    assert_eq!((second.nvlinks.len(), second.nvlinks[0].active), (1, Some(true)));
    let retirement = second.retirement.unwrap();
    assert_eq!((retirement.remapped_rows_corrected, retirement.remapping_failed), (Some(3), Some(false)));
    let activity = second.activity.unwrap();
    assert_eq!((activity.sm_ratio, activity.tensor_ratio), (Some(0.62), Some(0.41)));

    let (_, page) = daemon.page("/metrics");
    let series = |name: &str, index| format!("{name}{{uuid=\"{}\"}}", uuid(index));
    assert_eq!(value(&page, &series("torchd_gpu_utilization_ratio", 0)), Some(0.5));
    assert_eq!(value(&page, &series("torchd_gpu_utilization_ratio", 1)), None, "absent, not 0");
    assert_eq!(value(&page, &series("torchd_gpu_temperature_celsius", 0)), None);
    assert_eq!(value(&page, &series("torchd_gpu_power_watts", 0)), Some(300.0));
    assert_eq!(value(&page, &series("torchd_gpu_energy_joules_total", 0)), Some(5000.0));
    assert_eq!(value(&page, "torchd_collector_success{collector=\"gpu\"}"), Some(1.0));
    assert!(!page.contains("DCGM_"), "only where they are asked for");
}

#[tokio::test]
async fn what_a_reading_cannot_be_is_absent_with_the_reason() {
    let none = u32::MAX;
    let scenario = gpus(2)
        + &format!(
            "set 0 util 101\nset 0 memutil {none}\nset 0 temp {none}\nset 0 power {none}\nset 0 limit {none}\n\
             set 0 clock.1 {none}\nset 0 fans {none}\nset 0 pcie.width {none}\nset 0 used 80000000001\nset 0 energy -1\n\
             set 0 gpm.3 1\nset 0 gpm.2 991\nset 0 gpm.5 41\nset 1 fans 2\nset 1 fan.0 {none}\nset 1 fan.1 40\n\
             process 1 41 1000\nprocess 1 42 2000\nprocess 1 43 -2\n\
             share 1 41 0 991 {none}\nshare 1 42 0 50 10\nshare 1 43 18446744073709551615 7 7\n"
        );
    // The usual of the tests comes first, and the first line of a reading counts.
    let fake = FakeGpus::new(&in_place(&scenario));
    let daemon = fake.setup().set("gpu.show_foreign_processes", "true").start();
    let has_tensor = |gpu: &v1::Gpu| gpu.activity.is_some_and(|activity| activity.tensor_ratio.is_some());
    let second_sample = |answer: &v1::WatchGpusResponse| answer.gpus.first().is_some_and(has_tensor);
    let answer = watch_until(&daemon, "GPM's second sample", second_sample).await;
    let [first, second] = answer.gpus.as_slice() else { panic!("{answer:?}") };
    assert_eq!(reason(first, "utilization.gpu_ratio"), "the driver tells 101 %, and it can be 0 to 100 only");
    for (gpu, field, told) in [
        (first, "utilization.memory_ratio", "4294967295 %"),
        (first, "temperature.gpu_celsius", "4294967295 degrees"),
        (first, "power.average_milliwatts", "4294967295 mW"),
        (first, "power.enforced_limit_milliwatts", "4294967295 mW"),
        (first, "power.energy_millijoules", "18446744073709551615"),
        (first, "clocks.sm_hertz", "4294967295 MHz"),
        (first, "fans", "4294967295"),
        (first, "pcie.width", "4294967295"),
        (first, "memory.used_bytes", "80000000001 bytes"),
        (first, "activity.sm_ratio", "991 %"),
        (second, "fans", "4294967295 %"),
        (second, "processes.sm_ratio", "991 %"),
        (second, "processes.memory_ratio", "4294967295 %"),
        (second, "processes.used_memory_bytes", "18446744073709551614 bytes"),
    ] {
        let reason = reason(gpu, field);
        assert!(reason.starts_with(&format!("the driver tells {told}, and it can be")), "{field}: {reason}");
    }
    let (utilization, memory, activity) = (first.utilization.unwrap(), first.memory.unwrap(), first.activity.unwrap());
    assert_eq!((utilization.gpu_ratio, utilization.memory_ratio, memory.used_bytes), (None, None, None));
    // A reading that is wrong hides no other.
    assert_eq!((memory.total_bytes, activity.tensor_ratio), (Some(80_000_000_000), Some(0.41)));
    assert_eq!(second.fans.iter().map(|fan| fan.speed_ratio).collect::<Vec<_>>(), [None, Some(0.4)]);
    let series = format!("torchd_gpu_utilization_ratio{{uuid=\"{}\"}}", uuid(0));
    assert_eq!(value(&daemon.page("/metrics").1, &series), None);

    let request = v1::ListGpuProcessesRequest::default();
    let told = client(&daemon).await.list_gpu_processes(request).await.unwrap().into_inner().processes;
    let told: Vec<_> = told
        .iter()
        .map(|process| (process.pid, process.sm_ratio, process.memory_ratio, process.used_memory_bytes))
        .collect();
    let right = [(41, None, None, Some(1000)), (42, Some(0.5), Some(0.1), Some(2000)), (43, None, None, None)];
    assert_eq!(told, right);
}

/// A scenario in which the last line of a reading counts, and not the first.
fn in_place(scenario: &str) -> String {
    let key = |line: &str| line.strip_prefix("set ").map(|rest| rest.split(' ').take(2).collect::<Vec<_>>().join(" "));
    let lines: Vec<_> = scenario.lines().collect();
    let counts = |(place, line): &(usize, &&str)| {
        key(line).is_none_or(|this| lines[place + 1..].iter().all(|later| key(later).as_ref() != Some(&this)))
    };
    lines.iter().enumerate().filter(counts).map(|(_, line)| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_lost_gpu_fails_alone_and_a_vanished_one_vanishes() {
    let fake = FakeGpus::new(&gpus(2));
    let daemon = fake.setup().start();
    watch_until(&daemon, "both GPUs", has_gpus(2)).await;
    fake.tell(&(gpus(2) + "lost 0\n"));
    let health = |gpu: &v1::Gpu| gpu.health.clone().unwrap_or_default();
    // A reading that begins before the loss cannot tell it from other failures.
    let is_lost = |answer: &v1::WatchGpusResponse| {
        let health = health(&answer.gpus[0]);
        // The next answers have what the event of it says as well.
        health.state() == GpuHealthState::Failed && health.reasons.iter().any(|reason| reason.code == "GPU_LOST")
    };
    let answer = watch_until(&daemon, "the loss", is_lost).await;
    assert_eq!((answer.gpus[0].uuid.as_str(), answer.gpus[0].memory), (uuid(0).as_str(), None));
    assert_eq!(answer.gpus[0].model, "NVIDIA H100 80GB HBM3", "what it is stays known");
    assert_eq!(health(&answer.gpus[1]).state(), GpuHealthState::Healthy);
    assert_eq!(answer.gpus[1].utilization.unwrap().gpu_ratio, Some(0.5));
    let (_, page) = daemon.page("/metrics");
    assert_eq!(value(&page, &format!("torchd_gpu_failed{{uuid=\"{}\"}}", uuid(0))), Some(1.0));
    assert_eq!(value(&page, &format!("torchd_gpu_power_watts{{uuid=\"{}\"}}", uuid(0))), None);
    let (_, out, _) = super::torchctl::told(&daemon.ctl(&["gpus"]));
    assert!(out.contains("FAILED") && out.contains("cannot reach the GPU any more. sudo reboot"), "{out}");

    fake.tell(&gpus(1));
    watch_until(&daemon, "one GPU", has_gpus(1)).await;
    assert!(!daemon.page("/metrics").1.contains(&uuid(1)));
    let events = client(&daemon).await.list_gpu_events(v1::ListGpuEventsRequest::default()).await.unwrap().into_inner();
    let kinds: Vec<_> = events.events.iter().map(|event| (event.kind(), event.gpu.clone())).collect();
    let of = |kind, index| (kind, format!("gpus/{}", uuid(index)));
    assert!(
        kinds.contains(&of(GpuEventKind::Lost, 0)) && kinds.contains(&of(GpuEventKind::Disappeared, 1)),
        "{kinds:?}"
    );
    assert!(kinds.contains(&of(GpuEventKind::Appeared, 0)), "it came back: {kinds:?}");
}

#[tokio::test]
async fn a_driver_that_comes_later_is_found_and_its_absence_told_with_the_remedy() {
    let fake = FakeGpus::new("init 9\n");
    let daemon = fake.setup().start();
    let absent = watch_until(&daemon, "the state", |answer| is_in(answer, GpuSourceState::NoDriver)).await;
    let source = absent.source.unwrap();
    assert!(source.message.contains("driver is not loaded") && source.remedies[0].contains("modprobe"), "{source:?}");
    let cluster = daemon.system().await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    let watching = cluster.capabilities.iter().find(|capability| capability.name == "gpu_watching").unwrap();
    assert!(!watching.available && watching.reason.contains("modprobe nvidia"), "{}", watching.reason);
    assert_eq!(value(&daemon.page("/metrics").1, "torchd_gpu_source{state=\"no_driver\"}"), Some(1.0));
    fake.tell("init 18\n");
    let mismatch = watch_until(&daemon, "the mismatch", |answer| is_in(answer, GpuSourceState::VersionMismatch)).await;
    assert_eq!(mismatch.source.unwrap().remedies, ["sudo reboot"]);
    fake.tell(&gpus(1));
    watch_until(&daemon, "the driver", has_gpus(1)).await;
    fake.tell("init 9\n");
    watch_until(&daemon, "its end", |answer| is_in(answer, GpuSourceState::NoDriver)).await;
    let job = daemon.create(spec::short()).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded, "jobs for the CPU go on");
}

#[tokio::test]
async fn a_machine_without_nvml_and_a_library_that_is_not_nvml_are_told_in_words() {
    let fake = FakeGpus::new("");
    let no_gpu = fake.setup().start();
    watch_until(&no_gpu, "the state", |answer| is_in(answer, GpuSourceState::NoGpu)).await;
    let other = std::env::current_exe().unwrap();
    let daemon = Setup::new().set("gpu.nvml_library", other.to_str().unwrap()).start();
    let answer = watch_until(&daemon, "the state", |answer| is_in(answer, GpuSourceState::NoLibrary)).await;
    let source = answer.source.unwrap();
    assert!(source.message.contains("as NVML") || source.message.contains("is not NVML"), "{source:?}");
    assert!(source.remedies[0].contains("gpu.nvml_library"), "{source:?}");
    let (code, out, _) = super::torchctl::told(&daemon.ctl(&["gpus"]));
    assert!(code == 0 && out.contains("gpu.nvml_library"), "{out}");
}

#[tokio::test]
async fn a_call_that_hangs_is_noticed_and_the_daemon_goes_on() {
    let fake = FakeGpus::new(&gpus(1));
    let daemon = fake.setup().start();
    watch_until(&daemon, "the GPU", has_gpus(1)).await;
    fake.tell(&(gpus(1) + "hang nvmlDeviceGetPowerUsage\n"));
    let told = watch_until(&daemon, "the silence", |answer| is_in(answer, GpuSourceState::NotAnswering)).await;
    assert_eq!(told.gpus.len(), 1, "the last readings are still told");
    let answer = client(&daemon).await.list_gpus(v1::ListGpusRequest::default()).await.unwrap().into_inner();
    let source = answer.source.unwrap();
    assert!(source.stale && source.message.contains("has not answered for"), "{source:?}");
    let (_, page) = daemon.page("/metrics");
    assert_eq!(value(&page, "torchd_collector_success{collector=\"gpu\"}"), Some(0.0));
    assert!(value(&page, "torchd_gpu_sample_age_seconds").unwrap() > 4.0);
    assert!(!page.contains("torchd_gpu_power_watts"), "readings that are stale are not told");
    let (_, out, _) = super::torchctl::told(&daemon.ctl(&["gpus"]));
    assert!(out.contains("has not answered") && out.contains("These readings are"), "{out}");
    fake.tell(&gpus(1));
    watch_until(&daemon, "new readings", |answer| is_in(answer, GpuSourceState::Watching)).await;
}

#[tokio::test]
async fn an_xid_is_told_once_with_its_meaning_and_counted_by_number() {
    let fake = FakeGpus::new(&gpus(2));
    let daemon = fake.setup().start();
    watch_until(&daemon, "the GPUs", has_gpus(2)).await;
    fake.tell(&(gpus(2) + "event 1 1 8 13\nevent 2 1 8 13\nevent 3 1 8 48\nevent 4 0 1 0\n"));
    let failed = |answer: &v1::WatchGpusResponse| {
        answer.gpus[1].health.as_ref().is_some_and(|health| health.state() == GpuHealthState::Failed)
    };
    let answer = watch_until(&daemon, "the failure", failed).await;
    assert_eq!(answer.gpus[1].health.as_ref().unwrap().reasons[0].code, "XID_48");
    let mut gpu_client = client(&daemon).await;
    let events = wait_for_events(&mut gpu_client, 4).await;
    let told: Vec<_> = events.iter().map(|event| (event.xid, event.kind())).collect();
    let xid = |number| (Some(number), GpuEventKind::Xid);
    assert_eq!(told, [(None, GpuEventKind::EccCorrected), xid(48), xid(13), xid(13)]);
    assert!(
        events[1].message.contains("double-bit ECC error") && events[1].remedy.contains("reset"),
        "{:?}",
        events[1]
    );
    let request = v1::ListGpuEventsRequest { gpu: format!("gpus/{}", uuid(1)), page_size: 2, ..Default::default() };
    let page = gpu_client.list_gpu_events(request.clone()).await.unwrap().into_inner();
    let rest = v1::ListGpuEventsRequest { page_token: page.next_page_token, ..request };
    let rest = gpu_client.list_gpu_events(rest).await.unwrap().into_inner();
    assert_eq!((page.events.len(), rest.events.len(), rest.next_page_token.as_str()), (2, 1, ""));
    let (_, metrics) = daemon.page("/metrics");
    let count = |number| format!("torchd_gpu_xid_errors_total{{uuid=\"{}\",xid=\"{number}\"}}", uuid(1));
    assert_eq!((value(&metrics, &count(13)), value(&metrics, &count(48))), (Some(2.0), Some(1.0)));
    assert!(metrics.contains("torchd_gpu_xid_last_timestamp_seconds{"), "{metrics}");
    // The request of the driver after a reset says that the GPU is whole again.
    fake.tell(&(gpus(2) + "set 1 field.230 1\n").replacen("set 1 field.230 0\n", "", 1));
    let asks = |answer: &v1::WatchGpusResponse| answer.gpus[1].recovery_action() == v1::GpuRecoveryAction::Reset;
    watch_until(&daemon, "the action", asks).await;
    fake.tell(&gpus(2));
    let is_whole = |answer: &v1::WatchGpusResponse| {
        answer.gpus[1].health.as_ref().is_some_and(|health| health.state() == GpuHealthState::Healthy)
    };
    watch_until(&daemon, "health", is_whole).await;
}

async fn wait_for_events(client: &mut GpuServiceClient<Channel>, count: usize) -> Vec<v1::GpuEvent> {
    loop {
        let answer = client.list_gpu_events(v1::ListGpuEventsRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.absent_reason, "");
        if answer.events.len() >= count {
            return answer.events;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_library_of_an_old_driver_tells_what_it_can() {
    let fake = FakeGpus::built(&gpus(1), &["-DOLD_DRIVER"]);
    let daemon = fake.setup().start();
    let answer = watch_until(&daemon, "the GPU", has_gpus(1)).await;
    let gpu = &answer.gpus[0];
    assert_eq!(gpu.utilization.unwrap().gpu_ratio, Some(0.5));
    assert_eq!(gpu.memory, None);
    assert_eq!(gpu.process_count, None, "nobody knows that there are none");
    for field in ["memory.total_bytes", "memory.used_bytes", "modes.mig", "activity.sm_ratio", "process_count"] {
        assert_eq!(reason(gpu, field), "this driver is too old to tell it", "{field}");
    }
}

#[tokio::test]
async fn instances_are_children_of_their_gpu_and_may_change_at_any_time() {
    let mig = |instances: &[(&str, u32)]| {
        let line = |(index, (profile, id)): (usize, &(&str, u32))| {
            format!("mig 0 MIG-{index} {id} 0 {profile} 10000000000 {}\n", 1_000_000 * (index + 1))
        };
        gpus(1) + "set 0 mig 1\n" + &instances.iter().enumerate().map(line).collect::<String>()
    };
    let fake = FakeGpus::new(&mig(&[("1g.10gb", 7), ("2g.20gb", 3)]));
    let daemon = fake.setup().start();
    let has = |count| {
        move |answer: &v1::WatchGpusResponse| answer.gpus.first().is_some_and(|gpu| gpu.mig_instances.len() == count)
    };
    let answer = watch_until(&daemon, "two instances", has(2)).await;
    let instance = &answer.gpus[0].mig_instances[1];
    assert_eq!((instance.profile.as_str(), instance.gpu_instance_id), ("2g.20gb", Some(3)));
    assert_eq!(instance.memory.unwrap().used_bytes, Some(2_000_000));
    let (_, page) = daemon.page("/metrics");
    let used = format!("torchd_gpu_mig_memory_used_bytes{{uuid=\"{}\",mig_uuid=\"MIG-1\"}}", uuid(0));
    assert_eq!(value(&page, &used), Some(2e6));
    fake.tell(&mig(&[("7g.80gb", 0)]));
    // A sample that was under way has instances of before and after.
    let whole = |answer: &v1::WatchGpusResponse| {
        let gpu = answer.gpus.first();
        gpu.is_some_and(|gpu| matches!(gpu.mig_instances.as_slice(), [only] if only.profile == "7g.80gb"))
    };
    watch_until(&daemon, "one instance of another profile", whole).await;
    fake.tell(&gpus(1));
    watch_until(&daemon, "none", has(0)).await;
}

#[tokio::test]
async fn wrong_requests_name_the_field_and_what_would_be_right() {
    let fake = FakeGpus::new(&gpus(1));
    let daemon = fake.setup().start();
    watch_until(&daemon, "the GPU", has_gpus(1)).await;
    let mut gpu_client = client(&daemon).await;
    let get = |name: &str| v1::GetGpuRequest { name: name.into() };
    let status = gpu_client.get_gpu(get("gpus/GPU-1")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&uuid(0)) && status.get_details_resource_info().is_some(), "{status:?}");
    assert_eq!(gpu_client.get_gpu(get(&format!("gpus/{}", uuid(0)))).await.unwrap().into_inner().uuid, uuid(0));
    for name in ["", "GPU-1", "gpus/"] {
        let status = gpu_client.get_gpu(get(name)).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "name");
    }
    for (seconds, nanos) in [(0, 50_000_000), (-1, 0), (3601, 0)] {
        let interval = Some(prost_types::Duration { seconds, nanos });
        let status = gpu_client.watch_gpus(v1::WatchGpusRequest { interval }).await.unwrap_err();
        let violation = &status.get_details_bad_request().unwrap().field_violations[0];
        assert!(violation.field == "interval" && violation.description.contains("0.1 s to 3600 s"), "{violation:?}");
    }
    let unknown = v1::ListGpuProcessesRequest { gpu: "gpus/GPU-1".into(), ..Default::default() };
    assert_eq!(gpu_client.list_gpu_processes(unknown).await.unwrap_err().code(), Code::NotFound);
    let token = v1::ListGpusRequest { page_token: "x".into(), ..Default::default() };
    assert_eq!(gpu_client.list_gpus(token).await.unwrap_err().code(), Code::InvalidArgument);
}
