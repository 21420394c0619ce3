//! HTTP for machines: `/metrics` for Prometheus, `/healthz` (the process answers) and `/readyz`
//! (jobs are taken, and every part makes progress) for programs that restart and route. Counters
//! come from `metrics`; what is state is collected here at each scrape.

mod credentials;
mod dcgm;
mod gpu;
mod host;
mod jobs;
mod mapping;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};

use crate::access::Access;
use crate::checkup::Checkup;
use crate::gpu::{Holder, Snapshot, Watcher, xid};
use crate::manager::Manager;
use crate::metrics::Metrics;
use crate::proto::v1::{self, GpuSourceState};
use credentials::Door;
pub use mapping::keep as keep_job_mapping;

/// The sources of the pages.
#[derive(Clone)]
pub struct Exporter {
    manager: Manager,
    checkup: Checkup,
    watcher: Watcher,
    metrics: Metrics,
    /// How dcgm-exporter's label for the machine is spelled, where its names are wanted.
    dcgm: Option<&'static str>,
    host: Arc<str>,
    readings: Arc<Mutex<Option<Readings>>>,
    ready: Arc<AtomicBool>,
    last_success: Arc<std::sync::Mutex<Option<f64>>>,
    standstill: Standstill,
    names: host::Names,
    door: Door,
}

/// Names the part that makes no progress, in words; None if all do.
pub type Standstill = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The text of a sample's readings, which many scrapes get.
struct Readings {
    of: (Arc<Snapshot>, Arc<Vec<Holder>>),
    text: Arc<str>,
}

impl Exporter {
    /// An exporter that is not ready yet. `dcgm` is the label of dcgm-exporter for the machine,
    /// where its names are wanted too; it answers to `host` and to the names that `allowed_hosts`
    /// holds.
    #[expect(clippy::too_many_arguments, reason = "it stands for everything that is told")]
    pub fn new(
        manager: Manager,
        checkup: Checkup,
        watcher: Watcher,
        metrics: Metrics,
        dcgm: Option<String>,
        host: &str,
        allowed_hosts: &[String],
        standstill: Standstill,
        access: Access,
        is_behind_proxy: bool,
    ) -> Self {
        Self {
            manager,
            checkup,
            watcher,
            metrics,
            dcgm: dcgm.map(|label| if label == "hostname" { "hostname" } else { "Hostname" }),
            host: host.into(),
            readings: Arc::default(),
            ready: Arc::default(),
            last_success: Arc::default(),
            standstill,
            names: host::Names::new(host, allowed_hosts),
            door: Door { access, is_behind_proxy },
        }
    }

    /// Whether `/readyz` says yes.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// The pages.
    pub fn router(self) -> Router {
        let (names, door) = (self.names.clone(), self.door.clone());
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .with_state(self)
            .layer(middleware::from_fn_with_state(door, credentials::check))
            .layer(middleware::from_fn_with_state(names, host::check))
    }

    /// Everything as Prometheus reads it.
    async fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let scrape = Registry::new();
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<GaugeVec, prometheus::Error> {
            let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
            scrape.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let build = gauge(
            "torchd_build_info",
            "Version of torchd and of its compiler; always 1.",
            &["version", "revision", "rustc"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("TORCHD_REVISION"), env!("TORCHD_RUSTC")]).set(1.0);
        let findings = gauge(
            "torchd_compatibility_finding",
            "What the last check of this machine found; 1 for each finding, absent where there is none.",
            &["severity", "reason"],
        )?;
        for finding in self.checkup.latest().map(|report| report.findings).unwrap_or_default() {
            let severity = finding.severity().as_str_name().trim_start_matches("SEVERITY_").to_ascii_lowercase();
            findings.with_label_values(&[severity, finding.reason]).set(1.0);
        }
        let begun = Instant::now();
        let collected = jobs::collect(&self.manager, &scrape).await;
        let success =
            gauge("torchd_collector_success", "Whether the collector's last run worked, 1 or 0.", &["collector"])?;
        success.with_label_values(&["jobs"]).set(f64::from(u8::from(collected.is_ok())));
        let duration =
            gauge("torchd_collector_duration_seconds", "How long the collector's last run took.", &["collector"])?;
        duration.with_label_values(&["jobs"]).set(begun.elapsed().as_secs_f64());
        let last = gauge(
            "torchd_collector_last_success_timestamp_seconds",
            "When the collector last worked, in seconds since 1970.",
            &["collector"],
        )?;
        if let Ok(mut last_success) = self.last_success.lock() {
            match &collected {
                Ok(()) => {
                    *last_success = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|now| now.as_secs_f64())
                }
                Err(error) => tracing::error!(%error, "jobs could not be collected for a scrape"),
            }
            if let Some(time) = *last_success {
                last.with_label_values(&["jobs"]).set(time);
            }
        }
        let source = self.watcher.source();
        // A machine without NVML has no such collector.
        let is_on = !matches!(source.state(), GpuSourceState::NoLibrary | GpuSourceState::Starting);
        if is_on {
            let snapshot = self.watcher.latest();
            let is_read = matches!(source.state(), GpuSourceState::Watching | GpuSourceState::NoGpu) && !source.stale;
            success.with_label_values(&["gpu"]).set(f64::from(u8::from(is_read)));
            duration.with_label_values(&["gpu"]).set(snapshot.took.as_secs_f64());
            if let Some(time) = snapshot.last_success {
                last.with_label_values(&["gpu"]).set(gpu::timestamp(time));
            }
        }
        let mut families = self.metrics.registry.gather();
        families.extend(scrape.gather());
        families.sort_by(|one, other| one.name().cmp(other.name()));
        let mut page = Vec::new();
        TextEncoder::new().encode(&families, &mut page)?;
        let mut told = text::Page::default();
        gpu::about(&mut told, &source, &self.watcher.events().xids());
        page.extend_from_slice(told.0.as_bytes());
        if !source.stale {
            page.extend_from_slice(self.readings(&source).as_bytes());
        }
        Ok(page)
    }

    /// The readings of the newest sample, made once for all scrapes of it.
    fn readings(&self, source: &v1::GpuSource) -> Arc<str> {
        let (snapshot, holders) = (self.watcher.latest(), self.watcher.holders());
        let mut made = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Readings { of, text }) = made.as_ref()
            && Arc::ptr_eq(&of.0, &snapshot)
            && Arc::ptr_eq(&of.1, &holders)
        {
            return text.clone();
        }
        let (gpus, _) = snapshot.joined(&holders);
        let mut page = text::Page::default();
        gpu::readings(&mut page, &gpus, source);
        if let Some(label) = self.dcgm {
            let driver_version = source.driver_version.clone();
            let host = dcgm::Host { label, name: self.host.to_string(), driver_version };
            dcgm::readings(&mut page, &gpus, &host, &self.last_xids());
        }
        let text: Arc<str> = page.0.into();
        *made = Some(Readings { of: (snapshot, holders), text: text.clone() });
        text
    }

    /// The newest Xid of each GPU, with its words.
    fn last_xids(&self) -> Vec<(String, u64, String)> {
        let mut newest: BTreeMap<String, (SystemTime, u64)> = BTreeMap::new();
        for ((uuid, number), seen) in self.watcher.events().xids() {
            let entry = newest.entry(uuid).or_insert((seen.last, number));
            if seen.last > entry.0 {
                *entry = (seen.last, number);
            }
        }
        let words = |number| xid(number).map_or_else(|| "Unknown Error".to_owned(), |known| known.name.clone());
        newest.into_iter().map(|(uuid, (_, number))| (uuid, number, words(number))).collect()
    }
}

async fn metrics(State(exporter): State<Exporter>) -> Response {
    match exporter.render().await {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

async fn readyz(State(exporter): State<Exporter>) -> Response {
    if let Some(words) = (exporter.standstill)() {
        return unready(&words);
    }
    match (exporter.ready.load(Ordering::Relaxed), exporter.manager.probe()) {
        (true, Some(Ok(_))) => "ready\n".into_response(),
        (true, Some(Err(reason))) if exporter.manager.runs_programs() => {
            format!("ready for programs; no model can run here: {reason}\n").into_response()
        }
        (true, Some(Err(reason))) => unready(&format!("no model can run here: {reason}")),
        (true, None) => unready("the runner is being asked which libraries it finds"),
        (false, _) => unready("torchd is starting or shutting down"),
    }
}

fn unready(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response()
}
