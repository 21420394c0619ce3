//! The division of the rows of one set into those to learn from and those to judge by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::draw::{self, mix, shuffle};
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

/// Rows that become a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The rows. Of files that were read in part, some of those that were read.
    pub rows: Rows,
    /// Its examples: one for each row, or of files that were read in part as many as all of them
    /// are expected to have.
    pub examples: u64,
}

/// The fields of a division, below `data`.
const LIMIT: &str = "limit";
const FRACTION: &str = "split.fraction";
const STRATIFY: &str = "split.stratify";
pub(super) const COLUMN: &str = "split.column";

/// Seed of the rows that a limit leaves.
const SEED_OF_LIMIT: u64 = 0;
/// More rows than this are drawn in one pass over them, which takes a bit a row; the order of fewer
/// is shuffled. Which rows a job has depends on it: it never changes.
const MOST_SHUFFLED: u64 = 1 << 26;

impl Division {
    /// The column of a table that divides it.
    pub fn column(&self) -> Option<&str> {
        match &self.split {
            Some(Split::Column(column)) => Some(column),
            Some(Split::Fraction { .. }) | None => None,
        }
    }

    /// The rows of a set that is not split.
    ///
    /// # Errors
    /// The limit, where there are too many rows to draw from.
    pub fn whole(&self, content: &dyn Content) -> Result<Share, Problem> {
        if let Some(all) = content.estimate() {
            // Most of the rows that a limit draws were not read.
            let examples = self.limit.map_or(all, |limit| limit.min(all));
            return Ok(Share { rows: Rows::All(content.rows()), examples });
        }
        let rows = self.limited(content.rows())?;
        Ok(Share { examples: rows.count(), rows })
    }

    fn limited(&self, rows: u64) -> Result<Rows, Problem> {
        let Some(limit) = self.limit.filter(|limit| *limit < rows) else { return Ok(Rows::All(rows)) };
        countable(rows, LIMIT)?;
        let seed = mix(SEED_OF_LIMIT);
        if rows > MOST_SHUFFLED {
            let drawn = select((0..rows).map(|row| (row, 0)), vec![(limit, rows)], seed);
            return Ok(Rows::chosen(drawn.filter_map(|(row, is_drawn)| is_drawn.then_some(row))));
        }
        let mut chosen: Vec<_> = (0..rows as u32).collect();
        shuffle(&mut chosen, seed);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Rows::chosen(chosen.into_iter().take(limit).map(u64::from)))
    }

    /// The rows of the training files: to learn from, and to judge by, where they are split.
    ///
    /// # Errors
    /// The field of the division that cannot be met, and why.
    pub fn divide(&self, content: &dyn Content) -> Result<(Share, Option<Share>), Problem> {
        let whole = self.whole(content)?;
        let Share { rows, examples } = &whole;
        match &self.split {
            None => Ok((whole, None)),
            Some(Split::Column(column)) => {
                let parts = content.parts_by(column).map_err(|problem| problem.at(COLUMN))?;
                let of = |name: &str, part: Part| {
                    let is_of = |row: &u64| parts.get(*row as usize) == Some(&part);
                    let of_part = Rows::chosen(rows.iter().filter(is_of));
                    match (of_part.count(), content.estimate()) {
                        (0, None) => {
                            let what = format!("is {column:?}, which says {name:?} in no row");
                            Err(Problem::of_field(COLUMN, what))
                        }
                        // Its rows come later: how many there are is not known.
                        (0, Some(_)) => Ok(whole.clone()),
                        (count, _) => Ok(Share { rows: of_part, examples: scaled(*examples, count, rows.count()) }),
                    }
                };
                Ok((of("train", Part::Train)?, Some(of("validation", Part::Validation)?)))
            }
            Some(Split::Fraction { fraction, seed, stratify }) => {
                if let Some(what) = content.overlap() {
                    return Err(Problem::of_field(FRACTION, what));
                }
                let share = |count: u64| ((count as f64) * fraction).round() as u64;
                let held_out = share(*examples);
                if held_out == 0 || held_out >= *examples {
                    let what = format!(
                        "is {fraction}, which makes {held_out} of {examples} examples; one at least has to be in each \
                         set"
                    );
                    return Err(Problem::of_field(FRACTION, what));
                }
                countable(content.rows(), FRACTION)?;
                let strata =
                    if *stratify { content.strata().map_err(|problem| problem.at(STRATIFY))? } else { Vec::new() };
                let group = |row: u64| strata.get(row as usize).copied().unwrap_or(0);
                let count = rows.count();
                let (train, validation) = if count > MOST_SHUFFLED {
                    draw_in_passes(rows, group, *fraction, share(count), *seed)
                } else {
                    let mut groups = BTreeMap::<u32, Vec<u32>>::new();
                    rows.iter().for_each(|row| groups.entry(group(row)).or_default().push(row as u32));
                    draw_shuffled(groups.into_values().collect(), *fraction, share(count), *seed)
                };
                let train = Share { rows: train, examples: examples - held_out };
                Ok((train, Some(Share { rows: validation, examples: held_out })))
            }
        }
    }
}

/// As large a part of `all` as `part` is of `of`; one at least.
pub(super) fn scaled(all: u64, part: u64, of: u64) -> u64 {
    ((u128::from(all) * u128::from(part) / u128::from(of.max(1))) as u64).max(1)
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

/// How many rows of each group are held out, `wanted` together: as close to the share as whole rows
/// allow (largest remainders).
fn shares(sizes: &[u64], fraction: f64, wanted: u64) -> Vec<u64> {
    let exact: Vec<_> = sizes.iter().map(|size| *size as f64 * fraction).collect();
    let mut shares: Vec<_> = exact.iter().map(|share| share.floor() as u64).collect();
    let mut by_rest: Vec<usize> = (0..sizes.len()).collect();
    by_rest.sort_by(|one, other| exact[*other].fract().total_cmp(&exact[*one].fract()).then(one.cmp(other)));
    let given: u64 = shares.iter().sum();
    for group in by_rest.into_iter().cycle().take(wanted.saturating_sub(given) as usize) {
        shares[group] += 1;
    }
    shares
}

/// Holds `wanted` rows out, of each group the same share.
fn draw_shuffled(groups: Vec<Vec<u32>>, fraction: f64, wanted: u64, seed: u64) -> (Rows, Rows) {
    let sizes: Vec<_> = groups.iter().map(|group| group.len() as u64).collect();
    let mut parts = Vec::with_capacity(groups.len());
    for ((mut group, count), number) in groups.into_iter().zip(shares(&sizes, fraction, wanted)).zip(0u64..) {
        shuffle(&mut group, mix(mix(seed).wrapping_add(number)));
        parts.push(((count as usize).min(group.len()), group));
    }
    let of =
        |part: fn(&(usize, Vec<u32>)) -> &[u32]| Rows::chosen(parts.iter().flat_map(part).map(|row| (*row).into()));
    (of(|(held_out, group)| &group[*held_out..]), of(|(held_out, group)| &group[..*held_out]))
}

/// The same of more rows, a bit each: other rows than [`draw_shuffled`] takes, as many of each group.
fn draw_in_passes(rows: &Rows, group: impl Fn(u64) -> u32, fraction: f64, wanted: u64, seed: u64) -> (Rows, Rows) {
    let mut sizes = BTreeMap::<u32, u64>::new();
    rows.iter().for_each(|row| *sizes.entry(group(row)).or_default() += 1);
    let places: BTreeMap<_, _> = sizes.keys().copied().zip(0..).collect();
    let sizes: Vec<_> = sizes.into_values().collect();
    let wanted: Vec<_> = shares(&sizes, fraction, wanted).into_iter().zip(sizes).collect();
    let part = |is_held_out: bool| {
        let rows = rows.iter().map(|row| (row, places.get(&group(row)).copied().unwrap_or(0)));
        let drawn = select(rows, wanted.clone(), mix(seed));
        Rows::chosen(drawn.filter_map(|(row, is_drawn)| (is_drawn == is_held_out).then_some(row)))
    };
    (part(false), part(true))
}

/// Draws rows, each with the number of its group, in one pass: of each group so many of so many
/// (selection sampling; Fan, Muller and Rezucha 1962).
fn select(
    rows: impl Iterator<Item = (u64, usize)>,
    mut groups: Vec<(u64, u64)>,
    seed: u64,
) -> impl Iterator<Item = (u64, bool)> {
    rows.zip(draw::numbers(seed)).map(move |((row, group), bits)| {
        let (wanted, left) = &mut groups[group];
        // The high half of a 128-bit product: uniform up to 2^-64, without a division.
        let is_drawn = ((u128::from(bits) * u128::from(*left)) >> 64) < u128::from(*wanted);
        (*wanted, *left) = (*wanted - u64::from(is_drawn), left.saturating_sub(1));
        (row, is_drawn)
    })
}

/// Refuses more rows than bits for them may take memory.
fn countable(rows: u64, field: &'static str) -> Result<(), Problem> {
    let most = u64::from(u32::MAX);
    if rows <= most {
        return Ok(());
    }
    Err(Problem::of_field(field, format!("is set, and the set has {rows} rows; {most} at most can be divided")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_the_same_for_a_seed_and_of_each_group() {
        let groups = || vec![(0..50).collect::<Vec<_>>(), (50..57).collect(), vec![57, 58, 59]];
        let (train, held_out) = draw_shuffled(groups(), 0.2, 12, 3);
        assert_eq!((train.count(), held_out.count()), (48, 12));
        let of = |from: u64, to: u64| held_out.iter().filter(|row| (from..to).contains(row)).count();
        assert_eq!((of(0, 50), of(50, 57), of(57, 60)), (10, 1, 1));
        let mut all: Vec<_> = train.iter().chain(held_out.iter()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>());
        assert_eq!(draw_shuffled(groups(), 0.2, 12, 3), (train, held_out.clone()));
        assert_ne!(draw_shuffled(groups(), 0.2, 12, 4).1, held_out);
    }

    #[test]
    fn more_rows_are_drawn_in_passes_each_with_the_same_chance() {
        let rows = Rows::chosen((0..3000).filter(|row| row % 3 > 0));
        let group = |row: u64| if row < 1500 { 7 } else { 3 + (row % 2) as u32 };
        let (train, held_out) = draw_in_passes(&rows, group, 0.2, 400, 3);
        let mut all: Vec<_> = train.iter().chain(held_out.iter()).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(rows.iter()) && held_out.count() == 400);
        let of = |number: u32| held_out.iter().filter(|row| group(*row) == number).count();
        assert_eq!((of(7), of(3), of(4)), (200, 100, 100));
        assert_eq!(draw_in_passes(&rows, group, 0.2, 400, 3).1, held_out);
        assert_ne!(draw_in_passes(&rows, group, 0.2, 400, 4).1, held_out);
        let mut counts = [0; 10];
        for seed in 0..10_000 {
            let drawn = select((0..10).map(|row| (row, 0)), vec![(3, 10)], mix(seed));
            let drawn: Vec<_> = drawn.filter(|(_, is_drawn)| *is_drawn).collect();
            assert_eq!(drawn.len(), 3);
            drawn.iter().for_each(|(row, _)| counts[*row as usize] += 1);
        }
        // Nine standard deviations.
        assert!(counts.iter().all(|count: &i32| count.abs_diff(3000) < 9 * 46), "{counts:?}");
    }

    #[test]
    fn a_division_of_too_many_rows_is_told_at_its_field() {
        let told = |division: Division| division.limited(1 << 40).unwrap_err();
        let problem = told(Division { split: None, limit: Some(10) });
        assert!(problem.file == "limit" && problem.what.contains("the set has 1099511627776 rows"), "{problem:?}");
    }

    #[test]
    fn a_limit_draws_from_all_rows() {
        let division = Division { split: None, limit: Some(10) };
        let rows = division.limited(1000).unwrap();
        assert_eq!(rows.count(), 10);
        assert!(rows.iter().any(|row| row > 500) && rows.iter().is_sorted());
        assert_eq!(division.limited(10).unwrap(), Rows::All(10));
    }
}
