//! What can undo the wall is given away only where the file says why: `// accept L007: REASON` on the line above.

use crate::diagnostic::{Diagnostic, Sources, Span};
use crate::policy::{Body, Expression, Policy};
use crate::tree::{Decision, Event};

/// The finding's name.
pub const ID: &str = "L007";

/// Methods that can undo the wall, whatever their arguments.
const ALWAYS: [&str; 3] = ["mmio.write", "task.start", "psci.other"];
/// Methods that can, unless a condition on their arguments says which: that of a role says only when.
const IF_OPEN: [&str; 3] = ["sysreg.write", "sysreg.read", "mmio.read"];
/// Words in a resource's name that say what it is.
const RESOURCES: [&str; 9] = ["gic", "gicd", "its", "smmu", "iommu", "flash", "watchdog", "apic", "ioapic"];

/// What a policy gives to the guest that can undo the wall: where, and what.
#[must_use]
pub fn grants(policy: &Policy, sources: &Sources) -> Vec<(Span, String)> {
    let mut all = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.event == Event::Request && rule.decision == Decision::Allow) {
        if !rule.subjects.contains(&bulkhead_model::subject::GUEST) {
            continue;
        }
        for body in &rule.bodies {
            let Some(object) = policy.objects.get(usize::from(body.object)) else { continue };
            let Some(method) = policy.method(body.object, body.method) else { continue };
            let name = format!("{}.{}", object.name, method.name);
            // The wall filters what a feature register tells; a write, or memory that nobody has, is another matter.
            if ALWAYS.contains(&name.as_str()) || !says_which(body) && IF_OPEN.contains(&name.as_str()) {
                let what = "which can undo the wall or stop the machine's other side";
                all.push((rule.span, format!("the guest is given {name}, {what}")));
            }
        }
    }
    for resource in &policy.resources {
        let parts: Vec<&str> = resource.name.split('_').collect();
        if let Some(word) = RESOURCES.iter().find(|word| parts.contains(word)) {
            let declared = format!("resource {}:", resource.name);
            let span = sources.0.iter().enumerate().find_map(|(file, source)| {
                let start = source.text.find(&declared)?;
                Some(Span { file, start, end: start + declared.len() - 1 })
            });
            let what =
                format!("the guest is given `{}`: by its name it is {word}, which can undo the wall", resource.name);
            all.push((span.unwrap_or_default(), what));
        }
    }
    all
}

/// Whether a condition asks for an argument.
fn says_which(body: &Body) -> bool {
    body.condition.as_ref().is_some_and(|when| when.has(|part| matches!(part, Expression::Argument(_))))
}

/// Whether a comment on the line above a place accepts a finding, with a reason.
#[must_use]
pub fn is_accepted(sources: &Sources, span: Span, id: &str) -> bool {
    let (_, line, ..) = sources.place(span);
    let source = sources.0.get(span.file);
    let above = (line as usize).checked_sub(2).and_then(|above| source?.text.lines().nth(above));
    let reason = above.and_then(|above| above.trim().strip_prefix("// accept ")?.strip_prefix(id)?.strip_prefix(':'));
    reason.is_some_and(|reason| !reason.trim().is_empty())
}

/// A dangerous grant that nobody gave a reason for is an error.
pub(crate) fn refuse(policy: &Policy, sources: &Sources, findings: &mut Vec<Diagnostic>) {
    let open = grants(policy, sources).into_iter().filter(|(span, _)| !is_accepted(sources, *span, ID));
    findings.extend(open.map(|(span, what)| {
        let help = "narrow it to what the guest needs, or say why: `// accept L007: REASON` on the line above";
        Diagnostic::error(span, format!("{ID}: {what}"), help)
    }));
}

#[cfg(test)]
mod tests {
    use crate::tests::build;

    const START: &str = "edition 1\npolicy p\n";

    #[test]
    fn what_can_undo_the_wall_is_given_only_with_a_reason_in_the_file() {
        for grant in [
            "allow guest mmio.write",
            "allow guest task.start",
            "allow guest psci.other when function == 5",
            "allow guest sysreg.write",
            "allow guest sysreg.*",
        ] {
            let text = build(&format!("{START}{grant}\n")).unwrap_err();
            assert!(text.contains("error: L007: the guest is given") && text.contains("site.policy:3"), "{text}");
            assert!(build(&format!("{START}// accept L007:\n{grant}\n")).is_err(), "no reason");
            assert!(build(&format!("{START}// accept L007: why\n\n{grant}\n")).is_err(), "not the line above");
            assert!(build(&format!("{START}// accept L006: why\n{grant}\n")).is_err(), "another finding");
            assert!(build(&format!("{START}// accept L007: a bench machine\n{grant}\n")).is_ok(), "{grant}");
        }
        let when = format!("{START}counter c in 0..3\nallow guest sysreg.read when c == 0\n");
        assert!(build(&when).unwrap_err().contains("L007"), "this says when, and not which");
        let gic = "resource main_gicd: mmio 0x08000000 size 0x10000\nallow guest use main_gicd\n";
        assert!(build(&format!("{START}{gic}")).unwrap_err().contains("site.policy:3:1"));
        assert!(build(&format!("{START}// accept L007: it is a copy\n{gic}")).is_ok());
    }

    #[test]
    fn what_is_bounded_or_not_the_guests_needs_no_reason() {
        for grant in [
            "allow guest sysreg.write when encoding in software_interrupts",
            "allow kernel task.start",
            "deny guest mmio.write",
            "resource magic: mmio 0x08000000 size 0x10000\nallow guest use magic",
        ] {
            assert!(build(&format!("{START}{grant}\n")).is_ok(), "{grant}");
        }
    }
}
