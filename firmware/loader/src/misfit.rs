//! What of a plan does not fit, said so that whoever wrote the policy can mend it.

use core::fmt;

use bulkhead_hypervisor_core::plan::{MachinePlan, PlanError, Range};

/// What of a plan does not fit, with the names of who quarrels.
#[derive(Clone, Copy, Debug)]
pub struct Misfit<'a> {
    /// The plan.
    pub plan: &'a MachinePlan,
    /// What is wrong with it.
    pub error: PlanError,
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |range: Range| (self.owner(range), range.base, range.bytes);
        let what = self.error.told().0;
        match self.error {
            PlanError::Overlap(one, other) => {
                let ((one, base, bytes), (other, start, length)) = (told(one), told(other));
                write!(
                    f,
                    "{one} ({base:#x}, {bytes:#x} bytes) and {other} ({start:#x}, {length:#x} bytes) share addresses"
                )
            }
            PlanError::Range(range) | PlanError::Outside(range) | PlanError::Start(range) => {
                let (name, base, bytes) = told(range);
                write!(f, "{what}: {name} ({base:#x}, {bytes:#x} bytes)")
            }
            PlanError::Interrupt(intid) => write!(f, "{what}, or that two have: {intid}"),
            PlanError::Version | PlanError::Times => f.write_str(what),
        }
    }
}

impl Misfit<'_> {
    fn owner(&self, range: Range) -> &'static str {
        let plan = self.plan;
        let served = plan.devices.map(|device| device.range);
        let machine = plan.x86.pages();
        let all: [(&str, &[Range]); 8] = [
            ("what the guest keeps", &plan.guest_mmio),
            ("what the guest reads", &plan.x86.guest_rom),
            ("what an app drives", &plan.secure_mmio),
            ("what an app serves", &served),
            ("the guest's memory", &plan.guest_ram),
            ("the interrupt controller", &[plan.gicd, plan.gicr]),
            ("the interrupt controllers and the timer", &machine),
            ("the wall's memory", &[plan.taken, plan.secure, plan.image, plan.policy, plan.audit, plan.store]),
        ];
        all.iter().find(|(_, ranges)| ranges.contains(&range)).map_or("the guest's start", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use bulkhead_hypervisor_core::plan::{PLAN_MAGIC, PLAN_VERSION, machine};
    use zerocopy::FromZeros;

    /// C03 of the attack catalogue: what the machine alone knows.
    #[test]
    fn a_grant_over_memory_the_wall_or_the_interrupt_controller_names_both_owners() {
        let mut plan = MachinePlan::new_zeroed();
        (plan.magic, plan.version, plan.machine) = (PLAN_MAGIC, PLAN_VERSION, machine::AARCH64);
        plan.ticks_per_second = 62_500_000;
        let mut next = 0x7f00_0000;
        let mut place = |bytes| {
            next += bytes;
            Range { base: next - bytes, bytes }
        };
        (plan.taken, plan.secure) = (Range { base: 0x7f00_0000, bytes: 0x100_0000 }, place(0x20_0000));
        (plan.image, plan.policy, plan.audit, plan.store) =
            (place(0x3_0000), place(0x3000), place(0x1_0000), place(0x50_0000));
        plan.guest_ram[0] = Range { base: 0x4000_0000, bytes: 0x3f00_0000 };
        (plan.guest_entry, plan.guest_argument) = (0x4000_0000, 0x4400_0000);
        plan.gicd = Range { base: 0x0800_0000, bytes: 0x1_0000 };
        plan.gicr = Range { base: 0x080a_0000, bytes: 0x2_0000 };
        (plan.period_us, plan.budget_us, plan.call_limit_us) = (1000, 100, 2000);
        assert_eq!(plan.validate(), Ok(()));
        let with = |change: &dyn Fn(&mut MachinePlan)| {
            let mut plan = plan;
            change(&mut plan);
            Misfit { plan: &plan, error: plan.validate().unwrap_err() }.to_string()
        };
        let page = |base| Range { base, bytes: 0x1000 };
        for (base, owner) in [
            (0x4000_0000, "the guest's memory"),
            (plan.taken.base, "the wall's memory"),
            (0x0800_0000, "the interrupt controller"),
        ] {
            let said = with(&|plan| plan.guest_mmio[1] = page(base));
            assert!(said.contains("what the guest keeps (0x") && said.contains(owner), "{said}");
            let said = with(&|plan| plan.secure_mmio[0] = page(base));
            assert!(said.contains("what an app drives (0x") && said.contains(owner), "{said}");
        }
        assert!(with(&|plan| plan.guest_mmio[0] = page(0x900_0800)).contains("what the guest keeps (0x9000800"));
        assert!(with(&|plan| plan.guest_interrupts[0] = 26).contains("26"));
    }
}
