//! Tables of registers: names for the numbers of a field device, written in the policy or taken from a file of
//! comma-separated values.

use crate::check::Checker;
use crate::diagnostic::{Diagnostic, Source, Sources};
use crate::lexer;
use crate::parser;
use crate::policy::{Expression, Field, Kind, Register, Table, Values};
use crate::tree::{self, Item, Registers};

/// The columns of a file, by the names in its first line; the last four may be missing or empty.
const COLUMNS: [&str; 6] = ["name", "number", "low", "high", "step", "unit"];
/// The most registers of a table.
const ROWS: usize = 4096;

impl Checker<'_> {
    /// All tables of the files.
    pub(crate) fn tables(&mut self, items: &[Item]) {
        for item in items {
            let Item::Registers(table) = item else { continue };
            let is_taken = self.policy.tables.iter().any(|known| known.name == table.name.text)
                || self.policy.objects.iter().any(|object| object.name == table.name.text);
            if is_taken {
                self.twice(&table.name);
            }
            if let Some(table) = self.table(table) {
                self.policy.tables.push(table);
            }
        }
    }

    fn table(&mut self, table: &Registers) -> Option<Table> {
        let mut targets = Vec::new();
        self.targets(&table.object, Some(&table.method), &mut targets);
        let &(object, method) = targets.first()?;
        let fields = self.policy.fields(object, method, tree::Event::Request).to_vec();
        let mut places = Vec::new();
        for argument in &table.arguments {
            let Some(at) = fields.iter().position(|field| field.name == argument.text) else {
                self.unknown(argument, "argument", fields.iter().map(|field| field.name.as_str()));
                return None;
            };
            places.push(at);
        }
        if places.len() > 2 || table.rows.len() > ROWS {
            let help = "name the argument that is the register's number, and the one that is the value; at most 4096 registers";
            self.error(table.name.span, "this is no table of registers", help);
            return None;
        }
        let (number, value) = (*places.first()?, places.get(1).copied());
        let number_field = fields.get(number)?.clone();
        let value_field = value.and_then(|at| fields.get(at)).cloned();
        let mut rows: Vec<Register> = Vec::new();
        for row in &table.rows {
            if rows.iter().any(|known| known.name == row.name.text) {
                self.twice(&row.name);
            }
            rows.extend(self.row(row, &number_field, value_field.as_ref()));
        }
        Some(Table { name: table.name.text.clone(), object, method, number, value, rows })
    }

    fn row(&mut self, row: &tree::Register, number: &Field, value: Option<&Field>) -> Option<Register> {
        let name = row.name.text.clone();
        let numbers = self.range(&row.numbers, &Kind { values: number.range, ..number.kind.clone() }, &number.name)?;
        let Some(value) = value else {
            if row.range.is_some() || row.step.is_some() || row.unit.is_some() {
                self.error(row.name.span, "the method takes no value", "leave range, step and unit away");
                return None;
            }
            return Some(Register { name, numbers, range: (0, 0), kind: Kind::plain((0, 0)) });
        };
        let step = row.step.as_ref().map_or(value.kind.step, |step| self.step(step, &value.kind.words));
        let unit = row.unit.as_ref().map_or_else(|| value.kind.unit.clone(), |unit| unit.text.clone());
        let kind =
            Kind { values: value.range, step, unit, words: value.kind.words.clone(), is_flags: value.kind.is_flags };
        let range = match &row.range {
            Some(range) => self.range(range, &kind, &name)?,
            None => value.range,
        };
        Some(Register { name, numbers, range, kind })
    }
}

impl Table {
    /// A method's fields as rules on a register see them.
    #[must_use]
    pub fn fields(&self, register: &Register, fields: &[Field]) -> Vec<Field> {
        let mut fields = fields.to_vec();
        if let Some(field) = self.value.and_then(|at| fields.get_mut(at)) {
            (field.range, field.kind) = (register.range, register.kind.clone());
        }
        fields
    }

    /// That a call is for a register, with one of its values.
    #[must_use]
    pub fn condition(&self, register: &Register) -> Expression {
        let within = |at: usize, range: Values| Expression::Within(Box::new(Expression::Argument(at)), vec![range]);
        let is_meant = within(self.number, register.numbers);
        match self.value {
            Some(value) => Expression::And(Box::new(is_meant), Box::new(within(value, register.range))),
            None => is_meant,
        }
    }
}

/// The registers of a file of comma-separated values. Each line is read as a line of the policy, so that the same is allowed and the
/// same is refused; a finding names the file and the line.
pub(crate) fn from_file(
    sources: &mut Sources,
    name: &str,
    text: &str,
    findings: &mut Vec<Diagnostic>,
) -> Vec<tree::Register> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let file = sources.0.len();
    sources.0.push(Source { name: name.to_string(), text: text.to_string() });
    let at_line = |line: u64| {
        let lines = usize::try_from(line).unwrap_or(1).saturating_sub(1);
        let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
        crate::Span { file, start, end: (start + 1).min(text.len()) }
    };
    let Ok(header) = reader.headers().cloned() else {
        findings.push(Diagnostic::error(
            at_line(1),
            "this is no file of comma-separated values",
            "begin it with a line of names",
        ));
        return rows;
    };
    let column = |wanted: &str| header.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    if let Some(missing) = COLUMNS.iter().take(2).find(|wanted| column(wanted).is_none()) {
        let help = format!("the first line names the columns: {}", COLUMNS.join(","));
        findings.push(Diagnostic::error(at_line(1), format!("there is no column `{missing}`"), help));
        return rows;
    }
    for record in reader.records().take(ROWS + 1) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(1, csv::Position::line);
                findings.push(Diagnostic::error(at_line(line), "this line cannot be read", error.to_string()));
                continue;
            }
        };
        let line = record.position().map_or(1, csv::Position::line);
        let cell = |wanted: &str| column(wanted).and_then(|at| record.get(at)).unwrap_or_default();
        let mut statement = format!("{} {}", cell("name"), cell("number"));
        for (lead, text) in [
            (" in ", [cell("low"), cell("high")].join("..")),
            (" step ", cell("step").to_string()),
            (" unit ", cell("unit").to_string()),
        ] {
            if !text.is_empty() && text != ".." {
                statement.push_str(lead);
                statement.push_str(&text);
            }
        }
        let mut errors = Vec::new();
        let tokens = lexer::tokens(file, &statement, &mut errors);
        match parser::register(&tokens) {
            Ok(row) if errors.is_empty() => rows.push(at(row, at_line(line))),
            Ok(_) => findings.extend(errors.into_iter().map(|error| Diagnostic { span: at_line(line), ..error })),
            Err(error) => findings.push(Diagnostic { span: at_line(line), ..error }),
        }
    }
    rows
}

/// A register with its whole line as its place.
fn at(mut row: tree::Register, span: crate::Span) -> tree::Register {
    let place = |constant: &mut tree::Constant| match constant {
        tree::Constant::Number(number) => number.span = span,
        tree::Constant::Word(name) => name.span = span,
    };
    row.name.span = span;
    place(&mut row.numbers.0);
    place(&mut row.numbers.1);
    if let Some((low, high)) = &mut row.range {
        place(low);
        place(high);
    }
    row.step.iter_mut().for_each(|step| step.span = span);
    row.unit.iter_mut().for_each(|unit| unit.span = span);
    row
}
