//! Links the guests: static position-independent executables, bzImages that relocate themselves; the boot sector by its own script.
fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in ["-pie", "--no-dynamic-linker", "-znorelro", "-znotext", "-zmax-page-size=4096"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for (name, script) in [
        ("bench", "guest.ld"),
        ("boot", "boot.ld"),
        ("endless", "guest.ld"),
        ("hostile", "guest.ld"),
        ("ports", "guest.ld"),
        ("restless", "guest.ld"),
        ("serial", "guest.ld"),
        ("spinner", "guest.ld"),
    ] {
        println!("cargo:rustc-link-arg-bin=bulkhead-guest-pc-{name}=-T{folder}/{script}");
        println!("cargo:rerun-if-changed={script}");
    }
}
