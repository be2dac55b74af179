//! Rules: whom and what they name, their clauses, and their effects.

use super::{Parsed, Parser, joined};
use crate::diagnostic::{Diagnostic, Span};
use crate::lexer::Token;
use crate::tree::{Decision, Effect, Event, Expression, Limit, Name, Number, Reason, Rule, Targets};

impl Parser<'_> {
    pub(super) fn rule(&mut self, decision: Decision, start: Span) -> Parsed<Rule> {
        let is_observed = decision == Decision::Observe;
        let mut subject = self.name("who: guest, kernel, an app or a group")?;
        let mut event = Event::Request;
        let name = |text: &str| Name { text: text.to_string(), span: start };
        let life = |method: &str| Targets::Methods(vec![(name("life"), Some(name(method)))]);
        let names_method = self.tokens.get(self.at + 1).is_some_and(|next| next.token == Token::Mark("."));
        let is_walls = |subject: &Name, word: &str| is_observed && subject.text == word && !names_method;
        let targets = if self.skip_word("use") {
            Targets::Use(self.list(|parser| parser.name("a resource's name"))?)
        } else if is_observed && self.skip_word("start") {
            event = Event::Reply;
            life("guest_start")
        } else if is_walls(&subject, "boot") {
            (event, subject) = (Event::Reply, name("kernel"));
            life("boot")
        } else if is_walls(&subject, "policy") && self.skip_word("swap") {
            (event, subject) = (Event::Reply, name("kernel"));
            life("policy_swap")
        } else {
            Targets::Methods(self.list(Self::target)?)
        };
        if self.skip_word("reply") {
            event = Event::Reply;
        } else if self.skip_word("error") {
            event = Event::Error;
        }
        let mut rule = Rule {
            decision,
            subject,
            targets,
            event,
            condition: None,
            limits: Vec::new(),
            rates: Vec::new(),
            grants: Vec::new(),
            effects: Vec::new(),
            audit: None,
            because: None,
            name: None,
            span: start,
        };
        self.terms = 0;
        while self.clause(&mut rule)? {}
        rule.span = start.to(self.last_span());
        Ok(rule)
    }

    /// One clause of a rule; `false` if none follows. Clauses stand in any order.
    pub(super) fn clause(&mut self, rule: &mut Rule) -> Parsed<bool> {
        let start = self.span();
        let again = |what: &str| {
            let help = "write it once; conditions are joined by `and`";
            Err(Diagnostic::error(start, format!("this rule has `{what}` twice"), help))
        };
        if self.skip_word("when") {
            let condition = self.expression(0)?;
            rule.condition = Some(joined(rule.condition.take(), condition));
        } else if self.skip_word("except") {
            let condition = Expression::Not(Box::new(self.expression(0)?));
            rule.condition = Some(joined(rule.condition.take(), condition));
        } else if self.skip_word("at") {
            rule.limits.push(self.limit(start)?);
        } else if self.skip_word("within") {
            rule.rates.push(self.reference()?);
        } else if self.skip_word("using") {
            rule.grants.push(self.reference()?);
        } else if self.skip_word("then") {
            rule.effects.extend(self.list(Self::effect)?);
        } else if self.skip_word("audit") {
            let profile = if self.skip_word("by") { Some(self.name("a profile's name")?) } else { None };
            if rule.audit.replace(profile).is_some() {
                return again("audit");
            }
        } else if self.skip_word("because") {
            let span = self.span();
            let text = self.text("the reason")?;
            let to_caller = self.skip_words(&["to", "caller"]);
            if rule.because.replace(Reason { text, span, to_caller }).is_some() {
                return again("because");
            }
        } else if self.skip_word("as") {
            if rule.name.replace(self.name("the rule's name")?).is_some() {
                return again("as");
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn target(&mut self) -> Parsed<(Name, Option<Name>)> {
        let object = self.name("a service, a device, a group, psci, sysreg, mmio or task")?;
        self.expect(".", "name the method too: SERVICE.METHOD, or SERVICE.* for all")?;
        if self.skip("*") { Ok((object, None)) } else { Ok((object, Some(self.name("a method's name")?))) }
    }

    /// `most 10 per min burst 3`, after `at`
    pub(super) fn limit(&mut self, start: Span) -> Parsed<Limit> {
        const FORM: &str = "at most 10 per min; at most 100 per 10 s burst 5";
        self.expect_word("most", FORM)?;
        let many = self.whole("how many")?;
        self.expect_word("per", FORM)?;
        let period = match self.peek() {
            Token::Number(..) => self.quantity()?,
            _ => {
                let unit = self.name("a time: s, min, h")?;
                Number { digits: 1, decimals: 0, span: unit.span, unit: Some(unit) }
            }
        };
        let burst = if self.skip_word("burst") { Some(self.whole("how many at once")?) } else { None };
        Ok(Limit { many, period, burst, span: start.to(self.last_span()) })
    }

    pub(super) fn effect(&mut self) -> Parsed<Effect> {
        const FORM: &str = "FLOW becomes STATE, count COUNTER, add A to NAME, set COUNTER to A, remove A from NAME, \
            put A at KEY in MAP, start TIMER, give GRANT, reset NAME, commit MAP, roll back MAP";
        let word = match (self.peek(), self.tokens.get(self.at + 1).map(|next| &next.token)) {
            (Token::Word(word), Some(Token::Word(next))) if next != "becomes" => word.clone(),
            (Token::Word(word), _) if word == "add" || word == "set" || word == "put" || word == "remove" => {
                word.clone()
            }
            _ => String::new(),
        };
        if !word.is_empty() {
            self.at += 1;
        }
        Ok(match word.as_str() {
            "count" => {
                let span = self.last_span();
                let one = Expression::Number(Number { digits: 1, decimals: 0, unit: None, span });
                Effect::Add(one, self.reference()?)
            }
            "add" => {
                let amount = self.sum(0)?;
                self.expect_word("to", FORM)?;
                Effect::Add(amount, self.reference()?)
            }
            "set" => {
                let counter = self.reference()?;
                self.expect_word("to", FORM)?;
                Effect::Set(counter, self.sum(0)?)
            }
            "remove" => {
                let value = self.sum(0)?;
                self.expect_word("from", FORM)?;
                Effect::Remove(value, self.reference()?)
            }
            "put" => {
                let value = self.sum(0)?;
                self.expect_word("at", FORM)?;
                let key = self.sum(0)?;
                self.expect_word("in", FORM)?;
                Effect::Put(value, key, self.reference()?)
            }
            "start" => Effect::Start(self.reference()?),
            "give" => Effect::Give(self.reference()?),
            "commit" => Effect::Commit(self.reference()?),
            "reset" if self.skip_word("all") => Effect::ResetAll(self.name("a state object's name")?),
            "reset" => Effect::Reset(self.reference()?),
            "roll" => {
                self.expect_word("back", FORM)?;
                Effect::RollBack(self.reference()?)
            }
            "" => {
                let flow = self.reference()?;
                self.expect_word("becomes", FORM)?;
                let state = self.name("a state")?;
                let values = if self.skip("(") { self.rest_of_list()? } else { Vec::new() };
                Effect::Become(flow, state, values)
            }
            _ => {
                self.at -= 1;
                return self.error(&format!("`{word}` begins no effect"), FORM);
            }
        })
    }

    /// `NAME` or `NAME(KEYS)`
    pub(super) fn reference(&mut self) -> Parsed<Expression> {
        let name = self.name("a state object's name")?;
        if !self.skip("(") {
            return Ok(Expression::Word(name));
        }
        let keys = self.rest_of_list()?;
        Ok(Expression::Keyed(name, keys, self.last_span()))
    }

    /// Expressions up to the closing parenthesis.
    pub(super) fn rest_of_list(&mut self) -> Parsed<Vec<Expression>> {
        let all = self.list(|parser| parser.sum(0))?;
        self.expect(")", "close the parenthesis")?;
        Ok(all)
    }
}
