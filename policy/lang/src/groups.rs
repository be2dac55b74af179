//! Groups: names that rules say for several. They are roles (who takes them, under which condition, which of them exclude each
//! other) and attributes (what an app, a service or a device says of itself).

use crate::check::Checker;
use crate::compile::conjuncts;
use crate::expressions::Scope;
use crate::policy::{Expression, Group};
use crate::tree::{self, Item, Name};

impl Checker<'_> {
    /// All groups of the files, and what joins them where it is declared: `app hmi is operator`.
    pub(crate) fn groups(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Group(group) = item {
                self.group(group);
            }
        }
        for item in items {
            let (name, joined) = match item {
                Item::App(name, joined) | Item::Service(name, _, _, joined) => (name, joined),
                Item::Device(range, _, joined) => (&range.name, joined),
                _ => continue,
            };
            for group in joined {
                match self.policy.groups.iter().position(|known| known.name == group.text) {
                    Some(at) => self.join(at, name),
                    None => {
                        let known: Vec<String> = self.policy.groups.iter().map(|group| group.name.clone()).collect();
                        self.unknown(group, "group", known.iter().map(String::as_str));
                    }
                }
            }
        }
    }

    fn group(&mut self, group: &tree::Group) {
        let is_taken = |name: &str| name == group.name.text;
        if self.policy.groups.iter().any(|known| is_taken(&known.name))
            || self.policy.subjects.iter().any(|known| is_taken(known))
            || self.policy.objects.iter().any(|object| is_taken(&object.name))
        {
            self.twice(&group.name);
        }
        let at = self.policy.groups.len();
        let name = group.name.text.clone();
        self.policy.groups.push(Group { name, members: Vec::new(), condition: None, span: group.span });
        group.members.iter().for_each(|member| self.join(at, member));
    }

    fn join(&mut self, group: usize, member: &Name) {
        if let Some(group) = self.policy.groups.get_mut(group)
            && !group.members.iter().any(|known| known.text == member.text)
        {
            group.members.push(member.clone());
        }
    }

    /// When groups hold, and which of them have no member in common: both ask what is remembered.
    pub(crate) fn roles(&mut self, items: &[Item]) {
        for item in items {
            let Item::Group(tree::Group { name, condition: Some(condition), .. }) = item else { continue };
            let meant = self.condition(Scope { fields: &[], element: None }, condition);
            if let Some(group) = self.policy.groups.iter_mut().find(|group| group.name == name.text) {
                group.condition = meant;
            }
        }
        for item in items {
            if let Item::Exclusive(names) = item {
                let found: Vec<Option<Group>> = names.iter().map(|name| self.role(name)).collect();
                let found: Vec<Group> = found.into_iter().flatten().collect();
                for (at, one) in found.iter().enumerate() {
                    found.iter().skip(at + 1).for_each(|other| self.exclusive(names, one, other));
                }
            }
        }
    }

    fn role(&mut self, name: &Name) -> Option<Group> {
        let found = self.policy.groups.iter().find(|group| group.name == name.text).cloned();
        if found.is_none() {
            let known: Vec<String> = self.policy.groups.iter().map(|group| group.name.clone()).collect();
            self.unknown(name, "group", known.iter().map(String::as_str));
        }
        found
    }

    /// Refuses a member that two roles may have at one time.
    fn exclusive(&mut self, names: &[Name], one: &Group, other: &Group) {
        let takes_turns = match (&one.condition, &other.condition) {
            (Some(one), Some(other)) => never_both(one, other),
            _ => false,
        };
        let both = one.members.iter().find(|member| other.members.iter().any(|known| known.text == member.text));
        let Some((both, span)) = both.filter(|_| !takes_turns).zip(names.first().map(|name| name.span)) else { return };
        let message =
            format!("`{}` may be `{}` and `{}` at one time, which exclude each other", both.text, one.name, other.name);
        let help =
            "take it out of one, or let them hold in different states of one flow: `group NAME: … when FLOW is STATE`";
        let said = |group: &Group| format!("`{}` is declared here", group.name);
        let finding = crate::Diagnostic::error(span, message, help);
        self.findings.push(finding.also(one.span, said(one)).also(other.span, said(other)));
    }

    /// A name, or the members of the group of that name. Groups have no groups among their members.
    pub(crate) fn members(&mut self, name: &Name) -> Vec<Name> {
        let Some(group) = self.policy.groups.iter().find(|group| group.name == name.text) else {
            return vec![name.clone()];
        };
        let members = group.members.clone();
        if members.is_empty() {
            let help = format!("write `group {0}: NAME`, or `is {0}` where something is declared", name.text);
            self.error(name.span, format!("nothing is `{}`", name.text), help);
        }
        members
    }

    /// The objects that a name stands for. A role is none of them.
    pub(crate) fn object_names(&mut self, name: &Name) -> Vec<Name> {
        if self.holds_when(name).is_some() {
            let message = format!("`{}` holds under a condition, and stands for who calls", name.text);
            self.error(name.span, message, "name the objects, or a group of them without a condition");
            return Vec::new();
        }
        self.members(name)
    }

    /// The condition of the group of that name.
    pub(crate) fn holds_when(&self, name: &Name) -> Option<Expression> {
        self.policy.groups.iter().find(|group| group.name == name.text).and_then(|group| group.condition.clone())
    }

    /// The subjects that a name stands for.
    pub(crate) fn subjects(&mut self, name: &Name) -> Option<Vec<u16>> {
        let mut all = Vec::new();
        for member in self.members(name) {
            let found = self.policy.subjects.iter().position(|known| *known == member.text);
            let Some(number) = found.and_then(|at| u16::try_from(at).ok()) else {
                let groups = self.policy.groups.iter().map(|group| group.name.clone());
                let known: Vec<String> = self.policy.subjects.iter().cloned().chain(groups).collect();
                self.unknown(&member, "subject", known.iter().map(String::as_str));
                return None;
            };
            all.push(number);
        }
        (!all.is_empty()).then_some(all)
    }
}

/// Whether two conditions name different states of one flow: they never hold together.
pub(crate) fn never_both(one: &Expression, other: &Expression) -> bool {
    let states = |condition| {
        let mut parts = Vec::new();
        conjuncts(condition, &mut parts);
        let states = parts.into_iter().filter_map(|part| match part {
            Expression::IsIn(place, state) => Some((place.clone(), *state)),
            _ => None,
        });
        states.collect::<Vec<_>>()
    };
    let others = states(other);
    states(one).iter().any(|(place, state)| others.iter().any(|(known, other)| known == place && other != state))
}

#[cfg(test)]
mod tests {
    use crate::tests::{ask, build};
    use bulkhead_model::Reason;

    const ROLES: &str = "edition 1\npolicy p\ninterface I {\n method go(a: u8) -> ()\n method end(a: u8) -> ()\n method turn(a: u8) -> ()\n}\n\
        group operator: guest\ngroup approver: hmi\ngroup pump\n\
        app a is pump\napp b is pump\napp hmi is operator\nservice first: I by a is pump\nservice second: I by b\n\
        flow duty per caller {\n off -> operating, approving\n operating -> off\n approving -> off\n}\n";

    #[test]
    fn who_joins_a_group_where_it_is_declared_is_a_member_like_others() {
        let site = build(&format!("{ROLES}group pumps: first, second\nallow operator pumps.go\n")).unwrap();
        for (subject, target, wanted) in [
            ("guest", "first.go", Reason::Allowed),
            ("hmi", "second.go", Reason::Allowed),
            ("a", "second.go", Reason::NoRule),
            ("hmi", "second.end", Reason::NoRule),
        ] {
            assert_eq!(ask(&site, subject, target, &[1]).0, wanted, "{subject} {target}");
        }
        for (rule, message, help) in [
            ("app c is operatr", "there is no group `operatr`", "did you mean `operator`?"),
            ("group nobody\nallow nobody first.go", "nothing is `nobody`", "`group nobody: NAME`"),
            ("group nothing\nallow hmi nothing.go", "nothing is `nothing`", "`is nothing` where something is declared"),
            ("group operator: hmi", "`operator` is declared twice", "another name"),
            ("group broken: gest\nallow broken first.go", "there is no subject `gest`", "did you mean `guest`?"),
        ] {
            let text = build(&format!("{ROLES}{rule}\n")).unwrap_err();
            assert!(
                text.contains(message) && text.contains(help) && text.matches("error:").count() == 1,
                "{rule}: {text}"
            );
        }
    }

    #[test]
    fn a_role_with_a_condition_allows_and_denies_only_while_it_holds() {
        let text = format!(
            "{ROLES}group acting: hmi, guest when duty is operating\nallow hmi first.turn when a == 1 and duty is off then duty becomes operating\n\
             allow hmi first.turn when a == 2 then reset duty\nallow acting first.go\nallow hmi first.end\ndeny acting first.end when a > 5\n"
        );
        let site = build(&text).unwrap();
        let mut both = crate::tests::Both::new(&site);
        for (subject, target, value, wanted) in [
            ("hmi", "first.go", 1, Reason::NoRule),
            ("hmi", "first.end", 6, Reason::Allowed),
            ("hmi", "first.turn", 1, Reason::Allowed),
            ("hmi", "first.go", 1, Reason::Allowed),
            ("guest", "first.go", 1, Reason::NoRule),
            ("hmi", "first.end", 6, Reason::DeniedByRule),
            ("hmi", "first.end", 5, Reason::Allowed),
            ("hmi", "first.turn", 2, Reason::Allowed),
            ("hmi", "first.go", 1, Reason::NoRule),
        ] {
            assert_eq!(both.ask(subject, target, &[value]).0, wanted, "{subject} {target} {value}");
        }
        for (rule, message) in [
            ("group g: guest when duty is operatin\nallow g first.go", "did you mean `operating`?"),
            ("group g: guest when a == 1\nallow g first.go", "there is no argument or state `a`"),
            (
                "group g: first when duty is operating\nallow guest g.go",
                "`g` holds under a condition, and stands for who calls",
            ),
            (
                "resource r: mmio 0x1000 size 0x1000\ngroup one: guest when duty is off\nallow one use r",
                "for good, or not at all",
            ),
        ] {
            let error = build(&format!("{text}{rule}\n")).unwrap_err();
            assert!(error.contains(message) && error.matches("error:").count() == 1, "{rule}: {error}");
        }
    }

    #[test]
    fn exclusive_roles_have_no_member_at_one_time_and_the_error_shows_both() {
        let with = |roles: &str| build(&format!("{ROLES}{roles}\n"));
        let error = with("exclusive operator, approver").unwrap_err();
        for piece in [
            "`hmi` may be `operator` and `approver` at one time",
            "site.policy:8: `operator` is declared here",
            "site.policy:9: `approver` is declared here",
            "--> site.policy:21:11",
        ] {
            assert!(error.contains(piece), "{piece}: {error}");
        }
        assert!(with("exclusive pump, approver").is_ok());
        assert!(with("exclusive pmp, approver").unwrap_err().contains("did you mean `pump`?"));
        let turns = |one: &str, other: &str| {
            with(&format!("group one: hmi, guest when {one}\ngroup other: hmi when {other}\nexclusive one, other"))
                .is_ok()
        };
        assert!(turns("duty is operating", "duty is approving"));
        assert!(turns("caller == hmi and duty is operating", "duty is approving"));
        assert!(!turns("duty is operating", "duty is operating"));
        assert!(!turns("duty is operating", "duty is not operating"), "only states by name are told apart");
        assert!(!turns("duty is operating", "caller == hmi"));
    }
}
