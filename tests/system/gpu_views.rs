//! Replayed GPUs, and what exporters, alert rules, slow clients and torchctl make of GPUs.

use std::fs;
use std::path::Path;
use std::process::Command;

use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::gpu_service_client::GpuServiceClient;

use super::daemon::{Daemon, Setup};
use super::gpus::{client, has_gpus, value, watch_until};
use super::nvml::{FakeGpus, gpus, uuid};
use super::{spec, tools};

#[test]
fn a_profile_with_a_mistake_is_refused_with_file_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    fs::write(&file, "[[phases]]\n[[phases.gpus]]\nuuid = \"GPU-1\"\n[phases.gpus.power]\nwatts = 3\n").unwrap();
    let output = Setup::new().set("gpu.replay", file.to_str().unwrap()).run();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{words}");
    for part in ["mine.toml", "line 5", "phases[0].gpus[0].power.watts", "no such field"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let output = Setup::new().set("gpu.replay", "h101").run();
    assert!(String::from_utf8_lossy(&output.stderr).contains("h100-mig"), "{output:?}");
    let output = Setup::new().set("gpu.sample_interval", "10ms").run();
    assert!(String::from_utf8_lossy(&output.stderr).contains("gpu.sample_interval"), "{output:?}");
}

#[tokio::test]
async fn a_replay_is_marked_wherever_it_is_shown_and_jobs_get_none_of_its_gpus() {
    let daemon = Setup::new().set("gpu.replay", "8xh100:load").start();
    let answer = watch_until(&daemon, "the GPUs", has_gpus(8)).await;
    let source = answer.source.unwrap();
    assert_eq!(source.replayed_profile, "8xh100:load");
    assert!(source.message.contains("not the GPUs of this machine"), "{}", source.message);
    let (_, out, _) = super::torchctl::told(&daemon.ctl(&["gpus"]));
    assert!(out.starts_with("REPLAYED from the profile 8xh100:load"), "{out}");
    assert_eq!(out.lines().filter(|line| line.contains("NVIDIA H100 80GB HBM3")).count(), 8);
    assert!(daemon.page("/metrics").1.contains("replayed_profile=\"8xh100:load\""));
    assert!(daemon.log().contains("not those of this machine"));
    let mut spec = spec::short();
    spec.resources = Some(v1::Resources { device: v1::Device::Cuda.into(), ..Default::default() });
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "spec.resources.device");
    let printed: serde_json::Value = serde_json::from_slice(&daemon.ctl(&["gpus", "-o", "json"]).stdout).unwrap();
    assert_eq!(printed["gpus"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn foreign_processes_are_counted_and_shown_only_where_the_settings_say_so() {
    let scenario = gpus(1) + "process 0 1 2000000000\n";
    let fake = FakeGpus::new(&scenario);
    let ask = async |daemon: &Daemon| {
        watch_until(daemon, "the GPU", has_gpus(1)).await;
        let request = v1::ListGpuProcessesRequest::default();
        client(daemon).await.list_gpu_processes(request).await.unwrap().into_inner()
    };
    let daemon = fake.setup().start();
    let hidden = ask(&daemon).await;
    assert_eq!((hidden.processes.len(), hidden.hidden_processes, hidden.hidden_memory_bytes), (0, 1, 2_000_000_000));
    let page = daemon.page("/metrics").1;
    assert_eq!(value(&page, &format!("torchd_gpu_foreign_memory_bytes{{uuid=\"{}\"}}", uuid(0))), Some(2e9));
    let open = fake.setup().set("gpu.show_foreign_processes", "true").start();
    let shown = ask(&open).await;
    assert_eq!((shown.processes[0].pid, shown.processes[0].job.as_str(), shown.hidden_processes), (1, "", 0));
}

#[tokio::test]
async fn the_names_of_dcgm_exporter_are_its_own() {
    let daemon = Setup::new().set("gpu.replay", "h100:load").set("metrics.dcgm_names", "true").start();
    watch_until(&daemon, "the GPU", has_gpus(1)).await;
    let (_, page) = daemon.page("/metrics");
    let line =
        |name: &str| page.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap_or_default().to_owned();
    // The readings of the dashboard 12239 of Grafana, without those of the tensor cores, which NVML
    // does not have.
    let expected = [
        ("DCGM_FI_DEV_GPU_TEMP", "59"),
        ("DCGM_FI_DEV_POWER_USAGE", "631.95"),
        ("DCGM_FI_DEV_SM_CLOCK", "1980"),
        ("DCGM_FI_DEV_GPU_UTIL", "100"),
        ("DCGM_FI_DEV_FB_USED", "19818"),
    ];
    for (name, value) in expected {
        let line = line(name);
        assert!(line.ends_with(&format!("}} {value}")), "{name}: {line}");
        for label in
            ["gpu=\"0\"", "UUID=\"GPU-", "device=\"nvidia0\"", "modelName=\"NVIDIA H100 80GB HBM3\"", "Hostname=\""]
        {
            assert!(line.contains(label), "{label}: {line}");
        }
    }
    assert!(!page.contains("DCGM_FI_PROF_"), "the readings do not tell of these");
    let newer = Setup::new()
        .set("gpu.replay", "h100-mig:load")
        .set("metrics.dcgm_names", "true")
        .set("metrics.dcgm_hostname_label", "hostname")
        .start();
    watch_until(&newer, "the GPU", has_gpus(1)).await;
    let (_, page) = newer.page("/metrics");
    assert!(page.contains("hostname=\"") && !page.contains("Hostname="));
    assert!(page.contains("GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"7\""), "instances have two labels more");
}

#[test]
fn the_alert_rules_that_are_deployed_do_what_their_tests_say() {
    if !tools::is_there("promtool", "sudo apt-get install prometheus") {
        return;
    }
    let run = |arguments: &[&str]| {
        let output =
            Command::new("promtool").args(arguments).current_dir(Path::new("deploy/prometheus")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run(&["check", "rules", "torchd.rules.yml"]);
    run(&["test", "rules", "torchd.rules.test.yml"]);
    // Each alert has a test, and each series that an alert asks for is exported under that name.
    let rules = fs::read_to_string("deploy/prometheus/torchd.rules.yml").unwrap();
    let tests = fs::read_to_string("deploy/prometheus/torchd.rules.test.yml").unwrap();
    let sources: String = ["src/exporter/gpu.rs", "src/exporter/jobs.rs", "src/exporter.rs", "src/metrics.rs"]
        .map(|file| fs::read_to_string(file).unwrap())
        .concat();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}")), "{alert} has no test");
    }
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let names = rules.split(|character| !is_name(character)).filter(|word| word.starts_with("torchd_"));
    let mut count = 0;
    for name in names {
        assert!(sources.contains(&format!("\"{name}\"")), "{name} is exported by nobody");
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_misses_samples_and_delays_nobody() {
    let daemon = Setup::new().set("gpu.replay", "8xh100:load").set("gpu.sample_interval", "100ms").start();
    let watch = async || {
        let interval = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
        // As much as HTTP/2 has by default goes ahead of the reader, and not the megabytes of this
        // client.
        let endpoint = tonic::transport::Endpoint::from_shared(daemon.server()).unwrap();
        let channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
        GpuServiceClient::new(channel).watch_gpus(v1::WatchGpusRequest { interval }).await.unwrap().into_inner()
    };
    let time = |answer: &v1::WatchGpusResponse| {
        let time = answer.source.as_ref().unwrap().sample_time.unwrap();
        (time.seconds, time.nanos)
    };
    let (mut slow, mut quick) = (watch().await, watch().await);
    let mut last = (0, 0);
    for _ in 0..30 {
        let now = time(&quick.message().await.unwrap().unwrap());
        assert!(now > last, "each sample is new");
        last = now;
    }
    // Few and old answers waited for the slow client; then it gets those of the others.
    let mut waited = 0;
    while time(&slow.message().await.unwrap().unwrap()) < last {
        waited += 1;
    }
    assert!((1..20).contains(&waited), "{waited} of 30 samples waited for it");
}

#[tokio::test]
async fn torchctl_goes_on_showing_gpus_and_refuses_what_makes_no_sense() {
    use std::io::BufRead;
    let daemon = Setup::new().set("gpu.replay", "h100-mig:load").start();
    watch_until(&daemon, "the GPU", has_gpus(1)).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_torchctl"))
        .env("TORCHD_SERVER", daemon.server())
        .args(["gpus", "--watch", "--interval", "100ms", "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.take(2) {
        let answer: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(answer["gpus"][0]["mig_instances"].as_array().unwrap().len(), 7);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, out, _) = super::torchctl::told(&daemon.ctl(&["gpus"]));
    assert!(code == 0 && out.contains("└ 6  MIG 1g.10gb"), "{out}");
    let (code, _, err) = super::torchctl::told(&daemon.ctl(&["gpus", "--watch", "--interval", "1ms"]));
    assert!(code == 64 && err.contains("0.1 s to 3600 s"), "{code}: {err}");
    let (code, _, err) = super::torchctl::told(&daemon.ctl(&["gpus", "--interval", "1s"]));
    assert!(code == 64 && err.contains("--watch"), "{code}: {err}");
}
