//! Weight files that others wrote, and those we write ourselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jit_model::weights::{Dtype, File, TensorData, WeightsError, load_state, write_safetensors};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Every name and shape in a state dict of the reference's checkpoint: 3 blocks of width 32.
fn reference_shapes() -> BTreeMap<String, Vec<usize>> {
    let mut shapes: Vec<(String, &[usize])> = [
        ("net.pos_embed", &[1, 16, 32][..]),
        ("net.in_context_posemb", &[1, 4, 32]),
        ("net.t_embedder.mlp.0.weight", &[32, 256]),
        ("net.t_embedder.mlp.0.bias", &[32]),
        ("net.t_embedder.mlp.2.weight", &[32, 32]),
        ("net.t_embedder.mlp.2.bias", &[32]),
        ("net.y_embedder.embedding_table.weight", &[11, 32]),
        ("net.x_embedder.proj1.weight", &[8, 3, 4, 4]),
        ("net.x_embedder.proj2.weight", &[32, 8, 1, 1]),
        ("net.x_embedder.proj2.bias", &[32]),
        ("net.final_layer.norm_final.weight", &[32]),
        ("net.final_layer.linear.weight", &[48, 32]),
        ("net.final_layer.linear.bias", &[48]),
        ("net.final_layer.adaLN_modulation.1.weight", &[64, 32]),
        ("net.final_layer.adaLN_modulation.1.bias", &[64]),
    ]
    .map(|(name, shape)| (name.to_string(), shape))
    .to_vec();
    for block in 0..3 {
        let in_block: [(&str, &[usize]); 14] = [
            ("norm1.weight", &[32]),
            ("attn.q_norm.weight", &[16]),
            ("attn.k_norm.weight", &[16]),
            ("attn.qkv.weight", &[96, 32]),
            ("attn.qkv.bias", &[96]),
            ("attn.proj.weight", &[32, 32]),
            ("attn.proj.bias", &[32]),
            ("norm2.weight", &[32]),
            ("adaLN_modulation.1.weight", &[192, 32]),
            ("adaLN_modulation.1.bias", &[192]),
            ("mlp.w12.weight", &[170, 32]),
            ("mlp.w12.bias", &[170]),
            ("mlp.w3.weight", &[32, 85]),
            ("mlp.w3.bias", &[32]),
        ];
        shapes.extend(in_block.map(|(name, shape)| (format!("net.blocks.{block}.{name}"), shape)));
    }
    shapes.into_iter().map(|(name, shape)| (name, shape.to_vec())).collect()
}

#[test]
fn all_sets_of_a_reference_checkpoint_are_read() {
    let path = golden("checkpoint-last.pth");
    let mut means = Vec::new();
    for set in ["model", "model_ema1", "model_ema2"] {
        let loaded = load_state(&path, Some(set)).unwrap();
        assert_eq!(loaded.set, set);
        assert_eq!(loaded.available, ["model", "model_ema1", "model_ema2"]);
        let shapes = loaded.tensors.iter().map(|(name, t)| (name.clone(), t.shape.clone()));
        assert_eq!(shapes.collect::<BTreeMap<_, _>>(), reference_shapes());
        for (name, tensor) in &loaded.tensors {
            let TensorData::F32(data) = &tensor.data else { panic!("{name} is not f32") };
            assert!(data.iter().all(|x| x.is_finite()), "{name} of {set} is not finite");
            assert_eq!(data.len(), tensor.shape.iter().product::<usize>(), "{name}");
        }
        let table = loaded.tensors["net.y_embedder.embedding_table.weight"].to_f32();
        means.push(table.iter().sum::<f32>());
        // Row 0 of the fixed positions is (sin 0, cos 0) for both axes.
        let positions = loaded.tensors["net.pos_embed"].to_f32();
        let first: Vec<f32> = [0.0; 8].iter().chain(&[1.0; 8]).copied().collect();
        assert_eq!(positions[..32], [&first[..], &first[..]].concat());
        assert_eq!(loaded.metadata["epoch"], "7");
        assert_eq!(loaded.metadata["args.img_size"], "16");
        assert_eq!(loaded.metadata["args.P_mean"], "-0.8");
        assert_eq!(loaded.metadata["args.use_nonlinear"], "True");
        assert_eq!(loaded.metadata["args.sampling_method"], "euler");
    }
    assert!(means[0] != means[1] && means[1] != means[2], "the sets are one and the same");
}

#[test]
fn a_checkpoint_is_open_to_inspection() {
    let file = File::open(&golden("checkpoint-last.pth")).unwrap();
    let root = file.as_pth().unwrap().root();
    assert_eq!(root.get("epoch").unwrap().as_i64(), Some(7));
    let args = root.get("args").unwrap();
    assert_eq!(args.as_call().unwrap().0, ("argparse", "Namespace"));
    assert_eq!(args.get("ema_decay1").unwrap().as_f64(), Some(0.999));
    assert_eq!(file.shape("optimizer.state.6.exp_avg"), Some(vec![96]));
    let info = file.info("model.net.blocks.2.attn.qkv.weight").unwrap();
    assert_eq!((info.dtype, info.shape), (Some(Dtype::F32), vec![96, 32]));
    let step = file.tensor("optimizer.state.0.step").unwrap();
    assert_eq!((step.shape.len(), step.to_f32().len()), (0, 1));
}

#[test]
fn a_safetensors_file_of_the_reference_is_read() {
    let file = File::open(&golden("checkpoint-last.expected.safetensors")).unwrap();
    let labels = file.tensor("y").unwrap();
    assert!(labels.to_i64().unwrap().iter().all(|y| (0..=10).contains(y)));
    assert_eq!(file.shape("z"), file.shape("x_pred.model"));
    assert_eq!(file.metadata()["epoch"], "7");
    assert!(file.tensor("t").unwrap().to_i64().is_none());
}

#[test]
fn wrong_names_are_answered_with_the_right_ones() {
    let path = golden("checkpoint-last.pth");
    let message = load_state(&path, Some("modle_ema1")).unwrap_err().to_string();
    assert!(message.contains("(did you mean `model_ema1`?)"), "{message}");
    assert!(message.contains("it has `model`, `model_ema1`, `model_ema2`"), "{message}");
    let missing = File::open(&path).unwrap().tensor("model.net.pos_emed").unwrap_err().to_string();
    assert!(missing.contains("did you mean `model.net.pos_embed`?"), "{missing}");
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let many: Vec<f32> = (0..50_000).map(|i| (i as f32).sin()).collect();
    let tensors: [(&str, &[usize], &[f32]); 4] = [
        ("ema0.999.net.b", &[50, 1000], &many),
        ("model.net.a", &[], &[f32::MIN_POSITIVE]),
        ("model.net.none", &[0, 3], &[]),
        ("model.net.special", &[3], &[f32::NEG_INFINITY, -0.0, f32::MAX]),
    ];
    let metadata = BTreeMap::from([("config".to_string(), "{\"a\": \"ü\"}".to_string())]);
    write_safetensors(&path, tensors, &metadata).unwrap();

    let file = File::open(&path).unwrap();
    assert_eq!(file.names().len(), 4);
    assert_eq!(*file.metadata(), metadata);
    for (name, shape, data) in tensors {
        let read = file.tensor(name).unwrap();
        assert_eq!(read.shape, shape);
        let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.into_f32()), bits(data), "{name}");
    }
    let averaged = load_state(&path, Some("ema0.999")).unwrap();
    assert_eq!(averaged.tensors["net.b"].shape, [50, 1000]);
    assert_eq!(load_state(&path, None).unwrap().tensors.len(), 3);

    // The format's own library reads the same, and the bytes depend on the arguments alone.
    let bytes = std::fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("model.net.special").unwrap().data()[4..8], (-0.0f32).to_le_bytes());
    write_safetensors(&path, tensors, &metadata).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn every_element_type_of_safetensors_is_read() {
    use safetensors::tensor::{Dtype as Theirs, TensorView};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("types.safetensors");
    let cases: [(Theirs, Vec<u8>, Option<TensorData>); 9] = [
        (Theirs::F32, 1.5f32.to_le_bytes().into(), Some(TensorData::F32(vec![1.5]))),
        (Theirs::F64, 1.5f64.to_le_bytes().into(), Some(TensorData::F64(vec![1.5]))),
        (Theirs::F16, vec![0x00, 0x3e], Some(TensorData::F32(vec![1.5]))),
        (Theirs::BF16, vec![0xc0, 0x3f], Some(TensorData::F32(vec![1.5]))),
        (Theirs::I64, (-7i64).to_le_bytes().into(), Some(TensorData::I64(vec![-7]))),
        (Theirs::I32, (-7i32).to_le_bytes().into(), Some(TensorData::I64(vec![-7]))),
        (Theirs::U8, vec![200], Some(TensorData::U8(vec![200]))),
        (Theirs::BOOL, vec![1], Some(TensorData::U8(vec![1]))),
        (Theirs::I16, vec![1, 0], None),
    ];
    let views = cases.iter().map(|(dtype, bytes, _)| {
        (format!("{dtype:?}"), TensorView::new(*dtype, vec![1], bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let file = File::open(&path).unwrap();
    for (dtype, _, expected) in cases {
        match (file.tensor(&format!("{dtype:?}")), expected) {
            (Ok(tensor), Some(expected)) => assert_eq!(tensor.data, expected, "{dtype:?}"),
            (Err(WeightsError::Dtype { dtype, .. }), None) => assert_eq!(dtype, "I16"),
            (other, _) => panic!("{dtype:?}: {other:?}"),
        }
    }
}

#[test]
fn writing_checks_names_and_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let refused = |tensors: &[(&'static str, &'static [usize], &'static [f32])]| {
        let tensors = tensors.iter().copied();
        let error = write_safetensors(&path, tensors, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, WeightsError::Tensor { .. }), "{error}");
        assert!(!path.exists());
    };
    refused(&[("a", &[2], &[1.0])]);
    refused(&[("a", &[1], &[1.0]), ("a", &[1], &[1.0])]);
    refused(&[("__metadata__", &[1], &[1.0])]);
}
