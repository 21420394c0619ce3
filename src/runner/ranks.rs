//! Ranks: the processes of a job that train one network together. Each computes its shards of every
//! batch; what the shards give is added in the order of their tree, so that all ranks take the same
//! step, to the bit, and the number of ranks changes no number.
//!
//! The first rank leads: it alone reports, and writes checkpoints and results. It shares its
//! decisions with the others where they cannot make them.

mod library;

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, TchError, Tensor};
use torchd::job::order::Rank;
use torchd::proto::v1::JobEndReason;

use self::library::Group;
pub(crate) use self::library::{Store, probe};
use crate::failure::{Failure, Result, first_line};
use crate::shards::{Node, Sum, Tree, sum_of};
use crate::stop::Stop;

/// The others have to come within this time: they load libtorch meanwhile.
const JOIN: Duration = Duration::from_secs(600);
/// A call waits this long for the others, far longer than any step takes: the daemon sees one that
/// hangs by its silence. One that dies closes its connections, which gloo sees at once; NCCL may
/// not, and the daemon ends ranks that wait there.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Vectors with so many numbers on all ranks together are added by every rank, others in parts.
const SMALL: i64 = 1 << 16;
/// The types in which a loss is computed.
const KINDS: [Kind; 4] = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];

/// The ranks of a job, as one of them sees them.
pub(crate) struct Ranks {
    group: Group,
    device: Device,
    rank: u32,
    count: u32,
    stop: Stop,
}

/// The nodes of a rank, in the order of its shards; None for one whose slices have no example.
type Shape = Vec<Node<()>>;

impl Ranks {
    /// Joins the ranks of an attempt. A request to stop counts once all have heard of it.
    /// Their gradients are on the device.
    pub(crate) fn join(place: Rank, store: &Store<'_>, device: Device, stop: &Stop) -> Result<Self> {
        let Rank { rank, count } = place;
        let joined = Group::join(store, device, (rank, count), JOIN, PATIENCE);
        let group = joined.map_err(|what| match probe(device) {
            Ok(()) => lost(&what),
            Err(absent) => Failure::machine(absent),
        })?;
        Ok(Self { group, device, rank, count, stop: stop.shared() })
    }

    /// The request to stop that all ranks hear in the same step.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Whether this is the rank that tells and writes.
    pub(crate) fn leads(&self) -> bool {
        self.rank == 0
    }

    /// The shards of this rank, of so many.
    pub(crate) fn shards(&self, shards: u32) -> Range<u32> {
        self.shards_of(self.rank, shards)
    }

    /// A spec has a multiple of the ranks.
    fn shards_of(&self, rank: u32, shards: u32) -> Range<u32> {
        let each = shards / self.count;
        rank * each..(rank + 1) * each
    }

    /// A value of the first rank, for all.
    pub(crate) fn tell<T: Serialize + DeserializeOwned>(&self, value: Option<&T>) -> Result<T> {
        let internal = |error: serde_json::Error| Failure::new(JobEndReason::Internal, error.to_string());
        let bytes = value.map_or(Ok(Vec::new()), serde_json::to_vec).map_err(internal)?;
        let mut length = Tensor::from_slice(&[bytes.len() as i64]);
        self.group.spread(&mut length, 0).map_err(|what| lost(&what))?;
        let mut all = match self.leads() {
            true => Tensor::from_slice(&bytes),
            false => Tensor::f_zeros([length.f_int64_value(&[0])?], (Kind::Uint8, Device::Cpu))?,
        };
        self.group.spread(&mut all, 0).map_err(|what| lost(&what))?;
        let mut told = vec![0; all.numel()];
        let count = told.len();
        all.f_copy_data(&mut told, count)?;
        serde_json::from_slice(&told).map_err(internal)
    }

    /// Whether a rank says so.
    pub(crate) fn any(&self, says: bool) -> Result<bool> {
        let all = self.gathered(&Tensor::from_slice(&[i64::from(says)]))?;
        Ok(all.f_any()?.f_int64_value(&[])? != 0)
    }

    /// Fails where a digest is not the same on all ranks: `what` names it.
    pub(crate) fn compare(&self, what: &str, digest: &str) -> Result<()> {
        let all = self.gathered(&Tensor::from_slice(digest.as_bytes()))?;
        for rank in 1..i64::from(self.count) {
            if !all.f_get(rank)?.f_equal(&all.f_get(0)?)? {
                let what = format!("{what} of rank {rank} is not that of rank 0");
                return Err(Failure::new(JobEndReason::Internal, what));
            }
        }
        Ok(())
    }

    /// The vectors of all ranks, `[ranks, n]`.
    pub(crate) fn gathered(&self, own: &Tensor) -> Result<Tensor> {
        let mut own = own.f_contiguous()?;
        let (ranks, size) = (i64::from(self.count), own.size1()?);
        let mut all = own.f_new_empty([ranks * size], (own.kind(), own.device()))?;
        self.group.gather(&mut all, &mut own).map_err(|what| lost(&what))?;
        Ok(all.f_view_([ranks, size])?)
    }

    /// Adds a number of the shards of all ranks, of 64 bits, as [`Ranks::add`] does.
    pub(crate) fn add_weights(
        &self,
        nodes: Vec<Node<Tensor>>,
        shards: u32,
        is_held: impl Fn(u64) -> bool,
    ) -> Result<Option<Tensor>> {
        let own = rows(&nodes, 1, (Kind::Double, self.device), |number| Ok(number.f_view([1])?))?;
        let sum = self.sum(&own, &self.shapes(shards, &is_held)?)?;
        sum.map(|sum| Ok(sum.f_view([0; 0])?)).transpose()
    }

    /// The nodes of all ranks.
    fn shapes(&self, shards: u32, is_held: &impl Fn(u64) -> bool) -> Result<Vec<Shape>> {
        (0..self.count).map(|rank| shape(self.shards_of(rank, shards), is_held)).collect()
    }

    /// Adds what the shards of all ranks have given, of which `nodes` are those of this rank. It is
    /// the same on all of them; None where no shard `is_held`, that is, has an example. `parts` has
    /// type and shape of each part.
    pub(crate) fn add(
        &self,
        nodes: Vec<Node<Sum>>,
        shards: u32,
        is_held: impl Fn(u64) -> bool,
        parts: &[(Kind, Vec<i64>)],
    ) -> Result<Option<Sum>> {
        let shapes = self.shapes(shards, &is_held)?;
        // The parts of a type lie side by side.
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|part| KINDS.iter().position(|kind| *kind == parts[*part].0));
        let size = |part: usize| parts[part].1.iter().product::<i64>();
        let (head, total) = ((4 + parts.len()) as i64, order.iter().map(|part| size(*part)).sum::<i64>());
        // Each call costs the time to wake a process: small parts go with the numbers, where these
        // can hold them. Numbers go by the CPU, which reads them.
        let fits = !self.device.is_cuda() && parts.iter().all(|(kind, _)| KINDS.contains(kind));
        let goes_along = fits && (head + total) * i64::from(self.count) <= SMALL;
        let asked = f64::from(self.stop.is_heard());
        let numbers = |sum: &Sum| -> Result<Tensor> {
            let kind = KINDS.iter().position(|kind| *kind == sum.kind).unwrap_or_default() as f64;
            let slices = f64::from(sum.slices);
            let mut told = vec![f64::try_from(&sum.loss)?, asked, slices, kind * slices];
            told.extend(sum.counts.iter().map(|count| f64::from(*count)));
            let told = Tensor::from_slice(&told);
            Ok(if goes_along { Tensor::f_cat(&[told, self.flat(sum, &order, parts, Kind::Double)?], 0)? } else { told })
        };
        let width = head + if goes_along { total } else { 0 };
        let all = self.all_rows(&rows(&nodes, width, (Kind::Double, Device::Cpu), numbers)?, &shapes)?;
        let columns = |start: i64, count: i64, kind: Kind| {
            let row = |rank: usize, node: usize| {
                all.f_get(rank as i64)?.f_get(node as i64)?.f_narrow(0, start, count)?.f_to_kind(kind)
            };
            added(&shapes, row)
        };
        let Some(told) = columns(0, head, Kind::Double)? else { return Ok(None) };
        let told = Vec::<f64>::try_from(&told)?;
        let (&[loss, asked, slices, kinds], counts) = told.split_first_chunk::<4>().ok_or_else(Failure::no_examples)?;
        if asked > 0.0 {
            self.stop.agree();
        }
        let mut sums: Vec<Option<Tensor>> = parts.iter().map(|_| None).collect();
        let mut left = &order[..];
        let mut column = head;
        while let Some(kind) = left.first().map(|part| parts[*part].0) {
            let count = left.iter().take_while(|part| parts[**part].0 == kind).count();
            let (mut of_kind, others) = (left[..count].to_vec(), &left[count..]);
            left = others;
            if !goes_along {
                of_kind.retain(|part| counts[*part] > 0.0);
            }
            let width: i64 = of_kind.iter().map(|part| size(*part)).sum();
            let sum = match goes_along {
                true => columns(column, width, kind)?,
                false => {
                    let flat = |sum: &Sum| self.flat(sum, &of_kind, parts, kind);
                    self.sum(&rows(&nodes, width, (kind, self.device), flat)?, &shapes)?
                }
            };
            column += width;
            let Some(sum) = sum else { return Ok(None) };
            let mut start = 0;
            for part in of_kind {
                if counts[part] > 0.0 {
                    let own = sum.f_narrow(0, start, size(part))?.f_view(&parts[part].1[..])?;
                    // CUDA adds the numbers of a tensor by their places in memory: without a place
                    // of its own its norm would be another than in one process.
                    sums[part] = Some(if self.device.is_cuda() { copied(&own)? } else { own });
                }
                start += size(part);
            }
        }
        let kind = KINDS[(kinds / slices).round() as usize % KINDS.len()];
        let counts = counts.iter().map(|count| *count as u32).collect();
        let loss = Tensor::from(loss).f_to_device(self.device)?;
        Ok(Some(Sum { loss, kind, slices: slices as u32, parts: sums, counts }))
    }

    /// The vectors of the nodes of all ranks, `[ranks, nodes, n]`, of which `own` has those of this
    /// one.
    fn all_rows(&self, own: &Tensor, shapes: &[Shape]) -> Result<Tensor> {
        let (nodes, size) = own.size2()?;
        let (ranks, most) = (i64::from(self.count), shapes.iter().map(Vec::len).max().unwrap_or_default() as i64);
        let mut padded = own.shallow_clone();
        if nodes < most {
            padded = own.f_new_zeros([most, size], (own.kind(), own.device()))?;
            padded.f_narrow(0, 0, nodes)?.f_copy_(own)?;
        }
        Ok(self.gathered(&padded.f_view([-1])?)?.f_view([ranks, most, size])?)
    }

    /// Adds vectors in the order of the tree: `own` has one a node of this rank, `[nodes, n]`. None
    /// where no node holds anything.
    fn sum(&self, own: &Tensor, shapes: &[Shape]) -> Result<Option<Tensor>> {
        let (nodes, size) = own.size2()?;
        let ranks = i64::from(self.count);
        // Of two ranks each gets what it would get in parts.
        if ranks <= 2 || size * ranks <= SMALL {
            let all = self.all_rows(own, shapes)?;
            return added(shapes, |rank, node| all.f_get(rank as i64)?.f_get(node as i64));
        }
        let part = size.div_euclid(ranks) + i64::from(size % ranks != 0);
        let padded = own.f_new_zeros([nodes, part * ranks], (own.kind(), own.device()))?;
        padded.f_narrow(1, 0, size)?.f_copy_(own)?;
        // Each rank adds one part of all vectors.
        let sent = padded.f_view([nodes, ranks, part])?.f_transpose(0, 1)?.f_contiguous()?;
        let counts: Vec<_> = shapes.iter().map(|shape| shape.len() as i64).collect();
        let mut received = sent.f_new_empty([counts.iter().sum(), part], (sent.kind(), sent.device()))?;
        let mut sent = sent.f_view_([ranks * nodes, part])?;
        let exchanged = self.group.exchange(&mut received, &counts, &mut sent, &vec![nodes; shapes.len()]);
        exchanged.map_err(|what| lost(&what))?;
        let first: Vec<i64> = counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect();
        let Some(sum) = added(shapes, |rank, node| received.f_get(first[rank] + node as i64))? else {
            return Ok(None);
        };
        Ok(Some(self.gathered(&sum)?.f_view([-1])?.f_narrow(0, 0, size)?))
    }

    /// Parts of a sum one behind the other; zeros in place of one that is not there.
    fn flat(&self, sum: &Sum, order: &[usize], parts: &[(Kind, Vec<i64>)], kind: Kind) -> Result<Tensor> {
        let to = (kind, self.device);
        let flat = order.iter().map(|part| match &sum.parts[*part] {
            Some(tensor) => tensor.f_reshape([-1])?.f_to_kind(kind),
            None => Tensor::f_zeros([parts[*part].1.iter().product::<i64>()], to),
        });
        let flat = flat.collect::<std::result::Result<Vec<_>, TchError>>()?;
        // There is nothing to learn in some networks.
        Ok(if flat.is_empty() { Tensor::f_zeros([0], to)? } else { Tensor::f_cat(&flat, 0)? })
    }
}

/// The nodes that a rank with these shards has.
fn shape(shards: Range<u32>, is_held: &impl Fn(u64) -> bool) -> Result<Shape> {
    let mut tree = Tree::default();
    for shard in shards.map(u64::from) {
        tree.push(Node { start: shard, size: 1, sum: is_held(shard).then_some(()) }, |(), ()| Ok(()))?;
    }
    Ok(tree.into_nodes())
}

/// A tensor in memory of its own.
fn copied(tensor: &Tensor) -> std::result::Result<Tensor, TchError> {
    let mut apart = tensor.f_empty_like()?;
    apart.f_copy_(tensor)?;
    Ok(apart)
}

/// A vector of so many numbers for each node; zeros for one that holds nothing.
fn rows<T>(nodes: &[Node<T>], size: i64, to: (Kind, Device), of: impl Fn(&T) -> Result<Tensor>) -> Result<Tensor> {
    let none = || Ok(Tensor::f_zeros([size], to)?);
    let rows = nodes.iter().map(|node| node.sum.as_ref().map_or_else(none, &of));
    Ok(match &rows.collect::<Result<Vec<_>>>()?[..] {
        // No copy of a large one.
        [only] => only.f_unsqueeze(0)?,
        rows => Tensor::f_stack(rows, 0)?,
    })
}

/// The sum over the nodes of all ranks: `row` gives the vector of a node of a rank.
fn added(
    shapes: &[Shape],
    row: impl Fn(usize, usize) -> std::result::Result<Tensor, TchError>,
) -> Result<Option<Tensor>> {
    let mut tree = Tree::default();
    for (rank, shape) in shapes.iter().enumerate() {
        for (place, node) in shape.iter().enumerate() {
            let sum = node.sum.map(|()| row(rank, place)).transpose()?;
            tree.push(Node { start: node.start, size: node.size, sum }, sum_of)?;
        }
    }
    tree.whole(sum_of)
}

/// The failure of a call among ranks: mostly another one is gone, and the cause is its own. What
/// CUDA and NCCL say of themselves, and of memory, is of this one.
fn lost(error: &TchError) -> Failure {
    let TchError::Torch(text) = error else { return Failure::new(JobEndReason::Internal, first_line(error)) };
    let mut words = first_line(error);
    // NCCL tells its cause in the lines behind that one.
    if let Some((_, cause)) = text.split_once("Last error:") {
        let cause = cause.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        words = format!("{words}: {cause}");
    }
    let says = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    match Failure::from(TchError::Torch(text.clone())).reason {
        JobEndReason::OutOfMemory => Failure::new(JobEndReason::OutOfMemory, words),
        _ if says(&["nobody can listen at"]) => Failure::machine(words),
        _ if says(&["no GPUs found", "CUDA error", "NCCL error"]) && !says(&["remote process exited"]) => {
            Failure::new(JobEndReason::DeviceUnavailable, words)
        }
        _ => Failure::new(JobEndReason::PeerLost, format!("another rank is gone: {words}")),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use torchd::dataset::draw::mix;

    use super::*;
    use crate::cuda::Cuda;
    use crate::shards::bounds;

    mod skips {
        include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skips/tell.rs"));
    }

    /// The last one decides whether they go along, and whether they are exchanged in pieces.
    fn parts(large: i64) -> Vec<(Kind, Vec<i64>)> {
        vec![(Kind::Float, vec![3, 2]), (Kind::Double, vec![71, 83]), (Kind::Float, vec![]), (Kind::Float, vec![large])]
    }

    /// The outcome of a shard: numbers whose sum depends on the order. Some shards lack some parts.
    fn given(seed: u64, shard: u32, large: i64, device: Device) -> Sum {
        let number =
            |place: usize| (mix(seed ^ mix(u64::from(shard)) ^ mix(place as u64)) as f64 / u64::MAX as f64) - 0.5;
        let part = |(place, (kind, shape)): (usize, (Kind, Vec<i64>))| {
            let count = shape.iter().product::<i64>() as usize;
            let values: Vec<f64> = (0..count).map(|at| number(place << 20 | at)).collect();
            let is_there = place == 1 || !mix(seed ^ u64::from(shard) << 8 ^ place as u64).is_multiple_of(3);
            is_there.then(|| Tensor::from_slice(&values).to_kind(kind).to_device(device).view(&shape[..]))
        };
        let parts: Vec<_> = parts(large).into_iter().enumerate().map(part).collect();
        let counts = parts.iter().map(|part| u32::from(part.is_some())).collect();
        Sum { loss: Tensor::from(number(0)).to_device(device), kind: Kind::Float, slices: 1, parts, counts }
    }

    /// A batch: its shards, its examples, and the numbers that they give.
    #[derive(Clone, Copy)]
    struct Batch {
        shards: u32,
        size: i64,
        seed: u64,
        large: i64,
    }

    /// The sum over some shards of a batch, as far as the tree allows.
    fn over(shards: Range<u32>, batch: Batch, device: Device) -> Tree<Sum> {
        let Batch { shards: of, size, seed, large } = batch;
        let mut tree = Tree::default();
        for shard in shards {
            let sum = (bounds(size, of, shard).1 > 0).then(|| given(seed, shard, large, device));
            tree.push(Node { start: shard.into(), size: 1, sum }, Sum::add).unwrap();
        }
        tree
    }

    type Bits = (u64, u32, Vec<u32>, Vec<Option<Vec<u64>>>);

    /// Everything of a sum, by its bits. A part that not all slices have is as with zeros in their
    /// place.
    fn bits(sum: Option<Sum>) -> Option<Bits> {
        let Sum { loss, slices, parts, counts, .. } = sum?;
        let bits = |(part, count): (Option<Tensor>, &u32)| {
            let part = if *count < slices { part?.f_add_scalar_(0.0).unwrap() } else { part? };
            let values = Vec::<f64>::try_from(&part.to_device(Device::Cpu).to_kind(Kind::Double).view([-1])).unwrap();
            Some(values.into_iter().map(f64::to_bits).collect())
        };
        let parts = parts.into_iter().zip(&counts).map(bits).collect();
        Some((f64::try_from(&loss).unwrap().to_bits(), slices, counts, parts))
    }

    /// The sums that so many ranks come to on a device, a thread each, and that of one process.
    fn sums(ranks: u32, batch: Batch, device: Device) -> (Vec<Option<Bits>>, Option<Bits>) {
        let folder = tempfile::tempdir().unwrap();
        let store = &folder.path().join("meeting");
        let alone = bits(over(0..batch.shards, batch, device).whole(Sum::add).unwrap());
        let sums = thread::scope(|scope| {
            let rank = |rank| {
                scope.spawn(move || {
                    let group = Group::join(&Store::File(store), device, (rank, ranks), JOIN, JOIN).unwrap();
                    let this = Ranks { group, device, rank, count: ranks, stop: Stop::new().unwrap().shared() };
                    let nodes = over(this.shards(batch.shards), batch, device).into_nodes();
                    let held = |shard: u64| bounds(batch.size, batch.shards, shard as u32).1 > 0;
                    bits(this.add(nodes, batch.shards, held, &parts(batch.large)).unwrap())
                })
            };
            let all: Vec<_> = (0..ranks).map(rank).collect();
            all.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        (sums, alone)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_sum_of_several_ranks_is_that_of_one_process(
            ranks in 1..6u32,
            each in 1..5u32,
            size in 1..40i64,
            seed in any::<u64>(),
            large in prop_oneof![Just(17i64), Just(30_011)],
        ) {
            if let Err(absent) = probe(Device::Cpu) {
                skips::tell(skips::Skip::CouldRun, &absent);
                return Ok(());
            }
            let (sums, alone) = sums(ranks, Batch { shards: ranks * each, size, seed, large }, Device::Cpu);
            prop_assert!(sums.into_iter().all(|sum| sum == alone));
        }
    }

    #[test]
    fn a_failure_is_that_of_another_rank_only_where_nothing_of_this_one_is_told() {
        let told = |text: &str| lost(&TchError::Torch(text.into()));
        let gloo = told("[../gloo/transport/tcp/pair.cc:537] Connection closed by peer [127.0.0.1]:5\nframe #0");
        assert_eq!(gloo.reason, JobEndReason::PeerLost);
        assert!(gloo.message.starts_with("another rank is gone: [../gloo"), "{}", gloo.message);
        let text = "NCCL error in: NCCLUtils.cpp:77, unhandled system error, NCCL version 2.28.9\n\
                    ncclSystemError: System call failed\nLast error:\nError while creating shared memory: No space left";
        let nccl = told(text);
        assert_eq!(nccl.reason, JobEndReason::DeviceUnavailable);
        assert!(
            nccl.message.ends_with("2.28.9: Error while creating shared memory: No space left"),
            "{}",
            nccl.message
        );
        assert_eq!(told("CUDA out of memory. Tried to allocate 2 MiB").reason, JobEndReason::OutOfMemory);
        let gone = told("NCCL error in: a.cpp:1, remote process exited or there was a network error");
        assert_eq!(gone.reason, JobEndReason::PeerLost);
    }

    #[test]
    fn a_rank_on_a_gpu_comes_to_the_sum_of_one_process_there_and_tells_by_the_cpu() {
        if let Some(absent) = Cuda::open().absence() {
            return skips::tell(skips::Skip::CannotRun, &absent);
        }
        let device = Device::Cuda(0);
        if let Err(absent) = probe(device) {
            return skips::tell(skips::Skip::CouldRun, &absent);
        }
        for (seed, large) in [(1, 17), (2, 3_000_011)] {
            let (sums, alone) = sums(1, Batch { shards: 4, size: 7, seed, large }, device);
            assert!(alone.is_some() && sums == [alone]);
        }
        // The places of parts in memory count there, as for the norm of gradients.
        let odd = Tensor::rand([450], (Kind::Float, device));
        let behind =
            Tensor::cat(&[Tensor::zeros([3], (Kind::Float, device)), odd.shallow_clone()], 0).narrow(0, 3, 450);
        assert_eq!(copied(&behind).unwrap().norm(), odd.norm());
        let folder = tempfile::tempdir().unwrap();
        let stop = Stop::new().unwrap();
        let place = Rank { rank: 0, count: 1 };
        let this = Ranks::join(place, &Store::File(&folder.path().join("meeting")), device, &stop).unwrap();
        assert_eq!(this.tell(Some(&7u64)).unwrap(), 7);
        let own = Tensor::arange(8, (Kind::Float, device));
        assert_eq!(this.gathered(&own).unwrap(), own.view([1, 8]));
        let (mut received, mut sent) = (own.zeros_like().view([4, 2]), own.view([4, 2]));
        this.group.exchange(&mut received, &[4], &mut sent, &[4]).unwrap();
        assert_eq!(received, sent);
    }
}
