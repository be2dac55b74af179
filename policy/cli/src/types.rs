//! `bulkhead types`: a site's interfaces as Rust.

use std::process::ExitCode;

use bulkhead_lang::{nearest, types};
use serde_json::json;

use crate::site::{Site, say};

/// Prints the modules of all interfaces, or of one.
pub(crate) fn run(site: &Site<'_>, interface: Option<&str>, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let known = || compiled.interfaces.iter().map(|known| known.name.text.as_str());
    if let Some(wanted) = interface.filter(|wanted| !known().any(|known| known == *wanted)) {
        let near = nearest(wanted, known()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("the site has no interface `{wanted}`{near}"));
    }
    let chosen = compiled.interfaces.iter().filter(|known| interface.is_none_or(|wanted| known.name.text == wanted));
    let mut text = chosen.map(types::rust).collect::<Result<String, _>>()?;
    if interface.is_none() {
        text.push_str(&types::objects(&compiled.policy));
    }
    if as_json {
        say(&compiled, json!({ "policy": compiled.policy.name, "rust": text }));
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}
