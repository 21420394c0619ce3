//! Certificates: read at the start, on SIGHUP and when their files change. Connections that are
//! there stay; new ones get the new certificates.
//!
//! A certificate is taken with its key or not at all: half of a change, a key of another
//! certificate, or a file with a mistake leaves what was there, and is told.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::access::{Certificate, FileMark};
use crate::config::Tls;
use crate::metrics::Metrics;

/// From one look at the files to the next.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is spoken inside TLS, as ALPN names it.
pub(super) const HTTP_2: &[u8] = b"h2";
/// The same for pages.
pub(super) const HTTP_1: &[u8] = b"http/1.1";

/// The certificates of the moment.
pub(super) struct Certificates {
    settings: Tls,
    metrics: Metrics,
    /// By protocol.
    now: RwLock<Ready>,
    /// The files as they were when they were last read.
    seen: Mutex<Vec<Option<FileMark>>>,
    /// The files with a mistake, and the mistake, that were told last.
    told: Mutex<Option<(Vec<Option<FileMark>>, String)>>,
}

/// Configurations that differ in their protocol alone.
struct Ready {
    http_2: Arc<ServerConfig>,
    http_1: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// The file with a mistake, and the mistake.
    pub(super) fn open(settings: Tls, metrics: Metrics) -> Result<Self, String> {
        let seen = Mutex::new(marks(&settings));
        let now = RwLock::new(read(&settings, &metrics)?);
        Ok(Self { settings, metrics, now, seen, told: Mutex::default() })
    }

    /// An acceptor with the certificates of the moment.
    pub(super) fn acceptor(&self, protocol: &[u8]) -> TlsAcceptor {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(if protocol == HTTP_2 { now.http_2.clone() } else { now.http_1.clone() })
    }

    /// A handshake has failed.
    pub(super) fn note_failure(&self) {
        self.metrics.tls_failures.inc();
    }

    /// Reads the files again where one has changed, at an interval.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let has_changed = *this.seen.lock().unwrap_or_else(PoisonError::into_inner) != marks(&this.settings);
                if has_changed {
                    this.renew();
                }
            });
            if looked.await.is_err() {
                return;
            }
        }
    }

    /// Reads the files again. It blocks.
    pub(super) fn renew(&self) {
        // One at a time: the last read is the newest.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = marks(&self.settings);
        match read(&self.settings, &self.metrics) {
            Ok(ready) => {
                *told = None;
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = ready;
                tracing::info!(certificate = %self.settings.certificate.display(), "certificates are read again; new connections get them");
            }
            // It is tried again at the next look, and told once.
            Err(why) if told.as_ref() == Some(&(now.clone(), why.clone())) => {}
            Err(why) => {
                tracing::error!(why, "certificates stay as they were");
                *told = Some((now, why));
            }
        }
    }
}

fn files(settings: &Tls) -> impl Iterator<Item = &PathBuf> {
    [&settings.certificate, &settings.key].into_iter().chain(&settings.client_ca)
}

fn marks(settings: &Tls) -> Vec<Option<FileMark>> {
    files(settings).map(|path| FileMark::of(path)).collect()
}

/// The provider of cryptography, which is the same on both sides.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(settings: &Tls, metrics: &Metrics) -> Result<Ready, String> {
    let Tls { certificate, key, client_ca, only_1_3, .. } = settings;
    let chain = certificates("tls.certificate", certificate)?;
    let private = fs::read(key).map_err(|error| format!("tls.key: {} cannot be read: {error}", key.display()))?;
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|error| format!("tls.key: {} holds no private key in PEM: {error}", key.display()))?;
    let versions: &[_] =
        if *only_1_3 { &[&rustls::version::TLS13] } else { &[&rustls::version::TLS13, &rustls::version::TLS12] };
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).map_err(|error| error.to_string())?;
    let mut expiries = BTreeMap::from([("server", expiry("tls.certificate", certificate, &chain)?)]);
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let authorities = certificates("tls.client_ca", path)?;
            expiries.insert("client_ca", expiry("tls.client_ca", path, &authorities)?);
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority).map_err(|error| format!("tls.client_ca: {}: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            // A client without one may have a token.
            let verifier = verifier.allow_unauthenticated().build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| format!("tls.client_ca: {}: {error}", path.display()))?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| {
        format!("tls.certificate = {} and tls.key = {}: {error}", certificate.display(), key.display())
    })?;
    // A session that goes on shows no certificate, so that one that has expired since would count.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    for (name, time) in expiries {
        metrics.certificate_expiry.with_label_values(&[name]).set(time as f64);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if time <= now as i64 {
            tracing::error!(certificate = name, "a certificate has expired; clients will refuse it");
        }
    }
    let speaks = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    Ok(Ready { http_2: speaks(HTTP_2), http_1: speaks(HTTP_1) })
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| format!("{key}: {} cannot be read: {error}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| format!("{key}: {} is no PEM: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{key}: {} holds no certificate in PEM", path.display()));
    }
    Ok(found)
}

/// When the first of them expires, in seconds since 1970.
fn expiry(key: &str, path: &Path, chain: &[CertificateDer<'_>]) -> Result<i64, String> {
    let ends = chain.iter().map(|der| Ok(parsed(der)?.validity().not_after.timestamp()));
    let ends: Result<Vec<_>, io::Error> = ends.collect();
    let ends = ends.map_err(|error| format!("{key}: {}: {error}", path.display()))?;
    ends.into_iter().min().ok_or_else(|| format!("{key}: {} holds no certificate", path.display()))
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> io::Result<X509Certificate<'a>> {
    let read = X509Certificate::from_der(der);
    read.map(|(_, certificate)| certificate)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("a certificate cannot be read: {error}")))
}

/// The certificate that a client has shown.
pub(super) fn shown(der: &CertificateDer<'_>) -> io::Result<Certificate> {
    let certificate = parsed(der)?;
    let expires = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    // One that ends far in the future may end beyond the times of the system.
    let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(expires));
    let expires = expires.ok_or_else(|| io::Error::other("a certificate ends at no time of this system"))?;
    Ok(Certificate { names: names_of(&certificate)?, expires })
}

/// The names in a certificate: those of DNS, mail, URIs and addresses, else the common name.
fn names_of(certificate: &X509Certificate<'_>) -> io::Result<Arc<[String]>> {
    let alternatives = certificate.subject_alternative_name().map_err(io::Error::other)?;
    let mut names: Vec<String> = alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                Some((*name).to_owned())
            }
            GeneralName::IPAddress([a, b, c, d]) => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            GeneralName::IPAddress(bytes) => {
                Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string())
            }
            _ => None,
        })
        .collect();
    // The common name counts where there are no others, as for servers.
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_owned));
    }
    Ok(names.into())
}
