//! From images that pass by to what the metrics need.

use std::path::Path;

use crate::digits::DigitsExtractor;
use crate::extractor::{Extracted, Extractor, Images, Inception, Vgg16};
use crate::source::Chunk;
use crate::{Cache, EvalError, Features, Sample};

/// The networks of an evaluation.
pub struct Extractors {
    /// For FID, IS, KID and class accuracy.
    pub main: Box<dyn Extractor>,
    /// For precision and recall, where `main` does not see to them.
    pub neighbours: Option<Box<dyn Extractor>>,
}

impl Extractors {
    /// One network for everything.
    pub fn one(main: Box<dyn Extractor>) -> Self {
        Self { main, neighbours: None }
    }

    /// Inception for FID, IS and KID; VGG16 for precision and recall if they are wanted. `weights`
    /// is a folder that holds the published files.
    ///
    /// # Errors
    /// [`EvalError::NoWeights`] where a file is missing, [`EvalError::Hash`] where it is damaged.
    pub fn inception(weights: Option<&Path>, neighbours: bool) -> Result<Self, EvalError> {
        let main = Box::new(Inception::open(weights)?);
        let vgg16 =
            || -> Result<Box<dyn Extractor>, EvalError> { Ok(Box::new(Vgg16::open(weights)?)) };
        Ok(Self { main, neighbours: neighbours.then(vgg16).transpose()? })
    }

    /// VGG16 alone, where precision and recall are all that is wanted.
    ///
    /// # Errors
    /// As [`Extractors::inception`].
    pub fn vgg16(weights: Option<&Path>) -> Result<Self, EvalError> {
        Ok(Self::one(Box::new(Vgg16::open(weights)?)))
    }

    /// The embedded network for digits, for everything.
    ///
    /// # Errors
    /// If the weights compiled into the program are unusable.
    pub fn digits() -> Result<Self, EvalError> {
        Ok(Self::one(Box::new(DigitsExtractor::embedded()?)))
    }

    /// Its name in reports and statistics.
    pub fn name(&self) -> &'static str {
        self.main.name()
    }
}

/// What the networks say of some images. It can travel from one process to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    main: Extracted,
    neighbours: Vec<f32>,
    labels: Vec<u32>,
    images: usize,
}

impl Part {
    /// The number of images and of values of each kind as u64, then the values; all little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let values = [&self.main.features, &self.main.logits, &self.neighbours];
        let lengths = values.map(Vec::len);
        let mut bytes = Vec::new();
        for length in [&[self.images, self.labels.len()][..], &lengths].concat() {
            bytes.extend((length as u64).to_le_bytes());
        }
        bytes.extend(self.labels.iter().flat_map(|label| label.to_le_bytes()));
        bytes.extend(values.into_iter().flatten().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// What [`Part::to_bytes`] wrote, or `None`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, body) = bytes.split_at_checked(5 * 8)?;
        let (head, _) = head.as_chunks::<8>();
        let mut lengths = head.iter().map(|n| u64::from_le_bytes(*n) as usize);
        let images = lengths.next()?;
        let (mut words, tail) = body.as_chunks::<4>();
        let mut next = || {
            let (values, rest) = words.split_at_checked(lengths.next()?)?;
            words = rest;
            Some(values)
        };
        let floats = |values: &[[u8; 4]]| values.iter().map(|v| f32::from_le_bytes(*v)).collect();
        let labels = next()?.iter().map(|v| u32::from_le_bytes(*v)).collect();
        let main = Extracted { features: floats(next()?), logits: floats(next()?) };
        let neighbours = floats(next()?);
        (words.is_empty() && tail.is_empty()).then_some(Self { main, neighbours, labels, images })
    }
}

/// Gathers features.
pub struct Collector<'a> {
    extractors: &'a Extractors,
    cache: Option<&'a Cache>,
    main: Extracted,
    neighbours: Vec<f32>,
    labels: Vec<u32>,
    images: usize,
}

impl<'a> Collector<'a> {
    /// Of no images yet; features are looked up and kept in `cache`.
    pub fn new(extractors: &'a Extractors, cache: Option<&'a Cache>) -> Self {
        let (neighbours, labels) = (Vec::new(), Vec::new());
        Self { extractors, cache, main: Extracted::default(), neighbours, labels, images: 0 }
    }

    /// Adds images.
    ///
    /// # Errors
    /// Images that an extractor does not take, a cache that cannot be written.
    pub fn push(&mut self, chunk: Chunk<'_>) -> Result<(), EvalError> {
        let part = self.look(chunk)?;
        self.add(part);
        Ok(())
    }

    /// What the networks say of images, without adding them.
    ///
    /// # Errors
    /// As [`Collector::push`].
    pub fn look(&self, chunk: Chunk<'_>) -> Result<Part, EvalError> {
        let main = self.ask(&*self.extractors.main, chunk.images)?;
        let neighbours = match &self.extractors.neighbours {
            Some(extractor) => self.ask(&**extractor, chunk.images)?.features,
            None => Vec::new(),
        };
        let labels = chunk.labels.unwrap_or_default().to_vec();
        Ok(Part { main, neighbours, labels, images: chunk.images.batch })
    }

    /// Adds what was said of further images.
    pub fn add(&mut self, part: Part) {
        self.main.features.extend(part.main.features);
        self.main.logits.extend(part.main.logits);
        self.neighbours.extend(part.neighbours);
        self.labels.extend(part.labels);
        self.images += part.images;
    }

    fn ask(&self, extractor: &dyn Extractor, images: Images<'_>) -> Result<Extracted, EvalError> {
        let Some(cache) = self.cache else { return extractor.extract(images) };
        let file = cache.file(extractor, images);
        if let Some(kept) = cache.read(&file, extractor, images.batch) {
            return Ok(kept);
        }
        let said = extractor.extract(images)?;
        cache.write(&file, extractor, images.batch, &said)?;
        Ok(said)
    }

    /// Number of images so far.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Everything gathered.
    ///
    /// # Errors
    /// [`EvalError::NotFinite`] naming the first feature that is no number.
    pub fn finish(self) -> Result<Sample, EvalError> {
        let Extractors { main, neighbours } = self.extractors;
        let logits = match main.classes() {
            0 => None,
            classes => Some(Features::new(classes, self.main.logits)?),
        };
        let neighbours = match neighbours {
            None => None,
            Some(extractor) => Some(Features::new(extractor.dim(), self.neighbours)?),
        };
        // Only digits are told apart by a network that knows the classes asked for.
        let labelled = main.reads_classes() && self.labels.len() == self.images;
        Ok(Sample {
            features: Features::new(main.dim(), self.main.features)?,
            logits,
            neighbours,
            labels: labelled.then_some(self.labels),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Features are the mean colours; counts how often it is asked.
    struct Mean(AtomicUsize);

    impl Extractor for Mean {
        fn name(&self) -> &'static str {
            "mean"
        }
        fn weights_sha256(&self) -> &str {
            "none"
        }
        fn dim(&self) -> usize {
            3
        }
        fn classes(&self) -> usize {
            0
        }
        fn extract(&self, images: Images<'_>) -> Result<Extracted, EvalError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let colour = |i: usize, c: usize| {
                let pixels = images.one(i).chunks_exact(3);
                let n = pixels.len() as f32;
                pixels.map(|p| f32::from(p[c])).sum::<f32>() / n
            };
            let features =
                (0..images.batch).flat_map(|i| (0..3).map(move |c| colour(i, c))).collect();
            Ok(Extracted { features, logits: Vec::new() })
        }
    }

    #[test]
    fn parts_travel_as_bytes() {
        let part = Part {
            main: Extracted { features: vec![1.0, -2.5], logits: vec![0.25] },
            neighbours: vec![3.0],
            labels: vec![7, 8],
            images: 2,
        };
        let bytes = part.to_bytes();
        assert_eq!(Part::from_bytes(&bytes), Some(part));
        assert_eq!(Part::from_bytes(&Part::default().to_bytes()), Some(Part::default()));
        for cut in [0, 39, 40, bytes.len() - 1] {
            assert_eq!(Part::from_bytes(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn features_are_kept_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("features"));
        let pixels: Vec<u8> = (0..4 * 12).collect();
        let gather = |extractors: &Extractors, batch: usize, cache: Option<&Cache>| {
            let mut collector = Collector::new(extractors, cache);
            for part in pixels.chunks(batch * 12) {
                let images = Images { pixels: part, batch, height: 2, width: 2 };
                collector.push(Chunk { images, labels: None }).unwrap();
            }
            assert_eq!(collector.images(), 4);
            collector.finish().unwrap()
        };
        let fresh = || Extractors::one(Box::new(Mean(AtomicUsize::new(0))));
        let want = gather(&fresh(), 4, None);
        assert_eq!(want.features.row(1), [16.5, 17.5, 18.5]);
        assert_eq!(gather(&fresh(), 2, Some(&cache)), want);
        assert_eq!(std::fs::read_dir(dir.path().join("features")).unwrap().count(), 2);
        // Again, from the files alone; and a damaged file is made anew.
        struct Never;
        impl Extractor for Never {
            fn name(&self) -> &'static str {
                "mean"
            }
            fn weights_sha256(&self) -> &str {
                "none"
            }
            fn dim(&self) -> usize {
                3
            }
            fn classes(&self) -> usize {
                0
            }
            fn extract(&self, _: Images<'_>) -> Result<Extracted, EvalError> {
                unreachable!("the features are kept")
            }
        }
        assert_eq!(gather(&Extractors::one(Box::new(Never)), 2, Some(&cache)), want);
        for entry in std::fs::read_dir(dir.path().join("features")).unwrap() {
            std::fs::write(entry.unwrap().path(), "torn").unwrap();
        }
        assert_eq!(gather(&fresh(), 2, Some(&cache)), want);
    }
}
