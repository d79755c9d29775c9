//! `make bench-floor` and `make bench-england`.

use std::time::Instant;

use anyhow::Result;
use dosi_benches::backlog::{WALL, work_off};
use dosi_benches::england::{BEFORE, England, FLOOR_BATCH_EVENTS};
use dosi_benches::figures::{Figures, shown};
use dosi_benches::statements::{self, Counting, DEAREST};

const FLOOR: &str = "statements' execution time";

pub(crate) async fn floor(england: &England, runs: usize) -> Result<()> {
    let mut floors = Vec::new();
    for run in 1..=runs {
        floors.push(floor_once(england, run).await?);
    }
    print_floor(&floors);
    Ok(())
}

pub(crate) async fn england(england: &mut England, runs: usize) -> Result<()> {
    let topic = england.ground.publish(england.records.iter().cloned()).await?;
    let (mut floors, mut programs, mut told) = (Vec::new(), Vec::new(), String::new());
    for run in 1..=runs {
        floors.push(floor_once(england, run).await?);
        let subject = england.ground.subject(BEFORE, &topic).await?;
        let figures = work_off(&mut england.ground, &subject, england.records.len(), 1).await?;
        eprintln!("whole program, run {run}: {} s", shown(figures.get(WALL)));
        programs.push(figures);
        told = statements::table(subject.dos.client(), DEAREST).await?.to_string();
        subject.remove(&england.ground).await?;
    }
    print_floor(&floors);
    println!("{}", Figures::table("whole program", &programs));
    println!("statements of the last run\n\n{told}");
    let ratio = Figures::medians(&programs).get(WALL) / Figures::medians(&floors).get(FLOOR);
    println!("  whole program / floor, medians of {runs}: {ratio:.2}");
    Ok(())
}

async fn floor_once(england: &England, run: usize) -> Result<Figures> {
    let dos = england.ground.copy_of(BEFORE).await?;
    let counting = Counting::begin(dos.client()).await?;
    let start = Instant::now();
    england.floor.store(dos.url()).await?;
    let wall = start.elapsed().as_secs_f64();
    let executed = counting.executed(dos.client()).await?;
    eprintln!("floor, run {run}: {} s", shown(executed.seconds));
    let mut figures = Figures::default();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    executed.add_to(&mut figures, england.records.len() as f64);
    figures.add("wall time, client and commits included", wall, "s");
    dos.remove(&england.ground.addresses).await?;
    Ok(figures)
}

fn print_floor(floors: &[Figures]) {
    println!("\n{}", Figures::table(&format!("floor, {FLOOR_BATCH_EVENTS} events a transaction"), floors));
}
