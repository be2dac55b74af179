//! What a policy requires of the machine: `require iommu`, `require cores >= 2`. The compiler knows the facts by name; the loader
//! compares them with the machine before the wall is up, and stops if one does not hold.

use crate::Compiled;
use crate::check::Checker;
use crate::policy::Requirement;
use crate::tree::{self, Item, Number};

/// A fact of a machine that a policy may require.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// Its name.
    pub name: &'static str,
    /// If it is counted: the units in which its number is written, and what one of each is. Else it is there or not.
    pub units: Option<&'static [(&'static str, i128)]>,
}

/// The facts; the loader (`firmware/loader/src/require.rs`) knows the same.
pub const FACTS: [Fact; 4] = [
    Fact { name: "iommu", units: None },
    Fact { name: "tpm", units: None },
    Fact { name: "cores", units: Some(&[("", 1)]) },
    Fact { name: "memory", units: Some(&[("MiB", 1), ("GiB", 1024)]) },
];

impl Checker<'_> {
    /// All requirements of the files.
    pub(crate) fn requirements(&mut self, items: &[Item]) {
        for item in items {
            let Item::Require(required) = item else { continue };
            let Some(fact) = FACTS.iter().find(|fact| fact.name == required.fact.text) else {
                self.unknown(&required.fact, "fact of a machine called", FACTS.iter().map(|fact| fact.name));
                continue;
            };
            let (fact, span) = (*fact, required.span);
            if let Some(least) = self.least(fact, required) {
                self.policy.requirements.push(Requirement { fact: fact.name, least, span });
            }
        }
    }

    /// How much of a fact there must be at least.
    fn least(&mut self, fact: Fact, required: &tree::Requirement) -> Option<u64> {
        let form = match fact.units {
            None => format!("require {}", fact.name),
            Some(units) => format!("require {} >= 2 {}", fact.name, units.first().map_or("", |(name, _)| name)),
        };
        let (units, Number { digits, decimals, unit, span }) = match (fact.units, &required.least) {
            (None, None) => return Some(1),
            (Some(units), Some(number)) => (units, number),
            (None, Some(_)) => {
                self.error(required.span, format!("`{}` is there or not", fact.name), format!("write `{form}`"));
                return None;
            }
            (Some(_), None) => {
                let help = format!("say how many at least: `{}`", form.trim_end());
                self.error(required.span, format!("`{}` is counted", fact.name), help);
                return None;
            }
        };
        let written = unit.as_ref().map_or("", |unit| unit.text.as_str());
        let one = units.iter().find(|(name, _)| *name == written).map(|(_, one)| *one);
        let least = one.filter(|_| *decimals == 0 && *digits > 0).and_then(|one| digits.checked_mul(one));
        let least = least.and_then(|least| u32::try_from(least).ok());
        if least.is_none() {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
            let help = if names.is_empty() {
                "write a whole number above 0".to_string()
            } else {
                format!("write a whole number above 0, in {}", names.join(" or "))
            };
            self.error(*span, format!("`{}` cannot be required so", fact.name), help);
        }
        least.map(u64::from)
    }
}

impl Requirement {
    /// As a person says it: `iommu`, `cores >= 2`, `memory >= 512 MiB`.
    #[must_use]
    pub fn show(&self) -> String {
        let units = FACTS.iter().find(|fact| fact.name == self.fact).and_then(|fact| fact.units);
        match units.and_then(|units| units.first()) {
            None => self.fact.to_string(),
            Some(("", _)) => format!("{} >= {}", self.fact, self.least),
            Some((unit, _)) => format!("{} >= {} {unit}", self.fact, self.least),
        }
    }
}

impl Compiled {
    /// What the loader compares with the machine: a line for each requirement, `FACT LEAST FILE:LINE`; and what it tells at each start:
    /// `granted 0 FILE:LINE WHAT` for each grant that can undo the wall.
    #[must_use]
    pub fn requirements(&self) -> String {
        let line = |required: &Requirement| {
            let (file, line, ..) = self.sources.place(required.span);
            format!("{} {} {file}:{line}\n", required.fact, required.least)
        };
        let granted = self.dangers();
        let granted = granted.lines().map(|line| format!("granted 0 {line}\n"));
        self.policy.requirements.iter().map(line).chain(granted).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::build;

    #[test]
    fn a_requirement_names_a_fact_and_how_much_of_it_and_the_loader_gets_its_line() {
        let head = "edition 1\npolicy p\n";
        let good = build(&format!("{head}require iommu\nrequire cores >= 2\nrequire memory >= 1 GiB\n")).unwrap();
        assert_eq!(good.requirements(), "iommu 1 site.policy:3\ncores 2 site.policy:4\nmemory 1024 site.policy:5\n");
        let shown: Vec<String> = good.policy.requirements.iter().map(super::Requirement::show).collect();
        assert_eq!(shown, ["iommu", "cores >= 2", "memory >= 1024 MiB"]);
        for (wrong, message, help) in [
            ("require iomu", "there is no fact of a machine called `iomu`", "did you mean `iommu`?"),
            ("require fpu", "no fact of a machine called `fpu`", "known: iommu, tpm, cores, memory"),
            ("require iommu >= 2", "`iommu` is there or not", "write `require iommu`"),
            ("require cores", "`cores` is counted", "`require cores >= 2`"),
            ("require cores >= 0", "`cores` cannot be required so", "write a whole number above 0"),
            ("require cores >= 1.5", "`cores` cannot be required so", "write a whole number above 0"),
            ("require memory >= 512", "`memory` cannot be required so", "in MiB or GiB"),
            ("require cores > 2", "expected `>=`", "require cores >= 2"),
            ("require", "expected a fact", "require iommu"),
        ] {
            let text = build(&format!("{head}{wrong}\n")).unwrap_err();
            let is_told = text.contains(message) && text.contains(help) && text.contains("site.policy:");
            assert!(is_told && text.matches("error:").count() == 1, "{wrong}: {text}");
        }
    }
}
