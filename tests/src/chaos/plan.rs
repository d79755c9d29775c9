//! Which faults come when: the same for the same seed and length.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

/// What can be done to dosi and its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    KilledAndRestarted,
    KilledAndLeft,
    Terminated,
    Paused,
    PausedInTransaction,
    Added,
    ClockStepped,
    DatabaseStoppedFast,
    DatabaseStoppedImmediately,
    DatabaseStoppedSlowly,
    SessionsTerminated,
    PutBackWhileRunning,
    PutBackAcrossRestart,
    DiskFull,
    RowsHeld,
    RowsLockedInOppositeOrder,
    BrokerKilled,
    CoordinatorKilled,
    BrokersAway,
    RegistryAway,
    RegistryAwayAtStart,
    DatabaseCut,
    DatabaseDelayed,
    DatabaseThrottled,
    DatabaseSilent,
    CommitAnswerLost,
    BrokersCut,
    BrokersDelayed,
    BrokersThrottled,
    BrokersSilent,
    EndOfTransactionAnswerLost,
}

/// What a fault keeps to itself: two faults at once never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Instances,
    Database,
    Rows,
    Brokers,
    Registry,
    DatabaseNetwork,
    BrokerNetwork,
}

/// How a kind is called, how often it comes, and for how many milliseconds it stays.
struct Row {
    kind: Kind,
    name: &'static str,
    weight: u32,
    hold: (u64, u64),
    resources: &'static [Resource],
}

const fn row(kind: Kind, name: &'static str, weight: u32, hold: (u64, u64), resources: &'static [Resource]) -> Row {
    Row { kind, name, weight, hold, resources }
}

const KINDS: [Row; 31] = [
    row(Kind::KilledAndRestarted, "kill -9, started again at once", 14, (0, 2_000), &[Resource::Instances]),
    row(Kind::KilledAndLeft, "kill -9, the others take over", 5, (9_000, 14_000), &[Resource::Instances]),
    row(Kind::Terminated, "SIGTERM, started again", 5, (0, 4_000), &[Resource::Instances]),
    row(Kind::Paused, "SIGSTOP for longer than the session", 5, (7_000, 12_000), &[Resource::Instances]),
    row(
        Kind::PausedInTransaction,
        "SIGSTOP inside a database transaction",
        3,
        (7_000, 12_000),
        &[Resource::Instances, Resource::Rows],
    ),
    row(Kind::Added, "instance added and taken away", 5, (500, 8_000), &[Resource::Instances]),
    row(Kind::ClockStepped, "wall clock stepped for dosi", 2, (3_000, 8_000), &[Resource::Instances]),
    row(Kind::DatabaseStoppedFast, "PostgreSQL stopped fast", 3, (200, 4_000), &[Resource::Database]),
    row(Kind::DatabaseStoppedImmediately, "PostgreSQL stopped immediately", 4, (200, 4_000), &[Resource::Database]),
    row(Kind::DatabaseStoppedSlowly, "PostgreSQL stopped slowly", 2, (2_000, 5_000), &[Resource::Database]),
    row(Kind::SessionsTerminated, "database sessions terminated", 6, (0, 0), &[Resource::Database]),
    row(Kind::PutBackWhileRunning, "base backup put back, dosi running", 3, (2_000, 7_000), &[Resource::Database]),
    row(
        Kind::PutBackAcrossRestart,
        "base backup put back, dosi restarted",
        2,
        (2_000, 7_000),
        &[Resource::Database, Resource::Instances],
    ),
    row(Kind::DiskFull, "disk of the database full", 2, (1_500, 4_000), &[Resource::Database]),
    row(Kind::RowsHeld, "rows held by another writer", 4, (1_000, 7_000), &[Resource::Rows]),
    row(Kind::RowsLockedInOppositeOrder, "rows locked in opposite order", 4, (1_500, 5_000), &[Resource::Rows]),
    row(Kind::BrokerKilled, "broker killed", 3, (1_000, 6_000), &[Resource::Brokers]),
    row(Kind::CoordinatorKilled, "transaction coordinator killed", 3, (1_000, 6_000), &[Resource::Brokers]),
    row(Kind::BrokersAway, "all brokers killed", 2, (1_000, 6_000), &[Resource::Brokers]),
    row(Kind::RegistryAway, "registry away", 2, (2_000, 8_000), &[Resource::Registry]),
    row(
        Kind::RegistryAwayAtStart,
        "registry away at start",
        2,
        (2_000, 5_000),
        &[Resource::Registry, Resource::Instances],
    ),
    row(Kind::DatabaseCut, "connections to PostgreSQL cut", 10, (0, 0), &[Resource::DatabaseNetwork]),
    row(Kind::DatabaseDelayed, "connections to PostgreSQL delayed", 3, (2_000, 6_000), &[Resource::DatabaseNetwork]),
    row(
        Kind::DatabaseThrottled,
        "connections to PostgreSQL throttled",
        2,
        (2_000, 6_000),
        &[Resource::DatabaseNetwork],
    ),
    row(Kind::DatabaseSilent, "connections to PostgreSQL silent", 2, (3_000, 9_000), &[Resource::DatabaseNetwork]),
    row(Kind::CommitAnswerLost, "answer to COMMIT lost", 10, (8_000, 8_000), &[Resource::DatabaseNetwork]),
    row(Kind::BrokersCut, "connections to Kafka cut", 10, (0, 0), &[Resource::BrokerNetwork]),
    row(Kind::BrokersDelayed, "connections to Kafka delayed", 3, (2_000, 6_000), &[Resource::BrokerNetwork]),
    row(Kind::BrokersThrottled, "connections to Kafka throttled", 2, (2_000, 6_000), &[Resource::BrokerNetwork]),
    row(Kind::BrokersSilent, "connections to Kafka silent", 2, (4_000, 12_000), &[Resource::BrokerNetwork]),
    row(
        Kind::EndOfTransactionAnswerLost,
        "answer to the end of a Kafka transaction lost",
        8,
        (8_000, 8_000),
        &[Resource::BrokerNetwork],
    ),
];

impl Kind {
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|row| row.kind)
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub fn resources(self) -> &'static [Resource] {
        self.row().resources
    }

    fn row(self) -> &'static Row {
        KINDS.iter().find(|row| row.kind == self).expect("every kind has its row")
    }

    /// Parts that stay away for minutes some times, in a run that is long enough.
    fn may_last(self) -> bool {
        matches!(self, Self::BrokersAway | Self::DatabaseStoppedFast | Self::RegistryAway)
    }
}

/// A fault and when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub kind: Kind,
    /// After the one before it began, at the earliest: what it needs must be free first.
    pub gap: Duration,
    /// How long it stays.
    pub hold: Duration,
    /// Chooses among what there is to hit.
    pub pick: u64,
    /// Before this one everything is mended and dosi catches up.
    pub calm_before: bool,
}

impl Planned {
    /// A death that nothing else disturbs, so that the time until others have taken over can be measured.
    pub fn is_measured(&self) -> bool {
        self.kind == Kind::KilledAndLeft && !self.pick.is_multiple_of(4)
    }
}

/// The faults of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub faults: Vec<Planned>,
}

/// After so many faults dosi may catch up, so that a fault that it does not get over shows soon.
const FAULTS_BETWEEN_CALMS: usize = 20;
/// Weight of the faults that a short run must have.
const OFTEN: u32 = 5;
/// From this length on some outages last for minutes.
const LONG: Duration = Duration::from_secs(20 * 60);
/// So many of each kind that may.
const LASTING: u32 = 3;
const LASTING_MS: (u64, u64) = (60_000, 150_000);

impl Plan {
    /// As many faults as `length` can hold: every kind once in some order, those that come often first; then by weight.
    pub fn new(seed: u64, length: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut kinds: Vec<Kind> = Kind::all().collect();
        kinds.shuffle(&mut rng);
        // Taken from the end: those that come often come first, so that a short run has them all.
        kinds.sort_by_key(|kind| kind.row().weight >= OFTEN);
        let mut faults = Vec::new();
        let mut lasting: BTreeMap<Kind, u32> = BTreeMap::new();
        let mut time = Duration::ZERO;
        while time < length {
            let kind = kinds.pop().unwrap_or_else(|| by_weight(&mut rng));
            let mut fault = planned(kind, faults.len(), &mut rng);
            if length >= LONG && kind.may_last() {
                let count = lasting.entry(kind).or_default();
                *count += 1;
                if *count <= LASTING {
                    fault.hold = Duration::from_millis(rng.random_range(LASTING_MS.0..=LASTING_MS.1));
                }
            }
            time += fault.gap;
            faults.push(fault);
        }
        Self { faults }
    }
}

fn by_weight(rng: &mut StdRng) -> Kind {
    KINDS.choose_weighted(rng, |row| row.weight).expect("the weights are positive").kind
}

fn planned(kind: Kind, number: usize, rng: &mut StdRng) -> Planned {
    let (least, most) = kind.row().hold;
    // More than half of them come while the one before is still there or not yet got over.
    let gap = if rng.random_bool(0.6) { rng.random_range(100..800) } else { rng.random_range(800..3_000) };
    Planned {
        kind,
        gap: Duration::from_millis(gap),
        hold: Duration::from_millis(rng.random_range(least..=most)),
        pick: rng.random(),
        calm_before: number > 0 && number.is_multiple_of(FAULTS_BETWEEN_CALMS),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_and_length_give_the_same_faults() {
        let minute = Duration::from_secs(60);
        assert_eq!(Plan::new(7, minute), Plan::new(7, minute));
        assert_ne!(Plan::new(7, minute), Plan::new(8, minute));
    }

    #[test]
    fn a_run_of_some_minutes_has_every_kind() {
        let kinds: BTreeSet<_> = Plan::new(1, Duration::from_secs(180)).faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), KINDS.len());
    }

    #[test]
    fn most_faults_of_a_long_run_are_kills_and_cuts_and_some_outages_last() {
        let plan = Plan::new(1, Duration::from_secs(3600));
        let often = plan.faults.iter().filter(|fault| fault.kind.row().weight >= OFTEN).count();
        assert!(often * 2 > plan.faults.len(), "{often} of {}", plan.faults.len());
        for kind in Kind::all().filter(|kind| kind.may_last()) {
            let lasting = plan.faults.iter().filter(|fault| fault.kind == kind && fault.hold.as_secs() >= 60);
            assert!(lasting.count() >= 3, "{kind:?}");
        }
    }
}
