//! What is recorded: profiles as written to what each rule says of its messages. A profile thins out what rules allow or deny;
//! what no rule decides is always recorded, and a secret never.

use crate::check::Checker;
use crate::diagnostic::{Diagnostic, Span};
use crate::expressions::Scope;
use crate::policy::{Expression, Field, Place, Recording, State, StateKind};
use crate::tree::{self, Decision, Item, Name, Operator};

/// The most messages of which one is recorded.
const SAMPLE: i128 = 1_000_000;

/// A profile whose names are found.
pub(crate) struct Profile {
    name: Name,
    /// The methods whose rules follow it without naming it.
    methods: Vec<(u16, u16)>,
    allowed: Line,
    denied: Line,
    /// The arguments that are recorded, and whether a method has them.
    only: Option<Vec<(Name, bool)>>,
    is_used: bool,
}

#[derive(Clone)]
struct Line {
    condition: Option<Expression>,
    sample: u32,
}

/// The counters of a rule's samples, by profile.
pub(crate) type Samples = Vec<(usize, Place)>;

impl Checker<'_> {
    /// All profiles of the files.
    pub(crate) fn profiles(&mut self, items: &[Item]) {
        for item in items {
            let Item::Profile(profile) = item else { continue };
            if self.profiles.iter().any(|known| known.name.text == profile.name.text) {
                self.twice(&profile.name);
            }
            let mut methods = Vec::new();
            for (object, method) in &profile.targets {
                for object in self.members(object) {
                    self.targets(&object, method.as_ref(), &mut methods);
                }
            }
            if let Some(known) =
                self.profiles.iter().find(|known| methods.iter().any(|one| known.methods.contains(one)))
            {
                let message = format!("`{}` is for the same method already", known.name.text);
                self.error(profile.name.span, message, "a method follows one profile; a rule may name another");
            }
            let lines = [&profile.allowed, &profile.denied].map(|record| self.line(record.as_ref()));
            let [Some(allowed), Some(denied)] = lines else { continue };
            let name = profile.name.clone();
            let only = profile.only.as_ref().map(|names| names.iter().map(|name| (name.clone(), false)).collect());
            self.profiles.push(Profile { name, methods, allowed, denied, only, is_used: false });
        }
    }

    fn line(&mut self, record: Option<&tree::Record>) -> Option<Line> {
        let Some(record) = record else { return Some(Line { condition: None, sample: 1 }) };
        let sample = u32::try_from(record.sample).ok().filter(|_| (1..=SAMPLE).contains(&record.sample));
        if sample.is_none() {
            self.error(record.span, "this sample cannot be had", format!("write 1 in 2 to 1 in {SAMPLE}"));
        }
        let condition = match &record.condition {
            None => None,
            Some(condition) => {
                let checked = self.condition(Scope { fields: &[], element: None }, condition)?;
                if !self.has_value(&checked) {
                    let help = "ask counters without keys and flows whose states do not last: `when verbosity >= 2`";
                    let message = "this may have no value, and what is recorded must not refuse a call";
                    self.error(condition.span(), message, help);
                    return None;
                }
                Some(checked)
            }
        };
        Some(Line { condition, sample: sample? })
    }

    /// Whether an expression has a value at any time.
    fn has_value(&self, expression: &Expression) -> bool {
        let is_there = |place: &Place| place.keys.iter().all(|key| *key == Expression::Caller);
        match expression {
            Expression::Number(_) | Expression::Caller => true,
            Expression::Count(place) => is_there(place),
            Expression::IsIn(place, _) => {
                let kind = self.policy.states.get(usize::from(place.state)).map(|state| &state.kind);
                let never_ends = matches!(kind, Some(StateKind::Flow { states, .. }) if states.iter().all(|state| state.lasts.is_none()));
                is_there(place) && never_ends
            }
            Expression::Not(inner) | Expression::Within(inner, _) => self.has_value(inner),
            Expression::And(left, right) | Expression::Or(left, right) => self.has_value(left) && self.has_value(right),
            Expression::Binary(operator, left, right) => {
                let compares = matches!(
                    operator,
                    Operator::Equal
                        | Operator::Unequal
                        | Operator::Less
                        | Operator::LessOrEqual
                        | Operator::Greater
                        | Operator::GreaterOrEqual
                );
                compares && self.has_value(left) && self.has_value(right)
            }
            _ => false,
        }
    }

    /// What is recorded of a method's messages that a rule decides: as the profile says that the rule names, or else the one that is
    /// for the method; without one, what the rule says itself.
    pub(crate) fn recording(
        &mut self,
        rule: &tree::Rule,
        method: (u16, u16),
        fields: &[Field],
        samples: &mut Samples,
    ) -> Option<Recording> {
        let found = match &rule.audit {
            Some(None) => return Some(Recording::default()),
            Some(Some(name)) => {
                let found = self.profiles.iter().position(|known| known.name.text == name.text);
                if found.is_none() {
                    let known: Vec<String> = self.profiles.iter().map(|known| known.name.text.clone()).collect();
                    self.unknown(name, "profile", known.iter().map(String::as_str));
                }
                found
            }
            None => self.profiles.iter().position(|known| known.methods.contains(&method)),
        };
        let Some(at) = found else {
            return (rule.decision == Decision::Deny).then(Recording::default);
        };
        let profile = self.profiles.get_mut(at)?;
        profile.is_used = true;
        let mut left_out = 0;
        if let Some(only) = &mut profile.only {
            for (field, bit) in fields.iter().zip(0..) {
                let name = field.name.split(['.', '[', '\'', ' ']).next().unwrap_or_default();
                match only.iter_mut().find(|(known, _)| known.text == name) {
                    Some((_, is_met)) => *is_met = true,
                    None => left_out |= 1 << bit,
                }
            }
        }
        let line = if rule.decision == Decision::Deny { &profile.denied } else { &profile.allowed };
        let Line { condition, sample } = line.clone();
        let sample = (sample > 1).then(|| (self.sample(at, sample, rule.span, samples), sample));
        Some(Recording { condition, sample, left_out })
    }

    /// The counter of a rule's samples by a profile.
    fn sample(&mut self, profile: usize, sample: u32, span: Span, samples: &mut Samples) -> Place {
        if let Some((_, place)) = samples.iter().find(|(known, _)| *known == profile) {
            return place.clone();
        }
        let number = self.policy.states.len();
        let kind = StateKind::Counter { range: (0, i128::from(sample) - 1), start: 0 };
        self.policy.states.push(State { name: format!("sample#{number}"), keys: Vec::new(), kind, span });
        let place = Place { state: u16::try_from(number).unwrap_or(bulkhead_model::NONE), keys: Vec::new() };
        samples.push((profile, place.clone()));
        place
    }

    /// Profiles that no rule follows, and arguments that no method has.
    pub(crate) fn idle_profiles(&mut self) {
        for profile in std::mem::take(&mut self.profiles) {
            if !profile.is_used {
                let help = "write `audit by NAME` in a rule, or `profile NAME for SERVICE.METHOD`";
                let finding = Diagnostic::warning(profile.name.span, "no rule follows this profile", help);
                self.finding(finding);
            }
            for (name, _) in profile.only.iter().flatten().filter(|(_, is_met)| profile.is_used && !is_met) {
                let help = "name arguments of the methods whose rules follow the profile";
                self.error(name.span, format!("none of them has an argument `{}`", name.text), help);
            }
        }
    }
}
