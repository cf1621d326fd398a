//! Implements the block store with redb, one transaction per block.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use alys_cluster::transport::codec;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::consensus::BlockHash;
use crate::consensus::guard::JournalMark;
use crate::ports::{BlockStore, Head, StoreError, StoredBlock};
use crate::storage::Disk;
use crate::storage::files::{sync_directory, touch};
use crate::storage::overlay::Overlay;

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const HEAD: &str = "head";
const GENESIS: &str = "genesis";
/// Key of the identity whose signature journal belongs to the chain, with the number of its records that were durable
/// when the head was stored.
const JOURNAL: &str = "journal";

/// Maximum cache for an audit, in bytes.
const AUDIT_CACHE: usize = 64 * 1024 * 1024;

/// Block store in one database file.
pub struct RedbStore {
    database: Database,
    head: Head,
    disk: Option<Disk>,
    journal: Option<(BlockHash, JournalMark)>,
}

fn database_error(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => StoreError::Io(error),
        redb::Error::Corrupted(reason) => StoreError::Corrupt(reason),
        error => StoreError::Database(error.to_string()),
    }
}

/// Converts panics of redb, which occur on invalid pages, into errors: to the member they mean a damaged file. The
/// store must not be used afterwards.
fn reading<T>(look: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the database panicked");
        Err(StoreError::Corrupt(text.to_owned()))
    })
}

fn decode<T: serde::Serialize + serde::de::DeserializeOwned>(
    what: String,
    bytes: &[u8],
) -> Result<T, StoreError> {
    codec::decode_canonical(bytes).map_err(|error| StoreError::Value { what, reason: error.to_string() })
}

fn encode<T: serde::Serialize>(what: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    codec::encode(value).map_err(|e| StoreError::Value { what: what.to_owned(), reason: e.to_string() })
}

/// Adds the file's path to an error.
fn named(path: &Path, error: StoreError) -> StoreError {
    let path = path.display();
    match error {
        StoreError::Io(error) => {
            StoreError::Io(std::io::Error::new(error.kind(), format!("{path}: {error}")))
        }
        StoreError::Corrupt(reason) => StoreError::Corrupt(format!("{path}: {reason}")),
        StoreError::Database(reason) => StoreError::Database(format!("{path}: {reason}")),
        other => other,
    }
}

/// Path at which to create a store: the path of a missing or empty file; `None` if a store exists. A path that cannot
/// be inspected or a dangling symbolic link, such as that of an unmounted volume, is an error, because it may stand for
/// a chain.
fn place_to_begin(path: &Path) -> io::Result<Option<PathBuf>> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(Some(path.into()));
    }
    let found = fs::metadata(path)?;
    (found.is_file() && found.len() == 0).then(|| fs::canonicalize(path)).transpose()
}

impl RedbStore {
    /// Opens the store of the chain with this genesis, or creates it atomically: redb cannot open a file whose creation
    /// was interrupted.
    pub fn open(path: &Path, genesis: [u8; 32]) -> Result<Self, StoreError> {
        let open = || {
            if let Some(path) = place_to_begin(path).map_err(StoreError::Io)? {
                let draft = path.with_extension("new");
                let _ = fs::remove_file(&draft);
                touch(&draft).map_err(StoreError::Io)?;
                drop(Self::open_file(&draft, genesis)?);
                fs::rename(&draft, &path).and_then(|()| sync_directory(&path)).map_err(StoreError::Io)?;
            }
            Self::open_file(path, genesis)
        };
        reading(open).map_err(|error| named(path, error))
    }

    /// Opens the store for an audit: the file is neither locked nor changed, not even repaired. If another process
    /// writes it meanwhile, the data read is meaningless.
    pub fn look(path: &Path, genesis: [u8; 32]) -> Result<Self, StoreError> {
        let open = || {
            let overlay = Overlay::open(path).map_err(StoreError::Io)?;
            let database = Database::builder().set_cache_size(AUDIT_CACHE).create_with_backend(overlay);
            Self::begin(database.map_err(database_error)?, genesis)
        };
        reading(open).map_err(|error| named(path, error))
    }

    /// Whether the checksums of all pages in use are correct.
    pub fn is_whole(&mut self) -> Result<bool, StoreError> {
        let database = &mut self.database;
        reading(|| database.check_integrity().map_err(database_error))
    }

    fn open_file(path: &Path, genesis: [u8; 32]) -> Result<Self, StoreError> {
        Self::begin(Database::create(path).map_err(database_error)?, genesis)
    }

    fn begin(database: Database, genesis: [u8; 32]) -> Result<Self, StoreError> {
        let transaction = database.begin_write().map_err(database_error)?;
        let head = {
            transaction.open_table(BLOCKS).map_err(database_error)?;
            let mut meta = transaction.open_table(META).map_err(database_error)?;
            let found = meta.get(GENESIS).map_err(database_error)?.map(|found| found.value().to_vec());
            if let Some(found) = found {
                let found: BlockHash = decode("genesis".to_owned(), &found)?;
                let expected = BlockHash(genesis);
                if found != expected {
                    return Err(StoreError::Chain { found, expected });
                }
            } else {
                let bytes = encode("genesis", &BlockHash(genesis))?;
                meta.insert(GENESIS, bytes.as_slice()).map_err(database_error)?;
            }
            let head = meta.get(HEAD).map_err(database_error)?.map(|head| head.value().to_vec());
            head.map_or(Ok(Head::genesis(genesis)), |head| decode("head".to_owned(), &head))?
        };
        transaction.commit().map_err(database_error)?;
        Ok(Self { database, head, disk: None, journal: None })
    }

    /// Associates the store with the journal of the member with this identity: each block is stored with the journal's
    /// number of records at that time. The mark is set to the number stored with the last block.
    pub fn beside(mut self, identity: BlockHash, mark: JournalMark) -> Result<Self, StoreError> {
        let found = reading(|| {
            let transaction = self.database.begin_read().map_err(database_error)?;
            let meta = transaction.open_table(META).map_err(database_error)?;
            let found = meta.get(JOURNAL).map_err(database_error)?;
            found.map(|found| decode::<(BlockHash, u64)>("journal".to_owned(), found.value())).transpose()
        })?;
        if let Some((whose, records)) = found {
            if whose != identity {
                return Err(StoreError::Foreign);
            }
            mark.set_stored(records);
        }
        self.journal = Some((identity, mark));
        Ok(self)
    }

    /// Measures commits as syncs of `disk`.
    #[must_use]
    pub fn on(mut self, disk: Disk) -> Self {
        self.disk = Some(disk);
        self
    }
}

impl BlockStore for RedbStore {
    fn head(&self) -> Head {
        self.head
    }

    fn append(&mut self, stored: &StoredBlock) -> Result<(), StoreError> {
        let block = &stored.block;
        // The caller lost the reply to an earlier call and retries.
        if block.height == self.head.height && block.hash() == self.head.hash {
            return Ok(());
        }
        if (block.height, block.parent) != (self.head.height + 1, self.head.hash) {
            return Err(StoreError::Order {
                height: block.height,
                parent: block.parent,
                head: self.head.height,
                head_hash: self.head.hash,
            });
        }
        let head = Head::of(block);
        let journal = self.journal.as_ref().map(|(identity, mark)| (*identity, mark.next()));
        reading(|| {
            let transaction = self.database.begin_write().map_err(database_error)?;
            {
                let mut blocks = transaction.open_table(BLOCKS).map_err(database_error)?;
                let mut meta = transaction.open_table(META).map_err(database_error)?;
                blocks.insert(block.height, encode("block", stored)?.as_slice()).map_err(database_error)?;
                meta.insert(HEAD, encode("head", &head)?.as_slice()).map_err(database_error)?;
                if let Some(journal) = journal {
                    let bytes = encode("journal", &journal)?;
                    meta.insert(JOURNAL, bytes.as_slice()).map_err(database_error)?;
                }
            }
            let commit = || transaction.commit().map_err(database_error);
            match &self.disk {
                Some(disk) => disk.sync(commit),
                None => commit(),
            }
        })?;
        self.head = head;
        if let (Some((_, mark)), Some((_, records))) = (&self.journal, journal) {
            mark.set_stored(records);
        }
        Ok(())
    }

    fn block(&self, height: u64) -> Result<Option<StoredBlock>, StoreError> {
        reading(|| {
            let transaction = self.database.begin_read().map_err(database_error)?;
            let blocks = transaction.open_table(BLOCKS).map_err(database_error)?;
            let bytes = blocks.get(height).map_err(database_error)?;
            bytes.map(|bytes| decode(format!("block {height}"), bytes.value())).transpose()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Block, Certificate, StateRoot};
    use crate::keys::Signature;
    use crate::ports::Observed;

    const GENESIS: [u8; 32] = [7; 32];

    fn stored(height: u64, parent: BlockHash) -> StoredBlock {
        let block = Block {
            height,
            parent,
            timestamp_ms: height,
            proposer: 0,
            state_root: StateRoot([height as u8; 32]),
            transactions: vec![vec![height as u8; 10]],
        };
        let block_hash = block.hash();
        StoredBlock {
            block,
            certificate: Certificate {
                height,
                round: 0,
                block: block_hash,
                signers: 7,
                signature: Signature([1; 96]),
            },
            observed: Observed { proposal_at_ms: Some(1), decided_at_ms: 2, adopted: false },
        }
    }

    #[test]
    fn a_process_that_is_killed_while_it_begins_a_store_starts_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, draft) = (dir.path().join("chain.redb"), dir.path().join("chain.new"));
        std::fs::write(&draft, vec![0; 8_192]).expect("what it left");
        std::fs::write(&path, []).expect("what one of a version before left");
        assert_eq!(RedbStore::open(&path, [7; 32]).expect("begins").head().height, 0);
        assert!(!draft.exists());
        RedbStore::open(&path, [7; 32]).expect("opens again");
    }

    #[test]
    fn a_chain_that_can_not_be_reached_is_no_chain_that_was_never_begun() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("chain.redb");
        let target = dir.path().join("volume").join("chain.redb");
        std::os::unix::fs::symlink(&target, &path).expect("made");
        let refused = RedbStore::open(&path, GENESIS).err().expect("what it leads to is gone").to_string();
        assert!(refused.contains("chain.redb") && refused.contains("No such file"), "{refused}");
        assert_eq!(std::fs::read_link(&path).expect("as it was"), target);
        std::fs::create_dir(dir.path().join("volume")).expect("mounted");
        std::fs::write(&target, []).expect("what was begun there");
        let store = RedbStore::open(&path, GENESIS).expect("begins where it leads");
        assert_eq!(store.head().height, 0);
        assert_eq!(std::fs::read_link(&path).expect("as it was"), target);
        drop(store);
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        assert!(RedbStore::open(&path, GENESIS).is_err(), "a directory is no chain");
    }

    #[test]
    fn blocks_and_head_survive_closing_and_only_the_next_block_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("chain.redb");
        let mut store = RedbStore::open(&path, GENESIS).expect("opens");
        assert_eq!(store.head(), Head::genesis(GENESIS));
        let first = stored(1, BlockHash(GENESIS));
        store.append(&first).expect("follows genesis");
        store.append(&first).expect("the same again is not another");
        for wrong in
            [stored(3, first.block.hash()), stored(2, BlockHash(GENESIS)), stored(1, BlockHash([9; 32]))]
        {
            let error = store.append(&wrong).expect_err("does not follow");
            assert!(matches!(error, StoreError::Order { head: 1, .. }), "{error}");
        }
        drop(store);
        let store = RedbStore::open(&path, GENESIS).expect("opens again");
        assert_eq!(store.head(), Head::of(&first.block));
        assert_eq!(store.block(1).expect("reads"), Some(first));
        assert_eq!(store.block(2).expect("reads"), None);
    }

    #[test]
    fn a_damaged_file_is_corrupt_and_no_panic() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("chain.redb");
        let mut store = RedbStore::open(&path, GENESIS).expect("opens");
        for height in 1..=60 {
            let parent = store.head().hash;
            store.append(&stored(height, parent)).expect("follows");
        }
        drop(store);
        let mut bytes = std::fs::read(&path).expect("a file");
        // The header stays; all pages after it are overwritten.
        bytes[4_096..].fill(0xAB);
        std::fs::write(&path, bytes).expect("written");
        let outcome = RedbStore::open(&path, GENESIS).and_then(|store| store.block(1));
        let error = outcome.expect_err("the pages make no sense");
        assert!(matches!(error, StoreError::Corrupt(_) | StoreError::Value { .. }), "{error:?}");
    }

    #[test]
    fn a_block_that_is_not_written_in_the_one_way_is_refused_when_it_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("chain.redb");
        let mut store = RedbStore::open(&path, GENESIS).expect("opens");
        let first = stored(1, BlockHash(GENESIS));
        store.append(&first).expect("follows genesis");
        // The height, encoded in three bytes instead of one.
        let bytes = encode("block", &first).expect("encodes");
        let longer = [&[0xfb, bytes[0], 0][..], &bytes[1..]].concat();
        assert_eq!(codec::decode::<StoredBlock>(&longer).expect("it says the same"), first);
        let transaction = store.database.begin_write().expect("begins");
        transaction.open_table(BLOCKS).expect("opens").insert(1, longer.as_slice()).expect("written");
        transaction.commit().expect("durable");
        let refused = store.block(1).expect_err("not canonical").to_string();
        assert!(refused.contains("not written as short as it can be"), "{refused}");
    }

    #[test]
    fn a_store_of_another_chain_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("chain.redb");
        drop(RedbStore::open(&path, GENESIS).expect("opens"));
        let error = RedbStore::open(&path, [8; 32]).err().expect("another chain").to_string();
        assert!(error.contains("0707") && error.contains("0808"), "{error}");
    }
}
