//! `bulkhead init`: a commented site to begin with. Nothing that is there is written over.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

const FILES: [(&str, &str); 2] =
    [("site.policy", include_str!("starter.policy")), ("site.toml", include_str!("starter.toml"))];

/// The verb.
pub(crate) fn run(folder: &Path, as_json: bool) -> Result<ExitCode, String> {
    if let Some((name, _)) = FILES.iter().find(|(name, _)| folder.join(name).exists()) {
        return Err(format!("{} is there already; name another folder", folder.join(name).display()));
    }
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    for (name, text) in FILES {
        let path = folder.join(name);
        let file = fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let folder = folder.display();
    if as_json {
        println!("{}", json!({ "ok": true, "folder": folder.to_string(), "files": FILES.map(|(name, _)| name) }));
    } else {
        println!("{folder}: site.policy and site.toml; next: bulkhead test {folder}");
    }
    Ok(ExitCode::SUCCESS)
}
