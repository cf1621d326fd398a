//! Simulates one Byzantine member of four in virtual time, with every kind of misbehaviour: the other three agree, make
//! progress and keep the evidence.
//!
//! Each misbehaviour runs with [`SEEDS`] seeds, or with the number in the environment variable `ALYS_SIM_SEEDS`. A
//! failure names the seed; `ALYS_SIM_SEED` runs a single seed.

use std::time::Duration;

use super::{Byzantine, Misbehaviour};
use crate::actors::consensus::simulation::{MEMBERS, Simulation};
use crate::genesis::tests::secret;
use crate::keys::cheap;

/// Seeds per misbehaviour.
const SEEDS: u64 = 200;
/// Heights that each run decides: every member proposes at least once.
const HEIGHTS: usize = 5;
/// Rounds that a height may take.
///
/// A withholder can make one honest member lock its block, by giving the third vote to that member alone. The next
/// proposer proposes another block, and neither the locked member nor the withholder votes for it. The third round
/// proposes the locked block, or one that all three may vote for. About one seed in two thousand takes that long.
fn rounds(how: Misbehaviour) -> u32 {
    if how == Misbehaviour::Withholder { 3 } else { 2 }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("ALYS_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ALYS_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

/// Runs the federation with one member that misbehaves like this.
fn run(how: Misbehaviour, seed: u64) -> (Simulation, usize) {
    let mut simulation = Simulation::new(seed, true);
    let liar = (seed % MEMBERS as u64) as usize;
    let byzantine = Byzantine::new(how, &simulation.genesis, liar, secret(liar as u8), seed);
    simulation.members[liar].byzantine = Some(byzantine);
    let block_time = simulation.genesis.block_time().as_millis() as u64;
    let limit = block_time * (HEIGHTS as u64 + 4);
    let honest = |simulation: &Simulation| {
        let heights = simulation.heights().into_iter().enumerate();
        heights.filter(|(index, _)| *index != liar).map(|(_, height)| height).min().expect("three members")
    };
    while honest(&simulation) < HEIGHTS {
        simulation.run_for(100);
        let heights = simulation.heights();
        assert!(simulation.now_ms < limit, "{how}, seed {seed}: {heights:?} after {limit} ms");
    }
    // Let messages in flight arrive.
    simulation.run_for(100);
    (simulation, liar)
}

fn check(how: Misbehaviour) {
    cheap::switch_on();
    for seed in seeds() {
        let (simulation, liar) = run(how, seed);
        simulation.assert_safe();
        for (index, member) in simulation.members.iter().enumerate().filter(|(index, _)| *index != liar) {
            let taken = member.chain.iter().map(|(_, certificate, _)| certificate.round + 1);
            let most = taken.max().expect("blocks");
            assert!(most <= rounds(how), "{how}, seed {seed}: member {index} needed {most} rounds");
            let evidence = &member.evidence;
            assert!(
                evidence
                    .iter()
                    .all(|kept| usize::from(kept.author) == liar && kept.verify(&simulation.genesis)),
                "{how}, seed {seed}: {evidence:?}"
            );
            let is_kept = !evidence.is_empty();
            assert_eq!(is_kept, how.equivocates(), "{how}, seed {seed}: evidence at member {index}");
        }
        let slowest = Duration::from_millis(simulation.now_ms) / HEIGHTS as u32;
        assert!(slowest <= simulation.genesis.block_time() * 2, "{how}, seed {seed}: {slowest:?} a block");
    }
}

#[test]
fn an_equivocating_proposer_is_found_out_by_every_honest_member() {
    check(Misbehaviour::EquivocatingProposer);
}

#[test]
fn an_equivocating_voter_is_found_out_by_every_honest_member() {
    check(Misbehaviour::EquivocatingVoter);
}

#[test]
fn a_withholder_stops_nobody() {
    check(Misbehaviour::Withholder);
}

#[test]
fn blocks_with_an_orphan_parent_are_passed_over() {
    check(Misbehaviour::OrphanParent);
}

#[test]
fn a_height_that_is_a_lie_is_believed_by_nobody() {
    check(Misbehaviour::LyingHeight);
}

#[test]
fn invalid_blocks_are_passed_over() {
    check(Misbehaviour::InvalidBlock);
}

#[test]
fn a_member_that_is_late_with_everything_stops_nobody() {
    check(Misbehaviour::LateEverything);
}

#[test]
fn a_member_without_memory_of_its_votes_breaks_nothing() {
    check(Misbehaviour::Amnesiac);
}

#[test]
fn a_flood_takes_nobodys_room() {
    check(Misbehaviour::Flooder);
}
