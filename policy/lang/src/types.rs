//! Interfaces as Rust: for each a module with its types, its messages, a trait for who serves it and a client for who calls
//! it. What the types stand on is `policy/types`; services get their modules by way of [`build`], people by `bulkhead types`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use crate::check::{Checker, TYPES};
use crate::policy::{self, Policy};
use crate::tree::{Field, Interface, Item, Method, Name, Shape};
use crate::{Diagnostic, Severity, Source, Sources, read, read_text};

/// Rust's words that cannot be names, and those that cannot be names even with `r#` before them.
const WORDS: [&str; 47] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move",
    "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while",
];
const NEVER: [&str; 4] = ["self", "super", "crate", "_"];

/// The interfaces of these files, for a build script: `OUT_DIR/interfaces.rs`, to be included. An error ends the build.
pub fn build(files: &[&str]) {
    files.iter().for_each(|file| println!("cargo:rerun-if-changed={file}"));
    let folder = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let text: Result<String, String> = files.iter().map(|file| of_file(Path::new(file))).collect();
    let done = text.and_then(|text| {
        let output = folder.join("interfaces.rs");
        fs::write(&output, text).map_err(|error| format!("cannot write {}: {error}", output.display()))
    });
    if let Err(why) = done {
        eprintln!("{why}");
        process::exit(1);
    }
}

/// The Rust modules of the interfaces that a file declares.
///
/// # Errors
/// The findings, as text.
pub fn of_file(file: &Path) -> Result<String, String> {
    let text = read_text(file).map_err(|why| format!("cannot read {}: {why}", file.display()))?;
    let (mut sources, mut findings) = (Sources::default(), Vec::new());
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let items = read(&mut sources, Source { name, text }, &mut findings);
    let mut checker = Checker::for_policy(Policy::default(), &mut findings);
    checker.interfaces(&items);
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(findings.iter().map(|finding: &Diagnostic| finding.render(&sources).to_string()).collect());
    }
    let interfaces = items.iter().filter_map(|item| match item {
        Item::Interface(interface) => Some(rust(interface)),
        _ => None,
    });
    interfaces.collect()
}

/// The Rust module of an interface that was checked.
///
/// # Errors
/// Two of its names are one in Rust.
pub fn rust(interface: &Interface) -> Result<String, String> {
    let module = Module { interface, text: String::new(), types: BTreeSet::new() };
    module.write().map_err(|error| format!("interface `{}`: {error}", interface.name.text))
}

/// The numbers of a site's objects, as the compiled policy has them.
#[must_use]
pub fn objects(policy: &Policy) -> String {
    let mut text = "/// The objects' numbers in the compiled policy.\npub mod object {\n".to_string();
    let served = (0_u16..).zip(&policy.objects).filter(|(_, object)| object.server.is_some());
    for (number, object) in served {
        let name = object.name.to_uppercase();
        let _ = writeln!(text, "    /// `{}`.\n    pub const {name}: u16 = {number};", object.name);
    }
    text + "}\n"
}

/// A type of one word, as Rust sees it.
enum Base {
    Number,
    Bool,
    Enum,
    Flags,
    Record,
}

struct Module<'a> {
    interface: &'a Interface,
    text: String,
    /// The types that were named.
    types: BTreeSet<String>,
}

/// A name that stands for another one already.
type Clash = String;

impl Module<'_> {
    fn write(mut self) -> Result<String, Clash> {
        let interface = self.interface;
        for name in ["Server", "Client", "Error"] {
            self.types.insert(name.to_string());
        }
        self.methods()?;
        for (name, words) in &interface.enums {
            self.enumeration(name, words)?;
        }
        for (name, words) in &interface.flags {
            self.flags(name, words)?;
        }
        for (name, fields) in &interface.records {
            let doc = format!("`{}`: {}.", name.text, list(fields));
            let name = self.new_type(&name.text, "")?;
            self.fields(&name, &doc, fields)?;
        }
        if !interface.errors.is_empty() {
            self.errors()?;
        }
        for method in &interface.methods {
            for (fields, suffix, what) in
                [(&method.arguments, "Request", "A request"), (&method.replies, "Reply", "The reply")]
            {
                if !fields.is_empty() {
                    let doc = format!("{what} of `{}`: {}.", method.name.text, list(fields));
                    let name = self.new_type(&method.name.text, suffix)?;
                    self.fields(&name, &doc, fields)?;
                }
            }
        }
        self.server();
        self.dispatch();
        self.client();
        let mut text =
            format!("/// Interface `{}`.\npub mod {} {{\n", interface.name.text, module_name(&interface.name.text));
        for line in self.text.lines() {
            let indent = if line.is_empty() { "" } else { "    " };
            let _ = writeln!(text, "{indent}{line}");
        }
        Ok(text + "}\n")
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn new_type(&mut self, name: &str, suffix: &str) -> Result<String, Clash> {
        let new = format!("{}{suffix}", camel(name));
        if self.types.insert(new.clone()) { Ok(new) } else { Err(format!("two types would be called `{new}` in Rust")) }
    }

    fn methods(&mut self) -> Result<(), Clash> {
        let names = self.interface.methods.iter().map(|method| &method.name);
        let names = distinct(names, constant)?;
        distinct(self.interface.methods.iter().map(|method| &method.name), lower)?;
        self.line("/// The methods' numbers.\npub mod method {");
        for (number, (name, method)) in names.iter().zip(&self.interface.methods).enumerate() {
            self.line(&format!("    /// `{}`.\n    pub const {name}: u16 = {number};", signature(method)));
        }
        self.line("}\n");
        Ok(())
    }

    fn enumeration(&mut self, name: &Name, words: &[Name]) -> Result<(), Clash> {
        let new = self.new_type(&name.text, "")?;
        let variants = distinct(words.iter(), camel)?;
        self.line(&format!(
            "/// `{}`.\n#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]\n#[repr(u64)]\npub enum {new} {{",
            name.text
        ));
        for (number, (variant, word)) in variants.iter().zip(words).enumerate() {
            let default = if number == 0 { "    #[default]\n" } else { "" };
            self.line(&format!("    /// `{}`.\n{default}    {variant} = {number},", word.text));
        }
        self.line("}\n");
        let arms = variants.iter().enumerate();
        let arms: String =
            arms.map(|(number, variant)| format!("            {number} => Self::{variant},\n")).collect();
        self.value(
            &new,
            "1",
            "words.put(*self as u64);\n        ::core::result::Result::Ok(())",
            &format!("::core::result::Result::Ok(match words.take() {{\n{arms}            _ => return ::core::result::Result::Err(::bulkhead_types::Malformed),\n        }})"),
        );
        self.display(&new, &variants, words);
        Ok(())
    }

    /// How a person reads an enumeration's values: the policy's words.
    fn display(&mut self, new: &str, variants: &[String], words: &[Name]) {
        let arms = variants.iter().zip(words);
        let arms: String =
            arms.map(|(variant, word)| format!("            Self::{variant} => \"{}\",\n", word.text)).collect();
        self.line(&format!(
            "impl ::core::fmt::Display for {new} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        \
             f.write_str(match self {{\n{arms}        }})\n    }}\n}}\n"
        ));
    }

    fn flags(&mut self, name: &Name, words: &[Name]) -> Result<(), Clash> {
        let new = self.new_type(&name.text, "")?;
        let names = distinct(words.iter(), constant)?;
        if names.iter().any(|name| name == "NONE") {
            return Err("a flag cannot be called `NONE` in Rust; rename it".to_string());
        }
        self.line(&format!(
            "/// `{}`: a set of flags.\n#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]\npub struct {new}(u64);\n\nimpl {new} {{\n    \
             /// None of them.\n    pub const NONE: Self = Self(0);",
            name.text
        ));
        for (at, (name, word)) in names.iter().zip(words).enumerate() {
            self.line(&format!("    /// `{}`.\n    pub const {name}: Self = Self(1 << {at});", word.text));
        }
        self.line(
            "\n    /// Whether all of these are set.\n    #[must_use]\n    pub const fn has(self, others: Self) -> bool {\n        \
             self.0 & others.0 == others.0\n    }\n\n    /// Each flag is a bit, the first the lowest.\n    #[must_use]\n    \
             pub const fn bits(self) -> u64 {\n        self.0\n    }\n}\n",
        );
        self.line(&format!(
            "impl ::core::ops::BitOr for {new} {{\n    type Output = Self;\n\n    fn bitor(self, other: Self) -> Self {{\n        \
             Self(self.0 | other.0)\n    }}\n}}\n"
        ));
        let all = (1_u128 << words.len()) - 1;
        self.value(
            &new,
            "1",
            "words.put(self.0);\n        ::core::result::Result::Ok(())",
            &format!(
                "let bits = words.take();\n        ::bulkhead_types::Malformed::unless(bits & !{all:#x} == 0)?;\n        \
                 ::core::result::Result::Ok(Self(bits))"
            ),
        );
        Ok(())
    }

    fn errors(&mut self) -> Result<(), Clash> {
        let words = &self.interface.errors;
        let variants = distinct(words.iter(), camel)?;
        self.line("/// What the service answers in the place of a reply.\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\n#[repr(u64)]\npub enum Error {");
        for (number, (variant, word)) in (1..).zip(variants.iter().zip(words)) {
            self.line(&format!("    /// `{}`.\n    {variant} = {number},", word.text));
        }
        let arms = (1..).zip(&variants);
        let arms: String = arms
            .map(|(number, variant): (usize, _)| {
                format!("            {number} => ::core::option::Option::Some(Self::{variant}),\n")
            })
            .collect();
        self.line(&format!(
            "}}\n\nimpl Error {{\n    /// Its number.\n    #[must_use]\n    pub const fn code(self) -> u64 {{\n        self as u64\n    }}\n\n    \
             /// The error of a number.\n    #[must_use]\n    pub const fn from_code(code: u64) -> ::core::option::Option<Self> {{\n        \
             match code {{\n{arms}            _ => ::core::option::Option::None,\n        }}\n    }}\n}}\n"
        ));
        self.display("Error", &variants, words);
        self.line("impl ::core::error::Error for Error {}\n");
        Ok(())
    }

    /// Values that travel one after the other.
    fn fields(&mut self, new: &str, doc: &str, fields: &[Field]) -> Result<(), Clash> {
        let names = distinct(fields.iter().map(|field| &field.name), lower)?;
        let has_secret = fields.iter().any(|field| field.is_secret);
        let debug = if has_secret { "" } else { "Debug, " };
        self.line(&format!("/// {doc}\n#[derive(Clone, Copy, {debug}Default, PartialEq, Eq)]\npub struct {new} {{"));
        let (mut width, mut put, mut take, mut debugs) = (Vec::new(), String::new(), String::new(), String::new());
        let mut tests = Vec::new();
        for (name, field) in names.iter().zip(fields) {
            let (kind, doc, test) = self.field(name, field);
            self.line(&format!("    /// {doc}\n    pub {name}: {kind},"));
            width.push(format!("<{kind} as ::bulkhead_types::Value>::WIDTH"));
            let _ = writeln!(put, "        ::bulkhead_types::Value::put(&self.{name}, words)?;");
            let _ = writeln!(take, "            {name}: ::bulkhead_types::Value::take(words)?,");
            let shown = if field.is_secret {
                "&::core::format_args!(\"(secret)\")".to_string()
            } else {
                format!("&self.{name}")
            };
            let _ = write!(debugs, ".field(\"{}\", {shown})", field.name.text);
            tests.extend(test);
        }
        self.line("}\n");
        let mut taken = format!("::core::result::Result::Ok(Self {{\n{take}        }})");
        if !tests.is_empty() {
            self.line(&format!(
                "impl {new} {{\n    #[inline(always)]\n    fn is_in_range(&self) -> bool {{\n        {}\n    }}\n}}\n",
                tests.join("\n            && ")
            ));
            put = format!("        ::bulkhead_types::Malformed::unless(self.is_in_range())?;\n{put}");
            taken = format!(
                "let value = Self {{\n{take}        }};\n        ::bulkhead_types::Malformed::unless(value.is_in_range())?;\n        \
                 ::core::result::Result::Ok(value)"
            );
        }
        if has_secret {
            self.line(&format!(
                "impl ::core::fmt::Debug for {new} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        \
                 f.debug_struct(\"{new}\"){debugs}.finish()\n    }}\n}}\n"
            ));
        }
        let put = format!("{put}        ::core::result::Result::Ok(())");
        self.value(new, &width.join(" + "), put.trim_start(), &taken);
        Ok(())
    }

    /// The Rust type of a field, what is to know of it, and the test that its values must pass.
    fn field(&self, name: &str, field: &Field) -> (String, String, Option<String>) {
        let mut findings = Vec::new();
        let (base, kind) = self.base(field);
        let checked = match (&field.shape, &base) {
            (Shape::Text(_), _) | (_, Base::Record) => None,
            _ => Some(Checker::for_policy(Policy::default(), &mut findings).field(self.interface, field)),
        };
        let kind = match &field.shape {
            Shape::One => kind,
            Shape::Optional => format!("::core::option::Option<{kind}>"),
            Shape::List(most) => format!("::bulkhead_types::List<{kind}, {most}>"),
            Shape::Text(most) if field.kind.text == "bytes" => format!("::bulkhead_types::Bytes<{most}>"),
            Shape::Text(most) => format!("::bulkhead_types::Text<{most}>"),
        };
        let mut doc = format!("`{}`", declaration(field));
        let Some(policy::Field { range, kind: how, .. }) = checked else {
            return (kind, doc + ".", None);
        };
        let values = how.values;
        if range != values {
            let _ = write!(doc, ", {} to {}", how.show(range.0), how.show(range.1));
        }
        if how.step != (1, 0) || !how.unit.is_empty() {
            let _ = write!(doc, "; 1 is {}", how.show(1));
        }
        let number = |value: &str| match base {
            Base::Number | Base::Record => value.to_string(),
            Base::Bool => format!("u64::from({value})"),
            Base::Enum => format!("({value} as u64)"),
            Base::Flags => format!("{value}.bits()"),
        };
        let within = |value: &str| format!("({}..={}).contains(&{})", range.0, range.1, number(value));
        let test = (range != values).then(|| match &field.shape {
            Shape::One => within(&format!("self.{name}")),
            _ => format!("self.{name}.iter().all(|&value| {})", within("value")),
        });
        (kind, doc + ".", test)
    }

    fn base(&self, field: &Field) -> (Base, String) {
        let name = field.kind.text.as_str();
        let is = |(known, _): &(Name, Vec<Name>)| known.text == name;
        let base = match name {
            "bool" => return (Base::Bool, name.to_string()),
            _ if TYPES.iter().any(|(known, _)| *known == name) => return (Base::Number, name.to_string()),
            _ if self.interface.enums.iter().any(is) => Base::Enum,
            _ if self.interface.flags.iter().any(is) => Base::Flags,
            _ => Base::Record,
        };
        (base, camel(name))
    }

    fn value(&mut self, new: &str, width: &str, put: &str, take: &str) {
        self.line(&format!(
            "impl ::bulkhead_types::Value for {new} {{\n    const WIDTH: usize = {width};\n\n    #[inline(always)]\n    \
             fn put(&self, words: &mut ::bulkhead_types::Writer) -> ::core::result::Result<(), ::bulkhead_types::Malformed> {{\n        {put}\n    }}\n\n    \
             #[inline(always)]\n    fn take(words: &mut ::bulkhead_types::Reader<'_>) -> ::core::result::Result<Self, ::bulkhead_types::Malformed> {{\n        \
             {take}\n    }}\n}}\n"
        ));
    }

    fn parameters(&self, method: &Method) -> String {
        let parameters = method.arguments.iter().map(|field| {
            let name = lower(&field.name.text);
            format!(", {name}: {}", self.field(&name, field).0)
        });
        parameters.collect()
    }

    fn reply(method: &Method) -> String {
        if method.replies.is_empty() { "()".to_string() } else { camel(&method.name.text) + "Reply" }
    }

    /// The errors that a method answers; none if it never fails.
    fn errors_of(&self, method: &Method) -> Vec<String> {
        let all = method.errors.as_ref().unwrap_or(&self.interface.errors);
        all.iter().map(|name| camel(&name.text)).collect()
    }

    fn server(&mut self) {
        self.line("/// Who serves it.\npub trait Server {");
        for method in called(self.interface) {
            let (reply, parameters) = (Self::reply(method), self.parameters(method));
            let own = self.errors_of(method);
            let (errors, answer) = match (own.is_empty(), reply.as_str()) {
                (false, _) => (
                    format!("\n    ///\n    /// # Errors\n    /// {}.", own.join(", ")),
                    format!(" -> ::core::result::Result<{reply}, Error>"),
                ),
                (true, "()") => (String::new(), String::new()),
                (true, _) => (String::new(), format!(" -> {reply}")),
            };
            self.line(&format!(
                "    /// `{}`.{errors}\n    fn {}(&mut self{parameters}){answer};",
                signature(method),
                lower(&method.name.text)
            ));
        }
        self.line("}\n");
    }

    fn dispatch(&mut self) {
        let mut methods = called(self.interface);
        let server = if methods.clone().next().is_none() { "_server" } else { "server" };
        let words = if methods.all(|method| method.arguments.is_empty()) { "_words" } else { "words" };
        self.line(&format!(
            "/// Answers a request: a method's number, and the words of the message.\n#[must_use]\n#[inline(always)]\npub fn dispatch({server}: &mut impl \
             Server, method: u16, {words}: &[u64; ::bulkhead_types::WORDS]) -> ::bulkhead_types::Answer {{\n    match method {{"
        ));
        for method in called(self.interface) {
            let arguments: Vec<String> =
                method.arguments.iter().map(|field| format!("request.{}", lower(&field.name.text))).collect();
            let call = format!("server.{}({})", lower(&method.name.text), arguments.join(", "));
            let own = self.errors_of(method);
            // What a method does not declare is `other`.
            let other = match &method.errors {
                Some(own) if own.len() < self.interface.errors.len() => {
                    "\n            ::core::result::Result::Err(_) => ::bulkhead_types::Answer::Failed(0),"
                }
                _ => "",
            };
            let errors = match other {
                "" => "error".to_string(),
                _ => match own.as_slice() {
                    [only] => format!("error @ Error::{only}"),
                    own => {
                        let names: Vec<String> = own.iter().map(|name| format!("Error::{name}")).collect();
                        format!("error @ ({})", names.join(" | "))
                    }
                },
            };
            let answer = match (own.is_empty(), method.replies.is_empty()) {
                (false, _) => format!(
                    "match {call} {{\n            ::core::result::Result::Ok(reply) => ::bulkhead_types::Answer::reply(&reply),\n            \
                     ::core::result::Result::Err({errors}) => ::bulkhead_types::Answer::Failed(error.code()),{other}\n        }}"
                ),
                (true, false) => format!("::bulkhead_types::Answer::reply(&{call})"),
                (true, true) => {
                    format!("{{\n            {call};\n            ::bulkhead_types::Answer::reply(&())\n        }}")
                }
            };
            let number = format!("method::{}", constant(&method.name.text));
            if method.arguments.is_empty() {
                self.line(&format!("        {number} => {answer}{}", if answer.ends_with('}') { "" } else { "," }));
            } else {
                let request = camel(&method.name.text) + "Request";
                self.line(&format!(
                    "        {number} => match <{request} as ::bulkhead_types::Value>::decode(words) {{\n            \
                     ::core::result::Result::Ok(request) => {},\n            \
                     ::core::result::Result::Err(_) => ::bulkhead_types::Answer::Malformed,\n        }},",
                    answer.replace('\n', "\n    ")
                ));
            }
        }
        self.line("        _ => ::bulkhead_types::Answer::Unknown,\n    }\n}\n");
    }

    fn client(&mut self) {
        self.line(
            "/// Who calls it, by way of what carries the messages.\n#[derive(Clone, Copy, Debug)]\npub struct Client<T>(pub T);\n\n\
             impl<T: ::bulkhead_types::Transport> Client<T> {",
        );
        for method in called(self.interface) {
            let (error, from_code) = match self.errors_of(method).is_empty() {
                true => ("::core::convert::Infallible", "|_| ::core::option::Option::None"),
                false => ("Error", "Error::from_code"),
            };
            let names: Vec<String> = method.arguments.iter().map(|field| lower(&field.name.text)).collect();
            let request = match method.arguments.is_empty() {
                true => "()".to_string(),
                false => format!("{}Request {{ {} }}", camel(&method.name.text), names.join(", ")),
            };
            self.line(&format!(
                "    /// `{}`.\n    ///\n    /// # Errors\n    /// Refused, lost, or the service's own.\n    pub fn {}(&mut self{}) -> \
                 ::core::result::Result<{}, ::bulkhead_types::ClientError<{error}, T::Refusal>> {{\n        \
                 ::bulkhead_types::ClientError::call(&mut self.0, method::{}, &{request}, {from_code})\n    }}\n",
                signature(method),
                lower(&method.name.text),
                self.parameters(method),
                Self::reply(method),
                constant(&method.name.text),
            ));
        }
        while self.text.ends_with("\n\n") {
            self.text.pop();
        }
        self.line("}");
    }
}

/// What is called; questions are not: their app puts them to the monitor, with the words of their request.
fn called(interface: &Interface) -> impl Iterator<Item = &Method> + Clone {
    interface.methods.iter().filter(|method| !method.is_question)
}

/// Rust names, all different.
fn distinct<'a>(names: impl Iterator<Item = &'a Name>, rust: fn(&str) -> String) -> Result<Vec<String>, Clash> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let new = rust(&name.text);
        if all.contains(&new) {
            return Err(format!("`{}` and another name are both `{new}` in Rust; rename one", name.text));
        }
        all.push(new);
    }
    Ok(all)
}

/// `set_pump(rpm: u16) -> ()`.
fn signature(method: &Method) -> String {
    let (name, arguments) = (&method.name.text, plain(&method.arguments));
    if method.is_question {
        format!("{name}({arguments})")
    } else {
        let errors = match method.errors.as_deref() {
            None => String::new(),
            Some([]) => " never fails".to_string(),
            Some(all) => {
                format!(" fails with {}", all.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(", "))
            }
        };
        format!("{name}({arguments}) -> ({}){errors}", plain(&method.replies))
    }
}

fn plain(fields: &[Field]) -> String {
    fields.iter().map(declaration).collect::<Vec<_>>().join(", ")
}

fn list(fields: &[Field]) -> String {
    format!("`{}`", fields.iter().map(|field| field.name.text.as_str()).collect::<Vec<_>>().join("`, `"))
}

fn declaration(field: &Field) -> String {
    let (name, kind) = (&field.name.text, &field.kind.text);
    match &field.shape {
        Shape::One => format!("{name}: {kind}"),
        Shape::Optional => format!("{name}: optional {kind}"),
        Shape::List(most) => format!("{name}: list of {kind} max {most}"),
        Shape::Text(most) => format!("{name}: {kind} max {most}"),
    }
}

/// `set_pump` as a type: `SetPump`.
fn camel(name: &str) -> String {
    let words = name.split('_').filter(|word| !word.is_empty());
    let new: String = words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        })
        .collect();
    match new.as_str() {
        "Self" => "Self_".to_string(),
        _ if new.starts_with(|c: char| c.is_ascii_alphabetic()) => new,
        _ => format!("X{new}"),
    }
}

/// As a constant.
fn constant(name: &str) -> String {
    let new = name.to_uppercase();
    if new.chars().all(|c| c == '_') { format!("X{new}") } else { new }
}

/// As a field, a parameter or a function.
fn lower(name: &str) -> String {
    let new = name.to_lowercase();
    match new.as_str() {
        word if WORDS.contains(&word) => format!("r#{word}"),
        word if NEVER.contains(&word) || word.chars().all(|c| c == '_') => format!("x{new}"),
        _ => new,
    }
}

/// `HistorianQuery` as a module: `historian_query`.
fn module_name(name: &str) -> String {
    let mut new = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            new.push('_');
        }
        new.push(c.to_ascii_lowercase());
        before = c;
    }
    lower(&new)
}

#[cfg(test)]
mod tests {
    use super::rust;
    use crate::tests::build;

    fn module(body: &str) -> Result<String, String> {
        let compiled = build(&format!(
            "edition 1\npolicy p\ninterface TankSide {{\n{body}\n}}\napp a\nservice s: TankSide by a\n"
        ));
        rust(compiled.unwrap().interfaces.first().unwrap())
    }

    #[test]
    fn names_become_those_of_rust() {
        let text = module(
            "enum kind { low_level, Self }\n method read_all(type: kind, self: u8) -> (RPM: u16 in 0..9 unit rpm)",
        )
        .unwrap();
        for wanted in [
            "pub mod tank_side {",
            "pub const READ_ALL: u16 = 0;",
            "pub enum Kind {",
            "LowLevel = 0,",
            "Self_ = 1,",
            "fn read_all(&mut self, r#type: Kind, xself: u8) -> ReadAllReply;",
            "/// `RPM: u16`, 0 rpm to 9 rpm; 1 is 1 rpm.\n        pub rpm: u16,",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn a_question_has_a_number_and_a_request_and_is_neither_called_nor_served() {
        let text = module("question may(unit: u8) \n method go() -> ()").unwrap();
        assert!(text.contains("pub const MAY: u16 = 0;") && text.contains("pub struct MayRequest"), "{text}");
        assert!(!text.contains("fn may(") && !text.contains("method::MAY"), "{text}");
        assert!(text.contains("fn go(&mut self);") && text.contains("method::GO =>"), "{text}");
    }

    #[test]
    fn names_that_are_one_in_rust_are_an_error() {
        for (body, message) in [
            ("method a(x: u8, X: u8) -> ()", "both `x` in Rust"),
            ("method a() -> ()\n method A() -> ()", "both `A` in Rust"),
            ("enum K { a_b, aB }\n method a(k: K) -> ()", "both `AB` in Rust"),
            ("enum AReply { x }\n method a() -> (k: AReply)", "two types would be called `AReply`"),
            ("record Client { x: u8 }\n method a() -> (k: Client)", "two types would be called `Client`"),
            ("flags F { none_of, none }\n method a() -> (k: F)", "cannot be called `NONE`"),
        ] {
            let error = module(body).unwrap_err();
            assert!(error.contains(message) && error.starts_with("interface `TankSide`"), "{body}: {error}");
        }
        assert!(module("enum A { x }\n method a() -> (k: A)").is_ok());
    }
}
