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
        let cells = || self.subjects.len() * self.methods.len() * self.phases;
        let is_sound = counts.into_iter().all(small)
            && matches!(self.phases, 1 | 3)
            && cells() == self.cells.len()
            && self.state_words <= code::STATE_WORDS
            && self.grants as usize <= self.sources.len()
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
            let times = |all: u64, next: u32| all.saturating_mul(next.into());
            let words = [first, second, row.stride].into_iter().fold(1, times);
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
            is_placed
                && row.key_low.iter().zip(&row.key_count).all(is_key)
                && words.saturating_add(row.base.into()) <= self.state_words as u64
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Aligned, Tables};
    use crate::table::{Field, Index, Label, Object, Source, State};
    use crate::{MAX_ARGS, kind};

    /// A table in which every section's rows point as far as they may.
    fn whole() -> Tables {
        let mut tables = Tables::default();
        tables.state_words = 40;
        let name = tables.add_text("name");
        (tables.subjects, tables.files) = (vec![name; 2], vec![name]);
        tables.labels = vec![Label { name, because: name, to_caller: 0 }];
        tables.fields = vec![Field { max: 9, name, ..Field::default() }; 4];
        let method = Method { name, first_field: 0, arguments: 2, replies: 1, flags: 0, errors: 1 };
        tables.methods = vec![method, Method { first_field: 4, arguments: 0, replies: 0, errors: 0, ..method }];
        tables.objects = vec![Object { name, first_method: 0, method_count: 2, server: 0 }];
        tables.code = vec![0, 0];
        let row = |source, code, flags| Row { source, code, test_count: 0, flags };
        let deny = tables.add_row(row(0, 1, Row::DENY), &[(0, 5, 6)]);
        let allow = tables.add_row(row(1, Row::PLAIN, 0), &[(5, 0, 1 << 40)]);
        tables.references = vec![deny, allow, 2, deny, allow];
        tables.intervals = vec![Interval { start: 0, rows: allow }, Interval { start: 4, rows: Interval::LIST | 2 }];
        tables.buckets = vec![0, 1, 1];
        tables.indexes = vec![Index { argument: 5, shift: 63, bucket_count: 2, ..Index::default() }];
        let cell =
            |first_reference, reference_count, index| Cell { first_reference, reference_count, index, has_code: 0 };
        tables.cells = vec![cell(0, 2, 0), cell(5, 0, Cell::PLAIN), cell(3, 2, Cell::PLAIN), cell(1, 1, Cell::PLAIN)];
        let state = State { name, key_low: [0; 2], key_count: [1; 2], stride: 1, ..State::default() };
        tables.states = vec![
            State {
                key_low: [i64::MAX - 2, i64::MIN],
                key_count: [3, 4],
                stride: 2,
                keys: 2,
                kind: kind::TIMER,
                ..state
            },
            State { base: 24, stride: 16, low: 0, high: 2, kind: kind::FLOW, ..state },
        ];
        let flow_state = FlowState { lasts: 1, successors: 0b11, then: 1, name };
        tables.flow_states = vec![flow_state; 2];
        tables
    }

    fn check(change: impl FnOnce(&mut Tables)) -> Result<(), FormatError> {
        let mut tables = whole();
        change(&mut tables);
        Policy::verify(&Aligned::new(&tables.to_bytes())).map(|_| ())
    }

    const REFERENCE: Result<(), FormatError> = Err(FormatError::Reference);
    const COUNT: Result<(), FormatError> = Err(FormatError::Count);
    const TEXT: Result<(), FormatError> = Err(FormatError::Text);

    #[test]
    fn what_points_as_far_as_it_may_is_taken() {
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|tables| *tables = Tables::default()), Ok(()), "a table that says nothing");
    }

    #[test]
    fn more_than_there_may_be_is_refused() {
        assert_eq!(check(|tables| tables.state_words = 4096), Ok(()));
        assert_eq!(check(|tables| tables.state_words = 4097), COUNT);
        assert_eq!(check(|tables| tables.methods[1].arguments = 7), COUNT);
        assert_eq!(check(|tables| tables.methods[1].replies = 7), COUNT);
        let most = |tables: &mut Tables, arguments| {
            tables.fields.resize(4 + MAX_ARGS, tables.fields[0]);
            tables.methods[1].arguments = arguments;
        };
        assert_eq!([check(|tables| most(tables, 6)), check(|tables| most(tables, 7))], [Ok(()), COUNT]);
        let grants = |grants, sources| {
            check(|tables| {
                tables.grants = grants;
                tables.sources.resize(sources, Source::default());
            })
        };
        assert_eq!([grants(2, 2), grants(3, 2)], [Ok(()), COUNT], "the last sources are grants");
        assert_eq!([grants(255, 300), grants(256, 300), grants(u32::MAX, 300)], [Ok(()), COUNT, COUNT]);
        assert_eq!(check(|tables| tables.cells.truncate(3)), COUNT);
        assert_eq!(check(|tables| tables.cells.push(Cell::default())), COUNT);
        if cfg!(miri) {
            return;
        }
        // Objects and states are counted in 16 bits, of which the last number is none.
        let objects = |count| check(|tables| tables.objects.resize(count, Object::default()));
        assert_eq!([objects(0xfffe), objects(0xffff)], [Ok(()), COUNT]);
        let states = |count| {
            check(|tables| tables.states.resize(count, State { stride: 1, key_count: [1; 2], ..State::default() }))
        };
        assert_eq!([states(0xfffe), states(0xffff)], [Ok(()), COUNT]);
        let others = |subjects, methods| {
            check(|tables| {
                tables.subjects.resize(subjects, tables.subjects[0]);
                tables.methods.resize(methods, tables.methods[1]);
                tables.cells = vec![Cell { index: Cell::PLAIN, ..Cell::default() }; subjects * methods];
            })
        };
        assert_eq!([others(0xfffe, 2), others(0xffff, 2)], [Ok(()), COUNT]);
        assert_eq!([others(2, 0xfffe), others(2, 0xffff)], [Ok(()), COUNT]);
    }

    #[test]
    fn there_are_cells_of_requests_or_of_all_phases() {
        let phases = |phases, cells| {
            check(|tables| {
                tables.phases = phases;
                tables.cells.resize(cells, tables.cells[1]);
            })
        };
        assert_eq!([phases(1, 4), phases(3, 12)], [Ok(()); 2]);
        assert_eq!([phases(2, 8), phases(4, 16), phases(1, 12), phases(3, 4)], [COUNT; 4]);
    }

    #[test]
    fn every_text_must_be_there() {
        let beyond = Text { start: 0, bytes: 100 };
        assert_eq!(check(|tables| tables.fields[3].name = beyond), TEXT);
        assert_eq!(check(|tables| tables.objects[0].name = beyond), TEXT);
        assert_eq!(check(|tables| tables.methods[1].name = beyond), TEXT);
        assert_eq!(check(|tables| tables.states[1].name = beyond), TEXT);
        assert_eq!(check(|tables| tables.flow_states[1].name = beyond), TEXT);
        assert_eq!(check(|tables| tables.labels[0].name = beyond), TEXT);
        assert_eq!(check(|tables| tables.labels[0].because = beyond), TEXT);
        assert_eq!(check(|tables| tables.subjects[1] = beyond), TEXT);
        assert_eq!(check(|tables| tables.files[0] = beyond), TEXT);
        assert_eq!(check(|tables| tables.files[0] = Text { start: u32::MAX, bytes: u32::MAX }), TEXT);
        let half = |tables: &mut Tables| {
            tables.text.push('ä');
            tables.files[0] = Text { start: 0, bytes: u32::try_from(tables.text.len()).unwrap() - 1 };
        };
        assert_eq!(check(half), TEXT, "a letter is not cut");
    }

    #[test]
    fn what_points_outside_its_section_is_refused() {
        assert_eq!(check(|tables| tables.objects[0].method_count = 3), REFERENCE);
        assert_eq!(check(|tables| tables.objects[0].first_method = 1), REFERENCE);
        assert_eq!(check(|tables| tables.methods[0].first_field = 1), REFERENCE);
        assert_eq!(check(|tables| tables.methods[0].arguments = 3), REFERENCE);
        assert_eq!(check(|tables| tables.methods[0].replies = 2), REFERENCE);
        assert_eq!(check(|tables| tables.methods[0].errors = 2), REFERENCE);
        assert_eq!(check(|tables| tables.methods[1].first_field = 5), REFERENCE);
        assert_eq!(check(|tables| tables.cells[1].first_reference = 6), REFERENCE);
        assert_eq!(check(|tables| tables.cells[1].reference_count = 1), REFERENCE);
        assert_eq!(check(|tables| tables.cells[1].reference_count = u32::MAX), REFERENCE);
        assert_eq!(check(|tables| tables.cells[3].index = 1), REFERENCE);
        assert_eq!(check(|tables| tables.references[0] = 12), REFERENCE, "no row begins there");
        assert_eq!(check(|tables| tables.references[2] = 3), REFERENCE, "a list that is longer than its section");
        assert_eq!(check(|tables| tables.intervals[0].rows = 12), REFERENCE);
        assert_eq!(check(|tables| tables.intervals[1].rows = Interval::LIST | 5), REFERENCE);
        assert_eq!(check(|tables| tables.buckets[0] = 2), REFERENCE);
        assert_eq!(check(|tables| tables.buckets[2] = 2), REFERENCE);
    }

    #[test]
    fn rows_test_arguments_that_there_are_and_have_their_numbers_and_instructions() {
        // A row's words: source, code, tests and flags; a test's: low, span, argument and form.
        assert_eq!(check(|tables| tables.rows[1] = 2), REFERENCE, "code");
        assert_eq!(check(|tables| tables.rows[1] = 0), Ok(()));
        assert_eq!(check(|tables| tables.rows[5] = 5), Ok(()));
        assert_eq!(check(|tables| tables.rows[5] = 6), REFERENCE, "argument");
        assert_eq!(check(|tables| tables.rows[11] = 6 | 1 << 16), REFERENCE, "argument");
        assert_eq!(check(|tables| tables.rows[9] = 1), REFERENCE, "numbers");
        assert_eq!(check(|tables| tables.rows[9] = u32::MAX), REFERENCE, "numbers");
        assert_eq!(check(|tables| tables.rows[8] = 2), REFERENCE, "tests beyond the rows");
        assert_eq!(check(|tables| tables.numbers.truncate(1)), REFERENCE, "numbers");
    }

    #[test]
    fn denials_stand_first_in_cells_and_intervals() {
        assert_eq!(check(|tables| tables.references.swap(0, 1)), REFERENCE);
        // Of a list that only an interval has.
        assert_eq!(check(|tables| tables.cells[2].reference_count = 0), Ok(()));
        let swapped = |tables: &mut Tables| {
            tables.cells[2].reference_count = 0;
            tables.references.swap(3, 4);
        };
        assert_eq!(check(swapped), REFERENCE);
    }

    #[test]
    fn indexes_look_at_arguments_and_buckets_that_there_are() {
        assert_eq!(check(|tables| tables.indexes[0].argument = 6), REFERENCE);
        assert_eq!(check(|tables| tables.indexes[0].shift = 64), REFERENCE);
        assert_eq!(check(|tables| tables.indexes[0].bucket_count = 0), REFERENCE);
        assert_eq!(check(|tables| tables.indexes[0].bucket_count = 3), REFERENCE, "one more stands after them");
        assert_eq!(check(|tables| tables.indexes[0].first_bucket = 1), REFERENCE);
        assert_eq!(check(|tables| tables.indexes[0].first_bucket = u32::MAX), REFERENCE);
        let shorter = |tables: &mut Tables| (tables.indexes[0].first_bucket, tables.indexes[0].bucket_count) = (1, 1);
        assert_eq!(check(shorter), Ok(()));
    }

    #[test]
    fn every_instance_lies_in_the_state_and_every_key_is_a_number() {
        assert_eq!(check(|tables| tables.state_words = 39), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].base = 25), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].base = u32::MAX), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].stride = 17), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].stride = 0), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].key_count = [2, 1]), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].key_count = [1, 2]), REFERENCE);
        assert_eq!(check(|tables| tables.states[0].key_count = [0, 1]), REFERENCE);
        assert_eq!(check(|tables| tables.states[0].key_count = [1, 0]), REFERENCE);
        assert_eq!(check(|tables| tables.states[0].keys = 3), REFERENCE);
        assert_eq!(check(|tables| tables.states[0].key_low[0] = i64::MAX - 1), REFERENCE, "the third is no number");
        assert_eq!(check(|tables| tables.states[0].key_low[1] = i64::MAX - 2), REFERENCE);
        // More than 64 bits hold; and none, modulo 2^64.
        for (key_count, stride) in [([u32::MAX; 2], u32::MAX), ([1 << 16; 2], u32::MAX), ([1 << 31, 1 << 31], 4)] {
            let keyed = State { key_count, stride, ..State::default() };
            assert_eq!(check(|tables| tables.states[0] = keyed), REFERENCE);
        }
        let many = |count, words| {
            check(|tables| {
                tables.states[0] = State { key_count: [count, 1], stride: 1, ..State::default() };
                tables.state_words = words;
            })
        };
        assert_eq!([many(4096, 4096), many(4097, 4096), many(4096, 4095)], [Ok(()), REFERENCE, REFERENCE]);
    }

    #[test]
    fn flows_name_their_own_states() {
        assert_eq!(check(|tables| tables.states[1].low = 1), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].low = -1), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].high = 3), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].high = 0), REFERENCE);
        assert_eq!(check(|tables| tables.states[1].high = 1 << 32), REFERENCE);
        assert_eq!(check(|tables| tables.flow_states[1].successors = 0b100), REFERENCE);
        assert_eq!(check(|tables| tables.flow_states[0].then = 2), REFERENCE);
        // What is no flow has numbers of its own there.
        assert_eq!(check(|tables| (tables.states[0].low, tables.states[0].high) = (-1, 99)), Ok(()));
        let many = |count: u32, successors: u32| {
            check(|tables| {
                let state = FlowState { successors, ..tables.flow_states[0] };
                tables.flow_states = vec![state; count as usize];
                tables.states[1].high = count.into();
            })
        };
        assert_eq!([many(32, u32::MAX), many(31, u32::MAX), many(33, 1)], [Ok(()), REFERENCE, REFERENCE]);
    }
}
