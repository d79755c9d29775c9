//! Free ports.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result};

const TRIES: usize = 1_000;
/// Below which services have ports of their own.
const LEAST: u16 = 16_384;
/// Where Linux begins unless it is told otherwise.
const OUTGOING_FROM: u16 = 32_768;

/// A port of 127.0.0.1 that is free.
///
/// It lies outside the range from which the kernel gives ports to outgoing connections: one of those would take it between
/// this answer and the server's start, or while a server is away for a moment.
pub fn free_port() -> Result<u16> {
    let among = range();
    let mut candidates = (0..TRIES).map(|_| rand::random_range(among.clone()));
    candidates.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).context("no free port")
}

fn range() -> Range<u16> {
    let told = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing_from = told.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(OUTGOING_FROM);
    // A machine that gives out low ports, too, leaves no better choice.
    if outgoing_from > LEAST { LEAST..outgoing_from } else { OUTGOING_FROM..u16::MAX }
}
