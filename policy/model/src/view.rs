//! A verified table, used in place.

use zerocopy::{FromBytes, IntoBytes};

use crate::table::{
    Cell, Field, FlowState, Header, Index, Interval, Label, MAGIC, Method, Object, Row, Source, State, Test, Text,
    VERSION,
};
use crate::{MAX_ARGS, MAX_GRANTS, Phase, code};

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
    #[cfg_attr(not(any(feature = "names", feature = "verify")), expect(dead_code, reason = "told to people alone"))]
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
    pub(crate) grants: u32,
    /// How far the site's local time is ahead of UTC, in seconds.
    pub zone: i32,
    /// Which of its name the policy is: a machine that remembers takes none that is older.
    pub revision: u64,
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
        if state_words > code::STATE_WORDS || header.grants > MAX_GRANTS {
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
            grants: header.grants,
            zone: header.zone,
            revision: header.revision,
        })
    }

    /// How many grants can undo the wall; at most [`MAX_GRANTS`].
    #[must_use]
    pub const fn grants(&self) -> u32 {
        self.grants
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Aligned, Tables};
    use crate::machine;

    #[test]
    fn a_table_of_another_version_or_length_is_not_opened() {
        let whole = Aligned::new(&Tables::default().to_bytes());
        assert!(Policy::open(&whole).is_ok());
        let with = |at: usize, value: u8| {
            let mut bytes = whole.clone();
            bytes[at] = bytes[at].wrapping_add(value);
            Policy::open(&bytes).map(|_| ())
        };
        assert_eq!([with(0, 1), with(4, 1), with(4, 255)], [Err(FormatError::Version); 3]);
        assert_eq!([with(8, 1), with(8, 255)], [Err(FormatError::Length); 2]);
        assert_eq!(Policy::open(&whole[..whole.len() - 1]).map(|_| ()), Err(FormatError::Length));
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(Policy::open(&Aligned::new(&longer)).map(|_| ()), Err(FormatError::Length));
        // As long as it says, and longer than its sections.
        longer[8] += 1;
        assert_eq!(Policy::open(&Aligned::new(&longer)).map(|_| ()), Err(FormatError::Length));
        assert_eq!(Policy::open(&[]).map(|_| ()), Err(FormatError::Length));
    }

    #[test]
    fn text_is_text_and_state_has_its_bound() {
        let mut tables = Tables::default();
        tables.text.push('ä');
        let whole = Aligned::new(&tables.to_bytes());
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() = b'a';
        assert!(Policy::open(&whole).is_ok());
        assert_eq!(Policy::open(&damaged).map(|_| ()), Err(FormatError::Text));
        let words = |words| {
            let mut tables = Tables::default();
            tables.state_words = words;
            Policy::open(&Aligned::new(&tables.to_bytes())).map(|policy| policy.state_words())
        };
        assert_eq!([words(4096), words(4097)], [Ok(4096), Err(FormatError::Count)]);
    }

    #[test]
    fn errors_have_words_of_their_own() {
        use FormatError::{Count, Length, Reference, Text, Version};
        let words = [
            (Length, "it is cut"),
            (Version, "it is of another version"),
            (Reference, "a row points outside its section"),
            (Text, "its text is damaged"),
            (Count, "it holds more than there may be"),
        ];
        assert!(words.into_iter().all(|(error, word)| error.word() == word));
    }

    #[test]
    fn a_table_is_for_its_machine_or_for_any() {
        let is_for = |own, other| {
            let mut tables = Tables::default();
            tables.machine = own;
            Policy::open(&Aligned::new(&tables.to_bytes())).unwrap().is_for(other)
        };
        assert!(is_for(machine::ANY, machine::X86_64) && is_for(machine::X86_64, machine::X86_64));
        assert!(!is_for(machine::AARCH64, machine::X86_64) && !is_for(machine::X86_64, machine::AARCH64));
    }

    #[test]
    fn rules_are_about_requests_or_about_all_that_is_said() {
        for (phases, judges) in [(1, false), (3, true)] {
            let mut tables = Tables::default();
            tables.phases = phases;
            let bytes = Aligned::new(&tables.to_bytes());
            assert_eq!(Policy::open(&bytes).unwrap().judges_replies(), judges);
        }
    }

    /// Two subjects, two objects of one method and of two, of which the last is a question; a cell's number is its first reference.
    fn cells(phases: u32) -> Tables {
        let mut tables = Tables::default();
        let name = tables.add_text("name");
        let method = Method { name, arguments: 1, replies: 2, ..Method::default() };
        tables.methods = vec![method, method, Method { flags: Method::QUESTION, ..method }];
        tables.fields = (0..4).map(|max| Field { max, name, ..Field::default() }).collect();
        let object = Object { name, first_method: 0, method_count: 1, server: 0 };
        tables.objects = vec![object, Object { first_method: 1, method_count: 2, ..object }];
        tables.subjects = vec![name, tables.add_text("other")];
        tables.phases = phases;
        tables.cells = (0..6 * phases)
            .map(|first_reference| Cell { first_reference, index: Cell::PLAIN, ..Cell::default() })
            .collect();
        tables
    }

    #[test]
    fn each_subject_method_and_phase_has_a_cell() {
        let bytes = Aligned::new(&cells(3).to_bytes());
        let policy = Policy::open(&bytes).unwrap();
        let cell = |subject, place| policy.cell(subject, place).map(|cell| cell.first_reference);
        assert_eq!([cell(0, 0), cell(0, 2), cell(1, 0), cell(1, 2)], [Some(0), Some(2), Some(3), Some(5)]);
        let answer = |subject, place, phase| policy.answer_cell(subject, place, phase).map(|cell| cell.first_reference);
        assert_eq!([answer(1, 2, Phase::Request), answer(1, 2, Phase::Question)], [Some(5); 2]);
        assert_eq!([answer(0, 1, Phase::Reply), answer(1, 1, Phase::Reply)], [Some(7), Some(10)]);
        assert_eq!([answer(0, 1, Phase::Error), answer(1, 2, Phase::Error)], [Some(13), Some(17)]);
        let bytes = Aligned::new(&cells(1).to_bytes());
        let policy = Policy::open(&bytes).unwrap();
        assert_eq!(policy.answer_cell(0, 0, Phase::Reply).map(|_| ()), None);
    }

    #[test]
    fn methods_fields_and_subjects_are_those_of_their_owner() {
        let bytes = Aligned::new(&cells(1).to_bytes());
        let policy = Policy::open(&bytes).unwrap();
        let object = policy.object(1).unwrap();
        let places = [0, 1, 2].map(|method| policy.method(object, method).map(|(place, _)| place));
        assert_eq!(places, [Some(1), Some(2), None]);
        assert!(policy.method(policy.object(0).unwrap(), 1).is_none(), "it is another object's");
        assert!(policy.object(2).is_none());
        let (_, method) = policy.method(object, 0).unwrap();
        let most = |reply| policy.fields(method, reply).iter().map(|field| field.max).collect::<Vec<_>>();
        assert_eq!([most(false), most(true)], [vec![0], vec![1, 2]]);
        assert_eq!(policy.fields(&Method { first_field: 4, ..*method }, false), []);
        assert_eq!([0, 1, 2].map(|subject| policy.subject_name(subject)), [Some("name"), Some("other"), None]);
        assert_eq!((policy.subject_count(), policy.text(Text { start: 4, bytes: 5 })), (2, "other"));
        assert_eq!(policy.text(Text { start: 5, bytes: 5 }), "");
    }

    #[test]
    fn who_may_call_something_may_call_what_is_no_question_and_not_only_denied() {
        // An allowing row at 0, a denying one at 3.
        let is_callable = |cell: usize, row: u32| {
            let mut tables = cells(1);
            let plain = Row { code: Row::PLAIN, ..Row::default() };
            tables.add_row(plain, &[]);
            tables.add_row(Row { flags: Row::DENY, ..plain }, &[]);
            tables.references = vec![row];
            tables.cells.iter_mut().for_each(|cell| cell.first_reference = 0);
            tables.cells[cell].reference_count = 1;
            let bytes = Aligned::new(&tables.to_bytes());
            let policy = Policy::verify(&bytes).unwrap();
            [0, 1].map(|subject| [0, 1].map(|object| policy.is_callable(subject, policy.object(object).unwrap())))
        };
        assert_eq!(is_callable(1, 0), [[false, true], [false, false]]);
        assert_eq!(is_callable(3, 0), [[false, false], [true, false]]);
        assert_eq!(is_callable(2, 0), [[false; 2]; 2], "a question is asked, not called");
        assert_eq!(is_callable(1, 3), [[false; 2]; 2], "denied");
    }

    #[test]
    fn a_tests_range_stands_in_it_or_in_the_numbers() {
        let mut tables = Tables::default();
        tables.numbers = vec![10, 20, 30];
        let bytes = Aligned::new(&tables.to_bytes());
        let policy = Policy::open(&bytes).unwrap();
        let range = |low, is_wide| policy.range(&Test { low, span: 7, argument: 0, is_wide });
        assert_eq!([range(-1, 0), range(5, 0)], [(u64::MAX, 7), (5, 7)]);
        assert_eq!([range(1, 1), range(2, 1), range(3, 1), range(-1, 1)], [(20, 30), (30, 0), (0, 0), (0, 0)]);
    }

    #[test]
    fn code_begins_where_it_is_asked_for_and_has_its_bound() {
        let mut tables = Tables::default();
        tables.code = (0..1030).collect();
        let bytes = Aligned::new(&tables.to_bytes());
        let policy = Policy::open(&bytes).unwrap();
        assert_eq!((policy.code(2).len(), policy.code(2)[0], policy.code(1029)), (1024, 2, &[1029][..]));
        assert_eq!((policy.code_from(2).len(), policy.code_from(1030).len(), policy.code(1031).len()), (1028, 0, 0));
    }

    #[test]
    fn an_index_finds_the_interval_of_a_value() {
        // From 100 on: row 0 for 100..=103, none for 104..=109, rows 3 and 0 from 110 on. Four values a bucket, four buckets.
        let found = |shift, signed: bool, value: u64| {
            let mut tables = Tables::default();
            let plain = Row { code: Row::PLAIN, ..Row::default() };
            tables.add_row(plain, &[]);
            tables.add_row(plain, &[]);
            tables.references = vec![0, 2, 3, 0];
            let list = |at| Interval::LIST | at;
            tables.intervals =
                [(0, 0), (4, list(0)), (10, list(1))].map(|(start, rows)| Interval { start, rows }).to_vec();
            // Where each bucket begins, an interval; a bucket of one value has its own.
            tables.buckets = match shift {
                0 => [[0; 4].as_slice(), &[1; 6], &[2; 7]].concat(),
                _ => vec![0, 1, 1, 2, 2],
            };
            let bucket_count = u32::try_from(tables.buckets.len()).unwrap() - 1;
            let base = if signed { (1 << 63) - 5 } else { 100 };
            let index = Index { base, argument: 2, shift, first_bucket: 0, bucket_count, signed: signed.into() };
            tables.indexes = vec![index];
            let bytes = Aligned::new(&tables.to_bytes());
            let policy = Policy::verify(&bytes).unwrap();
            let cell = Cell::default();
            policy.candidates(&cell, &[0, 0, value, 0, 0, 0]).to_vec()
        };
        for shift in [0, 2] {
            for (value, rows) in
                [(99, &[][..]), (100, &[0]), (103, &[0]), (104, &[]), (109, &[]), (110, &[3, 0]), (115, &[3, 0])]
            {
                assert_eq!(found(shift, false, value), rows, "{value} by buckets of 2^{shift}");
            }
            assert_eq!([found(shift, false, 116), found(shift, false, u64::MAX), found(shift, false, 0)], [[0; 0]; 3]);
            let minus = |value: i64| value.cast_unsigned();
            assert_eq!([found(shift, true, minus(-5)), found(shift, true, minus(-2))], [[0], [0]]);
            assert_eq!(
                [found(shift, true, minus(-6)), found(shift, true, minus(-1)), found(shift, true, 4)],
                [[0; 0]; 3]
            );
            assert_eq!(found(shift, true, 5), [3, 0]);
        }
    }

    #[test]
    fn a_cell_without_an_index_has_its_own_references_and_a_flow_its_own_states() {
        let mut tables = Tables::default();
        tables.references = vec![5, 6, 7];
        let state = |then| FlowState { then, ..FlowState::default() };
        tables.flow_states = vec![state(0), state(1), state(2), state(3)];
        tables.states = vec![State::default(), State { low: 1, high: 2, ..State::default() }];
        let bytes = Aligned::new(&tables.to_bytes());
        let policy = Policy::open(&bytes).unwrap();
        let cell = |first_reference, reference_count| Cell {
            first_reference,
            reference_count,
            index: Cell::PLAIN,
            has_code: 0,
        };
        let of = |cell: Cell| policy.candidates(&cell, &[0; MAX_ARGS]);
        assert_eq!([of(cell(1, 2)), of(cell(2, 1)), of(cell(2, 2)), of(cell(4, 0))], [&[6, 7][..], &[7], &[], &[]]);
        let flow = policy.state(1).unwrap();
        let then = [0, 1, 2, u64::MAX].map(|state| policy.flow_state(flow, state).map(|state| state.then));
        assert_eq!((then, policy.state(2)), ([Some(1), Some(2), None, None], None));
        assert_eq!(policy.flow_state(&State { low: -1, high: 2, ..State::default() }, 0), None);
    }
}
