//! Writing a table on the host. The same rows give the same bytes.

use std::string::String;
use std::vec::Vec;

use zerocopy::IntoBytes;

use crate::table::{Cell, Condition, Field, Header, MAGIC, Method, Object, Rule, Text, VERSION};

/// The sections of a table.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Fields of all methods.
    pub fields: Vec<Field>,
    /// Tests of all rules.
    pub conditions: Vec<Condition>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Objects.
    pub objects: Vec<Object>,
    /// Methods of all objects.
    pub methods: Vec<Method>,
    /// One for each subject and method.
    pub cells: Vec<Cell>,
    /// Subjects' names.
    pub subjects: Vec<Text>,
    /// Rule numbers.
    pub references: Vec<u32>,
    /// All text.
    pub text: String,
}

impl Tables {
    /// Adds text, once for equal pieces.
    pub fn add_text(&mut self, text: &str) -> Text {
        let start = self.text.find(text).unwrap_or_else(|| {
            self.text.push_str(text);
            self.text.len() - text.len()
        });
        Text { start: number(start), bytes: number(text.len()) }
    }

    /// Fills the cells: for each subject and method the rules that `applies` names, denying ones first.
    pub fn fill_cells(&mut self, applies: impl Fn(usize, usize, usize) -> bool) {
        self.cells.clear();
        self.references.clear();
        for subject in 0..self.subjects.len() {
            for method in 0..self.methods.len() {
                let first_reference = number(self.references.len());
                for deny in [1, 0] {
                    let rules = self.rules.iter().enumerate().filter(|(_, rule)| rule.deny == deny);
                    let mine = rules.filter(|&(rule, _)| applies(subject, method, rule));
                    self.references.extend(mine.map(|(rule, _)| number(rule)));
                }
                let reference_count = number(self.references.len()) - first_reference;
                self.cells.push(Cell { first_reference, reference_count });
            }
        }
    }

    /// The table's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let sections = [
            self.fields.as_bytes(),
            self.conditions.as_bytes(),
            self.rules.as_bytes(),
            self.objects.as_bytes(),
            self.methods.as_bytes(),
            self.cells.as_bytes(),
            self.subjects.as_bytes(),
            self.references.as_bytes(),
            self.text.as_bytes(),
        ];
        let total = size_of::<Header>() + sections.iter().map(|section| section.len()).sum::<usize>();
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            total_bytes: number(total),
            fields: number(self.fields.len()),
            conditions: number(self.conditions.len()),
            rules: number(self.rules.len()),
            objects: number(self.objects.len()),
            methods: number(self.methods.len()),
            cells: number(self.cells.len()),
            subjects: number(self.subjects.len()),
            references: number(self.references.len()),
            text_bytes: number(self.text.len()),
        };
        let mut bytes = header.as_bytes().to_vec();
        sections.iter().for_each(|section| bytes.extend_from_slice(section));
        bytes
    }
}

/// Tables hold less than 4 GiB; a larger one would not verify.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
