//! The names that weights of JiT have in the layout of diffusers (`JiTTransformer2DModel`).

/// A tensor that every JiT network has, without what may stand before it.
const FIRST: &str = "x_embedder.proj1.weight";
/// The module inside which older files have the network.
const MODULE: &str = "transformer.";

/// The reference's names for `names`, if they are those of a network that is not called `net`.
pub(super) fn reference_names(names: &[String]) -> Option<Vec<String>> {
    let prefix = [MODULE, ""].into_iter().find(|prefix| {
        names.iter().any(|name| name.strip_prefix(prefix).is_some_and(|rest| rest == FIRST))
    })?;
    Some(
        names
            .iter()
            .map(|name| reference_name(name.strip_prefix(prefix).unwrap_or(name)))
            .collect(),
    )
}

fn reference_name(name: &str) -> String {
    // The activation before it is a module of its own there, so that the layer has no number.
    const MODULATION: &str = "adaLN_modulation";
    let renamed = |module: &str, last: &str| format!("net.{module}.{last}");
    match name.rsplit_once('.') {
        Some(("norm_final", last)) => renamed("final_layer.norm_final", last),
        Some(("linear_final", last)) => renamed("final_layer.linear", last),
        Some(("adaLN_modulation_final", last)) => {
            renamed(&format!("final_layer.{MODULATION}.1"), last)
        }
        Some((module, last)) if module.ends_with(MODULATION) => {
            renamed(&format!("{module}.1"), last)
        }
        _ => format!("net.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(names: &[&str]) -> Option<Vec<String>> {
        reference_names(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn both_layouts_have_the_references_names() {
        let expected = [
            "net.x_embedder.proj1.weight",
            "net.blocks.3.adaLN_modulation.1.bias",
            "net.blocks.3.attn.qkv.weight",
            "net.final_layer.norm_final.weight",
            "net.final_layer.linear.bias",
            "net.final_layer.adaLN_modulation.1.weight",
        ];
        let native = [
            "x_embedder.proj1.weight",
            "blocks.3.adaLN_modulation.bias",
            "blocks.3.attn.qkv.weight",
            "norm_final.weight",
            "linear_final.bias",
            "adaLN_modulation_final.weight",
        ];
        assert_eq!(renamed(&native).unwrap(), expected);
        let older = expected.map(|name| name.replacen("net.", MODULE, 1));
        assert_eq!(renamed(&older.each_ref().map(|name| &name[..])).unwrap(), expected);
        let bare = expected.map(|name| name.replacen("net.", "", 1));
        assert_eq!(renamed(&bare.each_ref().map(|name| &name[..])).unwrap(), expected);
    }

    #[test]
    fn other_names_are_left_alone() {
        assert_eq!(renamed(&["net.x_embedder.proj1.weight"]), None);
        assert_eq!(renamed(&["features.0.weight"]), None);
    }
}
