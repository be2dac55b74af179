//! Links the image with its own script, as a static position-independent executable: the loader places it anywhere.
fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=loader.ld");
    for argument in [
        "-pie",
        "--no-dynamic-linker",
        "-znorelro",
        "-znotext",
        "-zmax-page-size=4096",
        &format!("-T{folder}/loader.ld"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
