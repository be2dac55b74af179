//! The policy language: text to the table that the monitor evaluates, with findings that show the place and the remedy,
//! and a plain interpreter that the monitor is tested against. `docs/policy.md` is the language's reference.
#![forbid(unsafe_code)]

mod ages;
mod automata;
mod cases;
mod channel;
mod check;
mod code;
mod compile;
pub mod cost;
pub mod danger;
mod diagnostic;
mod expressions;
mod format;
mod groups;
mod index;
pub mod interpret;
mod lattice;
mod lexer;
mod machine;
mod messages;
pub mod moment;
pub mod names;
mod normal;
mod parser;
mod parts;
pub mod policy;
mod profiles;
pub mod reach;
mod reasons;
pub mod regions;
mod registers;
pub mod require;
pub mod show;
mod states;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod types;

use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use cost::Cost;
pub use format::format;

pub use machine::{Arch, machines};

pub use diagnostic::{Diagnostic, Severity, Source, Sources, Span, nearest};
pub use policy::Policy;

use tree::{Decision, Import, Item};

/// The file that a site's policy begins with.
pub const MAIN: &str = "site.policy";
/// The most files of a policy.
const FILES: usize = 64;
/// The longest file in bytes.
const FILE_BYTES: usize = 4 << 20;
const TOO_LONG: &str = "it is longer than 4 MiB";

/// A compiled policy.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The table, as `bulkhead_model::Policy` verifies it.
    pub table: Vec<u8>,
    /// The checked policy.
    pub policy: Policy,
    /// Its files.
    pub sources: Sources,
    /// The interfaces that it declares.
    pub interfaces: Vec<tree::Interface>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
    /// What each decision costs at the most that rules are about: requests, then replies, then errors, by caller and method.
    pub costs: Vec<cost::Decision>,
    /// The most of each.
    pub worst: Cost,
}

/// What is wrong with a policy: at least one error among the findings.
#[derive(Clone, Debug)]
pub struct Report {
    /// All findings, in the order of the text.
    pub findings: Vec<Diagnostic>,
    /// The files.
    pub sources: Sources,
}

/// Compiles the policy that begins with `main`; `load` gives a file's text by its name.
///
/// # Errors
/// All findings, if one of them is an error.
pub fn compile(load: &mut dyn FnMut(&str) -> Result<String, String>, main: &str) -> Result<Compiled, Box<Report>> {
    compile_for(load, main, None)
}

/// As [`compile`], for a kind of machine: the policy's `include "machine.policy"` takes `machine.ARCH.policy`, if there is one.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(
    load: &mut dyn FnMut(&str) -> Result<String, String>,
    main: &str,
    arch: Option<Arch>,
) -> Result<Compiled, Box<Report>> {
    let mut sources = Sources::default();
    let mut findings = Vec::new();
    let builtin = Source { name: "builtin.policy".to_string(), text: include_str!("builtin.policy").to_string() };
    let mut items = read(&mut sources, builtin, &mut findings);
    let (mut imports, mut renamed): (Vec<String>, _) = (Vec::new(), Vec::new());
    let files = files(load, main, arch);
    let unread: Vec<(String, String)> =
        files.iter().filter_map(|(name, text)| Some((name.clone(), text.clone().err()?))).collect();
    for (name, text) in files {
        let Ok(text) = text else { continue };
        let mut new = read(&mut sources, Source { name, text }, &mut findings);
        for item in &mut new {
            let Item::Registers(table) = item else { continue };
            let Some((file, span)) = table.file.clone() else { continue };
            match load(&file).and_then(bounded) {
                Ok(text) => table.rows = registers::from_file(&mut sources, &file, &text, &mut findings),
                Err(why) => findings.push(unreadable(&file, &why, span)),
            }
        }
        let mut imported = Vec::new();
        let mut named: Vec<&Import> =
            new.iter().filter_map(|item| if let Item::Import(import) = item { Some(import) } else { None }).collect();
        named.sort_by(|one, other| one.name.text.cmp(&other.name.text));
        for import in named {
            if imports.contains(&import.name.text) {
                let help = "each import has a name of its own";
                findings.push(Diagnostic::error(import.name.span, diagnostic::twice(&import.name.text), help));
                continue;
            }
            imports.push(import.name.text.clone());
            match load(&import.file).and_then(bounded) {
                Ok(text) => imported.extend(parts::items(&mut sources, import, text, &mut renamed, &mut findings)),
                Err(why) => findings.push(unreadable(&import.file, &why, import.span)),
            }
        }
        for item in &new {
            let Item::Include(file, span) = item else { continue };
            let own = arch.filter(|_| file == machine::MACHINE).map(Arch::file);
            if let Some((file, why)) = unread.iter().find(|(name, _)| name == file || Some(name) == own.as_ref()) {
                findings.push(unreadable(file, why, *span));
            }
        }
        items.extend(new);
        items.extend(imported);
    }
    if let Some((_, why)) = unread.iter().find(|(name, _)| name == main) {
        findings.push(unreadable(main, why, Span { file: 1, ..Span::default() }));
    }
    if let Some(finding) = items.iter().find_map(check::newer_edition) {
        // What a later edition says is not guessed at.
        return Err(Box::new(Report { findings: vec![finding], sources }));
    }
    let policy = check::check(&items, arch, &mut findings);
    parts::tell_origins(&renamed, &mut findings);
    let granted = danger::refuse(&policy, &sources, &mut findings);
    let (table, costs) = compile::compile(&policy, &sources, &granted, &mut findings);
    findings.sort_by_key(|finding| (finding.span.file, finding.span.start));
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(Box::new(Report { findings, sources }));
    }
    // The first file is the language's own.
    let interfaces = items.into_iter().filter_map(|item| match item {
        Item::Interface(interface) if interface.name.span.file != 0 => Some(interface),
        _ => None,
    });
    let worst = costs.iter().fold(Cost::default(), |worst, decision| worst.max(decision.cost));
    Ok(Compiled { table, policy, sources, interfaces: interfaces.collect(), warnings: findings, costs, worst })
}

/// The files that a policy consists of: the first one, then the others by their names, so that it is all the same in which order
/// they are included. `machine.policy` is the file of the kind of machine, where there is one.
fn files(
    load: &mut dyn FnMut(&str) -> Result<String, String>,
    main: &str,
    arch: Option<Arch>,
) -> Vec<(String, Result<String, String>)> {
    let mut all: Vec<(String, Result<String, String>)> = Vec::new();
    let mut waiting = vec![main.to_string()];
    while let Some(name) = waiting.pop() {
        if all.iter().any(|(known, _)| *known == name) {
            continue;
        }
        if all.len() == FILES {
            all.push((name, Err("a policy has at most 64 files".to_string())));
            break;
        }
        let text = load(&name).and_then(bounded);
        if let Ok(text) = &text {
            let included = parser::includes(&lexer::tokens(0, text, &mut Vec::new())).into_iter();
            waiting.extend(included.map(|file| {
                let of_machine = arch.filter(|_| file == machine::MACHINE).map(Arch::file);
                // Without either, what is missing is the machine's own file.
                of_machine.filter(|own| load(own).is_ok() || load(&file).is_err()).unwrap_or(file)
            }));
        }
        all.push((name, text));
    }
    all.get_mut(1..).unwrap_or_default().sort();
    all
}

fn unreadable(file: &str, why: &str, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("cannot read {file}: {why}"), "check the file's name")
}

/// The text of a regular file of at most 4 MiB.
///
/// # Errors
/// Why it cannot be taken.
pub fn read_text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("it is no regular file".to_string());
    }
    let mut bytes = Vec::new();
    let most = FILE_BYTES as u64 + 1;
    fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() > FILE_BYTES {
        return Err(TOO_LONG.to_string());
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        format!("line {line} is not UTF-8")
    })
}

/// Compiles the policy of a site's folder, which begins with [`MAIN`], for a kind of machine. Files outside the folder are not
/// read.
///
/// # Errors
/// As [`compile`].
pub fn compile_folder(folder: &Path, arch: Option<Arch>) -> Result<Compiled, Box<Report>> {
    let mut load = |name: &str| {
        let path = Path::new(name);
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err("it lies outside the site's folder".to_string());
        }
        read_text(&folder.join(path))
    };
    compile_for(&mut load, MAIN, arch)
}

fn bounded(text: String) -> Result<String, String> {
    if text.len() > FILE_BYTES { Err(TOO_LONG.to_string()) } else { Ok(text) }
}

fn read(sources: &mut Sources, source: Source, findings: &mut Vec<Diagnostic>) -> Vec<Item> {
    let tokens = lexer::tokens(sources.0.len(), &source.text, findings);
    sources.0.push(source);
    parser::items(&tokens, findings)
}

/// What a capability stands for: an object that a subject may call at all, and the methods that are always open to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The object.
    pub object: u16,
    /// Bit m: every message of method m that can be sent is allowed, both ways, without a record.
    pub open_methods: u64,
}

impl Compiled {
    /// A call in the words of the policy: `guest -> plant.set_pump(rpm: 1500)`.
    #[must_use]
    pub fn show(&self, call: &policy::Call) -> String {
        let policy = &self.policy;
        let subject = policy.subjects.get(usize::from(call.subject)).map_or("?", String::as_str);
        let object = policy.objects.get(usize::from(call.object));
        let method = object.and_then(|object| object.methods.get(usize::from(call.method)));
        let fields = policy.fields(call.object, call.method, call.event);
        let values = messages::show(policy.shapes(call.object, call.method, call.event), fields, &call.words);
        let event = match call.event {
            tree::Event::Request => "",
            tree::Event::Reply => " reply",
            tree::Event::Error => " error",
        };
        let names = object.zip(method).map(|(object, method)| format!("{}.{}", object.name, method.name));
        format!("{subject} -> {}{event}({values})", names.unwrap_or_default())
    }

    /// A request with these values, to be shown or judged.
    #[must_use]
    pub fn request(&self, (subject, object, method): regions::Place, values: &[i128]) -> policy::Call {
        let words = values.iter().map(|&value| bulkhead_model::build::word(value)).collect();
        let (event, expected) = (tree::Event::Request, tree::Expected::Allowed);
        policy::Call { subject, object, method, event, words, expected, by: None, recorded: None, because: None }
    }

    /// A call as a person writes it: `guest -> plant.set_pump(1500)`; `reply` or `error` before the values.
    ///
    /// # Errors
    /// The first finding, with its remedy, as text.
    pub fn call(&self, text: &str) -> Result<policy::Call, String> {
        cases::parse(&self.policy, text).map_err(|findings| {
            let sources = Sources(vec![Source { name: "the call".to_string(), text: text.to_string() }]);
            let text = findings.first().map_or(String::new(), |finding| finding.render(&sources).to_string());
            text.trim_start_matches("error: ").to_string()
        })
    }

    /// The number of a subject.
    #[must_use]
    pub fn subject(&self, name: &str) -> Option<u16> {
        position(self.policy.subjects.iter().map(String::as_str), name)
    }

    /// The number of an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<u16> {
        position(self.policy.objects.iter().map(|object| object.name.as_str()), name)
    }

    /// The served objects that rules let a subject call.
    #[must_use]
    pub fn reach(&self, subject: u16) -> Vec<Reach> {
        let served = (0..).zip(&self.policy.objects).filter(|(_, object)| object.server.is_some());
        let reach = served.filter_map(|(number, object)| {
            let requests = |method| {
                let of_subject = self.policy.rules.iter().filter(move |rule| rule.subjects.contains(&subject));
                of_subject.flat_map(move |rule| {
                    let bodies = rule.bodies.iter().filter(move |body| {
                        let is_question =
                            object.methods.get(usize::from(method)).is_some_and(|method| method.is_question);
                        body.object == number && body.method == method && !is_question
                    });
                    bodies.map(move |body| (rule, body))
                })
            };
            let is_named = |method| requests(method).any(|(rule, _)| rule.decision == Decision::Allow);
            let is_open = |method: u16| {
                let is_plain = |(rule, body): (&policy::Rule, &policy::Body)| {
                    let is_unbound = body.condition.is_none() && !body.remembers();
                    rule.decision == Decision::Allow && is_unbound && body.recording.is_none()
                };
                let signature = object.methods.get(usize::from(method));
                requests(method).count() > 0
                    && requests(method).all(is_plain)
                    && signature.is_some_and(|signature| signature.arguments.is_empty() && signature.replies.is_empty())
            };
            let methods = || (0..64_u16).take(object.methods.len());
            let open_methods = methods().filter(|&method| is_open(method)).fold(0, |bits, method| bits | 1 << method);
            methods().any(is_named).then_some(Reach { object: number, open_methods })
        });
        reach.collect()
    }
}

fn position<'a>(mut names: impl Iterator<Item = &'a str>, wanted: &str) -> Option<u16> {
    names.position(|name| name == wanted).and_then(|at| u16::try_from(at).ok())
}
