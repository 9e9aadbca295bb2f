//! `jit sample` and `jit convert` end to end.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;
use common::{Place, golden};
use jit_model::weights::{File, Npz, write_safetensors};

/// A run whose network draws more than noise: ten steps are enough to leave zero.
fn trained() -> Place {
    let place = Place::new();
    place.ok(
        "train --config tiny.toml --out run --max-steps 10 --lr 0.02 --set optim.warmup_epochs=0",
    );
    place
}

#[test]
fn images_depend_on_seed_index_and_class_alone() {
    let place = trained();
    let sample = |line: &str, name: &str| {
        place.ok(&format!("sample --checkpoint run --cfg 2 {line} --npz {name}"));
        place.bytes(name)
    };
    let base = sample("--count 7", "a.npz");
    assert_eq!(base, sample("--count 7 --batch-size 1 --threads 1", "b.npz"));
    assert_eq!(base, sample("--count 7 --batch-size 3 --threads 3", "c.npz"));
    assert_ne!(base, sample("--count 7 --seed 1", "d.npz"));
    assert_ne!(base, sample("--count 7 --weights model", "e.npz"));
    assert_ne!(base, sample("--count 7 --method euler", "f.npz"));

    place.ok("sample --checkpoint run --cfg 2 --classes 3 --count 5 --folder five");
    place.ok("sample --checkpoint run --cfg 2 --classes 1,2,3 --count 3 --folder three");
    assert_eq!(place.bytes("five/000002.png"), place.bytes("three/000002.png"));
    assert_ne!(place.bytes("five/000001.png"), place.bytes("three/000001.png"));
    assert!(place.path("five/000004.png").exists() && !place.path("five/000005.png").exists());
}

#[test]
fn every_output_has_its_size() {
    let place = trained();
    let line =
        "sample --checkpoint run/checkpoints/step-00000010 --classes 3,7 --count 4 --steps 5";
    let ran = place.ok(&format!("{line} --out a.png --trajectory t.png --npz a.npz"));
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), ["a.png", "a.npz", "t.png"]);
    let size = |name: &str| {
        let picture = jit_data::decode::decode_file(&place.path(name)).unwrap();
        (picture.width(), picture.height())
    };
    assert_eq!(size("a.png"), (2 * 30 + 2, 2 * 30 + 2), "a column a class");
    let archive = Npz::open(&place.path("a.npz")).unwrap();
    assert_eq!(archive.array("arr_0").unwrap().shape, [4, 28, 28, 1]);
    assert_eq!(archive.array("arr_1").unwrap().to_i64(), Some(vec![3, 7, 3, 7]));
    assert_eq!(size("t.png"), (5 * 30 + 2, 4 * 30 + 2), "a row an image, a column a step");
    place.ok(&format!("{line} --out same.png"));
    assert_eq!(place.bytes("a.png"), place.bytes("same.png"));
    place.ok("sample --checkpoint run");
    assert_eq!(size("samples.png"), (10 * 30 + 2, 4 * 30 + 2));
}

#[test]
fn converted_weights_draw_the_same_images() {
    let place = trained();
    place.ok("convert run avg.safetensors");
    place.ok("convert run raw.safetensors --weights model");
    let line = "--cfg 2 --count 3 --classes 4 --steps 3 --npz";
    for (weights, file) in [("ema-0.9", "avg"), ("model", "raw")] {
        place.ok(&format!("sample --checkpoint run --weights {weights} {line} run.npz"));
        place.ok(&format!("sample --checkpoint {file}.safetensors {line} file.npz"));
        assert_eq!(place.bytes("run.npz"), place.bytes("file.npz"), "{weights}");
    }
    let message = place.fails(2, "sample --checkpoint run --weights ema0.9 --out a.png");
    assert!(message.contains("no weights `ema0.9` (did you mean `ema-0.9`?)"), "{message}");
}

#[test]
fn a_reference_checkpoint_is_read_and_converted_whole() {
    let place = Place::new();
    let torch = golden("jit-model/tests/golden/checkpoint-last.pth");
    // Drawing needs one key that these tensors do not tell. Converting does not, and leaves it open.
    place.ok(&format!("convert {torch} open.safetensors"));
    for file in [&torch[..], "open.safetensors"] {
        let message = place.fails(2, &format!("sample --checkpoint {file} --out a.png"));
        assert!(message.contains("help: add `--set model.in_context_start=N`"), "{message}");
    }

    let rest = "--set model.in_context_start=1";
    place.ok(&format!("convert {torch} a.safetensors --weights model_ema2 {rest}"));
    let (from, to) =
        (File::open(torch.as_ref()).unwrap(), File::open(&place.path("a.safetensors")).unwrap());
    let prefix = "model_ema2.";
    let names = from.names().into_iter().filter(|name| name.starts_with(prefix));
    let mut names: Vec<String> = names.map(|name| name[prefix.len()..].to_string()).collect();
    let mut written = to.names();
    names.sort();
    written.sort();
    assert_eq!(names, written, "strict loading needs exactly these");
    for name in &names {
        let original = from.tensor(&format!("{prefix}{name}")).unwrap();
        assert!(original == to.tensor(name).unwrap(), "{name}");
    }

    // What the pickled arguments and the first average say is what is drawn.
    let line = "--classes 5 --count 2 --npz";
    place.ok(&format!("sample --checkpoint {torch} {rest} {line} a.npz"));
    place.ok(&format!("sample --checkpoint {torch} --weights model_ema1 {rest} {line} b.npz"));
    assert_eq!(place.bytes("a.npz"), place.bytes("b.npz"));
    place.ok(&format!("convert {torch} c.safetensors {rest}"));
    let sampler = "--method euler --steps 25 --cfg 2.9 --interval 0.1,1";
    place.ok(&format!("sample --checkpoint c.safetensors {sampler} {line} c.npz"));
    assert_eq!(place.bytes("a.npz"), place.bytes("c.npz"));
}

#[test]
fn weights_as_diffusers_shards_them_draw_the_same_images() {
    let place = trained();
    place.ok("convert run whole.safetensors");
    let whole = File::open(&place.path("whole.safetensors")).unwrap();
    let theirs = |name: &str| {
        let name =
            name.strip_prefix("net.").unwrap().replace("adaLN_modulation.1.", "adaLN_modulation.");
        let last = ["norm_final.", "linear.", "adaLN_modulation."];
        let renamed = ["norm_final.", "linear_final.", "adaLN_modulation_final."];
        match name.strip_prefix("final_layer.") {
            None => name,
            Some(rest) => last.iter().zip(renamed).fold(rest.to_string(), |name, (from, to)| {
                if rest.starts_with(from) { name.replacen(from, to, 1) } else { name }
            }),
        }
    };
    let tensors: Vec<_> = whole
        .names()
        .into_iter()
        .map(|name| {
            let tensor = whole.tensor(&name).unwrap();
            (theirs(&name), tensor.shape.clone(), tensor.into_f32())
        })
        .collect();
    let folder = place.path("hub/transformer");
    std::fs::create_dir_all(&folder).unwrap();
    let mut map = serde_json::Map::new();
    for (i, shard) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let file = format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", i + 1);
        let shard: Vec<_> = shard.iter().map(|(n, s, v)| (&n[..], &s[..], &v[..])).collect();
        map.extend(shard.iter().map(|(name, ..)| (name.to_string(), file.clone().into())));
        write_safetensors(&folder.join(file), shard, &Default::default()).unwrap();
    }
    let index = folder.join("diffusion_pytorch_model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    let config = serde_json::json!({"_class_name": "JiTTransformer2DModel", "in_context_start": 1});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();

    let line = "--cfg 2 --count 3 --classes 4 --steps 3 --npz";
    place.ok(&format!("sample --checkpoint whole.safetensors {line} whole.npz"));
    for from in ["hub", "hub/transformer/diffusion_pytorch_model.safetensors.index.json"] {
        place.ok(&format!("sample --checkpoint {from} {line} shards.npz"));
        assert_eq!(place.bytes("whole.npz"), place.bytes("shards.npz"), "{from}");
    }
    place.ok("convert hub again.safetensors");
    assert_eq!(File::open(&place.path("again.safetensors")).unwrap().names(), whole.names());
}
