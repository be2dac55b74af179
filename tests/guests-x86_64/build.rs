//! Links the guests as bzImages: static position-independent executables that relocate themselves.
fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=guest.ld");
    for argument in [
        "-pie",
        "--no-dynamic-linker",
        "-znorelro",
        "-znotext",
        "-zmax-page-size=4096",
        &format!("-T{folder}/guest.ld"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
