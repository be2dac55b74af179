//! The monitor on the compiled table, and the plain interpreter of the text beside it: each message is put to both, and both
//! must say the same. The monitor enforces; the interpreter explains.

use bulkhead_lang::Compiled;
use bulkhead_lang::interpret::{Memory, Message, Remembered, Times, Verdict};
use bulkhead_lang::policy::{Body, Effect, Expression};
use bulkhead_lang::tree::Event;
use bulkhead_model::{MAX_ARGS, NO_RULE, Policy, Told};
use bulkhead_monitor::{Call, Clock, decide};

/// Both, with what they remember and their clocks.
pub(crate) struct Pair<'a> {
    compiled: &'a Compiled,
    table: Policy<'a>,
    words: Vec<u64>,
    /// What the interpreter remembers.
    remembered: Remembered,
    /// The clocks.
    pub(crate) times: Times,
}

struct Clocks(Times);

impl Clock for Clocks {
    fn microseconds(&self) -> Option<u64> {
        self.0.microseconds
    }

    fn local_seconds(&self) -> Option<u64> {
        self.0.local_seconds
    }
}

impl<'a> Pair<'a> {
    /// At the start, at time zero, without a time of day.
    pub(crate) fn new(compiled: &'a Compiled) -> Result<Self, String> {
        let table = Policy::verify(&compiled.table);
        let table = table.map_err(|error| format!("the compiled table is wrong: {error:?}"))?;
        let words = vec![0; table.state_words()];
        let times = Times { microseconds: Some(0), local_seconds: None };
        Ok(Self { compiled, table, words, remembered: Remembered::default(), times })
    }

    /// Decides, and remembers.
    pub(crate) fn decide(&mut self, message: &Message<'_>) -> Result<Verdict, String> {
        let &Message { subject, object, method, event, words } = message;
        let mut args = [0; MAX_ARGS];
        args.iter_mut().zip(words).for_each(|(slot, &word)| *slot = word);
        let len = u8::try_from(words.len()).unwrap_or(u8::MAX);
        let phase = self.compiled.policy.phase(object, method, event);
        let call = Call { subject, object, method, phase, len, args: &args };
        let by_table = decide(&self.table, &mut self.words, &Clocks(self.times), &call);
        let by_tree = self.remembered.decide(&self.compiled.policy, self.times, message);
        let rule = by_tree.rule.map_or(NO_RULE, |rule| u32::try_from(rule).unwrap_or(NO_RULE));
        if (by_table.reason, by_table.rule, by_table.audit) != (by_tree.reason, rule, by_tree.audit) {
            return Err(format!("the monitor says {by_table:?}, the interpreter {by_tree:?}: please report this"));
        }
        Ok(by_tree)
    }

    /// The deciding rule's reason, with a message's values in it, as a record tells it.
    pub(crate) fn told(&self, message: &Message<'_>, verdict: &Verdict) -> Option<String> {
        let rule = self.compiled.policy.rules.get(verdict.rule?)?;
        rule.because.as_ref()?;
        let object = self.table.object(message.object)?;
        let (_, method) = self.table.method(object, message.method)?;
        let fields = self.table.fields(method, message.event == Event::Reply);
        let mut bodies = rule.bodies_for(message.subject, message.object, message.method, message.event);
        let left_out = bodies.next()?.recording.as_ref().map_or(0, |recording| recording.left_out);
        let (policy, subject, words) = (&self.table, message.subject, message.words);
        Some(Told { policy, rule: u16::try_from(verdict.rule?).ok()?, subject, fields, words, left_out }.to_string())
    }

    /// What is remembered from now on, for a caller, by both.
    pub(crate) fn give(&mut self, subject: u16, effect: &Effect) -> Result<(), String> {
        let policy = &self.compiled.policy;
        for ((state, keys), memory) in self.remembered.give(policy, self.times, subject, effect)? {
            let Some(row) = policy.states.get(usize::from(state)) else { continue };
            let words = memory.words(row);
            let first = policy.first_word(state, &keys);
            let slots = self.words.get_mut(first..first + words.len());
            slots.ok_or("a state object lies outside the state")?.copy_from_slice(&words);
        }
        Ok(())
    }

    /// The parts of a rule's condition that are asked, and what came of them.
    pub(crate) fn branches(&self, message: &Message<'_>, body: &Body) -> Vec<(usize, bool)> {
        bulkhead_lang::show::branches(&self.compiled.policy, &self.remembered, self.times, message, body)
    }

    /// The flows that were changed, and the first state of those that were not, each with its state.
    pub(crate) fn flow_states(&self) -> Vec<(u16, u8)> {
        let begun = (0_u16..).zip(&self.compiled.policy.states).map(|(number, _)| (number, 0));
        let now = self.remembered.0.iter().filter_map(|((state, _), memory)| match memory {
            Memory::Flow(at, ..) => Some((*state, *at)),
            _ => None,
        });
        begun.chain(now).collect()
    }

    /// Whether a rule's condition holds for a message.
    pub(crate) fn matches(&self, message: &Message<'_>, body: &Body) -> bool {
        self.remembered.matches(&self.compiled.policy, self.times, message, body).unwrap_or(false)
    }

    /// What a rule wants that a message does not bring, after how many conditions that hold.
    pub(crate) fn wanted(&self, message: &Message<'_>, body: &Body) -> Option<(usize, String)> {
        bulkhead_lang::show::wanted(&self.compiled.policy, &self.remembered, self.times, message, body)
    }

    /// Whether a condition holds for a caller.
    pub(crate) fn holds(&self, subject: u16, condition: &Expression) -> Result<bool, String> {
        self.remembered.holds(&self.compiled.policy, self.times, subject, condition)
    }

    /// Whether a condition holds for any caller.
    pub(crate) fn is_so(&self, condition: &Expression) -> bool {
        bulkhead_lang::reach::is_so(&self.compiled.policy, &self.remembered, self.times, condition)
    }

    /// Why the first rule that has no value for a message has none.
    pub(crate) fn failure(&self, message: &Message<'_>) -> Option<String> {
        let mut rules = 0..self.compiled.policy.rules.len();
        rules.find_map(|rule| self.remembered.failure(&self.compiled.policy, self.times, message, rule))
    }
}
