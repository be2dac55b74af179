//! A site's folder, and the kinds of machine that it is looked at for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_lang::{Arch, Compiled, MAIN, compile_folder, machines};
use serde_json::{Value, json};

use crate::findings;

/// A site, for one kind of machine; for any, if its policy does not differ.
pub(crate) struct Site<'a> {
    folder: &'a Path,
    arch: Option<Arch>,
}

impl<'a> Site<'a> {
    pub(crate) const fn new(folder: &'a Path, arch: Option<Arch>) -> Self {
        Self { folder, arch }
    }

    /// The compiled policy, or the exit status after its findings were printed.
    pub(crate) fn open(&self, json: bool) -> Result<Result<Compiled, ExitCode>, String> {
        if !self.folder.join(MAIN).is_file() {
            return Err(format!(
                "there is no {MAIN} in {}; name the site's folder (in this project: policy/sites/demo)",
                self.folder.display()
            ));
        }
        Ok(compile_folder(self.folder, self.arch).map_err(|report| {
            findings::print(&report.findings, &report.sources, json, &facts(self.arch));
            ExitCode::from(1)
        }))
    }
}

/// Does something for each kind of machine that one of the folders has a file for, or for the one that is asked for, and says
/// for which.
pub(crate) fn each(
    folders: &[&PathBuf],
    asked: Option<Arch>,
    as_json: bool,
    act: impl Fn(Option<Arch>) -> Result<ExitCode, String>,
) -> Result<ExitCode, String> {
    let all = found(folders, asked);
    let mut worst = ExitCode::SUCCESS;
    for &arch in &all {
        if let (Some(arch), false, true) = (arch, as_json, all.len() > 1) {
            println!("{}:", arch.name());
        }
        let code = act(arch)?;
        worst = if code == ExitCode::SUCCESS { worst } else { code };
    }
    Ok(worst)
}

/// The one kind of machine that a folder is for, where there can be one only.
pub(crate) fn one(folder: &PathBuf, asked: Option<Arch>) -> Result<Option<Arch>, String> {
    match found(&[folder], asked).as_slice() {
        [arch] => Ok(*arch),
        all => {
            let names: Vec<&str> = all.iter().flatten().map(|arch| arch.name()).collect();
            Err(format!("{} is for {}; say for which: --arch", folder.display(), names.join(" and ")))
        }
    }
}

/// The first kind of machine that a folder is for: for what does not depend on it.
pub(crate) fn any(folder: &PathBuf, asked: Option<Arch>) -> Option<Arch> {
    found(&[folder], asked).into_iter().next().flatten()
}

fn found(folders: &[&PathBuf], asked: Option<Arch>) -> Vec<Option<Arch>> {
    if asked.is_some() {
        return vec![asked];
    }
    let mut all: Vec<Option<Arch>> = folders.iter().flat_map(|folder| machines(folder)).map(Some).collect();
    all.sort();
    all.dedup();
    if all.is_empty() { vec![None] } else { all }
}

/// The kind of machine as a part of a JSON object.
pub(crate) fn facts(arch: Option<Arch>) -> Value {
    arch.map_or_else(|| json!({}), |arch| json!({ "arch": arch.name() }))
}

/// Prints a JSON object, with the kind of machine that it is about.
pub(crate) fn say(compiled: &Compiled, mut value: Value) {
    if let (Some(all), Some(facts)) = (value.as_object_mut(), facts(compiled.policy.arch).as_object()) {
        all.extend(facts.clone());
    }
    println!("{value}");
}
