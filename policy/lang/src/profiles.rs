//! What is recorded: profiles as written to what each rule says of its messages. A profile thins out what rules allow or deny;
//! what no rule decides is always recorded, and a secret never.

use crate::check::Checker;
use crate::diagnostic::{Diagnostic, Span};
use crate::expressions::Scope;
use crate::policy::{Expression, Field, Place, Recording, State, StateKind};
use crate::tree::{self, Decision, Item, Name};

/// The most messages of which one is recorded.
const SAMPLE: i128 = 1_000_000;

/// A profile whose names are found.
pub(crate) struct Profile {
    name: Name,
    /// The methods whose rules follow it without naming it.
    methods: Vec<(u16, u16)>,
    /// `None`: as without the profile.
    allowed: Option<Line>,
    denied: Option<Line>,
    /// The arguments that are recorded, and whether a method has them.
    only: Option<Vec<(Name, bool)>>,
    is_used: bool,
}

#[derive(Clone)]
struct Line {
    condition: Option<Expression>,
    sample: u32,
}

/// The counters of a rule's samples, by profile.
pub(crate) type Samples = Vec<(usize, Place)>;

impl Checker<'_> {
    /// All profiles of the files.
    pub(crate) fn profiles(&mut self, items: &[Item]) {
        for item in items {
            let Item::Profile(profile) = item else { continue };
            if self.profiles.iter().any(|known| known.name.text == profile.name.text) {
                self.twice(&profile.name);
            }
            let mut methods = Vec::new();
            for (object, method) in &profile.targets {
                for object in self.object_names(object) {
                    self.targets(&object, method.as_ref(), &mut methods);
                }
            }
            if let Some(known) =
                self.profiles.iter().find(|known| methods.iter().any(|one| known.methods.contains(one)))
            {
                let message = format!("`{}` is for the same method already", known.name.text);
                self.error(profile.name.span, message, "a method follows one profile; a rule may name another");
            }
            let allowed = profile.allowed.as_ref().and_then(|record| self.line(record));
            let denied = profile.denied.as_ref().and_then(|record| self.line(record));
            let name = profile.name.clone();
            let only = profile.only.as_ref().map(|names| names.iter().map(|name| (name.clone(), false)).collect());
            self.profiles.push(Profile { name, methods, allowed, denied, only, is_used: false });
        }
    }

    fn line(&mut self, record: &tree::Record) -> Option<Line> {
        let sample = u32::try_from(record.sample).ok().filter(|_| (1..=SAMPLE).contains(&record.sample));
        if sample.is_none() {
            self.error(record.span, "this sample cannot be had", format!("write 1 in 2 to 1 in {SAMPLE}"));
        }
        let condition = match &record.condition {
            None => None,
            Some(condition) => {
                let checked = self.condition(Scope { fields: &[], element: None }, condition)?;
                if !self.has_value(&checked) {
                    let help = "ask counters without keys and flows whose states do not last: `when verbosity >= 2`";
                    let message = "this may have no value, and what is recorded must not refuse a call";
                    self.error(condition.span(), message, help);
                    return None;
                }
                Some(checked)
            }
        };
        Some(Line { condition, sample: sample? })
    }

    /// Whether an expression has a value at any time.
    fn has_value(&self, expression: &Expression) -> bool {
        let is_there = |place: &Place| place.keys.iter().all(|key| *key == Expression::Caller);
        match expression {
            Expression::Number(_) | Expression::Caller => true,
            Expression::Count(place) => is_there(place),
            Expression::IsIn(place, _) => {
                let kind = self.policy.states.get(usize::from(place.state)).map(|state| &state.kind);
                let never_ends = matches!(kind, Some(StateKind::Flow { states, .. }) if states.iter().all(|state| state.lasts.is_none()));
                is_there(place) && never_ends
            }
            Expression::Not(inner) | Expression::Within(inner, _) => self.has_value(inner),
            Expression::And(left, right) | Expression::Or(left, right) => self.has_value(left) && self.has_value(right),
            Expression::Binary(operator, left, right) => {
                operator.is_comparison() && self.has_value(left) && self.has_value(right)
            }
            _ => false,
        }
    }

    /// What is recorded of a method's messages that a rule decides: as the profile says that the rule names, or else the one that is
    /// for the method; what the profile does not say, and without one, is as the rule says itself.
    pub(crate) fn recording(
        &mut self,
        rule: &tree::Rule,
        method: (u16, u16),
        fields: &[Field],
        samples: &mut Samples,
    ) -> Option<Recording> {
        let found = match &rule.audit {
            Some(None) => return Some(Recording::default()),
            Some(Some(name)) => {
                let found = self.profiles.iter().position(|known| known.name.text == name.text);
                if found.is_none() {
                    let known: Vec<String> = self.profiles.iter().map(|known| known.name.text.clone()).collect();
                    self.unknown(name, "profile", known.iter().map(String::as_str));
                }
                found
            }
            None => self.profiles.iter().position(|known| known.methods.contains(&method)),
        };
        let Some(at) = found else {
            return (rule.decision == Decision::Deny).then(Recording::default);
        };
        let profile = self.profiles.get_mut(at)?;
        profile.is_used = true;
        let mut left_out = 0;
        if let Some(only) = &mut profile.only {
            for (field, bit) in fields.iter().zip(0..) {
                let name = field.name.split(['.', '[', '\'', ' ']).next().unwrap_or_default();
                match only.iter_mut().find(|(known, _)| known.text == name) {
                    Some((_, is_met)) => *is_met = true,
                    None => left_out |= 1 << bit,
                }
            }
        }
        let line = if rule.decision == Decision::Deny { &profile.denied } else { &profile.allowed };
        let Some(Line { condition, sample }) = line.clone() else {
            let is_recorded = rule.audit.is_some() || rule.decision == Decision::Deny;
            return is_recorded.then(|| Recording { left_out, ..Recording::default() });
        };
        let sample = (sample > 1).then(|| (self.sample(at, sample, rule.span, samples), sample));
        Some(Recording { condition, sample, left_out })
    }

    /// The counter of a rule's samples by a profile.
    fn sample(&mut self, profile: usize, sample: u32, span: Span, samples: &mut Samples) -> Place {
        if let Some((_, place)) = samples.iter().find(|(known, _)| *known == profile) {
            return place.clone();
        }
        let number = self.policy.states.len();
        let kind = StateKind::Counter { range: (0, i128::from(sample) - 1), start: 0 };
        self.policy.states.push(State { name: format!("sample#{number}"), keys: Vec::new(), kind, span });
        let place = Place { state: u16::try_from(number).unwrap_or(bulkhead_model::NONE), keys: Vec::new() };
        samples.push((profile, place.clone()));
        place
    }

    /// Profiles that no rule follows, and arguments that no method has.
    pub(crate) fn idle_profiles(&mut self) {
        let profiles = std::mem::take(&mut self.profiles);
        // Rules with other mistakes might follow them.
        let profiles = if self.has_errors() { Vec::new() } else { profiles };
        for profile in profiles {
            if !profile.is_used {
                let help = "write `audit by NAME` in a rule, or `profile NAME for SERVICE.METHOD`";
                let finding = Diagnostic::warning(profile.name.span, "no rule follows this profile", help);
                self.findings.push(finding);
            }
            for (name, _) in profile.only.iter().flatten().filter(|(_, is_met)| profile.is_used && !is_met) {
                let help = "name arguments of the methods whose rules follow the profile";
                self.error(name.span, format!("none of them has an argument `{}`", name.text), help);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bulkhead_model::Reason;

    use crate::tests::{Both, build};
    use crate::tree::Event;

    pub(crate) const SITE: &str = "edition 1\npolicy p\ninterface I {\n method m(a: u8, point: text max 8, secret code: u8) -> (done: bool)\n method n(b: u8) -> ()\n}\n\
        app x\nservice s: I by x\ncounter level in 0..3\nflow mode { calm -> alert\n alert -> calm\n}\n\
        profile thin for s.n {\n record 1 in 3 allowed when level >= 1\n record denied when mode is alert\n record only a, b\n}\n\
        allow guest s.m audit by thin\nallow guest s.n\ndeny guest s.n when b == 7\nallow x s.n when b == 5 then set level to b - 4 audit\n\
        allow x s.n when b == 6 then mode becomes alert audit\n";

    fn is_recorded(both: &mut Both<'_>, who: &str, target: &str, arguments: &[i128]) -> bool {
        both.tell(Event::Request, who, target, arguments).audit
    }

    #[test]
    fn the_level_decides_at_run_time_and_one_in_three_is_recorded() {
        let compiled = build(SITE).unwrap();
        let mut both = Both::new(&compiled);
        let run = |both: &mut Both<'_>| [0, 1, 2, 3].map(|b| is_recorded(both, "guest", "s.n", &[b]));
        assert_eq!(run(&mut both), [false; 4], "the level is 0");
        assert!(is_recorded(&mut both, "x", "s.n", &[5]), "by its own clause, not by the profile");
        assert_eq!(run(&mut both), [true, false, false, true]);
        assert!(is_recorded(&mut both, "guest", "s.m", &[1, 0, 0, 9]), "each rule has a sample of its own");
    }

    #[test]
    fn a_denial_is_thinned_out_and_what_no_rule_decides_is_always_recorded() {
        let compiled = build(SITE).unwrap();
        let mut both = Both::new(&compiled);
        let denied = both.tell(Event::Request, "guest", "s.n", &[7]);
        assert_eq!((denied.reason, denied.audit), (Reason::DeniedByRule, false));
        is_recorded(&mut both, "x", "s.n", &[6]);
        assert!(is_recorded(&mut both, "guest", "s.n", &[7]), "alert");
        assert!(is_recorded(&mut both, "x", "s.n", &[8]), "no rule");
        assert!(is_recorded(&mut both, "guest", "s.n", &[300]), "malformed");
    }

    #[test]
    fn only_the_arguments_that_are_named_are_recorded_and_never_a_secret() {
        let compiled = build(SITE).unwrap();
        let recording = compiled.policy.rules[0].bodies[0].recording.as_ref().unwrap();
        assert_eq!(recording.left_out, 0b1110, "the text's two words, and the code");
        let text = SITE.replace("record only a, b", "record only a, code");
        let compiled = build(&text).unwrap();
        let mut both = Both::new(&compiled);
        // The agreement of both includes that the secret is left out, whatever the profile names.
        is_recorded(&mut both, "guest", "s.m", &[1, 0, 0, 9]);
    }

    #[test]
    fn mistakes_with_profiles_are_told_with_the_remedy() {
        for (wrong, right, message, help) in [
            (
                "record no rule when level >= 1",
                "record denied when mode is alert",
                "always recorded",
                "leave this line out",
            ),
            ("record malformed", "record denied when mode is alert", "always recorded", "leave this line out"),
            (
                "record refused when level > 1",
                "record denied when mode is alert",
                "always recorded",
                "leave this line out",
            ),
            (
                "record often",
                "record denied when mode is alert",
                "`often` is nothing that is recorded",
                "record 1 in 10",
            ),
            ("record allowed", "record denied when mode is alert", "says it twice", "by `and`"),
            ("1 in 0", "1 in 3", "cannot be had", "1 in 2 to"),
            ("level + 1 >= 1", "level >= 1", "may have no value", "counters without keys"),
            ("time of day < 8 h", "level >= 1", "states no zone", "zone UTC"),
            ("lvel >= 1", "level >= 1", "no argument or state `lvel`", "did you mean `level`?"),
            ("only a, c", "only a, b", "has an argument `c`", "whose rules follow"),
            ("audit by thick", "audit by thin", "no profile `thick`", "did you mean `thin`?"),
            ("for s.o", "for s.n", "called `o`", "did you mean `m`?"),
            (
                "profile thin for s.n { }\nprofile thin for s.n {",
                "profile thin for s.n {",
                "declared twice",
                "another name",
            ),
            (
                "profile other for s.n { }\nprofile thin for s.n {",
                "profile thin for s.n {",
                "for the same method",
                "one profile",
            ),
        ] {
            assert!(SITE.contains(right), "{right}");
            let text = build(&SITE.replacen(right, wrong, 1)).err().unwrap_or_default();
            assert!(text.contains(message) && text.contains(help) && text.contains("site.policy:"), "{wrong}: {text}");
        }
        let compiled = build(&format!("{SITE}profile idle {{ record denied when level > 1 }}\n")).unwrap();
        assert!(compiled.warnings.iter().any(|warning| warning.message == "no rule follows this profile"));
    }

    #[test]
    fn a_profile_can_never_refuse_a_call() {
        let lasting = SITE.replace(" alert -> calm\n", " alert -> calm\n alert lasts 5 s -> calm\n");
        assert!(build(&lasting).err().unwrap().contains("may have no value"), "without a clock it fails");
        let keyed = SITE
            .replace("counter level in", "counter level per unit in 1..4 in")
            .replace("level >= 1", "level(9) >= 1");
        assert!(build(&keyed).err().unwrap().contains("may have no value"));
        let of_caller = SITE.replace("counter level in", "counter level per caller in");
        assert!(build(&of_caller).is_ok());
    }

    #[test]
    fn samples_do_not_quarrel_and_are_counted_with_what_a_call_changes() {
        let both = format!("{SITE}allow guest s.n when b < 100\n");
        assert!(build(&both).is_ok(), "two rules that match one call, each with a sample");
        let many: String = (1..9).map(|n| format!("allow guest s.n when b < {n}\n")).collect();
        assert!(build(&format!("{SITE}{many}")).err().unwrap().contains("by 9 rules"));
    }
}
