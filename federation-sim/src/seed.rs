//! Derives every random number from one seed, through independent streams.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Random number stream for one purpose. `purpose` is its name, at most 24 bytes.
pub(crate) fn stream(seed: u64, purpose: &str) -> StdRng {
    let mut bytes = [0; 32];
    let (number, name) = bytes.split_at_mut(8);
    number.copy_from_slice(&seed.to_be_bytes());
    debug_assert!(purpose.len() <= name.len(), "a purpose longer than 24 bytes would be cut off");
    for (byte, letter) in name.iter_mut().zip(purpose.bytes()) {
        *byte = letter;
    }
    StdRng::from_seed(bytes)
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    #[test]
    fn the_same_seed_and_purpose_give_the_same_numbers_and_no_others_do() {
        let first = |seed, purpose| stream(seed, purpose).next_u64();
        assert_eq!(first(1, "keys"), first(1, "keys"));
        assert_ne!(first(1, "keys"), first(2, "keys"));
        assert_ne!(first(1, "keys"), first(1, "payloads"));
    }
}
