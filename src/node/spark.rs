//! Whether Apache Spark is on this node.

use super::NodeSource;
use crate::proto::v1::Presence;

pub(super) fn presence(source: &NodeSource) -> Presence {
    let homes =
        [source.variable("SPARK_HOME").map(str::to_owned), Some("/databricks/spark".into()), Some("/opt/spark".into())];
    let found = homes.into_iter().flatten().find(|home| source.path(home).is_dir());
    match found {
        Some(home) => {
            let named = |file: &str| source.file(&format!("{home}/{file}"));
            let version = named("VERSION").unwrap_or_default().trim().to_owned();
            // A distribution tells its version in the first line of RELEASE: "Spark 3.5.0 built for
            // ...".
            let released = || named("RELEASE").and_then(|text| Some(text.split_whitespace().nth(1)?.to_owned()));
            Presence {
                present: true,
                version: if version.is_empty() { released().unwrap_or_default() } else { version },
                evidence: format!("the folder {home}"),
                meaning: "Spark runs locally on a driver-only cluster and shares this node's CPUs and memory with jobs; it does \
                          not schedule GPUs there, torchd does"
                    .into(),
            }
        }
        None => Presence {
            present: false,
            version: String::new(),
            evidence: "neither SPARK_HOME, nor /databricks/spark, nor /opt/spark".into(),
            meaning: "nothing is lost: torchd does not use Spark".into(),
        },
    }
}
