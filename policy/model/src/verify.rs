//! The whole check of a table, before it is used: by the loader, and by the tools that make tables. What is resident only
//! opens it.

use crate::table::{Cell, FlowState, Interval, Method, Row, Test, Text};
use crate::view::{FormatError, Policy, slice};
use crate::{MAX_ARGS, NONE, code};

impl<'a> Policy<'a> {
    /// Opens a table and checks every index and every bound. It must start at a multiple of eight.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn verify(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let policy = Self::open(bytes)?;
        policy.check_counts()?;
        policy.check_text()?;
        if policy.is_closed() && policy.are_states_sound() && policy.are_indexes_sound() && policy.denials_come_first()
        {
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
            && self.methods.iter().all(|row| usize::from(row.arguments.max(row.replies)) <= MAX_ARGS);
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
        let fields = |row: &Method| u32::from(row.arguments) + u32::from(row.replies) + u32::from(row.errors);
        let wide = |test: &Test| u32::try_from(test.low).is_ok_and(|low| within(low, 2, self.numbers.len()));
        let is_test = |test: &Test| usize::from(test.argument) < MAX_ARGS && (test.is_wide == 0 || wide(test));
        let has_code = |row: &Row| row.code == Row::PLAIN || (row.code as usize) < self.code.len();
        let is_row =
            |place: u32| self.row(place).is_some_and(|(row, tests)| has_code(row) && tests.iter().all(is_test));
        let is_list = |interval: &Interval| {
            let list = self.references.get((interval.rows & !Interval::LIST) as usize..);
            list.and_then(<[u32]>::split_first).is_some_and(|(&count, rows)| count as usize <= rows.len())
        };
        let of_cells = self.cells.iter().flat_map(|cell| self.of_cell(cell));
        let of_intervals = self.intervals.iter().flat_map(|interval| self.of_interval(interval));
        self.cells.iter().all(|row| within(row.first_reference, row.reference_count, self.references.len()))
            && self.intervals.iter().all(|interval| interval.rows & Interval::LIST == 0 || is_list(interval))
            && of_cells.chain(of_intervals).all(|&place| is_row(place))
            && self.objects.iter().all(|row| within(row.first_method, row.method_count.into(), self.methods.len()))
            && self.methods.iter().all(|row| within(row.first_field, fields(row), self.fields.len()))
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
                let known = |next: &FlowState| u64::from(next.successors) >> count == 0 && next.then < count;
                count != 0
                    && count <= 32
                    && within(low, count, self.flow_states.len())
                    && (0..count.into()).all(|at| self.flow_state(row, at).is_some_and(known))
            });
            let is_key = |(low, count): (&i64, &u32)| low.checked_add(i64::from(*count) - 1).is_some();
            // A count that overflows 64 bits overflows the state as well.
            is_placed
                && row.key_low.iter().zip(&row.key_count).all(is_key)
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
            && self.buckets.iter().all(|&first| (first as usize) < self.intervals.len())
            && self.cells.iter().all(|row| row.index == Cell::PLAIN || (row.index as usize) < self.indexes.len())
    }

    /// The monitor takes the first row that matches, where none has instructions: a refusing one must stand before every
    /// allowing one of its cell, and of each interval of its index.
    fn denials_come_first(&self) -> bool {
        let is_deny = |&place: &u32| self.row(place).is_some_and(|(row, _)| row.is_deny());
        let is_sorted =
            |references: &[u32]| references.iter().map(is_deny).is_sorted_by(|before, after| before >= after);
        let cells = self.cells.iter().all(|cell| is_sorted(self.of_cell(cell)));
        let intervals = self.intervals.iter().all(|interval| is_sorted(self.of_interval(interval)));
        cells && intervals
    }
}

fn within(first: u32, count: u32, length: usize) -> bool {
    u64::from(first) + u64::from(count) <= length as u64
}
