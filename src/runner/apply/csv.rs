//! Answers as a table: comma-separated values, quoted as RFC 4180 has it, with a line of names.

use std::io::{self, Write};

use super::Sink;
use super::answers::{Answers, Layout};
use super::columns::{Cells, Kind, class};
use crate::failure::{Failure, Result};

/// A table that is being written.
pub(super) struct Table<'a, W: Write> {
    out: W,
    layout: &'a Layout,
    /// The names of classes; empty where they have none.
    classes: &'a [String],
    /// The kind of the cells of each array.
    kinds: Vec<Kind>,
    rows: u64,
}

impl<'a, W: Write> Table<'a, W> {
    /// Writes the names of the columns.
    pub(super) fn begin(mut out: W, layout: &'a Layout, classes: &'a [String]) -> io::Result<Self> {
        let columns = layout.columns(classes).into_iter().flat_map(|columns| columns.names);
        let names: Vec<_> = ["row".to_owned()].into_iter().chain(columns).map(|name| quoted(&name)).collect();
        writeln!(out, "{}", names.join(","))?;
        let kinds = layout.columns(classes).iter().map(|columns| columns.kind).collect();
        Ok(Self { out, layout, classes, kinds, rows: 0 })
    }
}

impl<W: Write> Sink for Table<'_, W> {
    fn add(&mut self, answers: &Answers) -> Result<()> {
        let arrays = answers.cells(self.layout)?.into_iter().zip(&self.kinds).map(|(cells, kind)| match cells {
            Cells::Whole(numbers) if *kind == Kind::Class => {
                numbers.into_iter().map(|number| quoted(&class(number, self.classes))).collect::<Vec<_>>()
            }
            Cells::Whole(numbers) => numbers.iter().map(i64::to_string).collect(),
            Cells::Names(names) => names.iter().map(|name| quoted(name)).collect(),
            // As short as they are read back the same.
            Cells::Numbers(numbers) => numbers.into_iter().map(cell).collect(),
        });
        let (arrays, size) = (arrays.collect::<Vec<_>>(), answers.count());
        for row in 0..size {
            let cells = arrays.iter().flat_map(|cells| {
                let width = cells.len() / size;
                &cells[row * width..(row + 1) * width]
            });
            let line = cells.fold(self.rows.to_string(), |line, cell| line + "," + cell);
            writeln!(self.out, "{line}").map_err(Failure::storage("the predictions could not be written"))?;
            self.rows += 1;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A number, or nothing for what is none.
fn cell(number: f32) -> String {
    if number.is_nan() { String::new() } else { format!("{number:?}") }
}

/// A text as a cell.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};
    use torchd::dataset::{Dtype, Field};
    use torchd::job::spec::Loss;
    use torchd::job::spec::loss::{Answer, CrossEntropy, Mse};

    use super::*;

    fn target(dtype: Dtype, shape: &[u64]) -> Field {
        Field { name: "y".into(), file: "".into(), dtype, shape: shape.to_vec(), range: None }
    }

    fn written(layout: &Layout, classes: &[String], answers: &Answers) -> String {
        let mut out = Vec::new();
        let mut table = Table::begin(&mut out, layout, classes).unwrap();
        table.add(answers).unwrap();
        table.add(answers).unwrap();
        table.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn classes_have_their_names_and_losses_that_are_none_are_empty() {
        let taught = target(Dtype::I64, &[]);
        let loss = Loss::CrossEntropy(CrossEntropy::default());
        let mut layout = Layout::new(Some(Answer::Class(2)), Some(&loss), &[2], &taught);
        layout.target = Some(taught);
        let answers = Answers {
            names: vec!["cat/1.png".into(), "a,\"b\".jpg".into()],
            predictions: Tensor::from_slice(&[1i64, 0]),
            probabilities: Some(Tensor::from_slice(&[0.25f32, 0.75, 1.0, 1e-9]).view([2, 2])),
            targets: Some(Tensor::from_slice(&[0i64, -100])),
            loss: Some(Tensor::from_slice(&[1.5f32, f32::NAN])),
        };
        let names = ["a,b".to_owned(), "c".to_owned()];
        let told = written(&layout, &names, &answers);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[0], r#"row,prediction,"probability_a,b",probability_c,target,loss"#);
        assert_eq!(lines[1], r#"0,c,0.25,0.75,"a,b",1.5"#);
        assert_eq!(lines[2], r#"1,"a,b",1.0,1e-9,-100,"#);
        assert!(lines[3].starts_with("2,c,") && lines.len() == 5, "{told}");
        layout.has_names = true;
        let told = written(&layout, &names, &answers);
        let named: Vec<_> = told.lines().take(3).collect();
        assert!(named[0].starts_with("row,path,prediction,") && named[1].starts_with("0,cat/1.png,c,"), "{told}");
        assert!(named[2].starts_with("1,\"a,\"\"b\"\".jpg\",\"a,b\",1.0,"), "{told}");
    }

    #[test]
    fn several_answers_of_an_example_are_numbered() {
        // Classes in the first dimension, for two places.
        let taught = target(Dtype::I64, &[2]);
        let loss = Loss::CrossEntropy(CrossEntropy::default());
        let layout = Layout::new(Some(Answer::Class(3)), Some(&loss), &[3, 2], &taught);
        let answers = Answers {
            names: Vec::new(),
            predictions: Tensor::from_slice(&[2i64, 0]).view([1, 2]),
            probabilities: Some(Tensor::arange(6, (Kind::Float, tch::Device::Cpu)).view([1, 3, 2])),
            targets: None,
            loss: None,
        };
        let told = written(&layout, &[], &answers);
        let names = "row,prediction_0,prediction_1,probability_0_0,probability_0_1,probability_0_2,probability_1_0,\
                     probability_1_1,probability_1_2";
        assert_eq!(told.lines().next().unwrap(), names);
        assert_eq!(told.lines().nth(1).unwrap(), "0,2,0,0.0,2.0,4.0,1.0,3.0,5.0");
        let numbers = target(Dtype::F32, &[2]);
        let layout = Layout::new(Some(Answer::Numbers(2)), Some(&Loss::Mse(Mse)), &[2], &numbers);
        let predictions = Tensor::from_slice(&[0.5f32, -1.0]).view([1, 2]);
        let answers = Answers { names: Vec::new(), predictions, probabilities: None, targets: None, loss: None };
        assert_eq!(written(&layout, &[], &answers), "row,prediction_0,prediction_1\n0,0.5,-1.0\n1,0.5,-1.0\n");
    }
}
