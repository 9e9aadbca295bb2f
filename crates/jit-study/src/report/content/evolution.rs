//! The samples of each experiment along training: rows are epochs, columns experiments, and all are
//! drawn from the same noise and labels.

use std::collections::BTreeMap;

use super::super::document::Part;
use super::super::figure::{Gallery, Picture};
use super::super::study::{Cell, Run, Study};
use super::super::thumbnail;
use super::{about, id_of};

/// More rows than this say no more.
const MOST_ROWS: usize = 8;

/// A gallery for each group, and what was wrong with the pictures.
pub fn parts(study: &Study) -> (Vec<Part>, Vec<String>) {
    let mut problems = Vec::new();
    let groups = study.groups();
    let galleries = groups.iter().enumerate().filter_map(|(i, (group, cells))| {
        gallery(study, i, group, cells, &mut problems).map(Part::Gallery)
    });
    let galleries = galleries.collect();
    (galleries, problems)
}

fn gallery(
    study: &Study,
    index: usize,
    group: &str,
    cells: &[&Cell],
    problems: &mut Vec<String>,
) -> Option<Gallery> {
    let chosen: Vec<&Run> = cells.iter().filter_map(|cell| cell.runs.first()).collect();
    let mut labels: BTreeMap<u64, String> = BTreeMap::new();
    for shot in chosen.iter().flat_map(|run| &run.shots) {
        labels.entry(shot.order).or_insert_with(|| shot.label.clone());
    }
    let labels = spread(labels.into_iter().collect());
    if labels.is_empty() {
        return None;
    }
    let rows = labels.into_iter().map(|(order, label)| {
        let pictures = cells.iter().map(|cell| {
            let run = cell.runs.first()?;
            let shot = run.shots.iter().find(|shot| shot.order == order)?;
            let alt = format!("{}, {label}", cell.name);
            let picture = thumbnail::read(&shot.path, run.image_size(), alt);
            picture.map_err(|error| problems.push(error.to_string())).ok()
        });
        let pictures: Vec<Option<Picture>> = pictures.collect();
        (label, pictures)
    });
    let rows = rows.collect();
    let seeds: Vec<u64> = chosen.iter().map(|run| run.seed).collect();
    let which = match (study.single, seeds.windows(2).all(|pair| pair[0] == pair[1])) {
        (true, _) => "The first images of each grid".to_string(),
        (false, true) => format!("The first images of each grid, seed {}", seeds[0]),
        (false, false) => "The first images of each grid, first seed".to_string(),
    };
    let caption = about(&format!("{which}. Noise and labels are the same everywhere."), group);
    let columns = cells.iter().map(|cell| cell.name.clone()).collect();
    let corner = if study.single { "step" } else { "epoch" }.to_string();
    Some(Gallery { id: id_of("samples", index), caption, corner, columns, rows })
}

/// At most [`MOST_ROWS`] of them, evenly spread, the first and the last among them.
fn spread<T>(all: Vec<T>) -> Vec<T> {
    let (n, most) = (all.len(), MOST_ROWS);
    let kept = |i: usize| n <= most || (0..most).any(|k| k * (n - 1) / (most - 1) == i);
    all.into_iter().enumerate().filter(|(i, _)| kept(*i)).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_thinned_evenly() {
        assert_eq!(spread((0..5).collect::<Vec<_>>()), [0, 1, 2, 3, 4]);
        assert_eq!(spread((0..100).collect::<Vec<_>>()), [0, 14, 28, 42, 56, 70, 84, 99]);
        assert!(spread(Vec::<u8>::new()).is_empty());
    }
}
