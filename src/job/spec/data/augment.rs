//! The random changes of training examples: a kind is a file in `augment/`, one in
//! `src/runner/augment/`, and a line in each registry.

mod crop;
mod cut_mix;
mod erase;
mod flip;
mod mix_up;
mod noise;

use crate::dataset::{Dtype, Facts, Field};
use crate::job::Violations;
use crate::job::spec::loss::Answer;
use crate::job::spec::section::{Fields, registry};
use crate::proto::v1::{self, augment::Kind};
pub use crop::Crop;
pub use cut_mix::CutMix;
pub use erase::Erase;
pub use flip::Flip;
pub use mix_up::MixUp;
pub use noise::Noise;

registry! {
    /// A random change of the examples of a batch.
    Augment as Change, from Kind, {
        /// Images are moved within a frame.
        Crop(Crop),
        /// Images are mirrored.
        Flip(Flip),
        /// A rectangle of an image is overwritten.
        Erase(Erase),
        /// Examples are mixed.
        MixUp(MixUp),
        /// Rectangles of images are exchanged.
        CutMix(CutMix),
        /// Noise is added.
        Noise(Noise),
    }
}

/// The rules of a change, known before anything is computed.
pub trait Change {
    /// Adds why it cannot change such examples.
    fn judge(&self, train: &Facts, fields: &mut Fields<'_>);

    /// Whether it mixes examples, so that each has two targets.
    fn mixes(&self) -> bool {
        false
    }
}

impl Augment {
    /// Reads the list of a spec.
    pub(super) fn read(messages: &[v1::Augment], wrong: &mut Violations) -> Vec<Self> {
        let read = |(place, message): (usize, &v1::Augment)| {
            let fields = Fields::new(format!("data.augment[{place}]"), wrong);
            Self::choose(message.kind.as_ref(), fields, "names no change; choose one")
        };
        let list: Vec<_> = messages.iter().enumerate().filter_map(read).collect();
        let mut mixing = list.iter().enumerate().filter(|(_, change)| change.mixes());
        if let (Some((_, first)), Some((place, second))) = (mixing.next(), mixing.next()) {
            let what = format!("mixes examples, and {} does already; leave one of them out", first.name());
            wrong.add(format!("data.augment[{place}].{}", second.name()), what);
        }
        list
    }

    /// The message that it was read from, every default filled in.
    pub(super) fn to_proto(&self) -> v1::Augment {
        v1::Augment { kind: Some(self.to_kind()) }
    }

    /// Adds which changes of a list do not fit a training set, a model and its loss. `answer` is
    /// that of the loss, if it is known; None in it for a model that computes its own.
    pub(in crate::job::spec) fn judge_all(
        list: &[Self],
        train: &Facts,
        answer: Option<Option<Answer>>,
        wrong: &mut Violations,
    ) {
        for (place, change) in list.iter().enumerate() {
            let mut fields = Fields::new(format!("data.augment[{place}].{}", change.name()), wrong);
            change.judge(train, &mut fields);
            let (true, Some(answer)) = (change.mixes(), answer) else { continue };
            let target = &train.target;
            let found = match answer {
                None => "the model computes its own loss, of one target an example".into(),
                Some(Answer::Class(_)) if target.values() == 1 => continue,
                Some(Answer::Labels(_)) => continue,
                Some(Answer::Class(_)) => {
                    format!("the target {:?} has a class at each of {:?}", target.name, target.shape)
                }
                Some(answer @ (Answer::Numbers(_) | Answer::Shares)) => {
                    format!("the target {:?} has {}", target.name, answer.targets())
                }
            };
            fields.wrong_itself(format!("mixes targets that are a class or labels, and {found}; leave it out"));
        }
    }
}

/// The place of the one input that is images.
///
/// # Errors
/// How many there are, in words that follow "needs".
pub fn image(facts: &Facts) -> Result<usize, String> {
    let of_images = |field: &Field| is_numbers(field) && field.shape.len() == 3;
    let mut images = facts.inputs.iter().enumerate().filter(|(_, field)| of_images(field));
    match (images.next(), images.next()) {
        (Some((place, _)), None) => Ok(place),
        (Some((_, one)), Some((_, other))) => {
            Err(format!("one input of images, and {:?} and {:?} are images", one.name, other.name))
        }
        (None, _) => {
            let found = facts.inputs.iter().map(|field| format!("{:?} is {:?}", field.name, field.shape));
            let found = found.collect::<Vec<_>>().join(", ");
            Err(format!("images, [channels, height, width] an example, and {found}"))
        }
    }
}

/// Whether an input is numbers, and not classes or tokens.
pub fn is_numbers(field: &Field) -> bool {
    match field.dtype {
        Dtype::Pixel | Dtype::F32 => true,
        Dtype::I64 => false,
    }
}

/// Reads the parameter of the distribution of shares. Outside of this range the draws of libtorch
/// are no longer those of a Beta distribution.
fn read_alpha(found: Option<f64>, fields: &mut Fields<'_>) -> f64 {
    let alpha = found.unwrap_or(1.0);
    fields.demand("alpha", (0.001..=1000.0).contains(&alpha), alpha, "0.001 to 1000");
    alpha
}

/// Reads a value that inputs, which are 32-bit floats, can have.
fn read_value(field: &str, found: f64, fields: &mut Fields<'_>) -> f64 {
    fields.demand(field, (found as f32).is_finite(), found, "a finite number of 32 bits");
    found
}

/// Adds that images are needed, where there are none.
fn needs_images(train: &Facts, fields: &mut Fields<'_>) {
    if let Err(what) = image(train) {
        fields.wrong_itself(format!("needs {what}"));
    }
}

/// Adds that pixels would move, and those of the target would not.
fn needs_still_targets(train: &Facts, fields: &mut Fields<'_>) {
    let target = &train.target;
    if target.shape.len() > 1 {
        let what = format!(
            "moves pixels, and the target {:?} is {:?}, which does not move with them",
            target.name, target.shape
        );
        fields.wrong_itself(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, dtype: Dtype, shape: &[u64]) -> Field {
        Field { name: name.to_owned(), file: "path".into(), dtype, shape: shape.to_vec(), range: None }
    }

    fn judged(list: &[Augment], inputs: Vec<Field>, target: Field, answer: Option<Option<Answer>>) -> Vec<String> {
        let facts = Facts { examples: 8, inputs, target, sizes: Vec::new(), is_resident: true };
        let mut wrong = Violations::default();
        Augment::judge_all(list, &facts, answer, &mut wrong);
        wrong.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect()
    }

    #[test]
    fn a_change_that_does_not_fit_the_examples_is_told_with_the_reason() {
        let images = || field("images", Dtype::Pixel, &[3, 8, 9]);
        let row = || field("x", Dtype::F32, &[6]);
        let tokens = || field("tokens", Dtype::I64, &[7]);
        let class = || field("y", Dtype::I64, &[]);
        let mask = || field("mask", Dtype::I64, &[8, 9]);
        let crop = |padding| Augment::Crop(Crop { padding, fill: 0.0 });
        let flip = || Augment::Flip(Flip { p: 0.5, is_vertical: false });
        let erase = || Augment::Erase(Erase { p: 0.5, area: (0.1, 0.2), ratio: (1.0, 1.0), value: 0.0 });
        let (mix, cut) = (|| Augment::MixUp(MixUp { alpha: 1.0 }), || Augment::CutMix(CutMix { alpha: 1.0 }));
        let noise = || Augment::Noise(Noise { std: 0.1 });
        let classes = Some(Some(Answer::Class(3)));
        let shares = "mixes targets that are a class or labels, and";
        for (change, inputs, target, answer, words) in [
            (crop(7), vec![images()], class(), classes, None),
            (
                crop(8),
                vec![images()],
                class(),
                classes,
                Some(".padding: is 8, and the images are 8x9; less than 8 is right"),
            ),
            (
                crop(1),
                vec![row()],
                class(),
                classes,
                Some(r#": needs images, [channels, height, width] an example, and "x" is [6]"#),
            ),
            (flip(), vec![images(), row()], class(), classes, None),
            (
                flip(),
                vec![images()],
                mask(),
                classes,
                Some(r#": moves pixels, and the target "mask" is [8, 9], which does"#),
            ),
            (
                erase(),
                vec![images(), field("more", Dtype::F32, &[1, 4, 4])],
                class(),
                classes,
                Some(r#": needs one input of images, and "images" and "more" are images"#),
            ),
            (erase(), vec![images()], mask(), classes, None),
            (mix(), vec![images(), row()], class(), classes, None),
            (mix(), vec![row()], field("y", Dtype::F32, &[3]), Some(Some(Answer::Labels(3))), None),
            (mix(), vec![row()], class(), None, None),
            (
                mix(),
                vec![row(), tokens()],
                class(),
                classes,
                Some(r#": mixes numbers, and the input "tokens" has 64-bit"#),
            ),
            (mix(), vec![row()], class(), Some(None), Some("the model computes its own loss")),
            (mix(), vec![row()], row(), Some(Some(Answer::Numbers(6))), Some(r#"the target "x" has numbers"#)),
            (mix(), vec![images()], mask(), classes, Some(r#"the target "mask" has a class at each of [8, 9]"#)),
            (cut(), vec![images()], class(), classes, None),
            (
                cut(),
                vec![images(), row()],
                class(),
                classes,
                Some(r#"exchanges parts of one input, and there is "x" as well"#),
            ),
            (noise(), vec![row(), tokens()], class(), classes, None),
            (noise(), vec![tokens()], class(), classes, Some("needs an input of numbers")),
        ] {
            let told = judged(std::slice::from_ref(&change), inputs, target, answer);
            match words {
                None => assert_eq!(told, [""; 0], "{change:?}"),
                Some(words) => {
                    let field = format!("data.augment[0].{}", change.name());
                    assert!(
                        told.len() == 1 && told[0].starts_with(&field) && told[0].contains(words),
                        "{words}: {told:?}"
                    );
                }
            }
        }
        let numbers = judged(&[mix()], vec![row()], row(), Some(Some(Answer::Numbers(6))));
        assert!(numbers[0].contains(shares), "{numbers:?}");
    }

    #[test]
    fn settings_are_judged_and_written_again_with_their_defaults() {
        let read = |list: Vec<Kind>| {
            let list: Vec<_> = list.into_iter().map(|kind| v1::Augment { kind: Some(kind) }).collect();
            let mut wrong = Violations::default();
            let read = Augment::read(&list, &mut wrong);
            let told = wrong.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description));
            (read.iter().map(|change| change.to_kind()).collect::<Vec<_>>(), told.collect::<Vec<_>>())
        };
        let erase = v1::Erase::default();
        let whole = v1::Erase {
            p: Some(0.5),
            min_area: Some(0.02),
            max_area: Some(0.33),
            min_ratio: Some(0.3),
            max_ratio: Some(3.3),
            value: 0.0,
        };
        for (kind, whole) in [
            (Kind::Crop(v1::Crop { padding: 4, fill: 0.0 }), Kind::Crop(v1::Crop { padding: 4, fill: 0.0 })),
            (Kind::Flip(v1::Flip::default()), Kind::Flip(v1::Flip { p: Some(0.5), vertical: false })),
            (Kind::Erase(erase), Kind::Erase(whole)),
            (Kind::MixUp(v1::MixUp::default()), Kind::MixUp(v1::MixUp { alpha: Some(1.0) })),
            (Kind::CutMix(v1::CutMix::default()), Kind::CutMix(v1::CutMix { alpha: Some(1.0) })),
            (Kind::Noise(v1::Noise { std: 0.5 }), Kind::Noise(v1::Noise { std: 0.5 })),
        ] {
            assert_eq!(read(vec![kind]), (vec![whole], vec![]));
            assert_eq!(read(vec![whole]), (vec![whole], vec![]));
        }
        let (_, told) = read(vec![Kind::MixUp(v1::MixUp::default()), Kind::CutMix(v1::CutMix::default())]);
        assert_eq!(told, ["data.augment[1].cut_mix: mixes examples, and mix_up does already; leave one of them out"]);
    }
}
