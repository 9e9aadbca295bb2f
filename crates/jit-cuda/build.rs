//! Compiles the kernels for the processor where the feature `emulator` asks for it.
//!
//! With `JIT_SANITIZE=address` they are compiled, and the tests linked, with the address sanitizer: a kernel that reads or
//! writes beyond a tensor ends the test.

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=emulator");
    println!("cargo:rerun-if-env-changed=JIT_SANITIZE");
    #[cfg(feature = "emulator")]
    emulator();
}

#[cfg(feature = "emulator")]
fn emulator() {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        // The kernels say which products and sums are rounded one by one.
        .flag_if_supported("-ffp-contract=off")
        .flag_if_supported("-Wno-unknown-pragmas")
        .warnings(false)
        .include("kernels")
        .include("emulator")
        .file("emulator/emulator.cc")
        .file("emulator/kernels.cc");
    if std::env::var("JIT_SANITIZE").is_ok_and(|value| value == "address") {
        build.flag("-fsanitize=address").flag("-g");
        println!("cargo:rustc-link-arg=-fsanitize=address");
    }
    build.compile("jit_emulator");
}
