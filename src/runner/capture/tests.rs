//! The decisions about captured steps, and a recorder for the CPU, which does recorded work again.
//! `train/rows/captured.rs` trains with it.

use std::cell::Cell;
use std::rc::Rc;

use super::*;

/// Calls of a recorder.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) recorded: usize,
    pub(crate) replayed: usize,
    pub(crate) forgotten: usize,
}

/// Records nothing, and does the work when it should be replayed.
pub(crate) struct Again(pub(crate) Rc<Cell<Calls>>);

impl Again {
    fn count(&self, change: impl FnOnce(&mut Calls)) {
        let mut calls = self.0.get();
        change(&mut calls);
        self.0.set(calls);
    }
}

impl Recorder for Again {
    fn record(&mut self, _: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
        self.count(|calls| calls.recorded += 1);
        Ok(self.0.get().recorded - 1)
    }

    fn replay(&mut self, recording: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        assert!(recording < self.0.get().recorded);
        self.count(|calls| calls.replayed += 1);
        work()
    }

    fn forget(&mut self) -> Result<()> {
        self.count(|calls| calls.forgotten += 1);
        Ok(())
    }
}

#[test]
fn whole_batches_are_recorded_once_they_are_warm_and_others_never() {
    let mut course = Course { batch_size: 8, warm: 0 };
    let mut ways = Vec::new();
    let mut is_recorded = false;
    for size in [8, 8, 3, 8, 8, 3, 8] {
        let way = course.way(size, is_recorded);
        match way {
            Way::Plain => course.took(size),
            Way::Record => is_recorded = true,
            Way::Replay => {}
        }
        ways.push(way);
    }
    use Way::{Plain, Record, Replay};
    assert_eq!(ways, [Plain, Plain, Plain, Plain, Record, Plain, Replay]);
}

#[test]
fn the_reason_why_steps_are_not_captured_is_told() {
    let facts = |lacks_library, waits: Option<&str>, examples| Facts {
        lacks_library,
        waits: waits.map(str::to_owned),
        examples,
        batch_size: 64,
    };
    assert_eq!(obstacle(facts(None, None, 64)), None);
    for (facts, why) in [
        (facts(Some("no library"), Some("it waits"), 64), "no library"),
        (facts(None, Some("it waits"), 64), "it waits"),
        (facts(None, None, 63), "training.batch_size is 64, and the training set has 63 examples"),
    ] {
        assert_eq!(obstacle(facts).as_deref(), Some(why));
    }
}
