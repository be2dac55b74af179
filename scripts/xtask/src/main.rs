//! The developer's command: `cargo xtask <what>`.
//!
//! One module a verb. It only drives other programs; what they build and decide lives in their own folders.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod boot_time;
mod build;
mod command;
mod console;
mod initrd;
mod lint;
mod run;
mod setup;
mod site;
mod size;
mod test;

/// Bulkhead's developer command.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what the build needs (idempotent; offline the second time)
    Setup,
    /// Builds the loader's Image and the bundle into target/run
    Build(run::Options),
    /// Boots a guest beneath the wall in the emulator
    Run(run::Options),
    /// Measures the wall: instructions a round trip
    Bench(bench::Options),
    /// Formatting, clippy, dependencies
    Lint,
    /// Counts code lines and holds them against the budgets
    Size,
    /// Runs every check and test; the last line counts them
    Test,
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Build(options) => setup::run().and_then(|()| run::prepare(&options)).and_then(|_| run::test_guests()),
        Verb::Run(options) => setup::run().and_then(|()| run::run_guest(&options)),
        Verb::Bench(options) => setup::run().and_then(|()| bench::run_bench(&options)),
        Verb::Lint => setup::run().and_then(|()| lint::check()),
        Verb::Size => size::check(),
        Verb::Test => setup::run().and_then(|()| test::run_tests()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
