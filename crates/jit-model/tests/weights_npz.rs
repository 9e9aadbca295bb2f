//! NumPy archives: those NumPy wrote, those we write, and those that lie.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

use std::io::{Cursor, Write};
use std::path::Path;

use jit_model::weights::{Npz, Tensor, TensorData, WeightsError, write_npz};
use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A `.npy` of version `major` with the header `dict`.
fn npy(major: u8, dict: &str, data: &[u8]) -> Vec<u8> {
    let length = (dict.len() as u32).to_le_bytes();
    let length = if major == 1 { &length[..2] } else { &length[..] };
    [b"\x93NUMPY", &[major, 0][..], length, dict.as_bytes(), data].concat()
}

/// Reads the array `a` of an archive that holds `npy` under this name.
fn read(npy: &[u8]) -> Result<Tensor, WeightsError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("a.npy", SimpleFileOptions::default()).unwrap();
    zip.write_all(npy).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
    Npz::open(&path)?.array("a")
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples.npz");
    let arrays = [
        ("mu", Tensor { shape: vec![3], data: TensorData::F64(vec![0.1, -2.0, 1e300]) }),
        ("x", Tensor { shape: vec![], data: TensorData::F32(vec![-0.5]) }),
        ("arr_1", Tensor { shape: vec![2, 1], data: TensorData::I64(vec![-1, i64::MAX]) }),
        ("none", Tensor { shape: vec![0, 5], data: TensorData::U8(vec![]) }),
    ];
    let image: Vec<u8> = (0..48).collect();
    write_npz(&path, |npz| {
        npz.stream_u8("arr_0", &[3, 4, 4, 3], |out| {
            (0..3).try_for_each(|_| out.write_all(&image))
        })?;
        arrays.iter().try_for_each(|(name, tensor)| npz.array(name, tensor))
    })
    .unwrap();
    let npz = Npz::open(&path).unwrap();
    assert_eq!(npz.names(), ["arr_0", "mu", "x", "arr_1", "none"]);
    for (name, tensor) in &arrays {
        assert_eq!(npz.array(name).unwrap(), *tensor, "{name}");
    }
    let images = npz.array("arr_0").unwrap();
    assert_eq!((images.shape, images.data), (vec![3, 4, 4, 3], TensorData::U8(image.repeat(3))));
    let missing = npz.array("arr_2").unwrap_err().to_string();
    assert!(missing.contains("did you mean `arr_"), "{missing}");
}

#[test]
fn an_array_of_another_size_than_its_shape_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    for written in [5, 7] {
        let result = write_npz(&path, |npz| {
            npz.stream_u8("arr_0", &[2, 3], |out| out.write_all(&vec![1; written]))
        });
        assert!(result.is_err() && !path.exists(), "{written} bytes");
    }
}

/// `mu` and `sigma` that NumPy saved: plain, and by `savez_compressed` with `mu = arange(1000) / 8`
/// and `sigma = asfortranarray(arange(6.).reshape(2, 3))`.
#[test]
fn statistics_that_numpy_saved_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let f64s = |npz: &Npz, name: &str| match npz.array(name).unwrap().data {
        TensorData::F64(v) => v,
        other => panic!("{name} is {other:?}"),
    };
    let plain = Npz::open(&golden.join("stats_real_a.npz")).unwrap();
    assert_eq!(plain.names(), ["mu", "sigma"]);
    assert_eq!(plain.array("sigma").unwrap().shape, [48, 48]);
    let (mu, sigma) = (f64s(&plain, "mu"), f64s(&plain, "sigma"));
    assert_eq!((mu[0], mu[47]), (0.3411584427477792, 0.4179669390935451));
    assert_eq!((sigma[0], sigma[48 * 48 - 1]), (0.2690991715463232, 0.436654825200419));
    let compressed = Npz::open(&golden.join("numpy_compressed.npz")).unwrap();
    let expected: Vec<f64> = (0..1000).map(|i| f64::from(i) / 8.0).collect();
    assert_eq!(f64s(&compressed, "mu"), expected);
    assert_eq!(compressed.array("sigma").unwrap().shape, [2, 3]);
    assert_eq!(f64s(&compressed, "sigma"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

/// The bytes of `np.save(f, np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)))`, and the
/// same under the wider length of the later versions.
#[test]
fn fortran_order_becomes_row_major() {
    let dict = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
    let dict = format!("{dict:117}\n");
    let data: Vec<u8> = [0.0f32, 3.0, 1.0, 4.0, 2.0, 5.0].map(f32::to_le_bytes).concat();
    for major in [1, 2, 3] {
        let array = read(&npy(major, &dict, &data)).unwrap();
        assert_eq!(array.shape, [2, 3]);
        assert_eq!(array.data, TensorData::F32(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    }
}

#[test]
fn every_element_type_is_read() {
    let cases: [(&str, &[u8], TensorData); 7] = [
        ("|u1", &[200], TensorData::U8(vec![200])),
        ("|b1", &[1], TensorData::U8(vec![1])),
        ("<i4", &(-7i32).to_le_bytes(), TensorData::I64(vec![-7])),
        ("<i8", &(-7i64).to_le_bytes(), TensorData::I64(vec![-7])),
        ("<f2", &[0x00, 0x3e], TensorData::F32(vec![1.5])),
        ("<f4", &1.5f32.to_le_bytes(), TensorData::F32(vec![1.5])),
        ("<f8", &1.5f64.to_le_bytes(), TensorData::F64(vec![1.5])),
    ];
    for (descr, bytes, expected) in cases {
        let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}");
        assert_eq!(read(&npy(1, &dict, bytes)).unwrap().data, expected, "{descr}");
    }
}

#[test]
fn lies_are_refused() {
    let refused = |npy: &[u8], part: &str| {
        let message = read(npy).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    };
    let with = |descr: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
    };
    refused(b"\x93NUM", "entry `a.npy`");
    refused(b"PK\x03\x04 and so on", "no .npy array");
    refused(&npy(4, &with("'<f4'", "(1,)"), &[0; 4]), "no .npy array");
    refused(&npy(1, &with("'<f4'", "(1000000000000,)"), &[0; 4]), "4 bytes of data are no F32");
    refused(&npy(1, &with("'<f4'", "(4294967296, 4294967296)"), &[0; 4]), "4 bytes of data");
    refused(&npy(1, &with("'<f4'", "(-1,)"), &[0; 4]), "`-1`");
    refused(&npy(1, &with("'<f4'", "3"), &[0; 4]), "no tuple");
    refused(&npy(1, &with("'|O'", "(1,)"), &[0; 4]), "`|O`");
    refused(&npy(1, &with("'>f4'", "(1,)"), &[0; 4]), "`>f4`");
    refused(&npy(1, "{}", &[0; 4]), "no `descr`");
    refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "claims 4294967295 bytes");
    assert!(Npz::open(Path::new(file!())).is_err());
}

proptest! {
    #[test]
    fn damage_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let dict = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
        let mut bytes = npy(1, dict, &[7; 24]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(tensor) = read(&bytes) {
            prop_assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len());
        }
    }
}
