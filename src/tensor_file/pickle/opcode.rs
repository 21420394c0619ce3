//! The instructions of pickles of protocol 2 that `torch.save` writes, by their names in Python's
//! `pickletools`.

/// The protocol, in 1 byte.
pub(in super::super) const PROTO: u8 = 0x80;
/// The end: the value of the pickle is on the stack.
pub(in super::super) const STOP: u8 = b'.';
/// Marks the stack for a tuple, or for values of a list or dict.
pub(in super::super) const MARK: u8 = b'(';
/// Drops a value.
pub(in super::super) const POP: u8 = b'0';
/// Drops the values above the mark.
pub(in super::super) const POP_MARK: u8 = b'1';
/// None.
pub(in super::super) const NONE: u8 = b'N';
/// True.
pub(in super::super) const NEWTRUE: u8 = 0x88;
/// False.
pub(in super::super) const NEWFALSE: u8 = 0x89;
/// A signed number of 4 bytes.
pub(in super::super) const BININT: u8 = b'J';
/// A number of 1 byte.
pub(in super::super) const BININT1: u8 = b'K';
/// A number of 2 bytes.
pub(in super::super) const BININT2: u8 = b'M';
/// A number in two's complement, behind its length of 1 byte.
pub(in super::super) const LONG1: u8 = 0x8a;
/// A number in two's complement, behind its length of 4 bytes.
pub(in super::super) const LONG4: u8 = 0x8b;
/// A float of 8 bytes, in big-endian order.
pub(in super::super) const BINFLOAT: u8 = b'G';
/// A text in UTF-8, behind its length of 4 bytes.
pub(in super::super) const BINUNICODE: u8 = b'X';
/// An empty tuple.
pub(in super::super) const EMPTY_TUPLE: u8 = b')';
/// A tuple of the last value.
pub(in super::super) const TUPLE1: u8 = 0x85;
/// A tuple of the last three values; `TUPLE2` stands between.
pub(in super::super) const TUPLE3: u8 = 0x87;
/// A tuple of the values above the mark.
pub(in super::super) const TUPLE: u8 = b't';
/// An empty list.
pub(in super::super) const EMPTY_LIST: u8 = b']';
/// Appends the last value to the list below it.
pub(in super::super) const APPEND: u8 = b'a';
/// Appends the values above the mark to the list below it.
pub(in super::super) const APPENDS: u8 = b'e';
/// An empty dict.
pub(in super::super) const EMPTY_DICT: u8 = b'}';
/// Sets a key and a value in the dict below them.
pub(in super::super) const SETITEM: u8 = b's';
/// Sets the keys and values above the mark in the dict below it.
pub(in super::super) const SETITEMS: u8 = b'u';
/// Keeps the last value under a number of 1 byte.
pub(in super::super) const BINPUT: u8 = b'q';
/// Keeps the last value under a number of 4 bytes.
pub(in super::super) const LONG_BINPUT: u8 = b'r';
/// The value that was kept under a number of 1 byte.
pub(in super::super) const BINGET: u8 = b'h';
/// The value that was kept under a number of 4 bytes.
pub(in super::super) const LONG_BINGET: u8 = b'j';
/// A class or function: lines of its module and its name.
pub(in super::super) const GLOBAL: u8 = b'c';
/// An object outside of the pickle, by the tuple that describes it.
pub(in super::super) const BINPERSID: u8 = b'Q';
/// Calls a function with a tuple of arguments.
pub(in super::super) const REDUCE: u8 = b'R';
/// Sets the attributes of an object.
pub(in super::super) const BUILD: u8 = b'b';
