//! Whether rows agree with themselves and with each other.

use super::{Catalogue, CatalogueError, CatalogueMistake, Placed, Reading};

impl Reading {
    /// The catalogue, if nothing in it is wrong.
    pub(super) fn finish(mut self) -> Result<Catalogue, CatalogueError> {
        let mut wrong = std::mem::take(&mut self.mistakes);
        self.judge_sources(&mut wrong);
        self.judge_runtimes(&mut wrong);
        self.judge_releases(&mut wrong);
        self.judge_toolkits(&mut wrong);
        self.judge_generations(&mut wrong);
        if !wrong.is_empty() {
            return Err(CatalogueError(wrong));
        }
        Ok(Catalogue {
            runtimes: rows(self.runtimes),
            releases: rows(self.releases),
            toolkits: rows(self.toolkits),
            gpus: rows(self.gpus),
            generations: rows(self.generations),
            nodes: rows(self.nodes),
            cuda_errors: rows(self.cuda_errors),
            libraries: rows(self.libraries),
            sources: self.sources,
        })
    }

    fn judge_sources(&self, wrong: &mut Vec<CatalogueMistake>) {
        let mut judge = |file: &str, line: usize, ids: &[String], is_needed: bool| {
            if is_needed && ids.is_empty() {
                add(wrong, file, line, "sources: is empty; every row names where it was read".into());
            }
            for id in ids.iter().filter(|id| !self.sources.contains_key(*id)) {
                let likeness = |other: &&String| strsim::jaro_winkler(id, other);
                let nearest = self.sources.keys().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
                let nearest = nearest.map(String::as_str).unwrap_or_default();
                add(wrong, file, line, format!("sources: {id:?} is not in sources.toml; the nearest is {nearest:?}"));
            }
        };
        for row in &self.runtimes {
            judge(&row.file, row.line, &row.row.sources, true);
            let others: Vec<_> = row.row.conflicts.iter().map(|conflict| conflict.source.clone()).collect();
            judge(&row.file, row.line, &others, false);
        }
        for row in &self.releases {
            judge(&row.file, row.line, &row.row.sources, true);
            row.row.builds.iter().for_each(|build| judge(&row.file, row.line, &build.sources, false));
            let others: Vec<_> = row.row.conflicts.iter().map(|conflict| conflict.source.clone()).collect();
            judge(&row.file, row.line, &others, false);
        }
        self.toolkits.iter().for_each(|row| judge(&row.file, row.line, &row.row.sources, true));
        self.gpus.iter().for_each(|row| judge(&row.file, row.line, &row.row.sources, true));
        self.generations.iter().for_each(|row| judge(&row.file, row.line, &row.row.sources, true));
        self.nodes.iter().for_each(|row| judge(&row.file, row.line, &row.row.sources, true));
        self.cuda_errors.iter().for_each(|row| judge(&row.file, row.line, &row.row.sources, true));
        self.libraries.iter().for_each(|row| judge(&row.file, row.line, &row.row.sources, true));
    }

    fn judge_runtimes(&self, wrong: &mut Vec<CatalogueMistake>) {
        for Placed { file, line, row } in &self.runtimes {
            if let (Some(released), Some(end)) = (row.released, row.end_of_support)
                && end < released
            {
                add(wrong, file, *line, format!("end_of_support: is {end}, before the release on {released}"));
            }
            let Some(pytorch) = &row.pytorch else { continue };
            let release = self.releases.iter().find(|release| release.row.version == *pytorch);
            let first = self.releases.first().map(|release| &release.row.version);
            // Runtimes older than the first release that is listed name theirs all the same.
            if release.is_none() && first.is_some_and(|first| pytorch >= first) {
                add(wrong, file, *line, format!("pytorch: {pytorch} is not in pytorch.toml"));
            }
            if let (Some(release), Some(build)) = (release, &row.pytorch_build)
                && release.row.build(build).is_none()
            {
                add(wrong, file, *line, format!("pytorch_build: {pytorch} has no build {build:?} in pytorch.toml"));
            }
        }
    }

    fn judge_releases(&self, wrong: &mut Vec<CatalogueMistake>) {
        for Placed { file, line, row } in &self.releases {
            if row.python.min.as_ref().is_some_and(|min| *min > row.python.max) {
                add(wrong, file, *line, format!("python: {} is no range", row.python));
            }
            for (place, build) in row.builds.iter().enumerate() {
                if row.builds[..place].iter().any(|other| other.variant == build.variant) {
                    add(wrong, file, *line, format!("builds: {} stands twice", build.variant));
                }
                let expected = build.cuda.as_ref().map_or("cpu".to_owned(), |cuda| {
                    let (major, minor) = cuda.minor();
                    format!("cu{major}{minor}")
                });
                if build.variant != expected {
                    add(
                        wrong,
                        file,
                        *line,
                        format!("builds: variant {:?} with that cuda would be {expected}", build.variant),
                    );
                }
                if let Some(cuda) = &build.cuda
                    && !self.toolkits.iter().any(|toolkit| toolkit.row.version == *cuda)
                {
                    add(wrong, file, *line, format!("builds: cuda {cuda} is not in cuda.toml"));
                }
            }
        }
    }

    fn judge_generations(&self, wrong: &mut Vec<CatalogueMistake>) {
        for Placed { file, line, row } in &self.generations {
            if row.to < row.from {
                add(wrong, file, *line, format!("to: is {}, before {}, where {} begins", row.to, row.from, row.name));
            }
        }
    }

    fn judge_toolkits(&self, wrong: &mut Vec<CatalogueMistake>) {
        for Placed { file, line, row } in &self.toolkits {
            if let (Some(floor), Some(driver)) = (&row.minor_compatibility_driver, &row.driver)
                && floor > driver
            {
                let what =
                    format!("minor_compatibility_driver: is {floor}, newer than the toolkit's own driver {driver}");
                add(wrong, file, *line, what);
            }
            if row.driver.is_none() && row.driver_branch.is_none() {
                add(wrong, file, *line, "driver: is missing, and so is driver_branch".into());
            }
        }
    }
}

fn add(wrong: &mut Vec<CatalogueMistake>, file: &str, line: usize, what: String) {
    wrong.push(CatalogueMistake { file: file.into(), line, what });
}

fn rows<T>(placed: Vec<Placed<T>>) -> Vec<T> {
    placed.into_iter().map(|placed| placed.row).collect()
}
