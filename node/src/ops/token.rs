//! The token that lets a caller end this member.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

/// Characters a token may have.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// Why a token file does not serve.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file could not be read.
    #[error("token file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can reach it.
    #[error(
        "token file {path} has mode {mode:04o}; expected 0600 (run `chmod 600 {path}`, and replace the token if others may have read it)"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It does not hold a token. What it holds is not repeated.
    #[error(
        "token file {path} holds {length} bytes; expected 16 to 256 visible ASCII characters on one line"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// Its length, without white space around it.
        length: usize,
    },
}

/// A secret that both sides know. It is shown nowhere.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Reads a token file, refusing one that others than its owner can reach.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let error = |source| TokenError::File { path: path.into(), source };
        let metadata = fs::metadata(path).map_err(error)?;
        if !metadata.is_file() {
            return Err(error(io::Error::other("not a file")));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Mode { path: path.into(), mode });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(error)?);
        let token = text.trim();
        if !LENGTH.contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Content { path: path.into(), length: token.len() });
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// Whether `given` is this token. Takes as long for a wrong one as for the right one of the same length.
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// The value of the `authorization` header that carries it.
    pub fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{SCHEME}{}", *self.0))
    }

    /// Whether the value of an `authorization` header carries this token.
    pub fn is_in(&self, header: &str) -> bool {
        header.strip_prefix(SCHEME).is_some_and(|given| self.is(given))
    }
}

/// How the header's value begins.
const SCHEME: &str = "Bearer ";

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        (directory, path)
    }

    #[test]
    fn a_token_is_the_one_of_its_file_and_no_other_and_is_not_shown() {
        let (_directory, path) = file("0123456789abcdef\n", 0o600);
        let token = Token::read(&path).expect("a token");
        assert!(token.is("0123456789abcdef") && token.is_in(&token.header()));
        for other in ["", "0123456789abcdeg", "0123456789abcde", "0123456789abcdef0"] {
            assert!(!token.is(other) && !token.is_in(&format!("Bearer {other}")), "{other:?}");
        }
        assert!(!token.is_in("0123456789abcdef") && !token.is_in("Basic 0123456789abcdef"));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn a_token_file_that_does_not_serve_is_refused_with_its_name_and_without_what_it_holds() {
        for (text, mode, said) in [
            ("0123456789abcdef", 0o644, "has mode 0644; expected 0600"),
            ("short-secret", 0o600, "holds 12 bytes"),
            ("secret secret secret", 0o600, "expected 16 to 256 visible"),
        ] {
            let (_directory, path) = file(text, mode);
            let error = Token::read(&path).expect_err("refused").to_string();
            assert!(error.contains(said) && error.contains("token"), "{said:?} in {error:?}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
