//! The journal: what the daemon reads of it, what its records add up to, and what the next runner
//! leaves of a mangled one.
//!
//! The first byte chooses where the file comes from: the bytes as they are, the bytes with every
//! checksum made right, or records that are made up and then damaged. A plain reader says what has
//! to be read of it.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;
use std::time::SystemTime;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use torchd::journal::{JobFolder, JobLock, JournalError, JournalTail, JournalWriter, ProgressFold};
use torchd::proto::journal::{Record, record::What};
use torchd::proto::{json, v1, v1::job_record::What as Public};
use torchd::record::{FrameError, Next, RecordReader};
use torchd_fuzz::framed::{self, Damage, Piece, Rest};
use torchd_fuzz::growing::Growing;
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

/// A record, as a runner could have written it.
#[derive(Arbitrary, Debug)]
struct Told {
    attempt: u8,
    time: Option<(i64, i32)>,
    what: Option<Event>,
}

#[derive(Arbitrary, Debug)]
enum Event {
    Started { total_steps: u64, steps_per_epoch: u64, first_step: u64, first_epoch: u32, left: u64, total_epochs: u32 },
    Scalars { step: u64, values: Vec<(Tag, f64)> },
    Progress { step: u64, examples_per_second: f64, checkpoint_wait_seconds: Option<f64> },
    Checkpoint { step: u64 },
    Ended { step: u64, reason: u8 },
    Resumed { step: u64 },
    Damaged { step: u64 },
}

#[derive(Arbitrary, Debug)]
enum Tag {
    Loss,
    Accuracy,
    Throughput,
    Utilization(u8),
    Memory(u8),
    Energy(u8),
    Other(String),
}

fn tag(tag: &Tag) -> String {
    match tag {
        Tag::Loss => "loss/train".into(),
        Tag::Accuracy => "accuracy/validation".into(),
        Tag::Throughput => "throughput/examples_per_second".into(),
        Tag::Utilization(gpu) => format!("gpu/{gpu}/utilization_ratio"),
        Tag::Memory(gpu) => format!("gpu/{gpu}/memory_used_bytes"),
        Tag::Energy(gpu) => format!("gpu/{gpu}/energy_joules"),
        Tag::Other(text) => text.clone(),
    }
}

fn encode(told: &Told) -> Vec<u8> {
    let what = told.what.as_ref().map(|event| match event {
        &Event::Started { total_steps, steps_per_epoch, first_step, first_epoch, left, total_epochs } => {
            What::Started(v1::RunnerStarted {
                total_steps,
                steps_per_epoch,
                first_step,
                first_epoch,
                steps_left_in_epoch: left,
                total_epochs,
                ..v1::RunnerStarted::default()
            })
        }
        Event::Scalars { step, values } => What::Scalars(v1::ScalarValues {
            step: *step,
            values: values.iter().map(|(name, value)| v1::ScalarValue { tag: tag(name), value: *value }).collect(),
        }),
        &Event::Progress { step, examples_per_second, checkpoint_wait_seconds } => What::Progress(v1::StepProgress {
            step,
            examples_per_second,
            checkpoint_wait_seconds,
            ..v1::StepProgress::default()
        }),
        &Event::Checkpoint { step } => {
            What::Checkpoint(v1::CheckpointSaved { step, path: "checkpoints/step-1".into(), size_bytes: step })
        }
        &Event::Ended { step, reason } => What::Ended(v1::RunnerEnded {
            step,
            reason: reason.into(),
            message: "over".into(),
            ..v1::RunnerEnded::default()
        }),
        &Event::Resumed { step } => What::Resumed(v1::RunnerResumed { step, ..v1::RunnerResumed::default() }),
        &Event::Damaged { step } => {
            let path = "checkpoints/step-1".into();
            What::Damaged(v1::CheckpointDamaged { step, path, problem: "it cannot be read".into() })
        }
    });
    let time = told.time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos });
    Record { time, attempt: told.attempt.into(), what }.encode_to_vec()
}

/// How the file is read.
#[derive(Arbitrary, Debug)]
struct Manner {
    /// Records at once.
    limit: u8,
    /// Bytes that are there when the tail looks for the first time.
    first: u16,
    portion: u8,
    pause: u16,
}

#[derive(Arbitrary, Debug)]
struct MadeUp {
    pieces: Vec<Piece<Told>>,
    damages: Vec<Damage>,
}

static FOLDER: LazyLock<(JobFolder, JobLock)> = LazyLock::new(|| {
    let folder = JobFolder::new(scratch::folder("journal"));
    let lock = JobLock::take(&folder).unwrap().unwrap();
    // Decodes the descriptors first: their memory is no cost of an input.
    torchd::proto::descriptors();
    (folder, lock)
});

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let mut source = Unstructured::new(rest);
    let Ok(manner) = Manner::arbitrary(&mut source) else { return };
    let bytes = match mode % 3 {
        0 => source.take_rest().to_vec(),
        1 => {
            let mut bytes = source.take_rest().to_vec();
            framed::correct(&mut bytes);
            bytes
        }
        _ => {
            let Ok(made_up) = MadeUp::arbitrary_take_rest(source) else { return };
            let mut bytes = framed::file(&made_up.pieces, encode);
            framed::damage(&mut bytes, &made_up.damages);
            bytes
        }
    };
    LazyLock::force(&FOLDER);
    // A message of two bytes becomes one of some dozens in memory, and a vector holds twice what it
    // needs while it grows.
    bounded((4 << 20) + 128 * bytes.len(), || {
        framing(&bytes, &manner);
        let records = tail(&bytes, &manner);
        progress(&records);
        writer(&bytes);
    });
});

/// However the bytes arrive, the records are those of the plain reader.
fn framing(bytes: &[u8], manner: &Manner) {
    let (records, end, rest) = framed::whole_records(bytes);
    let source = Growing::new(bytes, manner.portion.into(), manner.pause.into());
    let mut pauses = source.pauses();
    let mut reader = RecordReader::new(source);
    let mut found = 0;
    loop {
        match reader.next() {
            Ok(Next::Record(data)) => {
                assert_eq!(data, records[found]);
                found += 1;
            }
            Ok(Next::End | Next::Torn) if pauses > 0 => pauses -= 1,
            Ok(Next::End) => break assert_eq!(rest, Rest::Nothing),
            Ok(Next::Torn) => break assert_eq!(rest, Rest::Torn),
            Err(FrameError::Damaged { offset, part }) => {
                assert_eq!((rest, offset), (Rest::Damaged, end as u64));
                break assert!(part == "length" || part == "data");
            }
            Err(FrameError::Io(error)) => panic!("{error}"),
        }
    }
    assert_eq!((found, reader.offset()), (records.len(), end as u64));
}

/// Every whole record before the damage is handed out, in order and with its number; then the
/// damage is told, and nothing after it.
fn tail(bytes: &[u8], manner: &Manner) -> Vec<v1::JobRecord> {
    let (folder, _) = &*FOLDER;
    let (records, _, rest) = framed::whole_records(bytes);
    let limit = usize::from(manner.limit).max(1);
    let mut tail = JournalTail::new(folder.clone());
    let (mut found, mut is_damaged) = (Vec::new(), false);
    for length in [usize::from(manner.first).min(bytes.len()), bytes.len()] {
        fs::write(folder.journal(), &bytes[..length]).unwrap();
        loop {
            match tail.read(limit) {
                Ok(more) if more.is_empty() => break,
                Ok(more) => {
                    assert!(more.len() <= limit && !is_damaged);
                    found.extend(more.into_iter().map(Some));
                }
                Err(JournalError::Unknown { sequence, .. }) => {
                    found.push(None);
                    assert_eq!(sequence, found.len() as u64);
                }
                Err(error @ JournalError::Frame(_)) => {
                    assert!(rest == Rest::Damaged && error.to_string().contains("byte"));
                    is_damaged = true;
                    break;
                }
                Err(JournalError::Io(error)) => panic!("{error}"),
            }
            assert!(found.len() <= records.len());
        }
    }
    assert_eq!(found.len(), records.len());
    assert_eq!(is_damaged, rest == Rest::Damaged);
    for (place, (found, data)) in found.iter().zip(&records).enumerate() {
        match (found, Record::decode(*data)) {
            (Some(found), Ok(told)) => {
                assert_eq!((found.sequence, found.attempt), (place as u64 + 1, told.attempt));
                assert_eq!(found.time, told.time);
                assert_eq!(format!("{:?}", found.what), format!("{:?}", told.what));
            }
            (None, Err(_)) => {}
            (found, told) => panic!("{found:?} of {told:?}"),
        }
    }
    let found: Vec<_> = found.into_iter().flatten().collect();
    // A later reader that passes over records gets the others.
    if let Some(middle) = found.get(found.len() / 2).filter(|_| found.len() == records.len()) {
        let mut other = JournalTail::new(folder.clone());
        assert!(other.skip_to(middle.sequence).unwrap());
        let next = other.read(1);
        match found.get(found.len() / 2 + 1) {
            Some(expected) => assert_eq!(format!("{:?}", next.unwrap()[0]), format!("{expected:?}")),
            None => assert!(next.map_or(rest == Rest::Damaged, |none| none.is_empty())),
        }
    }
    found
}

/// The sum of the records can be written down at any time, and holds no scalar that a resume has
/// taken back.
fn progress(records: &[v1::JobRecord]) {
    let mut fold = ProgressFold::default();
    let mut latest = BTreeMap::<String, (u64, f64)>::new();
    for record in records {
        fold.add(record);
        match &record.what {
            Some(Public::Resumed(resumed)) => latest.retain(|_, (step, _)| *step <= resumed.step),
            Some(Public::Scalars(scalars)) => {
                let values = scalars.values.iter().map(|value| (value.tag.clone(), (scalars.step, value.value)));
                latest.extend(values);
            }
            _ => {}
        }
        let _ = (fold.started(record.attempt), fold.ended(record.attempt), fold.damaged(record.attempt));
        if let Some(progress) = fold.progress() {
            assert!(progress.epoch <= progress.total_epochs);
            let told: Vec<_> = progress.latest_scalars.iter().map(|(tag, value)| (tag, value.to_bits())).collect();
            assert_eq!(told, latest.iter().map(|(tag, (_, value))| (tag, value.to_bits())).collect::<Vec<_>>());
        }
    }
    if let Some(progress) = fold.progress() {
        let text = json::to_string(&progress, false).expect("progress goes into job.json");
        let again: v1::JobProgress = json::from_str(&text).expect("and comes back");
        // NaN is equal to nothing, so the words are compared.
        assert_eq!(format!("{again:?}"), format!("{progress:?}"), "{text}");
    }
}

/// A torn end is cut, a damaged file is refused as it is, and a whole record is never harmed.
fn writer(bytes: &[u8]) {
    let (folder, lock) = &*FOLDER;
    let (records, end, rest) = framed::whole_records(bytes);
    // A torn end is cut off; a damage with whole records behind it is not.
    let is_within = (end + 1..bytes.len()).any(|start| !framed::whole_records(&bytes[start..]).0.is_empty());
    match JournalWriter::open(folder, lock, 7) {
        Ok(mut writer) => {
            assert!(rest != Rest::Damaged || !is_within);
            assert_eq!(fs::read(folder.journal()).unwrap(), bytes[..end]);
            let progress = v1::StepProgress { step: 42, examples_per_second: 0.5, ..v1::StepProgress::default() };
            let what = What::Progress(progress);
            writer.append(SystemTime::now(), what).unwrap();
            let after = fs::read(folder.journal()).unwrap();
            let (after, _, rest) = framed::whole_records(&after);
            assert_eq!((after.len(), rest), (records.len() + 1, Rest::Nothing));
            assert_eq!(after[..records.len()], records);
        }
        Err(error) => {
            assert!(
                rest == Rest::Damaged && is_within && error.to_string().contains(&format!("byte {end}")),
                "{error}"
            );
            assert_eq!(fs::read(folder.journal()).unwrap(), bytes);
        }
    }
}
