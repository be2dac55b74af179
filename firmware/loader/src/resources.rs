//! What the bundle says of the machine's resources, written into the plan: on every kind of machine, by both loaders.

use core::fmt;

use alloc::vec::Vec;
use bulkhead_bundle::{Resource, ResourceKind};
use bulkhead_hypervisor_core::plan::{Device, MachinePlan, Msrs, Ports, Range, console, machine, time_source};

/// Why the resources are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceError {
    /// More than the plan has room for: of what, and how many it has room for.
    TooMany(&'static str, usize),
    /// A kind of resource that this loader does not know.
    Unknown(u32),
    /// A kind that this machine does not have.
    Elsewhere(ResourceKind),
    /// Ports or registers that end beyond the last.
    Beyond(ResourceKind, u64),
    /// The interval timer is the guest's, and the only timer of the secure side.
    Timer,
    /// An interrupt for an app, where none reaches one.
    AppInterrupt(u32),
    /// Two owners of one port: who, and which ports.
    TwoOwners([(&'static str, Ports); 2]),
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(what, most) => write!(f, "the policy gives away more {what} than the wall keeps: {most}"),
            Self::Unknown(kind) => write!(f, "the bundle holds a resource of kind {kind}, which is not known"),
            Self::Elsewhere(kind) => {
                write!(f, "the policy is for another kind of machine: this one has no {}", kind.name())
            }
            Self::Timer => f.write_str(
                "two owners of the interval timer: the policy gives its ports (0x40 to 0x43) to the guest, and the secure side has no other timer on this machine",
            ),
            Self::TwoOwners([(one, own), (other, others)]) => write!(
                f,
                "two owners of a port: {one} ({:#x}, {} ports) and {other} ({:#x}, {} ports)",
                own.first, own.count, others.first, others.count
            ),
            Self::AppInterrupt(line) => write!(
                f,
                "interrupt {line} is given to an app: on this kind of machine the interrupt controllers are the guest's, and no interrupt reaches an app yet; leave `interrupt {line}` away, and let the app ask its device by a timer",
            ),
            Self::Beyond(kind, base) => write!(f, "one of the {} ends beyond the last: from {base:#x} on", kind.name()),
        }
    }
}

/// Writes all resources into a plan whose kind of machine is set.
///
/// # Errors
/// [`ResourceError`]; the plan is of no use then.
pub fn give(plan: &mut MachinePlan, resources: &[Resource]) -> Result<(), ResourceError> {
    for resource in resources {
        let kind = ResourceKind::ALL.into_iter().find(|kind| *kind as u32 == resource.kind);
        let kind = kind.ok_or(ResourceError::Unknown(resource.kind))?;
        let is_aarch64 = plan.machine == machine::AARCH64;
        let is_common = matches!(kind, ResourceKind::Passthrough | ResourceKind::Driven);
        if !is_common && is_aarch64 != (kind == ResourceKind::Served) {
            return Err(ResourceError::Elsewhere(kind));
        }
        let is_driven = matches!(kind, ResourceKind::Driven | ResourceKind::AppPorts);
        if is_driven && !is_aarch64 && resource.intid != 0 {
            return Err(ResourceError::AppInterrupt(resource.intid));
        }
        place(plan, resource, kind)?;
    }
    let has_pit = |ports: &Ports| ports.first < 0x44 && ports.first + ports.count > 0x40;
    let x86 = &plan.x86;
    if x86.time_source == time_source::PIT && x86.guest_ports.iter().any(has_pit) {
        return Err(ResourceError::Timer);
    }
    port_owners(plan)
}

const GUESTS: &str = "what the guest keeps";
const SERVED: &str = "what an app serves";
const CONSOLE: &str = "the wall's console";

/// No port has two owners of which one is not the guest. What exists for the guest alone may lie where the wall's console does.
fn port_owners(plan: &MachinePlan) -> Result<(), ResourceError> {
    let named = |name, ports: &[Ports]| ports.iter().map(|ports| (name, *ports)).collect::<Vec<_>>();
    let numbers = |range: Range| Some((u32::try_from(range.base).ok()?, u32::try_from(range.bytes).ok()?));
    let ports = |range| numbers(range).map(|(first, count)| Ports { first, count });
    let served: Vec<Ports> =
        plan.devices.iter().filter(|device| device.is_ports != 0).filter_map(|device| ports(device.range)).collect();
    let console: Vec<Ports> =
        ports(plan.console).filter(|_| plan.console_kind == console::UART_16550).into_iter().collect();
    let x86 = &plan.x86;
    let all = [
        named(SERVED, &served),
        named("what an app drives", &x86.secure_ports),
        named(GUESTS, &x86.guest_ports),
        named(CONSOLE, &console),
    ]
    .concat();
    let is_well = |one: (&str, Ports), other: (&str, Ports)| {
        let may_share = matches!((one.0, other.0), (GUESTS, GUESTS) | (SERVED, CONSOLE));
        let (one, other) = (one.1, other.1);
        may_share || one.first >= other.first + other.count || other.first >= one.first + one.count
    };
    for (place, one) in all.iter().enumerate() {
        if let Some(other) = all.iter().skip(place + 1).find(|other| !is_well(*one, **other)) {
            return Err(ResourceError::TwoOwners([*one, *other]));
        }
    }
    Ok(())
}

fn place(plan: &mut MachinePlan, resource: &Resource, kind: ResourceKind) -> Result<(), ResourceError> {
    let &Resource { intid, base, bytes, object, function, pin, .. } = resource;
    let range = Range { base, bytes };
    let name = kind.name();
    match kind {
        ResourceKind::Passthrough => put(&mut plan.guest_mmio, range, name)?,
        ResourceKind::ReadOnly => put(&mut plan.x86.guest_rom, range, name)?,
        ResourceKind::Driven => put(&mut plan.secure_mmio, range, name)?,
        ResourceKind::Ports | ResourceKind::AppPorts => {
            let (first, count) = bounded(resource, kind, 0x1_0000)?;
            let x86 = &mut plan.x86;
            let list = if kind == ResourceKind::Ports { &mut x86.guest_ports[..] } else { &mut x86.secure_ports[..] };
            put(list, Ports { first, count }, name)?;
        }
        ResourceKind::Msrs | ResourceKind::MsrsReadOnly => {
            let (first, count) = bounded(resource, kind, 1 << 32)?;
            let read_only = u64::from(kind == ResourceKind::MsrsReadOnly);
            put(&mut plan.x86.guest_msrs, Msrs { first, count, read_only }, name)?;
        }
        ResourceKind::Served | ResourceKind::ServedPorts => {
            let is_ports = u32::from(kind == ResourceKind::ServedPorts);
            if is_ports != 0 {
                bounded(resource, kind, 0x1_0000)?;
            }
            put(&mut plan.devices, Device { range, object, function, intid, pin, is_ports }, name)?;
        }
    }
    match kind {
        _ if intid == 0 => Ok(()),
        ResourceKind::Served | ResourceKind::ServedPorts => Ok(()),
        ResourceKind::Driven | ResourceKind::AppPorts => put(&mut plan.secure_interrupts, intid, "apps' interrupts"),
        // Devices of the guest's may share a line.
        _ if plan.guest_interrupts.contains(&intid) => Ok(()),
        _ => put(&mut plan.guest_interrupts, intid, "interrupts of the guest"),
    }
}

/// Whether the guest gets any of these registers.
#[must_use]
pub fn gives(resources: &[Resource], registers: Range) -> bool {
    let ranges = resources.iter().filter(|resource| resource.kind == ResourceKind::Passthrough as u32);
    ranges.map(|&Resource { base, bytes, .. }| Range { base, bytes }).any(|range| !range.is_disjoint(registers))
}

/// First and count, if all of them are below the limit.
fn bounded(resource: &Resource, kind: ResourceKind, limit: u64) -> Result<(u32, u32), ResourceError> {
    let &Resource { base, bytes, .. } = resource;
    let is_inside = bytes != 0 && base.checked_add(bytes).is_some_and(|end| end <= limit);
    let numbers = u32::try_from(base).ok().zip(u32::try_from(bytes).ok());
    numbers.filter(|_| is_inside).ok_or(ResourceError::Beyond(kind, base))
}

/// Puts a value into the first slot that is free: one that is all zeros.
fn put<T: Default + PartialEq>(list: &mut [T], value: T, what: &'static str) -> Result<(), ResourceError> {
    let most = list.len();
    let slot = list.iter_mut().find(|slot| **slot == T::default()).ok_or(ResourceError::TooMany(what, most))?;
    *slot = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use bulkhead_hypervisor_core::plan::{MAX_MSRS, MAX_PORTS, MAX_RANGES, MAX_SECURE_INTERRUPTS};
    use zerocopy::FromZeros;

    fn resource(kind: ResourceKind, base: u64, bytes: u64, intid: u32) -> Resource {
        Resource { kind: kind as u32, intid, base, bytes, object: 8, function: 0, pin: 0 }
    }

    fn given(machine: u32, resources: &[Resource]) -> Result<MachinePlan, ResourceError> {
        let mut plan = MachinePlan::new_zeroed();
        plan.machine = machine;
        give(&mut plan, resources).map(|()| plan)
    }

    #[test]
    fn each_kind_goes_to_its_list() {
        let all = [
            resource(ResourceKind::Ports, 0x3f8, 8, 4),
            resource(ResourceKind::Ports, 0x1f0, 8, 14),
            resource(ResourceKind::Ports, 0x3f6, 1, 14),
            resource(ResourceKind::Msrs, 0x277, 1, 0),
            resource(ResourceKind::MsrsReadOnly, 0xc001_0010, 1, 0),
            resource(ResourceKind::ReadOnly, 0xc_0000, 0x4_0000, 0),
            resource(ResourceKind::Passthrough, 0xfec0_0000, 0x1000, 0),
            resource(ResourceKind::AppPorts, 0x2f8, 8, 0),
            resource(ResourceKind::Driven, 0xfe00_0000, 0x1000, 0),
            Resource { function: 30 << 3, pin: 20, ..resource(ResourceKind::ServedPorts, 0xc040, 0x40, 11) },
        ];
        let plan = given(machine::SVM, &all).unwrap();
        assert_eq!(plan.x86.guest_ports[..2], [Ports { first: 0x3f8, count: 8 }, Ports { first: 0x1f0, count: 8 }]);
        assert_eq!(plan.guest_interrupts[..3], [4, 14, 0], "a line that is shared stands there once");
        let msr = |first, read_only| Msrs { first, count: 1, read_only };
        assert_eq!(plan.x86.guest_msrs[..2], [msr(0x277, 0), msr(0xc001_0010, 1)]);
        assert_eq!(plan.x86.guest_rom[0], Range { base: 0xc_0000, bytes: 0x4_0000 });
        assert_eq!(plan.x86.secure_ports[0], Ports { first: 0x2f8, count: 8 });
        assert_eq!((plan.guest_mmio[0].base, plan.secure_mmio[0].base), (0xfec0_0000, 0xfe00_0000));
        let range = Range { base: 0xc040, bytes: 0x40 };
        assert_eq!(plan.devices[0], Device { range, object: 8, function: 30 << 3, intid: 11, pin: 20, is_ports: 1 });
    }

    #[test]
    fn a_port_that_an_app_or_the_wall_has_is_nobody_elses() {
        let own = [
            resource(ResourceKind::Ports, 0x3f8, 8, 4),
            resource(ResourceKind::Ports, 0x3fa, 1, 4),
            resource(ResourceKind::AppPorts, 0x70, 2, 0),
            resource(ResourceKind::ServedPorts, 0x2f8, 8, 3),
        ];
        let with =
            |kind, base, bytes| given(machine::VMX, &[own.as_slice(), &[resource(kind, base, bytes, 0)]].concat());
        assert!(with(ResourceKind::ServedPorts, 0x300, 8).is_ok() && with(ResourceKind::AppPorts, 0x72, 1).is_ok());
        for (base, bytes) in [(0x2ff, 1), (0x2f0, 9), (0x3ff, 1), (0x71, 1), (0, 0x1_0000)] {
            for kind in [ResourceKind::ServedPorts, ResourceKind::AppPorts] {
                let error = with(kind, base, bytes).unwrap_err();
                assert!(matches!(error, ResourceError::TwoOwners(_)), "{kind:?} {base:#x}");
            }
        }
        let said = with(ResourceKind::Ports, 0x71, 4).unwrap_err().to_string();
        assert_eq!(
            said,
            "two owners of a port: what an app drives (0x70, 2 ports) and what the guest keeps (0x71, 4 ports)"
        );
        // The wall's console, where it is a UART: what an app serves there never reaches it.
        let beside = |first, resources: &[Resource]| {
            let mut plan = MachinePlan::new_zeroed();
            (plan.machine, plan.console_kind) = (machine::SVM, console::UART_16550);
            plan.console = Range { base: first, bytes: 8 };
            give(&mut plan, resources).map_err(|error| error.to_string())
        };
        assert_eq!(beside(0x2f8, &own), Ok(()));
        assert!(
            beside(0x3f8, &own).unwrap_err().contains("what the guest keeps (0x3f8, 8 ports) and the wall's console")
        );
        assert!(beside(0x6c, &own).unwrap_err().contains("what an app drives (0x70, 2 ports) and the wall's console"));
    }

    #[test]
    fn no_interrupt_is_given_to_an_app_where_none_reaches_it() {
        for kind in [ResourceKind::AppPorts, ResourceKind::Driven] {
            for machine in [machine::VMX, machine::SVM] {
                assert!(given(machine, &[resource(kind, 0x7000, 0x1000, 0)]).is_ok());
                let error = given(machine, &[resource(kind, 0x7000, 0x1000, 8)]).unwrap_err();
                assert_eq!(error, ResourceError::AppInterrupt(8));
                assert!(error.to_string().contains("leave `interrupt 8` away"), "{error}");
            }
        }
        let plan = given(machine::AARCH64, &[resource(ResourceKind::Driven, 0x0901_0000, 0x1000, 34)]).unwrap();
        assert_eq!(plan.secure_interrupts[..2], [34, 0]);
    }

    #[test]
    fn the_interval_timer_is_the_guests_only_where_the_secure_side_has_another() {
        let given = |source, base, count| {
            let mut plan = MachinePlan::new_zeroed();
            (plan.machine, plan.x86.time_source) = (machine::SVM, source);
            give(&mut plan, &[resource(ResourceKind::Ports, base, count, 0)])
        };
        assert_eq!(given(time_source::HPET, 0x40, 4), Ok(()));
        assert_eq!((given(time_source::PIT, 0x44, 1), given(time_source::PIT, 0x3e, 2)), (Ok(()), Ok(())));
        for (base, count) in [(0x40, 4), (0x43, 1), (0x20, 0x21), (0, 0x1_0000)] {
            assert_eq!(given(time_source::PIT, base, count), Err(ResourceError::Timer));
        }
    }

    #[test]
    fn registers_are_the_guests_as_far_as_it_gets_their_memory() {
        let page = Range { base: 0xfed0_0000, bytes: 0x400 };
        let gives = |kind, base| gives(&[resource(kind, base, 0x1000, 0)], page);
        assert!(gives(ResourceKind::Passthrough, 0xfed0_0000));
        assert!(!gives(ResourceKind::Passthrough, 0xfecf_f000) && !gives(ResourceKind::Passthrough, 0xfed0_1000));
        assert!(!gives(ResourceKind::Driven, 0xfed0_0000), "an app's");
        assert!(!gives(ResourceKind::Msrs, 0xfed0_0000), "registers of the CPU by the same number");
    }

    #[test]
    fn as_many_as_there_is_room_for_are_taken_and_one_more_is_refused_in_words() {
        for (kind, most, what) in [
            (ResourceKind::Ports, MAX_PORTS, "the guest's ports than the wall keeps: 32"),
            (ResourceKind::Msrs, MAX_MSRS, "model-specific registers than the wall keeps: 32"),
            (ResourceKind::ReadOnly, MAX_RANGES, "read-only memory than the wall keeps: 8"),
            (ResourceKind::Passthrough, MAX_RANGES, "memory-mapped registers than the wall keeps: 8"),
            (ResourceKind::Driven, MAX_RANGES, "apps' memory-mapped registers than the wall keeps: 8"),
            (ResourceKind::AppPorts, MAX_RANGES, "apps' ports than the wall keeps: 8"),
            (ResourceKind::ServedPorts, 4, "devices that apps serve than the wall keeps: 4"),
        ] {
            let all: Vec<Resource> = (1..=most as u64 + 1).map(|at| resource(kind, at * 0x100, 1, 0)).collect();
            assert!(given(machine::VMX, &all[..most]).is_ok(), "{what}");
            assert!(given(machine::VMX, &all).unwrap_err().to_string().contains(what), "{what}");
        }
        let lines =
            |count: u32| (1..=count).map(|line| resource(ResourceKind::Driven, 0, 0, 31 + line)).collect::<Vec<_>>();
        let most = u32::try_from(MAX_SECURE_INTERRUPTS).unwrap();
        assert!(given(machine::AARCH64, &lines(most)).is_ok());
        assert!(given(machine::AARCH64, &lines(most + 1)).unwrap_err().to_string().contains("apps' interrupts"));
    }

    #[test]
    fn what_the_machine_does_not_have_or_that_ends_beyond_it_is_refused() {
        let served = [resource(ResourceKind::Served, 0x0a00_3e00, 0x200, 79)];
        assert!(given(machine::AARCH64, &served).is_ok_and(|plan| plan.devices[0].intid == 79));
        assert_eq!(given(machine::VMX, &served).unwrap_err(), ResourceError::Elsewhere(ResourceKind::Served));
        for kind in [ResourceKind::Ports, ResourceKind::Msrs, ResourceKind::ReadOnly, ResourceKind::ServedPorts] {
            let error = given(machine::AARCH64, &[resource(kind, 0x60, 1, 0)]).unwrap_err();
            assert!(error.to_string().contains("for another kind of machine"), "{error}");
        }
        for (kind, base) in [
            (ResourceKind::Ports, 0xffff),
            (ResourceKind::AppPorts, 0xffff),
            (ResourceKind::ServedPorts, 0xffff),
            (ResourceKind::Msrs, 0xffff_ffff),
        ] {
            assert!(given(machine::SVM, &[resource(kind, base, 1, 0)]).is_ok());
            for (base, bytes) in [(base, 2), (base + 1, 1), (u64::MAX, 2), (base, 0)] {
                let error = given(machine::SVM, &[resource(kind, base, bytes, 0)]).unwrap_err();
                assert_eq!(error, ResourceError::Beyond(kind, base));
            }
        }
        let unknown = Resource { kind: 99, ..served[0] };
        assert_eq!(given(machine::SVM, &[unknown]).unwrap_err(), ResourceError::Unknown(99));
    }
}
