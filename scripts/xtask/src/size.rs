//! Code lines of each part (no blanks, comments or tests) against its budget.

use std::fs;
use std::path::Path;

use crate::command::{Error, Result, root};

/// Part, its folders, how many code lines it may have, and whose it is, if it is one architecture's: the others' folders do not
/// count to it.
type Part = (&'static str, &'static [&'static str], usize, Option<&'static str>);

/// The architectures, as folders of `arch` are named.
const ARCHITECTURES: [&str; 2] = ["aarch64", "x86_64"];
const AARCH64: Option<&str> = Some(ARCHITECTURES[0]);
const X86_64: Option<&str> = Some(ARCHITECTURES[1]);

/// All that must be trusted. What the images have beside their architectures' folders counts to each.
const BUDGETS: &[Part] = &[
    ("secure kernel: core and abi", &["secure-kernel/abi/src", "secure-kernel/core/src"], 1_500, None),
    ("secure kernel: port to AArch64", &["secure-kernel/kernel/src"], 500, AARCH64),
    ("secure kernel: port to x86-64", &["secure-kernel/kernel/src"], 500, X86_64),
    ("policy: monitor and model", &["policy/model/src", "policy/monitor/src"], 1_350, None),
    ("hypervisor: core", &["hypervisor/core/src"], 2_700, None),
    ("hypervisor: shell, AArch64", &["hypervisor/src"], 1_950, AARCH64),
    ("hypervisor: shell, x86-64", &["hypervisor/src"], 3_300, X86_64),
];
/// All of it, of each architecture: x86-64 has two back ends, of which one runs (docs/decisions/0023, 0031, 0035).
const TOTALS: [usize; 2] = [7_500, 8_800];
/// Features that the hypervisor lacks. Of the policy's model: for the host, which writes tables; for the loader, which checks
/// one; for apps that tell people of rules. Of its own: what images do that are built to be looked at.
const NOT_RESIDENT: &[&str] = &[
    "hypervisor/src/arch/x86_64/observe",
    "policy/model/src/build.rs",
    "policy/model/src/names.rs",
    "policy/model/src/values.rs",
    "policy/model/src/verify.rs",
];

/// Prints the table; an error names the parts that are over.
pub(crate) fn check() -> Result<()> {
    let mut over = Vec::new();
    let mut totals = ARCHITECTURES.map(|name| (name, 0));
    for (part, folders, budget, architecture) in BUDGETS {
        let lines =
            folders.iter().map(|folder| count_folder(&root().join(folder), *architecture)).sum::<Result<usize>>()?;
        println!("{lines:>6} of {budget:>5}  {part}");
        for (name, total) in &mut totals {
            *total += if architecture.is_none_or(|only| only == *name) { lines } else { 0 };
        }
        if lines > *budget {
            over.push(*part);
        }
    }
    for ((name, total), budget) in totals.into_iter().zip(TOTALS) {
        println!("{total:>6} of {budget:>5}  all that must be trusted on {name}");
        if total > budget {
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

fn count_folder(folder: &Path, architecture: Option<&str>) -> Result<usize> {
    let failed = |error| Error(format!("cannot read {}: {error}", folder.display()));
    let is_other = |path: &Path| {
        ARCHITECTURES.iter().any(|name| architecture.is_some_and(|own| own != *name) && path.ends_with(name))
    };
    let mut lines = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.ends_with("tests.rs") || NOT_RESIDENT.iter().any(|own| path.ends_with(own)) || is_other(&path) {
        } else if path.is_dir() {
            lines += count_folder(&path, architecture)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            lines += count(&fs::read_to_string(&path).map_err(failed)?);
        }
    }
    Ok(lines)
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
