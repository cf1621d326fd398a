//! Finds the `alys-node` executable, and builds it if cargo built the simulator.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::setup::SetupError;

/// Name of the executable.
const NAME: &str = "alys-node";

/// Finds `alys-node`: the given path, or the one next to this executable. When run through cargo, it is built first,
/// with the same profile and into the same directory; cargo does nothing if it is up to date.
pub fn locate(given: Option<&Path>, quiet: bool) -> Result<PathBuf, SetupError> {
    if let Some(given) = given {
        return if given.is_file() {
            Ok(given.to_owned())
        } else {
            Err(SetupError::Binary(format!("--node-binary is {}; expected an executable", given.display())))
        };
    }
    let own = env::current_exe()
        .map_err(|error| SetupError::Binary(format!("this executable's own path is not known: {error}")))?;
    let place = TargetLayout::of(&own);
    if let (Some(cargo), Some(manifest)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR")) {
        let mut command = Command::new(cargo);
        command.args(place.build(&Path::new(&manifest).join("Cargo.toml"), quiet));
        // Standard output is reserved for the report.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command
            .status()
            .map_err(|error| SetupError::Binary(format!("could not run cargo to build {NAME}: {error}")))?;
        if !status.success() {
            return Err(SetupError::Binary(format!("cargo could not build {NAME} ({status})")));
        }
    }
    let binary = place.profile_directory.join(NAME);
    if binary.is_file() {
        return Ok(binary);
    }
    let beside = binary.display();
    Err(SetupError::Binary(format!(
        "there is no {beside}; expected {NAME} beside this executable (`cargo build -p {NAME} -p federation-sim`), or --node-binary"
    )))
}

/// Location of an executable in cargo's target directory.
#[derive(Debug, PartialEq, Eq)]
struct TargetLayout {
    /// `target/release`, or `target/TRIPLE/release`.
    profile_directory: PathBuf,
}

impl TargetLayout {
    /// Layout for `executable`. Test executables are one level deeper, in `deps`.
    fn of(executable: &Path) -> Self {
        let mut directory = executable.parent().unwrap_or(Path::new("."));
        if directory.ends_with("deps") {
            directory = directory.parent().unwrap_or(directory);
        }
        Self { profile_directory: directory.to_owned() }
    }

    /// Arguments for cargo that build the node in this layout.
    fn build(&self, manifest: &Path, quiet: bool) -> Vec<String> {
        let name = |path: Option<&Path>| {
            path.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default().to_owned()
        };
        let profile = match name(Some(&self.profile_directory)).as_str() {
            "debug" => "dev".to_owned(),
            other => other.to_owned(),
        };
        let parent = self.profile_directory.parent();
        // Cargo marks its target directory, so one unmarked level below it is the target triple.
        let marked = |path: Option<&Path>| path.is_some_and(|path| path.join("CACHEDIR.TAG").is_file());
        let grandparent = parent.and_then(Path::parent);
        let (target_directory, triple) = if !marked(parent) && marked(grandparent) {
            (grandparent, Some(name(parent)))
        } else {
            (parent, None)
        };
        let text = |path: &Path| path.display().to_string();
        // Both packages are named so that cargo selects the same features as for the simulator and builds nothing
        // twice.
        let mut arguments: Vec<_> = ["build", "-p", NAME, "-p", env!("CARGO_PKG_NAME"), "--bin", NAME]
            .map(str::to_owned)
            .into_iter()
            .chain(["--profile".to_owned(), profile, "--manifest-path".to_owned(), text(manifest)])
            .collect();
        for (flag, value) in [("--target-dir", target_directory.map(text)), ("--target", triple)] {
            arguments.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        }
        if quiet {
            arguments.push("--quiet".to_owned());
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_built_with_the_profile_and_target_of_the_simulator() {
        let target = tempfile::tempdir().expect("a directory");
        std::fs::write(target.path().join("CACHEDIR.TAG"), "").expect("a mark");
        let root = target.path().display();
        let table = [
            ("release/federation-sim", format!("--profile release --manifest-path M --target-dir {root}")),
            ("debug/deps/tests-0123", format!("--profile dev --manifest-path M --target-dir {root}")),
            (
                "arm/release/federation-sim",
                format!("--profile release --manifest-path M --target-dir {root} --target arm"),
            ),
        ];
        for (executable, expected) in table {
            let path = target.path().join(executable);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            let arguments = TargetLayout::of(&path).build(Path::new("M"), false).join(" ");
            assert_eq!(arguments, format!("build -p alys-node -p federation-sim --bin alys-node {expected}"));
        }
    }

    #[test]
    fn a_given_binary_that_is_not_there_is_refused() {
        let error = locate(Some(Path::new("/nowhere/alys-node")), true).expect_err("not there").to_string();
        assert_eq!(error, "--node-binary is /nowhere/alys-node; expected an executable");
    }
}
