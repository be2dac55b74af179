//! The site engineer's command: checks a policy, compiles it, runs its tests, and explains what it says about a call.
//!
//! Exit status: 0 all is well (explain: allowed); 1 the policy has errors (explain: refused); 2 wrong usage, or a file that
//! cannot be read or written.

mod cost;
mod diff;
mod explain;
mod findings;
mod format;
mod graph;
mod init;
mod lint;
mod lsp;
mod pair;
mod picture;
mod prove;
mod replay;
mod report;
mod site;
mod table;
mod test;
mod types;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_lang::{Arch, Compiled};
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;

use crate::site::Site;

/// Bulkhead's policies: check, test, prove, explain, compare, compile.
///
/// A SITE is a folder with a file site.policy. One that has machine.aarch64.policy and machine.x86_64.policy is looked at for each
/// kind of machine, unless --arch names one. Exit status: 0 well (explain: allowed), 1 errors in the policy (explain:
/// refused), 2 wrong usage or files.
#[derive(Parser)]
#[command(name = "bulkhead", version)]
struct Cli {
    /// One JSON object on standard output in the place of text
    #[arg(long, global = true)]
    json: bool,
    /// The kind of machine: aarch64 or x86_64 [default: each that the site has a machine.ARCH.policy for]
    #[arg(long, global = true)]
    arch: Option<Arch>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Checks a site's policy and prints what is wrong with it
    Check {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
        /// Prints who may call what, after every rule: what is always allowed, and what may be
        #[arg(long)]
        table: bool,
        /// Prints what each decision costs at the most: rows, tests and instructions of the monitor; `cost at most 64 steps` in the policy bounds it
        #[arg(long)]
        cost: bool,
        /// Fails unless the table has this SHA-256, which the running wall tells: its loader, or a call of the audit service
        #[arg(long, value_name = "SHA-256", value_parser = as_digest)]
        expect: Option<String>,
    },
    /// Compiles a site's policy to the table that the wall evaluates
    Compile {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
        /// Where the table goes; a table of a later revision that stands there is not replaced
        #[arg(short, long)]
        output: PathBuf,
        /// Replaces a table of a later revision too
        #[arg(long)]
        allow_older: bool,
    },
    /// Says how the policy decides on a call, and why: "guest -> historian.append(120, 5)"
    Explain {
        /// SUBJECT -> OBJECT.METHOD(ARGUMENT, ...)
        call: String,
        /// The site's folder
        #[arg(long, default_value = ".")]
        site: PathBuf,
    },
    /// Proves each `never` of the policy, or shows a call that breaks it; undecided is an error
    Prove {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
    },
    /// Says what a change changes, by meaning, with an example call for each difference
    Diff {
        /// The old site's folder
        old: PathBuf,
        /// The new site's folder
        new: PathBuf,
        /// Fails if something is, or may be, newly allowed
        #[arg(long)]
        fail_on_new: bool,
    },
    /// Finds what is sound and yet probably not meant; accepted by `// accept ID: REASON` on the line above
    Lint {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
    },
    /// Prints the completions for a shell: bulkhead completions bash > /etc/bash_completion.d/bulkhead
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The language server for editors, on standard input and output
    Lsp,
    /// Prints the manual page: bulkhead man > bulkhead.1
    Man,
    /// Says which recorded calls a policy would decide otherwise: lines as the audit app prints them
    Replay {
        /// The site's folder
        site: PathBuf,
        /// The file of lines
        log: PathBuf,
    },
    /// Prints who may call what, and the flows' steps, as a graph: in DOT, for Graphviz
    Graph {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
        /// In SVG, for a browser
        #[arg(long)]
        svg: bool,
    },
    /// Writes one HTML page for a reviewer or an auditor
    Report {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
        /// Where the page goes
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Makes a commented site to begin with
    Init {
        /// Its folder
        folder: PathBuf,
    },
    /// Brings a site's files into the one form: spaces and indentation
    Fmt {
        /// The site's folder, or one file
        #[arg(default_value = ".")]
        site: PathBuf,
        /// Changes nothing; fails if a file is not in the form
        #[arg(long)]
        check: bool,
    },
    /// Prints the interfaces as Rust: types, a trait for who serves them, a client for who calls them
    Types {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
        /// Only this one
        #[arg(long)]
        interface: Option<String>,
    },
    /// Runs the tests that stand in the policy
    Test {
        /// The site's folder
        #[arg(default_value = ".")]
        site: PathBuf,
        /// Fails unless so many per cent of the rules decided something
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        min_coverage: Option<u8>,
        /// Fails unless so many per cent of the conditions' parts both held and did not
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        min_branches: Option<u8>,
        /// Fails unless so many per cent of the flows' states were entered
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        min_states: Option<u8>,
    },
}

fn main() -> ExitCode {
    end_quietly_without_a_reader();
    let cli = Cli::parse();
    let json = cli.json;
    let each = |site: &PathBuf, act: &dyn Fn(&Site<'_>) -> Result<ExitCode, String>| {
        site::each(&[site], cli.arch, json, |arch| act(&Site::new(site, arch)))
    };
    let one = |site: &PathBuf, act: &dyn Fn(&Site<'_>) -> Result<ExitCode, String>| {
        site::one(site, cli.arch).and_then(|arch| act(&Site::new(site, arch)))
    };
    let done = match &cli.verb {
        Verb::Check { site, table, cost, expect: None } => each(site, &|site| check(site, [*table, *cost], None, json)),
        // A table is for one kind of machine.
        Verb::Check { site, table, cost, expect } => {
            one(site, &|site| check(site, [*table, *cost], expect.as_deref(), json))
        }
        Verb::Compile { site, output, allow_older } => one(site, &|site| compile(site, output, *allow_older, json)),
        Verb::Explain { call, site } => each(site, &|site| explain::explain(site, call, json)),
        Verb::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "bulkhead", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Lsp => lsp::run(),
        Verb::Man => {
            let page = clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout());
            page.map(|()| ExitCode::SUCCESS).map_err(|error| format!("cannot print: {error}"))
        }
        Verb::Replay { site, log } => one(site, &|site| replay::run(site, log, json)),
        Verb::Graph { site, svg } => one(site, &|site| graph::run(site, *svg, json)),
        Verb::Report { site, output } => one(site, &|site| report::run(site, output, json)),
        Verb::Init { folder } => init::run(folder, json),
        Verb::Prove { site } => each(site, &|site| prove::run(site, json)),
        Verb::Diff { old, new, fail_on_new } => site::each(&[old, new], cli.arch, json, |arch| {
            diff::run(&Site::new(old, arch), &Site::new(new, arch), *fail_on_new, json)
        }),
        Verb::Lint { site } => each(site, &|site| lint::run(site, json)),
        Verb::Types { site, interface } => {
            types::run(&Site::new(site, site::any(site, cli.arch)), interface.as_deref(), json)
        }
        Verb::Fmt { site, check } => format::run(site, *check, json),
        Verb::Test { site, min_coverage, min_branches, min_states } => {
            let least = test::Least { rules: *min_coverage, branches: *min_branches, states: *min_states };
            each(site, &|site| test::run(site, least, json))
        }
    };
    match done {
        Ok(code) => code,
        Err(why) => {
            eprintln!("bulkhead: {why}");
            ExitCode::from(2)
        }
    }
}

/// Who reads the first lines only (`bulkhead check --table | head`) has had enough: that is no fault. The library prints by panicking then.
fn end_quietly_without_a_reader() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_unread =
            info.payload_as_str().is_some_and(|text| text.contains("failed printing to stdout: Broken pipe"));
        if is_unread {
            // As the signal would have it: 128 and SIGPIPE.
            std::process::exit(141);
        }
        tell(info);
    }));
}

fn check(
    site: &Site<'_>,
    [with_table, with_cost]: [bool; 2],
    expected: Option<&str>,
    as_json: bool,
) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let mut facts = facts(&compiled);
    let mut lines = if with_table { table::lines(&compiled) } else { Vec::new() };
    if with_table {
        facts["table"] = json!(lines);
    }
    if with_cost {
        facts["cost"] = cost::facts(&compiled);
        lines.extend(cost::lines(&compiled));
    }
    let own = digest(&compiled.table);
    let other = expected.filter(|expected| *expected != own);
    if let Some(expected) = expected {
        facts["expected"] = json!(expected);
        facts["ok"] = json!(other.is_none());
    }
    findings::print(&compiled.warnings, &compiled.sources, as_json, &facts);
    if !as_json {
        let policy = &compiled.policy;
        println!(
            "{}: {} rules, {} subjects, {} objects, {} bytes; the most expensive decision looks at {} rows with {} tests and {} steps",
            policy.name,
            policy.rules.len(),
            policy.subjects.len(),
            policy.objects.len(),
            compiled.table.len(),
            compiled.worst.rules,
            compiled.worst.tests,
            compiled.worst.steps
        );
        for required in &policy.requirements {
            let (file, line, ..) = compiled.sources.place(required.span);
            println!("requires of the machine: {} ({file}:{line})", required.show());
        }
        println!("revision {}, SHA-256 {own}", policy.revision);
        lines.iter().for_each(|line| println!("{line}"));
        if let Some(expected) = other {
            eprintln!("error: this is not the policy with the SHA-256 {expected}");
            eprintln!(
                "  help: compare the site with what it was when the wall's bundle was made (`bulkhead diff`), or start a new bundle"
            );
        }
    }
    Ok(if other.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A SHA-256 as people copy it.
fn as_digest(text: &str) -> Result<String, &'static str> {
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { Ok(text.to_ascii_lowercase()) } else { Err("it has 64 hexadecimal digits") }
}

/// By this a table is known again: the loader says it at each start.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file whole or not at all: what stood there stays until all is written.
pub(crate) fn write_whole(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if path.exists() && !path.is_file() {
        return fs::write(path, bytes).map_err(failed);
    }
    let mut name = path.file_name().ok_or(format!("{} names no file", path.display()))?.to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&part);
        failed(error)
    })
}

fn facts(compiled: &Compiled) -> serde_json::Value {
    json!({
        "arch": compiled.policy.arch.map(Arch::name),
        "policy": compiled.policy.name,
        "revision": compiled.policy.revision,
        "rules": compiled.policy.rules.len(),
        "subjects": compiled.policy.subjects,
        "objects": compiled.policy.objects.iter().map(|object| &object.name).collect::<Vec<_>>(),
        "table_bytes": compiled.table.len(),
        "requires": compiled.policy.requirements.iter().map(|required| {
            let (file, line, ..) = compiled.sources.place(required.span);
            json!({ "fact": required.fact, "least": required.least, "file": file, "line": line })
        }).collect::<Vec<_>>(),
        "sha256": digest(&compiled.table),
        "worst_rows": compiled.worst.rules,
        "worst_tests": compiled.worst.tests,
        "worst_steps": compiled.worst.steps,
    })
}

fn compile(site: &Site<'_>, output: &Path, allow_older: bool, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let revision = compiled.policy.revision;
    if let Some(there) = revision_of(output).filter(|there| *there > revision && !allow_older) {
        return Err(format!(
            "{} holds revision {there}, and this policy is {revision}, which is older: write a later `revision` into it, or --allow-older",
            output.display()
        ));
    }
    write_whole(output, &compiled.table)?;
    findings::print(&compiled.warnings, &compiled.sources, as_json, &facts(&compiled));
    if !as_json {
        let digest = digest(&compiled.table);
        println!("{}: {} bytes, revision {revision}, SHA-256 {digest}", output.display(), compiled.table.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// The revision of a file that is a policy's table.
fn revision_of(path: &Path) -> Option<u64> {
    Some(bulkhead_model::Policy::verify(&fs::read(path).ok()?).ok()?.revision)
}
