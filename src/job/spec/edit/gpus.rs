//! A model has as many ranks as GPUs: an edit of one number is one of both.

use prost_reflect::DynamicMessage;

use super::Spec;
use crate::proto::text;
use crate::proto::v1::FieldEdit;

/// Edits the other number, where a job on GPUs has an edit of one of them.
pub(super) fn keep_ranks_with(spec: &Spec, message: &mut DynamicMessage, edits: &[FieldEdit]) {
    if spec.resources.gpus().is_none() || spec.model().is_none() {
        return;
    }
    let of = |path: &str| edits.iter().find(|edit| edit.path == path);
    let (gpus, ranks) = ("resources.gpu_count", "resources.ranks");
    let (other, edit) = match (of(gpus), of(ranks)) {
        (Some(edit), None) => (ranks, edit),
        (None, Some(edit)) => (gpus, edit),
        _ => return,
    };
    if let Ok(count @ 1..) = edit.value.parse::<u32>() {
        // A value that is wrong is told of the field that was edited.
        let _ = text::set(message, other, count.into());
    }
}
