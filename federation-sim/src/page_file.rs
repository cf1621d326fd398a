//! Opens the output file of the HTML page before the run, so that an unwritable path is reported before the run starts.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An open output file. Until it is written, an existing file keeps its content, and dropping this removes a file that
/// was newly created.
#[derive(Debug)]
pub struct PageFile {
    path: PathBuf,
    file: File,
    /// Whether this created the file and has not written to it yet.
    is_blank: bool,
}

/// Why a page cannot be written.
#[derive(Debug, Error)]
#[error("{what} {path}: {source}; expected a file that can be written", path = .path.display())]
pub struct Unwritable {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl PageFile {
    /// Opens a file, or creates it.
    pub fn open(path: &Path) -> Result<Self, Unwritable> {
        let wrong = |source| Unwritable { what: "report page", path: path.to_owned(), source };
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file, is_blank: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = OpenOptions::new().write(true).open(path).map_err(wrong)?;
                Ok(Self { path: path.to_owned(), file, is_blank: false })
            }
            Err(error) => Err(wrong(error)),
        }
    }

    /// Replaces the content of the file by `text`.
    pub fn write(mut self, text: &str) -> Result<(), Unwritable> {
        self.is_blank = false;
        let written = self.file.rewind().and_then(|()| {
            // A pipe or a terminal cannot be truncated.
            let is_file = self.file.metadata()?.is_file();
            if is_file { self.file.set_len(0) } else { Ok(()) }
        });
        let written = written.or_else(|error| match error.kind() {
            io::ErrorKind::NotSeekable => Ok(()),
            _ => Err(error),
        });
        let written = written.and_then(|()| self.file.write_all(text.as_bytes()));
        written.map_err(|source| Unwritable { what: "report page", path: self.path.clone(), source })
    }
}

impl Drop for PageFile {
    fn drop(&mut self) {
        if self.is_blank {
            // An empty file left behind is harmless.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_the_place_of_what_was_there_and_only_when_it_is_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.html");
        drop(PageFile::open(&path).expect("it can be written"));
        assert!(!path.exists(), "nothing was written");
        std::fs::write(&path, "a longer text that was there").expect("a file");
        drop(PageFile::open(&path).expect("it can be written"));
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "a longer text that was there");
        PageFile::open(&path).expect("it can be written").write("new").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "new");
    }

    #[test]
    fn a_file_that_can_not_be_written_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in [directory.path().to_owned(), directory.path().join("nowhere/out.html")] {
            let error = PageFile::open(&path).expect_err("no file").to_string();
            assert!(
                error.contains(&path.display().to_string()) && error.contains("expected a file"),
                "{error}"
            );
        }
    }
}
