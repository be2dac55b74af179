//! Writing a table on the host. The same rows give the same bytes.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::string::String;
use std::vec::Vec;

use zerocopy::IntoBytes;

use crate::table::{
    Cell, Field, FlowState, Header, Index, Interval, Label, MAGIC, Method, Object, Row, Source, State, Test, Text,
    VERSION,
};

/// The sections of a table.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Fields of all methods.
    pub fields: Vec<Field>,
    /// Numbers of tests and of code.
    pub numbers: Vec<u64>,
    /// State objects.
    pub states: Vec<State>,
    /// States of flows.
    pub flow_states: Vec<FlowState>,
    /// Indexes of cells.
    pub indexes: Vec<Index>,
    /// Words of all rows and their tests.
    pub rows: Vec<u32>,
    /// Rules of the text.
    pub sources: Vec<Source>,
    /// Objects.
    pub objects: Vec<Object>,
    /// Methods of all objects.
    pub methods: Vec<Method>,
    /// One for each subject and method (and phase).
    pub cells: Vec<Cell>,
    /// Places of rows.
    pub references: Vec<u32>,
    /// Intervals of all indexes.
    pub intervals: Vec<Interval>,
    /// Buckets of all indexes.
    pub buckets: Vec<u32>,
    /// Subjects' names.
    pub subjects: Vec<Text>,
    /// Files' names.
    pub files: Vec<Text>,
    /// What is told of rules.
    pub labels: Vec<Label>,
    /// Instructions.
    pub code: Vec<u32>,
    /// All text.
    pub text: String,
    /// Words of state.
    pub state_words: u32,
    /// 1, or 3 with cells for replies and errors.
    pub phases: u32,
    /// The kind of machine ([`crate::machine`]).
    pub machine: u32,
    /// Seconds that local time is ahead of UTC.
    pub zone: i32,
    /// Which of its name the policy is.
    pub revision: u64,
    /// How many of `sources`, the last ones, are grants that can undo the wall.
    pub grants: u32,
    known: HashMap<String, Text>,
    known_code: HashMap<Vec<u32>, u32>,
}

impl Tables {
    /// Adds text, once for equal pieces.
    pub fn add_text(&mut self, text: &str) -> Text {
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        let new = Text { start: number(self.text.len()), bytes: number(text.len()) };
        self.text.push_str(text);
        self.known.insert(text.to_string(), new);
        new
    }

    /// Adds words of code, once for equal ones; returns their place.
    pub fn add_code(&mut self, words: &[u32]) -> u32 {
        if let Some(&known) = self.known_code.get(words) {
            return known;
        }
        let place = number(self.code.len());
        self.code.extend(words);
        self.known_code.insert(words.to_vec(), place);
        place
    }

    /// Adds a file's name; returns its number.
    pub fn add_file(&mut self, name: &str) -> u32 {
        let text = self.add_text(name);
        let at = self.files.iter().position(|&known| known == text).unwrap_or_else(|| {
            self.files.push(text);
            self.files.len() - 1
        });
        number(at)
    }

    /// Adds a row and its tests (argument, lowest and highest value), each in the form that holds its ends; returns its place.
    pub fn add_row(&mut self, row: Row, tests: &[(u16, i128, i128)]) -> u32 {
        let place = number(self.rows.len());
        let row = Row { test_count: u16::try_from(tests.len()).unwrap_or(u16::MAX), ..row };
        let mut bytes = row.as_bytes().to_vec();
        for &(argument, low, high) in tests {
            let test = match (i32::try_from(low), u32::try_from(high - low)) {
                (Ok(low), Ok(span)) => Test { low, span, argument, is_wide: 0 },
                _ => {
                    let at = i32::try_from(self.numbers.len()).unwrap_or(i32::MAX);
                    self.numbers.extend([word(low), word(high).wrapping_sub(word(low))]);
                    Test { low: at, span: 0, argument, is_wide: 1 }
                }
            };
            bytes.extend_from_slice(test.as_bytes());
        }
        let words = bytes.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok().map(u32::from_le_bytes));
        self.rows.extend(words);
        place
    }

    /// The table's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let sections = [
            self.fields.as_bytes(),
            self.numbers.as_bytes(),
            self.states.as_bytes(),
            self.flow_states.as_bytes(),
            self.indexes.as_bytes(),
            self.rows.as_bytes(),
            self.sources.as_bytes(),
            self.objects.as_bytes(),
            self.methods.as_bytes(),
            self.cells.as_bytes(),
            self.references.as_bytes(),
            self.intervals.as_bytes(),
            self.buckets.as_bytes(),
            self.subjects.as_bytes(),
            self.files.as_bytes(),
            self.labels.as_bytes(),
            self.code.as_bytes(),
            self.text.as_bytes(),
        ];
        let total = size_of::<Header>() + sections.iter().map(|section| section.len()).sum::<usize>();
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            total_bytes: number(total),
            state_words: self.state_words,
            fields: number(self.fields.len()),
            numbers: number(self.numbers.len()),
            states: number(self.states.len()),
            flow_states: number(self.flow_states.len()),
            indexes: number(self.indexes.len()),
            rows: number(self.rows.len()),
            sources: number(self.sources.len()),
            objects: number(self.objects.len()),
            methods: number(self.methods.len()),
            cells: number(self.cells.len()),
            references: number(self.references.len()),
            intervals: number(self.intervals.len()),
            buckets: number(self.buckets.len()),
            subjects: number(self.subjects.len()),
            files: number(self.files.len()),
            labels: number(self.labels.len()),
            code: number(self.code.len()),
            text_bytes: number(self.text.len()),
            phases: self.phases.max(1),
            machine: self.machine,
            zone: self.zone,
            revision: self.revision,
            grants: self.grants,
        };
        let mut bytes = header.as_bytes().to_vec();
        sections.iter().for_each(|section| bytes.extend_from_slice(section));
        bytes
    }
}

/// A table's bytes where they begin at a multiple of eight, as [`crate::Policy::open`] wants them.
#[derive(Clone, Debug)]
pub struct Aligned {
    words: Vec<u64>,
    length: usize,
}

impl Aligned {
    /// A copy of these.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut words = std::vec![0_u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self { words, length: bytes.len() }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.length]
    }
}

/// A value as a call carries it: 64 bits, signed ones in two's complement.
#[must_use]
pub fn word(value: i128) -> u64 {
    u64::try_from(value).unwrap_or_else(|_| i64::try_from(value).unwrap_or(0).cast_unsigned())
}

/// Tables hold less than 4 GiB; a larger one would not verify.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
