//! Links the image with its architecture's script: on AArch64 a static position-independent executable, which relocates
//! itself; on x86-64 one at a fixed address, which the boot chain loads there. A UEFI application needs none.
fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") == "uefi" {
        return;
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let script = format!("{}/src/arch/{arch}/image.ld", variable("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed={script}");
    let form: &[&str] = match arch.as_str() {
        "x86_64" => &["--no-pie", "-znorelro", "-zmax-page-size=4096"],
        _ => &["-pie", "--no-dynamic-linker", "-znorelro", "-znotext", "-zmax-page-size=4096"],
    };
    for argument in form.iter().copied().chain([format!("-T{script}").as_str()]) {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
