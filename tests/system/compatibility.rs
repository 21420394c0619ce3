//! Versions that end in a verdict, as clients get them.

use std::fs;
use std::process::Command;

use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use torchd::proto::v1::compatibility_service_client::CompatibilityServiceClient;
use torchd::proto::v1::{self, Support, Verdict};

use super::daemon::{Daemon, Setup, wait_for};
use super::{nvml, spec, tools};

async fn client(daemon: &Daemon) -> CompatibilityServiceClient<Channel> {
    CompatibilityServiceClient::new(daemon.channel().await)
}

fn field(status: &Status) -> (String, String) {
    let violation = status.get_details_bad_request().unwrap().field_violations.remove(0);
    (violation.field, violation.description)
}

#[tokio::test]
async fn a_python_client_gets_what_people_ask_for() {
    let Some(mut python) = tools::python() else { return };
    let daemon = Daemon::start();
    let output = python.args(["tests/python/compatibility_client.py", &daemon.server()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |name: &str, pytorch: &str, is_supported: bool| {
        let support = if is_supported { "SUPPORT_SUPPORTED" } else { "SUPPORT_ENDED" };
        serde_json::json!([name, pytorch, support])
    };
    let published = serde_json::json!({
        "7.3 LTS ML": row("7.3 LTS ML", "1.6.0", true), "7.2 ML": row("7.2 ML", "1.5.1", true),
        "7.1 ML": row("7.1 ML", "1.5.1", true), "7.0 ML": row("7.0 ML", "1.5.0", true),
        "6.6 ML": row("6.6 ML", "1.4.0", true), "6.5 ML": row("6.5 ML", "1.4.0", true),
        "6.4 ML": row("6.4 ML", "1.4.0", true), "6.3 ML": row("6.3 ML", "1.3.1", false),
        "5.5 LTS ML": row("5.5 LTS ML", "1.1.0", true), "7.3 ML": row("7.3 LTS ML", "1.6.0", true),
        "5.5 ML": row("5.5 LTS ML", "1.1.0", true),
    });
    assert_eq!(told["runtimes"], published);
    assert_eq!(told["plans"]["ACCELERATOR_GPU"], serde_json::json!(["torch==1.5.0", "torchvision==0.6.0"]));
    let wheels = [
        "https://download.pytorch.org/whl/cpu/torch-1.5.0%2Bcpu-cp37-cp37m-linux_x86_64.whl",
        "https://download.pytorch.org/whl/cpu/torchvision-0.6.0%2Bcpu-cp37-cp37m-linux_x86_64.whl",
    ];
    assert_eq!(told["plans"]["ACCELERATOR_CPU"], serde_json::json!(wheels));
    for (machine, reason) in [
        ("old driver", "DRIVER_TOO_OLD"),
        ("Blackwell on cu126", "CAPABILITY_NOT_IN_BUILD"),
        ("driver just upgraded", "DRIVER_LIBRARY_MISMATCH"),
    ] {
        assert_eq!(told["machines"][machine][0], "VERDICT_BROKEN");
        assert_eq!(told["machines"][machine][1], reason);
    }
}

#[tokio::test]
async fn runtimes_come_in_pages_and_filtered() {
    let daemon = Daemon::start();
    let mut client = client(&daemon).await;
    let mut request =
        v1::ListRuntimesRequest { as_of: "2020-10-01".into(), supported_only: true, ..Default::default() };
    request.page_size = 3;
    let mut names = Vec::new();
    loop {
        let page = client.list_runtimes(request.clone()).await.unwrap().into_inner();
        assert!(page.runtimes.len() <= 3 && page.runtimes.iter().all(|row| row.support() == Support::Supported));
        names.extend(page.runtimes.into_iter().map(|row| row.display_name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["7.3 LTS ML", "7.2 ML", "7.1 ML", "7.0 ML", "6.6 ML", "6.5 ML", "6.4 ML", "5.5 LTS ML"]);
    let row = client.get_runtime(v1::GetRuntimeRequest { name: "18 ML".into(), ..Default::default() }).await.unwrap();
    let row = row.into_inner();
    assert_eq!((row.name.as_str(), row.conflicts.len()), ("runtimes/18-ml", 2));
    assert!(!row.sources.is_empty() && row.conflicts[0].source.is_some() && !row.conflicts[0].counts.is_empty());
}

#[tokio::test]
async fn what_is_not_known_or_makes_no_sense_is_told_with_what_would_be_right() {
    let daemon = Daemon::start();
    let mut client = client(&daemon).await;
    let get = |name: &str| v1::GetRuntimeRequest { name: name.into(), ..Default::default() };
    let status = client.get_runtime(get("7.9 ML")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("the nearest are 7.6 ML, 7.5 ML, 7.4 ML"), "{}", status.message());
    assert_eq!(status.get_details_resource_info().unwrap().resource_type, "torchd.v1.Runtime");
    let long = client.get_runtime(get(&"15.4 LTS ML ".repeat(100_000))).await.unwrap_err();
    assert_eq!(field(&long), ("name".to_owned(), "has 1200000 bytes; at most 256 are right".to_owned()));
    for name in ["my laptop", "15.4 XL"] {
        let status = client.get_runtime(get(name)).await.unwrap_err();
        let (field, words) = field(&status);
        assert_eq!((status.code(), field.as_str()), (Code::InvalidArgument, "name"));
        assert!(words.contains("a runtime is needed") && words.contains("the nearest known is "), "{words}");
        assert!(words.len() < 600, "{words}");
    }
    for (name, expected) in [
        ("15.4 LTS ML (includes Apache Spark 3.5.0, GPU, Scala 2.12)", "15.4 LTS ML"),
        ("Databricks Runtime 7.3 LTS for Machine Learning", "7.3 LTS ML"),
        ("DBR 14.3", "14.3 LTS ML"),
    ] {
        assert_eq!(client.get_runtime(get(name)).await.unwrap().into_inner().display_name, expected);
    }

    let list = |pytorch: &str, as_of: &str| v1::ListRuntimesRequest {
        pytorch_version: pytorch.into(),
        as_of: as_of.into(),
        ..Default::default()
    };
    for (request, name, words) in [
        (list("1.5.7", ""), "pytorch_version", "the nearest are 1.5.1, 1.5.0, 1.4.0"),
        (list("newest", ""), "pytorch_version", "is \"newest\"; a version"),
        (list("", "2015-01-01"), "as_of", "the first runtime in the catalogue was released on 2018-11-08"),
        (list("", "yesterday"), "as_of", "a day as YYYY-MM-DD"),
    ] {
        let status = client.list_runtimes(request).await.unwrap_err();
        let (field, description) = field(&status);
        assert!(field == name && description.contains(words), "{field} {description}");
    }
    let plan = v1::PlanInstallRequest { runtime: "7.9 ML".into(), accelerator: 1, ..Default::default() };
    assert_eq!(client.plan_install(plan).await.unwrap_err().code(), Code::NotFound);
    let status = client.plan_install(v1::PlanInstallRequest::default()).await.unwrap_err();
    assert_eq!(field(&status).0, "accelerator");
    let facts = v1::MachineFacts { driver_version: "new".into(), ..Default::default() };
    let request = v1::CheckCompatibilityRequest { facts: Some(facts), as_of: String::new() };
    let status = client.check_compatibility(request).await.unwrap_err();
    assert_eq!(field(&status).0, "facts.driver_version");
}

#[tokio::test]
async fn this_machine_is_judged_by_what_is_on_it() {
    let daemon = Daemon::start();
    let report = client(&daemon).await.check_compatibility(v1::CheckCompatibilityRequest::default()).await.unwrap();
    let report = report.into_inner();
    let facts = report.facts.clone().unwrap();
    let torch = facts.torch.unwrap();
    assert_eq!((torch.version.as_str(), torch.built_for_version.as_str()), ("2.11.0", "2.11.0"));
    assert!(facts.glibc_version.starts_with("2.") && facts.glibcxx_version.starts_with("3.4."));
    assert_eq!(report.cpu_verdict(), Verdict::Ok, "{:#?}", report.findings);
}

#[tokio::test]
async fn a_gpu_that_cuda_cannot_use_keeps_gpu_jobs_out_and_lets_cpu_jobs_on() {
    let folder = tempfile::tempdir().unwrap();
    let library = nvml::build(folder.path(), &[]);
    let daemon = Setup::new().set("gpu.nvml_library", library.to_str().unwrap()).start();
    let report = client(&daemon).await.check_compatibility(v1::CheckCompatibilityRequest::default()).await.unwrap();
    let report = report.into_inner();
    let gpu = report.facts.as_ref().unwrap().gpus.as_ref().unwrap().gpus[0].clone();
    assert_eq!((gpu.name.as_str(), gpu.compute_capability.as_str()), ("Tesla V100-SXM2-16GB", "7.0"));
    assert_eq!((report.gpu_verdict(), report.cpu_verdict()), (Verdict::Broken, Verdict::Ok));
    let reasons: Vec<_> = report.findings.iter().map(|finding| finding.reason.as_str()).collect();
    assert_eq!(reasons, ["NVIDIA_UVM_MISSING", "GPU_WITHOUT_CUDA_BUILD"]);
    let version = daemon.system().await.get_version(v1::GetVersionRequest {}).await.unwrap().into_inner();
    assert_eq!(version.nvidia_driver.unwrap().version, "535.161.07");
    let nvml = version.nvml.unwrap();
    assert_eq!((nvml.version.as_str(), nvml.path.as_str()), ("12.535.161.07", library.to_str().unwrap()));

    let series = r#"torchd_compatibility_finding{reason="NVIDIA_UVM_MISSING",severity="error"} 1"#;
    wait_for("the finding in the metrics", || daemon.page("/metrics").1.contains(series).then_some(()));
    let mut spec = spec::short();
    spec.resources = Some(v1::Resources { device: v1::Device::Cuda.into(), ..Default::default() });
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
        .await
        .unwrap_err();
    let (name, words) = field(&status);
    assert!(name == "spec.resources.device" && words.contains("nvidia_uvm") && words.contains("modprobe"), "{words}");
    let job = daemon.create(spec::short()).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    let told = daemon.log().matches("NVIDIA_UVM_MISSING").count();
    assert_eq!(told, 1, "a finding is logged once: {}", daemon.log());
}

#[tokio::test]
async fn a_driver_that_was_upgraded_under_a_running_machine_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let library = nvml::build(folder.path(), &[]);
    let setup = Setup::new().set("gpu.nvml_library", library.to_str().unwrap());
    let daemon = setup.set("compatibility.check_interval", "1s").env("NVML_FAKE_INIT", "18").start();
    let report = client(&daemon).await.check_compatibility(v1::CheckCompatibilityRequest::default()).await.unwrap();
    let finding = report.into_inner().findings.remove(0);
    assert_eq!(finding.reason, "DRIVER_LIBRARY_MISMATCH");
    assert_eq!(finding.remedies[0].commands, ["sudo reboot"]);
    let output = daemon.ctl(&["doctor"]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(page.starts_with("BROKEN") && page.contains("sudo reboot"), "{page}");
}

#[tokio::test]
async fn a_runner_that_cannot_load_its_libraries_is_told_in_the_same_words_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (path, broken) = (folder.path().join("runner"), folder.path().join("broken"));
    let words = "torchd-runner: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file";
    let runner = env!("CARGO_BIN_EXE_torchd-runner");
    let script =
        format!("#!/bin/sh\n[ -e {} ] || exec {runner} \"$@\"\necho '{words}' >&2\nexit 127\n", broken.display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let start = || Setup::new().set("runner.path", path.to_str().unwrap()).start();

    let daemon = start();
    daemon
        .jobs()
        .await
        .validate_job(v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false })
        .await
        .unwrap();
    fs::write(&broken, "").unwrap();
    let job = daemon.create(spec::short()).await;
    let expected = "libtorch cannot be loaded: libtorch_cpu.so is missing";
    let held = daemon.watch_until(&job.name, |job| job.waiting_reason.contains(expected)).await;
    assert!(held.waiting_reason.contains("runner.libtorch_dir"), "{}", held.waiting_reason);
    let end = held.last_attempt_end.clone().unwrap();
    assert_eq!((held.state(), end.reason()), (v1::JobState::Queued, v1::JobEndReason::StartFailed));
    // It is no fault of the job, which goes on once somebody has mended it.
    fs::remove_file(&broken).unwrap();
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);

    fs::write(&broken, "").unwrap();
    let daemon = start();
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() })
        .await
        .unwrap_err();
    assert!(status.message().contains(expected), "{}", status.message());
    let report = client(&daemon).await.check_compatibility(v1::CheckCompatibilityRequest::default()).await.unwrap();
    let report = report.into_inner();
    assert_eq!((report.verdict(), report.findings[0].reason.as_str()), (Verdict::Broken, "LIBTORCH_NOT_LOADABLE"));
    assert_eq!(report.findings[0].summary, expected);
}

#[tokio::test]
async fn an_operator_adds_a_runtime_without_a_release() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "[[runtime]]\nname = \"20.1 ML\"\npytorch = \"2.14\"\nreleased = 2026-11-20\nsources = [\"azure-pytorch-page\"]\n";
    fs::write(folder.path().join("runtimes.toml"), rows).unwrap();
    let dir = folder.path().to_str().unwrap().to_owned();
    let daemon = Setup::new().set("compatibility.catalogue_dir", &dir).start();
    let request = v1::GetRuntimeRequest { name: "20.1.x-gpu-ml-scala2.13".into(), as_of: "2026-11-24".into() };
    let row = client(&daemon).await.get_runtime(request).await.unwrap().into_inner();
    assert_eq!((row.display_name.as_str(), row.pytorch_version.as_str()), ("20.1 ML", "2.14"));

    let broken = "[[runtime]]\nname = \"20.1 ML\"\npython = \"3.x\"\nsources = [\"azure-pytorch-page\"]\n";
    fs::write(folder.path().join("runtimes.toml"), broken).unwrap();
    let refused = Setup::new().set("compatibility.catalogue_dir", &dir).run();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{words}");
    assert!(words.contains("runtimes.toml, line 3") && words.contains("python = "), "{words}");

    let setup =
        Setup::new().set("compatibility.catalogue_dir", &dir).set("compatibility.on_catalogue_error", "embedded");
    let daemon = setup.start();
    assert!(daemon.log().contains("runtimes.toml, line 3"), "{}", daemon.log());
    let get = |name: &str| v1::GetRuntimeRequest { name: name.into(), ..Default::default() };
    client(&daemon).await.get_runtime(get("7.3 ML")).await.unwrap();
    assert_eq!(client(&daemon).await.get_runtime(get("20.1 ML")).await.unwrap_err().code(), Code::NotFound);
}

#[test]
fn torchctl_answers_for_people_and_scripts() {
    let daemon = Daemon::start();
    let told = |arguments: &[&str]| {
        let output = daemon.ctl(arguments);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, out, _) = told(&["runtimes", "--as-of", "2020-10-01", "--pytorch", "1.5", "--supported"]);
    assert!(
        code == 0 && out.contains("7.0 ML") && out.contains("supported until 2021-01-14") && !out.contains("6.4"),
        "{out}"
    );
    let ui_name = "13.3 LTS ML (includes Apache Spark 3.4.1, GPU, Scala 2.12)";
    let (code, out, err) = told(&["runtimes", "--as-of", "2026-01-01", "--pytorch", "1.13.1+cu117"]);
    assert!(code == 0 && out.contains("13.3 LTS ML") && out.contains("12.2 LTS ML"), "{out}{err}");
    let (code, out, err) =
        told(&["plan-install", "--pytorch", "1.13.1+cu117", "--accelerator", "gpu", "--runtime", ui_name]);
    assert!(code == 0 && out.contains("There is nothing to install"), "{out}{err}");
    let (code, out, _) = told(&["plan-install", "--pytorch", "1.5.0", "--accelerator", "gpu", "--python", "3.7"]);
    assert!(code == 0 && out.contains("%pip install torch==1.5.0 torchvision==0.6.0"), "{out}");
    let (code, _, err) = told(&["plan-install", "--pytorch", "1.5.0", "--accelerator", "gpu", "--python", "3.12"]);
    assert!(code == 64 && err.contains("python_version") && err.contains("Python 3.5 to 3.8"), "{err}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.toml");
    let facts =
        "driver_version = \"470.82.01\"\n[torch]\nversion = \"2.11.0+cu126\"\n[[gpus.gpus]]\nname = \"NVIDIA A10\"\n";
    fs::write(&file, facts).unwrap();
    let file = file.to_str().unwrap();
    let (code, out, err) = told(&["check", "--facts", file]);
    assert!(code == 2 && out.starts_with("BROKEN") && out.contains("[DRIVER_TOO_OLD]"), "{out}{err}");
    let (_, out, _) = told(&["check", "--facts", file, "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["findings"][0]["reason"], "DRIVER_TOO_OLD");
    fs::write(file, facts.replace("name =", "nmae =")).unwrap();
    let (code, _, err) = told(&["check", "--facts", file]);
    assert!(code == 64 && err.contains("gpus.gpus[0].nmae") && err.contains("did you mean name?"), "{err}");
}

/// Machines of public bug reports: what is found there, what some remedy says, and what none may
/// say.
#[test]
fn machines_of_bug_reports_get_remedies_that_work_there() {
    let daemon = Daemon::start();
    let update = ["Update the NVIDIA driver", "cuda-compat"];
    let cases: [(&str, &str, &[&str], &[&str]); 7] = [
        // No driver after R470 knows a K80, and no CUDA 12 has code for it.
        ("k80-cu124", "DRIVER_TOO_OLD", &["torch==2.6.0+cu118 torchvision==0.21.0+cu118"], &update),
        ("rtx-5090-d-cu124", "CAPABILITY_NOT_IN_BUILD", &["torch==2.7.0+cu128 torchvision==0.22.0+cu128"], &update),
        ("v100-cu128", "CAPABILITY_NOT_IN_BUILD", &["torch==2.7.1+cu126", "torch==2.8.0+cu128"], &update),
        ("a10-cpu-build", "GPU_WITHOUT_CUDA_BUILD", &["torch==2.11.0+cu130 torchvision==0.26.0+cu130"], &update),
        ("rtx-3050-driver-470", "DRIVER_TOO_OLD", &["torch==2.1.0+cu118 torchvision==0.16.0+cu118"], &["cuda-compat"]),
        ("a100-error-304", "CUDA_ERROR", &["the devices are there and open to this user"], &["Look the number up"]),
        ("rtx-2080-ti-error-804", "CUDA_COMPAT_NOT_SUPPORTED", &["out of the loader's path"], &["cuda-compat-11-1"]),
    ];
    for (machine, reason, told, not_told) in cases {
        let file = format!("tests/data/facts/{machine}.toml");
        let output = daemon.ctl(&["check", "--facts", &file, "-o", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["reason"] == reason);
        let found = found.unwrap_or_else(|| panic!("{machine}: {report:#}"));
        assert!(found["remedies"].as_array().is_some_and(|remedies| !remedies.is_empty()), "{machine}: {report:#}");
        let remedies = found["remedies"].to_string();
        assert!(told.iter().all(|words| remedies.contains(words)), "{machine}: {found:#}");
        let all: String = findings.iter().map(|finding| finding["remedies"].to_string()).collect();
        assert!(!not_told.iter().any(|words| all.contains(words)), "{machine}: {report:#}");
        assert!(!all.contains("pip install torch==") || all.contains("torchvision=="), "{machine}: {report:#}");
    }
}

#[test]
fn a_machine_is_checked_without_a_daemon() {
    let output = Command::new(env!("CARGO_BIN_EXE_torchctl"))
        .args(["check", "-o", "json", "--server", "127.0.0.1:1"])
        .env_clear()
        .env("HOME", "/tmp")
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("torchd --check-machine"), "{words}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["cpu_verdict"], &report["facts"]["torch"]["version"]),
        (&"VERDICT_OK".into(), &"2.11.0".into())
    );
}
