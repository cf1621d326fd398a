//! Tests that every code term of `docs/glossary.md` is a public item.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use alys_tests::source::workspace;

/// Names of public structs, enums, traits and types.
fn public_items(root: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in workspace() {
        for line in fs::read_to_string(root.join(&source.path)).expect("a source").lines() {
            let mut words = line.trim_start().strip_prefix("pub ").unwrap_or_default().split_whitespace();
            if !matches!(words.next(), Some("struct" | "enum" | "trait" | "type")) {
                continue;
            }
            let name = words.next().unwrap_or_default();
            names.insert(name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned());
        }
    }
    names
}

#[test]
fn every_term_in_code_is_a_public_item() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let glossary = fs::read_to_string(root.join("docs/glossary.md")).expect("the glossary");
    let first_columns = glossary.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let terms: BTreeSet<_> =
        first_columns.flat_map(|column| column.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    assert!(terms.len() > 50, "{terms:?}");
    let missing: Vec<_> = terms.difference(&public_items(root)).cloned().collect();
    assert_eq!(missing, Vec::<String>::new(), "no public item has this name");
}
