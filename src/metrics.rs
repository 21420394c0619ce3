//! Counters and histograms, injected where things happen; what is state is collected at scrape by
//! `exporter`. There is no global registry.

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// The daemon's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Holds all of them.
    pub registry: Registry,
    /// Ends of jobs by reason.
    pub jobs_finished: IntCounterVec,
    /// Restarts after failures.
    pub runner_restarts: IntCounter,
    /// Checkpoints that jobs wanted to go on from and that were damaged.
    pub checkpoints_damaged: IntCounter,
    /// Seconds from creation to the start of a runner.
    pub queue_wait: prometheus::Histogram,
    /// Seconds from the start of a runner to the end of the job.
    pub job_duration: prometheus::Histogram,
    /// Calls that were refused for want of credentials or of a role, by door and reason.
    pub auth_failures: IntCounterVec,
    /// TLS handshakes that came to no end, or to a refusal.
    pub tls_failures: IntCounter,
    /// When certificates expire, in seconds since 1970.
    pub certificate_expiry: GaugeVec,
    /// RPCs begun.
    pub grpc_started: IntCounterVec,
    /// RPCs ended, by code.
    pub grpc_handled: IntCounterVec,
    /// Seconds from the first byte of a request to the last of its answer.
    pub grpc_seconds: HistogramVec,
}

/// A method of a gRPC service, as its metrics name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// `unary`, `client_stream`, `server_stream` or `bidi_stream`.
    pub kind: &'static str,
    /// For example `torchd.v1.JobService`.
    pub service: String,
    /// For example `CreateJob`.
    pub name: String,
}

/// Every status code, spelled as the gRPC libraries of Go do in these metrics.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Metrics {
    /// All metrics at zero: every reason and every method is there before the first event, so that
    /// the first one counts in `increase()`.
    pub fn new(end_reasons: &[String], methods: &[Method]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let waits = vec![0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0];
        let durations = vec![1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0];
        let histogram = |name: &str, help: &str, buckets| {
            prometheus::Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        };
        let grpc = ["grpc_type", "grpc_service", "grpc_method"];
        let grpc_coded = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let metrics = Self {
            jobs_finished: IntCounterVec::new(
                Opts::new("torchd_jobs_finished_total", "Jobs that ended, by reason."),
                &["reason"],
            )?,
            runner_restarts: IntCounter::new(
                "torchd_runner_restarts_total",
                "Restarts of runners after failures; interruptions do not count.",
            )?,
            checkpoints_damaged: IntCounter::new(
                "torchd_checkpoints_damaged_total",
                "Checkpoints that jobs were to go on from and that were damaged.",
            )?,
            queue_wait: histogram("torchd_job_queue_wait_seconds", "Time from creation of a job to its start.", waits)?,
            job_duration: histogram("torchd_job_duration_seconds", "Time from start of a job to its end.", durations)?,
            auth_failures: IntCounterVec::new(
                Opts::new(
                    "torchd_auth_failures_total",
                    "Calls that were refused for want of credentials or of a role, by the way in and the reason.",
                ),
                &["door", "reason"],
            )?,
            tls_failures: IntCounter::new(
                "torchd_tls_handshake_failures_total",
                "TLS handshakes that were refused, broke off or took too long.",
            )?,
            certificate_expiry: GaugeVec::new(
                Opts::new(
                    "torchd_tls_certificate_expiry_timestamp_seconds",
                    "When a certificate of torchd expires, in seconds since 1970; of a chain the first that does.",
                ),
                &["certificate"],
            )?,
            grpc_started: IntCounterVec::new(
                Opts::new("grpc_server_started_total", "RPCs started on the server."),
                &grpc,
            )?,
            grpc_handled: IntCounterVec::new(
                Opts::new(
                    "grpc_server_handled_total",
                    "RPCs completed on the server, regardless of success or failure.",
                ),
                &grpc_coded,
            )?,
            grpc_seconds: HistogramVec::new(
                HistogramOpts::new("grpc_server_handling_seconds", "Time from the start of an RPC to its completion."),
                &grpc,
            )?,
            registry,
        };
        let collectors: [Box<dyn prometheus::core::Collector>; 11] = [
            Box::new(metrics.jobs_finished.clone()),
            Box::new(metrics.runner_restarts.clone()),
            Box::new(metrics.checkpoints_damaged.clone()),
            Box::new(metrics.queue_wait.clone()),
            Box::new(metrics.job_duration.clone()),
            Box::new(metrics.auth_failures.clone()),
            Box::new(metrics.tls_failures.clone()),
            Box::new(metrics.certificate_expiry.clone()),
            Box::new(metrics.grpc_started.clone()),
            Box::new(metrics.grpc_handled.clone()),
            Box::new(metrics.grpc_seconds.clone()),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
        let process = prometheus::process_collector::ProcessCollector::for_self();
        metrics.registry.register(Box::new(process))?;
        for reason in end_reasons {
            metrics.jobs_finished.with_label_values(&[reason]);
        }
        for Method { kind, service, name } in methods {
            metrics.grpc_started.with_label_values(&[*kind, service, name]);
            metrics.grpc_seconds.with_label_values(&[*kind, service, name]);
            for code in GRPC_CODES {
                metrics.grpc_handled.with_label_values(&[*kind, service, name, code]);
            }
        }
        Ok(metrics)
    }
}
