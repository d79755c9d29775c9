//! `make bench-micro`: what the core does with one event, a typical and the largest of England: parse, decide, encode.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion};
use dosi_benches::england::country;
use dosi_tests::sample::Sample;

fn main() -> anyhow::Result<()> {
    let country = country()?;
    let mut by_size: Vec<_> = country.events.iter().collect();
    by_size.sort_by_key(|event| event.event.len());
    let mut criterion = Criterion::default().configure_from_args();
    for (name, event) in [("typical", by_size[by_size.len() / 2]), ("largest", by_size[by_size.len() - 1])] {
        eprintln!("{name}: {} bytes", event.event.len());
        measure(&mut criterion, name, &Sample::of(&country, event)?);
    }
    criterion.final_summary();
    Ok(())
}

fn measure(criterion: &mut Criterion, name: &str, sample: &Sample) {
    let mut group = criterion.benchmark_group("event");
    group.bench_function(BenchmarkId::new("parse", name), |bencher| bencher.iter(|| black_box(sample.parse())));
    let decoded = sample.parse();
    let state = sample.load(&decoded);
    group.bench_function(BenchmarkId::new("decide", name), |bencher| {
        // What it is decided against is used up, so each has its own, made outside of what is measured.
        bencher.iter_batched(
            || state.clone(),
            |state| black_box(sample.decide(&decoded, state)),
            BatchSize::SmallInput,
        );
    });
    let (decisions, _) = sample.decide(&decoded, state.clone());
    group.bench_function(BenchmarkId::new("encode", name), |bencher| {
        bencher.iter(|| black_box(sample.encode(&decoded, &decisions)));
    });
    group.finish();
}
