//! `jit train --init`: a run that begins with the weights of another.

#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use jit_model::weights::File;

/// The largest difference between two weight files, apart from the table of classes.
fn difference(place: &Place, [a, b]: [&str; 2]) -> f32 {
    let open = |name: &str| File::open(&place.path(name)).unwrap();
    let (a, b) = (open(a), open(b));
    let names = a.names().into_iter().filter(|name| !name.starts_with("net.y_embedder."));
    let values = |file: &File, name: &str| file.tensor(name).unwrap().into_f32();
    names.fold(0.0, |most, name| {
        let pairs = values(&a, &name).into_iter().zip(values(&b, &name));
        pairs.fold(most, |most: f32, (a, b)| most.max((a - b).abs()))
    })
}

#[test]
fn a_run_begins_with_given_weights_and_goes_on_without_them() {
    let place = Place::new();
    place.ok("train --config tiny.toml --out a --max-steps 2");
    let before = "a/checkpoints/step-00000002/ema-0.9.safetensors";
    place.ok("convert a a.safetensors");
    std::fs::rename(place.path("a"), place.path("moved")).unwrap();
    let before = before.replacen('a', "moved", 1);
    let still = "--config tiny.toml --seed 9 --lr 1e-9";
    place.ok(&format!("train {still} --init moved --out folder --max-steps 1"));
    place.ok(&format!("train {still} --init a.safetensors --out b --max-steps 1"));
    place.ok(&format!("train {still} --out random --max-steps 1"));
    let after = |run: &str| format!("{run}/checkpoints/step-00000001/model.safetensors");
    for run in ["folder", "b"] {
        assert!(difference(&place, [&before, &after(run)]) < 1e-6, "{run}");
    }
    assert!(difference(&place, [&before, &after("random")]) > 1e-3);

    // The file is not read again, and the option is part of what the run is.
    std::fs::remove_file(place.path("a.safetensors")).unwrap();
    place.ok(&format!("train {still} --init a.safetensors --out b --max-steps 2"));
    let message = place.fails(2, &format!("train {still} --out b --max-steps 3"));
    assert!(message.contains("train.init: started with \"a.safetensors\", now unset"), "{message}");
    let message = place.fails(1, &format!("train {still} --init a.safetensors --out c"));
    assert!(message.contains("a.safetensors"), "{message}");
}

#[test]
fn other_classes_are_learnt_anew_and_other_shapes_named() {
    let place = Place::new();
    place.ok("train --config tiny.toml --out a --max-steps 2");
    for (i, class) in ["cat", "dog", "cat", "dog"].into_iter().enumerate() {
        place.picture(&format!("pictures/{class}/{i}.png"), 28, 28, i);
    }
    let line =
        "train --config tiny.toml --data pictures --set data.subset=1 --init a --global-batch 4";
    let message = place.fails(2, &format!("{line} --out b --max-steps 1"));
    let named =
        "`net.y_embedder.embedding_table.weight` has shape [11, 16], and the run's has [3, 16]";
    assert!(message.contains(named), "{message}");
    assert!(message.contains("add --reinit class_embed"), "{message}");
    place.ok(&format!("{line} --reinit class_embed --lr 1e-9 --out c --max-steps 1"));
    let files = ["a/checkpoints/step-00000002/ema-0.9", "c/checkpoints/step-00000001/model"];
    let files = files.map(|file| format!("{file}.safetensors"));
    assert!(difference(&place, [&files[0], &files[1]]) < 1e-6);

    let wide = "train --config tiny.toml --init a --set model.hidden_size=32 --out d";
    let message = place.fails(2, wide);
    assert!(message.contains("`net.x_embedder.proj2.weight` has shape [16, 8, 1, 1]"), "{message}");
    assert!(message.contains("and the run's has [32, 8, 1, 1]"), "{message}");
    assert!(message.contains(" more; give the run the shape of these weights"), "{message}");
    let message = place.fails(2, "train --config tiny.toml --reinit class_embed --out e");
    assert!(message.contains("train.reinit"), "{message}");
}
