//! The sources of settings: the file, the environment, the flags.

use std::path::Path;

use config::{Config, File, FileFormat, Source, Value, ValueKind};

use super::keys::Mistake;
use super::{DEFAULT_FILE, Environment, Flags};

/// All sources in one, the later ones before the earlier. Adds what no source can mean to `odd`.
///
/// # Errors
/// The settings file cannot be read.
pub(super) fn merge(
    flags: &Flags,
    environment: &Environment,
    odd: &mut Vec<Mistake>,
) -> Result<Config, config::ConfigError> {
    let (file, is_required) = match &flags.config {
        Some(file) => (file.as_path(), true),
        None => (Path::new(DEFAULT_FILE), false),
    };
    let mut builder = Config::builder();
    if is_required || file.exists() {
        // Read by us: the crate would look for other endings of the name, and its error hides the
        // cause.
        let content = std::fs::read_to_string(file)
            .map_err(|error| config::ConfigError::Message(format!("{} cannot be read: {error}", file.display())))?;
        let parsed = File::from_str(&content, FileFormat::Toml).collect();
        let parsed = parsed.map_err(|error| config::ConfigError::Message(format!("{}: {error}", file.display())))?;
        builder = builder.add_source(FromFile::new(&file.display().to_string(), parsed, odd));
    }
    for (name, value) in environment {
        if let Some(rest) = name.strip_prefix("TORCHD__").filter(|rest| !rest.is_empty()) {
            let key = rest.replace("__", ".").to_lowercase();
            if !is_key(&key) {
                let what = "no such setting; TORCHD__SECTION__KEY is the form, in letters, digits and _".to_owned();
                odd.push(Mistake { key, origin: name.clone(), what });
                continue;
            }
            builder = builder.set_override(key, set_by(name, value.as_str()))?;
        }
    }
    let mut text = |key: &str, flag: &str, path: &Path| match path.to_str() {
        Some(text) => Some(text.to_owned()),
        None => {
            let what = format!("is {path:?}, which is not UTF-8; a path that is text is needed");
            odd.push(Mistake { key: key.into(), origin: flag.into(), what });
            None
        }
    };
    let state_dir = flags.state_dir.as_ref().and_then(|path| text("state_dir", "--state-dir", path));
    let data_roots: Vec<_> =
        flags.data_roots.iter().filter_map(|root| text("data.roots", "--data-root", root)).collect();
    let set = [
        ("state_dir", "--state-dir", state_dir),
        ("grpc.listen", "--grpc-listen", flags.grpc_listen.clone()),
        ("http.listen", "--http-listen", flags.http_listen.clone()),
    ];
    for (key, flag, value) in set {
        if let Some(value) = value {
            builder = builder.set_override(key, set_by(flag, value))?;
        }
    }
    if !data_roots.is_empty() {
        let roots: Vec<Value> = data_roots.into_iter().map(|root| set_by("--data-root", root)).collect();
        builder = builder.set_override("data.roots", set_by("--data-root", ValueKind::Array(roots)))?;
    }
    builder.build()
}

fn set_by(origin: &str, value: impl Into<ValueKind>) -> Value {
    Value::new(Some(&origin.to_owned()), value)
}

/// Whether the crate takes a key for names alone: to it `a[9]` is the tenth of a list, which it
/// makes that long.
fn is_key(key: &str) -> bool {
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    key.split('.').all(is_name)
}

/// The values of the settings file, each with the file's name as its origin.
#[derive(Debug, Clone)]
struct FromFile(config::Map<String, Value>);

impl FromFile {
    fn new(path: &str, parsed: config::Map<String, Value>, odd: &mut Vec<Mistake>) -> Self {
        fn mark(value: Value, path: &String) -> Value {
            let kind = match value.kind {
                ValueKind::Table(table) => {
                    ValueKind::Table(table.into_iter().map(|(name, value)| (name, mark(value, path))).collect())
                }
                other => other,
            };
            Value::new(Some(path), kind)
        }
        let path = path.to_owned();
        let (right, wrong): (Vec<_>, Vec<_>) = parsed.into_iter().partition(|(key, _)| is_key(key));
        odd.extend(wrong.into_iter().map(|(key, _)| Mistake {
            key: format!("{key:?}"),
            origin: path.clone(),
            what: "no such setting; names are letters, digits and _".into(),
        }));
        Self(right.into_iter().map(|(key, value)| (key, mark(value, &path))).collect())
    }
}

impl Source for FromFile {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}
