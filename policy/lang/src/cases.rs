//! Tests as written to tests as meant, and calls that people write.

use bulkhead_model::build::word;

use crate::check::Checker;
use crate::diagnostic::Diagnostic;
use crate::expressions::Scope;
use crate::policy::{Call, Step, Table, Test};
use crate::tree::{self, Constant, Item, Literal, Name};

const NOTHING: Scope<'static> = Scope { fields: &[], element: None };

impl Checker<'_> {
    /// All tests of the files.
    pub(crate) fn tests(&mut self, items: &[Item]) {
        for item in items {
            let Item::Test(test) = item else { continue };
            if self.policy.tests.iter().any(|known| known.name == test.name) {
                self.error(
                    test.span,
                    format!("two tests are called \"{}\"", test.name),
                    "name what each of them shows",
                );
            }
            let steps = test.steps.iter().map(|(step, span)| Some((self.test_step(step)?, *span))).collect::<Vec<_>>();
            let steps = steps.into_iter().flatten().collect();
            self.policy.tests.push(Test { name: test.name.clone(), steps, span: test.span });
        }
    }

    fn test_step(&mut self, step: &tree::Step) -> Option<Step> {
        Some(match step {
            tree::Step::Wait(time) => Step::Wait(self.time(time)?),
            tree::Step::TimeOfDay(time) => Step::TimeOfDay(self.time(time)? / 1_000_000 % 86_400),
            tree::Step::DayOfWeek(day) => Step::DayOfWeek(u64::try_from(*day - 1).ok().filter(|day| *day < 7)?),
            tree::Step::Given(effect, whom) => Step::Given(self.effect(NOTHING, effect)?, self.whom(whom.as_ref())?),
            tree::Step::Expect(condition, whom) => {
                Step::Expect(self.condition(NOTHING, condition)?, self.whom(whom.as_ref())?)
            }
            tree::Step::Call(call) => Step::Call(self.call(call)?),
        })
    }

    fn whom(&mut self, name: Option<&Name>) -> Option<u16> {
        let Some(name) = name else { return Some(bulkhead_model::subject::GUEST) };
        let found = self.policy.subjects.iter().position(|known| *known == name.text);
        if found.is_none() {
            let known = self.policy.subjects.clone();
            self.unknown(name, "subject", known.iter().map(String::as_str));
        }
        found.and_then(|at| u16::try_from(at).ok())
    }

    /// A call that a person wrote. Values that no field could hold stay as they are: they are refused when it is judged.
    pub(crate) fn call(&mut self, call: &tree::Call) -> Option<Call> {
        let subject = self.whom(Some(&call.subject))?;
        let table = self.policy.tables.iter().find(|table| table.name == call.object.text).cloned();
        let (object, method, words) = match table {
            Some(table) => self.register_message(&table, call)?,
            None => self.method_message(call)?,
        };
        let by = call.by.as_ref().map(|name| name.text.clone());
        if let Some(name) = &call.by {
            let known: Vec<String> = self.policy.rules.iter().filter_map(|rule| rule.name.clone()).collect();
            if !known.contains(&name.text) {
                self.unknown(name, "rule called", known.iter().map(String::as_str));
            }
        }
        let (event, expected, recorded, because) = (call.event, call.expected, call.recorded, call.because.clone());
        Some(Call { subject, object, method, event, words, expected, by, recorded, because })
    }

    /// `OBJECT.METHOD(VALUES)`: object, method and the values as they travel.
    fn method_message(&mut self, call: &tree::Call) -> Option<(u16, u16, Vec<u64>)> {
        let Some(object) = self.policy.objects.iter().position(|known| known.name == call.object.text) else {
            let known: Vec<String> = self.policy.objects.iter().map(|known| known.name.clone()).collect();
            self.unknown(&call.object, "service, device or object of the wall", known.iter().map(String::as_str));
            return None;
        };
        let methods = self.policy.objects.get(object)?.methods.clone();
        let Some(method) = methods.iter().position(|known| known.name == call.method.text) else {
            let what = format!("method of `{}` called", call.object.text);
            self.unknown(&call.method, &what, methods.iter().map(|method| method.name.as_str()));
            return None;
        };
        let (object, method) = (u16::try_from(object).ok()?, u16::try_from(method).ok()?);
        let fields = self.policy.fields(object, method, call.event).to_vec();
        let shapes = self.policy.shapes(object, method, call.event).to_vec();
        let mut words = Vec::new();
        for (at, argument) in call.arguments.iter().enumerate() {
            let shape = shapes.get(at).map_or(&crate::policy::Shape::One, |(_, shape)| shape);
            self.literal(argument, shape, &fields, &mut words)?;
        }
        if words.len() > bulkhead_model::MAX_ARGS {
            self.error(call.method.span, "a message has at most six values", "leave some away");
            return None;
        }
        Some((object, method, words))
    }

    /// `guest -> drive.speed(47.11)` for a register of a table: the method's call with the register's number.
    fn register_message(&mut self, table: &Table, call: &tree::Call) -> Option<(u16, u16, Vec<u64>)> {
        let Some(register) = table.rows.iter().find(|row| row.name == call.method.text) else {
            self.unknown(&call.method, "register called", table.rows.iter().map(|row| row.name.as_str()));
            return None;
        };
        let (object, method) = (table.object, table.method);
        let wanted = usize::from(table.value.is_some());
        if call.arguments.len() != wanted || call.event != tree::Event::Request {
            let help = if wanted == 1 { "write its value: TABLE.REGISTER(VALUE)" } else { "write TABLE.REGISTER()" };
            self.error(call.method.span, "this is not how the register is reached", help);
            return None;
        }
        let mut words = vec![0; self.policy.fields(object, method, call.event).len()];
        *words.get_mut(table.number)? = word(register.numbers.0);
        if let Some((at, argument)) = table.value.zip(call.arguments.first()) {
            let value = match argument {
                Literal::One(Constant::Number(number)) => self.number(number, &register.kind)?,
                Literal::One(constant) => self.constant(constant, &register.kind, &register.name)?,
                other => {
                    self.error(other.span(), "this value is not of the register's type", "write a number or a word");
                    return None;
                }
            };
            *words.get_mut(at)? = word(value);
        }
        Some((object, method, words))
    }
}

/// A call that a person wrote, by a checked policy.
pub(crate) fn parse(policy: &crate::Policy, text: &str) -> Result<Call, Vec<Diagnostic>> {
    let mut findings = Vec::new();
    let tokens = crate::lexer::tokens(0, text, &mut findings);
    match crate::parser::call(&tokens) {
        Ok(call) => {
            let checked = Checker::for_policy(policy.clone(), &mut findings).call(&call);
            checked.filter(|_| findings.is_empty()).ok_or(findings)
        }
        Err(error) => {
            findings.push(error);
            Err(findings)
        }
    }
}
