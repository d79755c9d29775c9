//! Named numbers of one run, and the medians of several.

use std::fmt::Write as _;

use crate::table::Table;

/// Numbers in the order in which they are to be shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(Vec<Figure>);

#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
}

impl Figures {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.0.push(Figure { name: name.into(), unit, value });
    }

    /// Value by name; not a number where there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.0.iter().find(|figure| figure.name == name).map_or(f64::NAN, |figure| figure.value)
    }

    /// Each number's median over the runs.
    pub fn medians(runs: &[Self]) -> Self {
        let Some(first) = runs.first() else { return Self::default() };
        let of = |figure: &Figure| Figure {
            value: median(runs.iter().map(|run| run.get(&figure.name)).collect()),
            ..figure.clone()
        };
        Self(first.0.iter().map(of).collect())
    }

    /// One row a number: each run's, then the median.
    pub fn table(heading: &str, runs: &[Self]) -> Table {
        let numbers: Vec<_> = (1..=runs.len()).map(|number| format!("run {number}")).collect();
        let mut headings = vec![heading];
        headings.extend(numbers.iter().map(String::as_str));
        headings.push("median");
        let mut table = Table::new(&headings);
        for figure in &Self::medians(runs).0 {
            let mut row = vec![figure.name.clone()];
            row.extend(runs.iter().map(|run| shown(run.get(&figure.name))));
            let mut median = shown(figure.value);
            let _ = write!(median, " {}", figure.unit);
            row.push(median);
            table.row(row);
        }
        table
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(values[middle - 1], *value),
    }
}

/// As many decimals as tell something.
pub fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn each_number_has_its_own_median() {
        let run = |first, second| {
            let mut figures = Figures::default();
            figures.add("first", first, "s");
            figures.add("second", second, "");
            figures
        };
        let medians = Figures::medians(&[run(1.0, 9.0), run(2.0, 8.0), run(3.0, 100.0)]);
        assert!((medians.get("first") - 2.0).abs() < 1e-9);
        assert!((medians.get("second") - 9.0).abs() < 1e-9);
    }
}
