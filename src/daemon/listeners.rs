//! The addresses: bound before anything else is touched, served once everything is there.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::startup::Failure;
use crate::config::Settings;
use crate::services::AnswerLayer;

/// Bound, not served yet.
pub(super) struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
    pub(super) addresses: Addresses,
}

/// Where the daemon can be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
}

/// A client that does not answer a ping within this is gone, and its watches end.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Binds all addresses.
pub(super) async fn bind(settings: &Settings) -> Result<Listeners, Failure> {
    let listen = async |key: &str, address: SocketAddr| {
        let bound = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        bound.map_err(|error| Failure::unavailable(&format!("{key} = {address}"), error))
    };
    let (grpc_address, grpc) = listen("grpc.listen", settings.grpc_listen).await?;
    let (http_address, http) = listen("http.listen", settings.http_listen).await?;
    Ok(Listeners { grpc, http, addresses: Addresses { grpc: grpc_address, http: http_address } })
}

impl Listeners {
    /// Serves until `stop`, and then to the end of what is in hand.
    pub(super) fn serve(
        self,
        routes: Routes,
        layer: AnswerLayer,
        pages: Router,
        stop: CancellationToken,
    ) -> JoinSet<Result<(), String>> {
        let mut servers = JoinSet::new();
        let stopped = stop.clone();
        servers.spawn(async move {
            // An answer is several small writes; held back until the first is acknowledged they would take 40 ms.
            let incoming = TcpIncoming::from(self.grpc).with_nodelay(Some(true));
            Server::builder()
                .http2_keepalive_interval(Some(KEEPALIVE))
                .http2_keepalive_timeout(Some(KEEPALIVE))
                .layer(layer)
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, stopped.cancelled_owned())
                .await
                .map_err(|error| format!("gRPC: {error}"))
        });
        servers.spawn(async move {
            let served = axum::serve(self.http, pages).with_graceful_shutdown(stop.cancelled_owned()).await;
            served.map_err(|error| format!("HTTP: {error}"))
        });
        servers
    }
}
