//! Statements to a [`Policy`]: every name is found, every number fits. All findings are gathered.

use crate::Arch;
use crate::cost;
use crate::diagnostic::{Diagnostic, Span, nearest, twice};
use crate::expressions::Scope;
use crate::policy::{
    Body, Effect, Expression, Field, Kind, Method, Never, NeverWhat, Object, Place, Policy, Presence, Reason, Resource,
    Rule, Shape, Values,
};
use crate::profiles::Samples;
use crate::tree::{self, Constant, Decision, Event, Interface, Item, Name, Number, Space, Targets};

/// What a declared error is called in rules, and the word for what is none.
const ERROR: &str = "error";
const OTHER: &str = "other";
/// The most flags of a set.
const FLAGS: usize = 63;
/// The farthest zone, in seconds.
const ZONE: i32 = 14 * 3600;
/// The most methods of an interface: a capability has a bit for each.
const METHODS: usize = 64;

pub(crate) const TYPES: [(&str, Values); 9] = [
    ("bool", (0, 1)),
    ("u8", (0, 0xff)),
    ("u16", (0, 0xffff)),
    ("u32", (0, 0xffff_ffff)),
    ("u64", (0, 0xffff_ffff_ffff_ffff)),
    ("i8", (-0x80, 0x7f)),
    ("i16", (-0x8000, 0x7fff)),
    ("i32", (-0x8000_0000, 0x7fff_ffff)),
    ("i64", (-0x8000_0000_0000_0000, 0x7fff_ffff_ffff_ffff)),
];

/// The wall's own objects, in the order of `bulkhead_model::object`, with their interfaces.
const OWN: [(&str, &str); 11] = [
    ("psci", "Psci"),
    ("sysreg", "Registers"),
    ("mmio", "Memory"),
    ("task", "Tasks"),
    ("life", "Life"),
    ("time", "Time"),
    ("port", "Ports"),
    ("msr", "ModelSpecific"),
    ("cpuid", "Cpuid"),
    ("pci", "Configuration"),
    ("power", "Power"),
];

/// The language's edition.
const EDITION: i128 = 1;

/// Whether a statement names an edition that is to come.
pub(crate) fn newer_edition(item: &Item) -> Option<Diagnostic> {
    let Item::Edition(number, span) = item else { return None };
    let help = "take a newer tool, or write `edition 1`";
    (*number > EDITION)
        .then(|| Diagnostic::error(*span, format!("edition {number} is newer than this tool, which knows 1"), help))
}

/// Checks the statements of all files.
pub(crate) fn check(items: &[Item], arch: Option<Arch>, findings: &mut Vec<Diagnostic>) -> Policy {
    let mut checker = Checker::for_policy(Policy { arch, ..Policy::default() }, findings);
    checker.policy.subjects = vec!["guest".to_string(), "kernel".to_string()];
    checker.heads(items);
    checker.interfaces(items);
    checker.declarations(items);
    checker.requirements(items);
    checker.tables(items);
    checker.states(items);
    checker.profiles(items);
    checker.roles(items);
    for item in items {
        if let Item::Rule(rule) = item {
            checker.rule(rule);
        }
    }
    checker.owners();
    checker.idle_profiles();
    checker.nevers(items);
    checker.lattices(items);
    checker.channels(items);
    checker.measure();
    checker.tests(items);
    checker.policy
}

/// Object and method, and the register (table and row) if a table names it.
type Target = (u16, u16, Option<(usize, usize)>);

pub(crate) struct Checker<'a> {
    pub(crate) findings: &'a mut Vec<Diagnostic>,
    pub(crate) policy: Policy,
    /// What is declared, whether it is given to somebody or not.
    pub(crate) resources: Vec<Resource>,
    interfaces: Vec<(String, Vec<Method>)>,
    /// Named sets, as written: their numbers take the kind of what is compared with them.
    pub(crate) sets: Vec<(String, Vec<(Constant, Constant)>)>,
    pub(crate) profiles: Vec<crate::profiles::Profile>,
}

impl<'a> Checker<'a> {
    /// For what is said of a policy after it was checked: its named sets are gone by then.
    pub(crate) fn for_policy(policy: Policy, findings: &'a mut Vec<Diagnostic>) -> Self {
        let (resources, interfaces, sets) = (Vec::new(), Vec::new(), Vec::new());
        let profiles = Vec::new();
        Self { findings, policy, resources, interfaces, sets, profiles }
    }
}

impl Checker<'_> {
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Diagnostic::error(span, message, help));
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == crate::Severity::Error)
    }

    pub(crate) fn unknown<'k>(&mut self, name: &Name, what: &str, known: impl IntoIterator<Item = &'k str>) {
        let all: Vec<&str> = known.into_iter().filter(|name| !name.is_empty()).collect();
        let near = nearest(&name.text, all.iter().copied());
        let all = all.get(..12).unwrap_or(&all);
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if all.is_empty() => "nothing of that kind is declared".to_string(),
            None => format!("known: {}", all.join(", ")),
        };
        self.error(name.span, format!("there is no {what} `{}`", name.text), help);
    }

    fn heads(&mut self, items: &[Item]) {
        let (mut has_edition, mut revision) = (false, None);
        for item in items {
            match item {
                Item::Edition(number, span) => {
                    has_edition = true;
                    if *number != EDITION {
                        self.error(*span, format!("edition {number} is not known"), "write `edition 1`");
                    }
                }
                Item::Policy(name) => self.policy.name.clone_from(&name.text),
                Item::Revision(number, span) => {
                    if revision.replace(*number).is_some() {
                        self.error(*span, "the revision is stated twice", "remove one of them");
                    }
                    // No number of the text has more than 64 bits.
                    self.policy.revision = u64::try_from(*number).unwrap_or(u64::MAX);
                }
                Item::Cost(bound, span) => cost::state(&mut self.policy, *bound, *span, self.findings),
                Item::Zone(ahead, span) => self.zone(ahead.as_ref(), *span),
                _ => {}
            }
        }
        if !has_edition {
            self.error(Span { file: 1, ..Span::default() }, "the edition is not stated", "begin with `edition 1`");
        }
    }

    /// The farthest that local times are from UTC.
    fn zone(&mut self, ahead: Option<&Number>, span: Span) {
        let ahead = ahead.map_or(Some(0), |ahead| self.number(ahead, &Kind::time()));
        let seconds = ahead.map(|ahead| ahead / 1_000_000);
        let zone = seconds.and_then(|seconds| i32::try_from(seconds).ok()).filter(|zone| zone.abs() <= ZONE);
        if zone.is_none() && seconds.is_some() {
            self.error(span, "no zone is so far from UTC", "write UTC - 14 h to UTC + 14 h");
        }
        if self.policy.zone.is_some() {
            self.error(span, "the zone is stated twice", "remove one of them");
        }
        self.policy.zone = zone.or(self.policy.zone);
    }

    pub(crate) fn interfaces(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Interface(interface) = item {
                if self.interfaces.iter().any(|(name, _)| *name == interface.name.text) {
                    self.twice(&interface.name);
                }
                let methods = self.methods(interface);
                self.interfaces.push((interface.name.text.clone(), methods));
            }
        }
    }

    pub(crate) fn twice(&mut self, name: &Name) {
        self.error(name.span, twice(&name.text), "give one of them another name");
    }

    fn methods(&mut self, interface: &Interface) -> Vec<Method> {
        if interface.methods.len() > METHODS {
            self.error(interface.name.span, "an interface has at most 64 methods", "split it in two");
        }
        let sets = interface.enums.iter().chain(&interface.flags).map(|(_, words)| words);
        for words in sets.chain([&interface.errors]) {
            for (at, word) in words.iter().enumerate() {
                if words.iter().take(at).any(|before| before.text == word.text) {
                    self.twice(word);
                }
            }
        }
        if let Some(name) = interface.errors.iter().find(|name| name.text == OTHER) {
            let help = "`other` is what the interface does not declare, such as a service that is gone";
            self.error(name.span, "no error can be called `other`", help);
        }
        let mut methods: Vec<Method> = Vec::new();
        for method in interface.methods.iter().take(METHODS) {
            if methods.iter().any(|known| known.name == method.name.text) {
                self.twice(&method.name);
            }
            let (arguments, argument_shapes) = self.message(interface, &method.name, &method.arguments);
            let (replies, reply_shapes) = self.message(interface, &method.name, &method.replies);
            let name = method.name.text.clone();
            let (errors, error_shapes) = self.declared_errors(interface, method);
            let (is_question, way) = (method.is_question, method.way);
            methods.push(Method {
                name,
                arguments,
                replies,
                argument_shapes,
                reply_shapes,
                errors,
                error_shapes,
                is_question,
                way,
            });
        }
        methods
    }

    /// What an error of a method says: its number, from 1 on, among those of the interface. An answer that is none (the service is gone, it
    /// took too long) has 0, and nothing keeps a service from a number that is not declared: so it may be any, and has no word then.
    fn declared_errors(&mut self, interface: &Interface, method: &tree::Method) -> (Vec<Field>, Vec<(String, Shape)>) {
        let own = method.errors.as_ref();
        for (at, name) in own.iter().flat_map(|own| own.iter().enumerate()) {
            if !interface.errors.iter().any(|known| known.text == name.text) {
                let known: Vec<&str> = interface.errors.iter().map(|known| known.text.as_str()).collect();
                self.unknown(name, "error of this interface called", known);
            }
            if own.is_some_and(|own| own.iter().take(at).any(|before| before.text == name.text)) {
                self.twice(name);
            }
        }
        if interface.errors.is_empty() || own.is_some_and(Vec::is_empty) {
            return (Vec::new(), Vec::new());
        }
        let is_own = |name: &Name| own.is_none_or(|own| own.iter().any(|known| known.text == name.text));
        let words = interface.errors.iter().map(|name| if is_own(name) { name.text.as_str() } else { "" });
        let words = std::iter::once(OTHER).chain(words);
        let range = (0, u64::MAX.into());
        let kind = Kind { words: words.map(str::to_string).collect(), ..Kind::plain(range) };
        let (name, presence) = (ERROR.to_string(), Presence::Always);
        let field = Field { name: name.clone(), range, kind, is_secret: false, presence, head: None };
        (vec![field], vec![(name, Shape::One)])
    }

    pub(crate) fn field(&mut self, interface: &Interface, field: &tree::Field) -> Field {
        let (mut words, mut is_flags) = (Vec::new(), false);
        let values = TYPES.iter().find(|(name, _)| *name == field.kind.text).map(|(_, values)| *values);
        let values = values.unwrap_or_else(|| {
            let found = interface.enums.iter().find(|(name, _)| name.text == field.kind.text);
            let flags = interface.flags.iter().find(|(name, all)| name.text == field.kind.text && all.len() <= FLAGS);
            match found {
                None if flags.is_some() => {
                    is_flags = true;
                    words =
                        flags.map(|(_, all)| all.iter().map(|word| word.text.clone()).collect()).unwrap_or_default();
                    return (0, (1 << words.len()) - 1);
                }
                Some((_, all)) => words = all.iter().map(|word| word.text.clone()).collect(),
                None => {
                    let known = TYPES.iter().map(|(name, _)| *name);
                    let own = interface.enums.iter().chain(&interface.flags).map(|(name, _)| name.text.as_str());
                    let records = interface.records.iter().map(|(name, _)| name.text.as_str());
                    let own: Vec<&str> = own.chain(records).collect();
                    self.unknown(&field.kind, "type", known.chain(own).collect::<Vec<_>>());
                }
            }
            (0, i128::try_from(words.len()).unwrap_or(1).max(1) - 1)
        });
        if field.kind.text == "bool" {
            words = vec!["false".to_string(), "true".to_string()];
        }
        let unit = field.unit.as_ref().map(|unit| unit.text.clone()).unwrap_or_default();
        let step = field.step.as_ref().map_or((1, 0), |step| self.step(step, &words));
        let kind = Kind { values, step, unit, words, is_flags };
        let name = field.name.text.clone();
        let range = field.range.as_ref().and_then(|range| self.range(range, &kind, &name)).unwrap_or(values);
        Field { name, range, kind, is_secret: field.is_secret, presence: Presence::Always, head: None }
    }

    /// What one of a field's is worth, as a fraction of a power of ten.
    pub(crate) fn step(&mut self, step: &Number, words: &[String]) -> (i128, u32) {
        if step.digits <= 0 || step.digits > 1_000_000 || !words.is_empty() {
            self.error(step.span, "this step cannot be had", "a number's step is a positive number: step 0.01");
            return (1, 0);
        }
        (step.digits, step.decimals.into())
    }

    /// The one number that `let` gives a name.
    pub(crate) fn named_number(&self, name: &str) -> Option<Number> {
        match self.sets.iter().find(|(known, _)| known == name)?.1.as_slice() {
            [(Constant::Number(low), Constant::Number(high))] if low == high => Some(low.clone()),
            _ => None,
        }
    }

    /// The ranges that `let` gives a name.
    pub(crate) fn named_set(&self, name: &str) -> Option<Vec<(Constant, Constant)>> {
        self.sets.iter().find(|(known, _)| known == name).map(|(_, ranges)| ranges.clone())
    }

    fn declarations(&mut self, items: &[Item]) {
        for (name, interface) in OWN {
            let methods = self.interface_methods(interface);
            self.policy.objects.push(Object { name: name.to_string(), server: None, methods });
        }
        for item in items {
            if let Item::App(name, _) = item {
                if self.policy.subjects.contains(&name.text) {
                    self.twice(name);
                }
                self.policy.subjects.push(name.text.clone());
            }
        }
        for item in items {
            match item {
                Item::Service(name, interface, app, _) => self.service(name, interface, app),
                Item::Device(range, app, _) => self.device(range, app),
                Item::Resource(range) => self.resource(range),
                Item::Let(name, ranges) => {
                    if self.sets.iter().any(|(known, _)| *known == name.text) {
                        self.twice(name);
                    }
                    self.sets.push((name.text.clone(), ranges.clone()));
                }
                _ => {}
            }
        }
        self.groups(items);
    }

    pub(crate) fn interface_methods(&self, name: &str) -> Vec<Method> {
        self.interfaces.iter().find(|(known, _)| known == name).map(|(_, methods)| methods.clone()).unwrap_or_default()
    }

    pub(crate) fn app(&mut self, name: &Name) -> Option<u16> {
        let found = self.policy.subjects.iter().skip(2).position(|known| *known == name.text);
        if found.is_none() {
            let known = self.policy.subjects.clone();
            self.unknown(name, "app", known.iter().skip(2).map(String::as_str));
        }
        found.and_then(|at| u16::try_from(at + 2).ok())
    }

    pub(crate) fn object(&mut self, name: &Name, server: u16, methods: Vec<Method>) -> u16 {
        let is_taken = |known: &str| known == name.text;
        if self.policy.objects.iter().any(|object| is_taken(&object.name)) {
            self.twice(name);
        }
        if name.text.len() > 24 {
            self.error(name.span, "a service's or a device's name has at most 24 characters", "shorten it");
        }
        if self.policy.objects.iter().any(|object| object.server == Some(server)) {
            let help = "split the app, or the interface";
            self.error(name.span, "this app serves something already, and an app serves one object", help);
        }
        self.policy.objects.push(Object { name: name.text.clone(), server: Some(server), methods });
        u16::try_from(self.policy.objects.len() - 1).unwrap_or(bulkhead_model::NONE)
    }

    fn service(&mut self, name: &Name, interface: &Name, app: &Name) {
        if !self.interfaces.iter().any(|(known, _)| *known == interface.text) {
            let known: Vec<String> = self.interfaces.iter().map(|(name, _)| name.clone()).collect();
            self.unknown(interface, "interface", known.iter().map(String::as_str));
        }
        let methods = self.interface_methods(&interface.text);
        if let Some(server) = self.app(app) {
            self.object(name, server, methods);
        }
    }

    fn rule(&mut self, rule: &tree::Rule) {
        let Some(subjects) = self.subjects(&rule.subject) else { return };
        match &rule.targets {
            Targets::Use(names) => self.use_rule(rule, &subjects, names),
            Targets::Methods(names) => self.method_rule(rule, subjects, names),
        }
    }

    /// What must never be allowed: requests, with a condition on what they carry.
    fn nevers(&mut self, items: &[Item]) {
        for item in items {
            let Item::Never(never) = item else { continue };
            let (never, before) = match never {
                tree::Never::Call(rule, before) => (rule, before),
                tree::Never::State(condition, span) => {
                    if let Some(condition) = self.condition(Scope { fields: &[], element: None }, condition) {
                        self.policy.nevers.push(Never { what: NeverWhat::State(condition), span: *span });
                    }
                    continue;
                }
            };
            let clauses = never.limits.len() + never.rates.len() + never.grants.len() + never.effects.len();
            if clauses > 0
                || never.audit.is_some()
                || never.event != Event::Request
                || matches!(never.targets, Targets::Use(_))
            {
                let help = "write `never SUBJECT OBJECT.METHOD when CONDITION`";
                self.error(never.span, "`never` says which requests are never allowed", help);
                continue;
            }
            let mut targets = Vec::new();
            for (object, method) in before {
                self.targets(object, method.as_ref(), &mut targets);
            }
            let rules = self.policy.rules.len();
            self.rule(never);
            let rule = self.policy.rules.drain(rules..).next_back();
            let span = never.span;
            self.policy.nevers.extend(rule.map(|rule| Never { what: NeverWhat::Call(rule, targets), span }));
        }
    }

    fn use_rule(&mut self, rule: &tree::Rule, subjects: &[u16], names: &[Name]) {
        let is_plain = rule.condition.is_none()
            && rule.limits.is_empty()
            && rule.rates.is_empty()
            && rule.grants.is_empty()
            && rule.effects.is_empty()
            && rule.audit.is_none()
            && self.holds_when(&rule.subject).is_none();
        let &[subject] = subjects else {
            return self.error(rule.subject.span, "a resource has one owner", "name the guest or one app");
        };
        if subject == bulkhead_model::subject::KERNEL || rule.decision != Decision::Allow || !is_plain {
            let help = "write `allow guest use NAME` or `allow APP use NAME`; what is not allowed is refused anyway";
            self.error(rule.span, "a resource is given to the guest or to an app for good, or not at all", help);
        }
        for name in names {
            let resource = self.resources.iter().find(|resource| resource.name == name.text).cloned();
            match resource {
                Some(resource) if subject == bulkhead_model::subject::GUEST => self.policy.resources.push(resource),
                Some(resource) if resource.is_read_only || resource.space == Space::Registers => {
                    let help = "an app drives devices: their registers in memory, whole, or their ports";
                    self.error(name.span, format!("no app can be given `{}`", name.text), help);
                }
                Some(resource) => self.policy.driven.push((subject, resource)),
                None => {
                    let known: Vec<String> = self.resources.iter().map(|resource| resource.name.clone()).collect();
                    self.unknown(name, "resource", known.iter().map(String::as_str));
                }
            }
        }
    }

    fn method_rule(&mut self, rule: &tree::Rule, subjects: Vec<u16>, names: &[(Name, Option<Name>)]) {
        let before = self.findings.len();
        let mut targets = Vec::new();
        for (object, method) in names {
            for object in self.object_names(object) {
                if let Some(table) = self.policy.tables.iter().position(|table| table.name == object.text) {
                    self.registers(table, method.as_ref(), &mut targets);
                    continue;
                }
                let mut found = Vec::new();
                self.targets(&object, method.as_ref(), &mut found);
                targets.extend(found.into_iter().map(|(object, method)| (object, method, None)));
            }
        }
        targets.sort_unstable();
        targets.dedup();
        self.check_clauses(rule);
        self.check_questions(rule, &subjects, &targets);
        let own: Vec<Option<u16>> = rule.limits.iter().map(|limit| self.own_rate(limit)).collect();
        let own: Vec<Place> = own.into_iter().flatten().map(|state| Place { state, keys: Vec::new() }).collect();
        let mut samples = Vec::new();
        let bodies: Vec<Option<Body>> =
            targets.iter().map(|&target| self.body(rule, target, &own, &mut samples)).collect();
        let told = self.told_of(rule, &targets);
        if self.findings.iter().skip(before).all(|finding| finding.severity == crate::Severity::Warning) {
            let tree::Rule { decision, event, name, span, .. } = rule.clone();
            let (bodies, name) = (bodies.into_iter().flatten().collect(), name.map(|name| name.text));
            let because = rule.because.as_ref().zip(told).map(|(reason, told)| Reason {
                written: reason.text.clone(),
                told,
                to_caller: reason.to_caller,
            });
            self.policy.rules.push(Rule { decision, subjects, event, bodies, because, name, span });
        }
    }

    /// Questions are asked by the app that serves their object, for itself or for the guest, and have no reply.
    fn check_questions(&mut self, rule: &tree::Rule, subjects: &[u16], targets: &[Target]) {
        for &(object, method, _) in targets {
            let Some(found) = self.policy.objects.get(usize::from(object)) else { continue };
            let Some(question) = found.methods.get(usize::from(method)).filter(|method| method.is_question) else {
                continue;
            };
            let (name, server) = (format!("{}.{}", found.name, question.name), found.server);
            if rule.event != Event::Request {
                let help = "allow or deny the question itself";
                return self.error(rule.span, format!("`{name}` is a question, which has no reply"), help);
            }
            let asks = |subject: &u16| *subject == bulkhead_model::subject::GUEST || Some(*subject) == server;
            if !subjects.iter().all(asks) {
                let help = "name that app, or the guest, for whom it asks";
                return self.error(
                    rule.subject.span,
                    format!("`{name}` is asked by the app that serves it alone"),
                    help,
                );
            }
        }
    }

    /// A rule's reason, which is one text for all its methods.
    fn told_of(&mut self, rule: &tree::Rule, targets: &[Target]) -> Option<String> {
        let reason = rule.because.as_ref()?;
        if targets.is_empty() {
            return self.reason(reason, &[]);
        }
        let mut all: Vec<String> = Vec::new();
        for &target in targets {
            let fields = self.fields(rule.event, target)?;
            all.push(self.reason(reason, &fields)?);
        }
        if all.iter().any(|told| Some(told) != all.first()) {
            let help = "its values have other units, steps or words in another method: write a rule for each";
            self.error(reason.span, "this reason is not the same for all methods that the rule names", help);
        }
        all.pop()
    }

    /// The fields of a message as a rule sees them: a register's value has the register's unit and range.
    fn fields(&self, event: Event, (object, method, register): Target) -> Option<Vec<Field>> {
        let fields = self.policy.fields(object, method, event);
        let Some((table, row)) = register else { return Some(fields.to_vec()) };
        let table = self.policy.tables.get(table)?;
        Some(table.fields(table.rows.get(row)?, fields))
    }

    /// Which clauses go with which kind of rule.
    fn check_clauses(&mut self, rule: &tree::Rule) {
        let limits = rule.limits.len() + rule.rates.len() + rule.grants.len();
        let (message, help) = match (rule.decision, rule.event) {
            (Decision::Allow, Event::Reply | Event::Error) => (
                "a reply belongs to an allowed request and needs no rule",
                "write `deny … reply when …` or `on … reply then …`",
            ),
            (Decision::Observe, Event::Request) => (
                "`on` observes what is allowed elsewhere: a reply, an error or the guest's start",
                "write `allow … then …`",
            ),
            (Decision::Observe, _) if rule.effects.is_empty() && rule.audit.is_none() => {
                ("this rule remembers and records nothing", "add `then …` or `audit`")
            }
            (Decision::Deny | Decision::Observe, _) if limits > 0 => {
                ("only an allowing rule has a rate or a grant", "turn it round: allow what may be done so often")
            }
            _ => ("", ""),
        };
        if !message.is_empty() {
            self.error(rule.span, message, help);
        }
        if rule.audit == Some(None) && rule.decision == Decision::Deny {
            let help = "remove `audit`, or name a profile: `audit by NAME`";
            let finding = Diagnostic::warning(rule.span, "refusals are recorded without it", help);
            self.findings.push(finding);
        }
        if rule.decision == Decision::Deny && !rule.effects.iter().all(|effect| matches!(effect, tree::Effect::Add(..)))
        {
            let help = "a refused call changes nothing; a denying rule may count: `then count NAME`";
            self.error(rule.span, "a denying rule may only count", help);
        }
    }

    /// What a rule says of one method.
    fn body(
        &mut self,
        rule: &tree::Rule,
        (object, method, register): Target,
        own: &[Place],
        samples: &mut Samples,
    ) -> Option<Body> {
        let fields = self.fields(rule.event, (object, method, register))?;
        let mut is_meant = None;
        if let Some((table, row)) = register {
            let table = self.policy.tables.get(table)?;
            is_meant = Some(table.condition(table.rows.get(row)?));
        }
        let scope = Scope { fields: &fields, element: None };
        let mut condition = match &rule.condition {
            Some(condition) => Some(self.condition(scope, condition)?),
            None => None,
        };
        condition = match condition {
            Some(condition) => Some(both(is_meant, condition)),
            None => is_meant,
        };
        if let Some(is_active) = self.holds_when(&rule.subject) {
            condition = Some(both(condition, is_active));
        }
        let mut rates = own.to_vec();
        for rate in &rule.rates {
            rates.push(self.rate(scope, rate)?);
        }
        let mut effects = Vec::new();
        for grant in &rule.grants {
            let (is_given, used) = self.grant(scope, grant)?;
            condition = Some(both(condition, is_given));
            effects.push(used);
        }
        for effect in &rule.effects {
            effects.push(self.effect(scope, effect)?);
        }
        let states: Vec<u16> = effects.iter().map(Effect::state).chain(rates.iter().map(|rate| rate.state)).collect();
        if let Some(twice) =
            states.iter().enumerate().find(|(at, state)| states.iter().take(*at).any(|before| before == *state))
        {
            let name =
                self.policy.states.get(usize::from(*twice.1)).map(|state| state.name.clone()).unwrap_or_default();
            let help = "effects all see what was before the call: one rule changes a state object once";
            self.error(rule.span, format!("this rule changes `{name}` twice"), help);
        }
        let recording = self.recording(rule, (object, method), &fields, samples);
        Some(Body { object, method, condition, rates, effects, recording })
    }

    /// The registers of a table that a rule names.
    fn registers(&mut self, table: usize, name: Option<&Name>, targets: &mut Vec<Target>) {
        let Some(found) = self.policy.tables.get(table) else { return };
        let (object, method) = (found.object, found.method);
        let names: Vec<String> = found.rows.iter().map(|row| row.name.clone()).collect();
        match name {
            None => targets.extend((0..names.len()).map(|row| (object, method, Some((table, row))))),
            Some(name) => match names.iter().position(|known| *known == name.text) {
                Some(row) => targets.push((object, method, Some((table, row)))),
                None => self.unknown(name, "register called", names.iter().map(String::as_str)),
            },
        }
    }

    pub(crate) fn targets(&mut self, object: &Name, method: Option<&Name>, targets: &mut Vec<(u16, u16)>) {
        let Some(place) = self.policy.objects.iter().position(|known| known.name == object.text) else {
            let known: Vec<String> = self.policy.objects.iter().map(|known| known.name.clone()).collect();
            return self.unknown(object, "service, device or object of the wall", known.iter().map(String::as_str));
        };
        let methods: Vec<String> = self.policy.objects[place].methods.iter().map(|known| known.name.clone()).collect();
        let number = |at: usize| u16::try_from(at).unwrap_or(bulkhead_model::NONE);
        match method {
            None => {
                let called = (0..).zip(&self.policy.objects[place].methods).filter(|(_, method)| !method.is_question);
                targets.extend(called.map(|(at, _)| (number(place), number(at))));
            }
            Some(method) => match methods.iter().position(|known| *known == method.text) {
                Some(at) => targets.push((number(place), number(at))),
                None => {
                    let what = format!("method of `{}` called", object.text);
                    self.unknown(method, &what, methods.iter().map(String::as_str));
                }
            },
        }
    }
}

/// What holds if both do; the first is asked first.
pub(crate) fn both(before: Option<Expression>, then: Expression) -> Expression {
    match before {
        Some(before) => Expression::And(Box::new(before), Box::new(then)),
        None => then,
    }
}
