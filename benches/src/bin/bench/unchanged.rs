//! `make bench-unchanged` and `make bench-start`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use dosi_benches::backlog::{ARCHIVE, RATE, work_off};
use dosi_benches::england::{AFTER, BEFORE, England};
use dosi_benches::figures::{Figures, shown};
use dosi_benches::processes::{Processor, processor_of};
use dosi_benches::statements::{self, Counting, DEAREST, first_and_last_commit};
use dosi_tests::topics;

use crate::latency;

const STARTS: usize = 5;
const SETTLING: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(30);

/// All profiles once more against what DoS agrees with, and England's events, in turn.
pub(crate) async fn unchanged(england: &mut England, runs: usize) -> Result<()> {
    let mixed = england.ground.publish(england.records.iter().cloned()).await?;
    let again = england.unchanged();
    let (again, unchanged) = (again.len(), england.ground.publish(again).await?);
    let (mut of_mixed, mut of_unchanged, mut told) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..runs {
        let mixed = (BEFORE, &mixed, england.records.len(), &mut of_mixed);
        let unchanged = (AFTER, &unchanged, again, &mut of_unchanged);
        for (template, topic, events, figures) in [mixed, unchanged] {
            let subject = england.ground.subject(template, topic).await?;
            figures.push(work_off(&mut england.ground, &subject, events, 1).await?);
            told = statements::table(subject.dos.client(), DEAREST).await?.to_string();
            subject.remove(&england.ground).await?;
        }
    }
    println!("\n{}", Figures::table("events of England", &of_mixed));
    println!("{}", Figures::table("unchanged events", &of_unchanged));
    println!("statements of the last run\n\n{told}");
    let ratio = Figures::medians(&of_unchanged).get(RATE) / Figures::medians(&of_mixed).get(RATE);
    println!("  rate of unchanged events / rate of England's, medians of {runs}: {ratio:.2}");
    Ok(())
}

/// From the start of the process to the first event in DoS, and what an instance costs that has nothing to do.
pub(crate) async fn start(england: &mut England) -> Result<()> {
    let newest = england.newest();
    let topic = england.ground.publish(newest.iter().cloned()).await?;
    let subject = england.ground.subject(AFTER, &topic).await?;
    let mut starts = Vec::new();
    // The first finds neither a group nor positions; it is one of them all the same, told apart below.
    for start in 0..=STARTS {
        if start > 0 {
            topics::produce(&england.ground.addresses, &topic, &newest[..1]).await?;
        }
        subject.dos.client().batch_execute("TRUNCATE dos_integration.change_event_archive").await?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let dosi = subject.dosi.start(&["run", "--exit-at-end"])?;
        dosi.wait()?;
        let (first, _) = first_and_last_commit(subject.dos.client(), ARCHIVE).await?;
        let mut figures = Figures::default();
        figures.add("start to first event in DoS", first - began, "s");
        starts.push(figures);
    }
    println!("\n  new group, whole backlog: {} s", shown(starts.remove(0).get("start to first event in DoS")));
    println!("\n{}", Figures::table("known group, one event", &starts));
    idle(england, &subject).await
}

async fn idle(england: &mut England, subject: &dosi_benches::ground::Subject) -> Result<()> {
    let instances = latency::start(&england.ground, subject, 1)?;
    tokio::time::sleep(SETTLING).await;
    let time = || instances.iter().map(|dosi| processor_of(dosi.pid(), Processor::Alone)).sum::<Result<f64>>();
    let (dosi, parts) = (time()?, england.ground.parts_time()?);
    let counting = Counting::begin(subject.dos.client()).await?;
    tokio::time::sleep(IDLE).await;
    let executed = counting.executed(subject.dos.client()).await?;
    let (dosi_now, parts_now) = (time()?, england.ground.parts_time()?);
    let seconds = IDLE.as_secs_f64();
    let mut figures = Figures::default();
    figures.add("dosi", 100.0 * (dosi_now - dosi) / seconds, "% of a core");
    figures.add("PostgreSQL", 100.0 * (parts_now.postgres - parts.postgres) / seconds, "% of a core");
    figures.add("Kafka", 100.0 * (parts_now.kafka - parts.kafka) / seconds, "% of a core");
    figures.add("statements", executed.statements / seconds, "/s");
    println!("{}", Figures::table("idle", &[figures]));
    println!("{}", statements::table(subject.dos.client(), i64::MAX).await?);
    Ok(())
}
