//! Credentials for tests: certificates of authorities of their own, and channels with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::token_service_client::TokenServiceClient;

use super::daemon::{Daemon, Setup};

/// Code and reason of a refusal.
pub(crate) fn refusal(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key, in PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// When a certificate is good.
#[derive(Clone, Copy)]
pub(crate) enum Good {
    Now,
    Before,
    Later,
    /// From before until so many seconds from now.
    For(u64),
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Signs a certificate for these names.
    pub(crate) fn sign(&self, names: &[&str], good: Good) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, names.first().cloned().unwrap_or_default());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = match good {
            Good::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
            Good::Before => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Good::Later => (date_time_ymd(2080, 1, 1), date_time_ymd(2090, 1, 1)),
            Good::For(seconds) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                (date_time_ymd(2020, 1, 1), date_time_ymd(1970, 1, 1) + Duration::from_secs(now + seconds))
            }
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }
}

/// The files of a daemon that speaks TLS.
pub(crate) struct Files {
    pub(crate) folder: TempDir,
    /// Signs the daemon's certificate.
    pub(crate) server: Authority,
    /// Signs those of clients.
    pub(crate) clients: Authority,
}

impl Files {
    pub(crate) fn new() -> Self {
        let (server, clients) = (Authority::new("servers"), Authority::new("clients"));
        let files = Self { folder: TempDir::new().unwrap(), server, clients };
        files.put(&files.server.sign(&["localhost"], Good::Now));
        fs::write(files.path("clients.pem"), &files.clients.pem).unwrap();
        fs::write(files.path("ca.pem"), &files.server.pem).unwrap();
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the daemon this certificate.
    pub(crate) fn put(&self, signed: &Signed) {
        fs::write(self.path("torchd.crt"), &signed.certificate).unwrap();
        fs::write(self.path("torchd.key"), &signed.key).unwrap();
    }

    /// A daemon that other machines can reach, with TLS.
    pub(crate) fn setup(&self) -> Setup {
        let text = |name: &str| self.path(name).to_str().unwrap().to_owned();
        Setup::everywhere().set("tls.certificate", &text("torchd.crt")).set("tls.key", &text("torchd.key"))
    }

    /// The same, where clients may show a certificate.
    pub(crate) fn mutual(&self, names: &str) -> Setup {
        let authority = self.path("clients.pem");
        self.setup().set("tls.client_ca", authority.to_str().unwrap()).set("tls.client_names", names)
    }

    /// A connection that trusts the daemon's authority.
    pub(crate) async fn connect(&self, daemon: &Daemon, shown: Option<&Signed>) -> Result<Channel, String> {
        connect(daemon, &self.server.pem, shown).await
    }
}

/// A connection with TLS; the error is the innermost.
pub(crate) async fn connect(daemon: &Daemon, authority: &str, shown: Option<&Signed>) -> Result<Channel, String> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name("localhost");
    if let Some(Signed { certificate, key }) = shown {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Channel::from_shared(format!("https://127.0.0.1:{}", daemon.grpc.port())).unwrap();
    let connected = endpoint.tls_config(tls).unwrap().connect().await;
    connected.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        cause.to_string()
    })
}

/// Headers that each call gets.
#[derive(Clone, Default)]
pub(crate) struct Headers(Vec<(&'static str, MetadataValue<Ascii>)>);

impl Headers {
    pub(crate) fn new(headers: &[(&'static str, &str)]) -> Self {
        Self(headers.iter().map(|(name, value)| (*name, value.parse().unwrap())).collect())
    }

    pub(crate) fn token(secret: &str) -> Self {
        Self::new(&[("authorization", &format!("Bearer {secret}"))])
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().append(*name, value.clone());
        }
        Ok(request)
    }
}

pub(crate) type Link = InterceptedService<Channel, Headers>;

/// A channel over loopback TCP, with these headers.
pub(crate) async fn over_tcp(daemon: &Daemon, headers: Headers) -> Link {
    let channel = Channel::from_shared(format!("http://127.0.0.1:{}", daemon.grpc.port())).unwrap();
    InterceptedService::new(channel.connect().await.unwrap(), headers)
}

/// Makes a token by an admin; its secret.
pub(crate) async fn token(daemon: &Daemon, token_id: &str, role: v1::Role, owner: &str) -> String {
    let request =
        v1::CreateTokenRequest { token_id: token_id.into(), role: role.into(), owner: owner.into(), ttl: None };
    let made = TokenServiceClient::new(daemon.channel().await).create_token(request).await.unwrap();
    made.into_inner().secret
}

/// The token in the state folder.
pub(crate) fn of_file(state_dir: &Path) -> String {
    fs::read_to_string(state_dir.join("token")).unwrap().trim_end().to_owned()
}
