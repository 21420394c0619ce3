//! Batches of a set that is read in shards: a thread puts them together from the shards of a
//! window, a few ahead of the loop. Their examples lie all over the memory of the window, and the
//! loop would wait for each.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use torchd::dataset::{Facts, HostBatch};

use super::Patience;
use super::order::{Order, Window};
use super::pass::{At, bad};
use super::read_ahead::{Filled, LOOK_EVERY, ReadAhead};
use crate::failure::{Failure, Result};

/// Batches that wait for the loop.
const AHEAD: usize = 2;

/// A batch, or the panic of a reader.
type Made = std::result::Result<Result<HostBatch>, Box<dyn Any + Send>>;

/// Batches that are put together ahead of the loop. Dropping it lets the thread and the readers go.
pub(super) struct Mixed {
    made: Receiver<Made>,
    /// Buffers to be filled anew.
    spare: Sender<HostBatch>,
    /// The thread looks whether it is still there while it waits for readers.
    _wanted: Arc<()>,
}

/// A pass of such batches.
pub(super) struct Mixing {
    at: At,
    count: u64,
    order: Order,
    window: Window,
    /// The shards of the window that have been read.
    held: Vec<Filled>,
    ahead: ReadAhead,
    /// Bytes of a value of each input, and of the target.
    widths: Vec<usize>,
}

impl Mixed {
    /// Starts the thread.
    pub(super) fn start(mut mixing: Mixing) -> Result<Self> {
        let ((made, makes), (spare, spares)) = (sync_channel(AHEAD), channel());
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let mix = move || mixing.run(&made, &spares, &is_wanted);
        let started = thread::Builder::new().name("mixer".into()).spawn(mix);
        started.map_err(|error| Failure::machine(format!("a thread that reads data cannot be started: {error}")))?;
        Ok(Self { made: makes, spare, _wanted: wanted })
    }

    /// The next batch; None where `go_on`, asked while it is waited for, says no.
    pub(super) fn take(&self, go_on: Patience<'_>) -> Result<Option<Result<HostBatch>>> {
        let begun = Instant::now();
        loop {
            match self.made.recv_timeout(LOOK_EVERY) {
                Ok(Ok(batch)) => return Ok(Some(batch)),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::no_examples()),
                Err(RecvTimeoutError::Timeout) if go_on(begun.elapsed())? => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
            }
        }
    }

    /// Hands a buffer over to be filled anew.
    pub(super) fn reuse(&self, batch: HostBatch) {
        // The thread is gone once it has made the last batch.
        let _ = self.spare.send(batch);
    }
}

impl Mixing {
    /// From a batch on. `ahead` has the shards from its window on.
    pub(super) fn of(facts: &Facts, order: Order, at: At, ahead: ReadAhead) -> Self {
        let widths = facts.fields().map(|field| field.bytes() as usize).collect();
        let window = order.window(order.window_at(at.position));
        Self { at, count: facts.examples, order, window, held: Vec::new(), ahead, widths }
    }

    /// Makes all batches, until one fails or nobody takes them.
    fn run(&mut self, made: &SyncSender<Made>, spares: &Receiver<HostBatch>, wanted: &Weak<()>) {
        while self.at.position < self.count {
            let spare = spares.try_recv().unwrap_or_default();
            // A panic of a reader is the loop's, as if it had read by itself.
            let batch = match catch_unwind(AssertUnwindSafe(|| self.next(spare, wanted))) {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(batch))) => Ok(Ok(batch)),
                Ok(Err(failure)) => Ok(Err(failure)),
                Err(panic) => Err(panic),
            };
            let is_good = matches!(batch, Ok(Ok(_)));
            if made.send(batch).is_err() || !is_good {
                return;
            }
        }
    }

    /// The next batch; None where nobody takes it any more.
    fn next(&mut self, mut batch: HostBatch, wanted: &Weak<()>) -> Result<Option<HostBatch>> {
        let Self { at, count, order, window, held, ahead, widths } = self;
        let mut position = at.position;
        let end = (*count).min(position + at.size);
        let part = at.share.within(end - position);
        let wanted_positions = position + part.start..position + part.end;
        let mut columns = Columns::new(widths, &mut batch);
        while position < end {
            if !window.positions.contains(&position) {
                held.drain(..).flatten().for_each(|shard| ahead.reuse(shard));
                *window = order.window(order.window_at(position));
            }
            while held.len() < window.runs.len() {
                let Some(shard) = ahead.take(&mut |_| Ok(wanted.strong_count() > 0))? else { return Ok(None) };
                held.push(shard);
            }
            let until = end.min(window.positions.end);
            let positions = position.max(wanted_positions.start)..until.min(wanted_positions.end);
            let examples: Vec<_> = positions.map(|position| window.example(position)).collect();
            columns.append(held, &examples)?;
            position = until;
        }
        at.position = end;
        Ok(Some(batch))
    }
}

/// The columns of a batch that is put together from shards.
struct Columns<'a> {
    widths: &'a [usize],
    batch: &'a mut HostBatch,
}

impl<'a> Columns<'a> {
    /// Of an empty batch, whose values have these widths.
    fn new(widths: &'a [usize], batch: &'a mut HostBatch) -> Self {
        batch.inputs.resize_with(widths.len() - 1, Vec::new);
        let mut columns = Self { widths, batch };
        columns.all().for_each(|(_, column)| column.clear());
        columns
    }

    /// The columns with their widths.
    fn all(&mut self) -> impl Iterator<Item = (usize, &mut Vec<u8>)> {
        let columns = self.batch.inputs.iter_mut().chain([&mut self.batch.targets]);
        self.widths.iter().copied().zip(columns)
    }

    /// Appends examples, each the number of its shard and its number in that.
    fn append(&mut self, shards: &[Filled], examples: &[(usize, u64)]) -> Result<()> {
        // A shard that could not be read fails the first batch that has one of its examples.
        let from = examples.iter().map(|&(shard, number)| match &shards[shard] {
            Ok(shard) => Ok((shard, number as usize)),
            Err(problem) => Err(bad(problem)),
        });
        let from: Vec<_> = from.collect::<Result<_>>()?;
        for (place, (width, column)) in self.all().enumerate() {
            for (shard, number) in &from {
                let values = shard.inputs.get(place).unwrap_or(&shard.targets);
                column.extend_from_slice(&values[number * width..][..width]);
            }
        }
        Ok(())
    }
}
