//! The division of the rows of one set into those to learn from and those to judge by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::draw::{mix, shuffle};
use super::{Content, Problem, Rows};

/// How the rows of the training files become sets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Division {
    /// The rows that are held out for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// No more rows than this are taken of a set, drawn at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// The rows that are held out for validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Split {
    /// A share of them, drawn at random.
    Fraction {
        /// The share: above 0 and below 1.
        fraction: f64,
        /// Seed of the draw.
        seed: u64,
        /// Of each class the same share.
        stratify: bool,
    },
    /// Those for which a column of a table says `validation`. The others say `train`, or `test`,
    /// which leaves them out.
    Column(String),
}

/// The fields of a division, below `data`.
const FRACTION: &str = "split.fraction";
const STRATIFY: &str = "split.stratify";
pub(super) const COLUMN: &str = "split.column";

/// Seed of the rows that a limit leaves.
const SEED_OF_LIMIT: u64 = 0;

impl Division {
    /// The column of a table that divides it.
    pub fn column(&self) -> Option<&str> {
        match &self.split {
            Some(Split::Column(column)) => Some(column),
            Some(Split::Fraction { .. }) | None => None,
        }
    }

    /// The rows of a set that is not split.
    pub fn whole(&self, rows: u64) -> Result<Rows, Problem> {
        let Some(limit) = self.limit.filter(|limit| *limit < rows) else { return Ok(Rows::All(rows)) };
        let mut chosen = numbers(rows)?;
        shuffle(&mut chosen, mix(SEED_OF_LIMIT));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Rows::chosen(chosen.into_iter().take(limit).map(u64::from)))
    }

    /// The rows of the training files: to learn from, and to judge by, where they are split.
    ///
    /// # Errors
    /// The field of the division that cannot be met, and why.
    pub fn divide(&self, content: &dyn Content) -> Result<(Rows, Option<Rows>), Problem> {
        let rows = self.whole(content.rows())?;
        let (train, held_out) = match &self.split {
            None => return Ok((rows, None)),
            Some(Split::Column(column)) => {
                let parts = content.parts_by(column).map_err(|problem| problem.at(COLUMN))?;
                let of = |part: Part| {
                    let is_of = |row: &u64| parts.get(*row as usize) == Some(&part);
                    Rows::chosen(rows.iter().filter(is_of))
                };
                let (train, held_out) = (of(Part::Train), of(Part::Validation));
                for (name, part) in [("train", &train), ("validation", &held_out)] {
                    if part.count() == 0 {
                        return Err(Problem::of_field(COLUMN, format!("is {column:?}, which says {name:?} in no row")));
                    }
                }
                (train, held_out)
            }
            Some(Split::Fraction { fraction, seed, stratify }) => {
                if let Some(what) = content.overlap() {
                    return Err(Problem::of_field(FRACTION, what));
                }
                let count = rows.count();
                let wanted = ((count as f64) * fraction).round() as u64;
                if wanted == 0 || wanted >= count {
                    let what = format!(
                        "is {fraction}, which makes {wanted} of {count} examples; one at least has to be in each set"
                    );
                    return Err(Problem::of_field(FRACTION, what));
                }
                numbers(count)?;
                let all = rows.iter().map(|row| row as u32);
                let groups = if *stratify {
                    let strata = content.strata().map_err(|problem| problem.at(STRATIFY))?;
                    let mut groups = BTreeMap::<u32, Vec<u32>>::new();
                    for row in all {
                        groups.entry(strata.get(row as usize).copied().unwrap_or(0)).or_default().push(row);
                    }
                    groups.into_values().collect()
                } else {
                    vec![all.collect()]
                };
                draw(groups, *fraction, wanted, *seed)
            }
        };
        Ok((train, Some(held_out)))
    }
}

/// The set that a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// To learn from.
    Train,
    /// To judge by.
    Validation,
    /// Left out.
    Neither,
}

impl Part {
    /// The part that a word names.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "train" => Some(Self::Train),
            "validation" => Some(Self::Validation),
            "test" => Some(Self::Neither),
            _ => None,
        }
    }
}

/// Holds `wanted` rows out, of each group as close to the share as whole rows allow (largest
/// remainders).
fn draw(groups: Vec<Vec<u32>>, fraction: f64, wanted: u64, seed: u64) -> (Rows, Rows) {
    let mut shares: Vec<(usize, f64)> = groups
        .iter()
        .map(|group| group.len() as f64 * fraction)
        .map(|share| (share.floor() as usize, share - share.floor()))
        .collect();
    let given: u64 = shares.iter().map(|(whole, _)| *whole as u64).sum();
    let mut by_rest: Vec<usize> = (0..groups.len()).collect();
    by_rest.sort_by(|one, other| shares[*other].1.total_cmp(&shares[*one].1).then(one.cmp(other)));
    for group in by_rest.into_iter().cycle().take(wanted.saturating_sub(given) as usize) {
        shares[group].0 += 1;
    }
    let mut parts = Vec::with_capacity(groups.len());
    for ((mut group, (count, _)), number) in groups.into_iter().zip(shares).zip(0u64..) {
        shuffle(&mut group, mix(mix(seed).wrapping_add(number)));
        parts.push((count.min(group.len()), group));
    }
    let of =
        |part: fn(&(usize, Vec<u32>)) -> &[u32]| Rows::chosen(parts.iter().flat_map(part).map(|row| (*row).into()));
    (of(|(held_out, group)| &group[*held_out..]), of(|(held_out, group)| &group[..*held_out]))
}

/// The numbers of so many rows.
fn numbers(rows: u64) -> Result<Vec<u32>, Problem> {
    let too_many = |_| {
        let what = format!("is set, and the set has {rows} rows; {} at most can be divided", u32::MAX);
        Problem::of_field("split", what)
    };
    Ok((0..u32::try_from(rows).map_err(too_many)?).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_the_same_for_a_seed_and_of_each_group() {
        let groups = || vec![(0..50).collect::<Vec<_>>(), (50..57).collect(), vec![57, 58, 59]];
        let (train, held_out) = draw(groups(), 0.2, 12, 3);
        assert_eq!((train.count(), held_out.count()), (48, 12));
        let of = |from: u64, to: u64| held_out.iter().filter(|row| (from..to).contains(row)).count();
        assert_eq!((of(0, 50), of(50, 57), of(57, 60)), (10, 1, 1));
        let mut all: Vec<_> = train.iter().chain(held_out.iter()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>());
        assert_eq!(draw(groups(), 0.2, 12, 3), (train, held_out.clone()));
        assert_ne!(draw(groups(), 0.2, 12, 4).1, held_out);
    }

    #[test]
    fn a_limit_draws_from_all_rows() {
        let division = Division { split: None, limit: Some(10) };
        let rows = division.whole(1000).unwrap();
        assert_eq!(rows.count(), 10);
        assert!(rows.iter().any(|row| row > 500) && rows.iter().is_sorted());
        assert_eq!(division.whole(10).unwrap(), Rows::All(10));
    }
}
