//! The way to the daemon.

use std::error::Error;
use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::failure::Failure;
use crate::proto::v1::compatibility_service_client::CompatibilityServiceClient;
use crate::proto::v1::file_service_client::FileServiceClient;
use crate::proto::v1::gpu_service_client::GpuServiceClient;
use crate::proto::v1::job_service_client::JobServiceClient;
use crate::proto::v1::system_service_client::SystemServiceClient;

/// An open connection.
#[derive(Clone)]
pub(super) struct Connection {
    server: String,
    channel: Channel,
}

impl Connection {
    /// Connects to `host:port`, `http://host:port` or `unix:path`.
    pub(super) async fn open(server: &str) -> Result<Self, Failure> {
        let wrong =
            |why: String| Failure::Mistake(format!("--server {server}: {why}; host:port or unix:PATH is right"));
        if server.starts_with("https://") {
            return Err(wrong("this version of torchd has no TLS".into()));
        }
        let address = match server {
            _ if server.starts_with("http://") || server.starts_with("unix:") => server.to_owned(),
            _ if server.contains(':') => format!("http://{server}"),
            _ => return Err(wrong("the port is missing".into())),
        };
        let endpoint = Endpoint::from_shared(address).map_err(|error| wrong(error.to_string()))?;
        let channel = endpoint.connect_timeout(Duration::from_secs(10)).connect().await;
        let channel =
            channel.map_err(|error| Failure::Unreachable { server: server.to_owned(), cause: root(&error) })?;
        Ok(Self { server: server.to_owned(), channel })
    }

    /// A daemon that answered once and does not any more.
    pub(super) fn lost(&self, status: &Status) -> Failure {
        let cause = if status.source().is_some() { root(status) } else { status.message().to_owned() };
        Failure::Unreachable { server: self.server.clone(), cause }
    }

    pub(super) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub(super) fn compatibility(&self) -> CompatibilityServiceClient<Channel> {
        CompatibilityServiceClient::new(self.channel.clone())
    }

    pub(super) fn files(&self) -> FileServiceClient<Channel> {
        FileServiceClient::new(self.channel.clone())
    }

    pub(super) fn gpus(&self) -> GpuServiceClient<Channel> {
        GpuServiceClient::new(self.channel.clone())
    }

    pub(super) fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel.clone())
    }
}

/// The innermost cause says what happened; the outer ones say "transport error".
pub(super) fn root(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
