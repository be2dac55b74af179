//! The device tree (Devicetree Specification 0.4): what the machine is, and the cut-down tree that the guest gets.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::require::Facts;
use bulkhead_bundle::{Resource, ResourceKind};
use bulkhead_hypervisor_core::plan::Range;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};

/// What the loader learns from the machine's device tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Main memory: the first range of the first memory node.
    pub ram: Range,
    /// GIC distributor.
    pub gicd: Range,
    /// GIC redistributors.
    pub gicr: Range,
    /// The bundle, where the boot chain put it (/chosen linux,initrd-*).
    pub bundle: Range,
    /// The first PL011, if any.
    pub pl011: Option<Range>,
    /// All virtio-mmio transports.
    pub virtio: Vec<Range>,
    /// How many CPUs that may be used.
    pub cpu_count: u32,
    /// PSCI is called by `smc`.
    pub psci_smc: bool,
    /// There is an SMMU.
    pub has_smmu: bool,
    /// There is a TPM.
    pub has_tpm: bool,
}

impl Machine {
    /// What a policy can require of it.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let (has_iommu, has_tpm) = (self.has_smmu, self.has_tpm);
        Facts { has_iommu, has_tpm, cores: self.cpu_count.into(), memory: self.ram.bytes >> 20 }
    }
}

/// The SMMUs of Linux' bindings (arm,smmu, arm,smmu-v3).
const SMMUS: [&str; 6] = ["arm,smmu-v3", "arm,smmu-v2", "arm,smmu-v1", "arm,mmu-500", "arm,mmu-401", "arm,mmu-400"];
/// The TPMs of Linux' bindings (tcg,tpm-tis-mmio and its neighbours).
const TPMS: [&str; 5] = ["tcg,tpm-tis-mmio", "tcg,tpm_tis-spi", "tcg,tpm-tis-i2c", "google,cr50", "microsoft,ftpm"];

/// Why the machine cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// No usable memory node.
    NoMemory,
    /// No GICv3.
    NoGicV3,
    /// Nothing in /chosen that says where the bundle is.
    NoBundle,
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "the device tree names no memory",
            Self::NoGicV3 => "unknown interrupt controller: the wall needs a GICv3 (QEMU: -M virt,gic-version=3)",
            Self::NoBundle => {
                "no bundle: give it as the initial RAM disk (QEMU: -initrd, U-Boot: booti's second address)"
            }
        })
    }
}

/// Reads the machine from its tree.
///
/// # Errors
/// [`MachineError`] names what is missing.
pub fn machine(tree: &DeviceTree) -> Result<Machine, MachineError> {
    let root = &tree.root;
    let ram = find(root, |node| has_text(node, "device_type", "memory")).and_then(|node| reg(node, 0));
    let gic = find(root, |node| is_compatible(node, "arm,gic-v3")).ok_or(MachineError::NoGicV3)?;
    let (gicd, gicr) = reg(gic, 0).zip(reg(gic, 1)).ok_or(MachineError::NoGicV3)?;
    let bundle = tree.find_node("/chosen").and_then(bundle_place).ok_or(MachineError::NoBundle)?;
    let cpus = tree.find_node("/cpus");
    let count = cpus.map_or(1, |cpus| {
        cpus.children().filter(|node| has_text(node, "device_type", "cpu") && is_usable(node)).count()
    });
    Ok(Machine {
        ram: ram.filter(|ram| ram.bytes != 0).ok_or(MachineError::NoMemory)?,
        gicd,
        gicr,
        bundle,
        pl011: pl011(tree),
        virtio: root
            .children()
            .filter(|node| is_compatible(node, "virtio,mmio"))
            .filter_map(|node| reg(node, 0))
            .collect(),
        cpu_count: u32::try_from(count).unwrap_or(u32::MAX),
        psci_smc: find(root, |node| has_text(node, "method", "smc")).is_some(),
        has_smmu: has_one_of(root, &SMMUS),
        has_tpm: has_one_of(root, &TPMS),
    })
}

/// What the guest's tree shall say besides the machine.
#[derive(Clone, Copy, Debug)]
pub struct GuestView<'a> {
    /// The guest's memory.
    pub ram: Range,
    /// Its initial RAM disk; 0 bytes for none.
    pub initrd: Range,
    /// Its command line.
    pub command_line: &'a str,
    /// What the policy gives to it.
    pub resources: &'a [Resource],
}

/// The guest's device tree: CPU 0, PSCI, timer, GIC without message-signalled interrupts, fixed clocks, the declared
/// devices, memory and `/chosen`; nothing else of the machine's.
#[must_use]
pub fn guest_tree(machine: &DeviceTree, view: &GuestView<'_>) -> Vec<u8> {
    let mut tree = DeviceTree::new();
    for property in machine.root.properties() {
        tree.root.add_property(DeviceTreeProperty::from_property(&property));
    }
    for node in machine.root.children().filter(|node| belongs_to_guest(node, view.resources)) {
        tree.root.add_child(cut(node));
    }
    for served in view.resources.iter().filter(|resource| resource.kind == ResourceKind::Served as u32) {
        tree.root.add_child(transport(served));
    }
    tree.root.add_child(memory(view.ram));
    tree.root.add_child(chosen(machine.find_node("/chosen"), view));
    tree.to_dtb()
}

fn belongs_to_guest(node: &DeviceTreeNode, resources: &[Resource]) -> bool {
    let is_base = ["arm,psci-1.0", "arm,psci-0.2", "arm,armv8-timer", "arm,gic-v3", "fixed-clock"];
    let is_declared = |place: Range| {
        resources.iter().any(|resource| {
            resource.kind == ResourceKind::Passthrough as u32
                && resource.base == place.base
                && resource.bytes >= place.bytes
        })
    };
    node.name() == "cpus"
        || is_base.iter().any(|name| is_compatible(node, name))
        || reg(node, 0).is_some_and(is_declared)
}

/// A copy without what the guest does not get: the GIC's children (ITS, v2m), all CPUs but the first, the CPU map.
fn cut(node: &DeviceTreeNode) -> DeviceTreeNode {
    let mut copy = DeviceTreeNode::from_node(&node);
    let drop_all = is_compatible(node, "arm,gic-v3");
    let is_cpus = node.name() == "cpus";
    let gone: Vec<String> = node
        .children()
        .map(|child| String::from(child.name()))
        .filter(|name| drop_all || is_cpus && name != "cpu@0")
        .collect();
    for name in gone {
        copy.remove_child(&name);
    }
    copy
}

/// A virtio-mmio transport that an app serves: an edge-triggered SPI (cells: type 0, number from 32, flags 1).
fn transport(served: &Resource) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("virtio_mmio@{:x}", served.base));
    node.add_property(DeviceTreeProperty::new_unchecked("compatible", "virtio,mmio"));
    node.add_property(DeviceTreeProperty::new_unchecked("reg", pair(Range { base: served.base, bytes: served.bytes })));
    let cells = [0, served.intid.saturating_sub(32), 1].map(u32::to_be_bytes).concat();
    node.add_property(DeviceTreeProperty::new_unchecked("interrupts", cells));
    node.add_property(DeviceTreeProperty::new_unchecked("dma-coherent", Vec::<u8>::new()));
    node
}

fn memory(ram: Range) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("memory@{:x}", ram.base));
    node.add_property(DeviceTreeProperty::new_unchecked("device_type", "memory"));
    node.add_property(DeviceTreeProperty::new_unchecked("reg", pair(ram)));
    node
}

fn chosen(machine: Option<&DeviceTreeNode>, view: &GuestView<'_>) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("chosen");
    // Seeds and the console's path are the boot chain's; all else is ours.
    for name in ["stdout-path", "rng-seed", "kaslr-seed"] {
        if let Some(property) = machine.and_then(|machine| machine.property(name)) {
            node.add_property(DeviceTreeProperty::from_property(&property));
        }
    }
    node.add_property(DeviceTreeProperty::new_unchecked("bootargs", view.command_line));
    if view.initrd.bytes != 0 {
        node.add_property(DeviceTreeProperty::new_unchecked("linux,initrd-start", view.initrd.base));
        node.add_property(DeviceTreeProperty::new_unchecked("linux,initrd-end", view.initrd.base + view.initrd.bytes));
    }
    node
}

fn pair(range: Range) -> Vec<u8> {
    [range.base.to_be_bytes(), range.bytes.to_be_bytes()].concat()
}

/// The first node below this one (at any depth) that answers.
fn find(node: &DeviceTreeNode, wanted: impl Fn(&DeviceTreeNode) -> bool + Copy) -> Option<&DeviceTreeNode> {
    node.children().find_map(|child| if wanted(child) { Some(child) } else { find(child, wanted) })
}

fn is_compatible(node: &DeviceTreeNode, name: &str) -> bool {
    let list = node.property("compatible");
    list.is_some_and(|list| list.value().split(|byte| *byte == 0).any(|entry| entry == name.as_bytes()))
}

/// Whether a usable device is one of these.
fn has_one_of(root: &DeviceTreeNode, names: &[&str]) -> bool {
    find(root, |node| is_usable(node) && names.iter().any(|name| is_compatible(node, name))).is_some()
}

/// A node without a status is there for use (Devicetree Specification §2.3.4).
fn is_usable(node: &DeviceTreeNode) -> bool {
    node.property("status").is_none() || has_text(node, "status", "okay") || has_text(node, "status", "ok")
}

fn has_text(node: &DeviceTreeNode, name: &str, value: &str) -> bool {
    node.property(name).is_some_and(|property| property.value().strip_suffix(&[0]) == Some(value.as_bytes()))
}

/// The n-th pair of `reg`, with two cells each for address and size.
fn reg(node: &DeviceTreeNode, index: usize) -> Option<Range> {
    let property = node.property("reg")?;
    let bytes = property.value().get(index * 16..index * 16 + 16)?;
    let (base, bytes) = bytes.split_at_checked(8)?;
    Some(Range { base: number(base)?, bytes: number(bytes)? })
}

/// A number of one or two cells.
fn number(bytes: &[u8]) -> Option<u64> {
    matches!(bytes.len(), 4 | 8).then(|| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn bundle_place(chosen: &DeviceTreeNode) -> Option<Range> {
    let start = number(chosen.property("linux,initrd-start")?.value())?;
    let end = number(chosen.property("linux,initrd-end")?.value())?;
    Some(Range { base: start, bytes: end.checked_sub(start)? })
}

/// The first PL011's registers, for messages before the machine is understood.
#[must_use]
pub fn pl011(tree: &DeviceTree) -> Option<Range> {
    find(&tree.root, |node| is_compatible(node, "arm,pl011")).and_then(|node| reg(node, 0))
}
