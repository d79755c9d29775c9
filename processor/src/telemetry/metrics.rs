//! Everything that is counted and measured (design, section 6). No label ever holds an ODS code.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
    core::{Atomic, Collector, GenericGauge},
    process_collector::ProcessCollector,
};

use crate::{
    domain::{
        audit::{Outcome, Report},
        batch::EventDecision,
        changes::{COLUMN_KEYS, WEEKDAY_KEYS},
    },
    version,
};

/// Parts outside that processing waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dependency {
    Database,
    Kafka,
    Registry,
}

impl Dependency {
    pub const ALL: [Self; 3] = [Self::Database, Self::Kafka, Self::Registry];

    /// The value of label `dependency`, and a component of `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Kafka => "kafka",
            Self::Registry => "registry",
        }
    }
}

/// Where the time of a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Bytes to change events, `Staff` removed, checked.
    Decode,
    /// Position moved, rows locked and read.
    Load,
    /// The rules.
    Decide,
    /// Audit and dead-letter records made.
    Encode,
    /// Rows written.
    Apply,
    /// The database's COMMIT.
    Commit,
    /// One Kafka transaction.
    Publish,
}

impl Stage {
    pub const ALL: [Self; 7] =
        [Self::Decode, Self::Load, Self::Decide, Self::Encode, Self::Apply, Self::Commit, Self::Publish];

    /// The value of label `stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Load => "load",
            Self::Decide => "decide",
            Self::Encode => "encode",
            Self::Apply => "apply",
            Self::Commit => "commit",
            Self::Publish => "publish",
        }
    }
}

/// All metrics of one instance. Fields without comment are described by their help texts below.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// label `outcome`
    pub change_events: IntCounterVec,
    /// label `report_key`
    pub reports: IntCounterVec,
    /// label `field`: a key of section 7
    pub service_updates: IntCounterVec,
    pub event_latency: Histogram,
    pub audit_latency: Histogram,
    /// label `stage`
    pub stage_duration: HistogramVec,
    pub batch_events: Histogram,
    /// label `partition`
    pub consumer_lag: IntGaugeVec,
    pub oldest_unprocessed_age: IntGauge,
    pub outbox_batches: IntGauge,
    pub fenced_batches: IntCounter,
    /// label `dependency`
    pub retries: IntCounterVec,
    /// label `dependency`; 1 up, 0 down
    pub dependency_up: IntGaugeVec,
    /// label `reason`
    pub dead_letters: IntCounterVec,
    pub rebalances: IntCounter,
    pub halted_partitions: IntGauge,
    /// labels `partition`, `bound` (`start`, `end`)
    pub reapplied_offsets: IntGaugeVec,
    /// label `state`: `in_use`, `idle`, `max`
    pub pool_connections: IntGaugeVec,
    pub pool_waiting: IntGauge,
}

const SECONDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const EVENTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0];

const REPORT_KEYS: &[&str] = &[
    "SERVICE_UPDATE",
    "HIDDEN_OR_CLOSED",
    "UNMATCHED_PHARMACY",
    "INVALID_OPEN_TIMES",
    "MISSING_SERVICE_TYPE",
    "INVALID_POSTCODE",
    "GENERIC_BANK_HOLIDAY",
    "BLANK_STANDARD_OPENINGS",
    "GENERIC_CHANGE_EVENT_ERROR",
    "CHANGE_EVENT_REJECTED",
    "PENDING_CHANGE_REJECTED",
    "DEAD_LETTERED",
    "CHANGE_EVENT_OUTCOME",
];

/// Fields of `SERVICE_UPDATE` beside the keys of columns and weekdays.
const OTHER_FIELDS: [&str; 3] = ["cmsorgstatus", "cmsopentimespecified", "cmssgsdid"];

/// Rules 1.3 and 6.8; a SQLSTATE joins them when it happens.
const DEAD_LETTER_REASONS: &[&str] = &[
    "Value missing",
    "Value not decodable",
    "Value is not an object",
    "ODSCode missing",
    "OrganisationTypeId missing",
    "OrganisationSubType missing",
    "ODSCode wrong length",
    "ODSCode not letters and digits",
    "OrganisationTypeId not supported",
    "OrganisationSubType not supported",
    "Key is not the ODSCode",
    "Sequence number missing",
    "Sequence number not an integer",
    "Value too long",
    "Value has a NUL character",
    "Value out of range",
];

const OUTCOMES: [Outcome; 7] = [
    Outcome::Updated,
    Outcome::Unchanged,
    Outcome::Unmatched,
    Outcome::HiddenOrClosed,
    Outcome::Stale,
    Outcome::Rejected,
    Outcome::DeadLettered,
];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics of a new instance; known label values stand at 0, so that a rate over them begins at once.
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        make.build_info();
        make.process();
        let metrics = Self {
            change_events: make.counters("dosi_change_events_total", "Change events by outcome", "outcome"),
            reports: make.counters("dosi_reports_total", "Audit records by report key", "report_key"),
            service_updates: make.counters("dosi_service_updates_total", "Changes written to DoS by field", "field"),
            event_latency: make.seconds("dosi_event_latency_seconds", "From a record's timestamp to its commit in DoS"),
            audit_latency: make
                .seconds("dosi_audit_latency_seconds", "From a record's timestamp to its audit published"),
            stage_duration: make.stages(),
            batch_events: make.histogram("dosi_batch_events", "Change events in a batch", EVENTS),
            consumer_lag: make.gauges(
                "dosi_consumer_lag",
                "Records between the position and the end of the log, by partition",
                &["partition"],
            ),
            oldest_unprocessed_age: make.gauge(
                "dosi_oldest_unprocessed_age_seconds",
                "Age of the oldest record that was received and not applied; 0 when there is none",
            ),
            outbox_batches: make.gauge("dosi_outbox_batches", "Batches applied and not yet published"),
            fenced_batches: make
                .counter("dosi_fenced_batches_total", "Batches given up since another instance had moved the position"),
            retries: make.counters("dosi_retries_total", "Repeated attempts by dependency", "dependency"),
            dependency_up: make.gauges("dosi_dependency_up", "Whether a dependency answers", &["dependency"]),
            dead_letters: make.counters("dosi_dead_letters_total", "Dead letters by reason", "reason"),
            rebalances: make.counter("dosi_rebalances_total", "Rebalances of the consumer group"),
            halted_partitions: make.gauge("dosi_halted_partitions", "Partitions that wait for dosi position set"),
            reapplied_offsets: make.gauges(
                "dosi_reapplied_offset",
                "Range applied again without audit since the database had lost its position",
                &["partition", "bound"],
            ),
            pool_connections: make.gauges("dosi_pool_connections", "Database connections by state", &["state"]),
            pool_waiting: make.gauge("dosi_pool_waiting", "Tasks that wait for a database connection"),
            registry,
        };
        metrics.begin_at_zero();
        metrics
    }

    /// The histogram of a stage, in seconds.
    pub fn stage(&self, stage: Stage) -> Histogram {
        self.stage_duration.with_label_values(&[stage.as_str()])
    }

    /// One batch's time in a stage.
    pub fn spent(&self, stage: Stage, time: Duration) {
        self.stage(stage).observe(time.as_secs_f64());
    }

    /// Counts what became of one event, now durable.
    pub fn decided(&self, decision: &EventDecision) {
        self.change_events.with_label_values(&[decision.outcome.as_str()]).inc();
        for report in &decision.reports {
            self.reports.with_label_values(&[report.key()]).inc();
            if let Report::ServiceUpdate { field, .. } = report {
                self.service_updates.with_label_values(&[*field]).inc();
            }
        }
        if let Some(letter) = &decision.dead_letter {
            self.dead_letters.with_label_values(&[letter.reason.as_str()]).inc();
        }
    }

    /// Counts one more attempt at a dependency.
    pub fn retried(&self, dependency: Dependency) {
        self.retries.with_label_values(&[dependency.as_str()]).inc();
    }

    /// Says whether a dependency answers.
    pub fn set_up(&self, dependency: Dependency, up: bool) {
        self.dependency_up.with_label_values(&[dependency.as_str()]).set(i64::from(up));
    }

    /// The range that is applied again without audit, since the database had lost its position.
    pub fn reapplied(&self, partition: i32, from: i64, to: i64) {
        let partition = partition.to_string();
        self.reapplied_offsets.with_label_values(&[partition.as_str(), "start"]).set(from);
        self.reapplied_offsets.with_label_values(&[partition.as_str(), "end"]).set(to);
    }

    /// A partition that this instance has no longer leaves no stale lag behind.
    pub fn forget_partition(&self, partition: i32) {
        // An error says that there was none.
        let _ = self.consumer_lag.remove_label_values(&[&partition.to_string()]);
    }

    /// All metrics in Prometheus's text form.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn begin_at_zero(&self) {
        for outcome in OUTCOMES {
            self.change_events.with_label_values(&[outcome.as_str()]);
        }
        let known: [(&IntCounterVec, &[&str]); 5] = [
            (&self.reports, REPORT_KEYS),
            (&self.service_updates, &COLUMN_KEYS),
            (&self.service_updates, &WEEKDAY_KEYS),
            (&self.service_updates, &OTHER_FIELDS),
            (&self.dead_letters, DEAD_LETTER_REASONS),
        ];
        for (counters, values) in known {
            for value in values {
                counters.with_label_values(&[*value]);
            }
        }
        for dependency in Dependency::ALL {
            self.retries.with_label_values(&[dependency.as_str()]);
            self.set_up(dependency, false);
        }
        for stage in Stage::ALL {
            self.stage(stage);
        }
        for state in ["in_use", "idle", "max"] {
            self.pool_connections.with_label_values(&[state]);
        }
    }
}

/// Makes metrics in a registry. Names are constants of this file: a wrong one fails the first test.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn register<C: Collector + Clone + 'static>(&self, collector: &C) {
        self.0.register(Box::new(collector.clone())).expect("each metric is registered once");
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counter = IntCounter::new(name, help).expect("the name is valid");
        self.register(&counter);
        counter
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect("the names are valid");
        self.register(&counters);
        counters
    }

    fn gauge<P: Atomic + 'static>(&self, name: &str, help: &str) -> GenericGauge<P> {
        let gauge = GenericGauge::new(name, help).expect("the name is valid");
        self.register(&gauge);
        gauge
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("the names are valid");
        self.register(&gauges);
        gauges
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(options).expect("name and buckets are valid");
        self.register(&histogram);
        histogram
    }

    fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.histogram(name, help, SECONDS)
    }

    fn stages(&self) -> HistogramVec {
        let options = HistogramOpts::new("dosi_stage_duration_seconds", "Time a batch spends in each stage");
        let histograms =
            HistogramVec::new(options.buckets(SECONDS.to_vec()), &["stage"]).expect("name and buckets are valid");
        self.register(&histograms);
        histograms
    }

    fn process(&self) {
        self.0.register(Box::new(ProcessCollector::for_self())).expect("each metric is registered once");
    }

    fn build_info(&self) {
        let labels = ["version", "commit", "librdkafka"];
        let info = self.gauges("dosi_build_info", "1, labelled with what this program is", &labels);
        info.with_label_values(&[version::VERSION, version::COMMIT, &version::librdkafka()]).set(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_documents() {
        let document = include_str!("../../../docs/operating.md");
        let metrics = Metrics::new();
        metrics.consumer_lag.with_label_values(&["0"]);
        metrics.reapplied(0, 0, 0);
        for family in metrics.registry.gather() {
            assert!(document.contains(&format!("`{}`", family.name())), "{} is not told", family.name());
            for label in family.get_metric().iter().flat_map(prometheus::proto::Metric::get_label) {
                assert!(document.contains(&format!("`{}`", label.name())), "label {}", label.name());
            }
        }
    }

    #[test]
    fn names_are_those_that_dashboards_rely_on() {
        let metrics = Metrics::new();
        metrics.consumer_lag.with_label_values(&["0"]).set(3);
        metrics.reapplied_offsets.with_label_values(&["0", "start"]).set(7);
        let text = metrics.render().unwrap();
        for name in [
            "dosi_change_events_total{outcome=\"UPDATED\"} 0",
            "dosi_reports_total{report_key=\"SERVICE_UPDATE\"} 0",
            "dosi_service_updates_total{field=\"cmsurl\"} 0",
            "dosi_event_latency_seconds_bucket{le=\"0.001\"} 0",
            "dosi_event_latency_seconds_bucket{le=\"300\"} 0",
            "dosi_audit_latency_seconds_count 0",
            "dosi_stage_duration_seconds_bucket{stage=\"apply\",le=\"300\"} 0",
            "dosi_batch_events_count 0",
            "dosi_consumer_lag{partition=\"0\"} 3",
            "dosi_oldest_unprocessed_age_seconds 0",
            "dosi_outbox_batches 0",
            "dosi_fenced_batches_total 0",
            "dosi_retries_total{dependency=\"database\"} 0",
            "dosi_dependency_up{dependency=\"kafka\"} 0",
            "dosi_dead_letters_total{reason=\"Value missing\"} 0",
            "dosi_rebalances_total 0",
            "dosi_pool_connections{state=\"idle\"} 0",
            "dosi_build_info{",
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(name), "{name}\n{text}");
        }
        metrics.forget_partition(0);
        metrics.forget_partition(1);
        assert!(!metrics.render().unwrap().contains("dosi_consumer_lag{"));
    }
}
