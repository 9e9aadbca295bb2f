//! The kernels' source, as NVRTC is given it.

/// Files in an order in which each stands on those before it, without their `#include`s and `#pragma once`.
macro_rules! source {
    ($($file:literal),* $(,)?) => {
        /// The name and the text of each file.
        pub const FILES: &[(&str, &str)] = &[
            $(($file, include_str!(concat!("../../kernels/", $file)))),*
        ];
    };
}

source!(
    "common.cuh",
    "philox.cuh",
    "elementwise.cu",
    "activation.cu",
    "swiglu.cu",
    "rms_norm.cu",
    "residual.cu",
    "reduce.cu",
    "tokens.cu",
    "patchify.cu",
    "dropout.cu",
    "losses.cu",
    "adamw.cu",
    "attention.cu",
    "attention_rows.cuh",
    "attention_mma.cu",
);

/// All of them as one source: nothing is included from anywhere.
pub fn source() -> String {
    let mut text = String::new();
    for (file, content) in FILES {
        // Lines keep their numbers in what the compiler says.
        text.push_str(&format!("#line 1 \"{file}\"\n"));
        for line in content.lines() {
            if !line.starts_with("#include") && !line.starts_with("#pragma once") {
                text.push_str(line);
            }
            text.push('\n');
        }
    }
    text
}
