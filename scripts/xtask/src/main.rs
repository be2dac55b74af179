//! The developer's command: `cargo xtask <what>`.
//!
//! One module a verb. It only drives other programs; what they build and decide lives in their own folders.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arch;
mod assure;
mod bench;
mod boot_time;
mod build;
mod command;
mod console;
mod disk;
mod initrd;
mod kernels;
mod lint;
mod machine;
mod run;
mod setup;
mod site;
mod size;
mod test;

use arch::Arch;

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
    Setup {
        /// The architecture
        #[arg(long, value_parser = arch::parser(), default_value = "aarch64")]
        arch: Arch,
    },
    /// Builds the loader and the bundle into target/run
    Build(run::Options),
    /// Makes a disk that boots the wall from CD or USB
    Image {
        #[command(flatten)]
        options: run::Options,
        /// The disk's file
        #[arg(short, long, default_value = "target/run/x86_64/bulkhead.iso")]
        output: PathBuf,
    },
    /// Boots a guest beneath the wall in the emulator
    Run(run::Options),
    /// Measures the wall: instructions a round trip
    Bench(bench::Options),
    /// Formatting, clippy, dependencies
    Lint,
    /// Looks deeper than the tests: Miri, fuzzing, mutants (minutes to hours)
    Assure(assure::Options),
    /// Counts code lines and holds them against the budgets
    Size,
    /// Runs every check and test; the last line counts them
    Test {
        /// Those too that take minutes each: Debian's other kernels in Bochs
        #[arg(long)]
        slow: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup { arch } => setup::run(arch),
        Verb::Build(options) => {
            setup::run(options.arch).and_then(|()| run::prepare(&options)).and_then(|_| run::test_guests(options.arch))
        }
        Verb::Image { options, output } => setup::run(options.arch).and_then(|()| run::image(&options, &output)),
        Verb::Run(options) => setup::run(options.arch).and_then(|()| run::run_guest(&options)),
        Verb::Bench(options) => setup::run(options.arch).and_then(|()| bench::run_bench(&options)),
        Verb::Lint => setup_all().and_then(|()| lint::check()),
        Verb::Assure(options) => assure::run_one(&options),
        Verb::Size => size::check(),
        Verb::Test { slow } => setup_all().and_then(|()| test::run_tests(slow)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn setup_all() -> command::Result<()> {
    Arch::ALL.into_iter().try_for_each(setup::run)
}
