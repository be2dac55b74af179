//! Writes what the fuzz targets begin with: the policies of the examples and sites, the tables that come of them, some choices, and
//! the words of the language. `cargo run -p bulkhead-fuzz --example seeds -- FOLDER`.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_lang::Arch;

fn main() -> Result<(), Box<dyn Error>> {
    let to = PathBuf::from(std::env::args_os().nth(1).ok_or("name the folder to write to")?);
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy");
    let mut words = BTreeSet::new();
    for target in ["text", "table", "policy_and_calls"] {
        fs::create_dir_all(to.join(target))?;
    }
    for group in ["examples", "sites"] {
        for site in fs::read_dir(policies.join(group))? {
            let site = site?.path();
            let name = format!("{group}-{}", site.file_name().unwrap_or_default().display());
            seeds(&site, &to, &name, &mut words)?;
        }
    }
    for seed in 0..64_u64 {
        let bytes = |n: u64| (seed * 101 + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).to_le_bytes();
        let all: Vec<u8> = (0..100).flat_map(bytes).collect();
        fs::write(to.join(format!("policy_and_calls/{seed}")), all)?;
    }
    let lines: Vec<String> = words.iter().map(|word| format!("\"{word}\"\n")).collect();
    fs::write(to.join("words"), lines.concat())?;
    Ok(())
}

/// Of one site: its files, its tables, its words.
fn seeds(site: &Path, to: &Path, name: &str, words: &mut BTreeSet<String>) -> Result<(), Box<dyn Error>> {
    for file in fs::read_dir(site)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "policy") {
            let text = fs::read_to_string(&file)?;
            let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
            words.extend(text.split(ends).filter(|word| word.len() > 1).map(str::to_string));
            fs::write(to.join(format!("text/{name}-{}", file.file_name().unwrap_or_default().display())), text)?;
        }
    }
    let mut load = |file: &str| fs::read_to_string(site.join(file)).map_err(|error| error.to_string());
    for arch in Arch::ALL {
        if let Ok(compiled) = bulkhead_lang::compile_for(&mut load, "site.policy", Some(arch)) {
            fs::write(to.join(format!("table/{name}-{}", arch.name())), compiled.table)?;
        }
    }
    Ok(())
}
