//! A verified table, used in place.

use zerocopy::{FromBytes, IntoBytes};

use crate::table::{
    Cell, Field, FlowState, Header, Index, Interval, Label, MAGIC, Method, Object, Row, Source, State, Test, Text,
    VERSION,
};
use crate::{MAX_ARGS, Phase, code};

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// Too short, or not as long as it says.
    Length,
    /// No magic number, or a version that is not known.
    Version,
    /// A row points outside its section.
    Reference,
    /// Text that is not UTF-8.
    Text,
    /// More subjects, objects, arguments or state than there may be.
    Count,
}

impl FormatError {
    /// What is wrong.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Length => "it is cut",
            Self::Version => "it is of another version",
            Self::Reference => "a row points outside its section",
            Self::Text => "its text is damaged",
            Self::Count => "it holds more than there may be",
        }
    }
}

/// A table whose every index and bound was checked.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    pub(crate) fields: &'a [Field],
    pub(crate) numbers: &'a [u64],
    pub(crate) states: &'a [State],
    pub(crate) flow_states: &'a [FlowState],
    pub(crate) indexes: &'a [Index],
    pub(crate) rows: &'a [u32],
    #[cfg_attr(not(feature = "names"), expect(dead_code, reason = "told to people alone"))]
    pub(crate) sources: &'a [Source],
    pub(crate) objects: &'a [Object],
    pub(crate) methods: &'a [Method],
    pub(crate) cells: &'a [Cell],
    pub(crate) references: &'a [u32],
    pub(crate) intervals: &'a [Interval],
    pub(crate) buckets: &'a [u32],
    pub(crate) subjects: &'a [Text],
    pub(crate) files: &'a [Text],
    pub(crate) labels: &'a [Label],
    pub(crate) code: &'a [u32],
    pub(crate) text: &'a str,
    pub(crate) phases: usize,
    pub(crate) state_words: usize,
    pub(crate) machine: u32,
    /// How far the site's local time is ahead of UTC, in seconds.
    pub zone: i32,
}

impl<'a> Policy<'a> {
    /// Opens a table that was verified when it was loaded (`Policy::verify`). Every access is checked again, so that a
    /// table that was not gives wrong verdicts, and nothing worse. It must start at a multiple of eight.
    ///
    /// # Errors
    /// [`FormatError`]: it is cut, or of another version.
    #[inline(never)]
    pub fn open(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| FormatError::Length)?;
        if header.magic != MAGIC || header.version != VERSION {
            return Err(FormatError::Version);
        }
        if header.total_bytes as usize != bytes.len() {
            return Err(FormatError::Length);
        }
        let (fields, rest) = section(rest, header.fields)?;
        let (numbers, rest) = section(rest, header.numbers)?;
        let (states, rest) = section(rest, header.states)?;
        let (flow_states, rest) = section(rest, header.flow_states)?;
        let (indexes, rest) = section(rest, header.indexes)?;
        let (rows, rest) = section(rest, header.rows)?;
        let (sources, rest) = section(rest, header.sources)?;
        let (objects, rest) = section(rest, header.objects)?;
        let (methods, rest) = section(rest, header.methods)?;
        let (cells, rest) = section(rest, header.cells)?;
        let (references, rest) = section(rest, header.references)?;
        let (intervals, rest) = section(rest, header.intervals)?;
        let (buckets, rest) = section(rest, header.buckets)?;
        let (subjects, rest) = section(rest, header.subjects)?;
        let (files, rest) = section(rest, header.files)?;
        let (labels, rest) = section(rest, header.labels)?;
        let (code, rest) = section(rest, header.code)?;
        if rest.len() != header.text_bytes as usize {
            return Err(FormatError::Length);
        }
        let text = core::str::from_utf8(rest).map_err(|_| FormatError::Text)?;
        let (phases, state_words) = (header.phases as usize, header.state_words as usize);
        if state_words > code::STATE_WORDS {
            return Err(FormatError::Count);
        }
        Ok(Self {
            fields,
            numbers,
            states,
            flow_states,
            indexes,
            rows,
            sources,
            objects,
            methods,
            cells,
            references,
            intervals,
            buckets,
            subjects,
            files,
            labels,
            code,
            text,
            phases,
            state_words,
            machine: header.machine,
            zone: header.zone,
        })
    }

    /// Whether it was compiled for a kind of machine ([`crate::machine`]), or for any.
    #[must_use]
    pub const fn is_for(&self, machine: u32) -> bool {
        self.machine == machine || self.machine == crate::machine::ANY
    }

    #[inline(always)]
    pub(crate) fn of_cell(&self, cell: &Cell) -> &'a [u32] {
        let first = cell.first_reference as usize;
        self.references.get(first..first + cell.reference_count as usize).unwrap_or(&[])
    }

    /// How many subjects there are.
    #[must_use]
    #[inline(always)]
    pub const fn subject_count(&self) -> usize {
        self.subjects.len()
    }

    /// How many words of state the policy needs, all zero at the start.
    #[must_use]
    pub const fn state_words(&self) -> usize {
        self.state_words
    }

    /// Whether rules are about replies and errors too.
    #[must_use]
    #[inline(always)]
    pub const fn judges_replies(&self) -> bool {
        self.phases != 1
    }

    /// An object, by number.
    #[must_use]
    #[inline(always)]
    pub fn object(&self, object: u16) -> Option<&'a Object> {
        self.objects.get(usize::from(object))
    }

    /// A method of an object, with its place among all methods.
    #[must_use]
    #[inline(always)]
    pub fn method(&self, object: &Object, method: u16) -> Option<(usize, &'a Method)> {
        let place = object.first_method as usize + usize::from(method);
        (method < object.method_count).then(|| self.methods.get(place).map(|row| (place, row))).flatten()
    }

    /// The fields of a method's request, or of its reply.
    #[must_use]
    #[inline(always)]
    pub fn fields(&self, method: &Method, reply: bool) -> &'a [Field] {
        let (skip, count) = if reply { (method.arguments, method.replies) } else { (0, method.arguments) };
        let first = method.first_field as usize + usize::from(skip);
        self.fields.get(first..first + usize::from(count)).unwrap_or(&[])
    }

    /// The cell of a subject's requests to a method (by its place among all methods).
    #[must_use]
    #[inline(always)]
    pub fn cell(&self, subject: u16, method_place: usize) -> Option<&'a Cell> {
        self.cells.get(usize::from(subject) * self.methods.len() + method_place)
    }

    /// The cell of a subject's messages of a phase, if rules are about it; questions have those of requests.
    #[must_use]
    pub fn answer_cell(&self, subject: u16, method_place: usize, phase: Phase) -> Option<&'a Cell> {
        let of_phase = (phase as usize & 3) * self.subjects.len() * self.methods.len();
        self.cells.get(of_phase + usize::from(subject) * self.methods.len() + method_place)
    }

    /// The numbers of a cell's rows that may match a call with these arguments; refusing ones first.
    #[must_use]
    #[inline(always)]
    pub fn candidates(&self, cell: &Cell, args: &[u64; MAX_ARGS]) -> &'a [u32] {
        match self.indexes.get(cell.index as usize) {
            None => self.of_cell(cell),
            Some(index) => self.found(index, args),
        }
    }

    #[inline(always)]
    fn found(&self, index: &Index, args: &[u64; MAX_ARGS]) -> &'a [u32] {
        let value = args.get(usize::from(index.argument)).copied().unwrap_or(0) ^ u64::from(index.signed) << 63;
        let Some(distance) = value.checked_sub(index.base) else { return &[] };
        let bucket = distance >> (index.shift & 63);
        if bucket >= u64::from(index.bucket_count) {
            return &[];
        }
        let Ok(bucket) = usize::try_from(bucket) else { return &[] };
        let first = index.first_bucket as usize + bucket;
        let Some(&low) = self.buckets.get(first) else { return &[] };
        // A bucket of one value knows its interval; in a wider one it is the last that starts at or before the value.
        let mut at = low as usize;
        if index.shift != 0 {
            let high = self.buckets.get(first + 1).map_or(at, |&high| high as usize);
            let among = self.intervals.get(at..=high).unwrap_or(&[]);
            at += among.partition_point(|interval| u64::from(interval.start) <= distance).saturating_sub(1);
        }
        self.intervals.get(at).map_or(&[], |interval| self.of_interval(interval))
    }

    #[inline(always)]
    pub(crate) fn of_interval(&self, interval: &'a Interval) -> &'a [u32] {
        if interval.rows & Interval::LIST == 0 {
            return core::slice::from_ref(&interval.rows);
        }
        let list = self.references.get((interval.rows & !Interval::LIST) as usize..);
        let counted = list.and_then(<[u32]>::split_first);
        counted.and_then(|(&count, rows)| rows.get(..count as usize)).unwrap_or(&[])
    }

    /// All rows of a cell, with their tests.
    pub fn rows_of(&self, cell: &Cell) -> impl Iterator<Item = (&'a Row, &'a [Test])> + use<'a> {
        let policy = *self;
        self.of_cell(cell).iter().filter_map(move |&place| policy.row(place))
    }

    /// A row and its tests, by a place of [`Policy::candidates`].
    #[must_use]
    #[inline(always)]
    pub fn row(&self, place: u32) -> Option<(&'a Row, &'a [Test])> {
        let words = self.rows.get(place as usize..)?;
        let (row, rest) = Row::ref_from_prefix(words.as_bytes()).ok()?;
        let (tests, _) = <[Test]>::ref_from_prefix_with_elems(rest, row.test_count.into()).ok()?;
        Some((row, tests))
    }

    /// Whether a rule lets a subject call any method of an object, under whatever condition.
    #[must_use]
    pub fn is_callable(&self, subject: u16, object: &Object) -> bool {
        (0..object.method_count).filter_map(|method| self.method(object, method)).any(|(place, method)| {
            method.flags & Method::QUESTION == 0
                && self.cell(subject, place).is_some_and(|cell| self.rows_of(cell).any(|(row, _)| !row.is_deny()))
        })
    }

    /// A test's lowest value, and its span.
    #[must_use]
    #[inline(always)]
    pub fn range(&self, test: &Test) -> (u64, u64) {
        if test.is_wide == 0 {
            return (i64::from(test.low).cast_unsigned(), test.span.into());
        }
        let at = usize::try_from(test.low).unwrap_or(usize::MAX - 1);
        (self.number(at), self.number(at + 1))
    }

    /// A number of the table; 0 for one that is not there.
    #[must_use]
    #[inline(always)]
    pub fn number(&self, at: usize) -> u64 {
        self.numbers.get(at).copied().unwrap_or(0)
    }

    /// The words of code from a place on: instructions, or an automaton.
    #[must_use]
    #[inline(always)]
    pub fn code_from(&self, from: u32) -> &'a [u32] {
        self.code.get(from as usize..).unwrap_or(&[])
    }

    /// The instructions from a place on.
    #[must_use]
    #[inline(always)]
    pub fn code(&self, from: u32) -> &'a [u32] {
        let all = self.code_from(from);
        all.get(..all.len().min(code::LENGTH)).unwrap_or(&[])
    }

    /// A state object.
    #[must_use]
    pub fn state(&self, state: u16) -> Option<&'a State> {
        self.states.get(usize::from(state))
    }

    /// A state of a flow.
    #[must_use]
    pub fn flow_state(&self, flow: &State, state: u64) -> Option<&'a FlowState> {
        let at = usize::try_from(flow.low.cast_unsigned().wrapping_add(state)).ok()?;
        self.flow_states.get(at).filter(|_| state < flow.high.cast_unsigned())
    }

    /// A piece of the text; empty for a piece that is not of this table.
    #[must_use]
    pub fn text(&self, text: Text) -> &'a str {
        slice(self.text, text).unwrap_or("")
    }

    /// A subject's name.
    #[must_use]
    pub fn subject_name(&self, subject: u16) -> Option<&'a str> {
        self.subjects.get(usize::from(subject)).map(|&name| self.text(name))
    }
}

pub(crate) fn slice(all: &str, text: Text) -> Option<&str> {
    let start = text.start as usize;
    all.get(start..start.checked_add(text.bytes as usize)?)
}

fn section<T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout>(
    bytes: &[u8],
    count: u32,
) -> Result<(&[T], &[u8]), FormatError> {
    <[T]>::ref_from_prefix_with_elems(bytes, count as usize).map_err(|_| FormatError::Length)
}
