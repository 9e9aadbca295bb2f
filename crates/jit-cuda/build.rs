//! Compiles the kernels for the processor where the feature `emulator` asks for it.

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=emulator");
    #[cfg(feature = "emulator")]
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .flag_if_supported("-ffp-contract=off")
        .include("kernels")
        .include("emulator")
        .flag_if_supported("-Wno-unknown-pragmas")
        .warnings(false)
        .file("emulator/emulator.cc")
        .file("emulator/kernels.cc")
        .compile("jit_emulator");
}
