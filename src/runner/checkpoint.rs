//! Checkpoints: everything that training needs to go on, bit for bit. Tensors are copied to the CPU
//! one by one, so that saving does not raise the memory of a GPU by the model's size; the files are
//! written by a thread of their own, beside training.
//!
//! Weights are saved as safetensors with PyTorch's names: `safetensors.torch.load_file` and
//! `load_state_dict` take them. What else there is, the optimizer's state and the sums behind the
//! next scalars, lies in a file beside them.

mod load;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tch::{Device, Kind, TchError, Tensor};
use torchd::fault;
use torchd::job::retention::{Checkpoints, Kept, Quantity};
use torchd::journal::{
    Checkpoint, FileSum, JobFolder, Manifest, checkpoints, set_aside, sync_folder, write_whole, write_whole_by,
};
use torchd::proto::v1::{CheckpointSaved, JobEndReason};
use torchd::sha256::Sha256;
use torchd::tensor_file::{self, Values, pt};

pub(crate) use self::load::{Loaded, at, best_good, best_value, judge, newest_good};
#[cfg(test)]
pub(crate) use self::load::{load_weights, tensors};
use crate::failure::{Failure, Result};
use crate::model::Network;
use crate::stateful::Stateful;

/// The weights, in a checkpoint's folder and among the artifacts.
const MODEL_FILE: &str = JobFolder::MODEL_FILE;
/// The other state of training, in a checkpoint's folder.
const STATE_FILE: &str = JobFolder::STATE_FILE;

/// A runner that waits for a checkpoint reports at this interval that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// A checkpoint that takes longer to write is told in the log.
const SLOW: Duration = Duration::from_secs(10);

/// Tensors on the CPU, as bytes. They hold what their parts allow: nothing that has diverged can be
/// saved.
pub(crate) struct Snapshot(Vec<Saved>);

/// The first tensors of a snapshot at each place in memory.
type Places = BTreeMap<(*mut std::ffi::c_void, Vec<usize>, Dtype), usize>;

/// A tensor of a snapshot.
struct Saved {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
    /// The number of the first tensor that is the same one, as tied weights are, or its own.
    storage: usize,
}

/// The types that are saved, as libtorch and the format name them.
const DTYPES: [(Kind, Dtype); 11] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Int16, Dtype::I16),
    (Kind::Int8, Dtype::I8),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
    (Kind::ComplexFloat, Dtype::C64),
];

/// A type that is saved, as it is called in files.
pub(crate) fn dtype_of(kind: Kind) -> Option<tensor_file::Dtype> {
    let (_, dtype) = DTYPES.into_iter().find(|(known, _)| *known == kind)?;
    tensor_file::Dtype::of_safetensors(&dtype.to_string())
}

impl Snapshot {
    /// Copies of the tensors of these parts after that step. `Diverged` where one holds a value
    /// that its part does not allow.
    pub(crate) fn of(step: u64, parts: &[&dyn Stateful]) -> Result<Self> {
        let mut snapshot = Self(Vec::new());
        let mut places = BTreeMap::new();
        for part in parts {
            part.save(&mut |name, tensor| snapshot.add(step, name, tensor, part.values(name), &mut places))?;
        }
        Ok(snapshot)
    }

    /// The same of the result of a network: tied tensors stand under each of their names.
    fn of_result(step: u64, network: &dyn Network) -> Result<Self> {
        let mut snapshot = Self(Vec::new());
        let mut places = BTreeMap::new();
        network.result(&mut |name, tensor| snapshot.add(step, name, tensor, network.values(name), &mut places))?;
        Ok(snapshot)
    }

    fn add(&mut self, step: u64, name: &str, tensor: &Tensor, values: Values, places: &mut Places) -> Result<()> {
        let dtype = known(name, tensor)?;
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        let on_cpu = tensor.detach().f_to_device(Device::Cpu)?.f_contiguous()?;
        // The copy and not the original: that would take memory of the GPU.
        if !is_allowed(&on_cpu, values)? {
            return Err(Failure::diverged(step, &format!("{name} held {}", values.refused())));
        }
        let mut bytes = vec![0; tensor.numel() * dtype.bitsize() / 8];
        on_cpu.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let own = self.0.len();
        let place = (tensor.data_ptr(), shape.clone(), dtype);
        // Tensors without values have no place.
        let storage = if bytes.is_empty() { own } else { *places.entry(place).or_insert(own) };
        self.0.push(Saved { name: name.to_owned(), dtype, shape, bytes, storage });
        Ok(())
    }

    /// Writes a `.pt` file.
    fn write_pt(&self, file: &File) -> io::Result<()> {
        let entry = |Saved { name, dtype, shape, storage, .. }: &Saved| {
            let known = tensor_file::Dtype::of_safetensors(&dtype.to_string());
            let dtype = known.ok_or_else(|| io::Error::other(format!("{name} is {dtype}, which is not written")))?;
            let shape = shape.iter().map(|&size| size as u64).collect();
            Ok(pt::Entry { name: name.clone(), dtype, shape, storage: *storage })
        };
        let entries = self.0.iter().map(entry).collect::<io::Result<Vec<_>>>()?;
        let values = |storage: usize, out: &mut dyn Write| out.write_all(&self.0[storage].bytes);
        let mut out = pt::write(BufWriter::new(file), &entries, values)?;
        out.flush()
    }

    /// A checksum of all names and values.
    pub(crate) fn add_to(&self, digest: &mut Sha256) {
        for Saved { name, bytes, .. } in &self.0 {
            digest.update(name.as_bytes());
            digest.update(bytes);
        }
    }

    /// A safetensors file.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let views = self
            .0
            .iter()
            .map(|saved| Ok((&saved.name, TensorView::new(saved.dtype, saved.shape.clone(), &saved.bytes)?)))
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(io::Error::other)?;
        // Hugging Face's loaders look for it. One entry: the library writes several in an order
        // that changes from run to run.
        let about = HashMap::from([("format".into(), "pt".into())]);
        safetensors::serialize(views, Some(about)).map_err(io::Error::other)
    }
}

#[cfg(test)]
impl Snapshot {
    /// The tensors of the file that it makes.
    pub(crate) fn read_back(&self) -> BTreeMap<String, Tensor> {
        tensors(&self.encode().unwrap(), |_| Values::Infinite).unwrap()
    }
}

fn known(name: &str, tensor: &Tensor) -> Result<Dtype> {
    let row = DTYPES.into_iter().find(|(kind, _)| *kind == tensor.kind());
    row.map(|(_, dtype)| dtype).ok_or_else(|| {
        let found = format!("{name} is {:?}, which is not saved", tensor.kind());
        Failure::new(JobEndReason::Internal, found)
    })
}

/// The values of a tensor, row by row and in little-endian order.
pub(crate) fn bytes_of(tensor: &Tensor) -> std::result::Result<Vec<u8>, TchError> {
    let on_cpu = tensor.detach().f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; on_cpu.numel() * on_cpu.kind().elt_size_in_bytes()];
    on_cpu.f_copy_data_u8(&mut bytes, on_cpu.numel())?;
    Ok(bytes)
}

/// Whether every number of a tensor is finite. Waits for the device.
pub(crate) fn is_finite(tensor: &Tensor) -> std::result::Result<bool, TchError> {
    is_allowed(tensor, Values::Finite)
}

/// Whether a tensor holds no other values than these. Waits for the device.
pub(crate) fn is_allowed(tensor: &Tensor, values: Values) -> std::result::Result<bool, TchError> {
    let tensor = tensor.detach();
    let is_allowed = match values {
        Values::Finite => tensor.f_isfinite()?,
        Values::Infinite => tensor.f_isnan()?.f_logical_not()?,
    };
    Ok(is_allowed.f_all()?.f_int64_value(&[])? != 0)
}

/// Saves the final weights, for other programs and for `torch.load`.
pub(crate) fn save_result(folder: &JobFolder, step: u64, network: &dyn Network) -> Result<()> {
    let snapshot = Snapshot::of_result(step, network)?;
    let artifacts = folder.artifacts();
    let save = || {
        network.write_artifacts(folder)?;
        write_whole_by(&artifacts.join(JobFolder::MODEL_PT_FILE), |file| snapshot.write_pt(file))?;
        write_whole(&artifacts.join(MODEL_FILE), &snapshot.encode()?)
    };
    save().map_err(Failure::storage("the final weights could not be saved"))
}

/// A checkpoint to be written.
pub(crate) struct Request {
    pub(crate) weights: Snapshot,
    pub(crate) state: Snapshot,
    /// All but the files.
    pub(crate) manifest: Manifest,
}

/// Writes checkpoints on a thread of its own, one after the other.
pub(crate) struct Saver {
    /// None once it is being dropped.
    requests: Option<SyncSender<Request>>,
    saved: Receiver<io::Result<CheckpointSaved>>,
    /// Requests that have no answer yet.
    waiting: usize,
    /// The step of the newest that was handed over.
    newest: Option<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    /// `before` are files that the disk must have before a checkpoint counts: what was told up to
    /// its step.
    pub(crate) fn start(folder: JobFolder, policy: Checkpoints, before: Vec<File>) -> io::Result<Self> {
        // A second snapshot waits for the first to be written: memory holds no more than one that
        // waits and one in hand.
        let (requests, inbox) = sync_channel::<Request>(0);
        let (answers, saved) = sync_channel(1);
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(move || {
            for request in inbox {
                let done = write(&folder, &policy, &before, request);
                if answers.send(done).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests: Some(requests), saved, waiting: 0, newest: None, thread: Some(thread) })
    }

    /// One for a rank whose checkpoints another one writes.
    pub(crate) fn idle() -> Self {
        let (_, saved) = sync_channel(1);
        Self { requests: None, saved, waiting: 0, newest: None, thread: None }
    }

    /// Another rank writes the checkpoint of that step.
    pub(crate) fn leave(&mut self, step: u64) {
        self.newest = Some(step);
    }

    /// Hands a checkpoint over. Those before have to be finished.
    pub(crate) fn save(&mut self, request: Request) -> Result<()> {
        self.newest = Some(request.manifest.place.step);
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        if !sent {
            return Err(Failure::new(JobEndReason::Internal, "the thread that writes checkpoints has ended"));
        }
        self.waiting += 1;
        Ok(())
    }

    /// The step of the newest checkpoint that was handed over.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// One that is finished, if there is any.
    pub(crate) fn poll(&mut self) -> Result<Option<CheckpointSaved>> {
        if self.waiting == 0 {
            return Ok(None);
        }
        match self.saved.try_recv() {
            Ok(done) => self.take(done).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => {
                Err(Failure::new(JobEndReason::Internal, "the thread that writes checkpoints has ended"))
            }
        }
    }

    /// Waits for all that were handed over. `waits` hears every now and then for how long that has
    /// been: a disk may be slow.
    pub(crate) fn finish(&mut self, mut waits: impl FnMut(Duration) -> Result<()>) -> Result<Vec<CheckpointSaved>> {
        let begun = Instant::now();
        let mut all = Vec::new();
        while self.waiting > 0 {
            match self.saved.recv_timeout(ALIVE_EVERY) {
                Ok(done) => all.push(self.take(done)?),
                Err(RecvTimeoutError::Timeout) => waits(begun.elapsed())?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(JobEndReason::Internal, "the thread that writes checkpoints has ended"));
                }
            }
        }
        Ok(all)
    }

    fn take(&mut self, done: io::Result<CheckpointSaved>) -> Result<CheckpointSaved> {
        self.waiting -= 1;
        done.map_err(Failure::storage("the checkpoint could not be saved"))
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.requests = None;
        // It writes no longer than one checkpoint takes; a panic there has been printed already.
        while self.saved.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes a checkpoint: whole or absent, whenever we die.
fn write(folder: &JobFolder, policy: &Checkpoints, before: &[File], request: Request) -> io::Result<CheckpointSaved> {
    let begun = Instant::now();
    let Request { weights, state, mut manifest } = request;
    let step = manifest.place.step;
    let name = JobFolder::checkpoint_name(step);
    let (place, aside) = (folder.path().join(&name), folder.checkpoints().join(format!(".step-{step}")));
    for file in before {
        file.sync_data()?;
    }
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    // Not what it lies in: a job whose folder somebody has removed does not come back.
    fs::create_dir(&aside)?;
    fault::point("checkpoint-begun");
    for (file, snapshot) in [(MODEL_FILE, weights), (STATE_FILE, state)] {
        let bytes = snapshot.encode()?;
        manifest.files.push(FileSum::of(file, &bytes));
        let written = File::create(aside.join(file))?;
        io::Write::write_all(&mut &written, &bytes)?;
        written.sync_all()?;
        fault::point("checkpoint-file");
    }
    write_whole(&Manifest::path(&aside), &serde_json::to_vec_pretty(&manifest)?)?;
    fault::point("checkpoint-manifest");
    give_name(&aside, &place, &folder.checkpoints().join(format!(".old-{step}")))?;
    sync_folder(&folder.checkpoints())?;
    fault::point("checkpoint-renamed");
    // The new one is there, whatever becomes of the old ones; the next save tries again.
    if let Err(error) = tidy(folder, policy) {
        tracing::warn!(step, "checkpoints that are not kept could not be removed: {error}");
    }
    fault::point("checkpoint-tidied");
    let seconds = begun.elapsed().as_secs_f64();
    if begun.elapsed() > SLOW {
        tracing::warn!(step, seconds, "the disk is slow: writing the checkpoint took {seconds:.0} s");
    }
    Ok(CheckpointSaved { step, path: name, size_bytes: manifest.size_bytes() })
}

/// Gives a new checkpoint its name. One that an earlier attempt has saved at the same step is `old`
/// then: at any time one of the two has the name.
fn give_name(new: &Path, place: &Path, old: &Path) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(new, place);
    }
    if old.exists() {
        fs::remove_dir_all(old)?;
    }
    match renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Ok(()) => fs::rename(new, old),
        // The file system cannot exchange names.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::rename(place, old)?;
            fs::rename(new, place)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes the checkpoints that are not kept, and what was left half-done.
fn tidy(folder: &JobFolder, policy: &Checkpoints) -> io::Result<()> {
    let metric = policy.keep_best.and_then(|best| best.by).map(Quantity::tag);
    let kept = |checkpoint: &Checkpoint| Kept {
        step: checkpoint.step(),
        value: metric.as_ref().and_then(|tag| checkpoint.manifest.metrics.get(tag).copied()),
    };
    let present: Vec<Kept> = checkpoints(folder)?.iter().map(kept).collect();
    for step in policy.to_remove(&present) {
        set_aside(folder, step)?;
    }
    for entry in fs::read_dir(folder.checkpoints())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".old-")) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_the_same_step_is_replaced_and_the_old_one_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [(".step-3", "new"), ("step-3", "old"), (".old-3", "older")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("model"), text).unwrap();
        }
        give_name(&at(".step-3"), &at("step-3"), &at(".old-3")).unwrap();
        let text = |name: &str| fs::read_to_string(at(name).join("model")).unwrap();
        assert_eq!((text("step-3"), text(".old-3")), ("new".into(), "old".into()));
        assert!(!at(".step-3").exists());
        fs::rename(at("step-3"), at(".step-4")).unwrap();
        give_name(&at(".step-4"), &at("step-4"), &at(".old-4")).unwrap();
        assert_eq!(text("step-4"), "new");
    }
}
