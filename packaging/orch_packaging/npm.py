"""The npm packages: one with the program for each platform, and `orch-run`, which starts the right one."""

import json

from . import project
from .archive import Entry, write_tar

LAUNCHER = project.ROOT / "packaging" / "npm" / "orch.js"


def write_platform_package(out, platform, needs, contents):
    """Writes the package that contains the program, and returns its path."""
    manifest = base_manifest(platform.npm_package, f"The program of {project.PACKAGE} for {platform.triple}.")
    manifest["os"], manifest["cpu"] = [platform.npm_os], [platform.npm_cpu]
    if needs is not None and not needs.is_static():
        manifest["libc"] = ["glibc"]
    # Yarn must unpack it, since a program can't run from a ZIP file.
    manifest["preferUnplugged"] = True
    readme = f"# {platform.npm_package}\n\n{manifest['description']} Install `{project.PACKAGE}` instead.\n"
    entries = package_entries(manifest, readme.encode())
    entries.append(Entry(f"package/bin/{platform.program}", contents.program, is_program=True))
    return write_package(out, platform.npm_package, entries)


def write_launcher_package(out, platforms):
    """Writes `orch-run` for the platforms whose packages exist, and returns its path."""
    manifest = base_manifest(project.PACKAGE, project.description())
    manifest["keywords"] = ["agents", "llm", "pipeline", "workflow", "durable"]
    manifest["bin"] = {"orch": "bin/orch.js"}
    manifest["engines"] = {"node": ">=18"}
    manifest["optionalDependencies"] = {platform.npm_package: project.version() for platform in platforms}
    entries = package_entries(manifest, (project.ROOT / "README.md").read_bytes())
    entries.append(Entry("package/bin/orch.js", LAUNCHER.read_bytes(), is_program=True))
    return write_package(out, project.PACKAGE, entries)


def base_manifest(name, description):
    manifest = {
        "name": name,
        "version": project.version(),
        "description": description,
        "license": "MIT OR Apache-2.0",
        "publishConfig": {"access": "public"},
    }
    if project.repository():
        manifest["repository"] = {"type": "git", "url": f"git+{project.repository()}.git"}
    return manifest


def package_entries(manifest, readme):
    texts = {"package.json": (json.dumps(manifest, indent=2) + "\n").encode(), "README.md": readme}
    texts.update({name: (project.ROOT / name).read_bytes() for name in project.LICENSES})
    return [Entry(f"package/{name}", data) for name, data in texts.items()]


def package_path(out, name):
    """The name that `npm pack` gives to an archive."""
    return out / f"{name.lstrip('@').replace('/', '-')}-{project.version()}.tgz"


def write_package(out, name, entries):
    path = package_path(out, name)
    write_tar(path, entries)
    return path
