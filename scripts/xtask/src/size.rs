//! Code lines of each part (no blanks, comments or tests) against its budget.

use std::fs;
use std::path::Path;

use crate::command::{Error, Result, root};

/// Part, its folders and files, how many code lines it may have, and the architecture it is for, if it is one's own.
type Part = (&'static str, &'static [&'static str], usize, Option<&'static str>);

const AARCH64: Option<&str> = Some("AArch64");
const X86_64: Option<&str> = Some("x86-64");

/// All that must be trusted. What the kernel's image has beside its architectures' folders counts to each port.
const BUDGETS: &[Part] = &[
    ("secure kernel: core and abi", &["secure-kernel/abi/src", "secure-kernel/core/src"], 1_500, None),
    (
        "secure kernel: port to AArch64",
        &[KERNEL_MAIN, "secure-kernel/kernel/src/arch/mod.rs", "secure-kernel/kernel/src/arch/aarch64"],
        500,
        AARCH64,
    ),
    (
        "secure kernel: port to x86-64",
        &[KERNEL_MAIN, "secure-kernel/kernel/src/arch/mod.rs", "secure-kernel/kernel/src/arch/x86_64"],
        500,
        X86_64,
    ),
    ("policy: monitor and model", &["policy/model/src", "policy/monitor/src"], 1_300, None),
    ("hypervisor: core", &["hypervisor/core/src"], 2_500, None),
    ("hypervisor: shell, AArch64", &["hypervisor/src"], 1_800, AARCH64),
];
const KERNEL_MAIN: &str = "secure-kernel/kernel/src/main.rs";
const TCB_BUDGET: usize = 7_500;
/// Features of the policy's model that the hypervisor lacks: for the host, which writes tables; for the loader, which checks
/// one; for apps that tell people of rules.
const NOT_RESIDENT: &[&str] = &["policy/model/src/build.rs", "policy/model/src/names.rs", "policy/model/src/verify.rs"];

/// Prints the table; an error names the parts that are over.
pub(crate) fn check() -> Result<()> {
    let mut over = Vec::new();
    let mut totals = [("AArch64", 0), ("x86-64", 0)];
    for (part, paths, budget, architecture) in BUDGETS {
        let lines = paths.iter().map(|path| count_path(&root().join(path))).sum::<Result<usize>>()?;
        println!("{lines:>6} of {budget:>5}  {part}");
        for (name, total) in &mut totals {
            *total += if architecture.is_none_or(|only| only == *name) { lines } else { 0 };
        }
        if lines > *budget {
            over.push(*part);
        }
    }
    for (name, total) in totals {
        println!("{total:>6} of {TCB_BUDGET:>5}  all that must be trusted on {name}");
        if total > TCB_BUDGET {
            over.push(name);
        }
    }
    if over.is_empty() {
        Ok(())
    } else {
        Err(Error(format!(
            "over budget: {}; move work to ring 3 or the loader, or write down why the number should change",
            over.join(", ")
        )))
    }
}

/// Of a file, or of all files in a folder.
fn count_path(path: &Path) -> Result<usize> {
    let failed = |error| Error(format!("cannot read {}: {error}", path.display()));
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(failed)?;
        return entries.map(|entry| count_path(&entry.map_err(failed)?.path())).sum();
    }
    let is_resident = !NOT_RESIDENT.iter().any(|file| path.ends_with(file));
    if is_resident && path.extension().is_some_and(|extension| extension == "rs") {
        return Ok(count(&fs::read_to_string(path).map_err(failed)?));
    }
    Ok(0)
}

/// Lines that are neither blank nor a comment, up to the tests at a file's end (a rule of the house).
fn count(text: &str) -> usize {
    let code = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
    code.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn blanks_comments_and_tests_do_not_count() {
        assert_eq!(count("//! doc\n\nfn a() {\n    // why\n    b();\n}\n#[cfg(test)]\nmod tests {}\n"), 3);
    }
}
