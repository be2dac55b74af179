//! Statements to a [`Policy`]: every name is found, every number fits. All findings are gathered.

use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::policy::{Device, Field, Method, Object, Policy, Resource, Rule, Values};
use crate::tree::{self, Condition, Constant, Interface, Item, Name, Targets};

/// The most fields of a message, one way.
const FIELDS: usize = bulkhead_model::MAX_ARGS;
/// The most methods of an interface: a capability has a bit for each.
const METHODS: usize = 64;

const TYPES: [(&str, Values); 9] = [
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
const OWN: [(&str, &str); 4] = [("psci", "Psci"), ("sysreg", "Registers"), ("mmio", "Memory"), ("task", "Tasks")];

/// Checks the statements of all files.
pub(crate) fn check(items: &[Item], findings: &mut Vec<Diagnostic>) -> Policy {
    let mut checker = Checker { findings, policy: Policy::default(), resources: Vec::new(), interfaces: Vec::new() };
    checker.policy.subjects = vec!["guest".to_string(), "kernel".to_string()];
    checker.heads(items);
    checker.interfaces(items);
    checker.declarations(items);
    for item in items {
        if let Item::Rule(rule) = item {
            checker.rule(rule);
        }
    }
    checker.policy
}

struct Checker<'a> {
    findings: &'a mut Vec<Diagnostic>,
    policy: Policy,
    resources: Vec<Resource>,
    interfaces: Vec<(String, Vec<Method>)>,
}

impl Checker<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Diagnostic::error(span, message, help));
    }

    fn unknown<'k>(&mut self, name: &Name, what: &str, known: impl IntoIterator<Item = &'k str> + Clone) {
        let near = nearest(&name.text, known.clone());
        let all: Vec<&str> = known.into_iter().take(12).collect();
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if all.is_empty() => "nothing of that kind is declared".to_string(),
            None => format!("known: {}", all.join(", ")),
        };
        self.error(name.span, format!("there is no {what} `{}`", name.text), help);
    }

    fn heads(&mut self, items: &[Item]) {
        let mut has_edition = false;
        for item in items {
            match item {
                Item::Edition(number, span) => {
                    has_edition = true;
                    if *number != 1 {
                        self.error(*span, format!("edition {number} is not known"), "write `edition 1`");
                    }
                }
                Item::Policy(name) => self.policy.name.clone_from(&name.text),
                _ => {}
            }
        }
        if !has_edition {
            self.error(Span { file: 1, ..Span::default() }, "the edition is not stated", "begin with `edition 1`");
        }
    }

    fn interfaces(&mut self, items: &[Item]) {
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

    fn twice(&mut self, name: &Name) {
        self.error(name.span, format!("`{}` is declared twice", name.text), "give one of them another name");
    }

    fn methods(&mut self, interface: &Interface) -> Vec<Method> {
        if interface.methods.len() > METHODS {
            self.error(interface.name.span, "an interface has at most 64 methods", "split it in two");
        }
        let mut methods: Vec<Method> = Vec::new();
        for method in interface.methods.iter().take(METHODS) {
            if methods.iter().any(|known| known.name == method.name.text) {
                self.twice(&method.name);
            }
            let arguments = self.fields(interface, method, &method.arguments);
            let replies = self.fields(interface, method, &method.replies);
            methods.push(Method { name: method.name.text.clone(), arguments, replies });
        }
        methods
    }

    fn fields(&mut self, interface: &Interface, method: &tree::Method, fields: &[tree::Field]) -> Vec<Field> {
        if fields.len() > FIELDS {
            self.error(method.name.span, format!("a message has at most {FIELDS} fields"), "split the method in two");
        }
        let mut all: Vec<Field> = Vec::new();
        for field in fields.iter().take(FIELDS) {
            if all.iter().any(|known| known.name == field.name.text) {
                self.twice(&field.name);
            }
            all.push(self.field(interface, field));
        }
        all
    }

    fn field(&mut self, interface: &Interface, field: &tree::Field) -> Field {
        let mut words = Vec::new();
        let kind = TYPES.iter().find(|(name, _)| *name == field.kind.text).map(|(_, values)| *values);
        let kind = kind.unwrap_or_else(|| {
            let found = interface.enums.iter().find(|(name, _)| name.text == field.kind.text);
            match found {
                Some((_, all)) => words = all.iter().map(|word| word.text.clone()).collect(),
                None => {
                    let known = TYPES.iter().map(|(name, _)| *name);
                    let enums: Vec<&str> = interface.enums.iter().map(|(name, _)| name.text.as_str()).collect();
                    self.unknown(&field.kind, "type", known.chain(enums).collect::<Vec<_>>());
                }
            }
            (0, i128::try_from(words.len()).unwrap_or(1).max(1) - 1)
        });
        if field.kind.text == "bool" {
            words = vec!["false".to_string(), "true".to_string()];
        }
        let name = field.name.text.clone();
        let mut checked = Field { name, range: kind, kind, words, is_secret: field.is_secret };
        if let Some(values) = field.range.as_ref().and_then(|range| self.values(&checked, range)) {
            checked.range = values;
        }
        checked
    }

    /// The values of a range of constants for a field; an error if they are none of its.
    fn values(&mut self, field: &Field, (low, high): &(Constant, Constant)) -> Option<Values> {
        let (start, end) = (self.value(field, low)?, self.value(field, high)?);
        if start > end {
            self.error(low.span().to(high.span()), "this range is empty", format!("write {end}..{start}"));
            return None;
        }
        Some((start, end))
    }

    fn value(&mut self, field: &Field, constant: &Constant) -> Option<i128> {
        let (low, high) = field.range;
        match (field.constant(constant), constant) {
            (Some(value), _) if (low..=high).contains(&value) => Some(value),
            (Some(value), _) => {
                let message = format!("`{}` is never {value}", field.name);
                self.error(constant.span(), message, format!("its values are {low}..{high}"));
                None
            }
            (None, Constant::Word(name)) => {
                self.unknown(
                    name,
                    &format!("value of `{}` called", field.name),
                    field.words.iter().map(String::as_str),
                );
                None
            }
            (None, Constant::Number(..)) => None,
        }
    }

    fn declarations(&mut self, items: &[Item]) {
        for (name, interface) in OWN {
            let methods = self.interface_methods(interface);
            self.policy.objects.push(Object { name: name.to_string(), server: None, methods });
        }
        for item in items {
            if let Item::App(name) = item {
                if self.policy.subjects.contains(&name.text) {
                    self.twice(name);
                }
                self.policy.subjects.push(name.text.clone());
            }
        }
        for item in items {
            match item {
                Item::Service(name, interface, app) => self.service(name, interface, app),
                Item::Device(range, app) => self.device(range, app),
                Item::Resource(range) => self.resource(range),
                Item::Let(name, ranges) => {
                    if self.policy.sets.iter().any(|(known, _)| *known == name.text) {
                        self.twice(name);
                    }
                    self.policy.sets.push((name.text.clone(), ranges.clone()));
                }
                _ => {}
            }
        }
    }

    fn interface_methods(&self, name: &str) -> Vec<Method> {
        self.interfaces.iter().find(|(known, _)| known == name).map(|(_, methods)| methods.clone()).unwrap_or_default()
    }

    fn app(&mut self, name: &Name) -> Option<u16> {
        let found = self.policy.subjects.iter().skip(2).position(|known| *known == name.text);
        if found.is_none() {
            let known = self.policy.subjects.clone();
            self.unknown(name, "app", known.iter().skip(2).map(String::as_str));
        }
        found.and_then(|at| u16::try_from(at + 2).ok())
    }

    fn object(&mut self, name: &Name, server: u16, methods: Vec<Method>) -> u16 {
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

    fn device(&mut self, range: &tree::Range, app: &Name) {
        let methods = self.interface_methods("Device");
        let Some(server) = self.app(app) else { return };
        let object = self.object(&range.name, server, methods);
        if let Some((base, bytes, interrupt)) = self.numbers(range) {
            let name = range.name.text.clone();
            self.policy.devices.push(Device { name, object, server, base, bytes, interrupt });
        }
    }

    fn resource(&mut self, range: &tree::Range) {
        if self.resources.iter().any(|known| known.name == range.name.text) {
            self.twice(&range.name);
        }
        let Some((base, bytes, interrupt)) = self.numbers(range) else { return };
        if base % 4096 != 0 || bytes % 4096 != 0 {
            let help = "a passed-through range begins and ends at a page: a multiple of 0x1000";
            self.error(range.span, "this range shares a page with something else", help);
        }
        self.resources.push(Resource { name: range.name.text.clone(), base, bytes, interrupt });
    }

    fn numbers(&mut self, range: &tree::Range) -> Option<(u64, u64, Option<u32>)> {
        let (base, bytes) = (u64::try_from(range.base).ok()?, u64::try_from(range.bytes).ok()?);
        if bytes == 0 || base.checked_add(bytes).is_none_or(|end| end > 1 << 39) {
            self.error(range.span, "this range is empty or ends above 512 GiB", "check the address and the size");
            return None;
        }
        let interrupt = range.interrupt.and_then(|intid| u32::try_from(intid).ok());
        if range.interrupt.is_some() && !interrupt.is_some_and(|intid| (32..1020).contains(&intid)) {
            let help = "an INTID is 32..1019: the device tree's SPI number plus 32";
            self.error(range.span, "this is no interrupt of a device", help);
            return None;
        }
        Some((base, bytes, interrupt))
    }

    fn rule(&mut self, rule: &tree::Rule) {
        let subject = self.policy.subjects.iter().position(|known| *known == rule.subject.text);
        let Some(subject) = subject.and_then(|at| u16::try_from(at).ok()) else {
            let known = self.policy.subjects.clone();
            return self.unknown(&rule.subject, "subject", known.iter().map(String::as_str));
        };
        match &rule.targets {
            Targets::Use(names) => self.use_rule(rule, subject, names),
            Targets::Methods(names) => self.method_rule(rule, subject, names),
        }
    }

    fn use_rule(&mut self, rule: &tree::Rule, subject: u16, names: &[Name]) {
        let is_owner = subject != bulkhead_model::subject::KERNEL;
        if !is_owner || !rule.is_allow || rule.condition.is_some() || rule.audit {
            let help = "write `allow guest use NAME` or `allow APP use NAME`; what is not allowed is refused anyway";
            self.error(rule.span, "a resource is given to the guest or to an app for good, or not at all", help);
        }
        for name in names {
            let is_taken = |known: &Resource| known.name == name.text;
            if self.policy.resources.iter().any(is_taken) || self.policy.driven.iter().any(|(_, known)| is_taken(known))
            {
                self.error(name.span, format!("`{}` is given twice", name.text), "a resource has one owner");
            }
            match self.resources.iter().find(|resource| resource.name == name.text).cloned() {
                Some(resource) if subject == bulkhead_model::subject::GUEST => self.policy.resources.push(resource),
                Some(resource) => self.policy.driven.push((subject, resource)),
                None => {
                    let known: Vec<String> = self.resources.iter().map(|resource| resource.name.clone()).collect();
                    self.unknown(name, "resource", known.iter().map(String::as_str));
                }
            }
        }
    }

    fn method_rule(&mut self, rule: &tree::Rule, subject: u16, names: &[(Name, Option<Name>)]) {
        let before = self.findings.len();
        let mut targets = Vec::new();
        for (object, method) in names {
            self.targets(object, method.as_ref(), &mut targets);
        }
        if let Some(condition) = &rule.condition {
            for &(object, method) in &targets {
                let arguments = self.policy.method(object, method).map(|method| method.arguments.clone());
                self.condition(condition, &arguments.unwrap_or_default());
            }
        }
        if rule.audit && !rule.is_allow {
            self.findings.push(Diagnostic::warning(rule.span, "refusals are always recorded", "remove `audit`"));
        }
        if self.findings.iter().skip(before).all(|finding| finding.severity == crate::Severity::Warning) {
            let tree::Rule { is_allow, condition, audit, because, span, .. } = rule.clone();
            self.policy.rules.push(Rule { is_allow, subject, targets, condition, audit, because, span });
        }
    }

    fn targets(&mut self, object: &Name, method: Option<&Name>, targets: &mut Vec<(u16, u16)>) {
        let Some(place) = self.policy.objects.iter().position(|known| known.name == object.text) else {
            let known: Vec<String> = self.policy.objects.iter().map(|known| known.name.clone()).collect();
            return self.unknown(object, "service, device or object of the wall", known.iter().map(String::as_str));
        };
        let methods: Vec<String> = self.policy.objects[place].methods.iter().map(|known| known.name.clone()).collect();
        let number = |at: usize| u16::try_from(at).unwrap_or(bulkhead_model::NONE);
        match method {
            None => targets.extend((0..methods.len()).map(|at| (number(place), number(at)))),
            Some(method) => match methods.iter().position(|known| *known == method.text) {
                Some(at) => targets.push((number(place), number(at))),
                None => {
                    let what = format!("method of `{}` called", object.text);
                    self.unknown(method, &what, methods.iter().map(String::as_str));
                }
            },
        }
    }

    fn condition(&mut self, condition: &Condition, arguments: &[Field]) {
        match condition {
            Condition::Or(left, right) | Condition::And(left, right) => {
                self.condition(left, arguments);
                self.condition(right, arguments);
            }
            Condition::Not(inner) => self.condition(inner, arguments),
            Condition::Compare(name, _, constant) => {
                if let Some(field) = self.argument(name, arguments) {
                    self.value(&field, constant);
                }
            }
            Condition::In(name, set) => {
                let Some(field) = self.argument(name, arguments) else { return };
                match self.policy.set(set).map(<[_]>::to_vec) {
                    Some(ranges) => ranges.iter().for_each(|range| {
                        self.values(&field, range);
                    }),
                    None => {
                        if let tree::Set::Named(name) = set {
                            let known: Vec<String> = self.policy.sets.iter().map(|(name, _)| name.clone()).collect();
                            self.unknown(name, "set", known.iter().map(String::as_str));
                        }
                    }
                }
            }
        }
    }

    fn argument(&mut self, name: &Name, arguments: &[Field]) -> Option<Field> {
        let found = arguments.iter().find(|field| field.name == name.text).cloned();
        if found.is_none() {
            self.unknown(name, "argument", arguments.iter().map(|field| field.name.as_str()));
        }
        found
    }
}
