//! A page of Prometheus metrics, read.

/// One series: name, labels and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// All series of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    series: Vec<Series>,
}

impl Metrics {
    /// Lines that are no series are passed over.
    pub fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        Self { series: lines.filter_map(parse_line).collect() }
    }

    /// Sum over all label values; 0 when there is no such series.
    pub fn sum(&self, name: &str) -> f64 {
        self.named(name).map(|series| series.value).sum()
    }

    /// Values by one label.
    pub fn by_label(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        self.named(name).filter_map(|series| Some((series.label(label)?.to_owned(), series.value))).collect()
    }

    /// A quantile of a histogram over all label values, interpolated within its bucket as Prometheus does.
    ///
    /// `None` when nothing was observed; the last bound when it lies beyond that.
    pub fn quantile(&self, histogram: &str, quantile: f64) -> Option<f64> {
        let buckets = self.buckets(histogram);
        let wanted = quantile * buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if bound.is_infinite() {
                break;
            }
            if count >= wanted {
                return Some(lower + (bound - lower) * (wanted - below) / (count - below));
            }
            (lower, below) = (bound, count);
        }
        Some(lower)
    }

    /// Upper bounds and cumulative counts in order.
    fn buckets(&self, histogram: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (bound, count) in self.by_label(&format!("{histogram}_bucket"), "le") {
            let Ok(bound) = bound.parse() else { continue };
            match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, total)) => *total += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
        buckets
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| series.name == name)
    }
}

impl Series {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

fn parse_line(line: &str) -> Option<Series> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let pairs = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
    let labels =
        pairs.map(|(label, value)| (label.trim().to_owned(), value.trim_end_matches('"').to_owned())).collect();
    Some(Series { name: name.to_owned(), labels, value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP x\nx_total{outcome=\"A\",other=\"b c\"} 2\nx_total{outcome=\"B\",other=\"\"} 3\n\
        h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 30\nh_bucket{le=\"+Inf\"} 40\nplain 1.5\n";

    #[test]
    fn sums_and_labels() {
        let metrics = Metrics::parse(PAGE);
        assert!((metrics.sum("x_total") - 5.0).abs() < 1e-9);
        assert!((metrics.sum("plain") - 1.5).abs() < 1e-9);
        assert_eq!(metrics.by_label("x_total", "outcome"), [("A".to_owned(), 2.0), ("B".to_owned(), 3.0)]);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.quantile("h", 0.5), Some(1.5));
        assert_eq!(metrics.quantile("h", 0.99), Some(2.0));
        assert_eq!(metrics.quantile("nothing", 0.5), None);
    }
}
