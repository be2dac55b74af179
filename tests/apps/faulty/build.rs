//! Links the app at its fixed address.
fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=../../../secure-kernel/user/app.ld");
    for argument in
        ["-znorelro", "-zmax-page-size=4096", "--no-pie", &format!("-T{folder}/../../../secure-kernel/user/app.ld")]
    {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
