//! The parts of training in which ranks differ: one leads, the others follow it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use torchd::proto::v1::JobEndReason;
use torchd::sha256::Sha256;

use crate::checkpoint::{self, Loaded, Snapshot};
use crate::failure::{Failure, Result};
use crate::feed::Feed;
use crate::probe::libtorch_version;
use crate::ranks::Ranks;
use crate::report::Report;
use crate::sums::Sums;
use crate::train::Training;
use crate::validation::Validated;

/// The part of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It tells and writes. So does a process that is alone.
    Leads,
    /// It does neither.
    Follows,
}

/// The values of a validation pass, by their bits: a loss may be no number.
#[derive(Serialize, Deserialize)]
struct Told {
    loss: u64,
    metrics: Vec<(String, u64)>,
}

impl Training {
    /// Whether this process tells and writes.
    pub(crate) fn leads(&self) -> bool {
        self.ranks.as_ref().is_none_or(Ranks::leads)
    }

    /// No step is in hand: the first rank tells how long that takes, and the others wait for it.
    pub(crate) fn rest(&self, report: &Report) {
        if self.leads() { report.journal().rests() } else { report.journal().waits_for_others() }
    }

    /// Takes up the metrics of the shards of other ranks.
    pub(crate) fn share_lanes(&self, sums: &Sums) -> Result<()> {
        let Some((ranks, shards)) = self.ranks.as_ref().zip(self.work.recipe.shards) else { return Ok(()) };
        let own = ranks.shards(shards);
        let values = sums.of_lanes(own.start as usize..own.end as usize)?;
        if values.numel() > 0 {
            let all = ranks.gathered(&values)?;
            sums.set_lanes(0..shards as usize, &all.f_view([-1])?)?;
        }
        Ok(())
    }

    /// Fails where another rank has other weights or another state than this one.
    pub(crate) fn compare(&self, snapshots: &[&Snapshot]) -> Result<Role> {
        let Some(ranks) = &self.ranks else { return Ok(Role::Leads) };
        let mut digest = Sha256::default();
        snapshots.iter().for_each(|snapshot| snapshot.add_to(&mut digest));
        ranks.compare(&format!("the state after step {}", self.place.step), &digest.finish())?;
        Ok(if ranks.leads() { Role::Leads } else { Role::Follows })
    }

    /// Fails where the ranks do not train the same: spec, data, versions and machine.
    pub(crate) fn compare_beginnings(&self) -> Result<()> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        let text = |what: &dyn std::fmt::Debug| Sha256::of(format!("{what:?}").as_bytes());
        ranks.compare("torchd", &Sha256::of(env!("CARGO_PKG_VERSION").as_bytes()))?;
        ranks.compare("libtorch", &Sha256::of(libtorch_version().as_bytes()))?;
        ranks.compare("the spec", &text(&self.work))?;
        ranks.compare("the processor", &text(&self.context))?;
        ranks.compare("the data", &text(&self.trained_on)).map_err(|failure| match failure.reason {
            JobEndReason::Internal => Failure::new(JobEndReason::BadData, failure.message),
            _ => failure,
        })
    }

    /// Something that the first rank alone finds out.
    pub(crate) fn known_by_first<T: Serialize + serde::de::DeserializeOwned>(
        &self,
        find: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match &self.ranks {
            None => find(),
            Some(ranks) => {
                let found = ranks.leads().then(find).transpose()?;
                ranks.tell(found.as_ref())
            }
        }
    }

    /// A checkpoint that the first rank has found, which the others read after it.
    pub(crate) fn found_by_first(&self, find: impl FnOnce() -> Result<Option<Loaded>>) -> Result<Option<Loaded>> {
        found_by_first(self.ranks.as_ref(), find, |step| checkpoint::at(&self.folder, step))
    }

    /// The values of a validation pass, as [`Training::validate`] has them: of all ranks slice by
    /// slice, or of the first, where a metric keeps more than sums. It alone has the matrices then.
    pub(crate) fn validated(
        &mut self,
        feed: &mut Feed,
        go_on: impl FnMut(Option<Duration>) -> Result<bool>,
    ) -> Result<Option<Validated>> {
        if let Some(shards) = self.work.recipe.shards.filter(|_| self.metrics_are_sums()) {
            return self.validate_slices(shards, feed, go_on);
        }
        let validated = if self.leads() { self.validate(feed, go_on)? } else { None };
        let Some(ranks) = &self.ranks else { return Ok(validated) };
        let told = validated.as_ref().map(|Validated { loss, metrics, .. }| Told {
            loss: loss.to_bits(),
            metrics: metrics.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect(),
        });
        let told: Option<Told> = ranks.tell(ranks.leads().then_some(&told))?;
        Ok(match (validated, told) {
            (None, Some(Told { loss, metrics })) => Some(Validated {
                loss: f64::from_bits(loss),
                metrics: metrics.into_iter().map(|(name, bits)| (name, f64::from_bits(bits))).collect(),
                matrices: Vec::new(),
            }),
            (validated, _) => validated,
        })
    }
}

/// A checkpoint that the first rank has found by `find`. The others read it after that by `read`,
/// which hears its step.
pub(crate) fn found_by_first(
    ranks: Option<&Ranks>,
    find: impl FnOnce() -> Result<Option<Loaded>>,
    read: impl FnOnce(u64) -> Result<Loaded>,
) -> Result<Option<Loaded>> {
    let Some(ranks) = ranks else { return find() };
    let found = if ranks.leads() { find()? } else { None };
    let step = found.as_ref().map(|loaded| loaded.manifest.place.step);
    let step = ranks.tell(ranks.leads().then_some(&step))?;
    if ranks.leads() { Ok(found) } else { step.map(read).transpose() }
}
