//! The types of the app's interface; links the app at its fixed address.
fn main() {
    bulkhead_lang::types::build(&["../../../policy/sites/demo/interfaces/clock.policy"]);
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=../../user/app.ld");
    for argument in ["-znorelro", "-zmax-page-size=4096", "--no-pie", &format!("-T{folder}/../../user/app.ld")] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
