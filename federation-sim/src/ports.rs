//! Chooses free ports for members to listen on.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use thiserror::Error;

/// Fallback range, used if the system's range of ephemeral ports is unknown.
const DEFAULT: RangeInclusive<u16> = 20_000..=32_000;
/// Ports tried before giving up.
const TRIES: usize = 1_000;

/// No free port was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no free port on loopback found in {tries} tries from {first} to {last}; expected one")]
pub struct NoPort {
    /// Number of ports tried.
    tries: usize,
    /// Lowest port of the range.
    first: u16,
    /// Highest port of the range.
    last: u16,
}

/// Finds a free port outside the system's ephemeral range. Otherwise an outgoing connection could take the port while a
/// member is down, and the member could not restart.
pub fn free_port() -> Result<(TcpListener, SocketAddr), NoPort> {
    let ports = ports();
    for _ in 0..TRIES {
        let port = rand::random_range(ports.clone());
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
            continue;
        };
        return Ok((listener, SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    }
    Err(NoPort { tries: TRIES, first: *ports.start(), last: *ports.end() })
}

fn ports() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    ports_outside(&text).unwrap_or(DEFAULT)
}

/// The larger of the ranges below and above `range`, if it is large enough.
fn ports_outside(range: &str) -> Option<RangeInclusive<u16>> {
    const LEAST: u16 = 10_000;
    const ROOM: usize = 1_000;
    let mut numbers = range.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let below = LEAST..=first.saturating_sub(1);
    let above = last.saturating_add(1).max(LEAST)..=u16::MAX;
    let best = if below.len() >= above.len() { below } else { above };
    (best.len() >= ROOM).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_chosen_outside_those_of_outgoing_connections() {
        let table = [
            ("32768\t60999\n", Some(10_000..=32_767)),
            ("10500 40000", Some(40_001..=65_535)),
            ("1024 65535", None),
            ("", None),
            ("x y", None),
        ];
        for (range, expected) in table {
            assert_eq!(ports_outside(range), expected, "{range:?}");
        }
    }
}
