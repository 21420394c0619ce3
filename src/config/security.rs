//! The settings that decide who may use the daemon, and which of them open a door.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};

use super::keys::{Keys, parsed, text};
use super::values::path;
use super::{Environment, first_folder};
use crate::role::Role;

/// The settings of access.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Callers over loopback TCP without credentials are admins.
    pub loopback_is_open: bool,
    /// Addresses that are not loopback may be without credentials, and without TLS.
    pub allow_unauthenticated_remote: bool,
    /// Ranks on several machines exchange their numbers in clear.
    pub allow_unencrypted_ranks: bool,
    /// Roles of users on the Unix socket, by name or number.
    pub users: BTreeMap<String, Role>,
    /// Roles of groups of users there, by name or number.
    pub groups: BTreeMap<String, Role>,
    /// TLS for addresses that are not loopback; None for none.
    pub tls: Option<Tls>,
    /// Something in front of `http.listen` encrypts, so that credentials may come in clear there.
    pub http_behind_proxy: bool,
    /// Users and the hashes of their passwords for HTTP, in the file format of exporter-toolkit.
    pub http_web_config: Option<PathBuf>,
}

/// TLS of the addresses that are not loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those between it and the root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Certificates that sign those of clients, in PEM; None where clients need a token.
    pub client_ca: Option<PathBuf>,
    /// Roles of clients by a name in their certificates; `*` for all others.
    pub client_names: BTreeMap<String, Role>,
    /// TLS 1.2 is refused.
    pub only_1_3: bool,
}

/// Files of systemd's `LoadCredential=` are named so.
const CREDENTIAL: &str = "credential:";

/// A path, or `credential:NAME` for a file that systemd has loaded.
fn credential<'a>(environment: &'a Environment) -> impl Fn(&Value) -> Result<PathBuf, String> + 'a {
    move |value| {
        let path = path(value)?;
        let Some(name) = path.to_str().and_then(|path| path.strip_prefix(CREDENTIAL)) else { return Ok(path) };
        match first_folder(environment, "CREDENTIALS_DIRECTORY") {
            Some(folder) => Ok(Path::new(folder).join(name)),
            None => Err(format!(
                "is {CREDENTIAL}{name}, and CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit that has LoadCredential={name}:PATH"
            )),
        }
    }
}

/// A table of names and roles, or what the environment can hold: `name=role` with commas between.
fn roles(value: &Value) -> Result<BTreeMap<String, Role>, String> {
    let right = "a table of names and roles is needed, such as { alice = \"admin\" }";
    let role = |name: &str, label: &str| match Role::from_label(label) {
        Some(role) if !name.is_empty() => Ok((name.to_owned(), role)),
        Some(_) => Err(format!("has a role without a name; {right}")),
        None => Err(format!("gives {name} the role {label:?}; viewer, submitter or admin is right")),
    };
    match &value.kind {
        ValueKind::Table(table) => {
            let label = |value: &Value| text(value).map_err(|wrong| format!("has a role that {wrong}"));
            table.iter().map(|(name, value)| role(name, &label(value)?)).collect()
        }
        ValueKind::String(list) => {
            let pairs = list.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            let pair = |pair: &str| match pair.split_once('=') {
                Some((name, label)) => role(name.trim(), label.trim()),
                None => Err(format!("has {pair:?}; name=role is right")),
            };
            pairs.map(pair).collect()
        }
        other => Err(format!("is {other}; {right}")),
    }
}

/// Reads and judges them. The addresses are those of `grpc.listen` and `http.listen`.
pub(super) fn read(
    keys: &mut Keys,
    environment: &Environment,
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
) -> Security {
    let switch = parsed("true or false is needed");
    let loopback_is_open = keys.take("security.loopback", |value| match text(value)?.as_str() {
        "token" => Ok(false),
        "open" => Ok(true),
        other => Err(format!("is {other:?}; token or open is right")),
    });
    let allow_unauthenticated_remote = keys.take("security.allow_unauthenticated_remote", &switch).unwrap_or(false);
    let allow_unencrypted_ranks = keys.take("security.allow_unencrypted_ranks", &switch).unwrap_or(false);
    let users = keys.take("security.users", roles).unwrap_or_default();
    let groups = keys.take("security.groups", roles).unwrap_or_default();
    let http_behind_proxy = keys.take("http.behind_proxy", &switch).unwrap_or(false);
    let http_web_config = keys.take("http.web_config", credential(environment));
    if let Some(file) = http_web_config.as_ref().filter(|file| !file.is_file()) {
        keys.add("http.web_config", format!("is {}, which is no file", file.display()));
    }
    let tls = read_tls(keys, environment);
    for (key, listen) in [("grpc.listen", grpc), ("http.listen", http)] {
        let Some(listen) = listen.filter(|listen| !listen.ip().is_loopback()) else { continue };
        let is_proxied = key == "http.listen" && http_behind_proxy;
        if tls.is_some() || allow_unauthenticated_remote || is_proxied {
            continue;
        }
        let proxy = match key {
            "http.listen" => "http.behind_proxy = true where a proxy on another machine encrypts, ",
            _ => "",
        };
        keys.add(
            key,
            format!(
                "is {listen}, which other machines can reach without encryption; set tls.certificate and tls.key, {proxy}or use 127.0.0.1; \
                 security.allow_unauthenticated_remote = true lets everybody in who reaches it, if that is meant"
            ),
        );
    }
    Security {
        loopback_is_open: loopback_is_open.unwrap_or(false),
        allow_unauthenticated_remote,
        allow_unencrypted_ranks,
        users,
        groups,
        tls,
        http_behind_proxy,
        http_web_config,
    }
}

fn read_tls(keys: &mut Keys, environment: &Environment) -> Option<Tls> {
    let files = [
        ("tls.certificate", keys.take("tls.certificate", credential(environment))),
        ("tls.key", keys.take("tls.key", credential(environment))),
        ("tls.client_ca", keys.take("tls.client_ca", credential(environment))),
    ];
    for (key, file) in &files {
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            keys.add(key, format!("is {}, which is no file", file.display()));
        }
    }
    let [(_, certificate), (_, key), (_, client_ca)] = files;
    let client_names = keys.take("tls.client_names", roles);
    let only_1_3 = keys.take("tls.min_version", |value| match text(value)?.as_str() {
        "1.2" => Ok(false),
        "1.3" => Ok(true),
        other => Err(format!("is {other:?}; \"1.2\" or \"1.3\" is right")),
    });
    match (&client_ca, &client_names) {
        (Some(_), names) if names.as_ref().is_none_or(BTreeMap::is_empty) => {
            let right = "{ \"ci.example.org\" = \"submitter\" }, with \"*\" for all others";
            keys.add("tls.client_names", format!("is missing, and tls.client_ca is set; it gives clients their roles by a name in their certificates: {right}"));
        }
        (None, Some(_)) => {
            keys.add("tls.client_names", "needs tls.client_ca: the certificates that sign those of clients".into());
        }
        _ => {}
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Tls {
            certificate,
            key,
            client_ca,
            client_names: client_names.unwrap_or_default(),
            only_1_3: only_1_3.unwrap_or(false),
        }),
        (None, None) => {
            if client_ca.is_some() {
                keys.add("tls.client_ca", "needs tls.certificate and tls.key: those of torchd".into());
            }
            None
        }
        (Some(_), None) => {
            keys.add("tls.key", "is missing: the private key of tls.certificate".into());
            None
        }
        (None, Some(_)) => {
            keys.add("tls.certificate", "is missing: the certificate of tls.key".into());
            None
        }
    }
}

/// The lines of a settings file, by their sections: `security`, `tls`, and what belongs to `http`.
pub(super) fn to_toml(security: &Security, quoted: impl Fn(&str) -> String) -> (String, String) {
    let path = |path: &Path| quoted(&path.display().to_string());
    let table = |roles: &BTreeMap<String, Role>| {
        let pairs: Vec<_> = roles.iter().map(|(name, role)| format!("{} = \"{role}\"", quoted(name))).collect();
        if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
    };
    let http = format!(
        "behind_proxy = {}\n{}",
        security.http_behind_proxy,
        match &security.http_web_config {
            Some(file) => format!("web_config = {}\n", path(file)),
            None => "# web_config is not set: no passwords, tokens alone\n".to_owned(),
        }
    );
    let mut own = format!(
        "\n[security]\nloopback = \"{}\"\nallow_unauthenticated_remote = {}\nallow_unencrypted_ranks = {}\nusers = {}\ngroups = {}\n",
        if security.loopback_is_open { "open" } else { "token" },
        security.allow_unauthenticated_remote,
        security.allow_unencrypted_ranks,
        table(&security.users),
        table(&security.groups),
    );
    match &security.tls {
        None => own.push_str("\n[tls]\n# certificate and key are not set: no TLS\n"),
        Some(Tls { certificate, key, client_ca, client_names, only_1_3 }) => {
            own.push_str(&format!("\n[tls]\ncertificate = {}\nkey = {}\n", path(certificate), path(key)));
            if let Some(client_ca) = client_ca {
                own.push_str(&format!("client_ca = {}\nclient_names = {}\n", path(client_ca), table(client_names)));
            }
            own.push_str(&format!("min_version = \"{}\"\n", if *only_1_3 { "1.3" } else { "1.2" }));
        }
    }
    (http, own)
}
