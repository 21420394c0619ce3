//! The images of a folder in which each folder is a class, or that are to be answered and have no
//! classes.

use std::sync::Arc;

use super::images::{Decoded, Images, Names, Targets};
use super::list::List;
use super::{LABELS, MOST_TOLD, PATH};
use crate::dataset::content::{Content, Preparation, Prepared};
use crate::dataset::details::{self, Details};
use crate::dataset::{Dtype, Facts, Field, Problem, Range, Rows, Source};

/// All images of a folder.
pub(super) struct Walked {
    images: Arc<Images>,
    is_judged: bool,
}

impl Walked {
    /// Those that a walk over the folder has found.
    pub(super) fn new(images: Images, is_judged: bool) -> Self {
        Self { images: Arc::new(images), is_judged }
    }

    fn list(&self) -> &List {
        match &self.images.names {
            Names::Walked(list) => list,
            Names::Listed(_) => unreachable!("no table lists them"),
        }
    }
}

impl Content for Walked {
    fn rows(&self) -> u64 {
        self.images.count()
    }

    fn strata(&self) -> Result<Vec<u32>, Problem> {
        let list = self.list();
        if list.classes.is_empty() {
            return Err("is set, and the images have no classes".to_owned().into());
        }
        Ok(list.images.iter().map(|image| image.class).collect())
    }

    fn learn(&self, rows: &Rows, measure: bool) -> Result<Preparation, Vec<Problem>> {
        self.images.learn(self.list().classes.clone(), (measure && !self.is_judged).then_some(rows))
    }

    fn details(&self, rows: &Rows, preparation: &Preparation) -> Details {
        let list = self.list();
        let known = |class: &String| preparation.classes.iter().position(|known| known == class);
        let numbers: Vec<_> = list.classes.iter().map(known).collect();
        let number = |row: u64| Some((*numbers.get(list.images[row as usize].class as usize)?)? as i64);
        let classes = details::classes(rows.iter().filter_map(number), &preparation.classes);
        Details { classes, ..Details::default() }
    }

    fn prepare(&self, rows: Rows, preparation: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let (list, root) = (self.list(), &self.images.root);
        let number = |class: &String| preparation.classes.iter().position(|known| known == class);
        let found = list.classes.iter().map(|class| number(class).ok_or(class));
        let (mut numbers, mut wrong) = (Vec::new(), Vec::new());
        found.for_each(|found| match found {
            Ok(number) => numbers.push(number as i64),
            Err(class) => {
                let known = preparation.classes.iter().take(MOST_TOLD).map(|known| format!("{known:?}"));
                let known = known.collect::<Vec<_>>().join(", ");
                let what = format!(
                    "is a folder, and so a class, which the training set has not: it has {known}; for mode = predict \
                     images may lie in {PATH} itself, without classes"
                );
                wrong.push(Problem::of_file(PATH, &root.join(class), &what));
            }
        });
        if !wrong.is_empty() {
            wrong.truncate(MOST_TOLD);
            return Err(wrong);
        }
        let target = if list.classes.is_empty() {
            Field::no_target(LABELS, PATH)
        } else {
            let class = |row: u64| numbers[list.images[row as usize].class as usize];
            let range = Range::of(rows.iter().map(class), 1);
            Field { name: LABELS.into(), file: PATH.into(), dtype: Dtype::I64, shape: vec![], range }
        };
        let facts = Facts {
            examples: rows.count(),
            inputs: vec![self.images.field()],
            target,
            sizes: Vec::new(),
            is_resident: false,
            may_widen: false,
        };
        let targets = if list.classes.is_empty() { Targets::None } else { Targets::Classes(numbers) };
        let decoded = Decoded { facts: facts.clone(), images: self.images.clone(), rows, targets };
        let source = (!self.is_judged).then(|| Box::new(decoded) as Box<dyn Source>);
        Ok(Prepared { facts, source, notes: Vec::new() })
    }
}
