//! The real Prometheus reads what we export.

use std::fs;
use std::process::{Child, Command, Stdio};

use torchd::proto::v1;

use super::daemon::{Daemon, Setup, wait_for};
use super::{spec, tools};

const INSTALL: &str = "sudo apt-get install prometheus";

fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn metrics_follow_a_job_through_its_life() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let (code, page) = daemon.page("/metrics");
    assert_eq!(code, 200);
    for series in [
        "torchd_jobs{state=\"queued\"}",
        "torchd_jobs_finished_total{reason=\"out_of_memory\"}",
        "grpc_server_handled_total{grpc_code=\"NotFound\",grpc_method=\"ReadScalars\",grpc_service=\"torchd.v1.JobService\",grpc_type=\"unary\"}",
        "grpc_server_started_total{grpc_method=\"Watch\",grpc_service=\"grpc.health.v1.Health\",grpc_type=\"server_stream\"}",
        "grpc_server_handling_seconds_count{grpc_method=\"ServerReflectionInfo\",grpc_service=\"grpc.reflection.v1.ServerReflection\",grpc_type=\"bidi_stream\"}",
    ] {
        assert_eq!(value(&page, series), Some(0.0), "{series}\n{page}");
    }
    assert!(page.contains("torchd_build_info{") && page.contains("process_resident_memory_bytes "));
    assert!(!page.contains("torchd_job_step"), "no job runs");

    let job = daemon.create(spec::endless()).await;
    let waiting = daemon.create(spec::endless()).await;
    let id = job.name.strip_prefix("jobs/").unwrap();
    daemon
        .watch_until(&job.name, |job| {
            job.progress.as_ref().is_some_and(|progress| progress.latest_scalars.contains_key("loss/train"))
        })
        .await;
    let page = daemon.page("/metrics").1;
    assert!(value(&page, &format!("torchd_job_step{{job=\"{id}\"}}")).unwrap() >= 10.0, "{page}");
    assert!(value(&page, &format!("torchd_job_loss{{job=\"{id}\",split=\"train\"}}")).unwrap() > 0.0);
    assert!(value(&page, &format!("torchd_job_examples_per_second{{job=\"{id}\"}}")).unwrap() > 0.0);
    let wait = value(&page, &format!("torchd_job_data_wait_ratio{{job=\"{id}\"}}")).unwrap();
    assert!((0.0..=1.0).contains(&wait), "{wait}");
    assert_eq!(value(&page, "torchd_jobs{state=\"running\"}"), Some(1.0));
    assert_eq!(value(&page, "torchd_jobs{state=\"queued\"}"), Some(1.0));

    let mut client = daemon.jobs().await;
    for name in [&waiting.name, &job.name] {
        client.cancel_job(v1::CancelJobRequest { name: name.clone(), now: false }).await.unwrap();
        daemon.watch_to_end(name).await;
    }
    let _ = client.get_job(v1::GetJobRequest { name: "jobs/20200101-000000-0000".into() }).await.unwrap_err();
    let series = "grpc_server_handled_total{grpc_code=\"NotFound\",grpc_method=\"GetJob\",grpc_service=\"torchd.v1.JobService\",grpc_type=\"unary\"}";
    let page = daemon.page("/metrics").1;
    assert_eq!(value(&page, series), Some(1.0));
    assert_eq!(value(&page, "torchd_jobs_finished_total{reason=\"cancelled\"}"), Some(2.0));
    assert_eq!(value(&page, "torchd_job_duration_seconds_count"), Some(1.0), "one had begun");
    assert_eq!(value(&page, "torchd_collector_success{collector=\"jobs\"}"), Some(1.0));
    assert!(!page.contains(id), "the series of a job end with it");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(daemon.page(path).0, 200, "{path}");
    }
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    if !tools::is_there("promtool", INSTALL) {
        return;
    }
    let daemon = Daemon::start();
    let job = daemon.create(spec::endless()).await;
    daemon
        .watch_until(&job.name, |job| {
            job.progress.as_ref().is_some_and(|progress| progress.latest_scalars.contains_key("loss/train"))
        })
        .await;
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    fs::write(&page, daemon.page("/metrics").1).unwrap();
    let output =
        Command::new("promtool").args(["check", "metrics"]).stdin(fs::File::open(&page).unwrap()).output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && words.is_empty(), "{}", String::from_utf8_lossy(&words));
}

/// Ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn prometheus_scrapes_us_with_the_configuration_that_is_deployed() {
    if !tools::is_there("prometheus", INSTALL) {
        return;
    }
    let daemon = Setup::new().set("gpu.replay", "8xh100:load").set("metrics.dcgm_names", "true").start();
    let folder = tempfile::tempdir().unwrap();
    let rules = "torchd.rules.yml";
    fs::copy(format!("deploy/prometheus/{rules}"), folder.path().join(rules)).unwrap();
    let configuration = fs::read_to_string("deploy/prometheus/prometheus.yml").unwrap();
    assert!(configuration.contains("127.0.0.1:7081") && configuration.contains("15s"));
    let configuration = configuration.replace("127.0.0.1:7081", &daemon.http.to_string()).replace("15s", "100ms");
    fs::write(folder.path().join("prometheus.yml"), configuration).unwrap();
    // A free port, as far as anybody can know one: Prometheus does not tell which port 0 became.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let http = |path: &str| -> Option<serde_json::Value> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: a\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    };
    let ask = |query: &str| http(&format!("/api/v1/query?query={query}"));
    let found = wait_for("the first scrape", || {
        assert_eq!(server.0.try_wait().unwrap(), None, "prometheus has ended");
        let answer = ask("torchd_build_info")?;
        let result = answer["data"]["result"].as_array()?.clone();
        (!result.is_empty()).then_some(result)
    });
    assert_eq!(found[0]["metric"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(found[0]["metric"]["job"], "torchd");
    assert_eq!(ask("up").unwrap()["data"]["result"][0]["value"][1], "1");

    // The GPUs, as people ask for them: values, sums, rates of energy that are power, and the rules
    // that are deployed.
    let number = |query: &str| -> Option<f64> {
        ask(query)?["data"]["result"][0]["value"][1].as_str().and_then(|value| value.parse().ok())
    };
    assert_eq!(number("count(torchd_gpu_info)"), Some(8.0));
    let uuid = "GPU-00000000-0000-4000-8000-0001a9000000";
    assert_eq!(number(&format!("torchd_gpu_power_watts%7Buuid=%22{uuid}%22%7D")), Some(631.95));
    assert_eq!(number("sum(torchd_gpu_memory_total_bytes)"), Some(8.0 * 85_520_809_984.0));
    assert_eq!(number("max(DCGM_FI_DEV_GPU_TEMP)"), Some(59.0));
    // Once the counter has grown for the whole window, it grows by the power that is shown.
    wait_for("the rate of the energy", || {
        let rate = format!("rate(torchd_gpu_energy_joules_total%7Buuid=%22{uuid}%22%7D%5B5s%5D)");
        number(&rate).filter(|watts| (550.0..720.0).contains(watts))
    });
    let rules = wait_for("the rules", || {
        let answer = http("/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array()?.clone();
        (groups.len() == 2).then_some(groups)
    });
    for rule in rules.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        assert_ne!(rule["health"], "err", "{rule}");
    }
}
