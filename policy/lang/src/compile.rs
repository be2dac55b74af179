//! A checked policy to the flat table that the monitor evaluates.

use std::collections::BTreeMap;

use bulkhead_model::build::{Tables, word};
use bulkhead_model::code::{EFFECTS, WRITES};
use bulkhead_model::{self as model, NONE, kind};

use crate::code;
use crate::cost;
use crate::diagnostic::{Diagnostic, Sources, Span};
use crate::groups::never_both;
use crate::index;
use crate::normal::{self, ROWS};
use crate::policy::{Body, Expression, Field, Policy, Presence, Rule, State, StateKind};
use crate::tree::{Decision, Event};

/// A row of the table with what it was made from.
struct Written<'p> {
    rule: &'p Rule,
    source: usize,
    body: &'p Body,
    tests: normal::Row,
    fields: &'p [Field],
    /// The row's place.
    row: u32,
    /// How many instructions.
    steps: usize,
}

/// Writes the table; findings say which rules can never decide anything, and which of them quarrel.
pub(crate) fn compile(
    policy: &Policy,
    sources: &Sources,
    granted: &[(Span, String)],
    findings: &mut Vec<Diagnostic>,
) -> (Vec<u8>, Vec<cost::Decision>) {
    let mut tables = Tables::default();
    tables.machine = policy.arch.map_or(model::machine::ANY, crate::Arch::number);
    tables.zone = policy.zone.unwrap_or(0);
    tables.revision = policy.revision;
    let first_of_object = objects(policy, &mut tables);
    states(policy, &mut tables);
    let mut all: Vec<Written<'_>> = Vec::new();
    for (source, rule) in policy.rules.iter().enumerate() {
        let before = all.len();
        let (file, line, ..) = sources.place(rule.span);
        let file = tables.add_file(file);
        let label = label(&mut tables, rule);
        tables.sources.push(model::Source { place: file << 24 | line & 0xff_ffff, label });
        for body in &rule.bodies {
            if let Err((message, help)) = rows(policy, &mut tables, (source, rule, body), &mut all) {
                findings.push(Diagnostic::error(rule.span, message, help));
            }
        }
        if all.len() == before && !rule.bodies.is_empty() {
            findings.push(Diagnostic::warning(
                rule.span,
                "this rule never matches",
                "check its condition, or remove it",
            ));
        }
    }
    // Behind the rules, so that those keep their numbers.
    for (span, told) in granted {
        let (file, line, ..) = sources.place(*span);
        let place = tables.add_file(file) << 24 | line & 0xff_ffff;
        let because = tables.add_text(told);
        tables.labels.push(model::Label { because, ..model::Label::default() });
        tables.sources.push(model::Source { place, label: number(tables.labels.len()) });
        tables.grants += 1;
    }
    if tables.methods.len() >= usize::from(NONE) || policy.states.len() >= usize::from(NONE) {
        let span = policy.rules.last().map(|rule| rule.span).unwrap_or_default();
        let help = "a table holds 65,534 of each";
        findings.push(Diagnostic::error(span, "the policy has too many methods or state objects", help));
        return (Vec::new(), Vec::new());
    }
    let costs = cells(&mut tables, &all, &first_of_object, findings, policy);
    cost::refuse(policy, &costs, findings);
    (tables.to_bytes(), costs)
}

/// Subjects, objects, methods and fields; returns the place of each object's first method.
fn objects(policy: &Policy, tables: &mut Tables) -> Vec<usize> {
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
            let fields = method.arguments.iter().chain(&method.replies).chain(&method.errors);
            fields.for_each(|field| add_field(tables, field));
            let name = tables.add_text(&method.name);
            let count = |fields: &[Field]| u8::try_from(fields.len()).unwrap_or(u8::MAX);
            let (arguments, replies) = (count(&method.arguments), count(&method.replies));
            let mut words = method.arguments.iter().chain(&method.replies);
            let guards = if words.any(|field| field.presence != Presence::Always) { model::Method::GUARDS } else { 0 };
            let flags = if method.is_question { guards | model::Method::QUESTION } else { guards };
            let errors = count(&method.errors);
            tables.methods.push(model::Method { name, first_field, arguments, replies, flags, errors });
        }
        let (method_count, server) = (small(object.methods.len()), object.server.unwrap_or(NONE));
        tables.objects.push(model::Object { name, first_method, method_count, server });
    }
    first_of_object
}

fn states(policy: &Policy, tables: &mut Tables) {
    for state in &policy.states {
        let mut row = model::State {
            key_count: [1, 1],
            name: tables.add_text(&state.name),
            base: tables.state_words,
            stride: state.words(),
            keys: number(state.keys.len()),
            ..model::State::default()
        };
        for ((key, low), count) in state.keys.iter().zip(&mut row.key_low).zip(&mut row.key_count) {
            *low = signed(key.values.0);
            *count = u32::try_from(key.values.1 - key.values.0 + 1).unwrap_or(u32::MAX);
        }
        let (kind, low, high, start) = particulars(state, tables);
        (row.kind, row.low, row.high, row.start) = (kind, low, high, start);
        tables.state_words += u32::try_from(state.instances()).unwrap_or(0) * state.words();
        tables.states.push(row);
    }
}

fn particulars(state: &State, tables: &mut Tables) -> (u32, i64, i64, i64) {
    let long = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    match &state.kind {
        StateKind::Counter { range, start } => (kind::COUNTER, signed(range.0), signed(range.1), signed(*start)),
        StateKind::Timer => (kind::TIMER, 0, 0, 0),
        StateKind::Rate { many, period, burst: 0 } => (kind::RATE, long(*many), long(*period), 0),
        // Of a bucket: the time that one place takes to be free again.
        StateKind::Rate { many, period, burst } => {
            (kind::RATE, long(*many), long(period.div_ceil(*many)), long(*burst))
        }
        StateKind::Set(most) => (kind::SET, i64::from(*most), 0, 0),
        StateKind::Map(most) => (kind::MAP, i64::from(*most), 0, 0),
        StateKind::Flow { states, .. } => {
            let first = tables.flow_states.len();
            for state in states {
                let (lasts, then) = state.lasts.unwrap_or((0, 0));
                let successors = state.successors.iter().fold(0, |bits, next| bits | 1_u32 << (next & 31));
                let name = tables.add_text(&state.name);
                tables.flow_states.push(model::FlowState { lasts, successors, then: then.into(), name });
            }
            (kind::FLOW, long(first as u64), long(states.len() as u64), 0)
        }
    }
}

fn label(tables: &mut Tables, rule: &Rule) -> u32 {
    if rule.name.is_none() && rule.because.is_none() {
        return 0;
    }
    let name = tables.add_text(rule.name.as_deref().unwrap_or_default());
    let because = tables.add_text(rule.because.as_ref().map_or("", |reason| &reason.told));
    let to_caller = rule.because.as_ref().is_some_and(|reason| reason.to_caller).into();
    tables.labels.push(model::Label { name, because, to_caller });
    number(tables.labels.len())
}

/// The rows of one rule for one method: what stands first in its condition and tests single arguments becomes tests, the
/// rest instructions. Nothing is moved before something that may fail.
fn rows<'p>(
    policy: &'p Policy,
    tables: &mut Tables,
    (source, rule, body): (usize, &'p Rule, &'p Body),
    all: &mut Vec<Written<'p>>,
) -> Result<(), (String, &'static str)> {
    let fields = policy.fields(body.object, body.method, rule.event);
    let mut parts = Vec::new();
    if let Some(condition) = &body.condition {
        conjuncts(condition, &mut parts);
    }
    let mut simple = parts.iter().take_while(|part| normal::is_simple(part)).count();
    let mut rows = normal::rows(parts.get(..simple).unwrap_or(&[]), fields);
    // What would take too many rows is instructions.
    while rows.is_err() && simple > 0 {
        simple -= 1;
        rows = normal::rows(parts.get(..simple).unwrap_or(&[]), fields);
    }
    let rows =
        rows.map_err(|_| (format!("this condition needs more than {ROWS} rows"), "split it into several rules"))?;
    let rest = parts.get(simple..).unwrap_or(&[]);
    let program = code::program(body, rest, fields, tables);
    let program =
        program.map_err(|_| ("this rule is too long for the monitor".to_string(), "split it into several rules"))?;
    let (code, steps) = match program {
        None => (model::Row::PLAIN, 0),
        Some(_) if rows.is_empty() => (model::Row::PLAIN, 0),
        Some((program, steps)) => {
            let at = number(tables.code.len());
            tables.code.extend(&program);
            (at, steps)
        }
    };
    let recording = body.recording.as_ref();
    let left_out = u16::from(recording.map_or(0, |recording| recording.left_out));
    let flags = [
        (rule.decision == Decision::Deny, model::Row::DENY),
        (recording.is_some(), model::Row::AUDIT),
        (body.changes() > 0, model::Row::EFFECTS),
    ];
    let flags =
        flags.iter().filter(|(is_set, _)| *is_set).fold(left_out << model::Row::LEFT_OUT, |all, (_, flag)| all | flag);
    for tests in rows {
        let ranges: Vec<(u16, i128, i128)> = tests.iter().map(|&(at, (low, high))| (small(at), low, high)).collect();
        let row = tables.add_row(model::Row { source: number(source), code, test_count: 0, flags }, &ranges);
        all.push(Written { rule, source, body, tests, fields, row, steps });
    }
    Ok(())
}

/// The parts of a conjunction, in order.
pub(crate) fn conjuncts<'e>(expression: &'e Expression, parts: &mut Vec<&'e Expression>) {
    match expression {
        Expression::And(left, right) => {
            conjuncts(left, parts);
            conjuncts(right, parts);
        }
        other => parts.push(other),
    }
}

/// The cells, with an index where there are many rows.
fn cells(
    tables: &mut Tables,
    all: &[Written<'_>],
    first_of_object: &[usize],
    findings: &mut Vec<Diagnostic>,
    policy: &Policy,
) -> Vec<cost::Decision> {
    let (subjects, methods) = (tables.subjects.len(), tables.methods.len());
    tables.phases = if all.iter().any(|written| written.rule.event != Event::Request) { 3 } else { 1 };
    let mut of_cell: BTreeMap<usize, Vec<&Written<'_>>> = BTreeMap::new();
    for written in all {
        let first = first_of_object.get(usize::from(written.body.object)).copied().unwrap_or(0);
        let place = first + usize::from(written.body.method);
        for &subject in &written.rule.subjects {
            let phase = written.rule.event as usize;
            of_cell.entry((phase * subjects + usize::from(subject)) * methods + place).or_default().push(written);
        }
    }
    let mut costs = Vec::new();
    let nothing = model::Cell { index: model::Cell::PLAIN, ..model::Cell::default() };
    tables.cells = vec![nothing; subjects * methods * tables.phases as usize];
    for (at, mut rows) in of_cell {
        // Refusing rows first, then those that are recorded; then in the order of the text.
        rows.sort_by_key(|written| {
            (written.rule.decision != Decision::Deny, written.body.recording.is_none(), written.row)
        });
        rows.dedup_by_key(|written| written.row);
        quarrels(policy, &rows, findings);
        gathered(&rows, findings);
        let first_reference = number(tables.references.len());
        tables.references.extend(rows.iter().map(|written| written.row));
        let has_code = rows.iter().any(|written| written.steps > 0).into();
        let tested: Vec<(u32, &normal::Row)> = rows.iter().map(|written| (written.row, &written.tests)).collect();
        let fields = rows.first().map_or(&[][..], |written| written.fields);
        let (index, most) = index::build(tables, &tested, fields);
        if let Some(cell) = tables.cells.get_mut(at) {
            *cell = model::Cell { first_reference, reference_count: number(rows.len()), index, has_code };
        }
        if let Some(Written { rule, body, .. }) = rows.first() {
            let cost = cost::Cost::of(rows.iter().map(|written| (written.tests.len(), written.steps)), most);
            let (event, subject) = (rule.event, small(at / methods % subjects));
            costs.push(cost::Decision { event, subject, object: body.object, method: body.method, cost });
        }
    }
    costs
}

/// Two rules that may both decide a call and both change state: which of them should?
fn quarrels(policy: &Policy, rows: &[&Written<'_>], findings: &mut Vec<Diagnostic>) {
    let changing: Vec<&&Written<'_>> = rows.iter().filter(|written| written.body.remembers()).collect();
    for (at, one) in changing.iter().enumerate() {
        for other in changing.iter().skip(at + 1) {
            let is_same = one.source == other.source || one.rule.decision != other.rule.decision;
            let changes = |written: &Written<'_>| {
                written.body.effects.iter().map(crate::policy::Effect::state).collect::<Vec<_>>()
            };
            let is_allow = one.rule.decision == Decision::Allow;
            let meets = is_allow || changes(one).iter().any(|state| changes(other).contains(state));
            if is_same || !meets || exclude(one.body, other.body) {
                continue;
            }
            let Some(call) = normal::meeting(&one.tests, &other.tests) else { continue };
            let values = one.fields.iter().enumerate().map(|(at, field)| {
                let value =
                    call.iter().find(|(argument, _)| *argument == at).map_or(field.range.0, |(_, value)| *value);
                format!("{}: {}", field.name, field.kind.show(value))
            });
            let object = policy.objects.get(usize::from(one.body.object));
            let method = object.and_then(|object| object.methods.get(usize::from(one.body.method)));
            let name = object
                .zip(method)
                .map(|(object, method)| format!("{}.{}", object.name, method.name))
                .unwrap_or_default();
            let message = format!(
                "this rule and another both match {name}({}), and both change what is remembered",
                values.collect::<Vec<_>>().join(", ")
            );
            findings.push(Diagnostic::error(
                other.rule.span,
                message,
                "add `except` to one of them, or make them one rule",
            ));
            return;
        }
    }
}

/// Refuses rules that one call may match together and that change more than the monitor gathers: all that deny, observe or only
/// count what they record, and one that allows and remembers.
fn gathered(rows: &[&Written<'_>], findings: &mut Vec<Diagnostic>) {
    let mut bodies: Vec<&Written<'_>> = rows.iter().copied().filter(|written| written.body.changes() > 0).collect();
    bodies.dedup_by_key(|written| std::ptr::from_ref(written.body));
    let (allowing, others): (Vec<_>, Vec<_>) =
        bodies.into_iter().partition(|written| written.rule.decision == Decision::Allow && written.body.remembers());
    let together: usize = others.iter().map(|written| written.body.changes()).sum();
    let most = allowing.iter().max_by_key(|written| written.body.changes());
    let total = together + most.map_or(0, |written| written.body.changes());
    let count = others.len() + usize::from(most.is_some());
    if (total > WRITES || count > EFFECTS)
        && let Some(last) = most.or(others.last())
    {
        let message = format!("with this rule one call may make {total} changes by {count} rules");
        let help = format!("at most {WRITES} changes by {EFFECTS} rules are gathered: remember less at once");
        findings.push(Diagnostic::error(last.rule.span, message, help));
    }
}

/// Whether two rules' conditions never hold together.
fn exclude(one: &Body, other: &Body) -> bool {
    one.condition.as_ref().zip(other.condition.as_ref()).is_some_and(|(one, other)| never_both(one, other))
}

fn add_field(tables: &mut Tables, field: &Field) {
    let name = tables.add_text(&field.name);
    let (min, max) = (word(field.range.0), word(field.range.1));
    let (signed, secret) = (field.is_signed().into(), field.is_secret.into());
    let place = |at: usize| u8::try_from(at).unwrap_or(u8::MAX);
    let (presence, guard, above) = match field.presence {
        Presence::Always => (model::Field::ALWAYS, 0, 0),
        Presence::Above(guard, above) => (model::Field::ABOVE, place(guard), above),
        Presence::Bytes(guard, first) => (model::Field::BYTES, place(guard), first),
    };
    let (reserved, label) = (0, written(tables, field));
    tables.fields.push(model::Field { min, max, name, signed, secret, presence, guard, above, reserved, label });
}

/// How people write a field's values, for the programs that read and print messages: a label for each way, once.
fn written(tables: &mut Tables, field: &Field) -> u16 {
    let Some((form, words)) = field.form() else { return 0 };
    let label = model::Label { name: tables.add_text(form), because: tables.add_text(&words), to_caller: 0 };
    let at = tables.labels.iter().position(|known| *known == label).unwrap_or_else(|| {
        tables.labels.push(label);
        tables.labels.len() - 1
    });
    // Beyond so many ways, values are plain numbers: what decides does not look at them.
    u16::try_from(at + 1).unwrap_or(0)
}

fn signed(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Tables hold less than 2^32 rows of each kind: they would not fit in memory.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Counts that the checker bounds.
fn small(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
