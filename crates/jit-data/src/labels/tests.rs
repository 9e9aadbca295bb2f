use std::fs;
use std::path::PathBuf;

use super::*;
use crate::grid::png_bytes;
use crate::{DataConfig, open};

/// A validation archive of five pictures whose shades are 0, 10, …, and a folder for lists.
fn validation() -> (tempfile::TempDir, DataConfig) {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for i in [3u8, 0, 4, 1, 2] {
        let picture = png_bytes(&[10 * i; 24], 6, 4, 1).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(picture.len() as u64);
        let name = format!("ILSVRC2012_val_0000000{}.JPEG", i + 1);
        tar.append_data(&mut header, name, &picture[..]).unwrap();
    }
    let path = dir.path().join("ILSVRC2012_img_val.tar");
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    let config = DataConfig { path: path.display().to_string(), ..DataConfig::default() };
    (dir, config)
}

/// The class names, and the class of each picture in the order of their shades.
fn classes(config: &DataConfig) -> Result<(Vec<String>, Vec<u32>), String> {
    let dataset = open(config, 4, 1, 0).map_err(|error| error.to_string())?;
    let mut planes = vec![0; dataset.sample_len()];
    for i in 0..dataset.len() {
        dataset.load(i, &mut planes).unwrap();
        assert_eq!(planes[0], 10 * i as u8);
    }
    let labels = (0..dataset.len()).map(|i| dataset.label(i)).collect();
    Ok((dataset.class_names().to_vec(), labels))
}

/// The same with a list of classes.
fn with(list: &str, name: &str) -> Result<(Vec<String>, Vec<u32>), String> {
    let (dir, mut config) = validation();
    let path = dir.path().join(name);
    fs::write(&path, list).unwrap();
    config.labels = path.display().to_string();
    classes(&config)
}

fn devkit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/labels/devkit.tar.gz")
}

const FOX: &str = "n02119789";
const SETTER: &str = "n02100735";
const TENCH: &str = "n01440764";

/// As the devkit in `tests/labels` tells: 3 1 2 3 1.
fn expected() -> (Vec<String>, Vec<u32>) {
    ([TENCH, SETTER, FOX].map(str::to_owned).into(), vec![0, 2, 1, 0, 2])
}

#[test]
fn all_forms_of_the_ground_truth_agree_with_the_training_archive() {
    let (_dir, mut config) = validation();
    config.labels = devkit().display().to_string();
    assert_eq!(classes(&config).unwrap(), expected());
    let kaggle = format!(
        "ImageId,PredictionString\nILSVRC2012_val_00000003,{SETTER} 85 1 499 272 \n\
         ILSVRC2012_val_00000001,{TENCH} 1 2 3 4 {TENCH} 5 6 7 8 \n\
         ILSVRC2012_val_00000002,{FOX} 1 1 2 2 \nILSVRC2012_val_00000005,{FOX} 1 1 2 2 \n\
         ILSVRC2012_val_00000004,{TENCH} 1 1 2 2 \n"
    );
    assert_eq!(with(&kaggle, "LOC_val_solution.csv").unwrap(), expected());
    let wnids = [TENCH, FOX, SETTER, TENCH, FOX].join("\n");
    assert_eq!(with(&wnids, "wnids.txt").unwrap(), expected());
    let numbers: String = (0..5)
        .map(|i| format!("ILSVRC2012_val_0000000{}.JPEG {}\n", i + 1, [0, 2, 1, 0, 2][i]))
        .collect();
    let (names, labels) = with(&numbers, "val.txt").unwrap();
    assert_eq!((&names[..], labels), (&["0", "1", "2"].map(str::to_owned)[..], expected().1));
    assert_eq!(with("0\n2\n1\n0\n2\n", "numbers.txt").unwrap().1, expected().1);
}

#[test]
fn lists_that_do_not_fit_say_why() {
    let told = |list: &str, part: &str| {
        let message = with(list, "list.txt").unwrap_err();
        assert!(
            message.contains("list.txt` cannot be used") && message.contains(part),
            "{message}"
        );
    };
    told("", "it is empty");
    told("0\n1\n", "it has 2 classes for 5 images");
    told("3\n1\n2\n3\n1\n", "give the archive ILSVRC2012_devkit_t12.tar.gz");
    told(
        "ILSVRC2012_val_00000001 a\n",
        "does not tell the class of `ILSVRC2012_val_00000002.JPEG`",
    );
    told("a\nb c\nd\n", "some lines have one word");
    told("0\n1\n2\n3\n4000000\n", "class 4000000 is beyond");
    let (dir, mut config) = validation();
    let whole = fs::read(devkit()).unwrap();
    let path = dir.path().join("devkit.tar.gz");
    config.labels = path.display().to_string();
    for length in [0, 10, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        let message = classes(&config).unwrap_err();
        assert!(message.contains("devkit.tar.gz") && message.contains("it "), "{message}");
    }
    config.labels = "/no/such/list".into();
    assert!(classes(&config).unwrap_err().contains("cannot read `/no/such/list`"));
    // Pictures in folders of their class need no list.
    config.path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parquet/hub.parquet")
        .display()
        .to_string();
    config.labels = devkit().display().to_string();
    assert!(classes(&config).is_err_and(|message| message.contains("have classes already")));
}

/// The classes of pictures of these names, in order, by a list.
fn listed(pictures: &[&str], list: &str) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (dir.path().join("data"), dir.path().join("list.csv"));
    for name in pictures {
        let path = data.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png_bytes(&[1; 24], 6, 4, 1).unwrap()).unwrap();
    }
    fs::write(&path, list).unwrap();
    let mut folder = crate::scan::scan(&data).unwrap();
    apply(&mut folder, &path).map_err(|error| error.to_string())?;
    let name = |file: &crate::place::FileEntry| folder.class_names[file.label as usize].clone();
    Ok(folder.files.iter().map(name).collect())
}

#[test]
fn tables_are_read_as_csv() {
    let four = |list: &str| listed(&["1.png", "2.png", "3.png", "4.png"], list);
    let multi =
        "1.png,polar bear\n2.png,polar fox\n3.png,great white shark\n4.png,great grey owl\n";
    let expected = ["polar bear", "polar fox", "great white shark", "great grey owl"];
    assert_eq!(four(multi).unwrap(), expected);
    let animals = ["frog", "truck", "frog", "cat"];
    let lines = |separator: &str| -> String {
        (1..5).map(|i| format!("{i}.png{separator}{}\r\n", animals[i - 1])).collect()
    };
    for separator in [";", "\t", " ", " , "] {
        assert_eq!(four(&lines(separator)).unwrap(), animals, "{separator:?}");
    }
    assert_eq!(four(&format!("\u{FEFF}{}", lines(","))).unwrap(), animals);
    assert_eq!(four(&format!("filename,label\n{}\n\n", lines(","))).unwrap(), animals);
    let quoted = "\"1.png\",\"cat, tabby\"\n\"2.png\",\"say \"\"x\"\"\"\n3.png,a\n4.png,a\n";
    assert_eq!(four(quoted).unwrap(), ["cat, tabby", "say \"x\"", "a", "a"]);
    let spaced = listed(&["b.png", "my photo.png"], "my photo.png,dog\nb.png,cat\n");
    assert_eq!(spaced.unwrap(), ["cat", "dog"]);
    // Columns by their names; boxes behind a class.
    let more = "split,path,width,label\nx,1.png,3,a\nx,2.png,3,b\nx,3.png,3,b\nx,4.png,3,c\n";
    assert_eq!(four(more).unwrap(), ["a", "b", "b", "c"]);
    let boxes: String = (1..5).map(|i| format!("{i}.png\tn0{i}\t0\t0\t{i}\t9\n")).collect();
    assert_eq!(four(&boxes).unwrap()[3], "n04");

    let told = |list: &str, part: &str| {
        let message = four(list).unwrap_err();
        assert!(message.contains(part), "{message}");
    };
    told(&format!("{multi}1.png,cat\n"), "tells `1.png` twice, as `polar bear` and as `cat`");
    told(&lines("|"), "`1.png|frog` names a picture");
    told("1.png,a,b,c\n2.png,a,b,c\n", "columns `1.png`, `a`, `b`, `c` are not told apart");
    told("1.png,a\n2.png,\n3.png,b\n4.png,b\n", "line 2 lacks a name or a class");
    told("1.png,0\n2.png,-1\n3.png,0\n4.png,0\n", "it has the class -1");
}

#[test]
fn names_with_dots_and_folders_are_told_apart() {
    let dotted = listed(&["img.v1.png", "img.v2.png"], "img.v1 cat\nimg.v2 dog\n").unwrap();
    assert_eq!(dotted, ["cat", "dog"]);
    let twins = listed(&["a.gif", "a.png"], "a.gif,x\na.png,y\n").unwrap();
    assert_eq!(twins, ["x", "y"]);
    let other = listed(&["a.gif", "a.png"], "train/a.jpg,x\ntest/a.jpg,y\n").unwrap_err();
    assert!(other.contains("does not tell the class of `a.gif`"), "{other}");
    assert_eq!(listed(&["a.png"], "train/a.jpg,x\n").unwrap(), ["x"]);
}

#[test]
fn classes_get_their_names_from_a_list() {
    let (dir, mut config) = validation();
    config.labels = devkit().display().to_string();
    let path = dir.path().join("LOC_synset_mapping.txt");
    config.class_names = path.display().to_string();
    let named = |list: &str| {
        fs::write(&path, list).unwrap();
        classes(&config).map(|(names, labels)| {
            assert_eq!(labels, expected().1);
            names
        })
    };
    let mapping = format!("{FOX} kit fox, Vulpes macrotis\n{TENCH} tench, Tinca tinca\n");
    let whole = named(&format!("{mapping}{SETTER}\tEnglish setter\nn9 cat\n")).unwrap();
    assert_eq!(whole, ["tench", "English setter", "kit fox"]);
    let twice = named(&format!("{mapping}{SETTER} tench\n")).unwrap();
    assert_eq!(twice, ["tench (n01440764)", "tench (n02100735)", "kit fox"]);
    assert_eq!(named("\u{FEFF}a\nb c\nd\n\n").unwrap(), ["a", "b c", "d"]);
    let message = named(&format!("{mapping}{TENCH} cat\n{SETTER} dog\n")).unwrap_err();
    assert!(message.contains("both `tench` and `cat`"), "{message}");
    let message = named(&mapping).unwrap_err();
    assert!(message.contains("no name for the class `n02100735`"), "{message}");
    assert!(message.contains("2 lines for 3 classes"), "{message}");
}

#[test]
fn no_damage_to_the_development_kit_takes_the_program_down() {
    let whole = fs::read(devkit()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("devkit.tar.gz");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, bytes).unwrap();
        let _ = devkit::classes(&path);
    }
}
