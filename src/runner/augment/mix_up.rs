//! Examples that are mixed with others of the batch.

use torchd::job::spec::data::augment::MixUp as Settings;

use super::{Change, beta, mix_targets, partners};
use crate::failure::Result;
use crate::feed::{Examples, moved};

/// The change.
pub(super) struct MixUp {
    pub(super) settings: Settings,
}

impl Change for MixUp {
    fn change(&self, examples: &mut Examples) -> Result<()> {
        let share = beta(self.settings.alpha)?;
        let partners = moved(&partners(examples)?, examples.device())?;
        for input in &mut examples.inputs {
            let others = input.f_index_select(0, &partners)?.f_mul_scalar(1.0 - share)?;
            *input = input.f_mul_scalar(share)?.f_add(&others)?;
        }
        mix_targets(examples, &partners, share)
    }
}
