//! A suite made concrete: every run with its whole configuration.

use jit_train::RunConfig;
use sha2::{Digest, Sha256};
use toml::Table;

use crate::error::StudyError;
use crate::expand::expand;
use crate::fusion::PlannedFusion;
use crate::settings::{get, leaves, put};
use crate::suite::Suite;

/// What a study is about to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The effective suite: every option in its base, its axes written out.
    pub suite: Suite,
    /// Every run: the first seed of all cells, then the second, and so on.
    pub runs: Vec<PlannedRun>,
    /// Every row of two models that draw together, once both are trained.
    pub fusions: Vec<PlannedFusion>,
}

/// One run of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// The cell's name.
    pub cell: String,
    /// The cell's heading.
    pub title: String,
    /// Seed of the training.
    pub seed: u64,
    /// All options.
    pub config: RunConfig,
}

impl Plan {
    /// Plans `suite` over the options of `base`, in which its preset, its own base and whatever the
    /// user set are laid down already.
    ///
    /// # Errors
    /// [`StudyError`] naming the key or cell that makes no sense.
    pub fn new(suite: Suite, mut base: RunConfig) -> Result<Self, StudyError> {
        let mut suite = expand(suite)?;
        let plan = &suite.evaluation;
        (base.train.eval_every, base.train.sample_every) = (0, 0);
        base.train.eval_at.clone_from(&plan.fractions);
        base.train.eval_count = plan.count;
        base.train.sample_count = plan.samples;
        base.train.sample_seed = plan.seed;
        let table = table(&base, &suite.name)?;
        let mut cells = Vec::new();
        for cell in &suite.cells {
            cells.push((cell.name.clone(), cell.title().to_string(), configure(&table, cell)?));
        }
        let mut runs = Vec::new();
        for &seed in &suite.seeds {
            for (cell, title, config) in &cells {
                let mut config = config.clone();
                config.train.seed = seed;
                let source = |source| StudyError::Config { cell: cell.clone(), source };
                config.validate().map_err(source)?;
                runs.push(PlannedRun { cell: cell.clone(), title: title.clone(), seed, config });
            }
        }
        suite.base = table;
        suite.preset = None;
        let fusions = PlannedFusion::all(&suite)?;
        Ok(Self { suite, runs, fusions })
    }

    /// Keeps the runs that `names` ask for: `exp1` for all seeds of a cell, `exp1/seed-2` for one run;
    /// and likewise rows of two models, which need the runs of both.
    ///
    /// # Errors
    /// [`StudyError::NoSuchRun`] for a name that no run has.
    pub fn keep(&mut self, names: &[String]) -> Result<(), StudyError> {
        for name in names {
            let run = self.runs.iter().any(|run| answers(&run.cell, run.seed, name));
            let row = self.fusions.iter().any(|row| answers(&row.cell, row.seed, name));
            if !run && !row {
                let cell = name.split('/').next().unwrap_or(name);
                let cells = self.suite.cells.iter().map(|cell| &*cell.name);
                let hint = jit_core::suggest::hint(cell, cells);
                let example = self.runs.first().map_or(String::new(), PlannedRun::label);
                return Err(StudyError::NoSuchRun { name: name.clone(), hint, example });
            }
        }
        let kept = |cell: &str, seed| names.iter().any(|name| answers(cell, seed, name));
        self.fusions.retain(|row| kept(&row.cell, row.seed));
        let needed = |run: &PlannedRun| {
            let needs =
                |row: &PlannedFusion| row.seed == run.seed && row.parents.contains(&run.cell);
            self.fusions.iter().any(needs)
        };
        self.runs.retain(|run| kept(&run.cell, run.seed) || needed(run));
        Ok(())
    }

    /// The two runs that a row of two models needs.
    pub fn parents(&self, row: &PlannedFusion) -> Option<[&PlannedRun; 2]> {
        let run = |cell: &String| self.runs.iter().find(|r| r.cell == *cell && r.seed == row.seed);
        Some([run(&row.parents[0])?, run(&row.parents[1])?])
    }

    /// The options in which cells differ, each with its value in every cell, in the cells' order.
    pub fn varied(&self) -> Vec<(String, Vec<String>)> {
        let mut keys: Vec<String> = Vec::new();
        for cell in &self.suite.cells {
            for (key, _) in leaves(&cell.set) {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        let value = |set: &Table, key: &str| {
            let value = get(set, key).or_else(|| get(&self.suite.base, key));
            value.map_or(String::new(), |v| v.as_str().map_or(v.to_string(), str::to_string))
        };
        let row = |key: String| {
            let values = self.suite.cells.iter().map(|cell| value(&cell.set, &key)).collect();
            (key, values)
        };
        keys.into_iter().map(row).collect()
    }
}

/// Whether a row is meant by `exp1` or `exp1/seed-2`.
fn answers(cell: &str, seed: u64, name: &str) -> bool {
    name.strip_prefix(cell).is_some_and(|rest| rest.is_empty() || rest == format!("/seed-{seed}"))
}

impl PlannedRun {
    /// `exp1/seed-2`
    pub fn label(&self) -> String {
        format!("{}/seed-{}", self.cell, self.seed)
    }

    /// SHA-256 over all that decides the run's result: its options but for where the images lie and
    /// how many threads read them. Options with their built-in values are left out, so that a later
    /// version of this program with further options knows the run again.
    ///
    /// # Errors
    /// [`StudyError::Unwritable`] for values that no file can hold.
    pub fn config_hash(&self) -> Result<String, StudyError> {
        let mut config = self.config.clone();
        config.data.path = String::new();
        config.data.workers = 0;
        let (mine, built_in) = (table(&config, &self.cell)?, table(&RunConfig::default(), "")?);
        let mut hash = Sha256::new();
        for (key, value) in leaves(&mine) {
            if get(&built_in, &key) != Some(value) {
                hash.update(format!("{key} = {value}\n"));
            }
        }
        Ok(jit_core::hex(&hash.finalize()))
    }
}

/// A configuration as a table. By way of text, which holds an f32 in its shortest form.
pub(crate) fn table(config: &RunConfig, name: &str) -> Result<Table, StudyError> {
    let text = config.to_toml().map_err(unwritable(name))?;
    text.parse().map_err(|source| StudyError::Syntax { name: name.into(), source })
}

fn unwritable(name: &str) -> impl Fn(toml::ser::Error) -> StudyError + '_ {
    move |source| StudyError::Unwritable { name: name.into(), source }
}

/// The configuration of a cell.
fn configure(base: &Table, cell: &crate::suite::Cell) -> Result<RunConfig, StudyError> {
    let mut merged = base.clone();
    for (option, value) in leaves(&cell.set) {
        put(&mut merged, &option, value.clone());
    }
    // By way of text again: its errors show the key.
    let text = toml::to_string(&merged).map_err(unwritable(&cell.name))?;
    RunConfig::from_toml(&text).map_err(|source| {
        // An option that is unset in the base is none of it, but no error either.
        let unknown = source.message().starts_with("unknown field");
        let mut options = leaves(&cell.set).into_iter().map(|(option, _)| option);
        let found = options.find(|option| get(base, option).is_none()).filter(|_| unknown);
        let Some(option) = found else {
            return StudyError::WrongValue { cell: cell.name.clone(), source };
        };
        let known: Vec<String> = leaves(base).into_iter().map(|(key, _)| key).collect();
        let hint = jit_core::suggest::hint(&option, known.iter().map(String::as_str));
        StudyError::UnknownOption { cell: cell.name.clone(), option, hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jit_model::config::MlpKind;

    const TWO: &str = "name = 'two'\ntitle = 'Two'\nseeds = [1, 0]\n\
        [evaluation]\nfractions = [0.5, 1.0]\ncount = 77\nsamples = 3\nseed = 9\n\
        [[cells]]\nname = 'a'\n[[cells]]\nname = 'b'\nset.model.mlp = 'bottleneck'\n";

    fn plan(text: &str) -> Result<Plan, StudyError> {
        Plan::new(Suite::from_toml(text).unwrap(), RunConfig::default())
    }

    #[test]
    fn every_cell_runs_with_every_seed_and_one_way_of_judging() {
        let plan = plan(TWO).unwrap();
        let labels: Vec<String> = plan.runs.iter().map(PlannedRun::label).collect();
        assert_eq!(labels, ["a/seed-0", "b/seed-0", "a/seed-1", "b/seed-1"]);
        for run in &plan.runs {
            let train = &run.config.train;
            assert_eq!((train.seed, train.sample_seed, train.eval_count), (run.seed, 9, 77));
            assert_eq!((&train.eval_at[..], train.sample_count), (&[0.5, 1.0][..], 3));
            assert_eq!(run.config.model.mlp == MlpKind::Bottleneck, run.cell == "b");
        }
        let expected = vec!["swiglu".to_string(), "bottleneck".to_string()];
        assert_eq!(plan.varied(), [("model.mlp".to_string(), expected)]);
    }

    #[test]
    fn the_effective_suite_plans_the_same_runs() {
        let first = plan(TWO).unwrap();
        let text = first.suite.to_toml().unwrap();
        let again = Suite::from_toml(&text).unwrap();
        let base = RunConfig::from_toml(&toml::to_string(&again.base).unwrap()).unwrap();
        assert_eq!(Plan::new(again, base).unwrap(), first);
    }

    #[test]
    fn a_run_is_known_by_its_options_but_not_by_where_its_images_are() {
        let hash = |change: fn(&mut PlannedRun)| {
            let mut run = plan(TWO).unwrap().runs.remove(0);
            change(&mut run);
            run.config_hash().unwrap()
        };
        let same = hash(|_| {});
        assert_eq!(same.len(), 64);
        assert_eq!(hash(|run| run.config.data.path = "elsewhere".into()), same);
        assert_ne!(hash(|run| run.config.optim.lr = 0.5), same);
    }

    #[test]
    fn runs_can_be_chosen_by_name() {
        let kept = |names: &[&str]| {
            let mut plan = plan(TWO).unwrap();
            plan.keep(&names.iter().map(|n| n.to_string()).collect::<Vec<_>>())?;
            Ok::<_, StudyError>(plan.runs.iter().map(PlannedRun::label).collect::<Vec<_>>())
        };
        assert_eq!(kept(&["b/seed-1", "a"]).unwrap(), ["a/seed-0", "a/seed-1", "b/seed-1"]);
        let message = kept(&["b/seed-7"]).unwrap_err().to_string();
        assert!(message.contains("no `b/seed-7`") && message.contains("a/seed-0"), "{message}");
    }

    #[test]
    fn a_row_of_two_models_keeps_both_parents() {
        let sweep = "[[fusions]]\nname = 'mix'\nparents = ['a', 'b']\nmode = 'blend'\n\
                     schedule = 'constant'\nweights = [0.25, 0.5]";
        let mut plan = plan(&format!("{TWO}[[cells]]\nname = 'c'\n{sweep}")).unwrap();
        assert_eq!((plan.runs.len(), plan.fusions.len()), (6, 4));
        plan.keep(&["mix-0.5/seed-1".into()]).unwrap();
        let runs: Vec<String> = plan.runs.iter().map(PlannedRun::label).collect();
        assert_eq!((runs, plan.fusions.len()), (vec!["a/seed-1".into(), "b/seed-1".into()], 1));
    }

    #[test]
    fn an_option_that_is_unset_unless_given_can_be_set() {
        let plan = plan(&format!("{TWO}set.partner.depth = 6")).unwrap();
        assert_eq!(plan.runs[1].config.partner.depth, Some(6));
    }

    #[test]
    fn a_wrong_setting_names_its_cell() {
        let message = |set: &str| plan(&format!("{TWO}{set}")).unwrap_err().to_string();
        let unknown = message("set.model.patch_sizes = 3");
        assert!(unknown.contains("cell `b`: there is no option `model.patch_sizes`"), "{unknown}");
        assert!(unknown.contains("did you mean `model.patch_size`?"), "{unknown}");
        assert!(message("set.model.depth = 'x'").starts_with("cell `b`"));
        assert!(message("set.model.depth = 0").contains("cell `b`: model.depth = 0"));
    }
}
