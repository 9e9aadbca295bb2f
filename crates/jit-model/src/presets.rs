//! The reference's network shapes: B, L, H and G at patch 16, 32 and 64.

use crate::config::ModelConfig;

struct Size {
    letter: &'static str,
    depth: usize,
    hidden_size: usize,
    num_heads: usize,
    bottleneck_dim: usize,
    in_context_start: usize,
    /// After attention's output and inside the MLP; attention's probabilities have none.
    projection_dropout: f32,
    /// Guidance of the published evaluations at patch 16, 32 and 64. None were published at patch
    /// 64, nor of G: they have their neighbour's.
    guidance: [f32; 3],
}

/// Spec §1, table of presets.
#[rustfmt::skip]
const SIZES: [Size; 4] = [
    Size { letter: "B", depth: 12, hidden_size:  768, num_heads: 12, bottleneck_dim: 128, in_context_start:  4, projection_dropout: 0.0, guidance: [3.0, 3.0, 3.0] },
    Size { letter: "L", depth: 24, hidden_size: 1024, num_heads: 16, bottleneck_dim: 128, in_context_start:  8, projection_dropout: 0.0, guidance: [2.4, 2.5, 2.5] },
    Size { letter: "H", depth: 32, hidden_size: 1280, num_heads: 16, bottleneck_dim: 256, in_context_start: 10, projection_dropout: 0.2, guidance: [2.2, 2.3, 2.3] },
    Size { letter: "G", depth: 40, hidden_size: 1664, num_heads: 16, bottleneck_dim: 256, in_context_start: 10, projection_dropout: 0.2, guidance: [2.2, 2.3, 2.3] },
];

/// Patch sizes; each preset has 16 × 16 patches, at 256², 512² and 1024².
const PATCHES: [usize; 3] = [16, 32, 64];

/// The names of all model presets, `JiT-B/16` to `JiT-G/64`.
pub fn names() -> Vec<String> {
    SIZES
        .iter()
        .flat_map(|s| PATCHES.iter().map(move |p| format!("JiT-{}/{p}", s.letter)))
        .collect()
}

/// The size of the preset called `name`, and the index of its patch size.
fn find(name: &str) -> Option<(&'static Size, usize)> {
    let (letter, patch) = name.strip_prefix("JiT-")?.split_once('/')?;
    let size = SIZES.iter().find(|s| s.letter == letter)?;
    Some((size, PATCHES.iter().position(|p| p.to_string() == patch)?))
}

/// The scale of guidance with which the preset called `name` was evaluated, if there is one.
pub fn guidance(name: &str) -> Option<f32> {
    find(name).map(|(size, patch)| size.guidance[patch])
}

/// The preset called `name`, if there is one.
pub fn model(name: &str) -> Option<ModelConfig> {
    let (size, patch) = find(name)?;
    let patch_size = PATCHES[patch];
    Some(ModelConfig {
        image_size: 16 * patch_size,
        patch_size,
        depth: size.depth,
        hidden_size: size.hidden_size,
        num_heads: size.num_heads,
        bottleneck_dim: size.bottleneck_dim,
        in_context_len: 32,
        in_context_start: size.in_context_start,
        projection_dropout: size.projection_dropout,
        ..ModelConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Net;

    #[test]
    fn every_preset_is_valid_and_as_large_as_published() {
        assert_eq!(names().len(), 12);
        for name in names() {
            assert_eq!(model(&name).unwrap().validate(), Ok(()), "{name}");
        }
        // Spec §1: 131 M, 459 M, 953 M and 2 B parameters.
        for (name, millions, tolerance) in [
            ("JiT-B/16", 131, 1),
            ("JiT-L/16", 459, 1),
            ("JiT-H/16", 953, 1),
            ("JiT-G/16", 2000, 60),
        ] {
            let net = Net::new(&model(name).unwrap());
            let have = (net.registry().numel() as f64 / 1e6).round() as i64;
            assert!((have - millions).abs() <= tolerance, "{name} has {have} M parameters");
        }
        assert_eq!(model("JiT-B/8"), None);
        assert_eq!(guidance("JiT-B/8"), None);
        let published = ["JiT-B/32", "JiT-L/16", "JiT-L/32", "JiT-H/16", "JiT-H/32"];
        assert_eq!(published.map(|n| guidance(n).unwrap()), [3.0, 2.4, 2.5, 2.2, 2.3]);
        let huge = model("JiT-H/16").unwrap();
        assert_eq!((huge.attention_dropout, huge.projection_dropout), (0.0, 0.2));
        assert_eq!(model("JiT-B/32").unwrap().image_size, 512);
    }
}
