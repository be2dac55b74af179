//! `bulkhead lsp`: the language server, on standard input and output: the findings of `check` as the text is written, hover with type,
//! range and unit, definition, completion, rename, formatting. It compiles the site that an open file belongs to, open files as they are shown.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use bulkhead_lang::names::{Declared, can_be_a_name, declared, keywords, occurrences, word_at};
use bulkhead_lang::{Arch, Diagnostic, MAIN, Severity, Sources, Span, compile_for, machines};
use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use serde_json::{Value, json};

/// Folders above a file that are looked at for its site.
const ABOVE: usize = 8;

struct Server {
    connection: Connection,
    /// The open files, as they are shown.
    open: BTreeMap<PathBuf, String>,
}

/// The verb.
pub(crate) fn run() -> Result<ExitCode, String> {
    let (connection, threads) = Connection::stdio();
    let abilities = json!({
        "textDocumentSync": 1, "hoverProvider": true, "definitionProvider": true, "documentFormattingProvider": true, "renameProvider": true,
        "completionProvider": { "triggerCharacters": ["."] },
    });
    connection.initialize(abilities).map_err(|error| format!("the editor did not begin as it should: {error}"))?;
    let mut server = Server { connection, open: BTreeMap::new() };
    server.serve()?;
    drop(server);
    threads.join().map_err(|error| format!("the editor was lost: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

impl Server {
    fn serve(&mut self) -> Result<(), String> {
        while let Ok(message) = self.connection.receiver.recv() {
            match message {
                Message::Request(request) => {
                    if self.connection.handle_shutdown(&request).map_err(|error| error.to_string())? {
                        return Ok(());
                    }
                    let response = self.answer(request);
                    self.send(Message::Response(response))?;
                }
                Message::Notification(notification) => self.notice(&notification)?,
                Message::Response(_) => {}
            }
        }
        Ok(())
    }

    fn send(&self, message: Message) -> Result<(), String> {
        self.connection.sender.send(message).map_err(|error| format!("the editor was lost: {error}"))
    }

    fn notice(&mut self, notification: &Notification) -> Result<(), String> {
        let params = &notification.params;
        let Some(path) = path(&params["textDocument"]["uri"]) else { return Ok(()) };
        match notification.method.as_str() {
            "textDocument/didOpen" => {
                let text = params["textDocument"]["text"].as_str().unwrap_or_default();
                self.open.insert(path.clone(), text.to_string());
            }
            "textDocument/didChange" => {
                let text = params["contentChanges"][0]["text"].as_str().unwrap_or_default();
                self.open.insert(path.clone(), text.to_string());
            }
            "textDocument/didClose" => {
                self.open.remove(&path);
            }
            _ => return Ok(()),
        }
        self.publish(&path)
    }

    /// The folder of the site that a file belongs to: the nearest above it with a `site.policy`.
    fn site(path: &Path) -> Option<PathBuf> {
        path.ancestors().skip(1).take(ABOVE).find(|folder| folder.join(MAIN).is_file()).map(Path::to_path_buf)
    }

    /// A file of a site: as it is shown, or as it is on the disk. Nothing outside the site is read.
    fn load(&self, site: &Path, name: &str) -> Result<String, String> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err("it lies outside the site's folder".to_string());
        }
        let path = site.join(name);
        self.open
            .get(&path)
            .cloned()
            .map_or_else(|| std::fs::read_to_string(&path).map_err(|error| error.to_string()), Ok)
    }

    /// Findings and files of a site, for each kind of machine that it has a file for.
    fn compiled(&self, site: &Path) -> Vec<(Vec<Diagnostic>, Sources)> {
        let machines = machines(site);
        let machines: Vec<Option<Arch>> =
            if machines.is_empty() { vec![None] } else { machines.into_iter().map(Some).collect() };
        let compiled =
            machines.into_iter().map(|arch| match compile_for(&mut |name| self.load(site, name), MAIN, arch) {
                Ok(compiled) => (compiled.warnings, compiled.sources),
                Err(report) => (report.findings, report.sources),
            });
        compiled.collect()
    }

    /// Sends the findings of the whole site, for each of its files.
    fn publish(&self, path: &Path) -> Result<(), String> {
        let Some(site) = Self::site(path) else { return Ok(()) };
        let mut of_file: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (findings, sources) in self.compiled(&site) {
            // File 0 is the built-in one.
            for (file, source) in sources.0.iter().enumerate().skip(1) {
                let all = of_file.entry(source.name.clone()).or_default();
                for finding in findings.iter().filter(|finding| finding.span.file == file) {
                    let shown = shown(finding, &sources);
                    if !all.contains(&shown) {
                        all.push(shown);
                    }
                }
            }
        }
        for (name, shown) in of_file {
            let uri = format!("file://{}", site.join(&name).display());
            let params = json!({ "uri": uri, "diagnostics": shown });
            let notification = Notification { method: "textDocument/publishDiagnostics".to_string(), params };
            self.send(Message::Notification(notification))?;
        }
        Ok(())
    }

    fn answer(&self, request: Request) -> Response {
        let Request { id, method, params } = request;
        let result = match method.as_str() {
            "textDocument/hover" => self.hover(&params),
            "textDocument/definition" => self.definition(&params),
            "textDocument/completion" => self.completion(&params),
            "textDocument/formatting" => self.formatting(&params),
            "textDocument/rename" => match self.rename(&params) {
                Ok(edits) => Some(edits),
                Err(why) => return Response::new_err(id, ErrorCode::InvalidParams as i32, why),
            },
            _ => {
                let code = ErrorCode::MethodNotFound as i32;
                return Response::new_err(id, code, format!("{method} is not offered"));
            }
        };
        Response::new_ok(id, result.unwrap_or(Value::Null))
    }

    /// The word at a place of an open file, and what the site's files declare under that name.
    fn meant(&self, params: &Value) -> Option<(Vec<(PathBuf, Declared)>, String)> {
        let path = path(&params["textDocument"]["uri"])?;
        let text = self.open.get(&path)?;
        let (word, _) = word_at(0, text, offset(text, &params["position"])?)?;
        let all = self.declarations(&path).into_iter().filter(|(_, declared)| declared.name == word);
        Some((all.collect(), word))
    }

    /// What the files of a site declare.
    fn declarations(&self, path: &Path) -> Vec<(PathBuf, Declared)> {
        let Some(site) = Self::site(path) else { return Vec::new() };
        let mut all: BTreeMap<PathBuf, Vec<Declared>> = BTreeMap::new();
        for (_, sources) in self.compiled(&site) {
            for (file, source) in sources.0.into_iter().enumerate().skip(1) {
                all.insert(site.join(&source.name), declared(file, &source.text));
            }
        }
        all.into_iter().flat_map(|(path, all)| all.into_iter().map(move |one| (path.clone(), one))).collect()
    }

    fn hover(&self, params: &Value) -> Option<Value> {
        let (all, _) = self.meant(params)?;
        let lines: Vec<String> = all.into_iter().map(|(_, declared)| declared.how).collect();
        (!lines.is_empty()).then(|| json!({ "contents": { "kind": "plaintext", "value": lines.join("\n") } }))
    }

    fn definition(&self, params: &Value) -> Option<Value> {
        let (all, _) = self.meant(params)?;
        let places = all.into_iter().filter_map(|(path, declared)| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let text = self.open.get(&path).cloned().map_or_else(|| std::fs::read_to_string(&path).ok(), Some)?;
            let sources = Sources(vec![bulkhead_lang::Source { name, text }]);
            let range = range(Span { file: 0, ..declared.span }, &sources);
            Some(json!({ "uri": format!("file://{}", path.display()), "range": range }))
        });
        Some(Value::Array(places.collect()))
    }

    fn completion(&self, params: &Value) -> Option<Value> {
        let path = path(&params["textDocument"]["uri"])?;
        let own = self
            .declarations(&path)
            .into_iter()
            .map(|(_, declared)| json!({ "label": declared.name, "detail": declared.how }));
        let words = keywords().into_iter().map(|word| json!({ "label": word, "kind": 14 }));
        Some(Value::Array(own.chain(words).collect()))
    }

    /// The edits that give a name another one, in all files of the site.
    fn rename(&self, params: &Value) -> Result<Value, String> {
        let (all, old) = self.meant(params).ok_or("there is no name here")?;
        let new = params["newName"].as_str().unwrap_or_default();
        if all.is_empty() {
            return Err(format!("`{old}` is not declared in this site"));
        }
        if !can_be_a_name(new) {
            return Err(format!("`{new}` cannot be a name: letters, digits, underscores, and no word of the language"));
        }
        let path = path(&params["textDocument"]["uri"]).ok_or("this is no file")?;
        if self.declarations(&path).iter().any(|(_, declared)| declared.name == new) {
            return Err(format!("`{new}` is declared already"));
        }
        let site = Self::site(&path).ok_or("the file belongs to no site")?;
        let mut changes = serde_json::Map::new();
        for (_, sources) in self.compiled(&site) {
            for (file, source) in sources.0.iter().enumerate().skip(1) {
                let edits = occurrences(file, &source.text, &old).into_iter();
                let edits: Vec<Value> =
                    edits.map(|span| json!({ "range": range(span, &sources), "newText": new })).collect();
                if !edits.is_empty() {
                    changes.insert(format!("file://{}", site.join(&source.name).display()), Value::Array(edits));
                }
            }
        }
        Ok(json!({ "changes": changes }))
    }

    fn formatting(&self, params: &Value) -> Option<Value> {
        let text = self.open.get(&path(&params["textDocument"]["uri"])?)?;
        let new = bulkhead_lang::format(text).ok()?;
        let end = json!({ "line": text.lines().count() + 1, "character": 0 });
        Some(json!([{ "range": { "start": { "line": 0, "character": 0 }, "end": end }, "newText": new }]))
    }
}

/// The path of a `file:` address; others are not read.
fn path(uri: &Value) -> Option<PathBuf> {
    let text = uri.as_str()?.strip_prefix("file://")?;
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(core::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The byte of a place that an editor names by line and UTF-16 unit.
fn offset(text: &str, position: &Value) -> Option<usize> {
    let line = usize::try_from(position["line"].as_u64()?).ok()?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let mut units = position["character"].as_u64()?;
    let mut at = start;
    for letter in text.get(start..)?.chars() {
        let wide = letter.len_utf16() as u64;
        if units < wide || letter == '\n' {
            break;
        }
        units -= wide;
        at += letter.len_utf8();
    }
    Some(at)
}

fn range(span: Span, sources: &Sources) -> Value {
    let place = |at: usize| {
        let (_, line, ..) = sources.place(Span { start: at, ..span });
        let before = sources.0.get(span.file).and_then(|source| source.text.get(..at)).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let units: usize = before.get(start..).unwrap_or_default().chars().map(char::len_utf16).sum();
        json!({ "line": line.saturating_sub(1), "character": units })
    };
    json!({ "start": place(span.start), "end": place(span.end) })
}

fn shown(finding: &Diagnostic, sources: &Sources) -> Value {
    let also = finding.also.iter().map(|(span, what)| {
        let (file, line, ..) = sources.place(*span);
        format!("\nsee {file}:{line}: {what}")
    });
    json!({
        "range": range(finding.span, sources),
        "severity": if finding.severity == Severity::Error { 1 } else { 2 },
        "source": "bulkhead",
        "message": format!("{}{}\nhelp: {}", finding.message, also.collect::<String>(), finding.help),
    })
}
