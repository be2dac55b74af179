//! A checked policy to the flat table that the monitor evaluates.

use bulkhead_model::build::Tables;
use bulkhead_model::{self as model, NONE};

use crate::diagnostic::{Diagnostic, Sources};
use crate::normal::{self, ROWS};
use crate::policy::{Field, Policy};

/// What the compiler knows about the worst decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The most rules that one decision may look at.
    pub rules: usize,
    /// The most range tests that it may make.
    pub tests: usize,
}

/// For whom a row of the table is: subject, and method among all methods.
type Place = (u16, usize);

/// Writes the table; findings say which rules can never decide anything.
pub(crate) fn compile(policy: &Policy, sources: &Sources, findings: &mut Vec<Diagnostic>) -> (Vec<u8>, Cost) {
    let mut tables = Tables::default();
    let mut first_of_object = Vec::new();
    for name in &policy.subjects {
        let name = tables.add_text(name);
        tables.subjects.push(name);
    }
    for object in &policy.objects {
        first_of_object.push(tables.methods.len());
        let name = tables.add_text(&object.name);
        let first_method = number(tables.methods.len());
        for method in &object.methods {
            let first_field = number(tables.fields.len());
            method.arguments.iter().chain(&method.replies).for_each(|field| add_field(&mut tables, field));
            let name = tables.add_text(&method.name);
            let (arguments, replies) = (small(method.arguments.len()), small(method.replies.len()));
            tables.methods.push(model::Method { name, first_field, arguments, replies });
        }
        let (method_count, server) = (small(object.methods.len()), object.server.unwrap_or(NONE));
        tables.objects.push(model::Object { name, first_method, method_count, server });
    }
    let mut places: Vec<Place> = Vec::new();
    for (source, rule) in policy.rules.iter().enumerate() {
        let (file, line, ..) = sources.place(rule.span);
        let file = tables.add_text(file);
        let mut rows = 0;
        for &(object, method) in &rule.targets {
            let Some(fields) = policy.method(object, method).map(|method| &method.arguments) else { continue };
            let conjunctions = match &rule.condition {
                None => Ok(vec![Vec::new()]),
                Some(condition) => normal::rows(policy, condition, fields),
            };
            let Ok(conjunctions) = conjunctions else {
                let message = format!("this condition needs more than {ROWS} rows of the table");
                findings.push(Diagnostic::error(
                    rule.span,
                    message,
                    "split it into several rules, or name fewer ranges",
                ));
                continue;
            };
            let place = first_of_object.get(usize::from(object)).copied().unwrap_or(0) + usize::from(method);
            for row in &conjunctions {
                let first_condition = number(tables.conditions.len());
                for (argument, range) in row {
                    let signed = fields.get(*argument).is_some_and(Field::is_signed);
                    let (min, max) = (word(range.0), word(range.1));
                    let argument = small(*argument);
                    tables.conditions.push(model::Condition { min, max, argument, signed: signed.into(), outside: 0 });
                }
                tables.rules.push(model::Rule {
                    first_condition,
                    condition_count: small(row.len()),
                    deny: (!rule.is_allow).into(),
                    audit: rule.audit.into(),
                    file,
                    line,
                    source: number(source),
                });
                places.push((rule.subject, place));
            }
            rows += conjunctions.len();
        }
        if rows == 0 {
            findings.push(Diagnostic::warning(
                rule.span,
                "this rule never matches",
                "check its condition, or remove it",
            ));
        }
    }
    if tables.rules.len() >= usize::from(NONE) || tables.methods.len() >= usize::from(NONE) {
        let span = policy.rules.last().map(|rule| rule.span).unwrap_or_default();
        findings.push(Diagnostic::error(
            span,
            "the policy has too many rules or methods",
            "a table holds 65,534 of each",
        ));
        return (Vec::new(), Cost::default());
    }
    fill_cells(&mut tables, &places);
    let cost = worst(&tables);
    (tables.to_bytes(), cost)
}

/// As `Tables::fill_cells`, in one pass over the rules: a policy of ten thousand of them compiles at once.
fn fill_cells(tables: &mut Tables, places: &[Place]) {
    let width = tables.methods.len();
    let mut of_cell: Vec<[Vec<u32>; 2]> = vec![Default::default(); tables.subjects.len() * width];
    for (rule, &(subject, method)) in places.iter().enumerate() {
        let is_allow = tables.rules.get(rule).is_some_and(|rule| rule.deny == 0);
        if let Some(cell) = of_cell.get_mut(usize::from(subject) * width + method) {
            cell[usize::from(is_allow)].push(number(rule));
        }
    }
    for [denying, allowing] in of_cell {
        let first_reference = number(tables.references.len());
        let reference_count = number(denying.len() + allowing.len());
        tables.references.extend(denying);
        tables.references.extend(allowing);
        tables.cells.push(model::Cell { first_reference, reference_count });
    }
}

fn add_field(tables: &mut Tables, field: &Field) {
    let name = tables.add_text(&field.name);
    let (min, max) = (word(field.range.0), word(field.range.1));
    let (signed, secret) = (field.is_signed().into(), field.is_secret.into());
    tables.fields.push(model::Field { min, max, name, signed, secret });
}

fn worst(tables: &Tables) -> Cost {
    let cost = |cell: &model::Cell| {
        let first = cell.first_reference as usize;
        let references = tables.references.get(first..first + cell.reference_count as usize).unwrap_or_default();
        let tests = references.iter().filter_map(|&rule| tables.rules.get(rule as usize));
        (references.len(), tests.map(|rule| usize::from(rule.condition_count)).sum::<usize>())
    };
    let costs = tables.cells.iter().map(cost);
    costs.fold(Cost::default(), |worst, (rules, tests)| Cost {
        rules: worst.rules.max(rules),
        tests: worst.tests.max(tests),
    })
}

/// The 64 bits of a value that was checked to have no more.
fn word(value: i128) -> u64 {
    u64::try_from(value).unwrap_or_else(|_| i64::try_from(value).unwrap_or(0).cast_unsigned())
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn small(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
