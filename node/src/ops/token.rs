//! The token that lets a caller change something of this member, or end it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError};

/// Characters a token may have.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;
/// The longest a token file may be, white space included.
const BYTES_MAX: u64 = 1_024;

/// Why a token file does not serve.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It can not be opened, or others can reach it.
    #[error(transparent)]
    Unfit(#[from] SecretFileError),
    /// The file could not be read.
    #[error("token file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is longer than any token.
    #[error("token file {path} is longer than {BYTES_MAX} bytes; expected 16 to 256 characters on one line")]
    TooLong {
        /// The file.
        path: PathBuf,
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
    /// Reads a token file, refusing one that others can reach.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let error = |source| TokenError::File { path: path.into(), source };
        let file = secret_file::open("token", path, true)?;
        let text =
            read_bounded(file).map_err(error)?.ok_or_else(|| TokenError::TooLong { path: path.into() })?;
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
        // Schemes are the same in capitals and small letters (RFC 9110, section 11.1).
        let (scheme, given) = header.split_at_checked(SCHEME.len()).unwrap_or_default();
        scheme.eq_ignore_ascii_case(SCHEME) && self.is(given)
    }
}

/// The text of a token file; `None` if it is too long. Nothing of it is left in memory that was moved.
fn read_bounded(file: File) -> io::Result<Option<Zeroizing<String>>> {
    let mut text = Zeroizing::new(String::with_capacity(BYTES_MAX as usize + 1));
    file.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= BYTES_MAX).then_some(text))
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
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

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
        assert!(token.is_in("bearer 0123456789abcdef") && token.is_in("BEARER 0123456789abcdef"));
        for other in ["", "0123456789abcdeg", "0123456789abcde", "0123456789abcdef0"] {
            assert!(!token.is(other) && !token.is_in(&format!("Bearer {other}")), "{other:?}");
        }
        for other in [
            "",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer",
            "Bearer  0123456789abcdef",
            "Bäärer 0",
        ] {
            assert!(!token.is_in(other), "{other:?}");
        }
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

    #[test]
    fn what_is_no_file_of_this_user_s_or_has_no_end_is_refused_at_once() {
        let (directory, path) = file("0123456789abcdef", 0o600);
        let linked = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &linked).expect("linked");
        Token::read(&linked).expect("what it leads to counts");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let error = Token::read(&linked).expect_err("others can read it").to_string();
        assert!(error.contains("has mode 0640"), "{error}");

        let (_directory, path) = file(&" ".repeat(2_000), 0o600);
        let error = Token::read(&path).expect_err("too long").to_string();
        assert!(error.contains("longer than 1024 bytes"), "{error}");

        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(&pipe).status();
        assert!(made.expect("mkfifo runs").success());
        let error = Token::read(&pipe).expect_err("a pipe").to_string();
        assert!(error.contains("not a file"), "{error}");

        // Only root can give a file away; it is accepted from nobody else but root then.
        let (_directory, path) = file("0123456789abcdef", 0o600);
        if fs::metadata(&path).expect("it is there").uid() == 0 {
            std::os::unix::fs::chown(&path, Some(12_345), None).expect("given away");
            let error = Token::read(&path).expect_err("another's").to_string();
            assert!(error.contains("belongs to user 12345; expected user 0"), "{error}");
        }
    }
}
