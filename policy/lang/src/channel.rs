//! One-way channels: senders call a receiver, and nothing that the receiver does comes back to them by a rule. What would is an error
//! that shows both places; the receiver's errors are refused, so that a sender learns no more than that its call is over.

use std::collections::BTreeSet;

use bulkhead_model::object;

use crate::check::Checker;
use crate::policy::{Body, Channel, Expression, Place, Reason, Recording, Rule};
use crate::tree::{self, Decision, Event, Item, Name};
use crate::{Diagnostic, Span};

/// Why something would come back.
struct Back {
    what: String,
    help: &'static str,
    /// Where else to look.
    also: Option<(Span, String)>,
}

impl Checker<'_> {
    /// All channels of the files; they look at the rules, so that these are checked before.
    pub(crate) fn channels(&mut self, items: &[Item]) {
        let rules = std::mem::take(&mut self.policy.rules);
        let mut denying = Vec::new();
        for item in items {
            let Item::Channel(written) = item else { continue };
            if self.policy.channels.iter().any(|known| known.name == written.name.text) {
                self.twice(&written.name);
            }
            let before = self.findings.len();
            let channel = self.channel(written).filter(|_| self.findings.len() == before);
            if let Some(channel) = channel {
                denying.extend(self.close(&channel, &rules));
                self.policy.channels.push(channel);
            }
        }
        self.policy.rules = rules;
        self.policy.rules.extend(denying);
    }

    fn channel(&mut self, written: &tree::Channel) -> Option<Channel> {
        for name in written.from.iter().chain(&written.to) {
            if self.holds_when(name).is_some() {
                let help = "name its members";
                self.error(
                    name.span,
                    format!("`{}` holds under a condition, and a channel is for good", name.text),
                    help,
                );
            }
        }
        let senders: Vec<Vec<u16>> = written.from.iter().filter_map(|name| self.subjects(name)).collect();
        let mut receivers = Vec::new();
        for name in &written.to {
            for member in self.members(name) {
                receivers.extend(self.receiver(&member));
            }
        }
        let senders = senders.concat();
        if let Some(name) = written.to.first()
            && receivers.iter().any(|(_, server)| senders.contains(server))
        {
            self.error(name.span, "who sends is who serves the receiver", "a channel leads from one to another");
        }
        Some(Channel { name: written.name.text.clone(), senders, receivers, span: written.span })
    }

    /// An object that an app serves.
    fn receiver(&mut self, name: &Name) -> Option<(u16, u16)> {
        let served = |at: usize| Some((u16::try_from(at).ok()?, self.policy.objects.get(at)?.server?));
        let found = self.policy.objects.iter().position(|object| object.name == name.text).and_then(served);
        if found.is_none() {
            let known = self.policy.objects.iter().filter(|object| object.server.is_some());
            let known: Vec<String> = known.map(|object| object.name.clone()).collect();
            self.unknown(name, "service or device", known.iter().map(String::as_str));
        }
        found
    }

    /// Refuses what would come back; returns the rules that refuse the receivers' errors.
    fn close(&mut self, channel: &Channel, rules: &[Rule]) -> Vec<Rule> {
        let mut denying = Vec::new();
        // One mistake of a rule is one error, for however many senders and receivers it is one.
        let mut wrong = BTreeSet::new();
        for &sender in &channel.senders {
            let asked = self.asked(rules, sender);
            for &(receiver, server) in &channel.receivers {
                let mut methods = BTreeSet::new();
                for (number, rule) in rules.iter().enumerate() {
                    let is_allowed = rule.decision == Decision::Allow && rule.subjects.contains(&sender);
                    let uses = rule.bodies.iter().filter(|body| is_allowed && body.object == receiver);
                    let uses = uses.filter(|body| !self.is_question(body));
                    methods.extend(uses.map(|body| body.method));
                    let back = self.back(rule, sender, (receiver, server));
                    let back = back.or_else(|| self.signalled(rule, &asked, (receiver, server)));
                    let back = back.or_else(|| self.dated(rule, rules, sender, server));
                    if let Some(Back { what, help, also }) = back.filter(|_| wrong.insert(number)) {
                        let message = format!("{what}, and `{}` is one way", channel.name);
                        let mut finding = Diagnostic::error(rule.span, message, help).also(channel.span, "the channel");
                        finding.also.extend(also);
                        self.findings.push(finding);
                    }
                }
                self.interrupt(channel, sender, receiver);
                denying.extend((!methods.is_empty()).then(|| refusal(channel, sender, receiver, &methods)));
            }
        }
        if denying.is_empty() {
            let help = "allow a sender to call a receiver, or remove the channel";
            self.findings.push(Diagnostic::warning(channel.span, format!("no rule uses `{}`", channel.name), help));
        }
        denying
    }

    /// What of one rule would come back by itself: values of a reply, a rule on replies, a call the other way.
    fn back(&self, rule: &Rule, sender: u16, (receiver, server): (u16, u16)) -> Option<Back> {
        let name = |body: &Body| {
            let object = self.policy.objects.get(usize::from(body.object)).map_or("?", |object| object.name.as_str());
            format!(
                "{object}.{}",
                self.policy.method(body.object, body.method).map_or("?", |method| method.name.as_str())
            )
        };
        for body in &rule.bodies {
            let is_forth = rule.subjects.contains(&sender) && body.object == receiver;
            if is_forth && rule.event != Event::Request {
                let what = "what the receiver answers would decide something for the sender".to_string();
                return Some(Back { what, help: "remove the rule, or take them out of the channel", also: None });
            }
            let answers = self.policy.method(body.object, body.method).is_some_and(|method| !method.replies.is_empty());
            if is_forth && rule.decision == Decision::Allow && answers {
                let what = format!("`{}` answers with values", name(body));
                return Some(Back { what, help: "allow methods that answer `()` only", also: None });
            }
            let server_of = |object: u16| self.policy.objects.get(usize::from(object)).and_then(|object| object.server);
            let is_back = server_of(body.object) == Some(sender) || body.object == object::TASK;
            let is_asked = rule.decision == Decision::Allow && rule.event == Event::Request;
            if is_asked && is_back && rule.subjects.contains(&server) {
                let who = self.policy.subjects.get(usize::from(server)).map_or("?", String::as_str);
                let what = format!("`{who}` receives, and would call back by `{}`", name(body));
                return Some(Back { what, help: "remove the one or the other", also: None });
            }
        }
        None
    }

    /// What a rule remembers when the receiver calls, or when it answers anyone, and a rule for the sender asks: a signal by way of
    /// the state.
    fn signalled(&self, rule: &Rule, asked: &[(Place, Span)], (receiver, server): (u16, u16)) -> Option<Back> {
        let by_receiver = |body: &&Body| match rule.event {
            // Who asks a question is its app, in whoever's name.
            Event::Request => rule.subjects.contains(&server) || body.object == receiver && self.is_question(body),
            _ => body.object == receiver,
        };
        let mut changed = rule.bodies.iter().filter(by_receiver).flat_map(changes);
        let (state, asks) = changed.find_map(|(state, place)| {
            let is_it = |(known, _): &&(Place, Span)| {
                known.state == state && place.is_none_or(|place| may_be_one(place, known))
            };
            asked.iter().find(is_it).map(|(_, span)| (state, *span))
        })?;
        let state = self.policy.states.get(usize::from(state))?;
        let name = if state.name.contains('#') { "a rate".to_string() } else { format!("`{}`", state.name) };
        let what = format!("what the receiver does changes {name}, which a rule for the sender asks");
        let also = Some((asks, "the rule that asks".to_string()));
        Some(Back { what, help: "let each have its own: `per caller`, or another name", also })
    }

    /// Who tells the wall the time decides what rules that ask for it say.
    fn dated(&self, rule: &Rule, rules: &[Rule], sender: u16, server: u16) -> Option<Back> {
        let tells = rule.decision == Decision::Allow && rule.subjects.contains(&server);
        rule.bodies.iter().find(|body| tells && body.object == object::TIME)?;
        let asks = |part: &Expression| matches!(part, Expression::TimeOfDay | Expression::DayOfWeek);
        let mut asking = rules.iter().filter(|rule| rule.subjects.contains(&sender));
        let asking = asking
            .find(|rule| rule.bodies.iter().any(|body| body.condition.as_ref().is_some_and(|when| when.has(asks))))?;
        let who = self.policy.subjects.get(usize::from(server)).map_or("?", String::as_str);
        let what = format!("`{who}` receives, and tells the time, which a rule for the sender asks");
        let also = Some((asking.span, "the rule that asks".to_string()));
        Some(Back { what, help: "let another app tell the time", also })
    }

    fn is_question(&self, body: &Body) -> bool {
        self.policy.method(body.object, body.method).is_some_and(|method| method.is_question)
    }

    /// What the verdicts for a sender depend on, and by which rules: what they read, and what they change, as a change may fail. The
    /// verdict on a question goes to the app that asked.
    fn asked(&self, rules: &[Rule], sender: u16) -> Vec<(Place, Span)> {
        let mut all = Vec::new();
        for rule in rules.iter().filter(|rule| rule.subjects.contains(&sender)) {
            let bodies = || rule.bodies.iter().filter(|body| !self.is_question(body));
            let mut of = |expression: &Expression| {
                expression.walk(&mut |part| all.extend(part.place().map(|place| (place.clone(), rule.span))));
            };
            for body in bodies() {
                body.condition.iter().for_each(&mut of);
                body.effects.iter().for_each(|effect| effect.each(&mut of));
            }
            let changed = bodies().flat_map(changes).filter_map(|(_, place)| place);
            all.extend(changed.map(|place| (place.clone(), rule.span)));
        }
        all
    }

    /// A device's interrupt is a signal to the guest.
    fn interrupt(&mut self, channel: &Channel, sender: u16, receiver: u16) {
        let device = self.policy.devices.iter().find(|device| device.object == receiver && device.interrupt.is_some());
        if let Some(name) =
            device.filter(|_| sender == bulkhead_model::subject::GUEST).map(|device| device.name.clone())
        {
            let message =
                format!("`{name}` has an interrupt, by which it signals the guest, and `{}` is one way", channel.name);
            self.error(channel.span, message, "declare the device without an interrupt, or use a service");
        }
    }
}

/// What a rule changes; no place stands for all instances.
fn changes(body: &Body) -> impl Iterator<Item = (u16, Option<&Place>)> {
    let effects = body.effects.iter().map(|effect| (effect.state(), effect.place()));
    effects.chain(body.rates.iter().map(|rate| (rate.state, Some(rate))))
}

/// Whether two places of different callers may be one instance.
fn may_be_one(one: &Place, other: &Place) -> bool {
    let both_own =
        |(one, other): (&Expression, &Expression)| *one == Expression::Caller && *other == Expression::Caller;
    !one.keys.iter().zip(&other.keys).any(both_own)
}

/// Refuses a receiver's errors: a sender learns that its call failed, and no more.
fn refusal(channel: &Channel, sender: u16, receiver: u16, methods: &BTreeSet<u16>) -> Rule {
    let (rates, effects, recording) = (Vec::new(), Vec::new(), Some(Recording::default()));
    let body = Body { object: receiver, method: 0, condition: None, rates, effects, recording };
    let because = format!("{} is one way: which error it was does not come back", channel.name);
    Rule {
        decision: Decision::Deny,
        subjects: vec![sender],
        event: Event::Error,
        bodies: methods.iter().map(|&method| Body { method, ..body.clone() }).collect(),
        because: Some(Reason { written: because.clone(), told: because, to_caller: false }),
        name: Some(channel.name.clone()),
        span: channel.span,
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{Both, build};
    use crate::tree::Event;
    use bulkhead_model::Reason;

    const SITE: &str = "edition 1\npolicy p\ninterface Log {\n method append(v: u8) -> ()\n method flush() -> ()\n method query() -> (v: u8)\n}\n\
        interface Motor {\n method stop() -> ()\n}\napp store\napp plc\napp hmi\nservice log: Log by store\nservice motor: Motor by plc\n\
        counter seen in 0..9\ncounter own per caller in 0..9\nrate shared at most 3 per s\n\
        channel uplink one way from guest, plc to log\nallow guest log.append\nallow plc log.append, log.flush\nallow hmi log.query\n";

    #[test]
    fn what_goes_one_way_is_allowed_and_errors_do_not_come_back() {
        let site = build(SITE).unwrap();
        let mut both = Both::new(&site);
        assert_eq!(both.ask("plc", "log.append", &[1]).0, Reason::Allowed);
        assert_eq!(both.tell(Event::Reply, "plc", "log.append", &[]).reason, Reason::Allowed);
        for (subject, method, wanted) in [
            ("plc", "log.append", Reason::DeniedByRule),
            ("plc", "log.flush", Reason::DeniedByRule),
            ("guest", "log.append", Reason::DeniedByRule),
            ("hmi", "log.query", Reason::Allowed),
        ] {
            assert_eq!(both.tell(Event::Error, subject, method, &[]).reason, wanted, "{subject} {method}");
        }
        let two = build(&format!("{SITE}channel other one way from plc to log\n")).unwrap();
        assert_eq!(Both::new(&two).tell(Event::Error, "plc", "log.flush", &[]).reason, Reason::DeniedByRule);
        let idle = build(&SITE.replace("allow guest log.append\nallow plc log.append, log.flush\n", "")).unwrap();
        assert!(idle.warnings.iter().any(|warning| warning.message.contains("no rule uses `uplink`")));
    }

    #[test]
    fn whatever_would_come_back_is_an_error_that_shows_both_places_and_its_neighbour_is_none() {
        for (rules, message, also) in [
            ("allow plc log.query", "`log.query` answers with values, and `uplink` is one way", ""),
            ("allow hmi log.append\nallow hmi motor.stop", "", ""),
            ("allow store motor.stop", "`store` receives, and would call back by `motor.stop`", ""),
            ("allow store task.start", "would call back by `task.start`", ""),
            ("allow hmi task.start", "", ""),
            ("on plc log.append error then count seen", "what the receiver answers would decide something", ""),
            ("deny plc log.append reply", "what the receiver answers would decide something", ""),
            ("on hmi log.query reply then count seen", "", ""),
            (
                "on hmi log.query reply then count seen\nallow plc log.append when seen < 3",
                "changes `seen`",
                "site.policy:24: the rule that asks",
            ),
            (
                "allow store psci.off then count seen\nallow guest psci.reset when seen < 3",
                "changes `seen`",
                "site.policy:24: the rule",
            ),
            (
                "allow store psci.off then count seen\nallow guest psci.reset then count seen",
                "changes `seen`",
                "site.policy:24",
            ),
            ("allow store psci.off then count own\nallow guest psci.reset when own < 3", "", ""),
            (
                "allow store psci.off then reset all own\nallow guest psci.reset when own < 3",
                "changes `own`",
                "site.policy:24",
            ),
            (
                "allow store psci.off within shared\nallow guest psci.reset within shared",
                "changes `shared`",
                "site.policy:24",
            ),
            ("group both: store, plc\nallow both psci.off at most 3 per s", "changes a rate", "site.policy:24"),
            ("allow store psci.off then count seen\nallow hmi psci.reset when seen < 3", "", ""),
        ] {
            let result = build(&format!("{SITE}{rules}\n"));
            if message.is_empty() {
                assert!(result.is_ok(), "{rules}: {:?}", result.err());
                continue;
            }
            let text = result.unwrap_err();
            let is_told =
                text.contains(message) && text.contains(also) && text.contains("see: site.policy:19: the channel");
            let is_once = text.matches("error:").count() == 1;
            assert!(is_told && is_once && text.contains("--> site.policy:2"), "{rules}: {text}");
        }
    }

    #[test]
    fn a_question_and_the_time_are_signals_of_who_asks_and_tells() {
        let site = SITE.replacen("method flush() -> ()", "method flush() -> ()\n question may(v: u8)", 1);
        let site = format!("{site}zone UTC\n");
        for (rules, message) in [
            ("allow guest log.may when v < 9 then count seen", ""),
            ("allow guest log.may then count seen\nallow guest psci.off when seen < 3", "changes `seen`"),
            ("allow guest log.may when seen < 3\nallow hmi psci.off then count seen", ""),
            ("allow store time.set", ""),
            ("allow store time.set\nallow guest psci.off when day of week == 1", "tells the time"),
            ("allow hmi time.set\nallow guest psci.off when day of week == 1", ""),
        ] {
            let said = build(&format!("{site}{rules}\n")).err().unwrap_or_default();
            assert!(said.is_empty() == message.is_empty() && said.contains(message), "{rules}: {said}");
        }
        let only = site.replace("allow guest log.append\nallow plc log.append, log.flush\n", "allow guest log.may\n");
        let warnings = build(&only).unwrap().warnings;
        assert!(
            warnings.iter().any(|warning| warning.message.contains("no rule uses `uplink`")),
            "a question is no call"
        );
    }

    #[test]
    fn mistakes_in_a_channel_are_told_once_with_the_remedy() {
        for (channel, message, help) in [
            ("channel c one way from gest to log", "no subject `gest`", "did you mean `guest`?"),
            ("channel c one way from guest to lo", "no service or device `lo`", "did you mean `log`?"),
            ("channel c one way from guest to psci", "no service or device `psci`", "known: log, motor"),
            ("channel c from guest to log", "expected `one way`", "channel NAME one way from"),
            ("channel c one way guest to log", "expected `from`", "channel NAME one way from"),
            ("channel c one way from store to log", "who sends is who serves the receiver", "from one to another"),
            ("channel uplink one way from guest to motor", "`uplink` is declared twice", "another name"),
            (
                "group g: guest when seen > 1\nchannel c one way from g to motor",
                "a channel is for good",
                "name its members",
            ),
            (
                "app x\ndevice d: at 0x1000 size 0x200 interrupt 90 by x\nchannel c one way from guest to d\nallow guest d.write",
                "`d` has an interrupt, by which it signals the guest",
                "without an interrupt",
            ),
        ] {
            let text = build(&format!("{SITE}{channel}\n")).unwrap_err();
            assert!(
                text.contains(message) && text.contains(help) && text.matches("error:").count() == 1,
                "{channel}: {text}"
            );
        }
        let plain =
            "app x\ndevice d: at 0x1000 size 0x200 by x\nchannel c one way from guest to d\nallow guest d.write\n";
        assert!(build(&format!("{SITE}{plain}")).is_ok());
    }
}
