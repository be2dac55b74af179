//! What can undo the wall is given away only where the file says why: `// accept L007: REASON` on the line above.

use crate::Compiled;
use crate::diagnostic::{Diagnostic, Sources, Span};
use crate::policy::{Body, Expression, Policy};
use crate::regions::{extent, intersection};
use crate::tree::{Decision, Event, Space};
use bulkhead_model::{MAX_GRANTS, method, object};

/// The finding's name.
pub const ID: &str = "L007";

/// Methods that can undo the wall, whatever their arguments.
const ALWAYS: [&str; 4] = ["mmio.write", "task.start", "psci.other", "time.set"];
/// Methods that can, unless a condition on their arguments says which: that of a role says only when.
const IF_OPEN: [&str; 5] = ["sysreg.write", "sysreg.read", "mmio.read", "msr.read", "pci.write"];
/// Words in a resource's name that say what it is.
const RESOURCES: [&str; 9] = ["gic", "gicd", "its", "smmu", "iommu", "flash", "watchdog", "apic", "ioapic"];
/// Any value.
const ANY: (i128, i128) = (0, u64::MAX as i128);
/// What can undo the wall, wherever it is given: the CPUs' and chipsets' own places (SDM 3 §11.4, §11.12.1.2, SDM 4, APM 2 appendix A).
const UNDOING: [(Space, i128, i128, &str); 22] = [
    (Space::Memory, 0xfee0_0000, 0xfeef_ffff, "the local APIC"),
    (Space::Memory, 0xfec0_0000, 0xfec0_0fff, "the I/O APIC"),
    (Space::Memory, 0xfed8_0000, 0xfed9_3fff, "an IOMMU"),
    (Space::Memory, 0xff00_0000, 0xffff_ffff, FLASH),
    (Space::Ports, KEYBOARD, KEYBOARD, "the keyboard controller, which resets the machine"),
    (Space::Ports, 0x92, 0x92, "the fast reset"),
    (Space::Ports, 0xb2, 0xb2, "the SMI command port"),
    (Space::Ports, 0xcf8, 0xcff, "PCI configuration and the reset register"),
    (Space::Registers, 0x1b, 0x1b, "the APIC's base"),
    (Space::Registers, 0x3a, 0x3a, "the lock of VMX"),
    (Space::Registers, 0x9b, 0x9e, "system management"),
    (Space::Registers, 0x79, 0x79, "the microcode update"),
    (Space::Registers, 0x1d9, 0x1d9, "the CPU's debug control"),
    (Space::Registers, 0x1f2, 0x1f3, "system management"),
    (Space::Registers, 0x200, 0x26f, "memory types"),
    (Space::Registers, 0x2ff, 0x2ff, "memory types"),
    (Space::Registers, 0x800, 0x8ff, "the local APIC"),
    (Space::Registers, 0xc000_0080, 0xc000_0080, "EFER"),
    (Space::Registers, 0xc001_0010, 0xc001_0010, "the system's configuration"),
    (Space::Registers, 0xc001_0015, 0xc001_001f, "the CPU's and the memory's configuration"),
    (Space::Registers, 0xc001_0020, 0xc001_0020, "the microcode update"),
    (Space::Registers, 0xc001_0111, 0xc001_0119, "system management and SVM"),
];

/// The keyboard controller's command register, and the commands that drive or pulse its reset line.
const KEYBOARD: i128 = 0x64;
const PULSES: [(i128, i128); 2] = [(0xd1, 0xd1), (0xf0, 0xff)];
/// What is undone by writing alone.
const FLASH: &str = "the firmware's flash";
/// DC ISW, CSW and CISW, by their place in the encoding space: caches by set and way, whoever's lines they hold (Arm ARM D7.5.9).
const SET_AND_WAY: [i128; 3] = [0x43b2, 0x43d2, 0x43f2];

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
        let undoes =
            |undoing: &&(Space, i128, i128, &str)| is_met(undoing) && !(resource.is_read_only && undoing.3 == FLASH);
        let by_name =
            RESOURCES.iter().find(|word| parts.contains(word)).map(|word| format!("by its name it is {word}"));
        let by_place = UNDOING.iter().find(undoes).map(|(.., what)| format!("it holds {what}"));
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
    if (body.object, body.method) == (object::SYSREG, method::WRITE) {
        let set_and_way = SET_AND_WAY.map(|encoding| vec![(encoding, encoding), ANY]);
        let is_met = intersection(&region, &set_and_way.to_vec()).is_ok_and(|both| !both.is_empty());
        return is_met.then_some("caches by set and way");
    }
    UNDOING.iter().find_map(|&(space, low, high, what)| {
        let is_met = match (space, body.object, body.method) {
            // An access of several bytes reaches ports above the one that it names.
            (Space::Ports, object::PORT, method::WRITE) => {
                let of = |size: i128, values| vec![(low - size + 1, high), (size, size), values];
                let bytes = if low == KEYBOARD { PULSES.to_vec() } else { vec![ANY] };
                let all = bytes.into_iter().map(|values| of(1, values)).chain([of(2, ANY), of(4, ANY)]);
                intersection(&region, &all.collect())
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

/// The reason with which a comment on the line above a place accepts a finding.
#[must_use]
pub fn accepted<'s>(sources: &'s Sources, span: Span, id: &str) -> Option<&'s str> {
    let (_, line, ..) = sources.place(span);
    let above = sources.0.get(span.file)?.text.lines().nth((line as usize).checked_sub(2)?)?;
    let reason = above.trim().strip_prefix("// accept ")?.strip_prefix(id)?.strip_prefix(':')?.trim();
    Some(reason).filter(|reason| !reason.is_empty())
}

/// Whether a comment on the line above a place accepts a finding, with a reason.
#[must_use]
pub fn is_accepted(sources: &Sources, span: Span, id: &str) -> bool {
    accepted(sources, span, id).is_some()
}

impl Compiled {
    /// What is given away that can undo the wall, with the reasons in the file: a line each, which the loader says at every start.
    #[must_use]
    pub fn dangers(&self) -> String {
        let line = |(span, what): (Span, String)| {
            let (file, line, ..) = self.sources.place(span);
            let reason = accepted(&self.sources, span, ID).unwrap_or_default();
            format!("{file}:{line} {what}: {reason}\n")
        };
        grants(&self.policy).into_iter().map(line).collect()
    }
}

/// A dangerous grant that nobody gave a reason for is an error. The others, each with its reason.
pub(crate) fn refuse(policy: &Policy, sources: &Sources, findings: &mut Vec<Diagnostic>) -> Vec<(Span, String)> {
    let all = grants(policy);
    if let Some((span, _)) = all.get(MAX_GRANTS as usize) {
        let message = format!("{ID}: this is one grant more than {MAX_GRANTS} that can undo the wall");
        let help = "each is recorded at every start; join those that belong together, or narrow them";
        findings.push(Diagnostic::error(*span, message, help));
    }
    let told = all.into_iter().filter_map(|(span, what)| {
        if let Some(reason) = accepted(sources, span, ID) {
            return Some((span, format!("{what}: {reason}")));
        }
        let help = "narrow it to what the guest needs, or say why: `// accept L007: REASON` on the line above";
        findings.push(Diagnostic::error(span, format!("{ID}: {what}"), help));
        None
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use crate::tests::build;
    use bulkhead_model::{MAX_GRANTS, Policy};

    const START: &str = "edition 1\npolicy p\n";

    #[test]
    fn what_can_undo_the_wall_is_given_only_with_a_reason_in_the_file() {
        for grant in [
            "allow guest mmio.write",
            "allow guest task.start",
            "allow guest psci.other when function == 5",
            "allow guest sysreg.write",
            "allow guest sysreg.*",
            "allow guest sysreg.write when encoding in 0x43b0..0x43b2",
            "allow guest time.set at most 1 per day",
            "allow guest port.write when port == 0x64 and size == 1",
            "allow guest port.write when port == 0x62 and size == 4",
            "allow guest msr.write when index == 0x830",
            "allow guest msr.write when index in 0x90..0x9c and value == 0",
            "resource bios: mmio 0xfffc0000 size 0x40000\nallow guest use bios",
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
    fn the_loader_is_told_what_was_accepted_and_why() {
        let rule = "allow guest mmio.write when address == 0x1000";
        let compiled =
            build(&format!("{START}// accept L007: the bench measures it\n{rule}\nallow kernel task.start\n")).unwrap();
        let what = "the guest is given mmio.write, which can undo the wall or stop the machine's other side";
        assert_eq!(compiled.dangers(), format!("site.policy:4 {what}: the bench measures it\n"));
        assert_eq!(compiled.requirements(), format!("granted 0 {}", compiled.dangers()));
        let table = Policy::verify(&compiled.table).unwrap();
        assert_eq!(table.grants(), 1);
        assert_eq!(table.grant(0), Some(("site.policy", 4, format!("{what}: the bench measures it").as_str())));
        assert_eq!(table.grant(1), None);
        assert_eq!(table.rule_place(1), Some(("site.policy", 5)), "rules keep their numbers");
        let none = build(&format!("{START}allow kernel task.start\n")).unwrap();
        let none = Policy::verify(&none.table).unwrap();
        assert_eq!((none.grants(), none.grant(0)), (0, None));
        assert_eq!(build(START).unwrap().requirements(), "");
    }

    #[test]
    fn as_many_are_granted_as_are_recorded_at_a_start_and_no_more() {
        let policy = |count: u32| {
            let grant = "// accept L007: the bench\nallow guest mmio.write when address == ";
            let grants: String = (0..count).map(|n| format!("{grant}{}\n", n * 8)).collect();
            build(&format!("{START}{grants}"))
        };
        let most = policy(MAX_GRANTS).unwrap();
        assert_eq!(Policy::verify(&most.table).unwrap().grants(), MAX_GRANTS);
        let text = policy(MAX_GRANTS + 1).unwrap_err();
        assert!(text.contains("L007: this is one grant more than 255") && text.contains("site.policy:514"), "{text}");
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }

    #[test]
    fn what_is_bounded_or_not_the_guests_needs_no_reason() {
        for grant in [
            "allow guest sysreg.write when encoding in software_interrupts",
            "allow kernel task.start",
            "deny guest mmio.write",
            "app clock\nallow clock time.set",
            "allow guest sysreg.write when encoding == 0x43b1",
            "allow guest port.write when port == 0x63 and size == 1",
            "allow guest port.write when port == 0x64 and size == 1 and value in 0xd2..0xd4",
            "resource bios: mmio 0xfffc0000 size 0x40000 read only\nallow guest use bios",
            "resource magic: mmio 0x08000000 size 0x10000\nallow guest use magic",
        ] {
            assert!(build(&format!("{START}{grant}\n")).is_ok(), "{grant}");
        }
    }
}
