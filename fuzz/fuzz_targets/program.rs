//! What a program tells: reports, which are the same however their bytes come, and an event file
//! that grows, of which a plain reader says what has to be read.
//!
//! The first byte chooses between reports, an event file as it is, and one with every checksum made
//! right; the second how the bytes come.

#![no_main]

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use torchd::beneath::Folder;
use torchd::host::events::{Odd, Tail};
use torchd::host::reports::{Lines, MOST_TAG_BYTES, MOST_VALUES};
use torchd::tensorboard::{Event, event::What};
use torchd_fuzz::framed::{self, Rest};
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

const NAME: &str = "events.tfevents";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| scratch::folder("program").canonicalize().unwrap());

fuzz_target!(|data: &[u8]| {
    let &[mode, portion, ref bytes @ ..] = data else { return };
    let portion = usize::from(portion) + 1;
    LazyLock::force(&FOLDER);
    bounded((4 << 20) + 256 * bytes.len(), || match mode % 3 {
        0 => reports(bytes, portion),
        1 => events(bytes, portion),
        _ => {
            let mut bytes = bytes.to_vec();
            framed::correct(&mut bytes);
            events(&bytes, portion);
        }
    });
});

fn is_tag(tag: &str) -> bool {
    (1..=MOST_TAG_BYTES).contains(&tag.len()) && !tag.chars().any(char::is_control)
}

fn reports(bytes: &[u8], portion: usize) {
    let at_once = Lines::default().add(bytes);
    let mut lines = Lines::default();
    let in_pieces: Vec<_> = bytes.chunks(portion).flat_map(|piece| lines.add(piece)).collect();
    assert_eq!(at_once, in_pieces);
    assert!(at_once.len() <= bytes.iter().filter(|byte| **byte == b'\n').count());
    for report in at_once {
        assert!(report.scalars.len() <= MOST_VALUES);
        assert!(report.scalars.iter().all(|(tag, value)| is_tag(tag) && value.is_finite()));
        assert!(report.progress.is_none_or(|progress| (0.0..=1.0).contains(&progress)));
    }
}

/// Steps and tags of the scalars that a viewer shows of the simple values of an event.
fn simple(event: &Event) -> Vec<(u64, String, f32)> {
    let Some(What::Summary(summary)) = &event.what else { return Vec::new() };
    let Ok(step) = u64::try_from(event.step) else { return Vec::new() };
    let value = |told: &torchd::tensorboard::summary::Value| match told.value {
        Some(torchd::tensorboard::summary::value::Value::SimpleValue(value)) if is_tag(&told.tag) => {
            Some((step, told.tag.clone(), value))
        }
        _ => None,
    };
    summary.value.iter().filter_map(value).collect()
}

fn events(bytes: &[u8], portion: usize) {
    let (records, end, rest) = framed::whole_records(bytes);
    let root = Folder::open(&FOLDER).unwrap();
    let path = FOLDER.join(NAME);
    let mut file = File::create(&path).unwrap();
    let (mut tail, mut found, mut damage) = (Tail::default(), Vec::new(), None);
    // Not more looks than a short input is worth.
    for piece in bytes.chunks(portion.max(bytes.len() / 16)) {
        file.write_all(piece).unwrap();
        match tail.read(&root, NAME, u64::MAX) {
            Ok((values, _)) => found.extend(values),
            Err(Odd::Passing) => panic!("the file is there"),
            Err(Odd::Told { why, found: values, .. }) => {
                found.extend(values);
                damage = Some(why);
                break;
            }
        }
    }
    fs::remove_file(&path).unwrap();
    // A header may tell of more than this input has, and of more than the plain reader takes.
    assert!(damage.is_none() || rest == Rest::Damaged, "{damage:?} behind {end}");
    let told: Vec<_> = records.iter().filter_map(|record| Event::decode(*record).ok()).collect();
    let expected: Vec<_> = told.iter().flat_map(simple).collect();
    let mut found = found.into_iter().flat_map(|(step, values)| values.into_iter().map(move |value| (step, value)));
    for (step, tag, value) in expected {
        // Values in tensors stand between them.
        let is_it = |(at, (name, told)): &(u64, (String, f64))| {
            *at == step && *name == tag && (*told as f32).to_bits() == value.to_bits()
                || told.is_nan() && value.is_nan()
        };
        assert!(found.any(|told| is_it(&told)), "{tag} at step {step}");
    }
}
