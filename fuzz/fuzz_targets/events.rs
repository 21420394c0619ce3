//! Event files: what is read of them, what a resume leaves of them, and that a new one sorts behind
//! those that are there.
//!
//! The first byte chooses between the bytes as they are and the bytes with every checksum made
//! right.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use torchd::record::FrameError;
use torchd::tensorboard::{Event, EventError, EventFileWriter, EventReader, cut_after, event::What, scalar};
use torchd_fuzz::framed::{self, Damage, Piece, Rest};
use torchd_fuzz::growing::Growing;
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

#[derive(Arbitrary, Debug)]
struct Manner {
    /// The step of the checkpoint that a resume goes back to.
    step: i64,
    portion: u8,
    pause: u16,
    /// The second that stands in the name of the file.
    second: u64,
    /// A file is begun beside it.
    begins_another: bool,
}

/// A value at a step; few of them are far apart, so that many lie around the one that is cut at.
#[derive(Arbitrary, Debug)]
struct Told {
    step: i8,
    value: f32,
}

#[derive(Arbitrary, Debug)]
struct MadeUp {
    pieces: Vec<Piece<Told>>,
    damages: Vec<Damage>,
}

fn encode(told: &Told) -> Vec<u8> {
    scalar(std::time::SystemTime::UNIX_EPOCH, told.step.into(), "loss/train", told.value).encode_to_vec()
}

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = scratch::folder("events");
    fs::write(folder.join("notes.txt"), "not ours").unwrap();
    folder
});

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let mut source = Unstructured::new(rest);
    let Ok(mut manner) = Manner::arbitrary(&mut source) else { return };
    let bytes = match mode % 3 {
        0 => source.take_rest().to_vec(),
        1 => {
            let mut bytes = source.take_rest().to_vec();
            framed::correct(&mut bytes);
            bytes
        }
        _ => {
            let Ok(made_up) = MadeUp::arbitrary_take_rest(source) else { return };
            manner.step %= 64;
            let mut bytes = framed::file(&made_up.pieces, encode);
            framed::damage(&mut bytes, &made_up.damages);
            bytes
        }
    };
    LazyLock::force(&FOLDER);
    bounded((4 << 20) + 128 * bytes.len(), || {
        reader(&bytes, &manner);
        cut(&bytes, &manner);
    });
});

/// However the bytes arrive, every event before the damage is read, and comes back from being
/// written again.
fn reader(bytes: &[u8], manner: &Manner) {
    let (records, end, rest) = framed::whole_records(bytes);
    let source = Growing::new(bytes, manner.portion.into(), manner.pause.into());
    let mut pauses = source.pauses();
    let mut reader = EventReader::new(source);
    let mut found = 0;
    loop {
        match reader.next() {
            Ok(Some(event)) => {
                let told = Event::decode(records[found]).unwrap();
                assert_eq!(format!("{event:?}"), format!("{told:?}"));
                let again = Event::decode(event.encode_to_vec().as_slice()).unwrap();
                assert_eq!(format!("{again:?}"), format!("{event:?}"));
                found += 1;
            }
            Ok(None) if pauses > 0 => pauses -= 1,
            Ok(None) => break assert_ne!(rest, Rest::Damaged),
            Err(EventError::NoEvent { offset, .. }) => {
                assert!(Event::decode(records[found]).is_err() && offset <= end as u64);
                found += 1;
            }
            Err(EventError::Frame(FrameError::Damaged { offset, .. })) => {
                break assert_eq!((rest, offset), (Rest::Damaged, end as u64));
            }
            Err(EventError::Frame(FrameError::Io(error))) => panic!("{error}"),
        }
    }
    assert_eq!(found, records.len());
}

/// A cut leaves the beginning of a file up to the first value beyond the step, or the first thing
/// that is no event; a file without values is removed, a second cut does nothing, and other files
/// are let alone.
fn cut(bytes: &[u8], manner: &Manner) {
    let folder = &*FOLDER;
    let path = folder.join(format!("events.out.tfevents.{:010}.host.1.0", manner.second));
    fs::write(&path, bytes).unwrap();
    let (mut kept, mut has_values) = (0, false);
    for data in framed::whole_records(bytes).0 {
        let Ok(event) = Event::decode(data) else { break };
        let is_value = matches!(event.what, Some(What::Summary(_)));
        if is_value && event.step > manner.step {
            break;
        }
        has_values |= is_value;
        kept += torchd::record::HEADER_BYTES + data.len() + torchd::record::FOOTER_BYTES;
    }
    for _ in 0..2 {
        cut_after(folder, manner.step).unwrap();
        match fs::read(&path) {
            Ok(left) => assert!(has_values && left == bytes[..kept]),
            Err(error) => assert!(!has_values, "{error}"),
        }
    }
    if manner.begins_another {
        fs::write(&path, bytes).unwrap();
        let writer = EventFileWriter::create(folder, 0).unwrap();
        assert!(writer.path() > path.as_path() || manner.second >= 9_999_999_999, "{}", writer.path().display());
        fs::remove_file(writer.path()).unwrap();
    }
    let _ = fs::remove_file(&path);
    assert_eq!(fs::read_to_string(folder.join("notes.txt")).unwrap(), "not ours");
}
