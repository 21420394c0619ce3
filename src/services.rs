//! gRPC adapters: convert, call one method, convert back. No SQL, no state logic, no processes.

mod access;
mod artifacts;
mod bodies;
mod clients;
mod codec;
mod compatibility;
mod description;
mod files;
mod gpu;
mod job_log;
mod jobs;
mod launches;
mod layer;
mod paging;
mod scalars;
mod status;
mod system;
mod tokens;
mod watch;

use tonic::service::Routes;

use crate::access::Tokens;
use crate::checkup::Checkup;
use crate::gpu::Watcher;
use crate::launches::Launches;
use crate::manager::Manager;
use crate::metrics::Method;
use crate::node::NodeSource;
use crate::proto;
use crate::uploads::Uploads;
pub use clients::Clients;
pub use codec::BoundedCodec;
pub use layer::{AnswerLayer, AnswerService};

/// The generated half of the services.
#[allow(missing_docs, clippy::all, unreachable_pub)]
mod server {
    include!(concat!(env!("OUT_DIR"), "/server/torchd.v1.rs"));
}

/// Largest request of the standard services, which hold a name each.
const STANDARD_BYTES: usize = 16 << 10;

/// The parts that the services adapt.
pub struct Parts {
    /// The jobs.
    pub manager: Manager,
    /// The files that clients have sent.
    pub uploads: Uploads,
    /// The machine's judgement.
    pub checkup: Checkup,
    /// The GPUs.
    pub watcher: Watcher,
    /// Callers may see processes on GPUs that belong to no job.
    pub show_foreign_processes: bool,
    /// The machine.
    pub node: NodeSource,
    /// CPUs that the daemon may use.
    pub cpus: u32,
    /// Largest request that is read, in bytes.
    pub max_message_bytes: usize,
    /// The limits that clients share.
    pub clients: Clients,
    /// The tokens.
    pub tokens: Tokens,
    /// Launchers, and ranks on other machines.
    pub launches: Launches,
    /// The kernel keeps jobs to their memory, or why it does not.
    pub control_groups: Result<(), String>,
}

/// All services, with health and reflection, and the handle that tells health.
pub async fn routes(
    parts: Parts,
) -> Result<(Routes, tonic_health::server::HealthReporter), tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let Parts {
        manager,
        uploads,
        checkup,
        watcher,
        show_foreign_processes,
        node,
        cpus,
        max_message_bytes,
        clients,
        tokens,
        launches,
        control_groups,
    } = parts;
    let launches = launches::LaunchList::new(launches, manager.clone(), clients.clone());
    let jobs = jobs::Jobs::new(manager.clone(), clients.clone());
    let files = files::Files::new(uploads, clients.clone());
    let gpus = gpu::Gpus::new(watcher.clone(), show_foreign_processes);
    let compatibility = compatibility::Compatibility::new(manager.clone(), checkup.clone());
    let system = system::System::new(manager, checkup, watcher, node, cpus, clients, control_groups);
    let gzip = tonic::codec::CompressionEncoding::Gzip;
    let mut routes = Routes::builder();
    routes
        .add_service(
            server::job_service_server::JobServiceServer::new(jobs)
                .max_decoding_message_size(max_message_bytes)
                .accept_compressed(gzip)
                .send_compressed(gzip),
        )
        .add_service(
            server::system_service_server::SystemServiceServer::new(system)
                .max_decoding_message_size(max_message_bytes)
                .accept_compressed(gzip)
                .send_compressed(gzip),
        )
        .add_service(
            server::compatibility_service_server::CompatibilityServiceServer::new(compatibility)
                .max_decoding_message_size(max_message_bytes)
                .accept_compressed(gzip)
                .send_compressed(gzip),
        )
        .add_service(
            server::gpu_service_server::GpuServiceServer::new(gpus)
                .max_decoding_message_size(max_message_bytes)
                .accept_compressed(gzip)
                .send_compressed(gzip),
        )
        .add_service(
            server::file_service_server::FileServiceServer::new(files)
                .max_decoding_message_size(max_message_bytes.max(files::MESSAGE_BYTES))
                .accept_compressed(gzip)
                .send_compressed(gzip),
        )
        .add_service(
            server::token_service_server::TokenServiceServer::new(tokens::TokenList::new(tokens))
                .max_decoding_message_size(max_message_bytes)
                .accept_compressed(gzip)
                .send_compressed(gzip),
        )
        .add_service(
            server::launch_service_server::LaunchServiceServer::new(launches)
                .max_decoding_message_size(max_message_bytes.max(launches::MESSAGE_BYTES))
                .accept_compressed(gzip)
                .send_compressed(gzip),
        )
        .add_service(health_service.max_decoding_message_size(STANDARD_BYTES))
        .add_service(reflection().build_v1()?.max_decoding_message_size(STANDARD_BYTES))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(STANDARD_BYTES));
    Ok((routes.routes(), health))
}

/// Every method that is served, for metrics that are there from the first scrape on.
pub fn methods() -> Vec<Method> {
    let ours = proto::descriptors().services().flat_map(|service| {
        let methods: Vec<_> = service
            .methods()
            .map(|method| Method {
                kind: match (method.is_client_streaming(), method.is_server_streaming()) {
                    (false, false) => "unary",
                    (true, false) => "client_stream",
                    (false, true) => "server_stream",
                    (true, true) => "bidi_stream",
                },
                service: service.full_name().to_owned(),
                name: method.name().to_owned(),
            })
            .collect();
        methods
    });
    let standard = [
        ("unary", "grpc.health.v1.Health", "Check"),
        ("server_stream", "grpc.health.v1.Health", "Watch"),
        ("bidi_stream", "grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
        ("bidi_stream", "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
    ];
    let standard =
        standard.map(|(kind, service, name)| Method { kind, service: service.to_owned(), name: name.to_owned() });
    ours.chain(standard).collect()
}
