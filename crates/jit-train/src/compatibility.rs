//! What may change when a run is continued, and what would make it another run.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{RunConfig, Schedule};

/// A key whose change would change the run's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key with its section, such as `optim.lr`.
    pub key: String,
    /// The value that the run was started with.
    pub saved: String,
    /// The value that it was to be continued with.
    pub now: String,
}

/// Keys that decide what is written and when, how long the run is, or where the same images lie
/// (the data's manifest is compared by itself), but not what a step computes.
const FREE: [&str; 24] = [
    "data.path",
    "data.split",
    "data.labels",
    "data.class_names",
    "data.label_key",
    "data.label_column",
    "data.image_column",
    "data.workers",
    "data.skip_damaged",
    "train.max_steps",
    "train.checkpoint_blocks",
    "train.save_every",
    "train.keep_last",
    "train.keep_every",
    "train.sample_every",
    "train.sample_count",
    "train.sample_classes",
    "train.eval_every",
    "train.eval_at",
    "train.eval_count",
    "train.sample_seed",
    "train.log_every",
    // Without a cosine neither enters the learning rate.
    "train.epochs",
    "optim.min_lr",
];

/// How many of [`FREE`], at its end, are free only under a constant schedule.
const FREE_IF_CONSTANT: usize = 2;

/// The keys that would change the result of a run saved as `saved` if it went on as `now`.
///
/// The size of a micro-batch is among them: sums over other groups of images round otherwise, and a
/// continued run promises the bits of one that never stopped.
///
/// # Errors
/// As [`RunConfig::to_toml`].
pub fn differences(
    saved: &RunConfig,
    now: &RunConfig,
) -> Result<Vec<Difference>, toml::ser::Error> {
    let constant = [saved, now].iter().all(|c| c.optim.schedule == Schedule::Constant);
    let free = &FREE[..FREE.len() - if constant { 0 } else { FREE_IF_CONSTANT }];
    let (saved, now) = (flatten(saved)?, flatten(now)?);
    let drawing = |key: &str| key.starts_with("sample.") || key.starts_with("fusion.");
    let keep = |key: &str| !drawing(key) && !free.contains(&key);
    let keys: BTreeSet<&String> = saved.keys().chain(now.keys()).filter(|key| keep(key)).collect();
    let value = |side: &BTreeMap<String, String>, key: &str| {
        side.get(key).cloned().unwrap_or_else(|| "unset".into())
    };
    let difference = |key: &String| {
        let (saved, now) = (value(&saved, key), value(&now, key));
        (saved != now).then(|| Difference { key: key.clone(), saved, now })
    };
    Ok(keys.into_iter().filter_map(difference).collect())
}

/// Every `section.key` that is set with its value as TOML writes it; those of `[partner]` may not be.
fn flatten(config: &RunConfig) -> Result<BTreeMap<String, String>, toml::ser::Error> {
    // By way of text, which keeps the short form of an f32: 0.1, not 0.10000000149011612.
    let mut flat = BTreeMap::new();
    let mut section = "";
    let text = config.to_toml()?;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            flat.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    Ok(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl Fn(&mut RunConfig)) -> Vec<Difference> {
        let saved = RunConfig::default();
        let mut now = saved.clone();
        change(&mut now);
        differences(&saved, &now).unwrap()
    }

    #[test]
    fn every_free_key_exists() {
        let mut config = RunConfig::default();
        // Written down only where they are set.
        config.data.labels = "labels.txt".into();
        config.data.class_names = "names.txt".into();
        config.data.split = "train".into();
        config.data.label_key = "label".into();
        config.data.label_column = "label".into();
        config.data.image_column = "image".into();
        let keys: Vec<String> = flatten(&config).unwrap().into_keys().collect();
        for free in FREE {
            assert!(keys.iter().any(|key| key == free), "no key {free} among {keys:?}");
        }
    }

    #[test]
    fn cadence_may_change_and_results_may_not() {
        assert_eq!(changed(|c| c.train.save_every = 7), []);
        assert_eq!(changed(|c| c.sample.steps = 7), []);
        assert_eq!(changed(|c| c.fusion.average = "model".into()), []);
        assert_eq!(changed(|c| c.train.max_steps = 7), []);
        let differences = changed(|c| {
            c.train.batch_size = 64;
            c.optim.lr = 0.5;
            c.objective.label_drop = 0.2;
        });
        let expected = |key: &str, saved: &str, now: &str| Difference {
            key: key.into(),
            saved: saved.into(),
            now: now.into(),
        };
        let depth = |depth| move |c: &mut RunConfig| c.partner.depth = depth;
        assert_eq!(changed(depth(Some(3))), [expected("partner.depth", "unset", "3")]);
        assert_eq!(
            differences,
            [
                expected("objective.label_drop", "0.1", "0.2"),
                expected("optim.lr", "0.0", "0.5"),
                expected("train.batch_size", "0", "64"),
            ]
        );
    }

    #[test]
    fn the_length_may_change_unless_the_rate_depends_on_it() {
        assert_eq!(changed(|c| c.train.epochs = 7.0), []);
        let mut saved = RunConfig::default();
        saved.optim.schedule = Schedule::Cosine;
        let mut now = saved.clone();
        now.train.epochs = 7.0;
        assert_eq!(differences(&saved, &now).unwrap()[0].key, "train.epochs");
        now = saved.clone();
        now.train.max_steps = 7;
        assert_eq!(differences(&saved, &now).unwrap(), []);
    }
}
