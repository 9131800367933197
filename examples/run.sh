#!/bin/sh
# Runs the default pipeline against a scripted model server: no key, no network, no model.
#
#   examples/run.sh                               builds orch with cargo
#   ORCH=target/release/orch examples/run.sh      uses this program
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
work=$(mktemp -d)
server=

stop_server() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
finish() {
    stop_server
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' HUP INT PIPE TERM

case ${ORCH:-} in
'') ;;
*/*) ORCH=$(cd "$(dirname "$ORCH")" && pwd)/$(basename "$ORCH") ;;
esac

# Runs orch in the current folder.
orch() {
    if [ -n "${ORCH:-}" ]; then
        "$ORCH" "$@"
    else
        cargo run --release --quiet --manifest-path "$repo/Cargo.toml" -- "$@"
    fi
}

# Starts the server with the given flags and points orch.yaml at it.
start_server() {
    stop_server
    rm -f "$work/port"
    mkfifo "$work/port"
    python3 "$here/scripted_server.py" "$@" >"$work/port" &
    server=$!
    if ! read -r port <"$work/port"; then
        echo "the scripted server did not start" >&2
        exit 1
    fi
    cat >orch.yaml <<SETTINGS
providers:
  scripted: { dialect: openai, base_url: "http://127.0.0.1:$port/v1" }
defaults: { model: scripted/demo }
SETTINGS
}

# Runs the default pipeline and says its exit code.
run() {
    code=0
    orch pipeline run pipelines/default.yaml --task "Create a User model with authentication" "$@" || code=$?
    echo "exit code $code"
}

mkdir "$work/project"
cd "$work/project"
exec 2>&1
[ -n "${ORCH:-}" ] || echo "building orch with cargo, unless it is built"
orch init >"$work/init.log" 2>&1 || {
    cat "$work/init.log"
    exit 1
}

echo "== 1. every step succeeds"
start_server
run

echo
echo "== 2. the coder fails: nothing after it runs"
start_server --fail-code
run --workspace stopped

echo
echo "== 3. the coder fails, with --continue-on-error: the reviewer still runs"
run --workspace continued --continue-on-error

echo
echo "== 4. the final review, from the JSON report"
start_server
orch pipeline run pipelines/default.yaml --task "Create a User model with authentication" \
    --workspace reported --quiet --output json >"$work/report.json"
python3 -c '
import json, sys
report = json.load(open(sys.argv[1], encoding="utf-8"))
review = report["result"]
print("approved:", review["approved"], "score:", review["score"])
print("summary: ", review["summary"])
for issue in review["issues"]:
    print("issue:   ", issue["severity"], issue["file"], issue["message"])
' "$work/report.json"
