//! The secret token that authorizes callers to change or shut down this member.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError};

/// Allowed lengths of a token, in characters.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;
/// Maximum size of a token file in bytes, white space included.
const BYTES_MAX: u64 = 1_024;

/// Why a token file is not accepted.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be opened, or other users have access to it.
    #[error(transparent)]
    Unfit(#[from] SecretFileError),
    /// Reading the file failed.
    #[error("token file {path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file is longer than any token.
    #[error("token file {path} is longer than {BYTES_MAX} bytes; expected 16 to 256 characters on one line")]
    TooLong {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file does not contain a valid token. The error does not repeat the content.
    #[error(
        "token file {path} holds {length} bytes; expected 16 to 256 visible ASCII characters on one line"
    )]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// Length of the content in bytes, without surrounding white space.
        length: usize,
    },
}

/// A shared secret. `Debug` does not print it.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Reads a token file; rejects one that other users have access to.
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

    /// Whether `given` is this token. The comparison takes constant time for inputs of the same length.
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// Value of the `authorization` header that carries the token.
    pub fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{SCHEME}{}", *self.0))
    }

    /// Whether the value of an `authorization` header carries this token.
    pub fn is_in(&self, header: &str) -> bool {
        // Authentication schemes are case-insensitive (RFC 9110, section 11.1).
        let (scheme, given) = header.split_at_checked(SCHEME.len()).unwrap_or_default();
        scheme.eq_ignore_ascii_case(SCHEME) && self.is(given)
    }
}

/// Reads the text of a token file; `None` if it is too long. The buffer never reallocates, so no copy of the secret
/// stays in memory.
fn read_bounded(file: File) -> io::Result<Option<Zeroizing<String>>> {
    let mut text = Zeroizing::new(String::with_capacity(BYTES_MAX as usize + 1));
    file.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= BYTES_MAX).then_some(text))
}

/// Prefix of the header's value.
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

        // Only root can change a file's owner.
        let (_directory, path) = file("0123456789abcdef", 0o600);
        if fs::metadata(&path).expect("it is there").uid() == 0 {
            std::os::unix::fs::chown(&path, Some(12_345), None).expect("given away");
            let error = Token::read(&path).expect_err("another's").to_string();
            assert!(error.contains("belongs to user 12345; expected user 0"), "{error}");
        }
    }
}
