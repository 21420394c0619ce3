//! Shared parts of the fuzz targets: a bound on memory, a folder that costs no disk, panics of
//! other crates, and files of framed records whose damage gets behind the checksums. Nothing here
//! is taken from torchd but the checksum itself, so that a target compares two independent readers.

pub mod exported;
pub mod framed;
pub mod growing;
pub mod memory;
pub mod panics;
pub mod scratch;
