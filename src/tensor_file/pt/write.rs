//! Writes `.pt` files that plain `torch.load` reads, also with `mmap=True`: one storage at a time,
//! so that no second copy of a model is needed. (PyTorch 2.11 `torch/serialization.py`)

use std::collections::HashMap;
use std::io::{self, Write};

use rawzip::extra_fields::ExtraFieldId;
use rawzip::{Header, ZipArchiveWriter};

use super::super::Dtype;
use super::super::pickle::opcode;
use super::super::tensor::contiguous;

/// The folder of all entries: PyTorch takes whatever stands there.
const ROOT: &str = "model";
/// The values of a storage begin at a multiple of this, as PyTorch writes them, so that they can be
/// mapped into memory.
const ALIGNMENT: u64 = 64;
/// The extra field that pads a header, as PyTorch writes it.
const PADDING: ExtraFieldId = ExtraFieldId::new(u16::from_le_bytes(*b"FB"));
/// Bytes of a local header before the name, and of an extra field before its data.
const HEADER_BYTES: u64 = 30;
const EXTRA_BYTES: u64 = 4;

/// A tensor to be written. Its values fill its storage, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its sizes, outermost first.
    pub shape: Vec<u64>,
    /// The storage that it fills. Tied weights have the same, which is written once.
    pub storage: usize,
}

impl Entry {
    fn size_bytes(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.dtype.bits() / 8, |product, &size| product.checked_mul(size))
    }
}

/// Writes a state dict of these tensors, in this order. `values` is called once for each storage
/// and writes its values, row by row and in little-endian order.
///
/// # Errors
/// Those of writing and of `values`; `InvalidInput` for a type that PyTorch cannot load, for
/// tensors of different size or type in one storage, and where `values` writes another number of
/// bytes.
pub fn write<W: Write>(
    out: W,
    tensors: &[Entry],
    mut values: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
) -> io::Result<W> {
    // Storages are numbered as they come, as PyTorch does.
    let mut numbers = HashMap::new();
    let mut storages: Vec<(usize, u64, Dtype)> = Vec::new();
    for entry in tensors {
        let bytes = entry.size_bytes().ok_or_else(|| wrong(format!("{} is larger than a file can be", entry.name)))?;
        let number = *numbers.entry(entry.storage).or_insert(storages.len());
        match storages.get(number) {
            None => storages.push((entry.storage, bytes, entry.dtype)),
            Some(&(_, tied_bytes, dtype)) if (tied_bytes, dtype) == (bytes, entry.dtype) => {}
            Some(_) => return Err(wrong(format!("{} does not fill the storage that it shares", entry.name))),
        }
    }
    let mut archive = ZipArchiveWriter::new(out);
    let pickle = pickle(tensors, &numbers)?;
    put(&mut archive, "data.pkl", |out| out.write_all(&pickle))?;
    put(&mut archive, "byteorder", |out| out.write_all(b"little"))?;
    for (number, &(storage, wanted, _)) in storages.iter().enumerate() {
        let written = put(&mut archive, &format!("data/{number}"), |out| values(storage, out))?;
        if written != wanted {
            return Err(wrong(format!("storage {storage} has {written} bytes, and its tensors {wanted}")));
        }
    }
    // The version of the format since PyTorch 1.6.
    put(&mut archive, "version", |out| out.write_all(b"3\n"))?;
    archive.finish().map_err(io::Error::other)
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Writes one entry, whose first byte has an aligned place. Returns its bytes.
fn put<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    name: &str,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let name = format!("{ROOT}/{name}");
    let begin = archive.stream_offset() + HEADER_BYTES + name.len() as u64 + EXTRA_BYTES;
    let padding = vec![b'Z'; (begin.next_multiple_of(ALIGNMENT) - begin) as usize];
    let file = archive.new_file(name.as_str()).extra_field(PADDING, &padding, Header::LOCAL);
    let (mut entry, config) = file.and_then(|file| file.start()).map_err(io::Error::other)?;
    let mut writer = config.wrap(&mut entry);
    content(&mut writer)?;
    let (_, summary) = writer.finish().map_err(io::Error::other)?;
    Ok(entry.finish(summary).map_err(io::Error::other)?.compressed_size())
}

/// The pickle of an OrderedDict of tensors, in protocol 2.
fn pickle(tensors: &[Entry], numbers: &HashMap<usize, usize>) -> io::Result<Vec<u8>> {
    let mut out = vec![opcode::PROTO, 2];
    ordered_dict(&mut out);
    out.push(opcode::MARK);
    for entry in tensors {
        let unknown = || wrong(format!("{} is {}, which torch.load does not read", entry.name, entry.dtype.name()));
        let dtype = entry.dtype.torch_name().ok_or_else(unknown)?;
        let number = numbers.get(&entry.storage).copied().unwrap_or_default();
        let count: u64 = entry.shape.iter().product();
        // The newer types have storages of bytes.
        let class = entry.dtype.storage_class();
        text(&mut out, &entry.name)?;
        global(&mut out, "torch._utils", if class.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" });
        out.push(opcode::MARK);
        out.push(opcode::MARK);
        text(&mut out, "storage")?;
        match class {
            Some(class) => global(&mut out, "torch", class),
            None => global(&mut out, "torch.storage", "UntypedStorage"),
        }
        text(&mut out, &number.to_string())?;
        text(&mut out, "cpu")?;
        integer(&mut out, if class.is_some() { count } else { count * entry.dtype.bits() / 8 });
        out.extend([opcode::TUPLE, opcode::BINPERSID]);
        // The first value of the storage.
        integer(&mut out, 0);
        for sizes in [&entry.shape, &contiguous(&entry.shape)] {
            out.push(opcode::MARK);
            sizes.iter().for_each(|&size| integer(&mut out, size));
            out.push(opcode::TUPLE);
        }
        // It wants no gradient and has no hooks.
        out.push(opcode::NEWFALSE);
        ordered_dict(&mut out);
        if class.is_none() {
            global(&mut out, "torch", dtype);
        }
        out.extend([opcode::TUPLE, opcode::REDUCE]);
    }
    out.extend([opcode::SETITEMS, opcode::STOP]);
    Ok(out)
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.push(opcode::GLOBAL);
    out.extend(format!("{module}\n{name}\n").bytes());
}

/// An empty one.
fn ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend([opcode::EMPTY_TUPLE, opcode::REDUCE]);
}

fn text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    let length = u32::try_from(text.len()).map_err(|_| wrong("a name of more than 4 GB".into()))?;
    out.push(opcode::BINUNICODE);
    out.extend(length.to_le_bytes());
    out.extend(text.bytes());
    Ok(())
}

fn integer(out: &mut Vec<u8>, number: u64) {
    match i32::try_from(number) {
        Ok(number) => {
            out.push(opcode::BININT);
            out.extend(number.to_le_bytes());
        }
        // Nine bytes: the sign has one of its own.
        Err(_) => {
            out.extend([opcode::LONG1, 9]);
            out.extend(number.to_le_bytes());
            out.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Format, TensorFile};
    use super::*;

    fn entry(name: &str, dtype: Dtype, shape: &[u64], storage: usize) -> Entry {
        Entry { name: name.into(), dtype, shape: shape.into(), storage }
    }

    /// Storage n holds bytes n + 1.
    fn written(tensors: &[Entry]) -> io::Result<Vec<u8>> {
        let values = |storage: usize, out: &mut dyn Write| {
            let entry = tensors.iter().find(|entry| entry.storage == storage).unwrap();
            out.write_all(&vec![storage as u8 + 1; entry.size_bytes().unwrap() as usize])
        };
        write(Vec::new(), tensors, values)
    }

    #[test]
    fn what_is_written_is_read_again_with_tied_weights_once_and_aligned() {
        let tensors = [
            entry("embedding.weight", Dtype::F32, &[3, 2], 7),
            entry("step", Dtype::I64, &[], 1),
            entry("head.weight", Dtype::F32, &[3, 2], 7),
            entry("scale", Dtype::F8E4M3, &[4], 2),
            entry("none", Dtype::Bf16, &[0, 5], 3),
            entry("c", Dtype::C64, &[1], 4),
        ];
        let file = written(&tensors).unwrap();
        let read = TensorFile::read_from(&file, file.len() as u64).unwrap();
        assert_eq!((read.format, read.state_dicts.len(), read.left_out), (Format::Pt, 0, 0));
        for (wanted, found) in tensors.iter().zip(&read.tensors) {
            assert_eq!((&wanted.name, wanted.dtype, &wanted.shape), (&found.name, found.dtype, &found.shape));
            assert!(found.is_contiguous() && found.layout.offset.is_multiple_of(ALIGNMENT), "{found:?}");
            assert!(found.read(&file).unwrap().iter().all(|&byte| usize::from(byte) == wanted.storage + 1));
        }
        assert_eq!(read.tensors.len(), tensors.len());
        assert_eq!(read.tensors[0].layout, read.tensors[2].layout);
        let own: u64 = [0, 1, 3, 4, 5].map(|at: usize| tensors[at].size_bytes().unwrap()).iter().sum();
        assert!((file.len() as u64) < own + 3_000, "the tied storage is written once");
    }

    /// `tests/pytorch/load_pt.py` has shown that PyTorch loads the golden file.
    #[test]
    fn what_is_written_is_byte_for_byte_what_pytorch_has_loaded() {
        let tensors = [
            entry("embedding.weight", Dtype::F32, &[3, 2], 0),
            entry("norm.num_batches_tracked", Dtype::I64, &[], 1),
            entry("head.weight", Dtype::F32, &[3, 2], 0),
            entry("f16", Dtype::F16, &[2, 0], 2),
            entry("bf16", Dtype::Bf16, &[3], 3),
            entry("f64", Dtype::F64, &[1, 1, 1], 4),
            entry("truth", Dtype::Bool, &[2], 5),
            entry("u8", Dtype::U8, &[1], 6),
            entry("i8", Dtype::I8, &[1], 7),
            entry("i16", Dtype::I16, &[1], 8),
            entry("i32", Dtype::I32, &[1], 9),
            entry("u16", Dtype::U16, &[2], 10),
            entry("c64", Dtype::C64, &[2], 11),
            entry("f8", Dtype::F8E4M3, &[4], 12),
            entry("zwölf", Dtype::F32, &[1], 13),
        ];
        let values = |storage: usize, out: &mut dyn Write| {
            let entry = tensors.iter().find(|entry| entry.storage == storage).unwrap();
            let one: &[u8] = if entry.dtype == Dtype::Bool { &[1] } else { &[1, 2, 3, 4, 5, 6, 7, 8] };
            let bytes = one.iter().copied().cycle().take(entry.size_bytes().unwrap() as usize);
            out.write_all(&bytes.collect::<Vec<_>>())
        };
        let file = write(Vec::new(), &tensors, values).unwrap();
        let golden = "tests/data/golden/pt/written.pt";
        if std::env::var_os("TORCHD_UPDATE").is_some() {
            std::fs::write(golden, &file).unwrap();
        }
        assert!(std::fs::read(golden).unwrap() == file);
    }

    #[test]
    fn what_pytorch_could_not_load_is_not_written() {
        let shared = [entry("a", Dtype::F32, &[2], 0), entry("b", Dtype::F32, &[3], 0)];
        assert!(written(&shared).unwrap_err().to_string().contains("b does not fill the storage"));
        let packed = [entry("a", Dtype::F4, &[2], 0)];
        assert!(written(&packed).unwrap_err().to_string().contains("F4, which torch.load does not read"));
        let short = write(Vec::new(), &[entry("a", Dtype::F32, &[2], 0)], |_, out| out.write_all(&[0; 7]));
        assert!(short.unwrap_err().to_string().contains("has 7 bytes, and its tensors 8"));
    }
}
