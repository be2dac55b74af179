//! What can be remembered at all: every state that messages can lead to is visited, breadth first, from the start on, each with all
//! ages that it can have. The rules are taken with less than they ask (no rates, no hours), so that what is not reached here is never
//! reached; what is reached is put to the monitor before anyone is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bulkhead_model::build::word;

use crate::ages::{self, Span, Zone};
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
/// How far apart, in microseconds, the messages of a way are tried.
const APART: [i64; 4] = [0, 1_000_000, 60_000_000, 3_600_000_000];
/// The most ages that run at once, and the most pieces that they are looked at in.
const AGES: usize = 8;
const PIECES: usize = 10_000;

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
    /// A shortest way to one, at the earliest times and at others: the last move is the request that must never be allowed, if one must
    /// not.
    Ways(Vec<Vec<Move>>),
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
        let why = "the search follows ages that are compared with constants, and no hours; say it of states";
        return Found::Unknown(why.to_string());
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
    let cuts = all_cuts(&loose, what);
    for messages in parts(&loose, what, &messages) {
        let (seen, all) = (BTreeMap::new(), Vec::new());
        let mut search = Search { policy: &loose, strict: strict.as_ref(), what, before, cuts: &cuts, seen, all };
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
    // What neither asks for nor changes what is remembered belongs to all.
    let mut free = Vec::new();
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
        match argument.map(|at| words.get(at)) {
            None => free.push(step.clone()),
            Some(Some(value)) => parts.entry(*value).or_default().push(step.clone()),
            Some(None) => return whole(),
        }
    }
    if parts.is_empty() { vec![free] } else { parts.into_values().map(|part| [part, free.clone()].concat()).collect() }
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
            for effect in &body.effects {
                effect.each(&mut |expression| {
                    if is_timed(expression) {
                        doubt = Some("a rule remembers a time in a way that the search does not follow".to_string());
                    }
                });
            }
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

/// Whether an expression asks for a time in a way that the search does not follow.
fn is_timed(expression: &Expression) -> bool {
    !ages::cuts(expression, &mut BTreeMap::new())
}

/// Where the ages of each state object matter.
type Cuts = BTreeMap<u16, BTreeSet<i64>>;

fn all_cuts(policy: &Policy, what: &NeverWhat) -> Cuts {
    let mut all = Cuts::new();
    let mut add = |expression: &Expression| {
        ages::cuts(expression, &mut all);
    };
    let nevers = if let NeverWhat::Call(rule, _) = what { std::slice::from_ref(rule) } else { &[] };
    for body in policy.rules.iter().chain(nevers).flat_map(|rule| &rule.bodies) {
        body.condition.iter().for_each(&mut add);
        body.effects.iter().for_each(|effect| effect.each(&mut add));
    }
    if let NeverWhat::State(condition) = what {
        add(condition);
    }
    all
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

/// What is remembered, every time in it being zero, and whether one of the methods was allowed that must come before.
type State = (Remembered, bool);

/// A state with ages that it can have.
struct Node {
    state: State,
    zone: Zone,
    from: Option<(usize, Step)>,
}

/// What led to it: a message, the spans of ages in which it does, and what it changes.
#[derive(Clone)]
struct Step {
    message: Option<Move>,
    spans: Vec<(Instance, Span)>,
    changed: Vec<Instance>,
}

/// What is remembered at some of a node's ages, and the time then.
struct Piece {
    zone: Zone,
    spans: Vec<(Instance, Span)>,
    remembered: Remembered,
    times: Times,
}

struct Search<'a> {
    policy: &'a Policy,
    /// Without the rules that may be held back, if there are any.
    strict: Option<&'a Policy>,
    what: &'a NeverWhat,
    before: &'a [(u16, u16)],
    cuts: &'a Cuts,
    /// The nodes of each state.
    seen: BTreeMap<State, Vec<usize>>,
    all: Vec<Node>,
}

impl Search<'_> {
    fn run(&mut self, messages: &[Move]) -> Found {
        let mut waiting = VecDeque::new();
        self.enter(Node { state: State::default(), zone: Zone::new(), from: None }, &mut waiting);
        let asked: Vec<BTreeSet<u16>> = messages.iter().map(|message| self.asks_ages(message)).collect();
        while let Some(at) = waiting.pop_front() {
            let mut cut: BTreeMap<&BTreeSet<u16>, Vec<Piece>> = BTreeMap::new();
            if let NeverWhat::State(condition) = self.what {
                let mut states = BTreeSet::new();
                reads(condition, &mut states);
                let Some(pieces) = self.pieces(at, &states) else { return Self::too_many_ages() };
                let is_met = |piece: &Piece| is_so(self.policy, &piece.remembered, piece.times, condition);
                if let Some(piece) = pieces.into_iter().find(is_met) {
                    return self.ways(at, Step { message: None, spans: piece.spans, changed: Vec::new() });
                }
            }
            for (message, asked) in messages.iter().zip(&asked) {
                if !cut.contains_key(asked) {
                    let Some(pieces) = self.pieces(at, asked) else { return Self::too_many_ages() };
                    cut.insert(asked, pieces);
                }
                for piece in cut.get(asked).into_iter().flatten() {
                    if let Some(found) = self.send(at, message, piece, &mut waiting) {
                        return found;
                    }
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

    fn too_many_ages() -> Found {
        Found::Unknown(format!("more than {AGES} ages run at once, or are compared with too much; bound the keys"))
    }

    /// What a message leads to from some of a node's ages.
    fn send(&mut self, at: usize, step: &Move, piece: &Piece, waiting: &mut VecDeque<usize>) -> Option<Found> {
        let Move::Send { subject, object, method, event, words } = step else { return None };
        let message = Message { subject: *subject, object: *object, method: *method, event: *event, words };
        let came_before = self.all.get(at)?.state.1;
        for policy in [Some(self.policy), self.strict].into_iter().flatten() {
            let mut next = piece.remembered.clone();
            let verdict = next.decide(policy, piece.times, &message);
            let is_granted = verdict.reason == bulkhead_model::Reason::Allowed && *event == Event::Request;
            let (spans, changed) = (piece.spans.clone(), verdict.changed);
            let step = Step { message: Some(step.clone()), spans, changed };
            if is_granted && !came_before && self.is_forbidden(piece, &message) {
                return Some(self.ways(at, step));
            }
            if step.changed.is_empty() && !is_granted {
                continue;
            }
            let came = is_granted && self.before.contains(&(*object, *method));
            let old = self.clocks(&piece.remembered);
            let keeps = |clock: &Instance| old.iter().position(|known| known == clock && !step.changed.contains(clock));
            let clocks: Vec<Option<usize>> = self.clocks(&next).iter().map(keeps).collect();
            let zone = piece.zone.of(&clocks);
            self.enter(Node { state: (next, came_before || came), zone, from: Some((at, step)) }, waiting);
        }
        None
    }

    /// A node, with all the ages that come by waiting; unless it is among those that are known.
    fn enter(&mut self, mut node: Node, waiting: &mut VecDeque<usize>) {
        let policy = self.policy;
        node.state.0.0.retain(|(state, _), memory| {
            if let Memory::Flow(_, Some(time), _) | Memory::Timer(Some(time)) = memory {
                *time = 0;
            }
            policy.states.get(usize::from(*state)).is_none_or(|state| state.beginning() != *memory)
        });
        let clocks = self.clocks(&node.state.0);
        let largest = |clock: &Instance| self.cuts_of(clock, &node.state.0).last().copied().unwrap_or(0);
        let largest: Vec<i64> = clocks.iter().map(largest).collect();
        node.zone.pass();
        node.zone.widen(&largest);
        let known = self.seen.entry(node.state.clone()).or_default();
        let is_known = known.iter().filter_map(|&at| self.all.get(at)).any(|known| known.zone.holds(&node.zone));
        if !is_known {
            known.push(self.all.len());
            waiting.push_back(self.all.len());
            self.all.push(node);
        }
    }

    /// The instances whose ages matter: of which one is asked for, and flows in a state that lasts.
    fn clocks(&self, remembered: &Remembered) -> Vec<Instance> {
        let matters = |(instance, memory): &(&Instance, &Memory)| {
            matches!(memory, Memory::Flow(_, Some(_), _) | Memory::Timer(Some(_)))
                && !self.cuts_of(instance, remembered).is_empty()
        };
        remembered.0.iter().filter(matters).map(|(instance, _)| instance.clone()).collect()
    }

    /// Where the age of an instance matters, in what it remembers now.
    fn cuts_of(&self, instance: &Instance, remembered: &Remembered) -> Vec<i64> {
        let asked = self.cuts.get(&instance.0).cloned().unwrap_or_default();
        let kind = self.policy.states.get(usize::from(instance.0)).map(|state| &state.kind);
        let lasts = match (kind, remembered.0.get(instance)) {
            (Some(StateKind::Flow { states, .. }), Some(Memory::Flow(at, ..))) => {
                states.get(usize::from(*at)).and_then(|state| state.lasts)
            }
            _ => None,
        };
        // A state is over after more than it lasts, and the next one's age begins there.
        let Some(lasts) = lasts.and_then(|(time, _)| i64::try_from(time).ok()) else {
            return asked.into_iter().collect();
        };
        let later = asked.iter().map(|cut| cut + lasts);
        let all: BTreeSet<i64> = asked.iter().copied().chain(later).chain([lasts + 1]).collect();
        all.into_iter().collect()
    }

    /// The state objects whose ages a message is judged by.
    fn asks_ages(&self, message: &Move) -> BTreeSet<u16> {
        let Move::Send { subject, object, method, event, .. } = message else { return BTreeSet::new() };
        let nevers = if let NeverWhat::Call(rule, _) = self.what { std::slice::from_ref(rule) } else { &[] };
        let rules = self.policy.rules.iter().chain(self.strict.iter().flat_map(|policy| &policy.rules)).chain(nevers);
        let bodies = rules.flat_map(|rule| rule.bodies_for(*subject, *object, *method, *event));
        bodies.flat_map(places).map(|place| place.state).collect()
    }

    /// A node cut into pieces in which all comparisons of some state objects' ages have one outcome. `None`: there are too many.
    fn pieces(&self, at: usize, states: &BTreeSet<u16>) -> Option<Vec<Piece>> {
        let node = self.all.get(at)?;
        let clocks = self.clocks(&node.state.0);
        let asked = clocks.iter().enumerate().filter(|(_, clock)| states.contains(&clock.0));
        let cuts: Vec<(usize, Vec<i64>)> = asked.map(|(at, clock)| (at, self.cuts_of(clock, &node.state.0))).collect();
        let count = cuts.iter().fold(1_usize, |count, (_, cuts)| count.saturating_mul(cuts.len() + 1));
        if clocks.len() > AGES || count > PIECES {
            return None;
        }
        let piece = |(zone, spans): (Zone, Vec<(usize, Span)>)| {
            let ages = zone.example();
            let now = ages.iter().copied().max().unwrap_or(0).cast_unsigned();
            let mut remembered = node.state.0.clone();
            for (clock, age) in clocks.iter().zip(ages) {
                if let Some(Memory::Flow(_, Some(time), _) | Memory::Timer(Some(time))) = remembered.0.get_mut(clock) {
                    *time = now.saturating_sub(age.cast_unsigned());
                }
            }
            let spans =
                spans.into_iter().filter_map(|(clock, span)| Some((clocks.get(clock)?.clone(), span))).collect();
            Piece { zone, spans, remembered, times: Times { microseconds: Some(now), local_seconds: None } }
        };
        Some(node.zone.pieces(&cuts).into_iter().map(piece).collect())
    }

    fn is_forbidden(&self, piece: &Piece, message: &Message<'_>) -> bool {
        let NeverWhat::Call(rule, _) = self.what else { return false };
        let mut bodies = rule.bodies_for(message.subject, message.object, message.method, Event::Request);
        bodies.any(|body| piece.remembered.matches(self.policy, piece.times, message, body) == Ok(true))
    }

    /// The way to a node and a step from there: as early as can be, and, for rates that the search does not follow, more and more
    /// slowly.
    fn ways(&self, mut at: usize, last: Step) -> Found {
        let mut steps = vec![last];
        while let Some(Node { from: Some((from, step)), .. }) = self.all.get(at) {
            steps.push(step.clone());
            at = *from;
        }
        steps.reverse();
        let moments: Vec<ages::Moment<'_>> =
            steps.iter().map(|step| (step.spans.as_slice(), step.changed.as_slice())).collect();
        let way = |apart: i64| {
            let times = ages::times(&moments, apart)?;
            let mut way = Vec::new();
            let mut now = 0;
            for (step, time) in steps.iter().zip(times) {
                let wait = u64::try_from(time - now).unwrap_or(0);
                way.extend((wait > 0).then_some(Move::Wait(wait)));
                way.extend(step.message.clone());
                now = time;
            }
            Some(way)
        };
        let mut ways: Vec<Vec<Move>> = APART.iter().filter_map(|&apart| way(apart)).collect();
        ways.dedup();
        if ways.is_empty() {
            return Found::Unknown("it may be reached, at times that the search does not find".to_string());
        }
        Found::Ways(ways)
    }
}

#[cfg(test)]
mod tests;
