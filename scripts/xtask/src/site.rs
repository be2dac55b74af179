//! A site's folder: its policy compiled, its manifest read, and what the bundle takes from both.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use bulkhead_abi::boot::{Capability, NO_OBJECT, Range, flags};
use bulkhead_bundle::secure::{App, Architecture, secure_image};
use bulkhead_bundle::{Resource, ResourceKind, Settings};
use bulkhead_hypervisor_core::plan::{MachinePlan, machine};
use bulkhead_lang::tree::Space;
use bulkhead_lang::{Arch, Compiled, Severity, compile_folder, policy};
use bulkhead_loader::resources;
use serde::Deserialize;
use zerocopy::FromZeros;

use crate::command::{Error, Result};

/// `site.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    secure: Secure,
    guest: Guest,
    #[serde(default)]
    app: BTreeMap<String, AppEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secure {
    period_us: u64,
    budget_us: u64,
    call_limit_us: u64,
}

/// What the guest is started with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    command_line: CommandLine,
    restart_limit: u64,
}

/// One for all machines, or one for each kind.
#[derive(Deserialize)]
#[serde(untagged)]
enum CommandLine {
    All(String),
    Each(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppEntry {
    /// The program, if it is not called as the app is.
    program: Option<String>,
    priority: u8,
    restart_limit: u32,
    #[serde(default)]
    budget_us: u32,
    #[serde(default)]
    period_us: u32,
    #[serde(default)]
    rights: Vec<String>,
    #[serde(default = "default_stack")]
    stack_kib: u64,
}

const fn default_stack() -> u64 {
    16
}

/// How large a stack may be.
const STACK_KIB: RangeInclusive<u64> = 4..=256;

/// A site, ready for its bundle.
pub(crate) struct Site {
    manifest: Manifest,
    compiled: Compiled,
    arch: Arch,
}

impl Site {
    /// Reads and compiles for a kind of machine; the findings of the policy are printed.
    pub(crate) fn open(folder: &Path, arch: Arch) -> Result<Self> {
        let compiled = compile_folder(folder, Some(arch)).map_err(|report| {
            report.findings.iter().for_each(|finding| eprintln!("{}", finding.render(&report.sources)));
            let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
            Error(format!("{}: the policy has {errors} errors", folder.display()))
        })?;
        // Records and answers number the rules in 16 bits, of which one number says that there is none.
        if compiled.policy.rules.len() >= usize::from(bulkhead_model::NONE) {
            return Err(Error(format!(
                "{}: the policy has more than 65,534 rules, which records cannot number",
                folder.display()
            )));
        }
        compiled.warnings.iter().for_each(|warning| eprintln!("{}", warning.render(&compiled.sources)));
        let path = folder.join("site.toml");
        let text =
            bulkhead_lang::read_text(&path).map_err(|why| Error(format!("cannot read {}: {why}", path.display())))?;
        let manifest: Manifest =
            toml::from_str(&text).map_err(|error| Error(format!("{}: {error}", path.display())))?;
        let site = Self { manifest, compiled, arch };
        site.check().map_err(|why| Error(format!("{}: {why}", folder.display())))?;
        Ok(site)
    }

    /// What loader and wall would refuse at each start, refused here, where it can be mended.
    fn check(&self) -> std::result::Result<(), String> {
        let Manifest { secure, app, .. } = &self.manifest;
        let Secure { period_us, budget_us, call_limit_us } = *secure;
        if period_us == 0 || budget_us == 0 || call_limit_us == 0 || budget_us > period_us {
            return Err("[secure]: each time is above zero, and budget_us at most period_us".to_string());
        }
        for (name, entry) in app {
            if !STACK_KIB.contains(&entry.stack_kib) {
                return Err(format!("[app.{name}]: stack_kib is 4..256, not {}", entry.stack_kib));
            }
            if entry.budget_us > entry.period_us {
                return Err(format!("[app.{name}]: budget_us is at most period_us"));
            }
        }
        Ok(())
    }

    /// The compiled policy.
    pub(crate) fn policy(&self) -> &[u8] {
        &self.compiled.table
    }

    /// The guest's command line on this kind of machine.
    pub(crate) fn command_line(&self) -> Result<&str> {
        match &self.manifest.guest.command_line {
            CommandLine::All(line) => Ok(line),
            CommandLine::Each(lines) => lines.get(self.arch.name()).map(String::as_str).ok_or_else(|| {
                Error(format!("site.toml: command_line has no line for {0}; add {0} = \"…\"", self.arch.name()))
            }),
        }
    }

    /// What the loader compares with the machine.
    pub(crate) fn requirements(&self) -> String {
        self.compiled.requirements()
    }

    /// What of the machine the guest and apps get, and what apps serve to it; as much as a loader can put into its plan.
    pub(crate) fn resources(&self) -> Result<Vec<Resource>> {
        let policy = &self.compiled.policy;
        let passed = policy.resources.iter().map(|resource| {
            let kind = match (resource.space, resource.is_read_only) {
                (Space::Memory, false) => ResourceKind::Passthrough,
                (Space::Memory, true) => ResourceKind::ReadOnly,
                (Space::Ports, _) => ResourceKind::Ports,
                (Space::Registers, false) => ResourceKind::Msrs,
                (Space::Registers, true) => ResourceKind::MsrsReadOnly,
            };
            given(resource, kind, 0)
        });
        let served = policy.devices.iter().map(|device| {
            let kind = if device.space == Space::Ports { ResourceKind::ServedPorts } else { ResourceKind::Served };
            Resource {
                kind: kind as u32,
                intid: device.interrupt.unwrap_or(0),
                base: device.base,
                bytes: device.size,
                object: device.object,
                function: device.function.unwrap_or(0),
                pin: device.pin.unwrap_or(0),
            }
        });
        let driven = policy.driven.iter().map(|(subject, resource)| {
            let kind = if resource.space == Space::Ports { ResourceKind::AppPorts } else { ResourceKind::Driven };
            given(resource, kind, *subject)
        });
        let all: Vec<Resource> = passed.chain(served).chain(driven).collect();
        let mut plan = MachinePlan::new_zeroed();
        plan.machine = if self.arch == Arch::Aarch64 { machine::AARCH64 } else { machine::VMX };
        resources::give(&mut plan, &all).map_err(|error| Error(error.to_string()))?;
        Ok(all)
    }

    pub(crate) fn settings(&self) -> Settings {
        let Manifest { secure, guest, .. } = &self.manifest;
        Settings {
            period_us: secure.period_us,
            budget_us: secure.budget_us,
            call_limit_us: secure.call_limit_us,
            restart_limit: guest.restart_limit,
        }
    }

    /// The secure partition's memory; `programs` holds the kernel and the apps as ELF files.
    pub(crate) fn secure(&self, programs: &Path) -> Result<Vec<u8>> {
        let names = || self.compiled.policy.subjects.iter().skip(2);
        if let Some(name) = self.manifest.app.keys().find(|name| !names().any(|known| known == *name)) {
            return Err(Error(format!(
                "site.toml: the policy declares no app `{name}`; add `app {name}` or remove it here"
            )));
        }
        let mut apps = names().map(|name| self.app(name, programs)).collect::<Result<Vec<App>>>()?;
        apps.sort_by_key(|app| app.priority);
        let kernel = program(&programs.join("bulkhead-kernel"))?;
        let architecture = match self.arch {
            Arch::Aarch64 => Architecture::Aarch64,
            Arch::X86_64 => Architecture::X86_64,
        };
        secure_image(architecture, &kernel, &apps, self.policy().len())
            .map_err(|error| Error(format!("the secure partition: {error}")))
    }

    fn app(&self, name: &str, programs: &Path) -> Result<App> {
        let entry = self.manifest.app.get(name).ok_or_else(|| {
            Error(format!("site.toml: there is no [app.{name}], which the policy declares; add it with its priority"))
        })?;
        let compiled = &self.compiled;
        let subject = compiled.subject(name).unwrap_or(bulkhead_model::NONE);
        let serves = (0..).zip(&compiled.policy.objects).find(|(_, object)| object.server == Some(subject));
        let capability = |reach: bulkhead_lang::Reach| Capability {
            object: reach.object,
            reserved: [0; 3],
            open_methods: reach.open_methods,
        };
        let devices = || compiled.policy.devices.iter().filter(|device| device.server == subject);
        Ok(App {
            name: name.to_string(),
            program: program(&programs.join(entry.program.as_deref().unwrap_or(name)))?,
            subject,
            serves: serves.map_or(NO_OBJECT, |(number, _)| number),
            priority: entry.priority,
            budget_us: entry.budget_us,
            period_us: entry.period_us,
            restart_limit: entry.restart_limit,
            flags: devices().fold(rights(&entry.rights)?, |bits, device| bits | device_flags(device)),
            devices: self.driven(subject, Space::Memory).collect(),
            ports: self.driven(subject, Space::Ports).map(|(range, _)| range).collect(),
            irqs: devices().filter_map(|device| device.interrupt).collect(),
            caps: compiled.reach(subject).into_iter().map(capability).collect(),
            stack_bytes: entry.stack_kib.next_multiple_of(4) * 1024,
        })
    }
}

impl Site {
    /// The machine's devices that an app drives, by registers in memory or by ports.
    fn driven(&self, subject: u16, space: Space) -> impl Iterator<Item = (Range, u32)> {
        let own = self.compiled.policy.driven.iter().filter(move |(owner, _)| *owner == subject);
        own.filter(move |(_, resource)| resource.space == space)
            .map(|(_, resource)| (Range { base: resource.base, bytes: resource.size }, resource.interrupt.unwrap_or(0)))
    }
}

fn given(resource: &policy::Resource, kind: ResourceKind, object: u16) -> Resource {
    let &policy::Resource { base, size: bytes, interrupt, .. } = resource;
    Resource { kind: kind as u32, intid: interrupt.unwrap_or(0), base, bytes, object, function: 0, pin: 0 }
}

/// What an app is told of the device that it serves.
fn device_flags(device: &policy::Device) -> u32 {
    let has_ports = if device.space == Space::Ports { flags::DEVICE_PORTS } else { 0 };
    let is_pci = if device.function.is_some() { flags::DEVICE_PCI } else { 0 };
    flags::DEVICE | has_ports | is_pci
}

fn rights(names: &[String]) -> Result<u32> {
    let known = [
        ("guest-memory", flags::GUEST_MEMORY),
        ("speaks-for-guest", flags::SPEAKS_FOR_GUEST),
        ("audit", flags::AUDIT),
        ("policy", flags::POLICY),
    ];
    names.iter().try_fold(0, |bits, name| {
        let found = known.iter().find(|(word, _)| word == name);
        let found = found.map(|(_, flag)| bits | flag);
        found.ok_or_else(|| {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            Error(format!("site.toml: `{name}` is no right of an app; known: {}", words.join(", ")))
        })
    })
}

fn program(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error(format!("cannot read the program {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::root;

    const POLICY: &str =
        "edition 1\npolicy t\napp one\nresource rtc: mmio 0x1000 size 0x1000 interrupt 34\nallow one use rtc\n";
    const MANIFEST: &str = "[secure]\nperiod_us = 1000\nbudget_us = 100\ncall_limit_us = 1000\n[guest]\ncommand_line = \"\"\n\
        restart_limit = 0\n[app.one]\npriority = 1\nrestart_limit = 1\n";

    fn site(name: &str, manifest: &str) -> Result<Site> {
        site_for(name, manifest, POLICY, Arch::Aarch64)
    }

    fn site_for(name: &str, manifest: &str, policy: &str, arch: Arch) -> Result<Site> {
        let folder = root().join("target/tests/sites").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("site.policy"), policy).unwrap();
        fs::write(folder.join("site.toml"), manifest).unwrap();
        Site::open(&folder, arch)
    }

    fn refusal(name: &str, manifest: &str) -> String {
        let built = site(name, manifest).and_then(|site| site.secure(Path::new("/nowhere")));
        built.expect_err("it is refused").to_string()
    }

    #[test]
    fn policy_and_manifest_give_the_bundle_its_numbers() {
        let site = site("sound", MANIFEST).unwrap();
        assert_eq!(site.settings().budget_us, 100);
        let [rtc] = site.resources().unwrap().try_into().unwrap();
        assert_eq!((rtc.kind, rtc.intid, rtc.base, rtc.object), (ResourceKind::Driven as u32, 34, 0x1000, 2));
    }

    #[test]
    fn each_kind_of_machine_gets_its_resources_and_its_command_line() {
        let policy = "edition 1\npolicy t\napp one\napp two\nresource com: ports 0x3f8 size 8 interrupt 4\n\
            resource pat: msr 0x277 size 1\nresource tsc: msr 0x10 size 1 read only\n\
            resource rom: mmio 0xc0000 size 0x1000 read only\nresource rtc: ports 0x70 size 2\n\
            allow guest use com, pat, tsc, rom\nallow one use rtc\n\
            device d: pci 0:30.0 ports 0xc040 size 0x40 interrupt 11 by two\n";
        let lines = MANIFEST.replace("\"\"", "{ x86_64 = \"console=ttyS0\" }");
        let site = site_for("x86", &lines, policy, Arch::X86_64).unwrap();
        let kinds: Vec<u32> = site.resources().unwrap().iter().map(|resource| resource.kind).collect();
        let wanted = [
            ResourceKind::Ports,
            ResourceKind::Msrs,
            ResourceKind::MsrsReadOnly,
            ResourceKind::ReadOnly,
            ResourceKind::ServedPorts,
            ResourceKind::AppPorts,
        ];
        assert_eq!(kinds, wanted.map(|kind| kind as u32));
        assert_eq!(site.resources().unwrap()[4].function, 30 << 3);
        assert_eq!(site.command_line().unwrap(), "console=ttyS0");
        let subject = site.compiled.subject("one").unwrap();
        let rtc = (Range { base: 0x70, bytes: 2 }, 0);
        assert_eq!(site.driven(subject, Space::Ports).collect::<Vec<_>>(), [rtc]);
        assert_eq!(site.driven(subject, Space::Memory).count(), 0);
        let waiting = policy.replace("ports 0x70 size 2", "ports 0x70 size 2 interrupt 8");
        let error = site_for("waits", &lines, &waiting, Arch::X86_64).unwrap().resources().unwrap_err().to_string();
        assert!(error.contains("interrupt 8 is given to an app"), "{error}");
        assert!(site_for("x86", &lines, policy, Arch::Aarch64).is_err(), "it has no ports");
        let arm = site_for("arm", &lines, POLICY, Arch::Aarch64).unwrap();
        assert!(arm.command_line().unwrap_err().to_string().contains("add aarch64 ="));
        assert_eq!(site_for("one", MANIFEST, POLICY, Arch::Aarch64).unwrap().command_line().unwrap(), "");
    }

    #[test]
    fn what_the_projects_sites_give_away_fits_the_plan() {
        for folder in ["policy/sites/demo", "policy/sites/minimal"] {
            for arch in Arch::ALL {
                let site = Site::open(&root().join(folder), arch).unwrap();
                assert!(site.resources().is_ok() && site.command_line().is_ok(), "{folder} {}", arch.name());
            }
        }
        let many = (0..9).fold(POLICY.replace("allow one use rtc\n", ""), |text, at| {
            format!("{text}resource r{at}: mmio 0x{at}00000 size 0x1000\nallow guest use r{at}\n")
        });
        // C08 of the attack catalogue.
        let error = site_for("many", MANIFEST, &many, Arch::Aarch64).unwrap().resources().unwrap_err();
        assert!(error.to_string().contains("than the wall keeps: 8"), "{error}");
    }

    #[test]
    fn a_manifest_that_does_not_fit_its_policy_is_refused_with_the_remedy() {
        assert!(
            refusal("extra", &format!("{MANIFEST}[app.two]\npriority = 1\nrestart_limit = 1\n"))
                .contains("add `app two`")
        );
        assert!(refusal("missing", MANIFEST.split("[app.one]").next().unwrap()).contains("there is no [app.one]"));
        assert!(refusal("key", &format!("{MANIFEST}colour = 3\n")).contains("unknown field `colour`"));
        assert!(refusal("program", MANIFEST).contains("cannot read the program"));
    }

    /// C01, C02, C08 of the attack catalogue.
    #[test]
    fn a_manifest_with_wrong_numbers_or_a_key_twice_is_refused() {
        let with = |right: &str, wrong: &str| refusal("wrong", &MANIFEST.replacen(right, wrong, 1));
        for (right, wrong, reason) in [
            ("period_us = 1000", "period_us = 0", "above zero"),
            ("budget_us = 100", "budget_us = 1001", "at most period_us"),
            ("budget_us = 100", "budget_us = -1", "invalid value"),
            ("budget_us = 100", "budget_us = 1.5", "invalid type"),
            ("budget_us = 100", "budget_us = \"100\"", "invalid type"),
            ("budget_us = 100", "budget_us = 99999999999999999999", "TOML parse error"),
            ("budget_us = 100", "budget_us = 100\nbudget_us = 100", "duplicate key"),
            ("[guest]", "[secure]\n[guest]", "duplicate key"),
            ("priority = 1", "priority = 256", "invalid value"),
            ("priority = 1", "priority = 1\nstack_kib = 1048576", "stack_kib is 4..256"),
            ("priority = 1", "priority = 1\nbudget_us = 5", "budget_us is at most period_us"),
            ("restart_limit = 0", "restart_limit = 0\ncolour = 1", "unknown field"),
            ("[guest]", "\0[guest]", "TOML parse error"),
            ("[secure]", "", "TOML parse error"),
        ] {
            let said = with(right, wrong);
            assert!(said.contains(reason) && said.contains("wrong"), "{wrong}: {said}");
        }
        for length in 0..MANIFEST.len() {
            if MANIFEST.is_char_boundary(length) {
                let _ = site("cut", &MANIFEST[..length]);
            }
        }
        assert!(refusal("empty", "").contains("missing field `secure`"));
    }

    #[test]
    fn rights_are_known_by_name() {
        assert_eq!(rights(&["audit".to_string(), "policy".to_string()]).unwrap(), flags::AUDIT | flags::POLICY);
        assert!(rights(&["root".to_string()]).unwrap_err().to_string().contains("known: guest-memory"));
    }
}
