//! Keeps evidence of equivocation: two different statements of one member for the same height, round and step, each
//! with the member's signature. Anyone who has the genesis can verify it.
//!
//! Evidence proves a fault but repairs none: agreement holds with one faulty member of four anyway. It shows operators
//! which key signs twice: a manipulated member, or two processes with one key. It survives restarts, in a file of its
//! own that nothing else depends on: a damaged file is set aside, and never prevents a member from starting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use alys_cluster::clock::WallTime;
use alys_cluster::transport::codec;
use serde::{Deserialize, Serialize};

use super::context::Statement;
use crate::genesis::Genesis;
use crate::keys::Signature;
use crate::storage::files::replace;

/// Maximum pieces of evidence kept per member. More pieces add no proof.
pub const EVIDENCE_PER_MEMBER: usize = 16;
/// Maximum number of damaged files that are kept.
const SET_ASIDE_MAX: usize = 16;
/// Maximum size of a file that is read: room for the evidence against every member of the largest federation.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A statement with its author's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Statement that was signed.
    pub statement: Statement,
    /// Signature of the author over the statement.
    pub signature: Signature,
}

/// Two statements of one member that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// Index of the author in genesis.
    pub author: u8,
    /// Statement received first.
    pub first: Signed,
    /// Statement received second.
    pub second: Signed,
    /// Wall-clock time at which the second statement was received.
    pub seen: WallTime,
}

impl Equivocation {
    /// Whether both signatures are the author's, over different statements for the same height, round and step.
    pub fn verify(&self, genesis: &Genesis) -> bool {
        let (first, second) = (&self.first.statement, &self.second.statement);
        let Some(author) = genesis.members().get(usize::from(self.author)) else { return false };
        let holds = |signed: &Signed| {
            let bytes = signed.statement.bytes(genesis.chain_id());
            author.public_key.verify(&bytes, &signed.signature)
        };
        first.place() == second.place() && first != second && holds(&self.first) && holds(&self.second)
    }
}

/// The evidence a member has, in memory and in a file. Clones share it.
#[derive(Clone, Debug)]
pub struct Evidence(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    list: Mutex<Vec<Equivocation>>,
    /// Held while the file is written, so that the newest list is written last. The value says whether the existing
    /// file is damaged and has to be set aside first.
    writing: Mutex<bool>,
}

impl Evidence {
    /// Reads the evidence in the file at `path`, if there is one, and drops evidence that does not verify. A file that
    /// can not be read, or that holds such evidence, is renamed to end in `.damaged`.
    pub fn open(path: &Path, genesis: &Genesis) -> Self {
        let mut is_damaged = false;
        let list = read(path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "evidence can not be read and is set aside");
            is_damaged = true;
            Vec::new()
        });
        let (list, spoilt): (Vec<_>, Vec<_>) = list.into_iter().partition(|kept| kept.verify(genesis));
        if !spoilt.is_empty() {
            let pieces = spoilt.len();
            tracing::warn!(path = %path.display(), pieces, "evidence does not verify, and the file is set aside");
            is_damaged = true;
        }
        if is_damaged {
            match set_aside(path) {
                Ok(()) => is_damaged = false,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "evidence could not be set aside");
                }
            }
        }
        let writing = Mutex::new(is_damaged);
        let evidence = Self(Arc::new(Kept { path: path.into(), list: Mutex::default(), writing }));
        for equivocation in list {
            evidence.keep(equivocation);
        }
        if !spoilt.is_empty()
            && let Err(error) = evidence.save()
        {
            tracing::warn!(path = %path.display(), %error, "evidence could not be written to its file");
        }
        evidence
    }

    /// Keeps a piece of evidence; returns false if it is not kept. There is one piece per member and height.
    pub fn keep(&self, equivocation: Equivocation) -> bool {
        let mut list = self.list();
        let of_author = || list.iter().filter(|kept| kept.author == equivocation.author);
        let height = equivocation.first.statement.height;
        let is_known = of_author().any(|kept| kept.first.statement.height == height);
        if is_known || of_author().count() >= EVIDENCE_PER_MEMBER {
            return false;
        }
        list.push(equivocation);
        true
    }

    /// Everything kept, oldest first.
    pub fn all(&self) -> Vec<Equivocation> {
        self.list().clone()
    }

    /// Writes the file durably, atomically replacing the old one, unless that is damaged and can still not be set
    /// aside. Blocks.
    pub fn save(&self) -> io::Result<()> {
        let mut is_damaged = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_damaged {
            set_aside(&self.0.path)?;
            *is_damaged = false;
        }
        let bytes = codec::encode(&self.all()).map_err(io::Error::other)?;
        replace(&self.0.path, &bytes).map(drop)
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Equivocation>> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renames the file to an unused name, because it may hold proof that exists nowhere else.
fn set_aside(path: &Path) -> io::Result<()> {
    let names = (0..SET_ASIDE_MAX).map(|n| match n {
        0 => path.with_extension("damaged"),
        n => path.with_extension(format!("damaged-{n}")),
    });
    let name = names.into_iter().find(|name| !name.exists()).ok_or_else(|| {
        let reason =
            format!("{SET_ASIDE_MAX} damaged files of evidence are kept already; move them elsewhere");
        io::Error::new(io::ErrorKind::AlreadyExists, reason)
    })?;
    fs::rename(path, name)
}

fn read(path: &Path) -> io::Result<Vec<Equivocation>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return Err(io::Error::other(format!(
                "{} bytes; expected at most {FILE_BYTES_MAX}",
                found.len()
            )));
        }
        Ok(_) => {}
    }
    codec::decode_canonical(&fs::read(path)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::BlockHash;
    use crate::consensus::context::Step;
    use crate::genesis::tests::{genesis, secret};

    fn signed(author: u8, height: u64, tag: u8) -> Signed {
        let block = Some(BlockHash([tag; 32]));
        let statement = Statement { step: Step::Prevote, height, round: 0, block, pol_round: -1 };
        Signed { statement, signature: secret(author).sign(&statement.bytes(genesis().chain_id())) }
    }

    fn equivocation(author: u8, height: u64) -> Equivocation {
        let (first, second) = (signed(author, height, 1), signed(author, height, 2));
        Equivocation { author, first, second, seen: WallTime(7) }
    }

    #[test]
    fn only_two_different_statements_of_one_place_by_one_author_are_evidence() {
        let good = equivocation(2, 5);
        assert!(good.verify(&genesis()));
        for (why, other) in [
            ("the same twice", Equivocation { second: good.first, ..good }),
            ("another height", Equivocation { second: signed(2, 6, 2), ..good }),
            ("another's signature", Equivocation { second: signed(1, 5, 2), ..good }),
            ("another author", Equivocation { author: 1, ..good }),
            ("no member", Equivocation { author: 9, ..good }),
        ] {
            assert!(!other.verify(&genesis()), "{why}");
        }
    }

    #[test]
    fn evidence_outlives_a_restart_and_is_bounded_for_each_member() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("evidence");
        let evidence = Evidence::open(&path, &genesis());
        for height in 1..=EVIDENCE_PER_MEMBER as u64 {
            assert!(evidence.keep(equivocation(1, height)));
            assert!(!evidence.keep(equivocation(1, height)), "once for each height");
        }
        assert!(!evidence.keep(equivocation(1, 99)), "one member's evidence is bounded");
        assert!(evidence.keep(equivocation(3, 99)), "and takes no other's room");
        evidence.save().expect("written");
        let again = Evidence::open(&path, &genesis());
        assert_eq!(again.all(), evidence.all());
        assert_eq!(again.all().len(), EVIDENCE_PER_MEMBER + 1);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_what_does_not_verify_is_left_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("evidence");
        fs::write(&path, b"garbage").expect("written");
        assert_eq!(Evidence::open(&path, &genesis()).all(), []);
        assert_eq!(fs::read(path.with_extension("damaged")).expect("set aside"), b"garbage");
        let forged = Equivocation { second: signed(1, 5, 2), ..equivocation(2, 5) };
        let bytes = codec::encode(&vec![forged, equivocation(3, 5)]).expect("encodes");
        fs::write(&path, &bytes).expect("written");
        for _ in 0..2 {
            assert_eq!(Evidence::open(&path, &genesis()).all(), [equivocation(3, 5)]);
        }
        assert_eq!(fs::read(path.with_extension("damaged")).expect("the first"), b"garbage");
        assert_eq!(fs::read(path.with_extension("damaged-1")).expect("the second"), bytes);
        assert!(!path.with_extension("damaged-2").exists(), "what is left verifies");
    }

    #[test]
    fn a_damaged_file_that_can_not_be_set_aside_stays_until_it_can() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("evidence");
        for n in 0..SET_ASIDE_MAX {
            fs::write(&path, format!("garbage {n}")).expect("written");
            assert_eq!(Evidence::open(&path, &genesis()).all(), []);
        }
        fs::write(&path, b"one more").expect("written");
        let evidence = Evidence::open(&path, &genesis());
        assert!(evidence.keep(equivocation(3, 5)));
        let refused = evidence.save().expect_err("it may hold proof that nothing else does");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("as it was"), b"one more");
        fs::remove_file(path.with_extension("damaged-7")).expect("looked into by somebody");
        evidence.save().expect("there is a name for it");
        assert_eq!(fs::read(path.with_extension("damaged-7")).expect("set aside"), b"one more");
        assert_eq!(Evidence::open(&path, &genesis()).all(), [equivocation(3, 5)]);
    }
}
