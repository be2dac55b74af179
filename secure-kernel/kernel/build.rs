//! Links the kernel at its fixed place in the secure partition (`bulkhead_abi::wall::KERNEL_IMAGE`).
fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=kernel.ld");
    for argument in ["-znorelro", "-zmax-page-size=4096", &format!("-T{folder}/kernel.ld")] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=--no-pie");
}
