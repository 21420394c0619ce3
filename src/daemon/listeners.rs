//! The addresses: bound before anything else is touched, served once everything is there.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::doors;
use super::handshake::Punctual;
use super::slow_clients::Impatient;
use super::startup::StartError;
use super::tls::{self, Certificates};
use super::visitor::{Visitor, Visitors};
use crate::access::{Strangers, Visit};
use crate::config::{LONGEST_SOCKET, Settings};
use crate::services::AnswerLayer;

/// Bound, not served yet.
pub(super) struct Listeners {
    grpc: Option<TcpListener>,
    unix: Option<UnixListener>,
    http: Option<TcpListener>,
    pub(super) addresses: Addresses,
    limits: Limits,
}

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Calls that it may have in hand at once.
    max_streams: u32,
    /// The interval of keepalive pings. A client that does not answer one within another interval
    /// is gone, and its watches end.
    keepalive: Duration,
}

/// Where the daemon can be reached.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// gRPC over TCP; None if the settings switch it off.
    pub(super) grpc: Option<SocketAddr>,
    /// The Unix socket; None where its path would be too long.
    pub(super) unix: Option<PathBuf>,
    /// HTTP; None if the settings switch it off.
    pub(super) http: Option<SocketAddr>,
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unix = self.unix.as_ref().map(|path| path.display().to_string());
        let grpc = self.grpc.map(|address| address.to_string()).or(unix).unwrap_or_default();
        write!(f, "gRPC on {grpc}")?;
        self.http.map_or(Ok(()), |http| write!(f, ", metrics on {http}"))
    }
}

/// Bytes of a request, and of all requests of a connection, that a client may send before we have
/// taken those before.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Binds all addresses. `socket_dir` is where the Unix socket lies if the settings name no other
/// place.
pub(super) async fn bind(settings: &Settings, socket_dir: &Path) -> Result<Listeners, StartError> {
    let listen = async |key: &str, address: Option<SocketAddr>| {
        let Some(address) = address else { return Ok((None, None)) };
        let bound = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let bound = bound.map_err(|error| {
            let way = match error.kind() {
                ErrorKind::AddrInUse => {
                    let flag = format!("--{}", key.replace('.', "-"));
                    format!(
                        "; another torchd may listen there, and {flag} {}:0 takes a port that is free",
                        address.ip()
                    )
                }
                _ => String::new(),
            };
            StartError::unavailable(&format!("{key} = {address}"), format!("{error}{way}"))
        });
        bound.map(|(address, listener)| (Some(address), Some(listener)))
    };
    let (grpc_address, grpc) = listen("grpc.listen", settings.grpc_listen).await?;
    let (http_address, http) = listen("http.listen", settings.http_listen).await?;
    let place = settings.grpc_unix_socket.clone().unwrap_or_else(|| socket_dir.join("torchd.sock"));
    let (unix, place) = if place.as_os_str().len() > LONGEST_SOCKET {
        tracing::warn!(path = %place.display(), "no Unix socket: its path is too long; grpc.unix_socket names another");
        (None, None)
    } else {
        let bound = bind_unix(&place, settings.grpc_unix_socket_mode);
        let bound =
            bound.map_err(|error| StartError::unavailable(&format!("grpc.unix_socket = {}", place.display()), error));
        (Some(bound?), Some(place))
    };
    if grpc.is_none() && unix.is_none() {
        let why = "it is empty, and the path of the Unix socket is too long, so that nobody could ask for anything";
        return Err(StartError::unavailable("grpc.listen", format!("{why}; grpc.unix_socket names a shorter one")));
    }
    let addresses = Addresses { grpc: grpc_address, unix: place, http: http_address };
    let limits = Limits { max_streams: settings.grpc_max_streams, keepalive: settings.grpc_keepalive_interval };
    Ok(Listeners { grpc, unix, http, addresses, limits })
}

/// Binds a Unix socket that nobody reaches before it has its mode: it is made aside and renamed.
/// One that a daemon before us has left is replaced, one that somebody listens on is not.
fn bind_unix(path: &Path, mode: u32) -> std::io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "somebody listens on it already"));
    }
    // The shortest name: a path that fits as it is may not fit with more.
    let aside = path.with_file_name(".t");
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&aside)?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&aside, path)?;
    Ok(listener)
}

impl Listeners {
    /// Serves until `stop`, and then to the end of what is in hand. Addresses that are not loopback
    /// speak TLS where there are certificates.
    pub(super) fn serve(
        self,
        routes: Routes,
        layer: AnswerLayer,
        pages: Router,
        certificates: Option<&Arc<Certificates>>,
        stop: CancellationToken,
    ) -> JoinSet<Result<(), String>> {
        let (mut servers, limits, strangers) = (JoinSet::new(), self.limits, Strangers::new());
        let open = |listener: TcpListener, address: Option<SocketAddr>, protocol| match certificates
            .filter(|_| address.is_none_or(|address| !address.ip().is_loopback()))
        {
            Some(certificates) => doors::tls(listener, certificates.clone(), protocol, strangers.clone()),
            None => doors::plain(listener, strangers.clone()),
        };
        if let Some(unix) = self.unix {
            let visitors = doors::unix(unix, strangers.clone());
            servers.spawn(serve_grpc(visitors, routes.clone(), layer.clone(), limits, stop.clone()));
        }
        if let Some(grpc) = self.grpc {
            let visitors = open(grpc, self.addresses.grpc, tls::HTTP_2);
            servers.spawn(serve_grpc(visitors, routes, layer, limits, stop.clone()));
        }
        if let Some(http) = self.http {
            let visitors = open(http, self.addresses.http, tls::HTTP_1);
            let pages = pages.into_make_service_with_connect_info::<Visit>();
            servers.spawn(async move {
                let served = axum::serve(Impatient(visitors), pages).with_graceful_shutdown(stop.cancelled_owned());
                served.await.map_err(|error| format!("HTTP: {error}"))
            });
        }
        servers
    }
}

/// The same API on any kind of connection.
async fn serve_grpc(
    visitors: Visitors,
    routes: Routes,
    layer: AnswerLayer,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), String> {
    let begin = |Visitor { io, visit }| Punctual::new(io, visit);
    let incoming = visitors.map(move |accepted| accepted.map(begin));
    Server::builder()
        .max_concurrent_streams(Some(limits.max_streams))
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .http2_keepalive_interval(Some(limits.keepalive))
        .http2_keepalive_timeout(Some(limits.keepalive))
        .layer(layer)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
        .map_err(|error| format!("gRPC: {error}"))
}
