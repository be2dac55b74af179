//! Checks that read and don't run: formatting, clippy on host and images, the dependencies' licences and sources.

use crate::build;
use crate::command::{Result, output, program, root, run, step};
use crate::setup::{GUEST_TARGET, IMAGE_TARGET};

/// The version of cargo-deny that the set-up builds.
const DENY: &str = "0.20.2";

/// All of them; the first that fails ends it.
pub(crate) fn check() -> Result<()> {
    step("rustfmt");
    run(program("cargo", &["fmt", "--all", "--check"]))?;
    step("clippy, warnings denied");
    run(program("cargo", &["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"]))?;
    let images = ["clippy", "--quiet", "--release", "--target", IMAGE_TARGET];
    let packages = build::IMAGES.iter().flat_map(|image| ["--package", image]);
    let arguments: Vec<&str> = images.into_iter().chain(packages).chain(["--", "--deny", "warnings"]).collect();
    run(program("cargo", &arguments))?;
    let client =
        ["clippy", "--quiet", "--target", GUEST_TARGET, "--package", "bulkhead-client", "--", "--deny", "warnings"];
    run(program("cargo", &client))?;
    dependencies()
}

/// Licences, sources and bans always; known vulnerabilities where their database is in reach.
fn dependencies() -> Result<()> {
    step("dependencies: licences, sources, bans");
    let tools = root().join("target/tools");
    let deny = tools.join("bin/cargo-deny").display().to_string();
    let has_it = output(program(&deny, &["--version"])).is_ok_and(|version| version.trim().ends_with(DENY));
    if !has_it {
        step(&format!("building cargo-deny {DENY} (some minutes, once)"));
        let version = format!("cargo-deny@{DENY}");
        let place = tools.display().to_string();
        run(program("cargo", &["install", "--quiet", "--locked", "--root", &place, &version]))?;
    }
    run(program(&deny, &["--all-features", "--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    let advisories = program(&deny, &["--all-features", "--log-level", "error", "check", "advisories"]);
    match output(advisories) {
        Ok(_) => step("no known vulnerabilities"),
        Err(error) if error.0.contains("advisory") && error.0.contains("unable to access") => {
            step("the database of known vulnerabilities is out of reach: not checked");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
