//! Reads a file, and keeps everything that is written to it in memory: the file is neither locked nor changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE_BYTES: u64 = 4_096;

type Page = [u8; PAGE_BYTES as usize];

/// A storage backend of a database that leaves the database file unchanged.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: u64,
    /// Bytes of the file that are still valid; truncation lowers this number.
    of_file: u64,
    /// Written pages, by page number.
    written: BTreeMap<u64, Box<Page>>,
}

impl Overlay {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(State { bytes, of_file: bytes, written: BTreeMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, of_file: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = (of_file.saturating_sub(offset) as usize).min(out.len());
        out[there..].fill(0);
        self.file.read_exact_at(&mut out[..there], offset)
    }
}

/// Splits `length` bytes at `offset` by page: the page number, the range within the page, the offset within the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let end = offset + length as u64;
    let pages = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
    pages.map(move |page| {
        let begin = page * PAGE_BYTES;
        let (from, to) = (offset.max(begin), end.min(begin + PAGE_BYTES));
        (page, (from - begin) as usize..(to - begin) as usize, (from - offset) as usize)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.bytes) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.fill(state.of_file, offset, out)?;
        for (page, within, at) in parts(offset, out.len()) {
            if let Some(written) = state.written.get(&page) {
                out[at..at + within.len()].copy_from_slice(&written[within]);
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        (state.bytes, state.of_file) = (bytes, state.of_file.min(bytes));
        state.written.split_off(&bytes.div_ceil(PAGE_BYTES));
        if let Some(last) = state.written.get_mut(&(bytes / PAGE_BYTES)) {
            last[(bytes % PAGE_BYTES) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let of_file = state.of_file;
        for (page, within, at) in parts(offset, data.len()) {
            let written = match state.written.entry(page) {
                Entry::Occupied(written) => written.into_mut(),
                Entry::Vacant(place) => {
                    let mut before = Box::new([0; PAGE_BYTES as usize]);
                    self.fill(of_file, page * PAGE_BYTES, before.as_mut_slice())?;
                    place.insert(before)
                }
            };
            let length = within.len();
            written[within].copy_from_slice(&data[at..at + length]);
        }
        state.bytes = state.bytes.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Call {
        Write(u64, Vec<u8>),
        Resize(u64),
        Read(u64, usize),
    }

    fn call() -> impl Strategy<Value = Call> {
        let offset = 0..3 * PAGE_BYTES;
        let length = 0..2 * PAGE_BYTES as usize;
        prop_oneof![
            (offset.clone(), length.clone(), any::<u8>())
                .prop_map(|(offset, length, byte)| Call::Write(offset, vec![byte; length])),
            (0..5 * PAGE_BYTES).prop_map(Call::Resize),
            (offset, length).prop_map(|(offset, length)| Call::Read(offset, length)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_reads_as_the_file_would_that_is_not_written(
            bytes in 0..3 * PAGE_BYTES as usize,
            calls in prop::collection::vec(call(), 1..24),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("file");
            let content = vec![7; bytes];
            std::fs::write(&path, &content).expect("writes");
            let overlay = Overlay::open(&path).expect("opens");
            let mut model = content.clone();
            for call in calls {
                match call {
                    Call::Write(offset, data) => {
                        // `redb` sets the length before it writes.
                        let end = offset as usize + data.len();
                        if end > model.len() {
                            continue;
                        }
                        overlay.write(offset, &data).expect("writes");
                        model[offset as usize..end].copy_from_slice(&data);
                    }
                    Call::Resize(bytes) => {
                        overlay.set_len(bytes).expect("resizes");
                        model.resize(bytes as usize, 0);
                    }
                    Call::Read(offset, length) => {
                        let mut out = vec![1; length];
                        let found = overlay.read(offset, &mut out);
                        match model.get(offset as usize..offset as usize + length) {
                            Some(expected) => prop_assert!(found.is_ok() && out == expected),
                            None => prop_assert!(found.is_err()),
                        }
                    }
                }
                prop_assert_eq!(overlay.len().expect("known"), model.len() as u64);
            }
            prop_assert_eq!(std::fs::read(&path).expect("reads"), content);
        }
    }
}
