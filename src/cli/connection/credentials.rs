//! The credentials of calls: a token, certificates.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};

use super::super::arguments::AccessArguments;
use super::super::failure::Failure;
use super::{listener, place};

/// Where the token of a service lies, for root and the service's user.
const OF_MACHINE: &str = "/var/lib/torchd/token";

/// A token that each call gets, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Token {
    fn new(text: &str, source: &str) -> Result<Self, Failure> {
        let value = MetadataValue::try_from(format!("Bearer {}", text.trim()));
        match value {
            Ok(mut value) if !text.trim().is_empty() => {
                value.set_sensitive(true);
                Ok(Self(Some(value)))
            }
            _ => Err(Failure::Mistake(format!("{source} holds no token: {} bytes", text.len()))),
        }
    }

    /// The token of TORCHD_TOKEN, else that of the file that is named.
    pub(super) fn given(access: &AccessArguments) -> Result<Option<Self>, Failure> {
        if let Some(text) = std::env::var_os("TORCHD_TOKEN").filter(|text| !text.is_empty()) {
            return Self::new(&text.to_string_lossy(), "TORCHD_TOKEN").map(Some);
        }
        let Some(path) = &access.token_file else { return Ok(None) };
        let cannot = |error: io::Error| Failure::Mistake(format!("--token-file {}: {error}", path.display()));
        let text = fs::read_to_string(path).map_err(cannot)?;
        Self::new(&text, &path.display().to_string()).map(Some)
    }

    /// The token in the state folder of a daemon on this machine, with the user who listens on the
    /// port: the folder's or root. No other listener gets it.
    pub(super) fn of_this_machine(port: u16) -> Option<(Self, u32)> {
        let listener = listener::of_port(port)?;
        let files = place::own_state().map(|state| state.join("token")).into_iter().chain([PathBuf::from(OF_MACHINE)]);
        let good = |path: &PathBuf| {
            let about = fs::metadata(path).ok()?;
            if listener != 0 && listener != about.uid() {
                return None;
            }
            Self::new(&fs::read_to_string(path).ok()?, "").ok()
        };
        files.into_iter().find_map(|path| good(&path)).map(|token| (token, listener))
    }
}

/// The files of TLS.
#[derive(Default)]
pub(super) struct Files {
    authorities: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    /// Reads those that are named.
    pub(super) fn read(access: &AccessArguments) -> Result<Self, Failure> {
        let read = |flag: &str, path: &Path| {
            fs::read(path).map_err(|error| Failure::Mistake(format!("{flag} {}: {error}", path.display())))
        };
        let authorities = access.ca.as_deref().map(|path| read("--ca", path)).transpose()?;
        let identity = match (&access.cert, &access.key) {
            (Some(cert), Some(key)) => Some((read("--cert", cert)?, read("--key", key)?)),
            (None, None) => None,
            _ => return Err(Failure::Mistake("--cert and --key go together".into())),
        };
        Ok(Self { authorities, identity })
    }

    /// The settings of a connection: the system's authorities unless others are named.
    pub(super) fn tls(self) -> ClientTlsConfig {
        let tls = match self.authorities {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match self.identity {
            Some((cert, key)) => tls.identity(Identity::from_pem(cert, key)),
            None => tls,
        }
    }
}
