//! What can be remembered at all: every state that messages can lead to is visited, breadth first, from the start on. The rules are
//! taken with less than they ask (no rates, no ages, no hours; a state that lasts may be over at any time), so that what is not reached
//! here is never reached; what is reached is put to the monitor before anyone is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bulkhead_model::build::word;

use crate::compile::conjuncts;
use crate::interpret::{Instance, Memory, Message, Remembered, Times};
use crate::normal;
use crate::policy::{Body, Effect, Expression, Field, NeverWhat, Place, Policy, Presence, Rule, StateKind, Values};
use crate::tree::{Decision, Event, Operator};

/// The most states that are visited.
const STATES: usize = 20_000;
/// The most messages that are tried in each.
const MESSAGES: usize = 2_000;
/// A field with at most so many values is tried with each of them, if rules compute with it or remember it.
const VALUES: i128 = 256;
/// Nothing moves here by itself.
const STILL: Times = Times { microseconds: Some(0), local_seconds: None };

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    /// A message.
    Send {
        /// Who.
        subject: u16,
        /// To what.
        object: u16,
        /// Which method.
        method: u16,
        /// Request, reply or error.
        event: Event,
        /// The values as they travel.
        words: Vec<u64>,
    },
    /// So many microseconds pass.
    Wait(u64),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// None of so many states is one that must never be.
    Nowhere(usize),
    /// A shortest way to one; the last move is the request that must never be allowed, if one must not.
    Way(Vec<Move>),
    /// The search says nothing: why.
    Unknown(String),
}

/// Visits all states, until one is found that `what` forbids.
#[must_use]
pub fn search(policy: &Policy, what: &NeverWhat) -> Found {
    let mut states = BTreeSet::new();
    let mut methods: BTreeSet<(u16, u16)> = BTreeSet::new();
    let before: &[(u16, u16)] = match what {
        NeverWhat::State(condition) => {
            reads(condition, &mut states);
            &[]
        }
        NeverWhat::Call(rule, before) => {
            for body in &rule.bodies {
                body.condition.iter().for_each(|condition| reads(condition, &mut states));
                methods.insert((body.object, body.method));
            }
            methods.extend(before);
            before
        }
    };
    let nevers = if let NeverWhat::Call(rule, _) = what { std::slice::from_ref(rule) } else { &[] };
    let asks_time = match what {
        NeverWhat::State(condition) => is_timed(condition),
        NeverWhat::Call(rule, _) => rule.bodies.iter().filter_map(|body| body.condition.as_ref()).any(is_timed),
    };
    if asks_time {
        return Found::Unknown("the search does not follow times; say it of states".to_string());
    }
    cone(policy, &mut states, &mut methods);
    let (loose, strict) = match loosened(policy, &states) {
        Ok(both) => both,
        Err(why) => return Found::Unknown(why),
    };
    let (messages, doubt) = match messages(&loose, what, nevers, &methods, &states) {
        Ok(found) => found,
        Err(why) => return Found::Unknown(why),
    };
    let mut visited = 0;
    for messages in parts(&loose, what, &messages) {
        let mut search =
            Search { policy: &loose, strict: strict.as_ref(), what, before, seen: BTreeMap::new(), all: Vec::new() };
        match search.run(&messages) {
            Found::Nowhere(count) => visited += count,
            found => return found,
        }
    }
    if doubt.is_empty() { Found::Nowhere(visited) } else { Found::Unknown(doubt) }
}

/// The messages in parts that have nothing to do with each other: where all that is remembered is kept per one argument, and every rule
/// reads and changes only what belongs to that argument of its own message, each value of the argument is searched by itself.
fn parts(policy: &Policy, what: &NeverWhat, messages: &[Move]) -> Vec<Vec<Move>> {
    let whole = || vec![messages.to_vec()];
    let mut parts: BTreeMap<u64, Vec<Move>> = BTreeMap::new();
    let nevers = match what {
        // A method that must come before belongs to the same part: what is proved so is more than what is asked.
        NeverWhat::Call(rule, _) => std::slice::from_ref(rule),
        NeverWhat::State(_) => return whole(),
    };
    for step in messages {
        let Move::Send { subject, object, method, event, words } = step else { return whole() };
        let rules = policy.rules.iter().chain(nevers);
        let bodies = rules.flat_map(|rule| rule.bodies_for(*subject, *object, *method, *event));
        let mut argument = None;
        for place in bodies.flat_map(places) {
            let mut keys = place.keys.iter().filter(|key| **key != Expression::Caller);
            let (Some(Expression::Argument(at)), None) = (keys.next(), keys.next()) else { return whole() };
            if argument.replace(*at).is_some_and(|known| known != *at) {
                return whole();
            }
        }
        let Some(value) = argument.and_then(|at| words.get(at)) else { return whole() };
        parts.entry(*value).or_default().push(step.clone());
    }
    parts.into_values().collect()
}

/// Every instance that a rule reads or changes; one without keys for all of an object.
fn places(body: &Body) -> Vec<Place> {
    let mut all = Vec::new();
    let mut visit = |expression: &Expression| expression.walk(&mut |part| all.extend(part.place().cloned()));
    body.condition.iter().for_each(&mut visit);
    body.effects.iter().for_each(|effect| effect.each(&mut visit));
    let changed =
        |effect: &Effect| effect.place().cloned().unwrap_or(Place { state: effect.state(), keys: Vec::new() });
    all.extend(body.effects.iter().map(changed));
    all
}

/// Whether a condition holds for any caller: what is kept per caller is looked at for each.
#[must_use]
pub fn is_so(policy: &Policy, remembered: &Remembered, times: Times, condition: &Expression) -> bool {
    (0_u16..).zip(&policy.subjects).any(|(subject, _)| remembered.holds(policy, times, subject, condition) == Ok(true))
}

/// All state objects and methods that have to do with some: what changes them, and what that asks for.
fn cone(policy: &Policy, states: &mut BTreeSet<u16>, methods: &mut BTreeSet<(u16, u16)>) {
    loop {
        let before = (states.len(), methods.len());
        for body in policy.rules.iter().flat_map(|rule| &rule.bodies) {
            if body.effects.iter().any(|effect| states.contains(&effect.state())) {
                methods.insert((body.object, body.method));
            }
            if methods.contains(&(body.object, body.method)) {
                body.condition.iter().for_each(|condition| reads(condition, states));
                // An effect that fails refuses the call, and with it every other effect.
                let may_fail =
                    |effect: &&Effect| !matches!(effect, Effect::Start(_) | Effect::Reset(_) | Effect::ResetAll(_));
                states.extend(body.effects.iter().filter(may_fail).map(Effect::state));
                for effect in &body.effects {
                    effect.each(&mut |expression| reads(expression, states));
                }
            }
        }
        if before == (states.len(), methods.len()) {
            return;
        }
    }
}

/// The rules without what restricts them in ways that the search does not follow; and, if some of these remember something, all
/// rules but these: where one of them is held back, others may allow the call without what it remembers. (Two that remember something
/// never match one call: the compiler sees to it.)
fn loosened(policy: &Policy, states: &BTreeSet<u16>) -> Result<(Policy, Option<Policy>), String> {
    let is_held_back = |body: &Body| !body.rates.is_empty() || body.condition.as_ref().is_some_and(is_timed);
    let remembers = |body: &Body| body.effects.iter().any(|effect| states.contains(&effect.state()));
    let mut without = policy.clone();
    for rule in without.rules.iter_mut().filter(|rule| rule.decision == Decision::Allow) {
        rule.bodies.retain(|body| !is_held_back(body) || !remembers(body));
    }
    let count = |policy: &Policy| policy.rules.iter().map(|rule| rule.bodies.len()).sum::<usize>();
    let strict = if count(&without) == count(policy) { None } else { Some(without_limits(&without, states)?) };
    Ok((without_limits(policy, states)?, strict))
}

fn without_limits(policy: &Policy, states: &BTreeSet<u16>) -> Result<Policy, String> {
    let mut loose = policy.clone();
    let mut doubt = None;
    loose.rules.retain_mut(|rule| {
        let decision = rule.decision;
        rule.bodies.retain_mut(|body| {
            body.rates.clear();
            // What is recorded decides nothing.
            body.recording = None;
            body.effects.retain(|effect| states.contains(&effect.state()));
            let mut parts = Vec::new();
            body.condition.iter().for_each(|condition| conjuncts(condition, &mut parts));
            let Some(first) = parts.iter().position(|part| is_timed(part)) else { return true };
            // What comes after a part that is left away might not have been asked, and must not refuse now.
            let is_safe = parts.iter().skip(first).all(|part| is_timed(part) || cannot_fail(part));
            let is_followed = decision == Decision::Allow || body.effects.is_empty();
            if !is_safe || !is_followed {
                doubt = Some("a rule asks for a time in a way that the search does not follow".to_string());
            }
            let rest = parts.into_iter().filter(|part| !is_timed(part)).cloned();
            body.condition = rest.reduce(|one, other| Expression::And(Box::new(one), Box::new(other)));
            decision == Decision::Allow
        });
        !rule.bodies.is_empty()
    });
    doubt.map_or(Ok(loose), Err)
}

fn cannot_fail(expression: &Expression) -> bool {
    match expression {
        Expression::IsIn(place, _) => place.keys.is_empty(),
        Expression::Not(inner) => cannot_fail(inner),
        Expression::And(left, right) | Expression::Or(left, right) => cannot_fail(left) && cannot_fail(right),
        other => normal::is_simple(other),
    }
}

fn is_timed(expression: &Expression) -> bool {
    expression.has(|part| matches!(part, Expression::Age(_) | Expression::TimeOfDay | Expression::DayOfWeek))
}

/// The state objects that an expression asks for.
fn reads(expression: &Expression, states: &mut BTreeSet<u16>) {
    expression.walk(&mut |part| states.extend(part.place().map(|place| place.state)));
}

/// Messages of some methods such that every other one is judged and remembered as one of these; and why that is in doubt.
fn messages(
    policy: &Policy,
    what: &NeverWhat,
    nevers: &[Rule],
    methods: &BTreeSet<(u16, u16)>,
    states: &BTreeSet<u16>,
) -> Result<(Vec<Move>, String), String> {
    let (mut all, mut doubt, mut asked) = (Vec::new(), String::new(), BTreeSet::new());
    if let NeverWhat::State(condition) = what {
        reads(condition, &mut asked);
    }
    for body in policy.rules.iter().chain(nevers).flat_map(|rule| &rule.bodies) {
        body.condition.iter().for_each(|condition| reads(condition, &mut asked));
    }
    for &(object, method) in methods {
        for event in [Event::Request, Event::Reply, Event::Error] {
            let about = |rule: &&Rule| {
                rule.event == event && rule.bodies.iter().any(|body| (body.object, body.method) == (object, method))
            };
            let rules: Vec<&Rule> = policy.rules.iter().chain(nevers).filter(about).collect();
            let subjects: BTreeSet<u16> = rules.iter().flat_map(|rule| rule.subjects.iter().copied()).collect();
            let fields = policy.fields(object, method, event);
            let mut values: Vec<Vec<i128>> = Vec::new();
            for (at, field) in fields.iter().enumerate() {
                let bodies = rules
                    .iter()
                    .flat_map(|rule| &rule.bodies)
                    .filter(|body| (body.object, body.method) == (object, method));
                let (tried, is_whole) = classes(at, field, bodies, states, &asked);
                if !is_whole && doubt.is_empty() {
                    let name = policy.method(object, method).map(|method| method.name.clone()).unwrap_or_default();
                    doubt = format!(
                        "`{}` of `{name}` is computed with or remembered, and has too many values to try; narrow it to 256",
                        field.label()
                    );
                }
                values.push(tried);
            }
            let count = values.iter().map(Vec::len).product::<usize>() * subjects.len();
            if all.len() + count > MESSAGES {
                return Err(
                    "its methods have too many kinds of messages to be tried; narrow their arguments".to_string()
                );
            }
            for &subject in &subjects {
                let mut tuples: Vec<Vec<u64>> = vec![Vec::new()];
                for tried in &values {
                    let longer = tuples
                        .iter()
                        .flat_map(|tuple| tried.iter().map(move |&value| [tuple.clone(), vec![word(value)]].concat()));
                    tuples = longer.collect();
                }
                all.extend(tuples.into_iter().map(|words| Move::Send { subject, object, method, event, words }));
            }
        }
    }
    Ok((all, doubt))
}

/// Values of a field such that every other one is treated as one of them, as far as that can be had.
fn classes<'a>(
    at: usize,
    field: &Field,
    bodies: impl Iterator<Item = &'a Body>,
    states: &BTreeSet<u16>,
    asked: &BTreeSet<u16>,
) -> (Vec<i128>, bool) {
    let (low, high) = field.range;
    let mut cuts = BTreeSet::from([low]);
    let mut is_whole = true;
    for body in bodies {
        let mut parts = Vec::new();
        body.condition.iter().for_each(|condition| atoms(condition, &mut parts));
        for part in parts {
            match limits(part, at) {
                Some(ranges) => cuts.extend(ranges.iter().flat_map(|range| [range.0, range.1 + 1])),
                None => is_whole &= !mentions(part, at),
            }
        }
        for effect in body.effects.iter().filter(|effect| states.contains(&effect.state())) {
            effect.each(&mut |expression| is_whole &= !mentions(expression, at) || !asked.contains(&effect.state()));
        }
    }
    if field.presence != Presence::Always || field.head.is_some() {
        // Words that depend on each other: the least message stands for all if none is asked for.
        return (vec![if field.presence == Presence::Always { low } else { 0 }], is_whole && cuts.len() == 1);
    }
    if !is_whole && high - low < VALUES {
        return ((low..=high).collect(), true);
    }
    (cuts.into_iter().filter(|cut| (low..=high).contains(cut)).collect(), is_whole)
}

fn atoms<'e>(expression: &'e Expression, all: &mut Vec<&'e Expression>) {
    match expression {
        Expression::Not(inner) => atoms(inner, all),
        Expression::And(left, right) | Expression::Or(left, right) => {
            atoms(left, all);
            atoms(right, all);
        }
        other => all.push(other),
    }
}

fn mentions(expression: &Expression, argument: usize) -> bool {
    expression.has(|part| part.argument() == Some(argument))
}

/// Where a test of one argument against constants changes its mind; `None` if it is not one.
fn limits(expression: &Expression, argument: usize) -> Option<Vec<Values>> {
    let is_argument = |inner: &Expression| matches!(inner, Expression::Argument(at) if *at == argument);
    match expression {
        Expression::Within(inner, ranges) if is_argument(inner) => Some(ranges.clone()),
        Expression::Argument(at) if *at == argument => Some(vec![(1, 1)]),
        Expression::Binary(operator, left, right)
            if !matches!(operator, Operator::BitAnd | Operator::BitOr | Operator::BitXor) =>
        {
            match (left.as_ref(), right.as_ref()) {
                (inner, Expression::Number(value)) | (Expression::Number(value), inner) if is_argument(inner) => {
                    Some(vec![(*value, *value)])
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// What is remembered, and whether one of the methods was allowed that must come before.
type State = (Remembered, bool);

struct Search<'a> {
    policy: &'a Policy,
    /// Without the rules that may be held back, if there are any.
    strict: Option<&'a Policy>,
    what: &'a NeverWhat,
    before: &'a [(u16, u16)],
    /// Each state's number.
    seen: BTreeMap<State, usize>,
    /// For each state the one that it was reached from, and by which move.
    all: Vec<(State, Option<(usize, Move)>)>,
}

impl Search<'_> {
    fn run(&mut self, messages: &[Move]) -> Found {
        let start = (Remembered::default(), false);
        self.seen.insert(start.clone(), 0);
        self.all.push((start, None));
        let mut waiting = VecDeque::from([0]);
        while let Some(at) = waiting.pop_front() {
            let Some(((remembered, came_before), _)) = self.all.get(at).cloned() else { break };
            if let NeverWhat::State(condition) = self.what
                && is_so(self.policy, &remembered, STILL, condition)
            {
                return Found::Way(self.way(at));
            }
            for (instance, memory, time) in self.endings(&remembered) {
                let mut next = remembered.clone();
                next.0.insert(instance, memory);
                self.enter((next, came_before), (at, Move::Wait(time)), &mut waiting);
            }
            for step in messages {
                let Move::Send { subject, object, method, event, words } = step else { continue };
                let message = Message { subject: *subject, object: *object, method: *method, event: *event, words };
                for policy in [Some(self.policy), self.strict].into_iter().flatten() {
                    let mut next = remembered.clone();
                    let is_allowed = next.decide(policy, STILL, &message).reason == bulkhead_model::Reason::Allowed;
                    let is_granted = is_allowed && *event == Event::Request;
                    if is_granted && !came_before && self.is_forbidden(&remembered, &message) {
                        let mut way = self.way(at);
                        way.push(step.clone());
                        return Found::Way(way);
                    }
                    let came = is_granted && self.before.contains(&(*object, *method));
                    self.enter((next, came_before || came), (at, step.clone()), &mut waiting);
                }
            }
            if self.all.len() > STATES {
                return Found::Unknown(format!(
                    "more than {STATES} states can be remembered; narrow the keys and ranges of what is asked for"
                ));
            }
        }
        Found::Nowhere(self.all.len())
    }

    fn enter(&mut self, state: State, from: (usize, Move), waiting: &mut VecDeque<usize>) {
        let number = self.all.len();
        if !self.seen.contains_key(&state) {
            self.seen.insert(state.clone(), number);
            self.all.push((state, Some(from)));
            waiting.push_back(number);
        }
    }

    fn is_forbidden(&self, remembered: &Remembered, message: &Message<'_>) -> bool {
        let NeverWhat::Call(rule, _) = self.what else { return false };
        let mut bodies = rule.bodies_for(message.subject, message.object, message.method, Event::Request);
        bodies.any(|body| remembered.matches(self.policy, STILL, message, body) == Ok(true))
    }

    /// Flows whose state may be over: what they remember then, and after how long.
    fn endings(&self, remembered: &Remembered) -> Vec<(Instance, Memory, u64)> {
        let over = |((state, keys), memory): (&Instance, &Memory)| {
            let StateKind::Flow { states, values } = &self.policy.states.get(usize::from(*state))?.kind else {
                return None;
            };
            let Memory::Flow(at, Some(_), _) = memory else { return None };
            let (time, then) = states.get(usize::from(*at))?.lasts?;
            Some(((*state, keys.clone()), Memory::Flow(then, Some(0), vec![None; values.len()]), time + 1))
        };
        remembered.0.iter().filter_map(over).collect()
    }

    fn way(&self, mut at: usize) -> Vec<Move> {
        let mut way = Vec::new();
        while let Some((_, Some((from, step)))) = self.all.get(at) {
            way.push(step.clone());
            at = *from;
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::build;

    const HEAD: &str = "edition 1\npolicy p\ninterface I {\n method m(x: u8 in 0..3) -> (y: bool)\n method n(x: u16) -> ()\n}\napp a\nservice s: I by a\n\
        flow f { one -> two, three\n two -> one, three\n three -> one\n two lasts 4 s -> three }\ncounter c in 0..3\n\
        flow g per x in 0..3 { shut -> open\n open -> shut }\ntimer t\n";

    fn condition() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "f is one",
            "f is two",
            "f is not three",
            "c < 2",
            "c == 0",
            "x == 2",
            "x >= 1",
            "f is two and c > 0",
            "f is three or x == 0",
        ])
    }

    fn rule() -> impl Strategy<Value = String> {
        let effect = prop::sample::select(vec![
            "f becomes one",
            "f becomes two",
            "f becomes three",
            "count c",
            "reset c",
            "set c to x",
            "start t",
            "f becomes two, count c",
        ]);
        let kind =
            prop::sample::select(vec!["allow guest s.m", "allow guest s.n", "allow a s.m", "on guest s.m reply"]);
        (kind, condition(), effect, any::<bool>(), any::<bool>()).prop_map(
            |(kind, when, effect, is_rated, is_timed)| {
                let is_reply = kind.starts_with("on");
                let when = if is_reply {
                    when.replace("x == 2", "y").replace("x >= 1", "y").replace("x == 0", "not y")
                } else {
                    when.to_string()
                };
                let effect = if is_reply { effect.replace("to x", "to 2") } else { effect.to_string() };
                let rate = if is_rated && !is_reply { " at most 2 per 9 s" } else { "" };
                let timed = if is_timed && !is_reply { " and age of t above 2 s" } else { "" };
                if effect.is_empty() && is_reply {
                    return "allow guest s.m".to_string();
                }
                let then = if effect.is_empty() { String::new() } else { format!(" then {effect}") };
                format!("{kind} when ({when}){timed}{rate}{then}")
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, max_global_rejects: 100_000, ..ProptestConfig::default() })]

        /// What the search says is never reached, no calls reach; and where nothing was left out, calls reach what it reaches.
        #[test]
        fn calls_reach_nothing_that_the_search_does_not(
            rules in prop::collection::vec(rule(), 1..6),
            deny in prop::option::of(condition()),
            never in prop::sample::select(vec![
                "when f is three and c == 2", "when c == 3", "when f is two and c > 1", "when f is three", "guest s.m when f is three",
                "guest s.m when x == 2 and c > 1", "guest s.m unless s.n came before", "a s.m when f is two",
            ]),
            calls in prop::collection::vec((0_u16..2, any::<bool>(), 0_u64..4, 0_u64..6_000_000), 60),
        ) {
            let deny = deny.map_or(String::new(), |when| format!("deny guest s.m when {when}\n"));
            let text = format!("{HEAD}{}\n{deny}never {never}\n", rules.join("\n"));
            let Ok(compiled) = build(&text) else { return Err(TestCaseError::reject("rules that quarrel")) };
            let policy = &compiled.policy;
            let what = &policy.nevers[0].what;
            let object = compiled.object("s").unwrap();
            let found = search(policy, what);
            let mut walk = Walk { policy, what, remembered: Remembered::default(), times: Times { microseconds: Some(0), local_seconds: None }, came: false };
            if let Found::Nowhere(_) = found {
                for (method, is_reply, value, wait) in calls {
                    walk.times.microseconds = walk.times.microseconds.map(|now| now + wait);
                    let subject = u16::try_from(value % 2).unwrap() * 2;
                    let event = if is_reply && method == 0 { Event::Reply } else { Event::Request };
                    let words = [if event == Event::Reply { value % 2 } else { value }];
                    prop_assert!(!walk.breaks(&Message { subject, object, method, event, words: &words }), "{}", text);
                }
            } else if let (Found::Way(way), false) = (&found, text.contains("age of") || text.contains("at most")) {
                let mut broken = way.is_empty();
                for step in way {
                    match step {
                        Move::Wait(time) => walk.times.microseconds = walk.times.microseconds.map(|now| now + time),
                        Move::Send { subject, object, method, event, words } => {
                            broken = walk.breaks(&Message { subject: *subject, object: *object, method: *method, event: *event, words });
                        }
                    }
                }
                let ends_by_time = matches!((way.last(), what), (Some(Move::Wait(_)), NeverWhat::State(condition)) if is_so(policy, &walk.remembered, walk.times, condition));
                prop_assert!(broken || ends_by_time, "{} {:?}", text, way);
            }
        }
    }

    struct Walk<'a> {
        policy: &'a Policy,
        what: &'a NeverWhat,
        remembered: Remembered,
        times: Times,
        came: bool,
    }

    impl Walk<'_> {
        /// Whether a message brings about what must never be.
        fn breaks(&mut self, message: &Message<'_>) -> bool {
            let is_meant = match self.what {
                NeverWhat::Call(rule, _) => rule
                    .bodies_for(message.subject, message.object, message.method, message.event)
                    .any(|body| self.remembered.matches(self.policy, self.times, message, body) == Ok(true)),
                NeverWhat::State(_) => false,
            };
            let reason = self.remembered.decide(self.policy, self.times, message).reason;
            let is_granted = reason == bulkhead_model::Reason::Allowed && message.event == Event::Request;
            let breaks = match self.what {
                NeverWhat::Call(..) => is_granted && is_meant && !self.came,
                NeverWhat::State(condition) => is_so(self.policy, &self.remembered, self.times, condition),
            };
            if let NeverWhat::Call(_, before) = self.what {
                self.came |= is_granted && before.contains(&(message.object, message.method));
            }
            breaks
        }
    }

    fn outcome(rules: &str) -> Found {
        let compiled = build(&format!("{HEAD}{rules}\n")).unwrap();
        search(&compiled.policy, &compiled.policy.nevers[0].what)
    }

    #[test]
    fn what_must_come_before_is_kept_apart_for_each_key() {
        let opens = "allow guest s.m when g(x) is shut then g(x) becomes open\n";
        let used = "allow a s.m when g(x) is open then g(x) becomes shut\n";
        assert!(matches!(outcome(&format!("{opens}{used}never a s.m when g(x) is shut")), Found::Nowhere(_)));
        assert!(matches!(outcome(&format!("{opens}{used}never guest s.m when g(x) is open")), Found::Nowhere(_)));
        assert!(
            matches!(outcome(&format!("{opens}{used}never a s.m when g(x) is open")), Found::Way(way) if way.len() == 2)
        );
        let before = "allow guest s.n then count c\nallow guest s.m when c > 0\n";
        assert!(matches!(outcome(&format!("{before}never guest s.m unless s.n came before")), Found::Nowhere(2..)));
        let without = "allow guest s.n then count c\nallow guest s.m\n";
        assert!(
            matches!(outcome(&format!("{without}never guest s.m unless s.n came before")), Found::Way(way) if way.len() == 1)
        );
    }

    /// In the third state the first rule fails, unless it is held back: then the second allows.
    #[test]
    fn a_rule_that_is_held_back_leaves_the_call_to_others() {
        for held in ["when age of t above 2 s then f becomes two", "at most 2 per 9 s then f becomes two"] {
            let rules = format!("allow guest s.n then start t\nallow guest s.m {held}\nallow guest s.m\n");
            assert!(matches!(outcome(&format!("{rules}never guest s.m when f is three")), Found::Way(_)), "{held}");
        }
        let rules = "allow guest s.m then f becomes two\nallow guest s.m\n";
        assert!(matches!(outcome(&format!("{rules}never guest s.m when f is three")), Found::Nowhere(_)));
    }

    #[test]
    fn what_is_kept_per_caller_is_looked_at_for_each() {
        let rules = "counter tries per caller in 0..2\nallow a s.n then count tries\nallow guest s.n\n";
        assert!(matches!(outcome(&format!("{rules}never when tries == 2")), Found::Way(way) if way.len() == 2));
        let rules = rules.replace("then count", "when x > 5 and x < 5 then count");
        assert!(matches!(outcome(&format!("{rules}never when tries == 2")), Found::Nowhere(1)));
    }

    #[test]
    fn what_the_search_cannot_follow_is_unknown() {
        for (rules, why) in [
            ("allow guest s.n then set c to x % 4\nnever when c == 2", "narrow it to 256"),
            ("allow guest s.n then start t\nnever when age of t above 2 s", "does not follow times"),
            ("on guest s.m reply when age of t above 1 s then count c\nnever when c == 2", "asks for a time"),
        ] {
            let found = outcome(rules);
            assert!(matches!(&found, Found::Unknown(text) if text.contains(why)), "{rules}: {found:?}");
        }
    }
}
