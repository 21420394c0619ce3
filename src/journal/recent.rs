//! The newest records of a job, encoded once for all that watch it. A watcher that is further back
//! reads the journal: the buffer is bounded, and nothing is lost by being forgotten here.

use std::collections::VecDeque;

use prost::bytes::Bytes;

use super::tail::Position;

/// The most bytes in one job's newest batches together.
const MOST_BYTES: usize = 64 << 10;

/// Records that lie one behind the other.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Where its first record begins.
    pub from: Position,
    /// Where the record behind its last one begins.
    pub to: Position,
    /// The records, as watchers get them.
    pub piece: Bytes,
}

/// The newest batches of a job, without a gap between them.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    batches: VecDeque<Batch>,
    bytes: usize,
}

impl Recent {
    /// Adds a batch. A batch that does not continue the one before makes those before useless.
    pub fn push(&mut self, batch: Batch) {
        if self.batches.back().is_some_and(|last| last.to != batch.from) {
            self.clear();
        }
        self.bytes += batch.piece.len();
        self.batches.push_back(batch);
        while self.bytes > MOST_BYTES
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.piece.len();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// Everything behind a position, and where that leads; None where no batch begins there.
    pub fn behind(&self, position: Position) -> Option<(Vec<Bytes>, Position)> {
        // Watchers that keep up stand before the last one.
        let first = self.batches.iter().rposition(|batch| batch.from == position)?;
        let to = self.batches.back()?.to;
        Some((self.batches.iter().skip(first).map(|batch| batch.piece.clone()).collect(), to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64) -> Position {
        Position { sequence, offset: sequence * 10 }
    }

    fn batch(from: u64, to: u64, bytes: usize) -> Batch {
        Batch { from: at(from), to: at(to), piece: vec![0; bytes].into() }
    }

    #[test]
    fn who_stands_at_a_batch_gets_everything_from_there_on_and_others_nothing() {
        let mut recent = Recent::default();
        for (from, to) in [(0, 3), (3, 4), (4, 9)] {
            recent.push(batch(from, to, 10));
        }
        let found = |sequence| recent.behind(at(sequence)).map(|(pieces, to)| (pieces.len(), to.sequence));
        assert_eq!((found(0), found(3), found(4)), (Some((3, 9)), Some((2, 9)), Some((1, 9))));
        assert_eq!((found(1), found(9)), (None, None));
    }

    #[test]
    fn a_gap_and_too_many_bytes_make_it_forget() {
        let mut recent = Recent::default();
        recent.push(batch(0, 3, 10));
        recent.push(batch(5, 6, 10));
        assert!(recent.behind(at(0)).is_none() && recent.behind(at(5)).is_some());
        recent.push(batch(6, 7, MOST_BYTES));
        assert!(recent.behind(at(5)).is_none() && recent.behind(at(6)).is_some());
        recent.push(batch(7, 8, MOST_BYTES + 1));
        assert!(recent.behind(at(7)).is_none());
        recent.push(batch(8, 9, 1));
        assert!(recent.behind(at(8)).is_some());
    }
}
