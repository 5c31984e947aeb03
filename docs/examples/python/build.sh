#!/usr/bin/env bash
# Tests the example's rules and builds it as a plugin. Needs Python 3.10 or newer with venv and, the first
# time, the network: componentize-py comes from the Python package index.
#
#   docs/examples/python/build.sh OUT    writes OUT/lessons.wasm; OUT/venv keeps the tool
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
export PYTHONDONTWRITEBYTECODE=1

python3 -m unittest

version=0.25.1
tool=$out/venv/bin/componentize-py
# A venv that was left half made is made anew.
if ! "$tool" --version 2>/dev/null | grep -qF "$version"; then
  rm -rf "$out/venv"
  python3 -m venv "$out/venv"
  "$out/venv/bin/python" -m pip install --quiet --disable-pip-version-check "componentize-py==$version"
fi

# From a copy, since the tool leaves its own files beside the sources.
mkdir -p "$out/app"
cp app.py lessons.py "$out/app/"

# --stub-wasi: Python's own imports (files, clocks, sockets) are answered inside, so that the plugin asks the
# host for nothing but memory and log. It can't have a clock or randomness then, not even if granted.
"$tool" --quiet --wit-path ../../../wit/plugin --world plugin \
  componentize --stub-wasi --python-path "$out/app" --output "$out/.lessons.wasm.new" app
mv "$out/.lessons.wasm.new" "$out/lessons.wasm"
echo "wrote $out/lessons.wasm ($(wc -c <"$out/lessons.wasm" | tr -d ' ') bytes)" >&2
