//! SystemService.

use tonic::{Request, Response, Status};

use super::status;
use crate::job::probe::Found;
use crate::manager::Manager;
use crate::node::NodeSource;
use crate::proto::v1::{self, system_service_server::SystemService};

/// The service.
pub(super) struct System {
    manager: Manager,
    node: NodeSource,
    cpus: u32,
}

impl System {
    pub(super) fn new(manager: Manager, node: NodeSource, cpus: u32) -> Self {
        Self { manager, node, cpus }
    }
}

fn library(found: Found) -> v1::LibraryVersion {
    let Found { version, path, absent_reason } = found;
    v1::LibraryVersion { version, path, absent_reason }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn get_version(
        &self,
        _request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let (libtorch, cuda) = match self.manager.probed().await.map_err(status::of)? {
            Ok(report) => (report.libtorch, report.cuda),
            Err(reason) => {
                let absent = Found { absent_reason: reason, ..Found::default() };
                (absent.clone(), absent)
            }
        };
        Ok(Response::new(v1::GetVersionResponse {
            torchd_version: env!("CARGO_PKG_VERSION").into(),
            revision: env!("TORCHD_REVISION").into(),
            rustc_version: env!("TORCHD_RUSTC").into(),
            libtorch: Some(library(libtorch)),
            cuda: Some(library(cuda)),
        }))
    }

    async fn get_cluster(&self, _request: Request<v1::GetClusterRequest>) -> Result<Response<v1::Cluster>, Status> {
        let cuda = self.manager.probe().map(|told| match told {
            Ok(report) if report.cuda_devices > 0 => Ok(report.cuda_devices),
            Ok(report) => Err(report.cuda.absent_reason),
            Err(reason) => Err(reason),
        });
        let (node, cpus) = (self.node.clone(), self.cpus);
        let cluster = tokio::task::spawn_blocking(move || node.cluster(cpus, cuda)).await;
        let failed = |error| status::internal("INTERNAL", format!("reading the node's facts failed: {error}"));
        Ok(Response::new(cluster.map_err(failed)?))
    }
}
