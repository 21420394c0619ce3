//! Carries the instructions of a pickle out, as far as they make plain values.

use std::collections::HashMap;

use super::super::Dtype;
use super::super::tensor::MAX_DIMENSIONS;
use super::{Global, Object, Refusal, Storage, StoredTensor, Text, Value, opcode, size_of, text_of};

/// More objects are refused. A tensor takes about seven of them.
const MAX_OBJECTS: usize = 1 << 20;
/// More instructions are refused. A tensor takes about forty of them.
const MAX_INSTRUCTIONS: usize = 1 << 23;
/// Longer names of modules and classes are refused.
const MAX_GLOBAL_BYTES: usize = 256;

/// The state between two instructions.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte.
    at: usize,
    /// The first byte of the instruction in hand.
    begun: usize,
    stack: Vec<Value>,
    /// The height of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    pub(super) objects: Vec<Object>,
}

type Done<T> = Result<T, Refusal>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (stack, marks, objects) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes, at: 0, begun: 0, stack, marks, memo: HashMap::new(), objects }
    }

    /// Carries all instructions out. Returns the value of the pickle.
    pub(super) fn run(&mut self) -> Done<Value> {
        if self.bytes.len() > u32::MAX as usize {
            return Err(Refusal::Foreign("has a pickle of more than 4 GB".into()));
        }
        for _ in 0..MAX_INSTRUCTIONS {
            self.begun = self.at;
            let [instruction] = self.array()?;
            if let Some(root) = self.step(instruction)? {
                return Ok(root);
            }
        }
        Err(Refusal::Foreign(format!("has a pickle of more than {MAX_INSTRUCTIONS} instructions")))
    }

    /// Carries one instruction out; the last one gives the value of the pickle.
    fn step(&mut self, instruction: u8) -> Done<Option<Value>> {
        match instruction {
            opcode::PROTO => match self.array()? {
                [2] => {}
                [other] => {
                    return Err(Refusal::Foreign(format!(
                        "has a pickle of protocol {other}, and 2 is read: save it without pickle_protocol"
                    )));
                }
            },
            opcode::STOP => {
                let root = self.pop()?;
                let left = self.bytes.len() - self.at;
                if left > 0 || !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(
                        self.broken(format!("it ends with {left} bytes left, or with values that nothing holds"))
                    );
                }
                return Ok(Some(root));
            }
            opcode::MARK => self.marks.push(self.stack.len()),
            opcode::POP => {
                self.pop()?;
            }
            opcode::POP_MARK => {
                self.pop_mark()?;
            }
            opcode::NONE => self.stack.push(Value::None),
            opcode::NEWTRUE => self.stack.push(Value::Bool(true)),
            opcode::NEWFALSE => self.stack.push(Value::Bool(false)),
            opcode::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            opcode::BININT1 => {
                let [number] = self.array()?;
                self.stack.push(Value::Int(number.into()));
            }
            opcode::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            opcode::LONG1 => {
                let [length] = self.array()?;
                let value = long(self.take(length.into())?);
                self.stack.push(value);
            }
            opcode::LONG4 => {
                let length = u32::from_le_bytes(self.array()?);
                let value = long(self.take(length as usize)?);
                self.stack.push(value);
            }
            opcode::BINFLOAT => {
                let [_, ..]: [u8; 8] = self.array()?;
                self.stack.push(Value::Plain);
            }
            opcode::BINUNICODE => {
                let length = u32::from_le_bytes(self.array()?);
                let at = self.at as u32;
                if std::str::from_utf8(self.take(length as usize)?).is_err() {
                    return Err(self.broken("a text that is not UTF-8"));
                }
                self.stack.push(Value::Text(Text { at, length }));
            }
            opcode::EMPTY_TUPLE => self.make(Object::Tuple(Vec::new()))?,
            opcode::TUPLE1..=opcode::TUPLE3 => {
                let count = usize::from(instruction - opcode::TUPLE1 + 1);
                let from = self.above_mark(count)?;
                let values = self.stack.split_off(from);
                self.make(Object::Tuple(values))?;
            }
            opcode::TUPLE => {
                let values = self.pop_mark()?;
                self.make(Object::Tuple(values))?;
            }
            opcode::EMPTY_LIST => self.make(Object::List(Vec::new()))?,
            opcode::APPEND => {
                let value = self.pop()?;
                self.append(&[value])?;
            }
            opcode::APPENDS => {
                let values = self.pop_mark()?;
                self.append(&values)?;
            }
            opcode::EMPTY_DICT => self.make(Object::Dict(Vec::new()))?,
            opcode::SETITEM => {
                let from = self.above_mark(2)?;
                let pair = self.stack.split_off(from);
                self.set_items(&pair)?;
            }
            opcode::SETITEMS => {
                let values = self.pop_mark()?;
                self.set_items(&values)?;
            }
            opcode::BINPUT => {
                let [number] = self.array()?;
                self.remember(number.into())?;
            }
            opcode::LONG_BINPUT => {
                let number = u32::from_le_bytes(self.array()?);
                self.remember(number)?;
            }
            opcode::BINGET => {
                let [number] = self.array()?;
                self.recall(number.into())?;
            }
            opcode::LONG_BINGET => {
                let number = u32::from_le_bytes(self.array()?);
                self.recall(number)?;
            }
            opcode::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(Global::find(module, name).map_err(Refusal::Foreign)?));
            }
            opcode::BINPERSID => self.storage()?,
            opcode::REDUCE => self.call()?,
            opcode::BUILD => self.build()?,
            other => {
                return Err(self.broken(format!("the instruction {other:#04x}, which torch.save does not write")));
            }
        }
        Ok(None)
    }

    fn broken(&self, what: impl Into<String>) -> Refusal {
        Refusal::Broken { at: self.begun, what: what.into() }
    }

    fn take(&mut self, count: usize) -> Done<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.broken("it ends before its last instruction"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Done<[u8; N]> {
        let bytes = self.take(N)?;
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    /// A line of a name, without its end.
    fn line(&mut self) -> Done<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(MAX_GLOBAL_BYTES).position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| self.broken("the name of a class that does not end"))?;
        let line = std::str::from_utf8(self.take(length)?);
        self.at += 1;
        line.map_err(|_| self.broken("the name of a class that is not UTF-8"))
    }

    /// The height of the stack below the top `count` values, which are above the last mark.
    fn above_mark(&self, count: usize) -> Done<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let below = self.stack.len().checked_sub(count).filter(|&below| below >= floor);
        below.ok_or_else(|| self.broken("values are missing"))
    }

    fn pop(&mut self) -> Done<Value> {
        self.above_mark(1)?;
        self.stack.pop().ok_or_else(|| self.broken("values are missing"))
    }

    fn pop_mark(&mut self) -> Done<Vec<Value>> {
        let from = self.marks.pop().ok_or_else(|| self.broken("a mark is missing"))?;
        Ok(self.stack.split_off(from))
    }

    fn top(&self) -> Done<Value> {
        let below = self.above_mark(1)?;
        Ok(self.stack[below])
    }

    fn make(&mut self, object: Object) -> Done<()> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(Refusal::Foreign(format!("has a pickle of more than {MAX_OBJECTS} objects")));
        }
        self.stack.push(Value::Object(self.objects.len() as u32));
        self.objects.push(object);
        Ok(())
    }

    fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(number) => self.objects.get(number as usize),
            _ => None,
        }
    }

    fn object_mut(&mut self, value: Value) -> Option<&mut Object> {
        match value {
            Value::Object(number) => self.objects.get_mut(number as usize),
            _ => None,
        }
    }

    fn append(&mut self, values: &[Value]) -> Done<()> {
        let list = self.top()?;
        match self.object_mut(list) {
            Some(Object::List(list)) => list.extend_from_slice(values),
            _ => return Err(self.broken("something is appended to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, values: &[Value]) -> Done<()> {
        let (pairs, left) = values.as_chunks();
        let dict = self.top()?;
        match self.object_mut(dict) {
            Some(Object::Dict(dict)) if left.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            // Entries of plain objects are not kept.
            None if dict == Value::Plain => {}
            _ => return Err(self.broken("an entry is set in what is no dict")),
        }
        Ok(())
    }

    fn remember(&mut self, number: u32) -> Done<()> {
        let value = self.top()?;
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Done<()> {
        let value = self.memo.get(&number).copied();
        self.stack.push(value.ok_or_else(|| self.broken(format!("it names a value {number} that is not there")))?);
        Ok(())
    }

    /// Attributes of an object: those of an OrderedDict are its `_metadata`, which is not needed.
    fn build(&mut self) -> Done<()> {
        self.pop()?;
        let of = self.top()?;
        match (of, self.object(of)) {
            (Value::Plain, _) | (_, Some(Object::Dict(_))) => Ok(()),
            _ => Err(self.broken("attributes are set of what is no OrderedDict")),
        }
    }

    /// `('storage', class, key, device, count)`
    fn storage(&mut self) -> Done<()> {
        let id = self.pop()?;
        let parts = match self.object(id) {
            Some(Object::Tuple(parts)) => parts.as_slice(),
            _ => &[],
        };
        let &[
            Value::Text(kind),
            Value::Global(Global::Storage(dtype)),
            Value::Text(key),
            Value::Text(_),
            Value::Int(count),
        ] = parts
        else {
            return Err(self.broken("what stands for a storage has not its five parts"));
        };
        let count = u64::try_from(count).map_err(|_| self.broken(format!("a storage of {count} values")))?;
        if text_of(self.bytes, kind) != "storage" {
            return Err(self.broken("a reference to what is no storage"));
        }
        self.make(Object::Storage(Storage { dtype, key, count }))
    }

    fn call(&mut self) -> Done<()> {
        let from = self.above_mark(2)?;
        let (function, arguments) = (self.stack[from], self.stack[from + 1]);
        self.stack.truncate(from);
        let Some(Object::Tuple(arguments)) = self.object(arguments) else {
            return Err(self.broken("a call without its arguments"));
        };
        let made = match (function, arguments.as_slice()) {
            (Value::Global(Global::OrderedDict), []) => Object::Dict(Vec::new()),
            (Value::Global(Global::Tensor), &[storage, first, shape, strides, _, _, ref metadata @ ..]) => {
                let tensor = self.tensor(storage, first, shape, strides, None)?;
                self.refuse_metadata(metadata)?;
                tensor
            }
            (
                Value::Global(Global::TensorOfType),
                &[storage, first, shape, strides, _, _, Value::Global(Global::Dtype(dtype)), ref metadata @ ..],
            ) => {
                let tensor = self.tensor(storage, first, shape, strides, Some(dtype))?;
                self.refuse_metadata(metadata)?;
                tensor
            }
            // The tensor itself: whether it wants a gradient does not matter.
            (Value::Global(Global::Parameter), &[data, _, _, ..])
                if matches!(self.object(data), Some(Object::Tensor(_))) =>
            {
                self.stack.push(data);
                return Ok(());
            }
            (Value::Global(Global::Plain), _) => {
                self.stack.push(Value::Plain);
                return Ok(());
            }
            _ => return Err(self.broken("a call with other arguments than torch.save writes")),
        };
        self.make(made)
    }

    fn tensor(&self, storage: Value, first: Value, shape: Value, strides: Value, dtype: Option<Dtype>) -> Done<Object> {
        for sizes in [shape, strides] {
            match self.object(sizes) {
                Some(Object::Tuple(sizes)) if sizes.len() > MAX_DIMENSIONS => {
                    let found = sizes.len();
                    return Err(
                        self.broken(format!("a tensor with {found} dimensions; {MAX_DIMENSIONS} at most are read"))
                    );
                }
                Some(Object::Tuple(sizes)) => sizes.iter().try_for_each(|&size| self.size(size).map(|_| ()))?,
                _ => return Err(self.broken("a tensor whose sizes are no tuple")),
            }
        }
        let Some(&Object::Storage(storage)) = self.object(storage) else {
            return Err(self.broken("a tensor without a storage"));
        };
        let dtype = dtype.or(storage.dtype).ok_or_else(|| self.broken("a tensor without a type"))?;
        let first = self.size(first)?;
        Ok(Object::Tensor(Box::new(StoredTensor { storage, dtype, first, shape, strides })))
    }

    fn size(&self, value: Value) -> Done<u64> {
        size_of(value).ok_or_else(|| self.broken(format!("a tensor with the size {value:?}")))
    }

    /// Metadata says that the values are to be conjugated or negated when they are used.
    fn refuse_metadata(&self, metadata: &[Value]) -> Done<()> {
        let is_empty = |&value: &Value| match self.object(value) {
            Some(Object::Dict(entries)) => entries.is_empty(),
            _ => value == Value::None,
        };
        if metadata.iter().all(is_empty) {
            return Ok(());
        }
        Err(Refusal::Foreign(
            "holds a tensor with metadata, such as one that is yet to be conjugated: save it with .resolve_conj() and \
             .resolve_neg()"
                .into(),
        ))
    }
}

/// An integer of any length, in two's complement and little-endian order.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Plain;
    }
    let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
    let mut word = [sign; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(word))
}
