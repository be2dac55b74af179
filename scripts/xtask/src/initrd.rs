//! A site's initial RAM disk: busybox, drivers, the guest's command and a script, as a packed newc archive.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::arch::{Arch, Targets};
use crate::command::{Error, Result, root};
use crate::setup;

const DEMO: &str = "policy/sites/demo";
const SCRIPT: &str = "guest/init";

/// The demonstration's.
pub(crate) fn demo(arch: Arch) -> Result<Vec<u8>> {
    of(Path::new(DEMO), arch)
}

/// Builds the archive. The same files give the same bytes. A site without a script of its own has the demonstration's.
pub(crate) fn of(site: &Path, arch: Arch) -> Result<Vec<u8>> {
    let busybox = setup::guest_files(arch).join("bin/busybox");
    let busybox = fs::read(&busybox).map_err(|error| Error(format!("cannot read {}: {error}", busybox.display())))?;
    let own = root().join(site).join(SCRIPT);
    let script = if own.exists() { own } else { root().join(DEMO).join(SCRIPT) };
    let script = fs::read(&script).map_err(|error| Error(format!("cannot read {}: {error}", script.display())))?;
    let client = crate::build::guest_command(arch)?;
    let client = fs::read(&client).map_err(|error| Error(format!("cannot read {}: {error}", client.display())))?;
    let mut archive = Vec::new();
    for folder in ["bin", "proc", "sys", "dev", "lib"] {
        entry(&mut archive, folder, 0o040_755, &[]);
    }
    entry(&mut archive, "bin/busybox", 0o100_755, &busybox);
    entry(&mut archive, "bin/bulkhead-guest", 0o100_755, &client);
    entry(&mut archive, "bin/sh", 0o120_777, b"busybox");
    let mut names = String::new();
    for module in arch.guest_modules() {
        let path = setup::guest_module(arch, module)?;
        let name = module.rsplit('/').next().unwrap_or(module);
        names.push_str(&format!("{name}\n"));
        let bytes = fs::read(&path).map_err(|error| Error(format!("cannot read {}: {error}", path.display())))?;
        entry(&mut archive, &format!("lib/{name}"), 0o100_644, &bytes);
    }
    // The init script loads them in this order.
    entry(&mut archive, "lib/modules", 0o100_644, names.as_bytes());
    entry(&mut archive, "init", 0o100_755, &script);
    pack(archive)
}

/// The smallest: busybox and a script.
pub(crate) fn small(busybox: &[u8], script: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for folder in ["bin", "proc", "dev"] {
        entry(&mut archive, folder, 0o040_755, &[]);
    }
    entry(&mut archive, "bin/busybox", 0o100_755, busybox);
    entry(&mut archive, "init", 0o100_755, script);
    pack(archive)
}

fn pack(mut archive: Vec<u8>) -> Result<Vec<u8>> {
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packed.write_all(&archive).and_then(|()| packed.finish());
    packed.map_err(|error| Error(format!("cannot pack the initial RAM disk: {error}")))
}

/// One file: a header of hexadecimal fields, the name, the contents, each padded to four bytes.
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let (length, name_length) = (contents.len(), name.len() + 1);
    let number = archive.len() + 1;
    let fields = [number, mode as usize, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
    archive.extend_from_slice(b"070701");
    fields.iter().for_each(|field| archive.extend_from_slice(format!("{field:08x}").as_bytes()));
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[test]
    fn entries_are_padded_and_carry_their_lengths() {
        let mut archive = Vec::new();
        entry(&mut archive, "init", 0o100_755, b"hello");
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(&archive[54..62], b"00000005");
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.ends_with(b"hello\0\0\0"));
    }
}
