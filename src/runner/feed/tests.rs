//! Batches of a set by every way to read it, and what becomes of a reader that fails or hangs.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use torchd::dataset::{DataFile, Files, Moments, OpenFiles, Problem, Sampling, Selection, named_arrays};
use torchd::proto::v1::JobEndReason;

use super::*;

/// How a set in memory is read in a test.
#[derive(Clone)]
pub(crate) enum Way {
    Memory,
    Single,
    /// In shards with these ends.
    Shards(Vec<u64>),
}

/// A set in memory that may be read as if it were none.
pub(crate) struct Told {
    pub(crate) source: Box<dyn Source>,
    pub(crate) way: Way,
    /// Places that cannot be read.
    pub(crate) bad: Range<u64>,
    /// Each read takes one out of here, and hangs until there is one.
    pub(crate) allowed: Option<Mutex<Receiver<()>>>,
    /// Gets the name of its thread from each read that begins.
    pub(crate) begun: Option<Sender<String>>,
}

impl Told {
    pub(crate) fn new(source: Box<dyn Source>, way: Way) -> Self {
        Self { source, way, bad: 0..0, allowed: None, begun: None }
    }
}

impl Source for Told {
    fn facts(&self) -> &Facts {
        self.source.facts()
    }

    fn access(&self) -> Access<'_> {
        match &self.way {
            Way::Memory => Access::Memory,
            Way::Single => Access::Single,
            Way::Shards(ends) => Access::Shards { ends, window_bytes: 64 << 20 },
        }
    }

    fn chances(&self) -> Option<&Arc<Chances>> {
        self.source.chances()
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> std::result::Result<(), Problem> {
        if let Some(begun) = &self.begun {
            let _ = begun.send(std::thread::current().name().unwrap_or_default().to_owned());
        }
        if let Some(allowed) = &self.allowed {
            let _ = allowed.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        match places.iter().find(|place| self.bad.contains(place)) {
            Some(place) => {
                Err(Problem { file: "path".into(), what: format!("the example {place} is damaged"), unjudged: None })
            }
            None => self.source.fill(places, into),
        }
    }
}

const EXAMPLES: u64 = 103;

/// 103 examples of some numbers, each the place, with the place as the target.
fn set(numbers: i64) -> Box<dyn Source> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("set.safetensors");
    let places = Tensor::arange(EXAMPLES as i64, (Kind::Int64, Device::Cpu));
    let values = places.to_kind(Kind::Float).view([-1, 1]).repeat([1, numbers]);
    Tensor::write_safetensors(&[("x", values), ("y", places)], &path).unwrap();
    let files = named_arrays::Files { paths: path.clone().into(), inputs: vec![], target: "y".into() };
    let selection = Selection::of(Files::Safetensors(files));
    selection.open(&OpenFiles::of([DataFile::open(&path).unwrap()]), None).ok().unwrap().train
}

fn memory() -> Told {
    Told::new(set(2), Way::Memory)
}

fn single() -> Told {
    Told::new(set(2), Way::Single)
}

/// In shards of ten.
fn shards() -> Told {
    let ends = (1..=10).map(|shard| shard * 10).chain([EXAMPLES]).collect();
    Told::new(set(2), Way::Shards(ends))
}

fn feed(source: impl Source + 'static, readers: usize) -> Feed {
    Feed::new(Box::new(source), readers, vec![None], vec![Some(0)], Device::Cpu, 0).unwrap()
}

/// The places of the examples of a batch, whose inputs belong to its targets.
fn places(batch: &Batch) -> Vec<u64> {
    let expected = batch.targets.to_kind(Kind::Float).view([-1, 1]).expand_as(&batch.inputs[0]);
    assert_eq!((&batch.inputs[0], batch.size), (&expected, batch.targets.size()[0]));
    Vec::<i64>::try_from(&batch.targets).unwrap().into_iter().map(|place| place as u64).collect()
}

/// The places of a pass from a position on.
fn pass(feed: &mut Feed, shuffle: Option<Shuffle>, mut position: u64) -> Vec<u64> {
    let mut all = Vec::new();
    while position < EXAMPLES {
        let batch = feed.batch(shuffle, position, 8, &mut |_| Ok(true)).unwrap().unwrap();
        position += batch.size as u64;
        all.extend(places(&batch));
    }
    all
}

const SHUFFLE: Option<Shuffle> = Some(Shuffle { seed: 7, epoch: 1 });

#[test]
fn a_pass_is_the_same_however_it_is_read_and_from_wherever_it_goes_on() {
    let in_memory = pass(&mut feed(memory(), 1), SHUFFLE, 0);
    let in_shards = pass(&mut feed(shards(), 1), SHUFFLE, 0);
    assert_ne!(in_memory, in_shards, "shards are shuffled in windows");
    for of in [&in_memory, &in_shards] {
        let mut sorted = of.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..EXAMPLES));
    }
    for readers in [1, 3] {
        let (mut single, mut shards) = (feed(single(), readers), feed(shards(), readers));
        for position in [0, 8, 48, 96] {
            assert_eq!(pass(&mut single, SHUFFLE, position), in_memory[position as usize..]);
            assert_eq!(pass(&mut shards, SHUFFLE, position), in_shards[position as usize..]);
        }
        for feed in [&mut single, &mut shards] {
            assert_eq!(pass(feed, None, 0), (0..EXAMPLES).collect::<Vec<_>>());
            assert_eq!(places(&feed.first(5).unwrap()), [0, 1, 2, 3, 4]);
        }
    }
}

#[test]
fn readers_copy_large_batches_of_a_set_in_memory_and_the_loop_small_ones() {
    let mut expected = pass(&mut feed(memory(), 1), SHUFFLE, 0);
    expected.truncate(80);
    // 40 examples of 40 KB are more than a MiB, and 20 of them are less.
    for (size, reads_itself) in [(40, false), (20, true)] {
        let (begun, reads) = channel();
        let mut feed = feed(Told { begun: Some(begun), ..Told::new(set(10_000), Way::Memory) }, 3);
        let batches = (0..80).step_by(size as usize);
        let read: Vec<u64> = batches
            .flat_map(|position| places(&feed.batch(SHUFFLE, position, size, &mut |_| Ok(true)).unwrap().unwrap()))
            .collect();
        assert_eq!(read, expected);
        let names: Vec<_> = reads.try_iter().collect();
        assert!(names.iter().all(|name| name.starts_with("reader-") != reads_itself), "{size}: {names:?}");
    }
}

#[test]
fn a_set_that_is_held_on_the_device_gives_the_same_batches() {
    let mut host = feed(memory(), 1);
    let mut held = Feed::new(set(2), 1, vec![None], vec![Some(0)], Device::Cpu, EXAMPLES * 16).unwrap();
    assert!(matches!(held.held, Holding::Device { .. }));
    for (shuffle, position) in [(SHUFFLE, 0), (None, 0), (SHUFFLE, 40)] {
        assert_eq!(pass(&mut held, shuffle, position), pass(&mut host, shuffle, position));
    }
    let too_large = Feed::new(set(2), 1, vec![None], vec![Some(0)], Device::Cpu, EXAMPLES * 16 - 1).unwrap();
    assert!(matches!(too_large.held, Holding::Host { .. }));
}

#[test]
fn examples_are_drawn_by_their_chances_however_they_are_read_and_from_wherever() {
    let weighed = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("set.safetensors");
        let places = Tensor::arange(EXAMPLES as i64, (Kind::Int64, Device::Cpu));
        let arrays = [
            ("x", places.to_kind(Kind::Float).view([-1, 1])),
            ("w", places.remainder(3).to_kind(Kind::Float)),
            ("y", places),
        ];
        Tensor::write_safetensors(&arrays, &path).unwrap();
        let files = named_arrays::Files { paths: path.clone().into(), inputs: vec![], target: "y".into() };
        let sampling = Some(Sampling::Weights("w".into()));
        let selection = Selection { sampling, ..Selection::of(Files::Safetensors(files)) };
        selection.open(&OpenFiles::of([DataFile::open(&path).unwrap()]), None).ok().unwrap().train
    };
    let mut memory = feed(Told::new(weighed(), Way::Memory), 1);
    let first = pass(&mut memory, SHUFFLE, 0);
    assert_eq!(first.len() as u64, EXAMPLES);
    assert!(first.iter().all(|place| place % 3 > 0));
    let twos = first.iter().filter(|place| *place % 3 == 2).count();
    assert!((55..85).contains(&twos), "{twos}");
    assert_ne!(first, pass(&mut memory, Some(Shuffle { seed: 7, epoch: 2 }), 0));
    assert_eq!(pass(&mut memory, None, 0), (0..EXAMPLES).collect::<Vec<_>>(), "the examples in their order");
    let mut held = Feed::new(weighed(), 1, vec![None], vec![Some(0)], Device::Cpu, EXAMPLES * 16).unwrap();
    let mut single = feed(Told::new(weighed(), Way::Single), 3);
    for feed in [&mut memory, &mut held, &mut single] {
        assert_eq!(pass(feed, SHUFFLE, 0), first);
        assert_eq!(pass(feed, SHUFFLE, 40), first[40..]);
    }
}

#[test]
fn an_example_that_cannot_be_read_fails_the_batch_that_has_it_and_none_before() {
    // A shard that cannot be read is bad as a whole.
    for (told, bad) in [(single(), 77..78), (shards(), 70..80)] {
        let order = pass(&mut feed(Told::new(set(2), told.way.clone()), 1), SHUFFLE, 0);
        let first_bad = order.iter().position(|place| bad.contains(place)).unwrap() as u64;
        let mut feed = feed(Told { bad, ..told }, 3);
        for position in (0..first_bad / 8 * 8).step_by(8) {
            feed.batch(SHUFFLE, position, 8, &mut |_| Ok(true)).unwrap().unwrap();
        }
        let failure = feed.batch(SHUFFLE, first_bad / 8 * 8, 8, &mut |_| Ok(true)).err().unwrap();
        assert_eq!(failure.reason, JobEndReason::BadData);
        assert!(failure.message.contains("is damaged"), "{}", failure.message);
    }
}

#[test]
fn a_reader_that_hangs_is_waited_for_as_long_as_the_loop_wants() {
    let (allow, hung) = channel();
    let mut feed = feed(Told { allowed: Some(Mutex::new(hung)), ..single() }, 1);
    let mut waited = Vec::new();
    let given_up = feed
        .batch(SHUFFLE, 0, 8, &mut |wait| {
            waited.push(wait);
            Ok(waited.len() < 3)
        })
        .unwrap();
    assert!(given_up.is_none() && waited.is_sorted() && waited.len() == 3, "{waited:?}");
    assert!(feed.take_waited() >= waited[2], "the wait counts");
    assert_eq!(feed.take_waited(), Duration::ZERO);
    // Nothing is lost: the batch is read anew.
    drop(allow);
    let batch = feed.batch(SHUFFLE, 0, 8, &mut |_| Ok(true)).unwrap().unwrap();
    assert_eq!(batch.size, 8);
}

#[test]
fn readers_stay_within_their_bounds() {
    let (begun, reads) = channel();
    let mut feed = feed(Told { begun: Some(begun), ..single() }, 2);
    feed.batch(SHUFFLE, 0, 8, &mut |_| Ok(true)).unwrap().unwrap();
    // With two readers five lie ahead, and one was taken.
    assert_eq!(reads.iter().take(6).count(), 6);
    // Readers let go of the source once nobody takes what they read.
    drop(feed);
    assert_eq!(reads.iter().count(), 0, "batches were read beyond the bound");
}

#[test]
fn a_panic_of_a_reader_is_that_of_the_loop() {
    struct Broken(Box<dyn Source>);
    impl Source for Broken {
        fn facts(&self) -> &Facts {
            self.0.facts()
        }
        fn access(&self) -> Access<'_> {
            Access::Single
        }
        fn fill(&self, _: &[u64], _: &mut HostBatch) -> std::result::Result<(), Problem> {
            panic!("a fault of a source")
        }
    }
    let mut feed = feed(Broken(set(2)), 2);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| feed.first(1))).err().unwrap();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a fault of a source"));
}

#[test]
fn inputs_are_normalized_by_what_was_measured_or_given() {
    let (source, rows) = (set(2), Moments { mean: vec![51.0, 0.0], std: vec![2.0, 1.0] });
    let facts = source.facts().clone();
    // The training set called its input otherwise, as two files of NumPy do.
    let mut taught = facts.clone();
    taught.inputs[0].name = "x_train".into();
    let preparation = Preparation { moments: [("x_train".into(), rows)].into(), ..Preparation::default() };
    let given = Normalize::By { mean: vec![51.0, 51.0], std: vec![2.0, 1.0] };
    for (normalize, second) in [(&Normalize::Measured, 0.0), (&given, 51.0)] {
        let normalizer = normalizer(&facts, &taught, Some(normalize), &preparation, Device::Cpu).unwrap();
        let mut feed = Feed::new(set(2), 1, normalizer, vec![Some(0)], Device::Cpu, 0).unwrap();
        let first = Vec::<Vec<f64>>::try_from(&feed.first(3).unwrap().inputs[0].to_kind(Kind::Double)).unwrap();
        let expected = |place: f64| vec![(place - 51.0) / 2.0, place - second];
        assert_eq!(first, [expected(0.0), expected(1.0), expected(2.0)]);
    }
    assert!(normalizer(&facts, &taught, None, &preparation, Device::Cpu).unwrap()[0].is_none());
    let unmeasured = Preparation::default();
    let failure = normalizer(&facts, &taught, Some(&Normalize::Measured), &unmeasured, Device::Cpu).err().unwrap();
    assert!(failure.message.contains("\"x\" was not measured in the training set"), "{}", failure.message);
}
