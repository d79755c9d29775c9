//! What must hold at the end of every schedule.

use crate::{database::Kind, world::World};

pub(crate) fn check(world: &World) {
    for partition in world.log.partitions() {
        let log = world.log.partition(partition);
        let offsets = |kinds: &[Kind]| -> Vec<i64> {
            log.events.iter().filter(|event| kinds.contains(&event.kind)).map(|event| event.offset).collect()
        };
        let state = &world.database.now;
        let of = |told: &std::collections::BTreeMap<i32, Vec<i64>>| told.get(&partition).cloned().unwrap_or_default();
        assert_eq!(of(&state.effects), offsets(&[Kind::Good]), "effects of partition {partition}");
        let refused = offsets(&[Kind::Refused, Kind::Unclear]);
        assert_eq!(of(&state.dead_letters), refused, "dead letters of partition {partition}");
        let told: Vec<_> = log.events.iter().map(|event| (event.offset, event.kind != Kind::Good)).collect();
        assert_eq!(world.broker.outcomes(partition), told, "outcomes of partition {partition} on the audit topic");
    }
}
