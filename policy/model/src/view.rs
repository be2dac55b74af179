//! A verified table, used in place.

use zerocopy::FromBytes;

use crate::table::{
    Cell, Field, FlowState, Header, Index, Interval, Label, MAGIC, Method, Object, Row, Source, State, Test, Text, VERSION,
};
use crate::{MAX_ARGS, NONE, Phase, code};

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
    fields: &'a [Field],
    numbers: &'a [u64],
    states: &'a [State],
    flow_states: &'a [FlowState],
    indexes: &'a [Index],
    tests: &'a [Test],
    rows: &'a [Row],
    sources: &'a [Source],
    objects: &'a [Object],
    methods: &'a [Method],
    cells: &'a [Cell],
    references: &'a [u32],
    intervals: &'a [Interval],
    buckets: &'a [u32],
    subjects: &'a [Text],
    files: &'a [Text],
    labels: &'a [Label],
    code: &'a [u32],
    text: &'a str,
    phases: usize,
    state_words: usize,
}

impl<'a> Policy<'a> {
    /// Checks the whole table. It must start at a multiple of eight.
    ///
    /// # Errors
    /// [`FormatError`].
    #[inline(never)]
    pub fn verify(bytes: &'a [u8]) -> Result<Self, FormatError> {
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
        let (tests, rest) = section(rest, header.tests)?;
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
        let policy = Self {
            fields, numbers, states, flow_states, indexes, tests, rows, sources, objects, methods, cells, references, intervals,
            buckets, subjects, files, labels, code, text, phases, state_words,
        };
        policy.check_counts()?;
        policy.check_text()?;
        if policy.is_closed() && policy.are_states_sound() && policy.are_indexes_sound() && policy.denials_come_first() {
            Ok(policy)
        } else {
            Err(FormatError::Reference)
        }
    }

    fn check_counts(&self) -> Result<(), FormatError> {
        let small = |count: usize| count < NONE as usize;
        let counts = [self.subjects.len(), self.objects.len(), self.methods.len(), self.states.len()];
        let cells = self.subjects.len() * self.methods.len() * self.phases;
        let is_sound = counts.into_iter().all(small)
            && matches!(self.phases, 1 | 3)
            && cells == self.cells.len()
            && self.state_words <= code::STATE_WORDS
            && self.methods.iter().all(|row| row.arguments.max(row.replies) as usize <= MAX_ARGS);
        if is_sound { Ok(()) } else { Err(FormatError::Count) }
    }

    fn check_text(&self) -> Result<(), FormatError> {
        let is_there = |text: Text| slice(self.text, text).is_some();
        let is_sound = self.fields.iter().all(|row| is_there(row.name))
            && self.objects.iter().all(|row| is_there(row.name))
            && self.methods.iter().all(|row| is_there(row.name))
            && self.states.iter().all(|row| is_there(row.name))
            && self.flow_states.iter().all(|row| is_there(row.name))
            && self.labels.iter().all(|row| is_there(row.name) && is_there(row.because))
            && self.subjects.iter().chain(self.files).all(|&text| is_there(text));
        if is_sound { Ok(()) } else { Err(FormatError::Text) }
    }

    /// Whether every row that points points at something.
    fn is_closed(&self) -> bool {
        let fields = |row: &Method| u32::from(row.arguments) + u32::from(row.replies);
        let wide = |test: &Test| u32::try_from(test.low).is_ok_and(|low| within(low, 2, self.numbers.len()));
        self.rows.iter().all(|row| within(row.first_test, row.test_count.into(), self.tests.len()))
            && self.rows.iter().all(|row| row.code == Row::PLAIN || (row.code as usize) < self.code.len())
            && self.tests.iter().all(|test| usize::from(test.argument) < MAX_ARGS)
            && self.tests.iter().all(|test| test.is_wide == 0 || wide(test))
            && self.objects.iter().all(|row| within(row.first_method, row.method_count.into(), self.methods.len()))
            && self.methods.iter().all(|row| within(row.first_field, fields(row), self.fields.len()))
            && self.cells.iter().all(|row| within(row.first_reference, row.reference_count, self.references.len()))
            && self.references.iter().all(|&row| (row as usize) < self.rows.len())
    }

    /// Whether every instance of every state object lies in the state, and flows name their own states.
    fn are_states_sound(&self) -> bool {
        self.states.iter().all(|row| {
            let [first, second] = row.key_count;
            let words = u64::from(first) * u64::from(second) * u64::from(row.stride);
            let is_placed = first != 0 && second != 0 && row.stride != 0 && row.keys as usize <= code::KEYS;
            let is_flow = row.kind == crate::kind::FLOW;
            let flow = u32::try_from(row.low).ok().zip(u32::try_from(row.high).ok());
            let has_states = flow.is_some_and(|(low, count)| {
                count != 0 && count <= 32 && within(low, count, self.flow_states.len())
            });
            // A count that overflows 64 bits overflows the state as well.
            is_placed
                && u64::from(first) * u64::from(second) <= code::STATE_WORDS as u64
                && u64::from(row.base) + words <= self.state_words as u64
                && (!is_flow || has_states)
        })
    }

    fn are_indexes_sound(&self) -> bool {
        let indexes = self.indexes.iter().all(|row| {
            usize::from(row.argument) < MAX_ARGS
                && row.shift < 64
                && row.bucket_count != 0
                && u64::from(row.first_bucket) + u64::from(row.bucket_count) < self.buckets.len() as u64
        });
        indexes
            && self.buckets.iter().all(|&first| (first as usize) + 1 < self.intervals.len())
            && self.intervals.iter().all(|row| row.first_reference as usize <= self.references.len())
            && self.cells.iter().all(|row| row.index == Cell::PLAIN || (row.index as usize) < self.indexes.len())
    }

    /// The monitor takes the first row that matches, where none has instructions: a refusing one must stand before every
    /// allowing one of its cell, and of each interval of its index.
    fn denials_come_first(&self) -> bool {
        let is_deny = |&row: &u32| self.rows.get(row as usize).is_some_and(Row::is_deny);
        let is_sorted = |references: &[u32]| references.iter().map(is_deny).is_sorted_by(|before, after| before >= after);
        let cells = self.cells.iter().all(|cell| is_sorted(self.of_cell(cell)));
        let intervals = self.intervals.windows(2).all(|pair| {
            let &[from, to] = pair else { return true };
            is_sorted(self.references.get(from.first_reference as usize..to.first_reference as usize).unwrap_or(&[]))
        });
        cells && intervals
    }

    #[inline(always)]
    fn of_cell(&self, cell: &Cell) -> &'a [u32] {
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

    /// The cell of the replies or the errors to a subject from a method, if rules are about them.
    #[must_use]
    pub fn answer_cell(&self, subject: u16, method_place: usize, phase: Phase) -> Option<&'a Cell> {
        let of_phase = phase as usize * self.subjects.len() * self.methods.len();
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
        let (Some(&low), Some(&high)) = (self.buckets.get(first), self.buckets.get(first + 1)) else { return &[] };
        // The interval that the value lies in: the last of these that starts at or before it.
        let among = self.intervals.get(low as usize..=high as usize).unwrap_or(&[]);
        let after = among.partition_point(|interval| u64::from(interval.start) <= distance);
        let at = low as usize + after.saturating_sub(1);
        let (Some(from), Some(to)) = (self.intervals.get(at), self.intervals.get(at + 1)) else { return &[] };
        self.references.get(from.first_reference as usize..to.first_reference as usize).unwrap_or(&[])
    }

    /// All rows of a cell.
    pub fn rows_of(&self, cell: &Cell) -> impl Iterator<Item = &'a Row> + use<'a> {
        let rows = self.rows;
        self.of_cell(cell).iter().filter_map(move |&row| rows.get(row as usize))
    }

    /// A row, by a number of [`Policy::candidates`].
    #[must_use]
    #[inline(always)]
    pub fn row(&self, reference: u32) -> Option<&'a Row> {
        self.rows.get(reference as usize)
    }

    /// Whether a rule lets a subject call any method of an object, under whatever condition.
    #[must_use]
    pub fn is_callable(&self, subject: u16, object: &Object) -> bool {
        (0..object.method_count).filter_map(|method| self.method(object, method)).any(|(place, _)| {
            self.cell(subject, place).is_some_and(|cell| self.rows_of(cell).any(|row| !row.is_deny()))
        })
    }

    /// Where the rule that users know by `source` was written: file and line.
    #[must_use]
    pub fn rule_place(&self, source: u16) -> Option<(&'a str, u32)> {
        let row = self.sources.get(usize::from(source)).filter(|_| source != NONE)?;
        let file = self.files.get((row.place >> 24) as usize)?;
        Some((self.text(*file), row.place & 0xff_ffff))
    }

    /// The name of a rule and the reason that its author gave; empty without one.
    #[must_use]
    pub fn rule_label(&self, source: u16) -> (&'a str, &'a str) {
        let row = self.sources.get(usize::from(source)).filter(|_| source != NONE);
        let label = row.and_then(|row| self.labels.get(row.label.checked_sub(1)? as usize));
        label.map_or(("", ""), |label| (self.text(label.name), self.text(label.because)))
    }

    /// A row's tests.
    #[must_use]
    #[inline(always)]
    pub fn tests(&self, row: &Row) -> &'a [Test] {
        let first = row.first_test as usize;
        self.tests.get(first..first + usize::from(row.test_count)).unwrap_or(&[])
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

    /// The instructions from a place on.
    #[must_use]
    #[inline]
    pub fn code(&self, from: u32) -> &'a [u32] {
        let all = self.code.get(from as usize..).unwrap_or(&[]);
        all.get(..all.len().min(code::LENGTH)).unwrap_or(&[])
    }

    /// A state object.
    #[must_use]
    #[inline]
    pub fn state(&self, state: u16) -> Option<&'a State> {
        self.states.get(usize::from(state))
    }

    /// A state of a flow.
    #[must_use]
    pub fn flow_state(&self, flow: &State, state: u64) -> Option<&'a FlowState> {
        let (first, count) = (usize::try_from(flow.low).ok()?, u64::try_from(flow.high).ok()?);
        (state < count).then(|| self.flow_states.get(first + usize::try_from(state).ok()?)).flatten()
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

fn within(first: u32, count: u32, length: usize) -> bool {
    u64::from(first) + u64::from(count) <= length as u64
}

fn slice(all: &str, text: Text) -> Option<&str> {
    let start = text.start as usize;
    all.get(start..start.checked_add(text.bytes as usize)?)
}

fn section<T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout>(
    bytes: &[u8],
    count: u32,
) -> Result<(&[T], &[u8]), FormatError> {
    <[T]>::ref_from_prefix_with_elems(bytes, count as usize).map_err(|_| FormatError::Length)
}
