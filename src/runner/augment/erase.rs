//! Images of which a rectangle is overwritten.

use tch::{Kind, Tensor};
use torchd::job::spec::data::augment::Erase as Settings;

use super::{Change, Sizes, uniform};
use crate::failure::Result;
use crate::feed::{Examples, moved};

/// Sizes that are drawn for each image, until one fits.
const TRIES: i64 = 10;

/// The change.
pub(super) struct Erase {
    pub(super) settings: Settings,
    pub(super) image: usize,
}

impl Change for Erase {
    fn change(&self, examples: &mut Examples) -> Result<()> {
        let device = examples.device();
        let images = &mut examples.inputs[self.image];
        let sizes = Sizes::of(images)?;
        let rectangles = moved(&self.draw(&sizes)?, device)?;
        // Each [count, 1, 1, 1].
        let part = |number: i64| rectangles.f_get(number)?.f_view([-1, 1, 1, 1]);
        let within = |first: &Tensor, size: &Tensor, line: &Tensor| {
            line.f_ge_tensor(first)?.f_logical_and(&line.f_lt_tensor(&first.f_add(size)?)?)
        };
        let lines = |size: i64| Tensor::f_arange(size, (Kind::Int64, device));
        let rows = within(&part(0)?, &part(1)?, &lines(sizes.height)?.f_view([1, 1, -1, 1])?)?;
        let columns = within(&part(2)?, &part(3)?, &lines(sizes.width)?.f_view([1, 1, 1, -1])?)?;
        *images = images.f_masked_fill(&rows.f_logical_and(&columns)?, self.settings.value)?;
        Ok(())
    }
}

impl Erase {
    /// The rectangles, `[4, count]`: first row, height, first column, width. One of no height
    /// leaves its image as it is.
    fn draw(&self, &Sizes { count, height, width, .. }: &Sizes) -> Result<Tensor> {
        let Settings { p, area, ratio, .. } = self.settings;
        let erases = uniform(count, 1)?.f_lt(p)?;
        let between = |(least, most): (f64, f64)| -> Result<Tensor> {
            Ok(uniform(count, TRIES)?.f_mul_scalar(most - least)?.f_add_scalar(least)?)
        };
        let areas = between(area)?.f_mul_scalar((height * width) as f64)?;
        let ratios = between((ratio.0.ln(), ratio.1.ln()))?.f_exp()?;
        let heights = areas.f_mul(&ratios)?.f_sqrt()?.f_round()?;
        let widths = areas.f_div(&ratios)?.f_sqrt()?.f_round()?;
        let fits = heights.f_lt(height)?.f_logical_and(&widths.f_lt(width)?)?;
        // The first one that fits has the largest number.
        let ranks = Tensor::f_arange_start_step(TRIES, 0, -1, (Kind::Int64, tch::Device::Cpu))?;
        let first = fits.f_mul(&ranks)?.f_argmax(1, true)?;
        let erases = erases.f_logical_and(&fits.f_gather(1, &first, false)?)?;
        let (heights, widths) = (heights.f_gather(1, &first, false)?, widths.f_gather(1, &first, false)?);
        let place = |size: i64, of: &Tensor| -> Result<Tensor> {
            let places = of.f_neg()?.f_add_scalar(size + 1)?;
            Ok(uniform(count, 1)?.f_mul(&places)?.f_floor()?)
        };
        let (rows, columns) = (place(height, &heights)?, place(width, &widths)?);
        let heights = heights.f_mul(&erases)?;
        let rectangles = Tensor::f_cat(&[rows, heights, columns, widths], 1)?;
        Ok(rectangles.f_transpose(0, 1)?.f_to_kind(Kind::Int64)?.f_contiguous()?)
    }
}
