//! The language server, as an editor speaks with it.

mod common;

use std::process::Command;

use common::{BOUNDED, site};

/// What the language server answers to these messages, and how it ended.
fn converse(messages: &[String]) -> (String, Option<i32>) {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .arg("lsp")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the server starts");
    let mut input = child.stdin.take().expect("its input");
    for message in messages {
        write!(input, "Content-Length: {}\r\n\r\n{message}", message.len()).expect("it listens");
    }
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[test]
fn the_language_server_shows_the_findings_of_check_and_what_names_mean() {
    let text = BOUNDED.replace("allow guest s.go", "allow guest s.goo");
    let folder = site("lsp", BOUNDED);
    let uri = format!("file://{}", folder.join("site.policy").display());
    let position = |word: &str| {
        let at = text.find(word).expect("the word");
        let line = text[..at].matches('\n').count();
        format!("{{\"line\":{line},\"character\":{}}}", at - text[..at].rfind('\n').map_or(0, |start| start + 1))
    };
    let quoted = text.replace('"', "\\\"").replace('\n', "\\n");
    let at = |id: u8, method: &str, word: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"textDocument/{method}\",\"params\":{{\"textDocument\":{{\"uri\":\"{uri}\"}},\"position\":{}}}}}",
            position(word)
        )
    };
    let said = converse(&[
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"capabilities\":{}}}".to_string(),
        "{\"jsonrpc\":\"2.0\",\"method\":\"initialized\",\"params\":{}}".to_string(),
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"textDocument/didOpen\",\"params\":{{\"textDocument\":{{\"uri\":\"{uri}\",\"languageId\":\"policy\",\"version\":1,\"text\":\"{quoted}\"}}}}}}"
        ),
        at(2, "hover", "rpm in 1000"),
        at(3, "definition", "rpm in 1000"),
        at(4, "completion", "rpm in 1000"),
        at(5, "rename", "rpm in 1000").replacen("\"position\"", "\"newName\":\"speed\",\"position\"", 1),
        at(7, "rename", "rpm in 1000").replacen("\"position\"", "\"newName\":\"when\",\"position\"", 1),
        at(8, "rename", "rpm in 1000").replacen("\"position\"", "\"newName\":\"mode\",\"position\"", 1),
        at(9, "references", "rpm in 1000"),
        "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"shutdown\"}".to_string(),
        "{\"jsonrpc\":\"2.0\",\"method\":\"exit\"}".to_string(),
    ]);
    assert_eq!(said.1, Some(0), "{}", said.0);
    for piece in [
        "there is no method of `s` called `goo`",
        "did you mean `go`?",
        "rpm: u16 in 0..3000",
        "\"range\":{\"end\":{\"character\":18,\"line\":3},\"start\":{\"character\":15,\"line\":3}}",
        "\"label\":\"between\"",
        "\"newText\":\"speed\",\"range\":{\"end\":{\"character\":18,\"line\":3},\"start\":{\"character\":15,\"line\":3}}",
        "`when` cannot be a name",
        "`mode` is declared already",
        "textDocument/references is not offered",
    ] {
        assert!(said.0.contains(piece), "{piece}: {}", said.0);
    }
    assert_eq!(converse(&["no json".to_string()]).1, Some(2), "an editor that speaks something else");
}

/// What an editor is given without the server: the extension's files, and a grammar that knows each word of the language.
#[test]
fn the_editors_grammar_knows_every_word_that_is_offered() {
    let read = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("editors").join(name);
        let text = std::fs::read_to_string(path).expect("a file of the extension");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (text, value)
    };
    let (_, package) = read("package.json");
    let grammar = package["contributes"]["grammars"][0]["path"].as_str().expect("a path");
    let configuration = package["contributes"]["languages"][0]["configuration"].as_str().expect("a path");
    assert_eq!(read(configuration).1["comments"]["lineComment"], "//");
    let (text, value) = read(grammar);
    assert_eq!(value["scopeName"], package["contributes"]["grammars"][0]["scopeName"]);
    let words: Vec<&str> = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').collect();
    let missing: Vec<&str> = bulkhead_lang::names::keywords()
        .into_iter()
        .flat_map(str::split_whitespace)
        .filter(|word| !words.contains(word))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
