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

    /// Adds which changes of a list do not fit a training set, a model and its loss. `answer` is that of
    /// the loss, if it is known; None in it for a model that computes its own.
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
