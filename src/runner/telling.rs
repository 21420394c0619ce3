//! The scalars of training: the means since the last ones, and what the machine tells.

use crate::failure::Result;
use crate::metric::Finding;
use crate::report::Report;
use crate::train::Training;

impl Training {
    /// Tells the scalars of a step. The norm is None where the step changed nothing, and the means
    /// are left out where no step since the last scalars has changed anything.
    pub(crate) fn tell(&mut self, report: &mut Report, gradient_norm: Option<f64>, examples: u64) -> Result<()> {
        self.share_lanes(&self.sums)?;
        let mut values = Vec::new();
        let loss = if self.sums.examples > 0 { Some(self.sums.mean_loss()?) } else { None };
        if let Some(loss) = loss {
            values.push(("loss/train".to_owned(), loss));
            for (name, finding) in self.sums.metrics()? {
                // One that is no finite number is left out, and nothing stands or falls with it.
                if let Finding::Number(number) = finding {
                    values.push((format!("{name}/train"), number));
                }
            }
        }
        values.push(("learning_rate".to_owned(), self.learning_rate(self.place.step - 1)));
        values.extend(gradient_norm.map(|norm| ("gradient_norm".to_owned(), norm)));
        values.extend([
            ("throughput/examples_per_second".to_owned(), self.sums.examples_per_second()),
            ("data/wait_ratio".to_owned(), self.sums.wait_ratio()),
            ("process/rss_bytes".to_owned(), resident_bytes()),
        ]);
        values.extend(self.skips.as_ref().map(|skips| ("skipped_steps".to_owned(), f64::from(skips.since_scalars))));
        values.extend(self.gpu_share());
        report.scalars(self.place.step, examples, &values)?;
        if let Some(skips) = &mut self.skips {
            skips.since_scalars = 0;
        }
        let is_finite = loss.is_none_or(f64::is_finite) && gradient_norm.is_none_or(f64::is_finite);
        if is_finite || self.lr_range.is_some() {
            return Ok(());
        }
        let number = |number: Option<f64>| number.map_or_else(|| "not told".to_owned(), |number| number.to_string());
        let (loss, norm) = (number(loss), number(gradient_norm));
        Err(self.diverged(&format!("the loss was {loss} and the gradient norm {norm}")))
    }

    /// The reason why a job that looks for a learning rate ends after this step, in words.
    pub(crate) fn lr_range_ends(&mut self) -> Result<Option<String>> {
        let (step, rate) = (self.place.step, self.learning_rate(self.place.step - 1));
        let Some(range) = &mut self.lr_range else { return Ok(None) };
        let loss = self.sums.mean_loss()?;
        Ok((!range.goes_on(loss))
            .then(|| format!("ended at step {step}: the loss was {loss} at a learning rate of {rate:.2e}")))
    }

    /// The newest readings of the GPU, as scalars. What the driver does not tell is left out.
    fn gpu_share(&self) -> Vec<(String, f64)> {
        let Some((index, reading)) = self.meter.as_ref().and_then(|(index, meter)| Some((index, meter.latest()?)))
        else {
            return Vec::new();
        };
        let readings = [
            ("utilization_ratio", reading.utilization_ratio),
            ("memory_used_bytes", reading.memory_used_bytes.map(|bytes| bytes as f64)),
            ("energy_joules", reading.energy_joules),
        ];
        readings.into_iter().filter_map(|(name, value)| Some((format!("gpu/{index}/{name}"), value?))).collect()
    }
}

/// Memory of this process: field 2 of `/proc/self/statm`, in pages.
fn resident_bytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    (pages * page as u64) as f64
}
