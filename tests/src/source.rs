//! Parses a source file for the layer test: tokens without comments and test modules, and the full path of every
//! reference.
//!
//! This is not a full Rust parser. It handles strings, comments, `use` trees and paths, which the rules are about; a
//! macro that builds a path from pieces would escape it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A token: an identifier, `::`, one punctuation character, or a string with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Line number, from 1.
    pub line: usize,
    /// Text of the token.
    pub text: String,
}

/// A path the source refers to, starting at the crate's name where it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Line number, from 1.
    pub line: usize,
    /// Segments, such as `["std", "time", "Instant"]`. A macro ends with `!`, a glob is `*`.
    pub path: Vec<String>,
}

impl Reference {
    /// Whether the path contains these consecutive segments, such as `time::Instant`.
    pub fn has(&self, segments: &str) -> bool {
        let wanted: Vec<_> = segments.split("::").collect();
        self.path.windows(wanted.len()).any(|window| window.iter().eq(wanted.iter()))
    }

    /// Whether the path begins with these segments.
    pub fn begins(&self, segments: &str) -> bool {
        let wanted: Vec<_> = segments.split("::").collect();
        self.path.len() >= wanted.len() && self.path.iter().zip(&wanted).all(|(found, want)| found == want)
    }

    /// The path joined by `::`.
    pub fn text(&self) -> String {
        self.path.join("::")
    }
}

/// One source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path in the workspace, with `/` as separator.
    pub path: String,
    /// Tokens of the file, without comments and test modules.
    pub tokens: Vec<Token>,
    /// Paths the file refers to.
    pub references: Vec<Reference>,
    /// Names of modules it declares for tests only.
    pub test_modules: Vec<String>,
}

impl Source {
    /// Parses `text` as the file at `path`.
    pub fn new(path: &str, text: &str) -> Self {
        let (tokens, test_modules) = without_tests(&tokens(text));
        let references = references(&module_of(path), &tokens);
        Self { path: path.to_owned(), tokens, references, test_modules }
    }

    /// Lines that contain a token equal to `text`.
    pub fn lines_of<'a>(&'a self, text: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.tokens.iter().filter(move |token| token.text == text).map(|token| token.line)
    }
}

/// Every source of the workspace's packages, except files for unit tests only.
///
/// # Panics
///
/// If a source cannot be read.
pub fn workspace() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in a workspace");
    let mut files = Vec::new();
    for package in ["cluster", "node", "federation-sim", "benches", "tests"] {
        for folder in ["src", "tests", "benches"] {
            collect(&root.join(package).join(folder), &mut files);
        }
    }
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(root).expect("it lies in the workspace");
        let text = fs::read_to_string(file).expect("a source can be read");
        Source::new(&path.to_string_lossy().replace('\\', "/"), &text)
    };
    let sources: Vec<_> = files.iter().map(read).collect();
    let for_tests: BTreeSet<_> = sources.iter().flat_map(files_of_test_modules).collect();
    sources.into_iter().filter(|source| !for_tests.contains(&source.path)).collect()
}

fn files_of_test_modules(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let folder = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    let names = source.test_modules.iter();
    names.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Path of the module that a file contains, starting at its crate.
fn module_of(path: &str) -> Vec<String> {
    let mut parts: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
    let package = match parts[0] {
        "cluster" => "alys_cluster",
        "node" => "alys_node",
        "federation-sim" => "federation_sim",
        other => other,
    };
    if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
        parts.pop();
    }
    let inner = parts.iter().skip(2).map(|part| (*part).to_owned());
    std::iter::once(package.to_owned()).chain(inner).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let end = piece(&chars, at);
        let text: String = chars[at..end].iter().collect();
        let is_comment = text.starts_with("//") || text.starts_with("/*");
        if !is_comment && !text.starts_with(char::is_whitespace) {
            found.push(Token { line, text: text.clone() });
        }
        line += text.matches('\n').count();
        at = end;
    }
    found
}

/// Index after the token or comment that begins at `at`.
fn piece(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let until = |from: usize, stop: &dyn Fn(usize) -> bool| {
        (from..chars.len()).find(|&i| stop(i)).unwrap_or(chars.len())
    };
    match chars[at] {
        '/' if next(1) == '/' => until(at, &|i| chars[i] == '\n'),
        '/' if next(1) == '*' => end_of_comment(chars, at),
        '"' => end_of_string(chars, at),
        '\'' if next(1) == '\\' => until(at + 3, &|i| chars[i] == '\'') + 1,
        '\'' if next(2) == '\'' => at + 3,
        ':' if next(1) == ':' => at + 2,
        c if c.is_whitespace() => until(at, &|i| !chars[i].is_whitespace()),
        c if is_word(c) => {
            let end = until(at, &|i| !is_word(chars[i]));
            let word: String = chars[at..end].iter().collect();
            let raw = matches!(word.as_str(), "r" | "br" | "cr");
            match chars.get(end) {
                Some('"') if raw || matches!(word.as_str(), "b" | "c") => {
                    if raw {
                        end_of_raw_string(chars, end)
                    } else {
                        end_of_string(chars, end)
                    }
                }
                Some('#') if raw => {
                    let quote = until(end, &|i| chars[i] != '#');
                    if chars.get(quote) == Some(&'"') { end_of_raw_string(chars, end) } else { end }
                }
                _ => end,
            }
        }
        _ => at + 1,
    }
}

fn end_of_comment(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

fn end_of_string(chars: &[char], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn end_of_raw_string(chars: &[char], from: usize) -> usize {
    let hashes = chars[from..].iter().take_while(|c| **c == '#').count();
    let mut i = from + hashes + 1;
    while i < chars.len() {
        let closes = chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        if closes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}

/// Removes every item marked `#[cfg(test)]`, and returns the names of the removed modules that are separate files.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !mark.iter().enumerate().all(|(n, part)| text(i + n) == *part) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let begin = i + mark.len();
        i = begin;
        while i < tokens.len() && !matches!(text(i), "{" | ";") {
            i += 1;
        }
        if text(i) == "{" {
            i = matching(tokens, i);
        } else if let Some(name) = (begin..i).find(|&n| text(n) == "mod") {
            modules.push(text(name + 1).to_owned());
        }
        i += 1;
    }
    (kept, modules)
}

/// Index of the bracket that closes the one at `open`.
fn matching(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len()
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(is_word)
}

/// Every path in `tokens`, with `use` groups expanded, names resolved by the file's `use` declarations, and `crate`,
/// `self` and `super` resolved by `module`.
fn references(module: &[String], tokens: &[Token]) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut i = 0;
    while i < tokens.len() {
        let is_path = is_identifier(&tokens[i].text) && (i == 0 || tokens[i - 1].text != "::");
        if !is_path {
            i += 1;
            continue;
        }
        if tokens[i].text == "use" {
            let mut paths = Vec::new();
            i = tree(tokens, i + 1, &[], &mut paths);
            for (line, path, alias) in paths {
                let path = resolve(module, path);
                names.insert(alias, path.clone());
                found.push(Reference { line, path });
            }
            continue;
        }
        let mut paths = Vec::new();
        i = tree(tokens, i, &[], &mut paths);
        found.extend(paths.into_iter().map(|(line, path, _)| Reference { line, path }));
    }
    for reference in &mut found {
        let known = names.get(&reference.path[0]).filter(|known| !reference.path.starts_with(known));
        if let Some(known) = known {
            reference.path.splice(..1, known.iter().cloned());
        }
        reference.path = resolve(module, std::mem::take(&mut reference.path));
    }
    found
}

fn resolve(module: &[String], path: Vec<String>) -> Vec<String> {
    if path.len() == 1 || !matches!(path[0].as_str(), "crate" | "self" | "super") {
        return path;
    }
    let mut base = if path[0] == "crate" { module[..1].to_vec() } else { module.to_vec() };
    let steps = path.iter().take_while(|part| matches!(part.as_str(), "crate" | "self" | "super")).count();
    for part in &path[..steps] {
        if part == "super" {
            base.pop();
        }
    }
    base.extend_from_slice(&path[steps..]);
    base
}

type Paths = Vec<(usize, Vec<String>, String)>;

/// Parses a path or a `use` tree at `i`; adds each leaf to `paths` with its line and alias. Returns the index at which
/// parsing continues.
fn tree(tokens: &[Token], mut i: usize, prefix: &[String], paths: &mut Paths) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let line = tokens.get(i).map_or(0, |token| token.line);
    let mut path = prefix.to_vec();
    if text(i) == "::" {
        i += 1;
    }
    loop {
        match text(i) {
            "{" => {
                i += 1;
                while i < tokens.len() && text(i) != "}" {
                    let before = i;
                    i = tree(tokens, i, &path, paths);
                    if text(i) == "," || i == before {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "*" => {
                path.push("*".to_owned());
                paths.push((line, path, "*".to_owned()));
                return i + 1;
            }
            word if is_identifier(word) => {
                // `{self, …}` means the prefix itself.
                if word != "self" || prefix.is_empty() {
                    path.push(word.to_owned());
                }
                i += 1;
            }
            // A path ends where a macro inserts something else.
            _ => return i,
        }
        let goes_on = text(i) == "::" && (is_identifier(text(i + 1)) || matches!(text(i + 1), "{" | "*"));
        if goes_on {
            i += 1;
            continue;
        }
        let mut alias = path.last().cloned().unwrap_or_default();
        if text(i) == "as" {
            text(i + 1).clone_into(&mut alias);
            i += 2;
        } else if text(i) == "!"
            && matches!(text(i + 1), "(" | "[" | "{")
            && let Some(last) = path.last_mut()
        {
            last.push('!');
        }
        if !path.is_empty() {
            paths.push((line, path, alias));
        }
        return i;
    }
}
