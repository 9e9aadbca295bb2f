//! "Did you mean …?": the nearest valid name for a mistyped one.

/// The candidate closest to `name`, if one is close enough to be a plausible typo.
///
/// Similarity is Damerau–Levenshtein, normalised to `[0, 1]`; below 0.6 nothing is suggested,
/// since a wild guess misleads more than it helps. Case is ignored.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::normalized_damerau_levenshtein(&name, &c.to_lowercase()), c))
        .filter(|(score, _)| *score >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// `" (did you mean `X`?)"`, or an empty string when nothing is near: ready to append to an error.
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or(String::new(), |c| format!(" (did you mean `{c}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_nonsense_finds_none() {
        let names = ["JiT-B/16", "JiT-L/16", "digits"];
        assert_eq!(nearest("jit-b/16", names), Some("JiT-B/16"));
        assert_eq!(nearest("digts", names), Some("digits"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(hint("digit", names), " (did you mean `digits`?)");
        assert_eq!(hint("?", names), "");
    }
}
