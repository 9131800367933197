//! `orch self-update`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::report::commands::quote_for_shell;
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

/// How a program was installed and how to update it.
struct Installation {
    /// The name of the method in JSON.
    method: &'static str,
    /// How the program was installed, and what to do before the command or instead of it.
    note: String,
    /// The command that updates the program. `None` if the note says how to update it.
    command: Option<String>,
}

impl Installation {
    fn new(method: &'static str, note: impl Into<String>) -> Self {
        Self { method, note: note.into(), command: None }
    }

    fn with_command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

pub(in crate::cli) fn run(args: &SelfUpdateArgs, ui: &Ui) -> Result<ExitStatus> {
    let program = std::env::current_exe().and_then(|path| path.canonicalize());
    let program =
        program.map_err(|error| RunnerError::usage(format!("the path of the program can't be determined: {error}")))?;
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let Installation { method, note, command } = find_installation(&program, cargo_home.as_deref(), &Path::exists);
    let version = env!("CARGO_PKG_VERSION");
    let program = program.display().to_string();
    match args.output {
        OutputFormat::Json => {
            let json = json!({
                "version": version,
                "program": program,
                "method": method,
                "note": note,
                "command": command,
            });
            ui.write_data(&format!("{json:#}"))?;
        }
        OutputFormat::Text => {
            ui.write_text(&format!("orch {version} in {program}: {note}\n"))?;
            if let Some(command) = command {
                // Not wrapped, so that the user can copy the command.
                ui.write_preformatted(&format!("\nto update it, run: {command}\n"))?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// Finds out how the program with this path was installed. `exists` says whether there is a file or folder.
fn find_installation(program: &Path, cargo_home: Option<&Path>, exists: &dyn Fn(&Path) -> bool) -> Installation {
    let folder = program.parent().unwrap_or(program);
    let prefix = folder.parent().filter(|_| is_named(folder, &["bin", "Scripts"]));
    if contains(program, &["node_modules", "@orch-run"]) {
        return find_node_installation(program, exists);
    }
    if contains(program, &["Cellar", "orch-run"]) {
        let note = "installed by Homebrew; first replace the formula in your tap by `orch-run.rb` of the new release";
        return Installation::new("homebrew", note).with_command("brew upgrade orch-run");
    }
    let has_file = |name: &str| prefix.is_some_and(|prefix| exists(&prefix.join(name)));
    if has_file("pipx_metadata.json") {
        return Installation::new("pipx", "installed by pipx").with_command("pipx upgrade orch-run");
    }
    if has_file("uv-receipt.toml") {
        return Installation::new("uv", "installed by uv").with_command("uv tool upgrade orch-run");
    }
    if contains(program, &["archive-v0"]) {
        return Installation::new("uvx", "downloaded by uvx").with_command("uvx --from orch-run@latest orch");
    }
    if folder == Path::new("/usr/bin") && exists(Path::new("/var/lib/dpkg/info/orch-run.list")) {
        let note = "installed by dpkg; to update it, download the package of the new release and install the file with \
                    `sudo apt install ./FILE`";
        return Installation::new("deb", note);
    }
    if cargo_home.is_some_and(|home| folder == home.join("bin")) || contains(folder, &[".cargo", "bin"]) {
        // Whether the crate came from a registry, a repository or a folder can't be seen from the path.
        let note = "installed by cargo; to update it, repeat the `cargo install` or `cargo binstall` that installed it";
        return Installation::new("cargo", note);
    }
    if let Some(prefix) = prefix.filter(|prefix| has_python_package(prefix, exists)) {
        return describe_pip(prefix, is_named(folder, &["Scripts"]), exists);
    }
    if folder.ancestors().any(|folder| exists(&folder.join("CACHEDIR.TAG")) && exists(&folder.join(".rustc_info.json")))
    {
        let note = "built by cargo; run the command in the folder of the source";
        return Installation::new("build", note).with_command("git pull && cargo build --release");
    }
    describe_archive(prefix, exists)
}

/// The folders of global packages of other package managers than npm, and the commands that update orch there.
const GLOBAL_NODE_FOLDERS: &[(&[&str], &str)] = &[
    (&["pnpm", "global"], "pnpm add --global orch-run@latest"),
    (&["yarn", "global"], "yarn global add orch-run@latest"),
    (&["Yarn", "Data", "global"], "yarn global add orch-run@latest"),
    (&[".bun", "install", "global"], "bun add --global orch-run@latest"),
];

/// Finds out which package manager for Node installed the program.
fn find_node_installation(program: &Path, exists: &dyn Fn(&Path) -> bool) -> Installation {
    if contains(program, &["_npx"]) {
        return Installation::new("npx", "downloaded by npx").with_command("npx orch-run@latest");
    }
    if let Some((_, command)) = GLOBAL_NODE_FOLDERS.iter().find(|(names, _)| contains(program, names)) {
        return Installation::new("npm", "installed as a global package for Node").with_command(*command);
    }
    let modules = program.ancestors().filter(|folder| is_named(folder, &["node_modules"])).last();
    if let Some((modules, project)) = modules.and_then(|modules| Some((modules, modules.parent()?))) {
        let is_project = exists(&project.join("package.json"));
        // Among global packages, npm puts the dependencies of a package into its folder.
        if !is_project && contains(program, &["node_modules", "orch-run", "node_modules", "@orch-run"]) {
            let note = "installed by npm as a global package";
            return Installation::new("npm", note).with_command("npm install --global orch-run@latest");
        }
        // Only npm writes this file.
        if is_project && exists(&modules.join(".package-lock.json")) {
            let note = format!("installed by npm for the project in {}; run the command there", project.display());
            return Installation::new("npm", note).with_command("npm install orch-run@latest");
        }
    }
    let note =
        "installed by a package manager for Node; to update it, install `orch-run@latest` with this package manager";
    Installation::new("npm", note)
}

/// Describes a program that pip installed into the Python environment in the folder `prefix`.
fn describe_pip(prefix: &Path, is_windows: bool, exists: &dyn Fn(&Path) -> bool) -> Installation {
    if is_windows {
        // Python may be in another folder, and each shell of Windows calls a quoted path in its own way.
        let note = format!(
            "installed by pip for the Python of {}; to update it, run `python -m pip install --upgrade orch-run` with \
             this Python",
            prefix.display()
        );
        return Installation::new("pip", note);
    }
    let is_of_user =
        prefix.ends_with(".local") || prefix.parent().is_some_and(|folder| folder.ends_with("Library/Python"));
    let interpreter = ["bin/python3", "bin/python"].map(|name| prefix.join(name)).into_iter().find(|path| exists(path));
    match interpreter {
        Some(python) if !is_of_user => {
            let python = quote_for_shell(&python.display().to_string());
            Installation::new("pip", "installed by pip")
                .with_command(format!("{python} -m pip install --upgrade orch-run"))
        }
        _ => {
            let option = if is_of_user { "--user " } else { "" };
            let note = "installed by pip; add the other options that installed it, such as `--break-system-packages`";
            Installation::new("pip", note).with_command(format!("python3 -m pip install {option}--upgrade orch-run"))
        }
    }
}

/// Describes a program that no known package manager installed. `prefix` is the folder above `bin/`.
fn describe_archive(prefix: Option<&Path>, exists: &dyn Fn(&Path) -> bool) -> Installation {
    let unknown = "installed by no package manager that orch knows";
    // The image of orch has no shell, and neither has Windows.
    let Some(prefix) = prefix.filter(|_| exists(Path::new("/bin/sh"))) else {
        let advice = "to update it, replace it by the program from the archive of the new release; in a container, use \
                      a new image";
        return Installation::new("archive", format!("{unknown}; {advice}"));
    };
    let prefix = quote_for_shell(&prefix.display().to_string());
    Installation::new("archive", format!("{unknown}; first download `install.sh` of the new release"))
        .with_command(format!("sh install.sh --prefix {prefix}"))
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
    // Windows, and the packages of a user on macOS and Windows.
    let others = ["Lib/site-packages", "lib/python/site-packages", "site-packages"].map(|name| prefix.join(name));
    let mut folders = minor_versions.chain(others);
    folders.any(|folder| exists(&folder.join(&info)))
}

/// The version as Python writes it: `1.2.0-rc.1` is `1.2.0rc1`.
fn python_version(version: &str) -> String {
    let Some((release, stage)) = version.split_once('-') else { return version.to_owned() };
    let stage = stage.replace("alpha", "a").replace("beta", "b").replace('.', "");
    format!("{release}{stage}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(program: &str, existing: &[&str]) -> Installation {
        let exists = |path: &Path| existing.iter().any(|name| path == Path::new(name));
        find_installation(Path::new(program), Some(Path::new("/opt/cargo")), &exists)
    }

    fn command(program: &str, existing: &[&str]) -> Option<String> {
        find(program, existing).command
    }

    fn python_info(library: &str) -> String {
        format!("{library}/orch_run-{}.dist-info", python_version(env!("CARGO_PKG_VERSION")))
    }

    #[test]
    fn the_path_of_the_program_shows_how_it_was_installed() {
        let package = python_info("/home/me/venv/lib/python3.11/site-packages");
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
            assert_eq!(find(program, existing).method, *expected, "{program}");
        }
    }

    #[test]
    fn the_installer_gets_the_folder_of_the_program_where_it_can_run() {
        let install = |program: &str| command(program, &["/bin/sh"]);
        assert_eq!(install("/home/me/.local/bin/orch").as_deref(), Some("sh install.sh --prefix /home/me/.local"));
        assert_eq!(install("/it's/bin/orch").as_deref(), Some(r"sh install.sh --prefix '/it'\''s'"));
        assert_eq!(install("/home/me/orch"), None, "the installer would install it elsewhere");
        let image = find("/usr/bin/orch", &[]);
        assert_eq!(image.command, None);
        assert!(image.note.contains("a new image"), "{}", image.note);
    }

    #[test]
    fn a_package_of_debian_has_instructions_and_no_command() {
        let package = find("/usr/bin/orch", &["/bin/sh", "/var/lib/dpkg/info/orch-run.list"]);
        assert_eq!(package.command, None);
        assert!(package.note.contains("`sudo apt install ./FILE`"), "{}", package.note);
    }

    #[test]
    fn pip_runs_with_the_python_of_the_program() {
        let pip = |prefix: &str, library: &str, interpreter: &str| {
            let info = python_info(&format!("{prefix}/{library}"));
            command(&format!("{prefix}/bin/orch"), &[info.as_str(), interpreter]).unwrap()
        };
        let site = "lib/python3.11/site-packages";
        assert_eq!(pip("/venv", site, "/venv/bin/python"), "/venv/bin/python -m pip install --upgrade orch-run");
        let quoted = "'/my venv/bin/python3' -m pip install --upgrade orch-run";
        assert_eq!(pip("/my venv", site, "/my venv/bin/python3"), quoted);
        let of_system = "python3 -m pip install --upgrade orch-run";
        assert_eq!(pip("/usr/local", "lib/python3.11/dist-packages", "/usr/bin/python3"), of_system);
        let of_user = "python3 -m pip install --user --upgrade orch-run";
        assert_eq!(pip("/home/me/.local", site, "/home/me/.local/bin/python3"), of_user);
        let macos = "/Users/me/Library/Python/3.9";
        assert_eq!(pip(macos, "lib/python/site-packages", "/usr/bin/python3"), of_user);
        let windows = find("/venv/Scripts/orch.exe", &[python_info("/venv/Lib/site-packages").as_str()]);
        assert_eq!((windows.method, windows.command), ("pip", None));
    }

    #[test]
    fn packages_of_node_are_updated_by_the_package_manager_that_installed_them() {
        let local = "/app/lib/node_modules/@orch-run/linux-x64/bin/orch";
        let project = "/app/lib/package.json";
        let lock = "/app/lib/node_modules/.package-lock.json";
        let by_npm = find(local, &[project, lock]);
        assert_eq!(by_npm.command.as_deref(), Some("npm install orch-run@latest"));
        assert!(by_npm.note.contains("the project in /app/lib;"), "{}", by_npm.note);
        assert_eq!(command(local, &[project]), None, "yarn writes no such lock file");

        let nested = "node_modules/orch-run/node_modules/@orch-run/linux-x64/bin/orch";
        let isolated = "node_modules/.pnpm/@orch-run+linux-x64@0.1.0/node_modules/@orch-run/linux-x64/bin/orch";
        assert_eq!(command(&format!("/app/{isolated}"), &["/app/package.json"]), None);
        let stored = isolated.trim_start_matches("node_modules/");
        let hoisted = "node_modules/@orch-run/linux-x64/bin/orch";
        let cases = [
            (format!("/usr/lib/{nested}"), "npm install --global orch-run@latest"),
            (format!("/Users/me/AppData/Roaming/npm/{nested}"), "npm install --global orch-run@latest"),
            (format!("/home/me/.local/share/pnpm/global/5/{stored}"), "pnpm add --global orch-run@latest"),
            (format!("/home/me/.config/yarn/global/{hoisted}"), "yarn global add orch-run@latest"),
            (format!("/Users/me/AppData/Local/Yarn/Data/global/{hoisted}"), "yarn global add orch-run@latest"),
            (format!("/home/me/.bun/install/global/{hoisted}"), "bun add --global orch-run@latest"),
        ];
        for (program, expected) in cases {
            assert_eq!(command(&program, &[]).as_deref(), Some(expected), "{program}");
        }
    }

    #[test]
    fn pre_releases_have_the_form_of_python() {
        assert_eq!(python_version("1.2.0-rc.1"), "1.2.0rc1");
        assert_eq!(python_version("1.2.0-alpha.3"), "1.2.0a3");
        assert_eq!(python_version("1.2.0"), "1.2.0");
    }
}
