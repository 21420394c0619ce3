//! Whether a Databricks runtime is on this node.

use super::NodeSource;
use crate::proto::v1::Presence;

const VARIABLE: &str = "DATABRICKS_RUNTIME_VERSION";

pub(super) fn presence(source: &NodeSource) -> Presence {
    let present = |version: &str, evidence: String| Presence {
        present: true,
        version: version.to_owned(),
        evidence,
        meaning:
            "this is the driver of a Databricks cluster: its local disk goes away with the cluster, so copy results \
                  to cloud storage, and the notebooks on it share this node's memory and GPUs with jobs"
                .into(),
    };
    if let Some(version) = source.variable(VARIABLE) {
        return present(version, format!("{VARIABLE} in the environment"));
    }
    if let Some(runtime) = &source.runtime {
        return present(runtime, "cluster.runtime in the settings".into());
    }
    if source.path("/databricks").is_dir() {
        let version = source.file("/databricks/DBR_VERSION").unwrap_or_default();
        return present(version.trim(), "the folder /databricks".into());
    }
    Presence {
        present: false,
        version: String::new(),
        evidence: format!("neither {VARIABLE}, nor cluster.runtime in the settings, nor the folder /databricks"),
        meaning: "an ordinary machine; torchd needs no runtime".into(),
    }
}
