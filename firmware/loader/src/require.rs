//! What the policy requires of the machine, held against what it has. The wall does not come up unless all of it is met.

use core::fmt;

/// What a policy can require, as the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether firmware names an IOMMU.
    pub has_iommu: bool,
    /// Whether it names a TPM.
    pub has_tpm: bool,
    /// CPUs that can be used.
    pub cores: u64,
    /// Memory that firmware leaves to us, in MiB.
    pub memory: u64,
}

/// A requirement that is not met: where it is stated, what, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmet<'a> {
    /// File and line of the policy.
    pub place: &'a str,
    /// The fact's name.
    pub fact: &'a str,
    /// Why.
    pub why: Why,
}

/// Why a requirement is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Firmware (the device tree, or the ACPI tables) names no such device.
    Absent(&'static str),
    /// It names one, and this wall makes no use of it: what is hoped for from it would not be so.
    NotUsed(&'static str),
    /// There is less than is required.
    TooFew {
        /// How much there must be.
        needed: u64,
        /// How much there is.
        found: u64,
    },
    /// The loader is older than the policy's tools, or the part is damaged.
    Unknown,
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, fact, why } = self;
        write!(f, "{place} requires {fact}: ")?;
        match why {
            Why::Absent(what) => write!(f, "the firmware names no {what}"),
            Why::NotUsed(why) => f.write_str(why),
            Why::TooFew { needed, found } => write!(f, "at least {needed} are needed, the machine has {found}"),
            Why::Unknown => f.write_str("this loader does not know what that is"),
        }
    }
}

/// Compares the lines of the bundle's part, `FACT LEAST FILE:LINE`, with the machine.
///
/// # Errors
/// The first that is not met.
pub fn check<'a>(required: &'a str, machine: &Facts) -> Result<(), Unmet<'a>> {
    required.lines().filter(|line| !line.starts_with(GRANTED)).try_for_each(|line| {
        let mut words = line.splitn(3, ' ');
        let (fact, least) = (words.next().unwrap_or_default(), words.next().and_then(|least| least.parse().ok()));
        let place = words.next().unwrap_or("the policy");
        let met = least.map_or(Err(Why::Unknown), |least| is_met(fact, least, machine));
        met.map_err(|why| Unmet { place, fact, why })
    })
}

/// Where a line of the part begins that tells of a grant which can undo the wall, and asks for nothing.
const GRANTED: &str = "granted 0 ";

/// What the policy gives away that can undo the wall, as its author says it: place, what, and why.
pub fn granted(required: &str) -> impl Iterator<Item = &str> {
    required.lines().filter_map(|line| line.strip_prefix(GRANTED))
}

fn is_met(fact: &str, needed: u64, machine: &Facts) -> Result<(), Why> {
    let enough = |found: u64| if found < needed { Err(Why::TooFew { needed, found }) } else { Ok(()) };
    match fact {
        "iommu" if !machine.has_iommu => Err(Why::Absent("IOMMU")),
        // Until the wall programs it, every device reaches all memory: to say that the requirement is met would be a lie.
        "iommu" => Err(Why::NotUsed("the machine has an IOMMU, but this wall does not drive one yet")),
        "tpm" if !machine.has_tpm => Err(Why::Absent("TPM")),
        "tpm" => Err(Why::NotUsed("the machine has a TPM, but this loader does not measure into one yet")),
        "cores" => enough(machine.cores),
        "memory" => enough(machine.memory),
        _ => Err(Why::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aarch64::tree::machine;
    use alloc::format;
    use alloc::string::{String, ToString};
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

    fn node(name: &str, properties: &[(&'static str, &[u8])]) -> DeviceTreeNode {
        let mut node = DeviceTreeNode::new_unchecked(name.to_string());
        for (name, value) in properties {
            node.add_property(DeviceTreeProperty::new_unchecked(*name, value.to_vec()));
        }
        node
    }

    /// A machine with 1 GiB, these CPUs (each with its status, if it states one) and these devices.
    fn with(cpus: &[Option<&[u8]>], devices: &[(&str, &[u8], &[u8])]) -> Facts {
        let mut tree = DeviceTree::new();
        let place = [0x4000_0000_u64, 0x4000_0000].map(u64::to_be_bytes).concat();
        tree.root.add_child(node("memory@40000000", &[("device_type", b"memory\0"), ("reg", &place)]));
        let gic = [0x800_0000_u64, 0x1_0000, 0x80a_0000, 0xf6_0000].map(u64::to_be_bytes).concat();
        tree.root.add_child(node("intc@8000000", &[("compatible", b"arm,gic-v3\0"), ("reg", &gic)]));
        let (start, end) = (0x4800_0000_u64.to_be_bytes(), 0x4900_0000_u64.to_be_bytes());
        tree.root.add_child(node("chosen", &[("linux,initrd-start", &start), ("linux,initrd-end", &end)]));
        let mut all = node("cpus", &[]);
        for (number, status) in cpus.iter().enumerate() {
            let mut cpu = node(&format!("cpu@{number}"), &[("device_type", b"cpu\0")]);
            if let Some(status) = status {
                cpu.add_property(DeviceTreeProperty::new_unchecked("status", status.to_vec()));
            }
            all.add_child(cpu);
        }
        tree.root.add_child(all);
        for (name, compatible, status) in devices {
            tree.root.add_child(node(name, &[("compatible", compatible), ("status", status)]));
        }
        machine(&tree).unwrap().facts()
    }

    fn said(required: &str, machine: &Facts) -> String {
        check(required, machine).map_or_else(|unmet| unmet.to_string(), |()| "met".to_string())
    }

    #[test]
    fn cores_and_memory_are_counted_and_one_too_few_names_the_line() {
        let two = with(&[None, Some(b"okay\0")], &[]);
        assert_eq!(said("", &two), "met");
        assert_eq!(said("cores 2 site.policy:4\nmemory 1024 site.policy:5\n", &two), "met");
        assert_eq!(
            said("memory 1 site.policy:3\ncores 3 a b.policy:4\n", &two),
            "a b.policy:4 requires cores: at least 3 are needed, the machine has 2"
        );
        assert_eq!(
            said("memory 1025 site.policy:5\n", &two),
            "site.policy:5 requires memory: at least 1025 are needed, the machine has 1024"
        );
        let one = with(&[None, Some(b"disabled\0"), Some(b"fail\0"), Some(b"fail-ecc\0")], &[]);
        assert_eq!(one.cores, 1, "a CPU that is not there for use is not counted");
        assert!(said("cores 2 x:1", &one).contains("has 1"));
    }

    #[test]
    fn an_iommu_and_a_tpm_are_missed_and_one_that_is_there_is_no_protection_yet() {
        let plain = with(&[None], &[]);
        assert_eq!(said("iommu 1 site.policy:3", &plain), "site.policy:3 requires iommu: the firmware names no IOMMU");
        assert_eq!(said("tpm 1 site.policy:3", &plain), "site.policy:3 requires tpm: the firmware names no TPM");
        let smmu = |compatible: &[u8], status: &[u8]| with(&[None], &[("smmu@9050000", compatible, status)]);
        for compatible in [b"arm,smmu-v3\0".as_slice(), b"qcom,sc7180-smmu-500\0arm,mmu-500\0", b"arm,smmu-v2\0"] {
            let text = said("iommu 1 site.policy:3", &smmu(compatible, b"okay\0"));
            assert!(text.contains("has an IOMMU, but this wall does not drive one yet"), "{text}");
        }
        assert!(said("iommu 1 x:1", &smmu(b"arm,smmu-v3\0", b"disabled\0")).contains("names no IOMMU"));
        let tpm = with(&[None], &[("tpm@c000000", b"tcg,tpm-tis-mmio\0", b"okay\0")]);
        assert!(said("tpm 1 x:1", &tpm).contains("has a TPM, but this loader does not measure into one yet"));
    }

    #[test]
    fn what_the_loader_does_not_know_stops_it() {
        let plain = with(&[None], &[]);
        for line in ["sgx 1 site.policy:9", "cores two site.policy:9", "cores", "\n", "cores 1"] {
            let is_met = check(line, &plain).is_ok();
            assert_eq!(is_met, line == "cores 1", "{line:?}");
        }
        assert_eq!(
            said("sgx 1 site.policy:9", &plain),
            "site.policy:9 requires sgx: this loader does not know what that is"
        );
    }

    #[test]
    fn a_grant_that_can_undo_the_wall_is_told_and_asks_for_nothing() {
        let part = "cores 1 site.policy:2\ngranted 0 site.policy:4 the guest is given mmio.write: why\ngranted 0 a b\n";
        assert_eq!(check(part, &with(&[None], &[])), Ok(()));
        assert!(granted(part).eq(["site.policy:4 the guest is given mmio.write: why", "a b"]));
        assert_eq!(granted("cores 1 granted 0 x:1\n").count(), 0);
    }

    #[test]
    fn the_loader_knows_every_fact_of_the_language() {
        let plain = with(&[None], &[]);
        for fact in bulkhead_lang::require::FACTS {
            let line = format!("{} {} site.policy:1", fact.name, u64::MAX);
            let why = check(&line, &plain).unwrap_err().why;
            assert_ne!(why, Why::Unknown, "{}", fact.name);
        }
    }
}
