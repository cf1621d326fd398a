//! Tests that `docs/configuration.md` describes every configuration field as the code does.
//!
//! The table is generated from the fields' documentation in the sources and from their default values. `UPDATE_DOCS=1
//! cargo test -p alys-tests --test suite configuration` regenerates it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use alys_node::config::{NodeConfig, Overrides};
use syn::{Expr, Fields, Item, ItemStruct, Lit, Meta, Type};

/// Files that define configuration structures.
const SOURCES: &[&str] = &[
    "cluster/src/federation/config.rs",
    "cluster/src/health/config.rs",
    "cluster/src/health/recovery.rs",
    "cluster/src/supervision/config.rs",
    "cluster/src/supervision/intensity.rs",
    "cluster/src/supervision/pattern.rs",
    "cluster/src/supervision/strategy.rs",
    "cluster/src/transport/config.rs",
    "node/src/config.rs",
    "node/src/consensus/config.rs",
];
const DOCUMENT: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- fields: written by tests/tests/basic/configuration.rs -->\n";

/// The smallest valid configuration.
const MINIMAL: &str = r#"
genesis_file = "genesis.toml"
data_dir = "data"
[identity]
name = "node-1"
key_file = "node-1.key"
[link]
listen = "127.0.0.1:4001"
[[link.peers]]
name = "node-2"
address = "127.0.0.1:4002"
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// One field: its path in the file, and its documentation.
struct Field {
    path: String,
    text: String,
}

fn documentation(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Name of a field's type, if it is one of `structures`, or the element type of a list of them; and whether it is a
/// list.
fn structure(ty: &Type, structures: &BTreeMap<String, ItemStruct>) -> Option<(String, bool)> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if let syn::PathArguments::AngleBracketed(arguments) = &last.arguments {
        let syn::GenericArgument::Type(inner) = arguments.args.first()? else { return None };
        return structure(inner, structures).map(|(name, _)| (name, last.ident == "Vec"));
    }
    let name = last.ident.to_string();
    structures.contains_key(&name).then_some((name, false))
}

fn describe(name: &str, prefix: &str, structures: &BTreeMap<String, ItemStruct>, fields: &mut Vec<Field>) {
    let Fields::Named(named) = &structures[name].fields else { panic!("{name} has named fields") };
    let mut deeper = Vec::new();
    for field in &named.named {
        let key = field.ident.as_ref().expect("a named field").to_string();
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match structure(&field.ty, structures) {
            Some((inner, is_list)) => deeper.push((inner, if is_list { format!("{path}.0") } else { path })),
            None => fields.push(Field { path, text: documentation(&field.attrs) }),
        }
    }
    for (inner, path) in deeper {
        describe(&inner, &path, structures, fields);
    }
}

fn fields() -> Vec<Field> {
    let mut structures = BTreeMap::new();
    for source in SOURCES {
        let text = fs::read_to_string(root().join(source)).expect(source);
        let file = syn::parse_file(&text).expect(source);
        for item in file.items {
            let Item::Struct(item) = item else { continue };
            let is_read = item.attrs.iter().any(|attribute| {
                let Meta::List(list) = &attribute.meta else { return false };
                list.path.is_ident("derive") && list.tokens.to_string().contains("Deserialize")
            });
            if is_read {
                let former = structures.insert(item.ident.to_string(), item);
                assert!(former.is_none(), "{source}: two structures of one name");
            }
        }
    }
    let mut fields = Vec::new();
    describe("NodeConfig", "", &structures, &mut fields);
    fields
}

/// Default values by path. A field that the minimal file sets has no default.
fn defaults() -> BTreeMap<String, Option<String>> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("node.toml");
    fs::write(&file, MINIMAL).expect("a file");
    let rows = NodeConfig::sources(&file, &Overrides::default()).expect("the least that is accepted");
    let default = |value: String, source: String| (source == "default").then_some(value);
    rows.into_iter().map(|(key, value, source)| (key, default(value, source))).collect()
}

fn table(fields: &[Field], defaults: &BTreeMap<String, Option<String>>) -> String {
    let mut text = String::from("| field | default | meaning, unit, range |\n| --- | --- | --- |\n");
    for Field { path, text: meaning } in fields {
        let default = match defaults.get(path) {
            Some(Some(value)) => format!("`{}`", value.trim_matches('"')),
            Some(None) => "required".to_owned(),
            None => "none".to_owned(),
        };
        let _ = writeln!(text, "| `{}` | {default} | {meaning} |", path.replace(".0.", "[]."));
    }
    text
}

#[test]
fn every_configuration_field_is_in_its_reference_as_the_code_says_it() {
    let (fields, defaults) = (fields(), defaults());
    let undocumented: Vec<_> = fields.iter().filter(|field| field.text.is_empty()).map(|f| &f.path).collect();
    assert!(undocumented.is_empty(), "fields without documentation: {undocumented:?}");
    let known: Vec<_> = fields.iter().map(|field| field.path.as_str()).collect();
    let unknown: Vec<_> = defaults.keys().filter(|key| !known.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "not found in {SOURCES:?}: {unknown:?}");

    let path = root().join(DOCUMENT);
    let document = fs::read_to_string(&path).expect(DOCUMENT);
    let (before, found) = document.split_once(BEGIN).expect("the table's beginning");
    let expected = table(&fields, &defaults);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}")).expect(DOCUMENT);
        return;
    }
    let missing: Vec<_> = expected.lines().filter(|line| !found.contains(line)).collect();
    assert_eq!(
        found, expected,
        "{DOCUMENT} is not up to date (UPDATE_DOCS=1 writes it); not there: {missing:#?}"
    );
}
