//! Stack machine for pickles with constructors of plain data only.
//!
//! A call is kept as a value (its callable and arguments) and never made. Values live in one list and refer to each
//! other by position, so sharing, cycles and deep nesting cost nothing, and no step recurses.

use std::collections::HashMap;

/// Greatest number of values of a pickle; a checkpoint of a thousand tensors makes some 30,000.
const MAX_VALUES: usize = 1 << 22;

/// Position of a value in [`Machine::values`].
pub(super) type Id = usize;

pub(super) enum Value<'a> {
    /// Other values, which no tensor is made of: None, numbers that are not integers, bytes.
    Other,
    Integer(i64),
    Text(&'a str),
    Global(&'a str, &'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A call, kept as its callable and arguments and never made.
    Call(Id, Id),
    Persistent(Id),
}

/// Result of a step; the error is the fault of the pickle.
pub(super) type Step<T> = std::result::Result<T, String>;

pub(super) struct Machine<'a> {
    rest: &'a [u8],
    /// All values made.
    pub(super) values: Vec<Value<'a>>,
    pub(super) stack: Vec<Id>,
    /// Height of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// Runs a pickle to its end; its result is left on the stack.
    pub(super) fn run(pickle: &'a [u8]) -> Step<Self> {
        let mut machine =
            Self { rest: pickle, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        while machine.step()? {}
        match machine.stack.len() {
            0 => Err("it ends without a result".into()),
            _ => Ok(machine),
        }
    }

    /// Runs one instruction; false after the last.
    fn step(&mut self) -> Step<bool> {
        match self.byte()? {
            b'.' => return Ok(false),
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'(' => {
                room(self.marks.len())?;
                self.marks.push(self.stack.len());
            }
            b'0' => drop(self.pop()?),                      // POP
            b'1' => drop(self.pop_mark()?),                 // POP_MARK
            b'N' | 0x88 | 0x89 => self.push(Value::Other)?, // NONE, NEWTRUE, NEWFALSE
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Integer(value.into()))?;
            }
            0x8a => {
                // LONG1: little-endian two's complement.
                let length = self.byte()? as usize;
                let bytes = self.take(length)?;
                let value = match bytes {
                    [] => Value::Integer(0),
                    [.., last] if length <= 8 => {
                        let mut wide = [if *last >= 128 { 0xff } else { 0 }; 8];
                        wide[..length].copy_from_slice(bytes);
                        Value::Integer(i64::from_le_bytes(wide))
                    }
                    _ => Value::Other,
                };
                self.push(value)?;
            }
            b'G' => self.skip(8)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'U' | b'C' => self.blob(1)?,
            b'T' | b'B' => self.blob(4)?,
            0x8e => self.blob(8)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (Value::Text(module), Value::Text(name)) => self.push(Value::Global(module, name))?,
                    _ => return Err("a global is not named by text".into()),
                }
            }
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b'd' => {
                let pairs = pairs(self.pop_mark()?)?;
                self.push(Value::Dict(pairs))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.update(vec![(key, value)])?;
            }
            b'u' => {
                let items = pairs(self.pop_mark()?)?;
                self.update(items)?;
            }
            b'b' => drop(self.pop()?), // BUILD: attributes of an object, such as the _metadata of a state dict
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.push(match self.values[callable] {
                    Value::Global("collections", "OrderedDict" | "defaultdict") => Value::Dict(Vec::new()),
                    _ => Value::Call(callable, arguments),
                })?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => {
                let (next, top) = (self.memo.len(), self.top()?);
                room(next)?;
                self.memo.insert(next as u64, top);
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            other => return Err(format!("instruction {other:#04x} has no place in a checkpoint")),
        }
        Ok(true)
    }

    fn push(&mut self, value: Value<'a>) -> Step<()> {
        room(self.values.len())?;
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let height = self.marks.pop().ok_or("no mark is open")?;
        Ok(self.stack.split_off(height))
    }

    fn tuple(&mut self, count: usize) -> Step<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn extend(&mut self, items: Vec<Id>) -> Step<()> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            _ => return Err("something is appended to what is no list".into()),
        }
        Ok(())
    }

    fn update(&mut self, items: Vec<(Id, Id)>) -> Step<()> {
        let dict = self.top()?;
        match &mut self.values[dict] {
            Value::Dict(dict) => dict.extend(items),
            // Items of an object that stays a call.
            Value::Call(..) => {}
            _ => return Err("an item is set on what is no dict".into()),
        }
        Ok(())
    }

    fn remember(&mut self, width: usize) -> Step<()> {
        let (key, top) = (self.unsigned(width)?, self.top()?);
        room(self.memo.len())?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Step<()> {
        let key = self.unsigned(width)?;
        let id = *self.memo.get(&key).ok_or_else(|| format!("memo {key} is empty"))?;
        room(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn integer(&mut self, width: usize) -> Step<()> {
        let value = self.unsigned(width)? as i64; // at most two bytes
        self.push(Value::Integer(value))
    }

    fn text(&mut self, width: usize) -> Step<()> {
        let length = self.unsigned(width)?;
        let bytes = self.take(usize::try_from(length).map_err(|e| e.to_string())?)?;
        self.push(Value::Text(std::str::from_utf8(bytes).map_err(|e| e.to_string())?))
    }

    fn blob(&mut self, width: usize) -> Step<()> {
        let length = self.unsigned(width)?;
        self.skip(usize::try_from(length).map_err(|e| e.to_string())?)
    }

    fn skip(&mut self, count: usize) -> Step<()> {
        self.take(count)?;
        self.push(Value::Other)
    }

    fn line(&mut self) -> Step<&'a str> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("a line has no end")?;
        let line = std::str::from_utf8(self.take(end)?).map_err(|e| e.to_string())?;
        self.take(1)?;
        Ok(line)
    }

    fn unsigned(&mut self, width: usize) -> Step<u64> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or("it is truncated")?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// Bounds each of the machine's lists, so that a short instruction repeated cannot fill the memory.
fn room(length: usize) -> Step<()> {
    if length < MAX_VALUES { Ok(()) } else { Err(format!("it has more than {MAX_VALUES} values")) }
}

fn pairs(items: Vec<Id>) -> Step<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        Err("a key has no value".into())
    }
}
