//! What can undo the wall is given away only where the file says why: `// accept L007: REASON` on the line above.

use crate::diagnostic::{Diagnostic, Sources, Span};
use crate::policy::{Body, Expression, Policy};
use crate::regions::{extent, intersection};
use crate::tree::{Decision, Event, Space};
use bulkhead_model::{method, object};

/// The finding's name.
pub const ID: &str = "L007";

/// Methods that can undo the wall, whatever their arguments.
const ALWAYS: [&str; 3] = ["mmio.write", "task.start", "psci.other"];
/// Methods that can, unless a condition on their arguments says which: that of a role says only when.
const IF_OPEN: [&str; 5] = ["sysreg.write", "sysreg.read", "mmio.read", "msr.read", "pci.write"];
/// Words in a resource's name that say what it is.
const RESOURCES: [&str; 9] = ["gic", "gicd", "its", "smmu", "iommu", "flash", "watchdog", "apic", "ioapic"];
/// Any value.
const ANY: (i128, i128) = (0, u64::MAX as i128);
/// What can undo the wall, wherever it is given: the CPUs' and chipsets' own places (SDM 3 §11.4, SDM 4, APM 2 appendix A).
const UNDOING: [(Space, i128, i128, &str); 18] = [
    (Space::Memory, 0xfee0_0000, 0xfeef_ffff, "the local APIC"),
    (Space::Memory, 0xfec0_0000, 0xfec0_0fff, "the I/O APIC"),
    (Space::Memory, 0xfed8_0000, 0xfed9_3fff, "an IOMMU"),
    (Space::Ports, 0x92, 0x92, "the fast reset"),
    (Space::Ports, 0xb2, 0xb2, "the SMI command port"),
    (Space::Ports, 0xcf8, 0xcff, "PCI configuration and the reset register"),
    (Space::Registers, 0x1b, 0x1b, "the APIC's base"),
    (Space::Registers, 0x3a, 0x3a, "the lock of VMX"),
    (Space::Registers, 0x79, 0x79, "the microcode update"),
    (Space::Registers, 0x1d9, 0x1d9, "the CPU's debug control"),
    (Space::Registers, 0x200, 0x26f, "memory types"),
    (Space::Registers, 0x2ff, 0x2ff, "memory types"),
    (Space::Registers, 0x800, 0x8ff, "the local APIC"),
    (Space::Registers, 0xc000_0080, 0xc000_0080, "EFER"),
    (Space::Registers, 0xc001_0010, 0xc001_0010, "the system's configuration"),
    (Space::Registers, 0xc001_0015, 0xc001_001f, "the CPU's and the memory's configuration"),
    (Space::Registers, 0xc001_0020, 0xc001_0020, "the microcode update"),
    (Space::Registers, 0xc001_0111, 0xc001_0119, "system management and SVM"),
];

/// What a policy gives to the guest that can undo the wall: where, and what.
#[must_use]
pub fn grants(policy: &Policy) -> Vec<(Span, String)> {
    let mut all = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.event == Event::Request && rule.decision == Decision::Allow) {
        if !rule.subjects.contains(&bulkhead_model::subject::GUEST) {
            continue;
        }
        for body in &rule.bodies {
            let Some(owner) = policy.objects.get(usize::from(body.object)) else { continue };
            let Some(called) = policy.method(body.object, body.method) else { continue };
            let name = format!("{}.{}", owner.name, called.name);
            // The wall filters what a feature register tells; a write, or memory that nobody has, is another matter.
            if ALWAYS.contains(&name.as_str()) || !says_which(body) && IF_OPEN.contains(&name.as_str()) {
                let what = "which can undo the wall or stop the machine's other side";
                all.push((rule.span, format!("the guest is given {name}, {what}")));
            } else if let Some(undoing) = undoing(policy, body) {
                all.push((rule.span, format!("the guest is given {name} of {undoing}, which can undo the wall")));
            }
        }
    }
    for resource in &policy.resources {
        // A register that is only read undoes nothing.
        if resource.is_read_only && resource.space == Space::Registers {
            continue;
        }
        let parts: Vec<&str> = resource.name.split('_').collect();
        let is_met = |(space, low, high, _): &&(Space, i128, i128, &str)| {
            let (first, last) = (i128::from(resource.base), i128::from(resource.base + resource.size) - 1);
            *space == resource.space && *low <= last && first <= *high
        };
        let by_name =
            RESOURCES.iter().find(|word| parts.contains(word)).map(|word| format!("by its name it is {word}"));
        let by_place = UNDOING.iter().find(is_met).map(|(.., what)| format!("it holds {what}"));
        if let Some(why) = by_place.or(by_name) {
            let what = format!("the guest is given `{}`: {why}, which can undo the wall", resource.name);
            all.push((resource.span, what));
        }
    }
    all
}

/// What a rule of the guest's lets it write that can undo the wall, whatever its condition says besides.
fn undoing(policy: &Policy, body: &Body) -> Option<&'static str> {
    let region = extent(policy, body, Event::Request).ok()?.region;
    UNDOING.iter().find_map(|&(space, low, high, what)| {
        let is_met = match (space, body.object, body.method) {
            // An access of several bytes reaches ports above the one that it names.
            (Space::Ports, object::PORT, method::WRITE) => {
                let sizes = [1_i128, 2, 4].map(|size| vec![(low - size + 1, high), (size, size), ANY]);
                intersection(&region, &sizes.to_vec())
            }
            (Space::Registers, object::MSR, method::WRITE) => intersection(&region, &vec![vec![(low, high), ANY]]),
            _ => return None,
        };
        (!is_met.ok()?.is_empty()).then_some(what)
    })
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
    let open = grants(policy).into_iter().filter(|(span, _)| !is_accepted(sources, *span, ID));
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
        assert!(build(&format!("{START}{gic}")).unwrap_err().contains("site.policy:3:"));
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
