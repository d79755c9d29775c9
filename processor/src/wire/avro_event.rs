//! A change event in Avro: its datum becomes, by the schema it was written with, the JSON that all rules read.
//!
//! The Avro library reads schemas here and no data: it takes a datum that ends too early for one with nulls at its end, makes
//! room for whatever a datum promises, and recurses as deep as one asks for.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{InnerDecimalSchema, Name, UuidSchema},
};
use serde::Serialize;

/// Values within values, at most.
const DEPTH_MAX: usize = 100;
/// What becomes of a datum is bounded: a null takes no byte of a datum and four of JSON, and a list promises any number of them.
/// A byte of a real event is at most a null in a union, and its field's name and null in JSON.
const JSON_BYTES_A_BYTE: usize = 32;
const JSON_BYTES_BESIDE: usize = 32 << 10;

/// Where a type stands in [`WriterSchema::types`].
type TypeId = usize;

/// A type as far as it matters to read values; a logical type is read as what it is made of.
#[derive(Debug)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    List(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(String, TypeId)>),
}

/// The schema that an event was written with.
#[derive(Debug)]
pub struct WriterSchema {
    /// The first is the event's own.
    types: Vec<Type>,
}

impl WriterSchema {
    /// `None` when it is no Avro schema, or not whole: one that refers to others is not.
    pub fn parse(text: &str) -> Option<Self> {
        let mut reading = Reading::default();
        reading.add(&Schema::parse_str(text).ok()?)?;
        Some(Self { types: reading.types })
    }

    pub fn is_record(&self) -> bool {
        matches!(self.types.first(), Some(Type::Record(_)))
    }

    /// The datum as JSON: records and maps are objects, a union is what was chosen from it, bytes are texts of the characters
    /// 0 to 255 (as in Avro's own JSON), a number that is none is null. `None` when the datum is not exactly one value.
    pub fn json(&self, datum: &[u8]) -> Option<String> {
        let json_max = datum.len().saturating_mul(JSON_BYTES_A_BYTE).saturating_add(JSON_BYTES_BESIDE);
        let mut writing = Writing { types: &self.types, datum, json: Vec::new(), json_max };
        writing.value(0, DEPTH_MAX)?;
        if writing.datum.is_empty() { String::from_utf8(writing.json).ok() } else { None }
    }
}

/// Reads a schema.
#[derive(Default)]
struct Reading {
    types: Vec<Type>,
    named: HashMap<Name, TypeId>,
}

impl Reading {
    fn add(&mut self, schema: &Schema) -> Option<TypeId> {
        if let Schema::Ref { name } = schema {
            return self.named.get(name).copied();
        }
        let id = self.types.len();
        // A type may hold itself.
        self.types.push(Type::Null);
        if let Some(name) = schema.name() {
            self.named.insert(name.clone(), id);
        }
        self.types[id] = match schema {
            Schema::Ref { .. } => return None,
            Schema::Null => Type::Null,
            Schema::Boolean => Type::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Type::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Type::Long,
            Schema::Float => Type::Float,
            Schema::Double => Type::Double,
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Type::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Type::Text,
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                Type::Fixed(fixed.size)
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Type::Bytes,
                InnerDecimalSchema::Fixed(fixed) => Type::Fixed(fixed.size),
            },
            Schema::Enum(of) => Type::Enum(of.symbols.clone()),
            Schema::Array(of) => Type::List(self.add(&of.items)?),
            Schema::Map(of) => Type::Map(self.add(&of.types)?),
            Schema::Union(of) => Type::Union(of.variants().iter().map(|one| self.add(one)).collect::<Option<_>>()?),
            Schema::Record(of) => {
                let fields = of.fields.iter().map(|field| Some((field.name.clone(), self.add(&field.schema)?)));
                Type::Record(fields.collect::<Option<_>>()?)
            }
        };
        Some(id)
    }
}

/// Reads a datum and writes JSON. Whatever is written takes room, so its bound also bounds the time; `None` ends it all.
struct Writing<'a> {
    types: &'a [Type],
    /// What is still to be read.
    datum: &'a [u8],
    json: Vec<u8>,
    json_max: usize,
}

impl<'a> Writing<'a> {
    fn value(&mut self, id: TypeId, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let types = self.types;
        match types.get(id)? {
            Type::Null => self.put(&()),
            Type::Boolean => match self.take(1)? {
                [0] => self.put(&false),
                [1] => self.put(&true),
                _ => None,
            },
            Type::Int => {
                let number = i32::try_from(self.long()?).ok()?;
                self.put(&number)
            }
            Type::Long => {
                let number = self.long()?;
                self.put(&number)
            }
            Type::Float => {
                let number = f32::from_le_bytes(self.take(4)?.try_into().ok()?);
                self.put(&number)
            }
            Type::Double => {
                let number = f64::from_le_bytes(self.take(8)?.try_into().ok()?);
                self.put(&number)
            }
            Type::Bytes => {
                let length = self.length()?;
                self.bytes(length)
            }
            Type::Fixed(length) => self.bytes(*length),
            Type::Text => self.text(),
            Type::Enum(symbols) => {
                let index = self.length()?;
                self.put(symbols.get(index)?)
            }
            Type::Union(variants) => {
                let index = self.length()?;
                self.value(*variants.get(index)?, depth)
            }
            Type::List(items) => self.blocks(*b"[]", |writing| writing.value(*items, depth)),
            Type::Map(values) => self.blocks(*b"{}", |writing| {
                writing.text()?;
                writing.push(b":")?;
                writing.value(*values, depth)
            }),
            Type::Record(fields) => {
                self.push(b"{")?;
                for (index, (name, of)) in fields.iter().enumerate() {
                    if index > 0 {
                        self.push(b",")?;
                    }
                    self.put(name)?;
                    self.push(b":")?;
                    self.value(*of, depth)?;
                }
                self.push(b"}")
            }
        }
    }

    /// A list or a map: blocks, each with how many it holds; a number below zero is followed by the block's length in bytes.
    fn blocks(&mut self, brackets: [u8; 2], mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.push(&brackets[..1])?;
        let mut is_first = true;
        loop {
            let count = self.long()?;
            if count == 0 {
                return self.push(&brackets[1..]);
            }
            if count < 0 {
                self.length()?;
            }
            for _ in 0..count.unsigned_abs() {
                if !std::mem::take(&mut is_first) {
                    self.push(b",")?;
                }
                one(self)?;
            }
        }
    }

    fn text(&mut self) -> Option<()> {
        let length = self.length()?;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.put(text)
    }

    fn bytes(&mut self, length: usize) -> Option<()> {
        let text: String = self.take(length)?.iter().map(|byte| char::from(*byte)).collect();
        self.put(&text)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.datum.split_at_checked(length)?;
        self.datum = rest;
        Some(taken)
    }

    /// A number that counts something.
    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.long()?).ok()
    }

    /// Seven bits a byte, the lowest first, the sign in the lowest of all.
    fn long(&mut self) -> Option<i64> {
        let mut zigzag = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = *self.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if bits << shift >> shift != bits {
                return None;
            }
            zigzag |= bits << shift;
            if byte & 0x80 == 0 {
                return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        None
    }

    fn put(&mut self, value: &(impl Serialize + ?Sized)) -> Option<()> {
        serde_json::to_writer(&mut self.json, value).ok()?;
        self.push(b"")
    }

    fn push(&mut self, text: &[u8]) -> Option<()> {
        self.json.extend_from_slice(text);
        (self.json.len() <= self.json_max).then_some(())
    }
}

#[cfg(test)]
mod tests;
