//! Who stops when: dependents before what they need, and among those that may stop, background first.
//!
//! The plan is a list of waves. The actors of a wave stop in parallel; the next wave begins when all of them have
//! stopped. An actor that is more important than another which may stop now waits for it, so that the critical
//! ones go last, unless somebody less important is still needed by them.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::id::{ActorName, ActorPriority};

/// An actor that is going to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// The actor.
    pub name: ActorName,
    /// How much depends on it.
    pub priority: ActorPriority,
    /// Whom it needs. Names that are not in the plan are nobody's.
    pub depends_on: Vec<ActorName>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the actors {} need each other; expected dependencies without cycles", names(.0))]
pub struct Circle(pub Vec<ActorName>);

fn names(actors: &[ActorName]) -> String {
    actors.iter().map(ActorName::as_str).collect::<Vec<_>>().join(", ")
}

/// The waves in which `actors` stop, as places in `actors`. Takes time in proportion to actors and dependencies.
pub fn waves(actors: &[Leaver]) -> Result<Vec<Vec<usize>>, Circle> {
    let places: HashMap<_, _> = actors.iter().enumerate().map(|(at, actor)| (&actor.name, at)).collect();
    let needs = |at: usize| actors[at].depends_on.iter().filter_map(|name| places.get(name).copied());
    let mut dependents = vec![0_usize; actors.len()];
    for needed in (0..actors.len()).flat_map(needs) {
        dependents[needed] += 1;
    }
    let mut ready: BTreeMap<ActorPriority, Vec<usize>> = BTreeMap::new();
    for at in (0..actors.len()).filter(|at| dependents[*at] == 0) {
        ready.entry(actors[at].priority).or_default().push(at);
    }
    let mut waves = Vec::new();
    let mut planned = 0;
    // The least important come last in their order.
    while let Some((_, wave)) = ready.pop_last() {
        planned += wave.len();
        for needed in wave.iter().copied().flat_map(needs) {
            dependents[needed] -= 1;
            if dependents[needed] == 0 {
                ready.entry(actors[needed].priority).or_default().push(needed);
            }
        }
        waves.push(wave);
    }
    if planned == actors.len() {
        return Ok(waves);
    }
    let stuck = actors.iter().zip(&dependents).filter(|(_, left)| **left > 0);
    Err(Circle(stuck.map(|(actor, _)| actor.name.clone()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ActorPriority::{Background, Critical, High, Normal};
    use proptest::prelude::*;

    fn leaver(name: &str, priority: ActorPriority, depends_on: &[&str]) -> Leaver {
        let name_of = |name: &str| ActorName::new(name).expect("a name");
        Leaver {
            name: name_of(name),
            priority,
            depends_on: depends_on.iter().map(|name| name_of(name)).collect(),
        }
    }

    fn named(actors: &[Leaver]) -> Result<Vec<Vec<&str>>, Circle> {
        let name = |at: usize| actors[at].name.as_str();
        Ok(waves(actors)?.into_iter().map(|wave| wave.into_iter().map(name).collect()).collect())
    }

    #[test]
    fn dependents_stop_first_then_the_least_important() {
        let actors = [
            leaver("chain", Critical, &[]),
            leaver("engine", Critical, &["chain"]),
            leaver("consensus", High, &["chain", "engine"]),
            leaver("sync", Normal, &["consensus", "elsewhere"]),
            leaver("logging", Background, &[]),
            leaver("federation", Critical, &[]),
        ];
        let expected: Vec<Vec<&str>> = vec![
            vec!["logging"],
            vec!["sync"],
            vec!["consensus"],
            vec!["federation", "engine"],
            vec!["chain"],
        ];
        assert_eq!(named(&actors), Ok(expected));
    }

    #[test]
    fn one_that_critical_ones_need_outlives_them_whatever_its_own_importance() {
        let actors = [leaver("chain", Critical, &["disk"]), leaver("disk", Background, &[])];
        assert_eq!(named(&actors), Ok(vec![vec!["chain"], vec!["disk"]]));
    }

    #[test]
    fn actors_that_need_each_other_are_named() {
        let actors = [
            leaver("a", Normal, &["b"]),
            leaver("b", Normal, &["c"]),
            leaver("c", Normal, &["b"]),
            leaver("d", Normal, &[]),
        ];
        let error = waves(&actors).expect_err("a circle").to_string();
        assert!(error.contains("the actors b, c need each other"), "{error}");
    }

    proptest! {
        #[test]
        fn whoever_needs_another_stops_before_it(
            needs in prop::collection::vec((0usize..4, prop::collection::vec(0usize..200, 0..4)), 1..200),
        ) {
            let priorities = [Critical, High, Normal, Background];
            let actors: Vec<_> = needs
                .iter()
                .enumerate()
                .map(|(at, (priority, needs))| {
                    // Only on earlier ones: no circle.
                    let needs: Vec<_> = needs.iter().filter(|n| **n < at).map(|n| format!("a{n}")).collect();
                    let needs: Vec<_> = needs.iter().map(String::as_str).collect();
                    leaver(&format!("a{at}"), priorities[*priority], &needs)
                })
                .collect();
            let waves = waves(&actors).expect("no circle");
            let mut wave_of = BTreeMap::new();
            for (number, wave) in waves.iter().enumerate() {
                for at in wave {
                    prop_assert_eq!(wave_of.insert(actors[*at].name.clone(), number), None);
                }
            }
            prop_assert_eq!(wave_of.len(), actors.len());
            for actor in &actors {
                for needed in &actor.depends_on {
                    prop_assert!(wave_of[&actor.name] < wave_of[needed]);
                }
            }
        }
    }
}
