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
/// Above the highest point, for the names of the lines.
const ROOM: f64 = 1.35;
const TEXT: (&str, u32) = ("sans-serif", 15);

/// What a chart shows.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    pub title: &'a str,
    pub across: &'a str,
    pub up: &'a str,
    /// Points from left to right, each line under its name. The places across that any line has are drawn evenly.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Chart<'_> {
    pub fn write(&self, file: &Path) -> Result<()> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let mut places: Vec<f64> = points().map(|point| point.0).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let place = |across: f64| places.partition_point(|place| *place < across);
        let top = points().map(|point| point.1).fold(0.0, f64::max);
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(58)
            .build_cartesian_2d(
                (0..places.len().saturating_sub(1).max(1)).with_key_points((0..places.len()).collect()),
                0.0..top * ROOM,
            )?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .label_style(TEXT)
            .axis_desc_style(TEXT)
            .x_label_formatter(&|place| places.get(*place).map(ToString::to_string).unwrap_or_default())
            .light_line_style(WHITE)
            .draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(points.iter().map(|point| (place(point.0), point.1)), colour.stroke_width(2))
                .point_size(3);
            let legend = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
            chart.draw_series(line)?.label(name).legend(legend);
        }
        chart
            .configure_series_labels()
            .label_font(TEXT)
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(RGBColor(200, 200, 200))
            .draw()?;
        area.present()?;
        eprintln!("picture: {}", file.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dosi_tests::stack::Scratch;

    use super::*;

    #[test]
    fn every_place_across_is_named_once() {
        let scratch = Scratch::new("chart").unwrap();
        let file = scratch.path().join("chart.svg");
        let line = |name: &str, up: f64| (name.to_owned(), vec![(5.0, up), (50.0, 2.0 * up), (800.0, up)]);
        let lines = vec![line("first", 71.0), line("second", 72.0)];
        Chart { title: "title", across: "across", up: "up", lines }.write(&file).unwrap();
        let picture = std::fs::read_to_string(&file).unwrap();
        for text in ["title", "across", "up", "first", "second", "5", "50", "800"] {
            assert_eq!(picture.lines().filter(|line| *line == text).count(), 1, "{text}");
        }
        let drawn = picture.lines().filter(|line| line.starts_with("<polyline") && line.contains("stroke-width=\"2\""));
        assert_eq!(drawn.count(), 4, "two lines and their names");
    }
}
