//! Finds out whether a sandbox hides a program that is installed on this machine: its file, the file to which a link
//! leads, or the interpreter in its first line.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use orch_confine::confine::{Level, PRIVATE_FOLDERS, Policy, resolve_links};

use super::missing_files::{mentions_missing_file, private_folder_reason};
use super::{ProcessError, ProgramSpec};

/// The exit code of `sh`, `env` and similar programs if they did not find the program to start.
const COMMAND_NOT_FOUND: i32 = 127;
/// The maximum length of the first line of a script, as on Linux.
const MAX_FIRST_LINE: u64 = 256;
/// The characters around the name of a program in a message such as "env: 'node': No such file or directory".
const NAME_SEPARATORS: &[char] = &[':', ',', ';', '\'', '"', '`', '‘', '’', '(', ')'];

/// A program that is installed on this machine, and that its sandbox hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenProgram {
    /// The file that `PATH` finds, or the path of the command.
    file: PathBuf,
    /// The interpreter that the file needs, if the sandbox hides only the interpreter.
    interpreter: Option<PathBuf>,
    /// The hidden path: the file or the interpreter itself, a link on the way to it, or the file to which the links lead.
    hidden: PathBuf,
    folder: HidingFolder,
    /// The file or the interpreter without links.
    target: PathBuf,
    /// Whether only a link is hidden, so that the program could use the target.
    is_target_visible: bool,
}

/// A folder whose files a program does not see.
#[derive(Clone, Debug, PartialEq, Eq)]
enum HidingFolder {
    /// A folder in whose place the program has an empty one.
    Private {
        name: &'static str,
        /// The path without links.
        path: PathBuf,
    },
    /// A path that the program may not read.
    Denied(PathBuf),
}

impl fmt::Display for HiddenProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, interpreter, hidden, folder, target, .. } = self;
        match folder {
            HidingFolder::Private { name, .. } => write!(f, "the sandbox hides `{name}`"),
            HidingFolder::Denied(path) => write!(f, "the sandbox hides `{}`", path.display()),
        }?;
        write!(f, ", which contains `{}`", hidden.display())?;
        let named = interpreter.as_ref().unwrap_or(file);
        match (hidden == named, hidden == target) {
            (true, _) => {}
            (false, true) => write!(f, ", to which `{}` leads", named.display())?,
            (false, false) => write!(f, ", a link on the way to `{}`", named.display())?,
        }
        if interpreter.is_some() {
            write!(f, "; `{}` needs it as its interpreter", file.display())?;
        }
        Ok(())
    }
}

impl HiddenProgram {
    /// What the user can do. `allow` names the setting with which the sandbox lets programs change a path.
    pub fn hint(&self, allow: impl Fn(&str) -> String) -> String {
        let what = if self.interpreter.is_some() { "the interpreter" } else { "the program" };
        let (name, path) = match &self.folder {
            HidingFolder::Private { name, path } => (*name, path),
            HidingFolder::Denied(path) => {
                let path = path.display();
                return format!(
                    "install {what} outside of `{path}`, or remove this path from `deny_read`; if orch denies it by \
                     default, list it under `write` of the sandbox"
                );
            }
        };
        let reason = private_folder_reason(name);
        if self.is_target_visible {
            let target = self.target.display();
            return format!(
                "{reason}: the sandbox shows the file `{target}`, so add its folder to `PATH`, or link to it from a \
                 folder of `PATH` outside of `{name}`"
            );
        }
        let allowed = allow(&self.installation_in(path).display().to_string());
        format!("{reason}: install {what} outside of `{name}`, or {allowed}, which also lets programs change this path")
    }

    /// What the user can do if this is not a program but a file that a program needs. `allow` names the setting with which
    /// the sandbox lets programs change a path.
    pub fn file_hint(&self, allow: impl Fn(&str) -> String) -> String {
        match &self.folder {
            HidingFolder::Private { name, path } => {
                let allowed = allow(&self.installation_in(path).display().to_string());
                let reason = private_folder_reason(name);
                format!(
                    "{reason}: move the file into the project, or {allowed}, which also lets programs change this path"
                )
            }
            HidingFolder::Denied(path) => format!(
                "move the file into the project, or remove `{}` from `deny_read`; if orch denies it by default, list it \
                 under `write` of the sandbox",
                path.display()
            ),
        }
    }

    /// The topmost path below a private folder that contains the target.
    fn installation_in(&self, folder: &Path) -> PathBuf {
        let Ok(below) = self.target.strip_prefix(folder) else { return self.target.clone() };
        // `/run/user/UID` contains the sockets of the user's session.
        let depth = if self.target.starts_with("/run/user") { 3 } else { 1 };
        folder.join(below.components().take(depth).collect::<PathBuf>())
    }
}

impl ProgramSpec {
    /// The error of this program if its sandbox hides it or its interpreter.
    pub(super) fn hidden_error(&self) -> Option<ProcessError> {
        let hidden = self.view()?.find_hidden_program(self.program(), Path::is_file)?;
        Some(ProcessError::Hidden { program: self.program().to_owned(), hidden: Box::new(hidden) })
    }

    /// The error of this program if it exited because its sandbox hides the program that it starts, such as the
    /// interpreter after `#!/usr/bin/env`.
    pub fn hidden_error_of_exit(&self, code: Option<i32>) -> Option<ProcessError> {
        if code == Some(COMMAND_NOT_FOUND) { self.hidden_error() } else { None }
    }

    /// The program that a message about a missing file names, if the sandbox hides this program. `output` is the end of
    /// the output of this program, which failed.
    pub fn hidden_program_in(&self, output: &str) -> Option<HiddenProgram> {
        let view = self.view()?;
        let lines = output.lines().filter(|line| mentions_missing_file(line));
        let mut words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || NAME_SEPARATORS.contains(&c)));
        words.find_map(|word| view.find_hidden_program(word, is_executable))
    }

    /// The first file or folder that an argument of this program names and that its sandbox hides.
    pub fn hidden_argument(&self) -> Option<HiddenProgram> {
        let view = self.view()?;
        let paths = self.argv.iter().skip(1).map(|argument| match argument.split_once('=') {
            Some((option, value)) if option.starts_with('-') => value,
            Some(_) | None => argument.as_str(),
        });
        let files = paths.filter(|path| path.contains('/')).map(|path| view.cwd.join(path));
        files.filter(|file| file.exists()).find_map(|file| view.hidden_program(&file, None))
    }

    fn view(&self) -> Option<SandboxView<'_>> {
        let sandbox = self.sandbox.as_ref()?;
        let search_path = self.env.iter().rev().find(|(name, _)| name == "PATH");
        let search_path = search_path.map_or("", |(_, value)| value.as_str());
        Some(SandboxView::new(&sandbox.policy, sandbox.machine.probe.level(), &self.cwd, search_path))
    }
}

/// The files that a program in a sandbox sees.
pub(super) struct SandboxView<'a> {
    cwd: &'a Path,
    search_path: &'a str,
    /// Whether mounts hide files. Without them, the kernel checks only the file to which the links of a path lead.
    has_mounts: bool,
    /// The private folders, each with its path without links.
    private: Vec<(&'static str, PathBuf)>,
    /// The paths that the program may not read.
    denied: Vec<PathBuf>,
    /// The paths that the program may read although they are below these folders.
    visible: Vec<PathBuf>,
}

impl<'a> SandboxView<'a> {
    pub(super) fn new(policy: &Policy, level: Level, cwd: &'a Path, search_path: &'a str) -> Self {
        let resolve = |path: &PathBuf| fs::canonicalize(path).ok();
        let has_mounts = level == Level::Full && cfg!(target_os = "linux");
        let private_names: &[&'static str] = if has_mounts { PRIVATE_FOLDERS } else { &[] };
        let private: Vec<(&'static str, PathBuf)> =
            private_names.iter().filter_map(|name| Some((*name, fs::canonicalize(name).ok()?))).collect();
        let mut visible: Vec<PathBuf> = policy.write.iter().chain(&policy.tmp).filter_map(resolve).collect();
        let search_folders = std::env::split_paths(search_path).map(|folder| cwd.join(folder));
        let readable = policy.read.iter().cloned().chain(search_folders).chain([cwd.to_owned()]);
        let readable = readable.filter_map(|path| resolve(&path));
        visible.extend(readable.filter(|path| private.iter().all(|(_, private)| path != private)));
        let denied_paths: &[PathBuf] = if level == Level::None { &[] } else { &policy.deny_read };
        let denied = denied_paths.iter().filter_map(resolve).collect();
        Self { cwd, search_path, has_mounts, private, denied, visible }
    }

    /// Returns the program that a word at the beginning of a command line names, if the sandbox hides it. `is_program`
    /// decides whether the file at a path counts; in the folders of `PATH`, only executable files count.
    pub(super) fn find_hidden_program(&self, word: &str, is_program: impl Fn(&Path) -> bool) -> Option<HiddenProgram> {
        if word.is_empty() {
            return None;
        }
        if word.contains('/') {
            let file = self.cwd.join(word);
            return if is_program(&file) { self.hidden_part(&file) } else { None };
        }
        let mut files = self.find_in_search_path(word);
        let first = self.hidden_part(&files.next()?)?;
        // The system starts the first program that the sandbox does not hide.
        files.all(|file| self.hidden_part(&file).is_some()).then_some(first)
    }

    /// The executable files with this name in the folders of `PATH`.
    fn find_in_search_path(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        let files = std::env::split_paths(self.search_path).map(move |folder| self.cwd.join(folder).join(name));
        files.filter(|file| is_executable(file))
    }

    /// What the sandbox hides of a program: the program itself, or its interpreter.
    fn hidden_part(&self, file: &Path) -> Option<HiddenProgram> {
        if let Some(hidden) = self.hidden_program(file, None) {
            return Some(hidden);
        }
        let line = first_line_of_script(file)?;
        let mut words = line.split_whitespace();
        let interpreter = PathBuf::from(words.next()?);
        if !interpreter.is_file() {
            return None;
        }
        if interpreter.file_name().is_none_or(|name| name != "env") {
            return self.hidden_program(file, Some(interpreter));
        }
        // `env` has options and variables before the name of the interpreter.
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        let mut interpreters = self.find_in_search_path(name);
        interpreters.next().and_then(|interpreter| self.hidden_program(file, Some(interpreter)))
    }

    /// Follows the links of a program, or of its interpreter if there is one, until the sandbox hides a path.
    fn hidden_program(&self, file: &Path, interpreter: Option<PathBuf>) -> Option<HiddenProgram> {
        let resolved = resolve_links(interpreter.as_deref().unwrap_or(file));
        let links: &[PathBuf] = if self.has_mounts { &resolved.links } else { &[] };
        let mut paths = links.iter().chain(std::iter::once(&resolved.target));
        let (hidden, folder) = paths.find_map(|path| self.hiding_folder(path).map(|folder| (path.clone(), folder)))?;
        let is_target_visible = self.hiding_folder(&resolved.target).is_none();
        Some(HiddenProgram {
            file: file.to_owned(),
            interpreter,
            hidden,
            folder,
            target: resolved.target,
            is_target_visible,
        })
    }

    /// The folder whose files the program does not see and that contains this path, in which no folder is a link.
    fn hiding_folder(&self, path: &Path) -> Option<HidingFolder> {
        let is_visible = self.visible.iter().any(|visible| path.starts_with(visible));
        // A mount hides a denied path also below a visible folder.
        let denied = self.denied.iter().find(|denied| path.starts_with(denied) && (self.has_mounts || !is_visible));
        if let Some(denied) = denied {
            return Some(HidingFolder::Denied(denied.clone()));
        }
        let mut private = self.private.iter().filter(|(_, folder)| path.starts_with(folder) && path != folder);
        let (name, folder) = private.next().filter(|_| !is_visible)?;
        Some(HidingFolder::Private { name, path: folder.clone() })
    }
}

/// Whether a path leads to a file that the system can start.
pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The first line of a script after `#!`; `None` if the file is no script.
fn first_line_of_script(file: &Path) -> Option<String> {
    let mut start = Vec::new();
    File::open(file).ok()?.take(MAX_FIRST_LINE).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A folder below `/tmp`, which is hidden, with the visible workspace `workspace` in it.
    fn hidden_folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["workspace/bin", "npm/bin", "npm/lib", "denied"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        (folder, root)
    }

    fn write_program(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The hidden program that a word names in `workspace`, with `PATH` set to a folder there, in a sandbox at this level.
    fn find(root: &Path, word: &str, level: Level) -> Option<HiddenProgram> {
        let policy = Policy { deny_read: vec![root.join("denied")], ..Policy::default() };
        let (cwd, search_path) = (root.join("workspace"), format!("{}/workspace/bin:/usr/bin:/bin", root.display()));
        SandboxView::new(&policy, level, &cwd, &search_path).find_hidden_program(word, Path::is_file)
    }

    #[test]
    fn a_hidden_program_is_found_through_links_and_interpreters() {
        let (_folder, root) = hidden_folder();
        let (bin, at) = (root.join("workspace/bin"), |name: &str| root.join(name).display().to_string());
        write_program(&root.join("npm/lib/cli"), "#!/bin/sh\n");
        write_program(&root.join("denied/tool"), "#!/bin/sh\n");
        symlink("../../npm/lib/cli", bin.join("linked")).unwrap();
        symlink(root.join("denied/tool"), bin.join("secret")).unwrap();
        write_program(&bin.join("starter"), &format!("#!{}\n", at("npm/lib/cli")));
        write_program(&bin.join("indirect"), "#!/usr/bin/env -S linked x\n");
        write_program(&bin.join("visible"), "#!/bin/sh\n");
        let cli = at("npm/lib/cli");
        for (word, expected) in [
            ("linked", format!("`/tmp`, which contains `{cli}`, to which `{}` leads", at("workspace/bin/linked"))),
            (
                "../npm/lib/cli",
                format!("`/tmp`, which contains `{cli}`, to which `{}` leads", at("workspace/../npm/lib/cli")),
            ),
            ("starter", format!("`/tmp`, which contains `{cli}`; `{}` needs it", at("workspace/bin/starter"))),
            ("indirect", format!("leads; `{}` needs it as its interpreter", at("workspace/bin/indirect"))),
            ("secret", format!("`{}`, which contains `{}`", at("denied"), at("denied/tool"))),
        ] {
            let hidden = find(&root, word, Level::Full).unwrap_or_else(|| panic!("{word} is not hidden"));
            let text = hidden.to_string();
            assert!(text.starts_with("the sandbox hides `") && text.contains(&expected), "{word}: {text}");
        }
        for word in ["visible", "sh", "missing", "bin/visible", ""] {
            assert_eq!(find(&root, word, Level::Full), None, "{word}");
        }
        assert_eq!(find(&root, "linked", Level::Basic), None, "the level `basic` hides no private folder");
        assert!(find(&root, "secret", Level::Basic).is_some());
        assert_eq!(find(&root, "secret", Level::None), None);
    }

    #[test]
    fn the_hint_names_the_installation_or_the_visible_target() {
        let (_folder, root) = hidden_folder();
        write_program(&root.join("npm/lib/cli"), "#!/bin/sh\n");
        symlink(root.join("npm/lib/cli"), root.join("workspace/bin/linked")).unwrap();
        symlink("/bin/sh", root.join("npm/bin/shell")).unwrap();
        symlink(root.join("npm/bin/shell"), root.join("workspace/bin/shell")).unwrap();
        let hint = |word: &str| find(&root, word, Level::Full).unwrap().hint(|path| format!("allow `{path}`"));
        let installed = hint("linked");
        assert!(installed.contains(&format!("or allow `{}`, which", root.display())), "{installed}");
        let target = fs::canonicalize("/bin/sh").unwrap();
        let linked = hint("shell");
        assert!(linked.contains(&format!("shows the file `{}`, so add its folder", target.display())), "{linked}");
    }
}
