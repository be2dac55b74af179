//! What decisions cost at the most, and the bound that a site sets.

use crate::diagnostic::{Diagnostic, Span};
use crate::policy::Policy;
use crate::tree::Event;

/// What the compiler knows about a decision: what the monitor does at the most, whatever the call says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// The rows that it may look at.
    pub rules: usize,
    /// The range tests that it may make.
    pub tests: usize,
    /// The instructions that it may run.
    pub steps: usize,
}

impl Cost {
    /// Of the rows that one decision may look at, each with its tests and instructions, if it looks at no more than `most` of them.
    pub(crate) fn of(rows: impl Iterator<Item = (usize, usize)>, most: usize) -> Self {
        let (mut tests, mut steps): (Vec<usize>, Vec<usize>) = rows.unzip();
        let dearest = |all: &mut Vec<usize>| {
            all.sort_unstable_by(|one, other| other.cmp(one));
            all.iter().take(most).sum()
        };
        Self { rules: most, tests: dearest(&mut tests), steps: dearest(&mut steps) }
    }

    /// All of it, in steps: a row, a test and an instruction are one each.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.rules.saturating_add(self.tests).saturating_add(self.steps)
    }

    /// The larger one of each.
    pub(crate) fn max(self, other: Self) -> Self {
        let Self { rules, tests, steps } = self;
        Self { rules: rules.max(other.rules), tests: tests.max(other.tests), steps: steps.max(other.steps) }
    }
}

/// A decision that rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Request, reply or error.
    pub event: Event,
    /// Who calls.
    pub subject: u16,
    /// What is called.
    pub object: u16,
    /// By which method.
    pub method: u16,
    /// At the most.
    pub cost: Cost,
}

impl Decision {
    /// As people write it: `guest -> plant.set_pump`, `guest -> plant.level reply`.
    #[must_use]
    pub fn show(&self, policy: &Policy) -> String {
        let object = policy.objects.get(usize::from(self.object));
        let method = object.and_then(|object| object.methods.get(usize::from(self.method)));
        let event = match self.event {
            Event::Request => "",
            Event::Reply => " reply",
            Event::Error => " error",
        };
        format!(
            "{} -> {}.{}{event}",
            policy.subjects.get(usize::from(self.subject)).map_or("?", String::as_str),
            object.map_or("?", |object| object.name.as_str()),
            method.map_or("?", |method| method.name.as_str())
        )
    }
}

/// Each decision above the site's bound is an error.
pub(crate) fn refuse(policy: &Policy, costs: &[Decision], findings: &mut Vec<Diagnostic>) {
    let Some((bound, span)) = policy.most_steps else { return };
    for decision in costs.iter().filter(|decision| decision.cost.total() as u128 > bound) {
        let message =
            format!("{} may take {} steps, and this site allows {bound}", decision.show(policy), decision.cost.total());
        findings.push(Diagnostic::error(
            span,
            message,
            "give its rules narrower or fewer conditions, or raise the bound (`bulkhead check --cost` of a site without it shows all)",
        ));
    }
}

/// A bound is stated once.
pub(crate) fn state(policy: &mut Policy, bound: i128, span: Span, findings: &mut Vec<Diagnostic>) {
    // A number of the text has no sign.
    if policy.most_steps.replace((bound.unsigned_abs(), span)).is_some() {
        findings.push(Diagnostic::error(span, "the bound of costs is stated twice", "remove one of them"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::build;

    const SITE: &str = "edition 1\npolicy p\ninterface I {\n method set(a: u8, b: u8) -> (done: bool)\n method look() -> ()\n}\napp x\nservice s: I by x\n\
        counter made in 0..9\nallow guest s.set when a < 5 and b in 1..3 and made + a < 9 then count made\n\
        deny guest s.set when a == 4 and b == 2\non guest s.set reply then reset made\nallow x s.look\n";

    #[test]
    fn each_decision_has_its_cost_and_the_worst_is_the_most_of_each() {
        let compiled = build(SITE).unwrap();
        let shown = |decision: &Decision| {
            let Cost { rules, tests, steps } = decision.cost;
            (decision.show(&compiled.policy), rules, tests, steps > 0)
        };
        let all: Vec<_> = compiled.costs.iter().map(shown).collect();
        let wanted = [
            ("guest -> s.set".to_string(), 2, 4, true),
            ("x -> s.look".to_string(), 1, 0, false),
            ("guest -> s.set reply".to_string(), 1, 0, true),
        ];
        assert_eq!(all, wanted);
        let most = |of: fn(&Cost) -> usize| compiled.costs.iter().map(|decision| of(&decision.cost)).max();
        let Cost { rules, tests, steps } = compiled.worst;
        assert_eq!(
            [Some(rules), Some(tests), Some(steps)],
            [most(|cost| cost.rules), most(|cost| cost.tests), most(|cost| cost.steps)]
        );
    }

    #[test]
    fn a_decision_above_the_sites_bound_is_refused_and_one_at_it_is_not() {
        let dearest = build(SITE).unwrap().costs.iter().map(|decision| decision.cost.total()).max().unwrap();
        let bound = |bound: usize| build(&format!("{SITE}cost at most {bound} steps\n"));
        assert!(bound(dearest).is_ok());
        let text = bound(dearest - 1).unwrap_err();
        let message = format!("guest -> s.set may take {dearest} steps, and this site allows {}", dearest - 1);
        assert!(text.contains(&message) && text.contains("site.policy:14") && text.contains("help: "), "{text}");
        assert_eq!(text.matches("error:").count(), 1, "{text}");
        assert_eq!(bound(0).unwrap_err().matches("error:").count(), 3, "each of them");
        let twice = build(&format!("{SITE}cost at most 90 steps\ncost at most 90 steps\n")).unwrap_err();
        assert!(twice.contains("stated twice"), "{twice}");
        for wrong in
            ["cost 90", "cost at most steps", "cost at most 90", "cost at most 1.5 steps", "cost at most -1 steps"]
        {
            let text = build(&format!("{SITE}{wrong}\nlet a = 1\n")).unwrap_err();
            assert!(text.contains("error: expected") && text.contains("help: "), "{wrong}: {text}");
        }
    }
}
