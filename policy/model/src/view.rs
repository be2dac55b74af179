//! A verified table, used in place.

use zerocopy::FromBytes;

use crate::table::{Cell, Condition, Field, Header, MAGIC, Method, Object, Rule, Text, VERSION};
use crate::{MAX_ARGS, NONE};

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
    /// More subjects, objects or arguments than a number holds.
    Count,
}

/// A table whose every index and bound was checked.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    fields: &'a [Field],
    conditions: &'a [Condition],
    rules: &'a [Rule],
    objects: &'a [Object],
    methods: &'a [Method],
    cells: &'a [Cell],
    subjects: &'a [Text],
    references: &'a [u32],
    text: &'a str,
}

impl<'a> Policy<'a> {
    /// Checks the whole table. It must start at a multiple of eight.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn verify(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| FormatError::Length)?;
        if header.magic != MAGIC || header.version != VERSION {
            return Err(FormatError::Version);
        }
        if header.total_bytes as usize != bytes.len() {
            return Err(FormatError::Length);
        }
        let (fields, rest) = section(rest, header.fields)?;
        let (conditions, rest) = section(rest, header.conditions)?;
        let (rules, rest) = section(rest, header.rules)?;
        let (objects, rest) = section(rest, header.objects)?;
        let (methods, rest) = section(rest, header.methods)?;
        let (cells, rest) = section(rest, header.cells)?;
        let (subjects, rest) = section(rest, header.subjects)?;
        let (references, rest) = section(rest, header.references)?;
        if rest.len() != header.text_bytes as usize {
            return Err(FormatError::Length);
        }
        let text = core::str::from_utf8(rest).map_err(|_| FormatError::Text)?;
        let policy = Self { fields, conditions, rules, objects, methods, cells, subjects, references, text };
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), FormatError> {
        let small = |count: usize| count < NONE as usize;
        if ![self.subjects.len(), self.objects.len(), self.methods.len(), self.rules.len()].into_iter().all(small)
            || self.subjects.len() * self.methods.len() != self.cells.len()
        {
            return Err(FormatError::Count);
        }
        let texts = self.fields.iter().map(|row| row.name).chain(self.rules.iter().map(|row| row.file));
        let texts = texts.chain(self.objects.iter().map(|row| row.name)).chain(self.methods.iter().map(|row| row.name));
        let mut texts = texts.chain(self.subjects.iter().copied());
        if !texts.all(|text| slice(self.text, text).is_some()) {
            return Err(FormatError::Text);
        }
        let within = |first: u32, count: u32, length: usize| u64::from(first) + u64::from(count) <= length as u64;
        let rules =
            self.rules.iter().all(|row| within(row.first_condition, row.condition_count.into(), self.conditions.len()));
        let objects =
            self.objects.iter().all(|row| within(row.first_method, row.method_count.into(), self.methods.len()));
        let fields = |row: &Method| {
            within(row.first_field, u32::from(row.arguments) + u32::from(row.replies), self.fields.len())
        };
        let methods = self.methods.iter().all(fields);
        let cells =
            self.cells.iter().all(|row| within(row.first_reference, row.reference_count, self.references.len()));
        let references = self.references.iter().all(|&rule| (rule as usize) < self.rules.len());
        let arguments = self.methods.iter().all(|row| row.arguments.max(row.replies) as usize <= MAX_ARGS);
        let conditions = self.conditions.iter().all(|row| (row.argument as usize) < MAX_ARGS);
        if rules && objects && methods && cells && references && arguments && conditions && self.denials_come_first() {
            Ok(())
        } else {
            Err(FormatError::Reference)
        }
    }

    /// The monitor takes the first rule that matches: a denying one must stand before every allowing one of its cell.
    fn denials_come_first(&self) -> bool {
        let denies = |&rule: &u32| self.rules.get(rule as usize).is_some_and(|rule| rule.deny != 0);
        self.cells.iter().all(|cell| {
            let first = cell.first_reference as usize;
            let of_cell = self.references.get(first..first + cell.reference_count as usize).unwrap_or(&[]);
            of_cell.iter().map(denies).is_sorted_by(|before, after| before >= after)
        })
    }

    /// How many subjects there are.
    #[must_use]
    #[inline(always)]
    pub const fn subject_count(&self) -> usize {
        self.subjects.len()
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

    /// The numbers of the rules of a subject for a method (by its place among all methods); denying ones first.
    #[must_use]
    #[inline(always)]
    pub fn references(&self, subject: u16, method_place: usize) -> &'a [u32] {
        if method_place >= self.methods.len() {
            return &[];
        }
        let Some(cell) = self.cells.get(usize::from(subject) * self.methods.len() + method_place) else { return &[] };
        let first = cell.first_reference as usize;
        self.references.get(first..first + cell.reference_count as usize).unwrap_or(&[])
    }

    /// A rule, by a number of [`Policy::references`].
    #[must_use]
    #[inline(always)]
    pub fn rule(&self, reference: u32) -> Option<&'a Rule> {
        self.rules.get(reference as usize)
    }

    /// Whether a rule lets a subject call any method of an object, under whatever condition.
    #[must_use]
    pub fn is_callable(&self, subject: u16, object: &Object) -> bool {
        (0..object.method_count).filter_map(|method| self.method(object, method)).any(|(place, _)| {
            let mut rules = self.references(subject, place).iter().filter_map(|&rule| self.rule(rule));
            rules.any(|rule| rule.deny == 0)
        })
    }

    /// Where the rule that users know by `source` was written: file and line.
    #[must_use]
    pub fn rule_place(&self, source: u16) -> Option<(&'a str, u32)> {
        let rule = self.rules.iter().find(|rule| rule.source == u32::from(source))?;
        Some((self.text(rule.file), rule.line))
    }

    /// A rule's tests.
    #[must_use]
    #[inline(always)]
    pub fn conditions(&self, rule: &Rule) -> &'a [Condition] {
        let first = rule.first_condition as usize;
        self.conditions.get(first..first + usize::from(rule.condition_count)).unwrap_or(&[])
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
