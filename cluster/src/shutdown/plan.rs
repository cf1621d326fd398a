//! Plans the order in which actors stop: dependents before their dependencies, and otherwise low priorities first.
//!
//! The plan is a list of stages. The actors of a stage stop in parallel; the next stage begins when all of them have
//! stopped. Of the actors that may stop next, only those with the lowest priority do, so critical actors stop last,
//! unless a less important actor is a dependency of theirs.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::id::{ActorName, ActorPriority};

/// An actor to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopTarget {
    /// Name of the actor.
    pub name: ActorName,
    /// Priority of the actor.
    pub priority: ActorPriority,
    /// Actors that this one depends on. Names not in the plan are ignored.
    pub depends_on: Vec<ActorName>,
}

/// The actors' dependencies form a cycle, so there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the actors {} need each other; expected dependencies without cycles", names(.0))]
pub struct DependencyCycle(pub Vec<ActorName>);

fn names(actors: &[ActorName]) -> String {
    actors.iter().map(ActorName::as_str).collect::<Vec<_>>().join(", ")
}

/// Computes the stages as indexes into `actors`. Takes time linear in actors and dependencies.
pub fn stages(actors: &[StopTarget]) -> Result<Vec<Vec<usize>>, DependencyCycle> {
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
    let mut stages = Vec::new();
    let mut planned = 0;
    // The least important priority is the greatest in the order.
    while let Some((_, stage)) = ready.pop_last() {
        planned += stage.len();
        for needed in stage.iter().copied().flat_map(needs) {
            dependents[needed] -= 1;
            if dependents[needed] == 0 {
                ready.entry(actors[needed].priority).or_default().push(needed);
            }
        }
        stages.push(stage);
    }
    if planned == actors.len() {
        return Ok(stages);
    }
    let stuck = actors.iter().zip(&dependents).filter(|(_, left)| **left > 0);
    Err(DependencyCycle(stuck.map(|(actor, _)| actor.name.clone()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ActorPriority::{Background, Critical, High, Normal};
    use proptest::prelude::*;

    fn target(name: &str, priority: ActorPriority, depends_on: &[&str]) -> StopTarget {
        let name_of = |name: &str| ActorName::new(name).expect("a name");
        StopTarget {
            name: name_of(name),
            priority,
            depends_on: depends_on.iter().map(|name| name_of(name)).collect(),
        }
    }

    fn named(actors: &[StopTarget]) -> Result<Vec<Vec<&str>>, DependencyCycle> {
        let name = |at: usize| actors[at].name.as_str();
        Ok(stages(actors)?.into_iter().map(|stage| stage.into_iter().map(name).collect()).collect())
    }

    #[test]
    fn dependents_stop_first_then_the_least_important() {
        let actors = [
            target("chain", Critical, &[]),
            target("engine", Critical, &["chain"]),
            target("consensus", High, &["chain", "engine"]),
            target("sync", Normal, &["consensus", "elsewhere"]),
            target("logging", Background, &[]),
            target("federation", Critical, &[]),
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
        let actors = [target("chain", Critical, &["disk"]), target("disk", Background, &[])];
        assert_eq!(named(&actors), Ok(vec![vec!["chain"], vec!["disk"]]));
    }

    #[test]
    fn actors_that_need_each_other_are_named() {
        let actors = [
            target("a", Normal, &["b"]),
            target("b", Normal, &["c"]),
            target("c", Normal, &["b"]),
            target("d", Normal, &[]),
        ];
        let error = stages(&actors).expect_err("a circle").to_string();
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
                    // Depend on earlier actors only, so there is no cycle.
                    let needs: Vec<_> = needs.iter().filter(|n| **n < at).map(|n| format!("a{n}")).collect();
                    let needs: Vec<_> = needs.iter().map(String::as_str).collect();
                    target(&format!("a{at}"), priorities[*priority], &needs)
                })
                .collect();
            let stages = stages(&actors).expect("no circle");
            let mut wave_of = BTreeMap::new();
            for (number, stage) in stages.iter().enumerate() {
                for at in stage {
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
