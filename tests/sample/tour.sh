#!/bin/sh
# The main job on a sample: entries go in, one consolidation takes them, what came late stays.
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

show consolidate stage "$here/payloads.jsonl"
show consolidate status
show consolidate list
printf '\n(the consolidator stages one more entry while it runs)\n'
show consolidate run --pod tour -- sh "$here/consolidator.sh" "$CONSOLIDATION_ROOT/memory/notes.md"
show consolidate status
show sed -n 1,12p "$CONSOLIDATION_ROOT/memory/notes.md"
printf '\nThe sample was consolidated; the entry that came late waits for the next run.\n'
