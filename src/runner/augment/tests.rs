//! The changes of a batch against what each may do to it.

use tch::Device;
use torchd::dataset::{DataFile, Files, OpenFiles, Selection, Source, named_arrays};
use torchd::job::spec::data::augment::{Crop, CutMix, Erase, Flip, MixUp, Noise};

use super::*;
use crate::seed::tests::generator;

const COUNT: i64 = 24;

/// Images of two channels and 5x6 whose pixels all differ, with their numbers as targets, and a
/// row of tokens.
fn set() -> Box<dyn Source> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("set.safetensors");
    let numbers = |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Int64, Device::Cpu)).view(shape);
    let images = numbers(&[COUNT, 2, 5, 6]).to_kind(Kind::Float) + 1.0;
    let arrays = [("images", images), ("tokens", numbers(&[COUNT, 3])), ("y", numbers(&[COUNT]))];
    Tensor::write_safetensors(&arrays, &path).unwrap();
    let inputs = vec!["tokens".into(), "images".into()];
    let files = Files::Safetensors(named_arrays::Files { paths: path.clone().into(), inputs, target: "y".into() });
    Selection::of(files).open(&OpenFiles::of([DataFile::open(&path).unwrap()]), None).ok().unwrap().train
}

fn feed(moments: Option<(f32, f32)>) -> Feed {
    let of = |value| Tensor::from_slice(&[value, 2.0 * value]).view([2, 1, 1]);
    let normalizer = vec![None, moments.map(|(mean, std)| (of(mean), of(std)))];
    Feed::new(set(), 1, normalizer, vec![Some(1)], Device::Cpu, 0).unwrap()
}

/// The images before a change and the examples after it.
fn changed(feed: &mut Feed, list: &[Settings], step: u64) -> (Tensor, Examples) {
    let mut examples = || feed.examples(None, 0, COUNT as u64, &mut |_| Ok(true)).unwrap().unwrap();
    let (before, mut after) = (examples(), examples());
    Augmentation::new(list, feed).unwrap().change(7, step, &mut after).unwrap();
    assert_eq!(after.inputs[0], before.inputs[0], "tokens stay as they are");
    let [_, images] = &before.inputs[..] else { panic!() };
    (images.shallow_clone(), after)
}

/// The pixels of an image as numbers, channel by channel and row by row.
fn pixels(images: &Tensor, number: i64) -> Vec<f32> {
    Vec::try_from(images.get(number).contiguous().view([-1])).unwrap()
}

#[test]
fn numbers_follow_from_seed_step_and_place_alone() {
    let _alone = generator();
    let mut feed = feed(None);
    let flip = Settings::Flip(Flip { p: 0.5, is_vertical: false });
    let noise = || Settings::Noise(Noise { std: 0.1 });
    let mut images = |list: &[Settings], step| changed(&mut feed, list, step).1.inputs.remove(1);
    let first = images(&[noise()], 3);
    assert_eq!(first, images(&[noise()], 3));
    assert_ne!(first, images(&[noise()], 4));
    let never = Settings::Flip(Flip { p: 0.0, is_vertical: false });
    assert_ne!(first, images(&[never, noise()], 3), "another place has other numbers");
    // A change does not depend on what those before it have drawn.
    let both = images(&[noise(), flip.clone()], 3);
    let erase = Settings::Erase(Erase { p: 0.0, area: (0.1, 0.2), ratio: (1.0, 1.0), value: 0.0 });
    let flipped = images(&[erase, flip], 3);
    let is_flipped = |images: &Tensor, number| pixels(images, number)[0] > pixels(images, number)[5];
    for number in 0..COUNT {
        assert_eq!(is_flipped(&both, number), is_flipped(&flipped, number));
    }
}

#[test]
fn a_crop_is_a_part_of_the_padded_image() {
    let _alone = generator();
    let crop = Settings::Crop(Crop { padding: 2, fill: 0.5 });
    for (moments, fills) in [(None, [0.5, 0.5]), (Some((1.5, 4.0)), [-0.25f32, -0.3125])] {
        let (before, after) = changed(&mut feed(moments), std::slice::from_ref(&crop), 1);
        let mut met = std::collections::HashSet::new();
        for number in 0..COUNT {
            let image = pixels(&before, number);
            let pixel = |channel: i64, row: i64, column: i64| match (0..5).contains(&row) && (0..6).contains(&column) {
                true => image[(channel * 30 + row * 6 + column) as usize],
                false => fills[channel as usize],
            };
            let window = |down: i64, right: i64| {
                let places = (0..60).map(move |at| (at / 30, at / 6 % 5 + down - 2, at % 6 + right - 2));
                places.map(|(channel, row, column)| pixel(channel, row, column)).collect::<Vec<_>>()
            };
            let found = pixels(&after.inputs[1], number);
            let places = (0..25).map(|place| (place / 5, place % 5));
            met.insert(places.into_iter().find(|&(down, right)| window(down, right) == found).unwrap());
        }
        assert!(met.len() > 10, "{met:?}");
    }
}

#[test]
fn a_flip_mirrors_the_images_that_are_drawn() {
    let _alone = generator();
    let mut feed = feed(None);
    for (is_vertical, dimension) in [(false, -1), (true, -2)] {
        let mut flip = |p| changed(&mut feed, &[Settings::Flip(Flip { p, is_vertical })], 0);
        let (before, after) = flip(1.0);
        assert_eq!(after.inputs[1], before.flip([dimension]));
        let (before, after) = flip(0.0);
        assert_eq!(after.inputs[1], before);
        let (before, after) = flip(0.5);
        let same = (0..COUNT).filter(|&number| pixels(&before, number) == pixels(&after.inputs[1], number)).count();
        assert!((4..20).contains(&same), "{same}");
    }
}

#[test]
fn an_erased_rectangle_is_smaller_than_its_image_and_within_its_bounds() {
    let _alone = generator();
    let mut feed = feed(None);
    let mut erase = |p, area, ratio| changed(&mut feed, &[Settings::Erase(Erase { p, area, ratio, value: 0.0 })], 0);
    let (_, after) = erase(1.0, (0.2, 0.5), (0.5, 2.0));
    let mut met = std::collections::HashSet::new();
    for number in 0..COUNT {
        let image = pixels(&after.inputs[1], number);
        let erased: Vec<_> = (0..60).filter(|&place| image[place] == 0.0).collect();
        let (rows, columns): (Vec<_>, Vec<_>) = erased.iter().map(|place| (place / 6 % 5, place % 6)).unzip();
        let extent = |places: &[usize]| places.iter().max().unwrap() - places.iter().min().unwrap() + 1;
        let (height, width) = (extent(&rows), extent(&columns));
        assert_eq!(erased.len(), 2 * height * width, "a rectangle in both channels");
        assert!(height < 5 && width < 6 && (4..=16).contains(&(height * width)), "{height}x{width}");
        met.insert((erased[0], height, width));
    }
    assert!(met.len() > 10, "{met:?}");
    for (p, area) in [(0.0, (0.2, 0.5)), (1.0, (1.0, 1.0))] {
        let (before, after) = erase(p, area, (1.0, 1.0));
        assert_eq!(after.inputs[1], before, "none is drawn, or none is smaller than the image");
    }
}

#[test]
fn mixed_examples_have_both_targets_by_their_shares() {
    let _alone = generator();
    let mut feed = feed(None);
    for step in 0..12 {
        let cut = |feed: &mut Feed| changed(feed, &[Settings::CutMix(CutMix { alpha: 1.0 })], step);
        let (before, after) = cut(&mut feed);
        let Mixed { targets, shares } = after.mixed.unwrap();
        assert!(shares[0] >= shares[1] && (shares[0] + shares[1] - 1.0).abs() < 1e-12, "{shares:?}");
        for number in 0..COUNT {
            let [first, second] = [&after.targets, &targets].map(|targets| targets.int64_value(&[number]));
            assert!(first == number || second == number);
            let (one, other) = (pixels(&before, first), pixels(&before, second));
            let found = pixels(&after.inputs[1], number);
            assert!(found.iter().zip(&one).zip(&other).all(|((found, one), other)| found == one || found == other));
            let same = found.iter().zip(&one).filter(|(found, one)| found == one).count();
            assert!(first == second || (same as f64 / 60.0 - shares[0]).abs() < 1e-12, "{same} {shares:?}");
        }
    }
    // Tokens cannot be mixed: the spec is refused, and the change takes images alone.
    let mut examples = feed.examples(None, 0, COUNT as u64, &mut |_| Ok(true)).unwrap().unwrap();
    let images = examples.inputs.pop().unwrap();
    examples.inputs = vec![images.shallow_clone()];
    let mix = Augmentation::new(&[Settings::MixUp(MixUp { alpha: 1.0 })], &feed).unwrap();
    mix.change(7, 0, &mut examples).unwrap();
    let Mixed { targets, shares } = examples.mixed.unwrap();
    let [one, other] = [&examples.targets, &targets].map(|targets| images.index_select(0, targets));
    let expected = one * shares[0] + other * shares[1];
    assert!((expected - &examples.inputs[0]).abs().max().double_value(&[]) < 1e-3);
}

#[test]
fn parts_of_a_batch_keep_both_targets() {
    let _alone = generator();
    let mut feed = feed(None);
    let (_, examples) = changed(&mut feed, &[Settings::CutMix(CutMix { alpha: 1.0 })], 0);
    let second = examples.mixed.as_ref().unwrap().targets.shallow_clone();
    let part = feed.arranged(examples).part(4, 3).unwrap();
    assert_eq!(part.mixed.unwrap().targets, second.narrow(0, 4, 3));
}
