//! What a policy remembers: its declarations, with how many there are of each and how much memory that takes.

use bulkhead_model::code;

use crate::check::Checker;
use crate::policy::{FlowState, Key, Kind, State, StateKind};
use crate::tree::{self, FlowLine, Item, Limit, Name};

/// The second state of a grant.
pub(crate) const GIVEN: &str = "given";
/// The most calls of a window, and values of a set.
const MANY: i128 = 64;

impl Checker<'_> {
    /// All state objects of the files.
    pub(crate) fn states(&mut self, items: &[Item]) {
        for item in items {
            let Item::State(state) = item else { continue };
            if self.state(&state.name.text).is_some() {
                self.twice(&state.name);
            }
            let keys = self.keys(state);
            let kind = self.state_kind(state);
            if let Some((keys, kind)) = keys.zip(kind) {
                self.policy.states.push(State { name: state.name.text.clone(), keys, kind, span: state.span });
            }
        }
        self.measure();
    }

    /// The number of a state object.
    pub(crate) fn state(&self, name: &str) -> Option<u16> {
        self.policy.states.iter().position(|state| state.name == name).and_then(|at| u16::try_from(at).ok())
    }

    /// A rate that a rule has for itself.
    pub(crate) fn own_rate(&mut self, limit: &Limit) -> Option<u16> {
        let kind = self.limit(limit)?;
        let line = self.policy.states.len();
        self.policy.states.push(State { name: format!("rate#{line}"), keys: Vec::new(), kind, span: limit.span });
        u16::try_from(line).ok()
    }

    /// Refuses more state than a monitor has room for.
    pub(crate) fn measure(&mut self) {
        let mut words = 0;
        for state in self.policy.states.clone() {
            words += state.instances() * u64::from(state.words());
            if words > code::STATE_WORDS as u64 {
                let message = format!("with this the policy remembers more than {} words", code::STATE_WORDS);
                self.error(state.span, message, "name fewer keys, or smaller sets, maps and windows");
                return;
            }
        }
    }

    fn keys(&mut self, state: &tree::State) -> Option<Vec<Key>> {
        if state.keys.len() > code::KEYS {
            self.error(state.span, "a state object has at most two keys", "leave one away");
            return None;
        }
        let mut all = Vec::new();
        for key in &state.keys {
            all.push(match key {
                tree::Key::Caller(_) => {
                    let last = i128::try_from(self.policy.subjects.len()).ok()? - 1;
                    Key { name: "caller".to_string(), values: (0, last) }
                }
                tree::Key::Values(name, range) => {
                    let whole = Kind::plain((i64::MIN.into(), i64::MAX.into()));
                    let values = self.range(range, &whole, &name.text)?;
                    if values.1 - values.0 >= i128::try_from(code::STATE_WORDS).ok()? {
                        self.error(range.0.span().to(range.1.span()), "these are too many", "name at most 4096 keys");
                        return None;
                    }
                    Key { name: name.text.clone(), values }
                }
            });
        }
        Some(all)
    }

    fn state_kind(&mut self, state: &tree::State) -> Option<StateKind> {
        Some(match &state.kind {
            tree::StateKind::Timer => StateKind::Timer,
            tree::StateKind::Set(most) => StateKind::Set(self.size(state, *most)?),
            tree::StateKind::Map(most) => StateKind::Map(self.size(state, *most)?),
            tree::StateKind::Rate(limit) => self.limit(limit)?,
            tree::StateKind::Grant(time) => {
                let lasts = Some((self.time(time)?, 0));
                let none = FlowState { name: "none".to_string(), successors: vec![1], ..FlowState::default() };
                let given =
                    FlowState { name: GIVEN.to_string(), successors: vec![0, 1], lasts, ..FlowState::default() };
                StateKind::Flow { states: vec![none, given], values: Vec::new() }
            }
            tree::StateKind::Counter { range, start } => {
                let whole = Kind::plain((i64::MIN.into(), i64::MAX.into()));
                let range = self.range(range, &whole, &state.name.text)?;
                let given = match start {
                    Some(number) => self.number(number, &whole)?,
                    None => 0.clamp(range.0, range.1),
                };
                if !(range.0..=range.1).contains(&given) {
                    self.error(
                        state.span,
                        "this counter starts outside its range",
                        format!("start it in {}..{}", range.0, range.1),
                    );
                    return None;
                }
                StateKind::Counter { range, start: given }
            }
            tree::StateKind::Flow(lines) => self.flow(&state.name, lines)?,
        })
    }

    fn size(&mut self, state: &tree::State, most: i128) -> Option<u32> {
        if !(1..=MANY).contains(&most) {
            self.error(state.span, "this size cannot be had", format!("write max 1 to max {MANY}"));
            return None;
        }
        u32::try_from(most).ok()
    }

    fn limit(&mut self, limit: &Limit) -> Option<StateKind> {
        let period = self.time(&limit.period)?;
        let burst = limit.burst.unwrap_or(0);
        if burst == 0 && limit.burst.is_none() && !(1..=MANY).contains(&limit.many) {
            let help = format!("write 1 to {MANY}, or a burst: `at most {} per … burst 10`", limit.many);
            self.error(limit.span, "a window counts at most 64 calls", help);
            return None;
        }
        let (many, burst) = (u64::try_from(limit.many).ok()?, u64::try_from(burst).ok()?);
        if many == 0 || many > period || limit.burst == Some(0) || burst > 1 << 20 {
            self.error(limit.span, "this rate cannot be had", "write at least 1 per period, and a burst of 1 or more");
            return None;
        }
        Some(StateKind::Rate { many, period, burst })
    }

    fn flow(&mut self, name: &Name, lines: &[FlowLine]) -> Option<StateKind> {
        let mut states: Vec<FlowState> = Vec::new();
        let mut values: Vec<String> = Vec::new();
        // States in the order in which they stand at the left; those that nothing leaves come after them.
        let lefts = lines.iter().map(|line| match line {
            FlowLine::Steps(state, _) | FlowLine::Holds(state, _) | FlowLine::Lasts(state, ..) => state,
        });
        let rights =
            lines.iter().flat_map(|line| if let FlowLine::Steps(_, next) = line { next.as_slice() } else { &[] });
        for state in lefts.chain(rights) {
            if !states.iter().any(|known| known.name == state.text) {
                states.push(FlowState { name: state.text.clone(), ..FlowState::default() });
            }
        }
        if states.is_empty() || states.len() > 32 {
            self.error(name.span, "a flow has 1 to 32 states", "write its steps: idle -> busy");
            return None;
        }
        let find = |states: &[FlowState], name: &Name| {
            states.iter().position(|state| state.name == name.text).and_then(|at| u8::try_from(at).ok())
        };
        for line in lines {
            match line {
                FlowLine::Steps(state, next) => {
                    let next: Vec<u8> = next.iter().filter_map(|next| find(&states, next)).collect();
                    let at = usize::from(find(&states, state)?);
                    states.get_mut(at)?.successors.extend(next);
                }
                FlowLine::Holds(state, held) => {
                    let at = usize::from(find(&states, state)?);
                    for value in held {
                        if !values.contains(&value.text) {
                            values.push(value.text.clone());
                        }
                        let slot = values.iter().position(|known| *known == value.text)?;
                        states.get_mut(at)?.holds.push(u8::try_from(slot).ok()?);
                    }
                }
                FlowLine::Lasts(state, time, then) => {
                    let Some(next) = find(&states, then) else {
                        let known: Vec<String> = states.iter().map(|state| state.name.clone()).collect();
                        self.unknown(then, "state", known.iter().map(String::as_str));
                        return None;
                    };
                    let time = self.time(time)?;
                    let at = usize::from(find(&states, state)?);
                    states.get_mut(at)?.lasts = Some((time, next));
                }
            }
        }
        if values.len() > code::VALUES {
            self.error(name.span, "the states of a flow hold at most three values", "keep the others in counters");
            return None;
        }
        Some(StateKind::Flow { states, values })
    }
}

impl State {
    /// How many there are.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.keys
            .iter()
            .map(|key| u64::try_from(key.values.1 - key.values.0 + 1).unwrap_or(u64::MAX))
            .fold(1, u64::saturating_mul)
    }

    /// The words of one, as `bulkhead_model::kind` lays them out.
    #[must_use]
    pub fn words(&self) -> u32 {
        match &self.kind {
            StateKind::Counter { .. } | StateKind::Timer => 1,
            StateKind::Flow { values, .. } => 2 + u32::try_from(values.len()).unwrap_or(0),
            StateKind::Rate { many, burst: 0, .. } => 1 + u32::try_from(*many).unwrap_or(0),
            StateKind::Rate { .. } => 1,
            StateKind::Set(most) => 1 + most,
            StateKind::Map(most) => 2 * (1 + 2 * most),
        }
    }
}
