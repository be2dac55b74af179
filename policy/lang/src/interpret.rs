//! The plain interpreter: what the policy means, word for word, as obvious as can be. The monitor is tested against it, and it
//! tells people what the monitor has no room to tell: every rule that had a part in a refusal.

use std::collections::{BTreeMap, VecDeque};
use std::iter::repeat;

use bulkhead_model::Reason;

use crate::policy::{
    Body, Effect, Expression, Field, FlowState, Method, Place, Policy, Presence, Recording, State, StateKind,
};
use crate::tree::{Decision, Event, Operator};

/// The decision on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Allow or refuse, and why.
    pub reason: Reason,
    /// The place of the deciding rule among [`Policy::rules`]; of several, the first.
    pub rule: Option<usize>,
    /// Whether a record is made.
    pub audit: bool,
    /// Every rule that speaks against the message, with its reason.
    pub against: Vec<(Reason, usize)>,
    /// Every rule that speaks for it, or observes it.
    pub observed: Vec<usize>,
    /// Every instance that is changed, perhaps to what it was.
    pub changed: Vec<Instance>,
}

/// What happened: who says what to whom.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who.
    pub subject: u16,
    /// To what.
    pub object: u16,
    /// Which method.
    pub method: u16,
    /// Request, reply or error.
    pub event: Event,
    /// The values, as they travel.
    pub words: &'a [u64],
}

/// The clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Microseconds that never go back.
    pub microseconds: Option<u64>,
    /// Seconds since 1970 in the site's zone.
    pub local_seconds: Option<u64>,
}

/// What one instance of a state object remembers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// A counter's value.
    Counter(i128),
    /// A flow's state, when it was entered, what it holds.
    Flow(u8, Option<u64>, Vec<Option<i128>>),
    /// When it was started.
    Timer(Option<u64>),
    /// When calls were counted: of a window, the last ones.
    Window(VecDeque<u64>),
    /// When a bucket is full again.
    Bucket(u64),
    /// The values.
    Set(Vec<i128>),
    /// What counts, and what is being worked on.
    Map(BTreeMap<i128, i128>, BTreeMap<i128, i128>),
}

/// What a policy remembers: only instances that were ever changed stand here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remembered(pub BTreeMap<Instance, Memory>);

/// An expression has no value; the text says why.
type Value = Result<i128, String>;

impl Remembered {
    /// Decides on a message, and remembers what the deciding rules say.
    pub fn decide(&mut self, policy: &Policy, times: Times, message: &Message<'_>) -> Verdict {
        let verdict = |reason, rule, audit| {
            let (against, observed, changed) = (Vec::new(), Vec::new(), Vec::new());
            Verdict { reason, rule, audit, against, observed, changed }
        };
        let refused = |reason, rule| verdict(reason, rule, true);
        let Message { subject, object, method, event, words } = *message;
        if usize::from(subject) >= policy.subjects.len() || usize::from(object) >= policy.objects.len() {
            return refused(Reason::UnknownObject, None);
        }
        let is_unknown = |method: &Method| method.is_question && event != Event::Request;
        if policy.method(object, method).is_none_or(is_unknown) {
            return refused(Reason::UnknownMethod, None);
        }
        let fields = policy.fields(object, method, event);
        // An error may have fewer words than its interface declares.
        let values = fields.iter().zip(words.iter().chain(repeat(&0)));
        let values: Vec<i128> = values.map(|(field, &word)| field.value(word)).collect();
        let fits = fields.iter().zip(&values).all(|(field, value)| {
            let is_in = (field.range.0..=field.range.1).contains(value);
            let guard = |at: usize, above: u8| values.get(at).copied().unwrap_or(0) - i128::from(above);
            match field.presence {
                Presence::Always => is_in,
                Presence::Above(at, above) if guard(at, above) > 0 => is_in,
                Presence::Above(..) => *value == 0,
                Presence::Bytes(at, first) => {
                    let there = guard(at, first).clamp(0, 8);
                    value % (1 << (8 * (8 - there))) == 0
                }
            }
        });
        if event != Event::Error && (fields.len() != words.len() || !fits) {
            return refused(Reason::Malformed, None);
        }
        let context = Context { policy, remembered: self, times, subject, fields, values: &values };
        let mut against: Vec<(Reason, usize)> = Vec::new();
        let mut matching: Vec<(usize, &Body)> = Vec::new();
        let mut is_recorded: Vec<usize> = Vec::new();
        for (number, rule) in policy.rules.iter().enumerate() {
            for body in rule.bodies_for(subject, object, method, event) {
                match context.matches(body) {
                    Err(_) => against.push((Reason::Failed, number)),
                    Ok(Matched::No) => {}
                    Ok(Matched::TooOften) => against.push((Reason::Rate, number)),
                    Ok(Matched::Yes) => {
                        if rule.decision == Decision::Deny {
                            against.push((Reason::DeniedByRule, number));
                        }
                        matching.push((number, body));
                        is_recorded.extend(context.is_recorded(body).then_some(number));
                    }
                }
            }
        }
        let is_deny = |number: usize| policy.rules.get(number).is_some_and(|rule| rule.decision == Decision::Deny);
        let is_denied = against.iter().any(|(reason, _)| *reason == Reason::DeniedByRule);
        let mut changes = Vec::new();
        let has_failed = against.iter().any(|(reason, _)| *reason == Reason::Failed);
        for (number, body) in matching.iter().filter(|(number, _)| !has_failed && is_deny(*number) == is_denied) {
            match context.changes(body) {
                Ok(new) => changes.extend(new),
                Err(_) => against.push((Reason::Failed, *number)),
            }
        }
        // A rule that fails outweighs all, then one that denies, then one that allows. Of several, the one that is told is
        // one that denies before one that is recorded before one that is not; then the first in the text.
        let may_record = |number: &usize| {
            let rule = policy.rules.get(*number);
            let mut bodies = rule.into_iter().flat_map(|rule| rule.bodies_for(subject, object, method, event));
            bodies.any(|body| body.recording.is_some())
        };
        let rank = |rule: &usize| (!is_deny(*rule), !may_record(rule), *rule);
        let fails = |reason| {
            let found = against.iter().filter(|(found, _)| *found == reason);
            found.map(|(_, rule)| *rule).min_by_key(rank)
        };
        let allowed = matching.iter().map(|(number, _)| *number).filter(|number| !is_deny(*number)).min_by_key(rank);
        let mut verdict = match (fails(Reason::Failed), fails(Reason::DeniedByRule), allowed, fails(Reason::Rate)) {
            (Some(rule), ..) => refused(Reason::Failed, Some(rule)),
            (_, Some(rule), ..) => Verdict {
                audit: is_recorded.iter().any(|number| is_deny(*number)),
                ..refused(Reason::DeniedByRule, Some(rule))
            },
            (_, _, Some(rule), _) => {
                verdict(Reason::Allowed, Some(rule), is_recorded.iter().any(|number| !is_deny(*number)))
            }
            (.., Some(rule)) if event == Event::Request => refused(Reason::Rate, Some(rule)),
            _ if event != Event::Request => verdict(Reason::Allowed, None, false),
            _ => refused(Reason::NoRule, None),
        };
        if verdict.reason != Reason::Failed {
            verdict.changed = changes.iter().map(|(instance, _)| instance.clone()).collect();
            self.0.extend(changes);
        }
        verdict.against = against;
        verdict.observed = matching.iter().map(|(number, _)| *number).filter(|number| !is_deny(*number)).collect();
        verdict
    }

    /// Whether a rule's condition for a message holds now.
    ///
    /// # Errors
    /// Why it has no value.
    pub fn matches(&self, policy: &Policy, times: Times, message: &Message<'_>, body: &Body) -> Result<bool, String> {
        let fields = policy.fields(message.object, message.method, message.event);
        let values = fields.iter().zip(message.words.iter().chain(repeat(&0)));
        let values: Vec<i128> = values.map(|(field, &word)| field.value(word)).collect();
        let context = Context { policy, remembered: self, times, subject: message.subject, fields, values: &values };
        context.matches(body).map(|matched| matches!(matched, Matched::Yes))
    }

    /// What is remembered from now on, whatever led to it: for tests. Returns what was changed.
    ///
    /// # Errors
    /// Why the effect has no value.
    pub fn give(
        &mut self,
        policy: &Policy,
        times: Times,
        subject: u16,
        effect: &Effect,
    ) -> Result<Vec<(Instance, Memory)>, String> {
        let context = Context { policy, remembered: self, times, subject, fields: &[], values: &[] };
        let all = match effect {
            // Without regard to the flow's steps.
            Effect::Become(place, next, values) => {
                let held =
                    values.iter().map(|value| value.as_ref().map(|value| small(context.value(value)?)).transpose());
                let held = held.collect::<Result<_, _>>()?;
                vec![(context.find(place)?.1, Memory::Flow(*next, Some(context.now()?), held))]
            }
            other => context.change(other)?,
        };
        self.0.extend(all.clone());
        Ok(all)
    }

    /// Whether a condition without arguments holds for a caller.
    ///
    /// # Errors
    /// Why it has no value.
    pub fn holds(&self, policy: &Policy, times: Times, subject: u16, condition: &Expression) -> Result<bool, String> {
        let context = Context { policy, remembered: self, times, subject, fields: &[], values: &[] };
        context.value(condition).map(|value| value != 0)
    }

    /// What an instance remembers; its start if it was never changed.
    #[must_use]
    pub fn memory(&self, policy: &Policy, state: u16, keys: &[i128]) -> Option<Memory> {
        let row = policy.states.get(usize::from(state))?;
        Some(self.0.get(&(state, keys.to_vec())).cloned().unwrap_or_else(|| row.beginning()))
    }

    /// Why an expression of a rule fails, for people: the text of the first failure.
    #[must_use]
    pub fn failure(&self, policy: &Policy, times: Times, message: &Message<'_>, rule: usize) -> Option<String> {
        let fields = policy.fields(message.object, message.method, message.event);
        let values = fields.iter().zip(message.words.iter().chain(repeat(&0)));
        let values: Vec<i128> = values.map(|(field, &word)| field.value(word)).collect();
        let context = Context { policy, remembered: self, times, subject: message.subject, fields, values: &values };
        let rule = policy.rules.get(rule)?;
        let mut bodies = rule.bodies_for(message.subject, message.object, message.method, message.event);
        bodies.find_map(|body| context.matches(body).and_then(|_| context.changes(body).map(|_| ())).err())
    }
}

impl Memory {
    /// The words of an instance, as `bulkhead_model::kind` lays them out.
    #[must_use]
    pub fn words(&self, state: &State) -> Vec<u64> {
        let word = bulkhead_model::build::word;
        let time = |time: &Option<u64>| time.map_or(0, |time| time + 1);
        let count = |length: usize| length as u64;
        let mut words = match (self, &state.kind) {
            (Self::Counter(value), StateKind::Counter { start, .. }) => vec![word(*value).wrapping_sub(word(*start))],
            (Self::Flow(now_in, entered, values), _) => {
                let holds = values.iter().enumerate().filter(|(_, value)| value.is_some());
                let first = holds.fold(u64::from(*now_in), |first, (at, _)| first | 1 << (8 + at));
                let values = values.iter().map(|value| value.map_or(0, word));
                [first, time(entered)].into_iter().chain(values).collect()
            }
            (Self::Timer(since), _) => vec![time(since)],
            (Self::Window(times), _) => {
                let many = state.words() as usize - 1;
                let next = if times.len() < many { times.len() } else { 0 };
                std::iter::once(count(next)).chain(times.iter().map(|time| time + 1)).collect()
            }
            (Self::Bucket(full_at), _) => vec![*full_at],
            (Self::Set(values), _) => {
                std::iter::once(count(values.len())).chain(values.iter().map(|value| word(*value))).collect()
            }
            (Self::Map(counts, works), _) => {
                let half = |entries: &BTreeMap<i128, i128>| {
                    let mut half = vec![count(entries.len())];
                    half.extend(entries.iter().flat_map(|(key, value)| [word(*key), word(*value)]));
                    half.resize(state.words() as usize / 2, 0);
                    half
                };
                [half(counts), half(works)].concat()
            }
            _ => Vec::new(),
        };
        words.resize(state.words() as usize, 0);
        words
    }
}

impl State {
    /// What an instance remembers at the start.
    #[must_use]
    pub fn beginning(&self) -> Memory {
        match &self.kind {
            StateKind::Counter { start, .. } => Memory::Counter(*start),
            StateKind::Flow { values, .. } => Memory::Flow(0, None, vec![None; values.len()]),
            StateKind::Timer => Memory::Timer(None),
            StateKind::Rate { burst: 0, .. } => Memory::Window(VecDeque::new()),
            StateKind::Rate { .. } => Memory::Bucket(0),
            StateKind::Set(_) => Memory::Set(Vec::new()),
            StateKind::Map(_) => Memory::Map(BTreeMap::new(), BTreeMap::new()),
        }
    }
}

enum Matched {
    Yes,
    No,
    TooOften,
}

struct Context<'a> {
    policy: &'a Policy,
    remembered: &'a Remembered,
    times: Times,
    subject: u16,
    fields: &'a [Field],
    values: &'a [i128],
}

/// A state object, the instance's key, and what it remembers.
type Found<'a> = (&'a State, Instance, Memory);
/// Which state object, and its keys.
pub type Instance = (u16, Vec<i128>);
/// A flow's state, when it was entered, and what it holds.
type FlowNow = (u8, Option<u64>, Vec<Option<i128>>);

impl Context<'_> {
    /// Conditions are asked from left to right, and rates last; what comes after one that does not hold is not asked.
    fn matches(&self, body: &Body) -> Result<Matched, String> {
        if let Some(condition) = &body.condition
            && self.value(condition)? == 0
        {
            return Ok(Matched::No);
        }
        for rate in &body.rates {
            if !self.admits(rate)? {
                return Ok(Matched::TooOften);
            }
        }
        Ok(Matched::Yes)
    }

    /// Whether a message that a rule decides is recorded.
    fn is_recorded(&self, body: &Body) -> bool {
        let Some(recording) = &body.recording else { return false };
        let holds = recording.condition.as_ref().is_none_or(|condition| self.value(condition) == Ok(1));
        let is_first = |(place, _): &(Place, u32)| self.value(&Expression::Count(place.clone())) == Ok(0);
        holds && recording.sample.as_ref().is_none_or(is_first)
    }

    fn now(&self) -> Result<u64, String> {
        self.times.microseconds.ok_or_else(|| "there is no clock".to_string())
    }

    fn local(&self) -> Result<u64, String> {
        self.times.local_seconds.ok_or_else(|| "the time of day is not known".to_string())
    }

    fn find(&self, place: &Place) -> Result<Found<'_>, String> {
        let state = self.policy.states.get(usize::from(place.state)).ok_or("no such state object")?;
        let keys: Vec<i128> = place.keys.iter().map(|key| self.value(key)).collect::<Result<_, _>>()?;
        for (key, value) in state.keys.iter().zip(&keys) {
            let (low, high) = key.values;
            if !(low..=high).contains(value) {
                return Err(format!("`{}` has no {} {value}, only {low}..{high}", state.name, key.name));
            }
        }
        let memory = self.remembered.memory(self.policy, place.state, &keys).ok_or("no such state object")?;
        Ok((state, (place.state, keys), memory))
    }

    /// A flow's state now: one that has lasted longer than it may is over, and what follows began then.
    fn flow(&self, place: &Place) -> Result<FlowNow, String> {
        let (state, _, memory) = self.find(place)?;
        let (StateKind::Flow { states, .. }, Memory::Flow(now_in, entered, values)) = (&state.kind, memory) else {
            return Err(format!("`{}` is no flow", state.name));
        };
        let lasts = states.get(usize::from(now_in)).and_then(|state: &FlowState| state.lasts);
        if let (Some((time, then)), Some(entered)) = (lasts, entered)
            && self.now()?.saturating_sub(entered) > time
        {
            return Ok((then, Some(entered + time), vec![None; values.len()]));
        }
        Ok((now_in, entered, values))
    }

    fn admits(&self, place: &Place) -> Result<bool, String> {
        let (state, _, memory) = self.find(place)?;
        let now = self.now()?;
        match (&state.kind, memory) {
            (StateKind::Rate { many, period, .. }, Memory::Window(times)) => {
                let full = u64::try_from(times.len()).is_ok_and(|count| count >= *many);
                Ok(!full || times.front().is_none_or(|oldest| now.saturating_sub(*oldest) >= *period))
            }
            (StateKind::Rate { many, period, burst }, Memory::Bucket(full_at)) => {
                Ok(full_at <= now + (burst - 1) * period.div_ceil(*many))
            }
            _ => Err(format!("`{}` is no rate", state.name)),
        }
    }

    fn value(&self, expression: &Expression) -> Value {
        let truth = |holds: bool| Ok(i128::from(holds));
        match expression {
            Expression::Number(value) => Ok(*value),
            Expression::Argument(at) => {
                let missing = || "no such argument".to_string();
                self.fields.get(*at).and_then(|_| self.values.get(*at)).copied().ok_or_else(missing)
            }
            Expression::Present(at, guard, above) => {
                let is_there = self.value(&Expression::Argument(*guard))? > i128::from(*above);
                let absent = || format!("`{}` is absent", self.fields.get(*at).map_or("?", |field| &field.name));
                if is_there { self.value(&Expression::Argument(*at)) } else { Err(absent()) }
            }
            Expression::Matches(at, count, pattern) => {
                let words = self.values.get(*at..=at + count).ok_or("no such text")?;
                let words: Vec<u64> = words.iter().map(|&value| bulkhead_model::build::word(value)).collect();
                truth(crate::automata::is_match(pattern, &crate::messages::text_of(&words)))
            }
            Expression::Caller => Ok(self.subject.into()),
            Expression::TimeOfDay => Ok(i128::from(self.local()? % 86_400) * 1_000_000),
            // 1970 began on a Thursday.
            Expression::DayOfWeek => Ok(i128::from((self.local()? / 86_400 + 3) % 7) + 1),
            Expression::Not(inner) => truth(self.value(inner)? == 0),
            Expression::And(left, right) => {
                if self.value(left)? == 0 {
                    Ok(0)
                } else {
                    self.value(right)
                }
            }
            Expression::Or(left, right) => {
                let left = self.value(left)?;
                if left == 0 { self.value(right) } else { Ok(left) }
            }
            Expression::Binary(operator, left, right) => binary(*operator, self.value(left)?, self.value(right)?),
            Expression::Within(inner, ranges) => {
                let value = self.value(inner)?;
                truth(ranges.iter().any(|(low, high)| (low..=high).contains(&&value)))
            }
            Expression::Count(place) => match self.find(place)? {
                (.., Memory::Counter(value)) => Ok(value),
                (state, ..) => Err(format!("`{}` is no counter", state.name)),
            },
            Expression::IsIn(place, state) => truth(self.flow(place)?.0 == *state),
            Expression::Age(place) => {
                let (state, _, memory) = self.find(place)?;
                let since = if let Memory::Timer(since) = memory { since } else { self.flow(place)?.1 };
                let since = since.ok_or_else(|| format!("`{}` never began", state.name))?;
                let age = self.now()?.checked_sub(since);
                age.map(i128::from).ok_or_else(|| "the clock went back".to_string())
            }
            Expression::Holds(place, at) => {
                let (_, _, values) = self.flow(place)?;
                let held = values.get(usize::from(*at)).copied().flatten();
                held.ok_or_else(|| "the flow's state does not hold this value".to_string())
            }
            Expression::Contains(place, value) => {
                let value = small(self.value(value)?)?;
                match self.find(place)? {
                    (.., Memory::Set(values)) => truth(values.contains(&value)),
                    (.., Memory::Map(values, _)) => truth(values.contains_key(&value)),
                    (state, ..) => Err(format!("`{}` is no set", state.name)),
                }
            }
            Expression::Lookup(place, key) => {
                let key = small(self.value(key)?)?;
                match self.find(place)? {
                    (state, _, Memory::Map(values, _)) => {
                        values.get(&key).copied().ok_or_else(|| format!("`{}` has no key {key}", state.name))
                    }
                    (state, ..) => Err(format!("`{}` is no map", state.name)),
                }
            }
        }
    }

    /// What the effects of a rule make of the instances that they change. All read what was before.
    fn changes(&self, body: &Body) -> Result<Vec<(Instance, Memory)>, String> {
        let mut all = Vec::new();
        for effect in &body.effects {
            all.extend(self.change(effect)?);
        }
        if let Some(Recording { condition, sample: Some((place, many)), .. }) = &body.recording
            && condition.as_ref().is_none_or(|condition| self.value(condition) == Ok(1))
            && let (_, at, Memory::Counter(count)) = self.find(place)?
        {
            all.push((at, Memory::Counter((count + 1) % i128::from(*many))));
        }
        for rate in &body.rates {
            let (state, at, memory) = self.find(rate)?;
            let (now, StateKind::Rate { many, period, .. }) = (self.now()?, &state.kind) else {
                return Err("no rate".to_string());
            };
            all.push((
                at,
                match memory {
                    Memory::Window(mut times) => {
                        if u64::try_from(times.len()).is_ok_and(|count| count >= *many) {
                            times.pop_front();
                        }
                        times.push_back(now);
                        Memory::Window(times)
                    }
                    Memory::Bucket(full_at) => Memory::Bucket(full_at.max(now) + period.div_ceil(*many)),
                    other => other,
                },
            ));
        }
        Ok(all)
    }

    fn change(&self, effect: &Effect) -> Result<Vec<(Instance, Memory)>, String> {
        let counter = |state: &State, value: i128| match &state.kind {
            StateKind::Counter { range: (low, high), .. } if (*low..=*high).contains(&value) => {
                Ok(Memory::Counter(value))
            }
            _ => Err(format!("`{}` cannot be {value}", state.name)),
        };
        let (place, memory) = match effect {
            Effect::Set(place, value) => {
                let (state, at, _) = self.find(place)?;
                (at, counter(state, self.value(value)?)?)
            }
            Effect::Increase(place, amount) => {
                let amount = self.value(amount)?;
                match self.find(place)? {
                    (state, at, Memory::Counter(value)) => (at, counter(state, value + amount)?),
                    (state, ..) => return Err(format!("`{}` is no counter", state.name)),
                }
            }
            Effect::Reset(place) => match self.find(place)? {
                (_, at, Memory::Map(counts, _)) => (at, Memory::Map(counts, BTreeMap::new())),
                (state, at, _) => (at, state.beginning()),
            },
            Effect::ResetAll(state) => {
                let row = self.policy.states.get(usize::from(*state)).ok_or("no such state object")?;
                let mine = self.remembered.0.keys().filter(|(number, _)| number == state);
                return Ok(mine.map(|place| (place.clone(), row.beginning())).collect());
            }
            Effect::Become(place, next, values) => {
                let (state, at, _) = self.find(place)?;
                let StateKind::Flow { states, .. } = &state.kind else { return Err("no flow".to_string()) };
                let (now_in, ..) = self.flow(place)?;
                let from = states.get(usize::from(now_in)).ok_or("no such state")?;
                if !from.successors.contains(next) {
                    let to = states.get(usize::from(*next)).map(|state| state.name.clone()).unwrap_or_default();
                    return Err(format!("`{}` has no step from {} to {to}", state.name, from.name));
                }
                let held = values.iter().map(|value| value.as_ref().map(|value| small(self.value(value)?)).transpose());
                (at, Memory::Flow(*next, Some(self.now()?), held.collect::<Result<_, _>>()?))
            }
            Effect::Start(place) => (self.find(place)?.1, Memory::Timer(Some(self.now()?))),
            Effect::Insert(place, value) => {
                let value = small(self.value(value)?)?;
                let (state, at, memory) = self.find(place)?;
                let (Memory::Set(mut values), StateKind::Set(most)) = (memory, &state.kind) else {
                    return Err(format!("`{}` is no set", state.name));
                };
                if !values.contains(&value) {
                    if u32::try_from(values.len()).is_ok_and(|count| count >= *most) {
                        return Err(format!("`{}` is full", state.name));
                    }
                    values.push(value);
                }
                (at, Memory::Set(values))
            }
            Effect::Remove(place, value) => {
                let value = small(self.value(value)?)?;
                let (state, at, memory) = self.find(place)?;
                let missing = || format!("`{}` has no {value}", state.name);
                match memory {
                    Memory::Set(mut values) => {
                        let found = values.iter().position(|known| *known == value).ok_or_else(missing)?;
                        values.swap_remove(found);
                        (at, Memory::Set(values))
                    }
                    Memory::Map(counts, mut works) => {
                        works.remove(&value).ok_or_else(missing)?;
                        (at, Memory::Map(counts, works))
                    }
                    _ => return Err(format!("`{}` is no set", state.name)),
                }
            }
            Effect::Put(place, key, value) => {
                let (key, value) = (small(self.value(key)?)?, small(self.value(value)?)?);
                let (state, at, memory) = self.find(place)?;
                let (Memory::Map(counts, mut works), StateKind::Map(most)) = (memory, &state.kind) else {
                    return Err(format!("`{}` is no map", state.name));
                };
                if !works.contains_key(&key) && u32::try_from(works.len()).is_ok_and(|count| count >= *most) {
                    return Err(format!("`{}` is full", state.name));
                }
                works.insert(key, value);
                (at, Memory::Map(counts, works))
            }
            Effect::Commit(place) | Effect::RollBack(place) => {
                let (state, at, memory) = self.find(place)?;
                let Memory::Map(counts, works) = memory else { return Err(format!("`{}` is no map", state.name)) };
                let kept = if matches!(effect, Effect::Commit(_)) { works } else { counts };
                (at, Memory::Map(kept.clone(), kept))
            }
        };
        Ok(vec![(place, memory)])
    }
}

/// Numbers are whole, from -2^63 to 2^64-1.
fn binary(operator: Operator, x: i128, y: i128) -> Value {
    let failed = |what: &str| format!("{x} {what} {y} has no value");
    let plain = || if x >= 0 && y >= 0 { Ok((x, y)) } else { Err("bits of a negative number".to_string()) };
    let shift = || if x >= 0 && (0..64).contains(&y) { Ok(y) } else { Err(failed("shifted by")) };
    let value = match operator {
        Operator::Add => x + y,
        Operator::Subtract => x - y,
        Operator::Multiply => x.checked_mul(y).ok_or_else(|| failed("*"))?,
        Operator::Divide => x.checked_div(y).ok_or_else(|| failed("/"))?,
        Operator::Remainder => x.checked_rem(y).ok_or_else(|| failed("%"))?,
        Operator::BitAnd | Operator::And => plain().map(|(x, y)| x & y)?,
        Operator::BitOr | Operator::Or | Operator::Implies => plain().map(|(x, y)| x | y)?,
        Operator::BitXor => plain().map(|(x, y)| x ^ y)?,
        Operator::ShiftLeft => shift().and_then(|by| x.checked_mul(1 << by).ok_or_else(|| failed("<<")))?,
        Operator::ShiftRight => shift().map(|by| x >> by)?,
        Operator::Equal => (x == y).into(),
        Operator::Unequal => (x != y).into(),
        Operator::Less => (x < y).into(),
        Operator::LessOrEqual => (x <= y).into(),
        Operator::Greater => (x > y).into(),
        Operator::GreaterOrEqual => (x >= y).into(),
    };
    let (low, high) = crate::policy::EVERY;
    if (low..=high).contains(&value) { Ok(value) } else { Err("a number is too large".to_string()) }
}

/// What is remembered has 63 bits and a sign.
fn small(value: i128) -> Value {
    i64::try_from(value).map(i128::from).map_err(|_| format!("{value} is too large to be remembered"))
}
