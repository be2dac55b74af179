//! Every check and test, and the closing line that counts them.

use crate::arch::Arch;
use crate::command::{Error, Result, program, run, step};
use crate::lint;
use crate::size;

/// Formatting, lints, what the dependencies may be; then the tests of all crates, on the host and under the emulator.
/// Tests whose names begin with `slow_` only if they are asked for.
pub(crate) fn run_tests(has_slow: bool) -> Result<()> {
    lint::check()?;
    step("line budgets");
    size::check()?;
    step("tests on the host");
    let host = cargo_test(&["test", "--no-fail-fast"])?;
    let features = cargo_test(&["test", "--no-fail-fast", "--package", "bulkhead-bundle", "--features", "build"])?;
    let halves = ["loader", "app-audit", "app-bridge", "app-clock", "app-historian", "app-plant"];
    let packages = halves.iter().map(|name| format!("--package=bulkhead-{name}")).collect::<Vec<_>>();
    let words = ["test", "--no-fail-fast", "--lib"].into_iter().chain(packages.iter().map(String::as_str));
    let loader = cargo_test(&words.collect::<Vec<_>>())?;
    step("tests under the emulator");
    for arch in Arch::ALL {
        run(program("cargo", &["xtask", "build", "--batch", "--arch", arch.name()]))?;
    }
    let mut words = vec!["test", "--no-fail-fast", "--package", "bulkhead-e2e", "--", "--ignored", "--test-threads=1"];
    if !has_slow {
        words.extend(["--skip", "slow_"]);
    }
    let machine = cargo_test(&words)?;
    step("the wall's figures against those written down");
    run(program("cargo", &["xtask", "bench"]))?;
    for cpu in ["intel", "amd"] {
        run(program("cargo", &["xtask", "bench", "--arch", "x86_64", "--cpu", cpu, "--exact"]))?;
    }
    let all = [host, features, loader, machine];
    let (passed, failed) = all.iter().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { Ok(()) } else { Err(Error(format!("{failed} tests failed"))) }
}

/// Runs `cargo test` and adds up the closing lines of its test programs: passed, failed.
fn cargo_test(arguments: &[&str]) -> Result<(u32, u32)> {
    let mut command = program("cargo", arguments);
    let output = command.output().map_err(|error| Error(format!("cannot start cargo test: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let (mut passed, mut failed) = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        passed += number_before(line, " passed");
        failed += number_before(line, " failed");
    }
    if !output.status.success() && failed == 0 {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(Error(format!("cargo test ended with {}", output.status)));
    }
    Ok((passed, failed))
}

/// The number that stands before a word in a line; 0 if there is none.
fn number_before(line: &str, word: &str) -> u32 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::number_before;

    #[test]
    fn closing_lines_are_added_up_and_other_lines_count_nothing() {
        let line = "test result: ok. 12 passed; 3 failed; 0 ignored; 0 measured";
        assert_eq!(number_before(line, " passed"), 12);
        assert_eq!(number_before(line, " failed"), 3);
        assert_eq!(number_before("no numbers here", " passed"), 0);
    }
}
