//! Folders that outlive the machine, below `output.mirror_roots`: where results are copied to, and
//! where ranks of other machines have their mailboxes.

use super::ManagerSettings;
use crate::job::Violations;
use crate::mirror;
use crate::proto::v1;

/// Those that a request names.
pub(super) fn named(message: &v1::JobSpec) -> Vec<String> {
    [copies(message), storage(message)].into_iter().flatten().map(str::to_owned).collect()
}

/// The folder that the results of a job are copied to.
pub(super) fn judge_mirror(
    message: &v1::JobSpec,
    settings: &ManagerSettings,
    wrong: &mut Violations,
) -> Option<String> {
    judge("output.mirror", copies(message)?, settings, wrong)
}

/// The folder of the mailboxes of a job's ranks.
pub(super) fn judge_storage(
    message: &v1::JobSpec,
    settings: &ManagerSettings,
    wrong: &mut Violations,
) -> Option<String> {
    judge("scale.storage", storage(message)?, settings, wrong)
}

fn copies(message: &v1::JobSpec) -> Option<&str> {
    message.output.as_ref().map(|output| output.mirror.as_str()).filter(|mirror| !mirror.is_empty())
}

fn storage(message: &v1::JobSpec) -> Option<&str> {
    message.scale.as_ref().map(|scale| scale.storage.as_str()).filter(|storage| !storage.is_empty())
}

fn judge(field: &str, wanted: &str, settings: &ManagerSettings, wrong: &mut Violations) -> Option<String> {
    match mirror::judge(wanted, &settings.mirror_roots) {
        Ok(path) => Some(path.display().to_string()),
        Err(mirror::Refusal { what, unjudged }) => {
            wrong.add_found(field, what, unjudged);
            None
        }
    }
}
