//! Expressions as written to expressions as meant: names are found, numbers take the unit and the step of what they are
//! compared with, and kinds that do not fit are refused.

use crate::check::Checker;
use crate::diagnostic::Span;
use crate::policy::{EVERY, Effect, Expression, Field, Kind, Place, StateKind, Values};
use crate::tree::{self, Constant, Name, Number, Operator};

mod spans;
mod words;

use words::{is_counted, same_text, text_at};

/// Times, in microseconds.
const TIMES: [(&str, i128); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("min", 60_000_000), ("h", 3_600_000_000), ("day", 86_400_000_000)];

/// An expression and its kind; `None` after an error was reported.
type Typed = Option<(Expression, Kind)>;

/// What the names of an expression may mean.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s> {
    /// The message's fields.
    pub(crate) fields: &'s [Field],
    /// An element of a list that `for` gives a name, with its path.
    pub(crate) element: Option<(&'s str, &'s str)>,
}

impl Scope<'_> {
    /// The path of a field: `speed`, `point.x`, `values[0]`; of what `for` names, that of the element.
    fn path(&self, expression: &tree::Expression) -> Option<String> {
        match expression {
            tree::Expression::Word(name) => {
                let element = self.element.filter(|(known, _)| *known == name.text);
                Some(element.map_or_else(|| name.text.clone(), |(_, path)| path.to_string()))
            }
            tree::Expression::Value(inner, name) => Some(format!("{}.{}", self.path(inner)?, name.text)),
            tree::Expression::Element(inner, at, _) => Some(format!("{}[{at}]", self.path(inner)?)),
            _ => None,
        }
    }

    /// The word that an expression names, if it names one.
    fn at(&self, expression: &tree::Expression) -> Option<usize> {
        let path = self.path(expression)?;
        self.fields.iter().position(|field| field.name == path)
    }
}

impl Checker<'_> {
    /// A condition: an expression that is true or false.
    pub(crate) fn condition(&mut self, scope: Scope<'_>, expression: &tree::Expression) -> Option<Expression> {
        let (typed, kind) = self.typed(scope, expression, None)?;
        if !kind.is_truth() {
            let help = "compare it: `== 5`, `in 1..5`, `above 3`";
            self.error(expression.span(), "this is a number, and a condition is needed", help);
            return None;
        }
        Some(typed)
    }

    /// A constant of a kind, as it travels.
    pub(crate) fn constant(&mut self, constant: &Constant, kind: &Kind, name: &str) -> Option<i128> {
        let value = match constant {
            Constant::Number(number) => self.number(number, kind)?,
            Constant::Word(word) => match kind.words.iter().position(|known| *known == word.text) {
                Some(at) => i128::try_from(at).ok()?,
                None => match self.named_number(&word.text) {
                    Some(number) => self.number(&number, kind)?,
                    None => {
                        let words = kind.words.clone();
                        self.unknown(word, &format!("value of `{name}` called"), words.iter().map(String::as_str));
                        return None;
                    }
                },
            },
        };
        let (low, high) = kind.values;
        if (low..=high).contains(&value) {
            return Some(value);
        }
        let message = format!("`{name}` is never {}", kind.show(value));
        self.error(constant.span(), message, format!("its values are {}..{}", kind.show(low), kind.show(high)));
        None
    }

    /// A range of constants of a kind; one that is empty is an error.
    pub(crate) fn range(&mut self, (low, high): &(Constant, Constant), kind: &Kind, name: &str) -> Option<Values> {
        let (start, end) = (self.constant(low, kind, name), self.constant(high, kind, name));
        let (start, end) = (start?, end?);
        if start > end {
            let help = format!("write {}..{}", kind.show(end), kind.show(start));
            self.error(low.span().to(high.span()), "this range is empty", help);
            return None;
        }
        Some((start, end))
    }

    /// A written number as a value of a kind: its unit must be the kind's, and it must be a whole number of steps.
    pub(crate) fn number(&mut self, number: &Number, kind: &Kind) -> Option<i128> {
        let Number { digits, decimals, unit, span } = number;
        let (step, power) = kind.step;
        let is_time = *kind == Kind::time();
        let mut factor = 1;
        if let Some(unit) = unit {
            let time = TIMES.iter().find(|(name, _)| *name == unit.text).filter(|_| is_time);
            match time {
                // Microseconds of the unit; the step of time is one.
                Some((_, microseconds)) => factor = *microseconds,
                None if unit.text == kind.unit && !is_time => {}
                None => {
                    let help = match (is_time, kind.unit.is_empty()) {
                        (true, _) => "write a time: us, ms, s, min, h, day".to_string(),
                        (_, true) => "leave the unit away".to_string(),
                        _ => format!("write it in {}", kind.unit),
                    };
                    self.error(unit.span, format!("`{}` is not the unit that is needed here", unit.text), help);
                    return None;
                }
            }
        } else if is_time && *digits != 0 {
            self.error(*span, "this time has no unit", "write us, ms, s, min, h or day after it");
            return None;
        }
        let ten = |exponent: u32| 10_i128.checked_pow(exponent);
        let scaled = if is_time { digits.checked_mul(factor)? } else { digits.checked_mul(ten(power)?)? };
        let divisor = ten((*decimals).into())?.checked_mul(if is_time { 1 } else { step })?;
        if scaled % divisor != 0 {
            let message = format!("this is no whole number of steps of {}", kind.show(1));
            self.error(
                *span,
                message,
                format!("write {} or {}", kind.show(scaled / divisor), kind.show(scaled / divisor + 1)),
            );
            return None;
        }
        Some(scaled / divisor)
    }

    /// Whether an expression takes the kind of what it stands beside: a number, a word that is a constant, or a value that is
    /// remembered as it travelled.
    fn takes_kind(&self, scope: Scope<'_>, expression: &tree::Expression) -> bool {
        match expression {
            tree::Expression::Value(..) => scope.at(expression).is_none(),
            tree::Expression::Number(_) | tree::Expression::Text(..) | tree::Expression::Of(..) => true,
            tree::Expression::Word(name) => scope.at(expression).is_none() && self.state(&name.text).is_none(),
            _ => false,
        }
    }

    fn pair(
        &mut self,
        scope: Scope<'_>,
        left: &tree::Expression,
        right: &tree::Expression,
    ) -> Option<(Expression, Expression, Kind)> {
        let (first, second) = if self.takes_kind(scope, left) { (right, left) } else { (left, right) };
        let (one, kind) = self.typed(scope, first, None)?;
        let (other, other_kind) = self.typed(scope, second, Some(&kind))?;
        if !kind.is_like(&other_kind) {
            let help = "compare and add values of one kind: the same unit, step and words";
            self.error(first.span().to(second.span()), "these two are not of the same kind", help);
            return None;
        }
        Some(if std::ptr::eq(first, left) { (one, other, kind) } else { (other, one, kind) })
    }

    fn typed(&mut self, scope: Scope<'_>, expression: &tree::Expression, expected: Option<&Kind>) -> Typed {
        use tree::Expression as Tree;
        let every = Kind::plain(EVERY);
        if let Some(at) = scope.at(expression) {
            return self.value_of(scope, at, expression.span());
        }
        match expression {
            Tree::Number(number) => {
                let kind = expected.cloned().unwrap_or(every);
                let value = self.number(number, &kind)?;
                Some((Expression::Number(value), kind))
            }
            Tree::Word(name) => self.word(scope, name, expected),
            Tree::Keyed(name, ..) => {
                let place = self.place(scope, expression)?;
                self.read(place, name)
            }
            Tree::Value(inner, value) => {
                let place = self.place(scope, inner)?;
                let state = self.policy.states.get(usize::from(place.state))?;
                let known = if let StateKind::Flow { values, .. } = &state.kind { values.clone() } else { Vec::new() };
                let Some(at) = known.iter().position(|known| *known == value.text) else {
                    self.unknown(value, "held value called", known.iter().map(String::as_str));
                    return None;
                };
                Some((Expression::Holds(place, u8::try_from(at).ok()?), expected.cloned().unwrap_or(every)))
            }
            Tree::Of(key, map) => {
                let place = self.place_of(scope, map, |kind| matches!(kind, StateKind::Map(_)), "map")?;
                let key = self.whole(scope, key)?;
                Some((Expression::Lookup(place, Box::new(key)), expected.cloned().unwrap_or(every)))
            }
            Tree::Age(inner) => {
                let is_timed = |kind: &StateKind| matches!(kind, StateKind::Flow { .. } | StateKind::Timer);
                let place = self.place_of(scope, inner, is_timed, "flow or timer")?;
                Some((Expression::Age(place), Kind::time()))
            }
            Tree::Caller(_) => {
                let words = self.policy.subjects.clone();
                Some((Expression::Caller, Kind { words, ..Kind::plain((0, 0xffff)) }))
            }
            Tree::TimeOfDay(span) => {
                self.needs_zone(*span)?;
                Some((Expression::TimeOfDay, Kind::time()))
            }
            Tree::DayOfWeek(span) => {
                self.needs_zone(*span)?;
                Some((Expression::DayOfWeek, Kind::plain((1, 7))))
            }
            Tree::Not(inner) => Some((Expression::Not(Box::new(self.condition(scope, inner)?)), Kind::truth())),
            Tree::Negative(inner, _) => {
                let (inner, kind) = self.typed(scope, inner, None)?;
                let zero = Box::new(Expression::Number(0));
                Some((Expression::Binary(Operator::Subtract, zero, Box::new(inner)), Kind { values: EVERY, ..kind }))
            }
            Tree::Binary(operator, left, right) => self.binary(scope, *operator, left, right),
            Tree::In(inner, set) => self.within(scope, inner, set),
            Tree::Several(first, count, set) => self.span(scope, first, count, set),
            Tree::Text(_, span) => {
                self.error(*span, "a text is no number", "compare a text field with it");
                None
            }
            Tree::Length(inner, span) => {
                let Some(at) = scope.at(inner).filter(|&at| is_counted(scope, at)) else {
                    self.error(*span, "only a text or a list has a length", "name a field of such a type");
                    return None;
                };
                Some((Expression::Argument(at), scope.fields.get(at)?.kind.clone()))
            }
            Tree::Element(inner, ..) => {
                let help = "the first element is 0; `for all x in LIST: …` asks all of them";
                self.error(inner.span(), "there is no such element", help);
                None
            }
            Tree::Has(inner, flag) => {
                let (typed, kind) = self.typed(scope, inner, None)?;
                let bit = Expression::Number(self.flag(&kind, flag)?);
                let masked = Expression::Binary(Operator::BitAnd, Box::new(typed), Box::new(bit));
                Some((
                    Expression::Binary(Operator::Unequal, Box::new(masked), Box::new(Expression::Number(0))),
                    Kind::truth(),
                ))
            }
            Tree::Like(inner, like, text, span) => {
                let Some((at, is_bytes)) = scope.at(inner).and_then(|at| text_at(scope, at)) else {
                    self.error(inner.span(), "only a text has a beginning and an end", "name a field of type `text`");
                    return None;
                };
                Some((self.like(scope, at, is_bytes, *like, text, *span)?, Kind::truth()))
            }
            Tree::For(is_all, name, list, condition) => self.each(scope, *is_all, name, list, condition),
            Tree::Is(inner, state)
                if state.text == "present" && scope.path(inner).is_some_and(|path| self.state(&path).is_none()) =>
            {
                let path = scope.path(inner).unwrap_or_default() + " is present";
                let Some(at) = scope.fields.iter().position(|field| field.name == path) else {
                    self.error(inner.span(), "only an optional field may be absent", "leave `is present` away");
                    return None;
                };
                Some((Expression::Argument(at), Kind::truth()))
            }
            Tree::Is(inner, state) => {
                let place = self.place_of(scope, inner, |kind| matches!(kind, StateKind::Flow { .. }), "flow")?;
                let state = self.flow_state(&place, state)?;
                Some((Expression::IsIn(place, state), Kind::truth()))
            }
        }
    }

    /// An hour is one of a zone.
    fn needs_zone(&mut self, span: Span) -> Option<()> {
        if self.policy.zone.is_none() {
            self.error(span, "the policy states no zone, and hours differ", "write `zone UTC`, or `zone UTC + 1 h`");
        }
        self.policy.zone.map(|_| ())
    }

    fn binary(
        &mut self,
        scope: Scope<'_>,
        operator: Operator,
        left: &tree::Expression,
        right: &tree::Expression,
    ) -> Typed {
        let truth = |expression| Some((expression, Kind::truth()));
        if let Operator::Equal | Operator::Unequal = operator {
            let texts = [(left, right), (right, left)].map(|(one, other)| {
                let field = scope.at(one).and_then(|at| text_at(scope, at));
                field.map(|field| (field, other))
            });
            let same = match texts {
                [Some((field, _)), Some((other, _))] => Some(same_text(scope, field, other)),
                [Some((field, tree::Expression::Text(text, span))), None]
                | [None, Some((field, tree::Expression::Text(text, span)))] => {
                    Some(self.is_text(scope, field, text, *span)?)
                }
                _ => None,
            };
            if let Some(same) = same {
                return truth(if operator == Operator::Equal { same } else { Expression::Not(Box::new(same)) });
            }
        }
        match operator {
            Operator::And | Operator::Or | Operator::Implies => {
                let (left, right) = (self.condition(scope, left), self.condition(scope, right));
                let (left, right) = (Box::new(left?), Box::new(right?));
                truth(match operator {
                    Operator::And => Expression::And(left, right),
                    Operator::Or => Expression::Or(left, right),
                    _ => Expression::Or(Box::new(Expression::Not(left)), right),
                })
            }
            Operator::Equal
            | Operator::Unequal
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => {
                let (one, other, kind) = self.pair(scope, left, right)?;
                for (side, against, span) in [(&one, &other, left.span()), (&other, &one, right.span())] {
                    self.is_possible(side, against, &kind, scope, span)?;
                }
                truth(Expression::Binary(operator, Box::new(one), Box::new(other)))
            }
            Operator::Add | Operator::Subtract => {
                let (one, other, kind) = self.pair(scope, left, right)?;
                Some((Expression::Binary(operator, Box::new(one), Box::new(other)), Kind { values: EVERY, ..kind }))
            }
            _ => {
                let (one, kind) = self.typed(scope, left, None)?;
                let other = self.whole(scope, right)?;
                Some((Expression::Binary(operator, Box::new(one), Box::new(other)), Kind { values: EVERY, ..kind }))
            }
        }
    }

    /// A constant that the argument beside it never has is a mistake.
    fn is_possible(
        &mut self,
        side: &Expression,
        against: &Expression,
        kind: &Kind,
        scope: Scope<'_>,
        span: Span,
    ) -> Option<()> {
        let (Expression::Number(value), Expression::Argument(at)) = (side, against) else { return Some(()) };
        let field = scope.fields.get(*at)?;
        let (low, high) = field.range;
        if (low..=high).contains(value) {
            return Some(());
        }
        let message = format!("`{}` is never {}", field.name, kind.show(*value));
        self.error(span, message, format!("its values are {}..{}", kind.show(low), kind.show(high)));
        None
    }

    /// A number without unit or words.
    fn whole(&mut self, scope: Scope<'_>, expression: &tree::Expression) -> Option<Expression> {
        let plain = Kind::plain(EVERY);
        let (typed, kind) = self.typed(scope, expression, Some(&plain))?;
        if kind.step != plain.step || !kind.unit.is_empty() {
            self.error(expression.span(), "a plain number is needed here", "this one has a unit or a step");
            return None;
        }
        Some(typed)
    }

    fn word(&mut self, scope: Scope<'_>, name: &Name, expected: Option<&Kind>) -> Typed {
        if self.state(&name.text).is_some() {
            let place = self.place(scope, &tree::Expression::Word(name.clone()))?;
            return self.read(place, name);
        }
        if let Some(at) = expected.and_then(|kind| kind.words.iter().position(|known| *known == name.text)) {
            return Some((Expression::Number(at.try_into().ok()?), expected.cloned()?));
        }
        if name.text == "true" || name.text == "false" {
            return Some((Expression::Number((name.text == "true").into()), Kind::truth()));
        }
        if let Some(number) = self.named_number(&name.text) {
            let kind = expected.cloned().unwrap_or(Kind::plain(EVERY));
            return Some((Expression::Number(self.number(&number, &kind)?), kind));
        }
        if let Some(kind) = expected.filter(|kind| !kind.words.is_empty()) {
            let words = kind.words.clone();
            self.unknown(name, "value called", words.iter().map(String::as_str));
            return None;
        }
        let states: Vec<String> = self.policy.states.iter().map(|state| state.name.clone()).collect();
        let known = scope.fields.iter().map(|field| field.name.as_str()).chain(states.iter().map(String::as_str));
        self.unknown(name, "argument or state", known);
        None
    }

    /// What a state object is when it stands for a value.
    fn read(&mut self, place: Place, name: &Name) -> Typed {
        let state = self.policy.states.get(usize::from(place.state))?;
        match &state.kind {
            StateKind::Counter { range, .. } => {
                let kind = Kind::plain(*range);
                Some((Expression::Count(place), kind))
            }
            _ => {
                let help = "a flow: `is STATE`; a timer: `age of NAME`; a set: `X in NAME`; a map: `KEY of NAME`; a rate: `within NAME`";
                self.error(name.span, format!("`{}` is no number", name.text), help);
                None
            }
        }
    }

    fn within(&mut self, scope: Scope<'_>, inner: &tree::Expression, set: &tree::Set) -> Typed {
        let truth = |expression| Some((expression, Kind::truth()));
        let named = match set {
            tree::Set::Ranges(ranges) => Some(ranges.clone()),
            tree::Set::Texts(texts) => {
                let Some(field) = scope.at(inner).and_then(|at| text_at(scope, at)) else {
                    self.error(inner.span(), "this is no text", "name a field of type `text`");
                    return None;
                };
                let mut all: Vec<Expression> = Vec::new();
                for (text, span) in texts {
                    all.push(self.is_text(scope, field, text, *span)?);
                }
                let any = all.into_iter().reduce(|one, other| Expression::Or(Box::new(one), Box::new(other)));
                return truth(any?);
            }
            tree::Set::Named(name) => match name.as_ref() {
                tree::Expression::Word(name) => self.named_set(&name.text),
                _ => None,
            },
        };
        let Some(ranges) = named else {
            let tree::Set::Named(name) = set else { return None };
            if let tree::Expression::Word(name) | tree::Expression::Keyed(name, ..) = name.as_ref()
                && self.state(&name.text).is_none()
            {
                let sets: Vec<String> = self.sets.iter().map(|(name, _)| name.clone()).collect();
                let states = self.policy.states.iter().map(|state| state.name.clone());
                let known: Vec<String> = sets.into_iter().chain(states).collect();
                self.unknown(name, "set", known.iter().map(String::as_str));
                return None;
            }
            let place =
                self.place_of(scope, name, |kind| matches!(kind, StateKind::Set(_) | StateKind::Map(_)), "set or map")?;
            let inner = self.whole_or_words(scope, inner)?;
            return truth(Expression::Contains(place, Box::new(inner)));
        };
        let (typed, kind) = self.typed(scope, inner, None)?;
        let what = match &typed {
            Expression::Argument(at) => scope.fields.get(*at).map(|field| field.name.clone()),
            _ => None,
        };
        let what = what.unwrap_or_else(|| "this".to_string());
        let ranges: Vec<Option<Values>> = ranges.iter().map(|range| self.range(range, &kind, &what)).collect();
        let ranges: Vec<Values> = ranges.into_iter().collect::<Option<_>>()?;
        truth(Expression::Within(Box::new(typed), crate::normal::union(ranges)))
    }

    /// What a set remembers: any value, as it travels.
    fn whole_or_words(&mut self, scope: Scope<'_>, expression: &tree::Expression) -> Option<Expression> {
        self.typed(scope, expression, Some(&Kind::plain(EVERY))).map(|(typed, _)| typed)
    }

    /// The instance that `NAME` or `NAME(KEYS)` names. The caller is never written.
    pub(crate) fn place(&mut self, scope: Scope<'_>, reference: &tree::Expression) -> Option<Place> {
        let (name, keys): (&Name, &[tree::Expression]) = match reference {
            tree::Expression::Word(name) => (name, &[]),
            tree::Expression::Keyed(name, keys, _) => (name, keys),
            other => {
                self.error(other.span(), "expected a state object", "write NAME or NAME(KEY)");
                return None;
            }
        };
        let Some(number) = self.state(&name.text) else {
            let known: Vec<String> = self.policy.states.iter().map(|state| state.name.clone()).collect();
            self.unknown(name, "state object", known.iter().map(String::as_str));
            return None;
        };
        let wanted = self.policy.states.get(usize::from(number))?.keys.clone();
        let written = wanted.iter().filter(|key| key.name != "caller").count();
        if written != keys.len() {
            let names: Vec<&str> =
                wanted.iter().map(|key| key.name.as_str()).filter(|name| *name != "caller").collect();
            let help = if names.is_empty() {
                format!("write `{}`", name.text)
            } else {
                format!("write `{}({})`", name.text, names.join(", "))
            };
            self.error(reference.span(), format!("`{}` has {written} keys", name.text), help);
            return None;
        }
        let mut rest = keys.iter();
        let mut all = Vec::new();
        for key in &wanted {
            all.push(if key.name == "caller" { Expression::Caller } else { self.whole_or_words(scope, rest.next()?)? });
        }
        Some(Place { state: number, keys: all })
    }

    fn place_of(
        &mut self,
        scope: Scope<'_>,
        reference: &tree::Expression,
        is_meant: fn(&StateKind) -> bool,
        what: &str,
    ) -> Option<Place> {
        let place = self.place(scope, reference)?;
        let state = self.policy.states.get(usize::from(place.state))?;
        if is_meant(&state.kind) {
            return Some(place);
        }
        let message = format!("`{}` is no {what}", state.name);
        self.error(reference.span(), message, format!("name a {what} here"));
        None
    }

    fn flow_state(&mut self, place: &Place, name: &Name) -> Option<u8> {
        let state = self.policy.states.get(usize::from(place.state))?;
        let StateKind::Flow { states, .. } = &state.kind else { return None };
        let known: Vec<String> = states.iter().map(|state| state.name.clone()).collect();
        let found = known.iter().position(|known| *known == name.text).and_then(|at| u8::try_from(at).ok());
        if found.is_none() {
            let what = format!("state of `{}` called", state.name.clone());
            self.unknown(name, &what, known.iter().map(String::as_str));
        }
        found
    }

    /// A rate that `within` names.
    pub(crate) fn rate(&mut self, scope: Scope<'_>, reference: &tree::Expression) -> Option<Place> {
        self.place_of(scope, reference, |kind| matches!(kind, StateKind::Rate { .. }), "rate")
    }

    /// A grant that `using` names: whether it is given, and that it is used up.
    pub(crate) fn grant(&mut self, scope: Scope<'_>, reference: &tree::Expression) -> Option<(Expression, Effect)> {
        let place = self.grant_place(scope, reference)?;
        Some((Expression::IsIn(place.clone(), 1), Effect::Become(place, 0, Vec::new())))
    }

    fn grant_place(&mut self, scope: Scope<'_>, reference: &tree::Expression) -> Option<Place> {
        let is_grant = |kind: &StateKind| matches!(kind, StateKind::Flow { states, .. } if states.get(1).is_some_and(|state| state.name == crate::states::GIVEN));
        self.place_of(scope, reference, is_grant, "grant")
    }

    /// What a rule remembers.
    pub(crate) fn effect(&mut self, scope: Scope<'_>, effect: &tree::Effect) -> Option<Effect> {
        use tree::Effect as Tree;
        let is_counter = |kind: &StateKind| matches!(kind, StateKind::Counter { .. });
        let is_set = |kind: &StateKind| matches!(kind, StateKind::Set(_));
        let is_map = |kind: &StateKind| matches!(kind, StateKind::Map(_));
        let holds_keys = |kind: &StateKind| matches!(kind, StateKind::Map(_) | StateKind::Set(_));
        let takes_more = |kind: &StateKind| matches!(kind, StateKind::Counter { .. } | StateKind::Set(_));
        let has_start = |kind: &StateKind| !matches!(kind, StateKind::Rate { .. });
        Some(match effect {
            Tree::Set(counter, value) => {
                let place = self.place_of(scope, counter, is_counter, "counter")?;
                Effect::Set(place, self.whole_or_words(scope, value)?)
            }
            Tree::Add(value, target) => {
                let place = self.place_of(scope, target, takes_more, "counter or set")?;
                let value = self.whole_or_words(scope, value)?;
                let state = self.policy.states.get(usize::from(place.state))?;
                if is_set(&state.kind) { Effect::Insert(place, value) } else { Effect::Increase(place, value) }
            }
            Tree::Remove(value, target) => {
                let place = self.place_of(scope, target, holds_keys, "set or map")?;
                Effect::Remove(place, self.whole_or_words(scope, value)?)
            }
            Tree::Put(value, key, map) => {
                let place = self.place_of(scope, map, is_map, "map")?;
                Effect::Put(place, self.whole_or_words(scope, key)?, self.whole_or_words(scope, value)?)
            }
            Tree::Start(timer) => {
                Effect::Start(self.place_of(scope, timer, |kind| *kind == StateKind::Timer, "timer")?)
            }
            Tree::Reset(state) => {
                Effect::Reset(self.place_of(scope, state, has_start, "counter, flow, timer, set or map")?)
            }
            Tree::ResetAll(name) => {
                let Some(state) = self.state(&name.text) else {
                    let known: Vec<String> = self.policy.states.iter().map(|state| state.name.clone()).collect();
                    self.unknown(name, "state object", known.iter().map(String::as_str));
                    return None;
                };
                Effect::ResetAll(state)
            }
            Tree::Commit(map) => Effect::Commit(self.place_of(scope, map, is_map, "map")?),
            Tree::RollBack(map) => Effect::RollBack(self.place_of(scope, map, is_map, "map")?),
            Tree::Give(grant) => Effect::Become(self.grant_place(scope, grant)?, 1, Vec::new()),
            Tree::Become(flow, next, values) => {
                let place = self.place_of(scope, flow, |kind| matches!(kind, StateKind::Flow { .. }), "flow")?;
                let next_state = self.flow_state(&place, next)?;
                let StateKind::Flow { states, values: all } = &self.policy.states.get(usize::from(place.state))?.kind
                else {
                    return None;
                };
                let held = states.get(usize::from(next_state))?.holds.clone();
                let count = all.len();
                if held.len() != values.len() {
                    let names: Vec<String> = held.iter().filter_map(|at| all.get(usize::from(*at)).cloned()).collect();
                    let help = if names.is_empty() {
                        format!("write `becomes {}`", next.text)
                    } else {
                        format!("write `becomes {}({})`", next.text, names.join(", "))
                    };
                    self.error(next.span, format!("`{}` holds {} values", next.text, held.len()), help);
                    return None;
                }
                let mut slots = vec![None; count];
                for (at, value) in held.iter().zip(values) {
                    *slots.get_mut(usize::from(*at))? = Some(self.whole_or_words(scope, value)?);
                }
                Effect::Become(place, next_state, slots)
            }
        })
    }

    /// A time in microseconds.
    pub(crate) fn time(&mut self, number: &Number) -> Option<u64> {
        let value = self.number(number, &Kind::time())?;
        let time = u64::try_from(value).ok().filter(|time| *time > 0 && *time <= 366 * 86_400_000_000);
        if time.is_none() {
            self.error(number.span, "this time is zero or longer than a year", "write a time such as 10 s, 5 min, 8 h");
        }
        time
    }
}
