//! A mandatory lattice of integrity: labels of levels and categories, which no rule may overrule. What it forbids for good is an error
//! at the rule that would allow it; what depends on a label that has risen, or on which app is started, becomes denying rules.

use crate::Diagnostic;
use crate::check::Checker;
use crate::diagnostic::Span;
use crate::expressions::Scope;
use crate::policy::{Body, Expression, Label, Labelled, Lattice, Reason, Recording, Rule, Values};
use crate::regions;
use crate::tree::{self, Decision, Event, Item, Name, Way};

/// The most categories: a label has a bit for each.
const CATEGORIES: usize = 64;
/// Subjects before the apps: the guest and the kernel.
const NOT_APPS: usize = 2;

impl Lattice {
    /// A label as a person says it: `plant of boiler, turbine`.
    #[must_use]
    pub fn show(&self, label: Label) -> String {
        let level = self.levels.get(label.level).map_or("?", String::as_str);
        let all = self.categories.iter().enumerate().filter(|(at, _)| label.categories >> at & 1 == 1);
        let all: Vec<&str> = all.map(|(_, name)| name.as_str()).collect();
        if all.is_empty() { level.to_string() } else { format!("{level} of {}", all.join(", ")) }
    }

    /// What nobody named: the lowest level, no category.
    const fn lowest(&self) -> Labelled {
        Labelled { label: Label { level: 0, categories: 0 }, rise: None, span: self.span, is_named: false }
    }

    /// The label of a subject. The kernel that nobody named is the highest: it starts all others.
    #[must_use]
    pub fn subject(&self, subject: u16) -> Labelled {
        let named = self.subjects.iter().find(|(known, _)| *known == subject).map(|(_, labelled)| labelled.clone());
        named.unwrap_or_else(|| {
            let categories = self.categories.iter().fold(0, |bits, _| bits << 1 | 1);
            let highest = Label { level: self.levels.len().saturating_sub(1), categories };
            let lowest = self.lowest();
            if subject == bulkhead_model::subject::KERNEL { Labelled { label: highest, ..lowest } } else { lowest }
        })
    }

    /// The label of an object: its own, or its server's; the wall's own have none unless they are named.
    #[must_use]
    pub fn object(&self, object: u16, server: Option<u16>) -> Option<Labelled> {
        let named = self.objects.iter().find(|(known, _)| *known == object).map(|(_, labelled)| labelled.clone());
        named.or_else(|| server.map(|server| self.subject(server)))
    }
}

impl Label {
    /// Whether it is as high, and has all categories.
    #[must_use]
    pub const fn dominates(self, other: Self) -> bool {
        self.level >= other.level && other.categories & !self.categories == 0
    }
}

impl Way {
    /// Whether the lattice lets a subject reach an object this way: nothing flows from a lower label to a higher one.
    #[must_use]
    pub const fn is_open(self, subject: Label, object: Label) -> bool {
        match self {
            Self::Reads | Self::Executes => object.dominates(subject),
            Self::Writes => subject.dominates(object),
            Self::Calls => subject.dominates(object) && object.dominates(subject),
        }
    }

    /// What the lattice wants of it.
    const fn wants(self) -> &'static str {
        match self {
            Self::Reads => "it reads, and what is read must not be lower than who reads",
            Self::Executes => "it executes, and what is executed must not be lower than who executes it",
            Self::Writes => "it writes, and who writes must not be lower than what is written",
            Self::Calls => "it is a call, which flows both ways, so that the labels must be the same",
        }
    }
}

/// Which methods of which objects a subject reaches only with, or only without, its risen label.
#[derive(Default)]
struct Held {
    only_risen: Vec<(u16, u16)>,
    only_low: Vec<(u16, u16)>,
}

impl Checker<'_> {
    /// All lattices of the files; they look at the rules, so that these are checked before.
    pub(crate) fn lattices(&mut self, items: &[Item]) {
        for item in items {
            let Item::Lattice(written) = item else { continue };
            if self.policy.lattices.iter().any(|known| known.name == written.name.text) {
                self.twice(&written.name);
            }
            let before = self.findings.len();
            let lattice = self.lattice(written).filter(|_| self.findings.len() == before);
            if let Some(lattice) = lattice {
                self.enforce(&lattice);
                self.policy.lattices.push(lattice);
            }
        }
    }

    fn lattice(&mut self, written: &tree::Lattice) -> Option<Lattice> {
        for (names, what) in [(&written.levels, "level"), (&written.categories, "category")] {
            if let Some((_, twice)) =
                names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|known| known.text == name.text))
            {
                self.error(twice.span, format!("the {what} `{}` stands here twice", twice.text), "name each once");
            }
        }
        if written.levels.is_empty() || written.categories.len() > CATEGORIES {
            let help = "levels LOWEST, …, HIGHEST; categories NAME, … (64 at most)";
            self.error(written.name.span, "a lattice has levels, and perhaps categories", help);
            return None;
        }
        let texts = |names: &[Name]| names.iter().map(|name| name.text.clone()).collect();
        let (levels, categories) = (texts(&written.levels), texts(&written.categories));
        let (subjects, objects) = (Vec::new(), Vec::new());
        let mut lattice =
            Lattice { name: written.name.text.clone(), levels, categories, subjects, objects, span: written.span };
        for line in &written.lines {
            let label = self.label(&lattice, &line.label);
            let rise = match &line.rise {
                Some((label, condition)) => {
                    let label = self.label(&lattice, label);
                    let condition = self.condition(Scope { fields: &[], element: None }, condition);
                    Some((label?, condition?))
                }
                None => None,
            };
            let label = label?;
            if rise.as_ref().is_some_and(|(risen, _)| !risen.dominates(label) || *risen == label) {
                let help = format!("write a label above {}, with all its categories", lattice.show(label));
                self.error(line.span, "this label does not rise", help);
            }
            let labelled = Labelled { label, rise, span: line.span, is_named: true };
            for name in &line.names {
                if self.holds_when(name).is_some() {
                    let help =
                        "name its members, or let their labels rise: `NAME at LEVEL rises to LEVEL when CONDITION`";
                    self.error(
                        name.span,
                        format!("`{}` holds under a condition, and a label is for good", name.text),
                        help,
                    );
                    continue;
                }
                for member in self.members(name) {
                    self.labelled(&mut lattice, &member, &labelled);
                }
            }
        }
        Some(lattice)
    }

    fn label(&mut self, lattice: &Lattice, label: &tree::Label) -> Option<Label> {
        let Some(level) = lattice.levels.iter().position(|known| *known == label.level.text) else {
            self.unknown(&label.level, "level", lattice.levels.iter().map(String::as_str));
            return None;
        };
        let mut categories = 0;
        for name in &label.categories {
            let Some(at) = lattice.categories.iter().position(|known| *known == name.text) else {
                self.unknown(name, "category", lattice.categories.iter().map(String::as_str));
                return None;
            };
            categories |= 1 << at;
        }
        Some(Label { level, categories })
    }

    /// A name is that of a subject, of an object, or of both: an app and what it serves.
    fn labelled(&mut self, lattice: &mut Lattice, name: &Name, labelled: &Labelled) {
        let number = |found: Option<usize>| found.and_then(|at| u16::try_from(at).ok());
        let subject = number(self.policy.subjects.iter().position(|known| *known == name.text));
        let object = number(self.policy.objects.iter().position(|object| object.name == name.text));
        if subject.is_none() && object.is_none() {
            let objects = self.policy.objects.iter().map(|object| object.name.clone());
            let known: Vec<String> = self.policy.subjects.iter().cloned().chain(objects).collect();
            return self.unknown(name, "subject or object", known.iter().map(String::as_str));
        }
        let is_known = subject.is_some_and(|subject| lattice.subjects.iter().any(|(known, _)| *known == subject))
            || object.is_some_and(|object| lattice.objects.iter().any(|(known, _)| *known == object));
        if is_known {
            return self.error(name.span, format!("`{}` has a label already", name.text), "it has one in each lattice");
        }
        if subject.is_none() && labelled.rise.is_some() {
            let help = "let the labels of those rise who call it";
            return self.error(name.span, format!("`{}` calls nothing: its label does not rise", name.text), help);
        }
        lattice.subjects.extend(subject.map(|subject| (subject, labelled.clone())));
        lattice.objects.extend(object.map(|object| (object, Labelled { rise: None, ..labelled.clone() })));
    }

    /// Holds every allowing rule against a lattice.
    fn enforce(&mut self, lattice: &Lattice) {
        let rules = std::mem::take(&mut self.policy.rules);
        let allows = || rules.iter().filter(|rule| rule.decision == Decision::Allow && rule.event == Event::Request);
        let mut denying = Vec::new();
        for subject in (0_u16..).take(self.policy.subjects.len()) {
            let own = lattice.subject(subject);
            let mut held = Held::default();
            for rule in allows().filter(|rule| rule.subjects.contains(&subject)) {
                // One mistake of a rule is one error.
                let wrong =
                    rule.bodies.iter().find_map(|body| self.forbidden(lattice, (subject, &own), body, &mut held));
                if let Some(finding) = wrong.map(|finding| Diagnostic { span: rule.span, ..finding }) {
                    self.findings.push(finding);
                }
            }
            denying.extend(self.rise_rules(lattice, (subject, &own), held));
            denying.extend(self.start_rule(lattice, (subject, &own), &allows().collect::<Vec<_>>()));
        }
        self.policy.rules = rules;
        self.policy.rules.extend(denying);
    }

    /// What a lattice says against a method for a subject: an error, whatever its label is; else which label it needs.
    fn forbidden(
        &self,
        lattice: &Lattice,
        (subject, own): (u16, &Labelled),
        body: &Body,
        held: &mut Held,
    ) -> Option<Diagnostic> {
        let object = self.policy.objects.get(usize::from(body.object))?;
        let method = object.methods.get(usize::from(body.method))?;
        let theirs = lattice.object(body.object, object.server)?;
        let is_open = |label| method.way.is_open(label, theirs.label);
        let place = (body.object, body.method);
        match (is_open(own.label), own.rise.as_ref().map_or(is_open(own.label), |(risen, _)| is_open(*risen))) {
            (true, true) => return None,
            (false, true) => {
                held.only_risen.push(place);
                return None;
            }
            (true, false) => {
                held.only_low.push(place);
                return None;
            }
            (false, false) => {}
        }
        let name = self.policy.subjects.get(usize::from(subject)).map_or("?", String::as_str);
        let risen = own.rise.as_ref().map_or(String::new(), |(risen, _)| format!(" (or {})", lattice.show(*risen)));
        let message = format!(
            "the lattice `{}` forbids `{}.{}` to `{name}`: {}",
            lattice.name,
            object.name,
            method.name,
            method.way.wants()
        );
        // Only what lies above is reached by rising.
        let rise = if theirs.label.dominates(own.label) {
            format!(", let the label rise (`{name} at … rises to {} when CONDITION`)", lattice.show(theirs.label))
        } else {
            String::new()
        };
        let help = format!(
            "remove it, give one of them another label{rise}, or say in the interface what the method does: reads, writes, \
             executes"
        );
        let said = |what: &str, labelled: &Labelled| {
            let by_default = if labelled.is_named { "" } else { ", as nothing else is said here" };
            format!("`{what}` is {}{by_default}", lattice.show(labelled.label))
        };
        let finding = Diagnostic::error(Span::default(), message, help);
        Some(finding.also(own.span, said(name, own) + &risen).also(theirs.span, said(&object.name, &theirs)))
    }

    /// What a subject with a rising label may do only with the one, or only with the other.
    fn rise_rules(&mut self, lattice: &Lattice, (subject, own): (u16, &Labelled), held: Held) -> Vec<Rule> {
        let Some((risen, condition)) = &own.rise else { return Vec::new() };
        if held.only_risen.is_empty() {
            let warning =
                Diagnostic::warning(own.span, "no rule needs this rise", "remove it, or allow what it is for");
            self.findings.push(warning);
        }
        let name = self.policy.subjects.get(usize::from(subject)).cloned().unwrap_or_default();
        let (low, high) = (lattice.show(own.label), lattice.show(*risen));
        let is_low = Expression::Not(Box::new(condition.clone()));
        let all = [
            (held.only_risen, is_low, format!("{name} is {low} and has not risen to {high}")),
            (
                held.only_low,
                condition.clone(),
                format!("{name} has risen to {high}, and what is lower is closed to it"),
            ),
        ];
        let all = all.into_iter().filter(|(places, ..)| !places.is_empty());
        all.map(|(mut places, condition, because)| {
            places.sort_unstable();
            places.dedup();
            let places = places.into_iter().map(|place| (place, condition.clone())).collect();
            denying(lattice, subject, own.span, places, because)
        })
        .collect()
    }

    /// Who starts apps starts none that is higher than itself.
    fn start_rule(&mut self, lattice: &Lattice, (subject, own): (u16, &Labelled), allows: &[&Rule]) -> Option<Rule> {
        let start = (bulkhead_model::object::TASK, bulkhead_model::method::START);
        let apps = || (0_u16..).take(self.policy.subjects.len()).skip(NOT_APPS);
        let is_higher = |app: &u16| !own.label.dominates(lattice.subject(*app).label);
        let higher: Vec<Values> = apps().filter(is_higher).map(|app| (app.into(), app.into())).collect();
        let first = higher.first()?.0;
        let lower: Vec<Vec<Values>> =
            apps().filter(|app| !is_higher(app)).map(|app| vec![(app.into(), app.into())]).collect();
        let mut is_needed = false;
        for rule in allows.iter().filter(|rule| rule.subjects.contains(&subject)) {
            for body in rule.bodies_for(subject, start.0, start.1, Event::Request) {
                let region = regions::extent(&self.policy, body, Event::Request).map(|extent| extent.region).ok()?;
                let has_left = regions::intersection(&region, &lower).is_ok_and(|left| !left.is_empty());
                is_needed |= has_left;
                if has_left {
                    continue;
                }
                let names = |subject: u16| self.policy.subjects.get(usize::from(subject)).cloned().unwrap_or_default();
                let (starter, app) = (names(subject), u16::try_from(first).unwrap_or(0));
                let theirs = lattice.subject(app);
                let message = format!(
                    "the lattice `{}` denies all that this rule allows: `{starter}` starts nothing that is higher than itself",
                    lattice.name
                );
                let help = "remove the rule, or give one of them another label";
                let said = |name: &str, labelled: &Labelled| format!("`{name}` is {}", lattice.show(labelled.label));
                let finding = Diagnostic::error(rule.span, message, help);
                let finding = finding.also(own.span, said(&starter, own)).also(theirs.span, said(&names(app), &theirs));
                self.findings.push(finding);
            }
        }
        let name = self.policy.subjects.get(usize::from(subject)).cloned().unwrap_or_default();
        let because = format!("{name} is {}, and starts nothing that is higher", lattice.show(own.label));
        let is_higher = Expression::Within(Box::new(Expression::Argument(0)), crate::normal::union(higher));
        is_needed.then(|| denying(lattice, subject, own.span, vec![(start, is_higher)], because))
    }
}

/// A rule of the lattice's own: it has its name, and the place of the label.
fn denying(
    lattice: &Lattice,
    subject: u16,
    span: Span,
    places: Vec<((u16, u16), Expression)>,
    because: String,
) -> Rule {
    let body = |((object, method), condition)| Body {
        object,
        method,
        condition: Some(condition),
        rates: Vec::new(),
        effects: Vec::new(),
        recording: Some(Recording::default()),
    };
    Rule {
        decision: Decision::Deny,
        subjects: vec![subject],
        event: Event::Request,
        bodies: places.into_iter().map(body).collect(),
        because: Some(Reason { written: because.clone(), told: because, to_caller: false }),
        name: Some(lattice.name.clone()),
        span,
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{Both, ask, build};
    use bulkhead_model::Reason;
    use proptest::prelude::*;

    const HEAD: &str = "edition 1\npolicy p\ninterface I {\n method look() -> (v: u8) reads\n method put(v: u8) -> () writes\n \
        method ask() -> (v: u8)\n method run() -> () executes\n}\napp low\napp mid\napp side\napp high\n\
        service l: I by low\nservice m: I by mid\nservice s: I by side\nservice h: I by high\n\
        flow shift per caller {\n closed -> open\n open -> closed\n}\n";
    const LABELS: &str = "lattice integrity {\n levels public, plant, safety\n categories boiler, turbine\n \
        mid at plant of boiler\n side at plant of turbine\n high at safety of boiler, turbine\n}\n";

    #[test]
    fn nothing_flows_from_a_lower_label_to_a_higher_one() {
        for (subject, target, is_open) in [
            ("mid", "h.look", true),
            ("mid", "m.look", true),
            ("mid", "l.look", false),
            ("mid", "l.put", true),
            ("mid", "h.put", false),
            ("mid", "m.ask", true),
            ("mid", "h.ask", false),
            ("mid", "l.ask", false),
            ("mid", "h.run", true),
            ("mid", "l.run", false),
            ("mid", "s.look", false),
            ("mid", "s.put", false),
            ("guest", "h.look", true),
            ("guest", "m.put", false),
            ("guest", "l.ask", true),
            ("high", "s.put", true),
            ("kernel", "h.put", true),
            ("kernel", "m.look", false),
            ("guest", "psci.off", true),
        ] {
            let site = build(&format!("{HEAD}{LABELS}allow {subject} {target}\n"));
            assert_eq!(site.is_ok(), is_open, "{subject} {target}: {:?}", site.err());
        }
    }

    #[test]
    fn what_is_forbidden_names_both_labels_their_places_and_the_rules() {
        let text = build(&format!("{HEAD}{LABELS}group some: high, guest\nallow some h.look, m.put\n")).unwrap_err();
        for piece in [
            "the lattice `integrity` forbids `m.put` to `guest`: it writes, and who writes must not be lower",
            "--> site.policy:29:1",
            "see: site.policy:21: `guest` is public, as nothing else is said here",
            "see: site.policy:24: `m` is plant of boiler",
            "`guest at … rises to plant of boiler when CONDITION`",
        ] {
            assert!(text.contains(piece), "{piece}: {text}");
        }
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }

    #[test]
    fn mistakes_in_a_lattice_are_told_once_with_the_remedy() {
        let with =
            |line: &str| format!("{HEAD}{}allow guest l.look\n", LABELS.replacen("}\n", &format!("{line}\n}}\n"), 1));
        for (line, message, help) in [
            ("gest at public", "no subject or object `gest`", "did you mean `guest`?"),
            ("guest at plnt", "there is no level `plnt`", "did you mean `plant`?"),
            ("guest at plant of boilr", "there is no category `boilr`", "did you mean `boiler`?"),
            ("mid at public", "`mid` has a label already", "one in each lattice"),
            ("guest at plant rises to public when shift is open", "this label does not rise", "above plant"),
            ("guest at plant of boiler rises to safety when shift is open", "this label does not rise", "categories"),
            ("l at public rises to plant when shift is open", "`l` calls nothing", "who call it"),
            ("guest at public rises to plant when shift is opn", "`opn`", "did you mean `open`?"),
            ("guest at public rises to plant", "expected `when`", "rises to LEVEL when"),
            ("guest is public", "expected `at` and a label", "NAME at LEVEL"),
            ("levels public", "the level `public` stands here twice", "once"),
        ] {
            let text = build(&with(line)).unwrap_err();
            assert!(
                text.contains(message) && text.contains(help) && text.matches("error:").count() == 1,
                "{line}: {text}"
            );
        }
        let text = build(&format!(
            "{HEAD}group on: guest when shift is open\n{}",
            LABELS.replacen("}\n", "on at plant\n}\n", 1)
        ));
        assert!(text.as_ref().is_err_and(|text| text.contains("a label is for good")), "{text:?}");
        assert!(build(&format!("{HEAD}lattice l {{\n}}\n")).unwrap_err().contains("a lattice has levels"));
        assert!(build(&format!("{HEAD}{LABELS}{LABELS}")).unwrap_err().contains("declared twice"));
    }

    #[test]
    fn a_label_rises_while_its_condition_holds_and_what_is_lower_is_then_closed() {
        let labels = LABELS.replacen("}\n", "guest at public rises to plant of boiler when shift is open\n}\n", 1);
        let text = format!(
            "{HEAD}{labels}allow guest m.put, l.look, h.look\nallow guest psci.version then shift becomes open\n"
        );
        let site = build(&text).unwrap();
        let mut both = Both::new(&site);
        for (target, arguments, wanted) in [
            ("m.put", [1].as_slice(), Reason::DeniedByRule),
            ("l.look", &[], Reason::Allowed),
            ("psci.version", &[], Reason::Allowed),
            ("m.put", &[1], Reason::Allowed),
            ("l.look", &[], Reason::DeniedByRule),
            ("h.look", &[], Reason::Allowed),
        ] {
            assert_eq!(both.ask("guest", target, arguments).0, wanted, "{target}");
        }
        let own = || site.policy.rules.iter().skip(2);
        assert!(own().flat_map(|rule| &rule.bodies).all(|body| body.recording.is_some()), "its refusals are recorded");
        let rules: Vec<_> =
            own().map(|rule| (rule.name.clone(), rule.because.clone().map(|because| because.written))).collect();
        let name = Some("integrity".to_string());
        let because = |text: &str| Some(text.to_string());
        assert_eq!(
            rules,
            [
                (name.clone(), because("guest is public and has not risen to plant of boiler")),
                (name, because("guest has risen to plant of boiler, and what is lower is closed to it")),
            ]
        );
        assert_eq!(ask(&site, "guest", "m.put", &[1]).1, Some(27), "the label's line");
        let idle = build(&text.replace("m.put, ", "")).unwrap();
        assert!(idle.warnings.iter().any(|warning| warning.message == "no rule needs this rise"));
        let error = build(&text.replace("m.put", "h.put")).unwrap_err();
        assert!(error.contains("`guest` is public (or plant of boiler)") && error.contains("`h` is safety"), "{error}");
    }

    #[test]
    fn who_starts_apps_starts_none_that_is_higher() {
        let labels = LABELS.replacen("}\n", "kernel at plant of boiler\n}\n", 1);
        let site = build(&format!("{HEAD}{labels}allow kernel task.start\n")).unwrap();
        let start = |app: &str| ask(&site, "kernel", "task.start", &[site.subject(app).unwrap().into()]).0;
        assert_eq!(
            ["low", "mid", "side", "high"].map(start),
            [Reason::Allowed, Reason::Allowed, Reason::DeniedByRule, Reason::DeniedByRule]
        );
        let error = build(&format!("{HEAD}{labels}allow kernel task.start when subject in {{ 4, 5 }}\n")).unwrap_err();
        for piece in [
            "denies all that this rule allows",
            "`kernel` is plant of boiler",
            "`side` is plant of turbine",
            "--> site.policy:29:1",
        ] {
            assert!(error.contains(piece), "{piece}: {error}");
        }
        // Without a label of its own the kernel is the highest, and nothing is denied.
        assert_eq!(build(&format!("{HEAD}{LABELS}allow kernel task.start\n")).unwrap().policy.rules.len(), 1);
    }

    /// A label: a level, and categories as bits.
    type Plain = (u8, u8);

    fn is_open(way: usize, (level, categories): Plain, (their_level, theirs): Plain) -> bool {
        let (is_above, is_below) =
            (level >= their_level && theirs & !categories == 0, their_level >= level && categories & !theirs == 0);
        [is_below, is_above, is_above && is_below, is_below][way]
    }

    fn written((level, categories): Plain) -> String {
        let of = [(1, "boiler"), (2, "turbine")].into_iter().filter(|(bit, _)| categories & bit != 0);
        let of: Vec<&str> = of.map(|(_, name)| name).collect();
        let level = ["public", "plant", "safety"][usize::from(level)];
        if of.is_empty() { level.to_string() } else { format!("{level} of {}", of.join(", ")) }
    }

    fn label() -> impl Strategy<Value = Plain> {
        (0_u8..3, 0_u8..4)
    }

    const APPS: [&str; 4] = ["low", "mid", "side", "high"];
    const OBJECTS: [&str; 4] = ["l", "m", "s", "h"];
    const METHODS: [&str; 4] = ["look", "put", "ask", "run"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever the labels and the rules: what compiles allows, at any time, what the labels of that time leave open and
        /// nothing else; what does not compile has a rule that no label leaves open.
        #[test]
        fn the_lattice_holds_whatever_the_rules_allow(
            labels in prop::collection::vec((label(), prop::option::of(label())), 4),
            own in prop::collection::vec(prop::option::weighted(0.3, label()), 4),
            allows in prop::collection::vec((0_usize..4, 0_usize..4, 0_usize..4), 1..5),
        ) {
            let mut text = format!("{HEAD}group all: low, mid, side, high\nlattice integrity {{\n levels public, plant, safety\n categories boiler, turbine\n");
            let risen = |at: usize| {
                let (low, high) = labels[at];
                high.map(|(level, categories)| (level.max(low.0), categories | low.1)).filter(|high| *high != low)
            };
            for (at, app) in APPS.iter().enumerate() {
                let rise = risen(at).map_or(String::new(), |high| format!(" rises to {} when shift is open", written(high)));
                text.push_str(&format!(" {app} at {}{rise}\n", written(labels[at].0)));
                if let Some(label) = own[at] {
                    text.push_str(&format!(" {} at {}\n", OBJECTS[at], written(label)));
                }
            }
            text.push_str("}\nallow all psci.version then shift becomes open\nallow all psci.off then reset shift\n");
            for (subject, object, method) in &allows {
                text.push_str(&format!("allow {} {}.{}\n", APPS[*subject], OBJECTS[*object], METHODS[*method]));
            }
            let of_object = |object: usize| own[object].unwrap_or(labels[object].0);
            let now = |subject: usize, is_risen: bool| risen(subject).filter(|_| is_risen).unwrap_or(labels[subject].0);
            let opens = |subject, object, method, is_risen| is_open(method, now(subject, is_risen), of_object(object));
            let is_wrong = allows.iter().any(|&(s, o, m)| !opens(s, o, m, false) && !opens(s, o, m, true));
            let site = build(&text);
            prop_assert_eq!(site.is_err(), is_wrong, "{}\n{:?}", text, site.err());
            let Ok(site) = site else { return Ok(()) };
            let mut both = Both::new(&site);
            for is_risen in [false, true, false] {
                for (subject, name) in APPS.iter().enumerate() {
                    both.ask(name, if is_risen { "psci.version" } else { "psci.off" }, &[]);
                    for (object, method) in (0..4).flat_map(|object| (0..4).map(move |method| (object, method))) {
                        let arguments: &[i128] = if method == 1 { &[1] } else { &[] };
                        let verdict = both.ask(name, &format!("{}.{}", OBJECTS[object], METHODS[method]), arguments).0;
                        let wanted = match (allows.contains(&(subject, object, method)), opens(subject, object, method, is_risen)) {
                            (false, _) => Reason::NoRule,
                            (true, true) => Reason::Allowed,
                            (true, false) => Reason::DeniedByRule,
                        };
                        prop_assert_eq!(verdict, wanted, "{} {} {}\n{}", name, OBJECTS[object], METHODS[method], text);
                    }
                }
            }
        }
    }
}
