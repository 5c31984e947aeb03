#!/bin/sh
# The main job on a sample: entries go in, a sandboxed plugin turns them into records of memory.
# Needs nothing but stable Rust. Works in a temporary folder and removes it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
echo 'Building. The first time this compiles wasmtime, which takes 4 to 10 minutes.'
cargo build --bin consolidate
binary=$(cargo build --quiet --bin consolidate --message-format json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
PATH=$(dirname "$binary"):$PATH
CONSOLIDATION_ROOT=$(mktemp -d)
export PATH CONSOLIDATION_ROOT
trap 'rm -rf "$CONSOLIDATION_ROOT"' EXIT

show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

show consolidate stage tests/sample/payloads.jsonl
show consolidate status
printf '\n(what a run would change, the first lines of it)\n'
show consolidate run --plugin plugins/digest.wasm --dry-run >"$CONSOLIDATION_ROOT/diff"
sed -n 1,18p "$CONSOLIDATION_ROOT/diff"
show consolidate run --plugin plugins/digest.wasm
show consolidate memory
record=$(consolidate memory | sed -n 's/ .*//; /^discussion/p' | head -n 1)
show cat "$CONSOLIDATION_ROOT/memory/$record.md"
printf '\n(the same once more: nothing new, no byte changes)\n'
consolidate stage tests/sample/payloads.jsonl >"$CONSOLIDATION_ROOT/ids"
show consolidate run --plugin plugins/digest.wasm
show consolidate log
