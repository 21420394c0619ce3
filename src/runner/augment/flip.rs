//! Images that are mirrored at random.

use torchd::job::spec::data::augment::Flip as Settings;

use super::{Change, uniform};
use crate::failure::Result;
use crate::feed::{Examples, moved};

/// The change.
pub(super) struct Flip {
    pub(super) settings: Settings,
    pub(super) image: usize,
}

impl Change for Flip {
    fn change(&self, examples: &mut Examples) -> Result<()> {
        let Settings { p, is_vertical } = self.settings;
        let flips = uniform(examples.size(), 1)?.f_lt(p)?.f_view([-1, 1, 1, 1])?;
        let flips = moved(&flips, examples.device())?;
        let images = &mut examples.inputs[self.image];
        let dimension = if is_vertical { -2 } else { -1 };
        *images = images.f_flip([dimension])?.f_where_self(&flips, images)?;
        Ok(())
    }
}
