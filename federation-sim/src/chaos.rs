//! Generates random faults: kind, target and duration, followed by the recovery and the check that all is healthy
//! again.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use toml::{Table, Value};

/// Maximum duration of a fault, in milliseconds. It exceeds the time after which the link to a silent peer is closed.
const LASTS_MS_MAX: u64 = 6_000;
/// Minimum duration of a fault, in milliseconds.
const LASTS_MS_MIN: u64 = 200;

/// Steps of one random fault.
pub(crate) fn fault(members: &[String], chance: &mut StdRng) -> Vec<Table> {
    let victim = members.choose(chance).expect("a federation has members");
    let others: Vec<_> = members.iter().filter(|member| *member != victim).collect();
    let other = *others.choose(chance).expect("a federation has more than one member");
    let lasts = chance.random_range(LASTS_MS_MIN..LASTS_MS_MAX);
    let delay = chance.random_range(20..400);
    let (whom, one_way) = (format!("members = [{victim:?}]"), format!("links = [\"{victim}>{other}\"]"));
    let both_ways = format!("between = [[{victim:?}], [{other:?}]]");
    let away = format!("between = [[{victim:?}], {others:?}]");
    let (strike, mend) = match chance.random_range(0..7) {
        0 => (format!("do = \"kill\"\n{whom}"), format!("do = \"restart\"\n{whom}")),
        1 => (format!("do = \"stop\"\n{whom}"), format!("do = \"restart\"\n{whom}")),
        2 => (format!("do = \"pause\"\n{whom}"), format!("do = \"resume\"\n{whom}")),
        3 => (format!("do = \"cut\"\n{both_ways}"), "do = \"heal\"".to_owned()),
        4 => (format!("do = \"cut\"\n{one_way}"), "do = \"heal\"".to_owned()),
        5 => (format!("do = \"cut\"\n{away}"), "do = \"heal\"".to_owned()),
        _ => (format!("do = \"delay\"\n{both_ways}\nby = \"{delay}ms\""), "do = \"heal\"".to_owned()),
    };
    let lasts = format!("do = \"wait\"\nduration = \"{lasts}ms\"");
    let whole = "do = \"expect\"\nlinks_up = true\nhealthy = 4\ngate = \"open\"\nwithin = \"40s\"";
    let blocks = "do = \"wait_blocks\"\ncount = 1\nwithin = \"30s\"";
    let steps = [strike.as_str(), &lasts, &mend, whole, "do = \"pairs\"", blocks];
    steps.map(|step| step.parse().expect("what is written here is TOML")).map(healthy(members)).into()
}

/// Returns a function that sets `healthy` of a step, if it has that key, to the number of all members.
fn healthy(members: &[String]) -> impl Fn(Table) -> Table {
    let all = members.len() as i64;
    move |mut step| {
        if let Some(healthy) = step.get_mut("healthy") {
            *healthy = Value::Integer(all);
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use crate::step::Step;

    #[test]
    fn the_same_seed_gives_the_same_faults_and_all_kinds_come() {
        let members: Vec<_> = (1..=4).map(|n| format!("node-{n}")).collect();
        let story = |number| {
            let mut chance = seed::stream(number, "chaos");
            let steps = (0..100).flat_map(|_| fault(&members, &mut chance));
            steps.map(|step| Step::from_table(step).expect("a step").to_string()).collect::<Vec<_>>()
        };
        assert_eq!(story(1), story(1));
        assert_ne!(story(1), story(2));
        for kind in ["kill", "stop", "pause", "cut", "delay", "restart", "resume", "heal"] {
            assert!(story(1).iter().any(|step| step.starts_with(kind)), "{kind}");
        }
    }
}
