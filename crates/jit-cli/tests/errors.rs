//! What `jit` says when it cannot do what was asked, and the commands that only tell.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;
use common::{Place, golden};

#[test]
fn typing_errors_name_the_nearest_right_word() {
    let place = Place::new();
    let cases = [
        ("train --preset digit", "there is no preset `digit` (did you mean `digits`?)"),
        ("train --set model.depht=3", "no option `model.depht` (did you mean `model.depth`?)"),
        ("train --set depth=3", "no option `depth` (did you mean `model.depth`?)"),
        ("train --set model.mlp=swigul", "(did you mean `swiglu`?)"),
        ("train --epochs soon", "`train.epochs` cannot be \"soon\"; expected a number"),
        ("train --set model.depth", "expected section.key=value"),
        ("train --config none.toml", "cannot read `none.toml`"),
        (
            "train --config tiny.toml --set model.patch_size=5",
            "must divide image_size = 28; try 4 or 7",
        ),
        ("info --set model.num_heads=7", "must divide hidden_size"),
        (
            "train --preset digits --device cuda:1",
            "no backend for the device `cuda:1`; it has: cpu",
        ),
        ("train --config tiny.toml --cfg nan", "cfg_scale"),
    ];
    for (line, expected) in cases {
        let message = place.fails(2, line);
        assert!(message.contains(expected), "jit {line}\n{message}");
    }
    let message = place.fails(1, "train --config tiny.toml --data digts");
    assert!(
        message.contains("no data set at `digts`") && message.contains("did you mean `digits`?")
    );
    let message = place.fails(1, "sample --checkpoint nowhere --out a.png");
    assert!(message.contains("nowhere"), "{message}");
    std::fs::create_dir(place.path("empty")).unwrap();
    let message = place.fails(1, "sample --checkpoint empty --out a.png");
    assert!(message.contains("`empty` holds no checkpoint") && message.contains("help: "));
    // What the parser itself refuses.
    let ran = place.run("train --presett digits");
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--preset"), "{}", ran.err);
    assert_eq!(place.run("tran").code, Some(2));
}

#[test]
fn a_file_with_a_wrong_key_is_named() {
    let place = Place::new();
    std::fs::write(place.path("mine.toml"), "[train]\nepoch = 3\n").unwrap();
    let message = place.fails(2, "train --config mine.toml");
    let expected = "`mine.toml`: there is no option `train.epoch` (did you mean `train.epochs`?)";
    assert!(message.contains(expected), "{message}");
    std::fs::write(place.path("mine.toml"), "[train]\nepochs = \n").unwrap();
    let message = place.fails(2, "train --config mine.toml");
    assert!(message.contains("`mine.toml` is no valid TOML") && message.contains("line 2"));
}

#[test]
fn damaged_images_stop_the_run_before_it_starts() {
    let place = Place::new();
    for i in 0..4 {
        place.picture(&format!("photos/{i}.png"), 30, 30, i);
    }
    let whole = place.bytes("photos/0.png");
    std::fs::write(place.path("photos/broken.png"), &whole[..whole.len() / 2]).unwrap();
    let line = "train --config tiny.toml --subset 1 --data photos --global-batch 2 --max-steps 2";
    let message = place.fails(1, line);
    assert!(message.contains("broken.png") && message.contains("--skip-damaged"), "{message}");
    assert!(!place.path("runs").exists(), "nothing was written");
    let ran = place.ok(&format!("{line} --skip-damaged"));
    assert!(ran.err.contains("left out `broken.png`"), "{}", ran.err);
    let manifest = String::from_utf8(place.bytes("runs/tiny/manifest.json")).unwrap();
    assert!(manifest.contains("3.png") && !manifest.contains("broken.png"));
}

#[test]
fn info_tells_the_size_of_presets_and_checkpoints() {
    let place = Place::new();
    let text = place.ok("info --preset JiT-B/16 --batch-size 2").out;
    assert!(text.contains("131.") && text.contains("2 images at once"), "{text}");
    let torch = golden("jit-model/tests/golden/checkpoint-last.pth");
    let text = place.ok(&format!("info --checkpoint {torch} --set model.in_context_start=1")).out;
    assert!(text.contains("16 x 16 x 3 in 10 classes"), "{text}");
}

#[test]
fn doctor_completions_and_options_answer() {
    let place = Place::new();
    let text = place.ok("doctor").out;
    for word in ["backends   cpu", "kernels", "threads", "memory"] {
        assert!(text.contains(word), "{word}\n{text}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.ok(&format!("completions {shell}")).out.contains("jit"), "{shell}");
    }
    assert!(place.ok("options --presets").out.lines().any(|l| l == "JiT-G/64"));
    assert!(place.ok("options").out.contains("train.global_batch"));
    let help = place.ok("train --help").out;
    assert!(help.contains("--global-batch <N>") && help.contains("Images in an optimizer step"));
    let bad = place.command("doctor").env("JIT_CPU", "avx3").output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn the_page_of_options_is_current() {
    let path = golden("../docs/options.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let current = Place::new().ok("options --markdown").out;
    assert!(page == current, "docs/options.md is old: jit options --markdown > docs/options.md");
}

#[cfg(not(feature = "mpi"))]
#[test]
fn one_of_several_processes_is_refused_by_a_build_for_one() {
    let place = Place::new();
    for (size, rank) in [
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
        ("PMI_SIZE", "PMI_RANK"),
    ] {
        let mut command = place.command("train --config tiny.toml");
        let output = command.env(size, "2").env(rank, "1").output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("started 2 processes, but this build"), "{message}");
        assert!(message.contains("--features mpi"), "{message}");
    }
    assert!(!place.path("runs").exists());
}
