//! Compiles the kernels for the processor where the feature `emulator` asks for it.
//!
//! With `JIT_SANITIZE=address` they are compiled for the address sanitizer: a kernel that reads or writes beyond a tensor ends
//! the test. Its library is to be loaded first (`LD_PRELOAD`), as `.ci/run` does.

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
        // Fibers have stacks that it does not know.
        build.flag("-fsanitize=address").flag("--param").flag("asan-stack=0");
        println!("cargo:rustc-link-arg=-Wl,--unresolved-symbols=ignore-all");
    }
    build.compile("jit_emulator");
}
