//! The way to the daemon.

mod credentials;
mod listener;
mod place;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};

use super::arguments::AccessArguments;
use super::failure::Failure;
use crate::proto::v1::compatibility_service_client::CompatibilityServiceClient;
use crate::proto::v1::file_service_client::FileServiceClient;
use crate::proto::v1::gpu_service_client::GpuServiceClient;
use crate::proto::v1::job_service_client::JobServiceClient;
use crate::proto::v1::system_service_client::SystemServiceClient;
use crate::proto::v1::token_service_client::TokenServiceClient;
use credentials::{Files, Token};
use place::{Kind, Place};

/// A connection is there within this time, or never.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The interval and the timeout of keepalive pings while calls are open: a lost network closes no
/// connection.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A connection, and the credentials that each call gets.
pub(crate) type Link = InterceptedService<Channel, Token>;

/// An open connection.
#[derive(Clone)]
pub(crate) struct Connection {
    server: String,
    link: Link,
}

impl Connection {
    /// Connects to the server that is named, else to the first of the usual places at which one
    /// answers.
    pub(crate) async fn open(access: &AccessArguments) -> Result<Self, Failure> {
        if let Some(server) = &access.server {
            let place = Place::read(server).map_err(|why| Failure::Mistake(format!("--server {server}: {why}")))?;
            return Self::at(place, access).await;
        }
        let mut tried = Vec::new();
        for place in place::usual() {
            match Self::at(place, access).await {
                Err(Failure::Unreachable { server, cause }) => tried.push(format!("{server}: {cause}")),
                opened => return opened,
            }
        }
        Err(Failure::Unreachable { server: "the usual places".into(), cause: tried.join("; ") })
    }

    async fn at(place: Place, access: &AccessArguments) -> Result<Self, Failure> {
        let unreachable = |cause| Failure::Unreachable { server: place.told.clone(), cause };
        let given = Token::given(access)?;
        let (channel, token) = match &place.kind {
            Kind::Unix(path) => {
                let path = path.clone();
                let connector = tower::service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move {
                        let stream = UnixStream::connect(&path).await?;
                        listener::check_socket(&path, stream.peer_cred()?.uid())?;
                        Ok::<_, std::io::Error>(TokioIo::new(stream))
                    }
                });
                let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_LIMIT);
                // The kernel says who we are. A token counts where the server was named with it.
                let token = given.filter(|_| access.server.is_some());
                (endpoint.connect_with_connector(connector).await, token)
            }
            Kind::Plain { authority, loopback } => {
                if given.is_some() && loopback.is_none() {
                    let why =
                        "the connection would not be encrypted, and others could read the token; https:// is right";
                    return Err(Failure::Mistake(format!("{}: {why}", place.told)));
                }
                let endpoint = endpoint(&place, format!("http://{authority}"))?;
                let found = loopback.filter(|_| given.is_none());
                let found = found.and_then(|port| Some((port, Token::of_this_machine(port)?)));
                match found {
                    Some((port, (token, user))) => {
                        let authority: Arc<str> = authority.as_str().into();
                        // Also when the connection is made again: another user may listen by then.
                        let connector = tower::service_fn(move |_: Uri| {
                            let authority = authority.clone();
                            async move { listener::connect(&authority, port, user).await.map(TokioIo::new) }
                        });
                        (endpoint.connect_with_connector(connector).await, Some(token))
                    }
                    None => (endpoint.connect().await, given),
                }
            }
            Kind::Tls { authority } => {
                let tls = Files::read(access)?.tls();
                let endpoint = endpoint(&place, format!("https://{authority}"))?;
                let endpoint = endpoint.tls_config(tls).map_err(|error| unreachable(root(&error)))?;
                (endpoint.connect().await, given)
            }
        };
        let channel = channel.map_err(|error| unreachable(root(&error)))?;
        Ok(Self { server: place.told, link: InterceptedService::new(channel, token.unwrap_or_default()) })
    }

    /// A daemon that answered once and does not any more.
    pub(super) fn lost(&self, status: &Status) -> Failure {
        let cause = if status.source().is_some() { root(status) } else { status.message().to_owned() };
        Failure::Unreachable { server: self.server.clone(), cause }
    }

    pub(super) fn jobs(&self) -> JobServiceClient<Link> {
        JobServiceClient::new(self.link.clone()).max_decoding_message_size(64 << 20)
    }

    pub(super) fn compatibility(&self) -> CompatibilityServiceClient<Link> {
        CompatibilityServiceClient::new(self.link.clone())
    }

    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }

    pub(super) fn files(&self) -> FileServiceClient<Link> {
        FileServiceClient::new(self.link.clone())
    }

    pub(super) fn gpus(&self) -> GpuServiceClient<Link> {
        GpuServiceClient::new(self.link.clone())
    }

    pub(super) fn system(&self) -> SystemServiceClient<Link> {
        SystemServiceClient::new(self.link.clone())
    }

    pub(super) fn tokens(&self) -> TokenServiceClient<Link> {
        TokenServiceClient::new(self.link.clone())
    }
}

fn endpoint(place: &Place, uri: String) -> Result<Endpoint, Failure> {
    let wrong = |error: tonic::transport::Error| Failure::Mistake(format!("{}: {error}", place.told));
    let endpoint = Endpoint::from_shared(uri).map_err(wrong)?.connect_timeout(CONNECT_LIMIT);
    Ok(endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE))
}

/// The innermost cause says what happened; the outer ones say "transport error".
pub(super) fn root(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
