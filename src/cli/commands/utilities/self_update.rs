//! `orch self-update`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::runner::{ExitStatus, RunnerError};

/// Show how orch was installed and how to update it
///
/// orch recognizes the package manager by the path of its program and the files beside it. It changes nothing and opens
/// no connection.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SelfUpdateArgs {
    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,
}

/// How a program was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Installation {
    /// By npm, or by another package manager for Node.
    Npm { is_global: bool },
    /// By `npx`, into the cache of npm.
    Npx,
    /// By pip, into the Python environment in this folder.
    Pip { prefix: PathBuf },
    /// By pipx.
    Pipx,
    /// By `uv tool install`.
    UvTool,
    /// By `uvx`, into the cache of uv.
    Uvx,
    /// By dpkg.
    Debian,
    /// By Homebrew.
    Homebrew,
    /// By `cargo install` or `cargo binstall`.
    Cargo,
    /// Not installed: cargo built it in this folder.
    Build,
    /// In no other way that orch knows: from an archive, or by the installer, with this folder above `bin/`.
    Archive { prefix: Option<PathBuf> },
}

pub(in crate::cli) fn run(args: &SelfUpdateArgs, ui: &Ui) -> Result<ExitStatus> {
    let program = std::env::current_exe().and_then(|path| path.canonicalize());
    let program =
        program.map_err(|error| RunnerError::usage(format!("the path of the program can't be determined: {error}")))?;
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let installation = find_installation(&program, cargo_home.as_deref(), &Path::exists);
    let version = env!("CARGO_PKG_VERSION");
    let command = installation.command();
    match args.output {
        OutputFormat::Json => {
            let json = json!({
                "version": version,
                "program": program.display().to_string(),
                "method": installation.method(),
                "command": command,
            });
            ui.write_data(&format!("{json:#}"))?;
        }
        OutputFormat::Text => {
            let program = program.display();
            let note = installation.note();
            ui.write_text(&format!("orch {version} in {program}: {note}\n\nto update it, run: {command}\n"))?;
        }
    }
    Ok(ExitStatus::Success)
}

/// Finds out how the program with this path was installed. `exists` says whether there is a file or folder.
fn find_installation(program: &Path, cargo_home: Option<&Path>, exists: &dyn Fn(&Path) -> bool) -> Installation {
    let folder = program.parent().unwrap_or(program);
    let prefix = folder.parent().filter(|_| is_named(folder, &["bin", "Scripts"]));
    if contains(program, &["node_modules", "@orch-run"]) {
        if contains(program, &["_npx"]) {
            return Installation::Npx;
        }
        return Installation::Npm { is_global: contains(program, &["lib", "node_modules"]) };
    }
    if contains(program, &["Cellar", "orch-run"]) {
        return Installation::Homebrew;
    }
    let has_file = |name: &str| prefix.is_some_and(|prefix| exists(&prefix.join(name)));
    if has_file("pipx_metadata.json") {
        return Installation::Pipx;
    }
    if has_file("uv-receipt.toml") {
        return Installation::UvTool;
    }
    if contains(program, &["archive-v0"]) {
        return Installation::Uvx;
    }
    if folder == Path::new("/usr/bin") && exists(Path::new("/var/lib/dpkg/info/orch-run.list")) {
        return Installation::Debian;
    }
    if cargo_home.is_some_and(|home| folder == home.join("bin")) || contains(folder, &[".cargo", "bin"]) {
        return Installation::Cargo;
    }
    if let Some(prefix) = prefix.filter(|prefix| has_python_package(prefix, exists)) {
        return Installation::Pip { prefix: prefix.to_owned() };
    }
    if folder.ancestors().any(|folder| exists(&folder.join("CACHEDIR.TAG")) && exists(&folder.join(".rustc_info.json")))
    {
        return Installation::Build;
    }
    Installation::Archive { prefix: prefix.map(Path::to_owned) }
}

/// Whether the path has these components, one after the other.
fn contains(path: &Path, names: &[&str]) -> bool {
    let components: Vec<&OsStr> = path.iter().collect();
    components
        .windows(names.len())
        .any(|window| window.iter().zip(names).all(|(found, name)| *found == OsStr::new(name)))
}

fn is_named(folder: &Path, names: &[&str]) -> bool {
    folder.file_name().is_some_and(|found| names.iter().any(|name| found == OsStr::new(name)))
}

/// Whether pip installed the package `orch-run` of this version into a Python environment.
fn has_python_package(prefix: &Path, exists: &dyn Fn(&Path) -> bool) -> bool {
    let info = format!("orch_run-{}.dist-info", python_version(env!("CARGO_PKG_VERSION")));
    // Python 3.8 is the oldest version that the package accepts.
    let minor_versions = (8..40).flat_map(|minor| {
        let library = prefix.join(format!("lib/python3.{minor}"));
        [library.join("site-packages"), library.join("dist-packages")]
    });
    let mut folders = minor_versions.chain([prefix.join("Lib/site-packages")]);
    folders.any(|folder| exists(&folder.join(&info)))
}

/// The version as Python writes it: `1.2.0-rc.1` is `1.2.0rc1`.
fn python_version(version: &str) -> String {
    let Some((release, stage)) = version.split_once('-') else { return version.to_owned() };
    let stage = stage.replace("alpha", "a").replace("beta", "b").replace('.', "");
    format!("{release}{stage}")
}

impl Installation {
    /// The name of the method in JSON.
    fn method(&self) -> &'static str {
        match self {
            Self::Npm { .. } => "npm",
            Self::Npx => "npx",
            Self::Pip { .. } => "pip",
            Self::Pipx => "pipx",
            Self::UvTool => "uv",
            Self::Uvx => "uvx",
            Self::Debian => "deb",
            Self::Homebrew => "homebrew",
            Self::Cargo => "cargo",
            Self::Build => "build",
            Self::Archive { .. } => "archive",
        }
    }

    fn note(&self) -> &'static str {
        match self {
            Self::Npm { .. } => "installed by npm",
            Self::Npx => "downloaded by npx",
            Self::Pip { .. } => "installed by pip",
            Self::Pipx => "installed by pipx",
            Self::UvTool => "installed by uv",
            Self::Uvx => "downloaded by uvx",
            Self::Debian => "installed by dpkg; download the new package first",
            Self::Homebrew => "installed by Homebrew",
            Self::Cargo => "installed by cargo; if that was with `--git` or `--path`, repeat that command",
            Self::Build => "built by cargo in the folder of its source",
            Self::Archive { .. } => {
                "installed by no package manager that orch knows; download install.sh of the new release first, or unpack its \
                 archive"
            }
        }
    }

    /// The command that updates the program.
    fn command(&self) -> String {
        match self {
            Self::Npm { is_global: true } => "npm install --global orch-run@latest".to_owned(),
            Self::Npm { is_global: false } => "npm install orch-run@latest".to_owned(),
            Self::Npx => "npx orch-run@latest".to_owned(),
            Self::Pip { prefix } => {
                let folder = if cfg!(windows) { prefix.join("Scripts") } else { prefix.join("bin") };
                format!("{} -m pip install --upgrade orch-run", folder.join("python").display())
            }
            Self::Pipx => "pipx upgrade orch-run".to_owned(),
            Self::UvTool => "uv tool upgrade orch-run".to_owned(),
            Self::Uvx => "uvx --from orch-run@latest orch".to_owned(),
            Self::Debian => "sudo apt install ./orch-run_VERSION_ARCHITECTURE.deb".to_owned(),
            Self::Homebrew => "brew upgrade orch-run".to_owned(),
            Self::Cargo => "cargo install --locked orch-run".to_owned(),
            Self::Build => "git pull && cargo build --release".to_owned(),
            Self::Archive { prefix: Some(prefix) } => format!("sh install.sh --prefix '{}'", prefix.display()),
            Self::Archive { prefix: None } => "sh install.sh".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(program: &str, existing: &[&str]) -> &'static str {
        let exists = |path: &Path| existing.iter().any(|name| path == Path::new(name));
        find_installation(Path::new(program), Some(Path::new("/opt/cargo")), &exists).method()
    }

    #[test]
    fn the_path_of_the_program_shows_how_it_was_installed() {
        let package =
            format!("/home/me/venv/lib/python3.11/site-packages/orch_run-{}.dist-info", env!("CARGO_PKG_VERSION"));
        let cases: &[(&str, &[&str], &str)] = &[
            ("/usr/lib/node_modules/orch-run/node_modules/@orch-run/linux-x64/bin/orch", &[], "npm"),
            ("/home/me/.npm/_npx/1f/node_modules/@orch-run/linux-x64/bin/orch", &[], "npx"),
            ("/opt/homebrew/Cellar/orch-run/0.1.0/bin/orch", &[], "homebrew"),
            ("/pipx/venvs/orch-run/bin/orch", &["/pipx/venvs/orch-run/pipx_metadata.json"], "pipx"),
            ("/uv/tools/orch-run/bin/orch", &["/uv/tools/orch-run/uv-receipt.toml"], "uv"),
            ("/home/me/.cache/uv/archive-v0/x1/bin/orch", &[], "uvx"),
            ("/usr/bin/orch", &["/var/lib/dpkg/info/orch-run.list"], "deb"),
            ("/home/me/.cargo/bin/orch", &[], "cargo"),
            ("/opt/cargo/bin/orch", &[], "cargo"),
            ("/home/me/venv/bin/orch", &[package.as_str()], "pip"),
            ("/src/target/debug/orch", &["/src/target/CACHEDIR.TAG", "/src/target/.rustc_info.json"], "build"),
            ("/usr/bin/orch", &[], "archive"),
            ("/home/me/.local/bin/orch", &[], "archive"),
            ("/home/me/orch-0.1.0-x86_64-unknown-linux-gnu/orch", &[], "archive"),
        ];
        for (program, existing, expected) in cases {
            assert_eq!(method(program, existing), *expected, "{program}");
        }
    }

    #[test]
    fn commands_name_the_place_of_the_program() {
        let install = |program: &str| find_installation(Path::new(program), None, &|_| false).command();
        assert_eq!(install("/home/me/.local/bin/orch"), "sh install.sh --prefix '/home/me/.local'");
        assert_eq!(install("/home/me/orch"), "sh install.sh");
        let local = "/app/node_modules/@orch-run/linux-x64/bin/orch";
        assert_eq!(install(local), "npm install orch-run@latest");
        assert_eq!(install(&format!("/usr/lib{}", &local[4..])), "npm install --global orch-run@latest");
    }

    #[test]
    fn pre_releases_have_the_form_of_python() {
        assert_eq!(python_version("1.2.0-rc.1"), "1.2.0rc1");
        assert_eq!(python_version("1.2.0-alpha.3"), "1.2.0a3");
        assert_eq!(python_version("1.2.0"), "1.2.0");
    }
}
