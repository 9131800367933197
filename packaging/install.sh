#!/bin/sh
# Installs orch from the archives of a release, and checks the digest of the archive:
#   sh install.sh [--version VERSION] [--prefix DIR] [--from URL] [--sha256 DIGEST]
# The program goes to DIR/bin, man pages and completions to DIR/share; DIR is ~/.local by default. The digest is by default
# that of the release. The exit code is 3 if the digest differs, and 1 for every other error.
set -eu

version="@VERSION@"
from="https://github.com/@REPOSITORY@/releases/download"
prefix=""
expected=""

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

need_value() {
  [ "$2" -ge 2 ] || fail "$1 needs a value; see the comment at the start of this script"
}

while [ $# -gt 0 ]; do
  case "$1" in
  --version) need_value "$1" $#; version=${2#v}; shift 2 ;;
  --prefix) need_value "$1" $#; prefix=$2; shift 2 ;;
  --from) need_value "$1" $#; from=$2; shift 2 ;;
  --sha256) need_value "$1" $#; expected=$2; shift 2 ;;
  *) fail "there is no option \`$1\`; the options are --version, --prefix, --from and --sha256" ;;
  esac
done

if [ -z "$prefix" ]; then
  [ -n "${HOME:-}" ] || fail "the variable HOME is not set; name a folder with --prefix"
  prefix="$HOME/.local"
fi

case "$version$from" in
*@*@*) fail "this script is not from a release; name a version with --version and the address of releases with --from" ;;
esac

case "$(uname -s)" in
Linux) system=unknown-linux-gnu ;;
Darwin) system=apple-darwin ;;
*) fail "there is no archive for $(uname -s) that this script can install; docs/install.md lists other ways" ;;
esac
case "$(uname -m)" in
x86_64 | amd64) processor=x86_64 ;;
aarch64 | arm64) processor=aarch64 ;;
*) fail "there is no archive for the processor $(uname -m); docs/install.md says how to build orch" ;;
esac

name="orch-$version-$processor-$system"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() {
  if command -v curl >/dev/null 2>&1; then
    curl --fail --silent --show-error --location --output "$2" "$1" || fail "$1 can't be downloaded"
  elif command -v wget >/dev/null 2>&1; then
    wget --quiet --output-document="$2" "$1" || fail "$1 can't be downloaded"
  else
    fail "neither curl nor wget is installed; install one of them"
  fi
}

digest() {
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1" | cut -d ' ' -f 1
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$1" | cut -d ' ' -f 1
  else
    fail "neither sha256sum nor shasum is installed; install one of them"
  fi
}

fetch "$from/v$version/$name.tar.gz" "$work/$name.tar.gz"
if [ -z "$expected" ]; then
  fetch "$from/v$version/SHA256SUMS" "$work/SHA256SUMS"
  expected=$(sed -n "s/^\([0-9a-f]*\)  $name\.tar\.gz\$/\1/p" "$work/SHA256SUMS")
  [ -n "$expected" ] || fail "$from/v$version/SHA256SUMS does not list $name.tar.gz"
fi
expected=$(echo "$expected" | tr A-F a-f)
found=$(digest "$work/$name.tar.gz")
if [ "$found" != "$expected" ]; then
  echo "install.sh: $name.tar.gz has the digest $found instead of $expected; nothing was installed" >&2
  exit 3
fi

tar -xzf "$work/$name.tar.gz" -C "$work"
mkdir -p "$prefix/bin" "$prefix/share/man/man1" "$prefix/share/bash-completion/completions" \
  "$prefix/share/zsh/site-functions" "$prefix/share/fish/vendor_completions.d"
cp "$work/$name"/man/*.1 "$prefix/share/man/man1/"
cp "$work/$name/completions/orch.bash" "$prefix/share/bash-completion/completions/orch"
cp "$work/$name/completions/_orch" "$prefix/share/zsh/site-functions/_orch"
cp "$work/$name/completions/orch.fish" "$prefix/share/fish/vendor_completions.d/orch.fish"
# A program that runs can't be overwritten, but another file can take its name.
cp "$work/$name/orch" "$prefix/bin/.orch.new"
chmod 755 "$prefix/bin/.orch.new"
mv -f "$prefix/bin/.orch.new" "$prefix/bin/orch"
echo "installed orch $version as $prefix/bin/orch"
case ":$PATH:" in
*":$prefix/bin:"*) ;;
*) echo "note: $prefix/bin is not on the PATH" ;;
esac
