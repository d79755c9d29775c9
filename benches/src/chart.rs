//! Line charts as SVG.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
];
/// Above the highest point.
const ROOM: f64 = 1.1;

/// What a chart shows.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    pub title: &'a str,
    pub across: &'a str,
    pub up: &'a str,
    /// Points from left to right, each line under its name.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Chart<'_> {
    /// Writes it; the way across is logarithmic.
    pub fn write(&self, file: &Path) -> Result<()> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let left = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let right = points().map(|point| point.0).fold(left, f64::max);
        let top = points().map(|point| point.1).fold(0.0, f64::max);
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(58)
            .build_cartesian_2d((left..right.max(left * ROOM)).log_scale(), 0.0..top * ROOM)?;
        let marks: Vec<f64> = points().map(|point| point.0).collect();
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .x_labels(marks.len().max(2))
            .x_label_formatter(&|value| format!("{value:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
            let legend = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
            chart.draw_series(line)?.label(name).legend(legend);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(RGBColor(200, 200, 200))
            .draw()?;
        area.present()?;
        eprintln!("picture: {}", file.display());
        Ok(())
    }
}
