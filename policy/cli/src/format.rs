//! `bulkhead fmt`: the one way to write a policy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_lang::{Source, Sources};
use serde_json::json;

use crate::findings;

/// The verb: every `*.policy` file of a folder and those below it, or one file. A file that cannot be read as a policy is left alone.
pub(crate) fn run(site: &Path, check: bool, as_json: bool) -> Result<ExitCode, String> {
    let mut files = Vec::new();
    gather(site, 0, &mut files)?;
    let (mut changed, mut is_well) = (Vec::new(), true);
    for path in &files {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        match bulkhead_lang::format(&text) {
            Ok(new) if new == text => {}
            Ok(new) => {
                if !check {
                    replace(path, &new)?;
                }
                changed.push(path.display().to_string());
            }
            Err(findings) => {
                is_well = false;
                let sources = Sources(vec![Source { name: path.display().to_string(), text }]);
                findings::print(&findings, &sources, false, &json!({}));
            }
        }
    }
    let is_ok = is_well && (!check || changed.is_empty());
    if as_json {
        println!("{}", json!({ "ok": is_ok, "files": files.len(), "changed": changed }));
    } else {
        let word = if check { "not in the form" } else { "changed" };
        changed.iter().for_each(|file| println!("{word}: {file}"));
    }
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Folders below each other that are looked into.
const DEPTH: usize = 8;

fn gather(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let is_policy = path.extension().is_some_and(|extension| extension == "policy");
        if is_policy && path.is_file() || path.is_dir() && !path.is_symlink() && depth < DEPTH {
            gather(&path, depth + 1, files)?;
        }
    }
    Ok(())
}

/// The new text takes the old one's place at once: no half of it is ever seen.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let beside = path.with_extension("policy.new");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
